//! "General-purpose functions".

use cryptoki::context::{CInitializeArgs, CInitializeFlags};
use cryptoki::error::RvError;
use kms_tests::Stack;
use kms_tests::client::{self, refused};

#[test]
fn the_library_says_what_it_is() {
    let stack = Stack::strict();
    let pkcs11 = client::load(&stack.module(), &stack.config());
    let info = pkcs11.get_library_info().expect("there is information");
    assert_eq!(info.cryptoki_version().major(), 3);
    assert!(info.manufacturer_id().starts_with("KMS"), "{info:?}");
    assert!(!info.library_description().is_empty(), "{info:?}");
}

#[test]
fn initialised_once_at_a_time() {
    let stack = Stack::strict();
    let pkcs11 = client::load(&stack.module(), &stack.config());
    let again = || pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
    refused(again(), RvError::CryptokiAlreadyInitialized);
    pkcs11.clone().finalize().expect("the module finalises");
    refused(pkcs11.get_library_info(), RvError::CryptokiNotInitialized);
    refused(pkcs11.clone().finalize(), RvError::CryptokiNotInitialized);
    again().expect("and initialises once more");
    pkcs11.get_library_info().expect("there is information");
}
