//! "General-purpose functions".

use cryptoki::context::{CInitializeArgs, CInitializeFlags};
use cryptoki::error::RvError;
use kms_tests::Stack;
use kms_tests::client::{self, refused};

#[test]
fn library_info_names_version_and_manufacturer() {
    let stack = Stack::strict();
    let pkcs11 = client::load(&stack.module(), &stack.config());
    let info = pkcs11.get_library_info().expect("library info is returned");
    assert_eq!(info.cryptoki_version().major(), 3);
    assert!(info.manufacturer_id().starts_with("KMS"), "{info:?}");
    assert!(!info.library_description().is_empty(), "{info:?}");
}

#[test]
fn the_module_is_initialised_once_until_it_is_finalised() {
    let stack = Stack::strict();
    let pkcs11 = client::load(&stack.module(), &stack.config());
    let again = || pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
    refused(again(), RvError::CryptokiAlreadyInitialized);
    pkcs11.clone().finalize().expect("the module finalises");
    refused(pkcs11.get_library_info(), RvError::CryptokiNotInitialized);
    refused(pkcs11.clone().finalize(), RvError::CryptokiNotInitialized);
    again().expect("the module initialises again");
    pkcs11.get_library_info().expect("library info is returned");
}
