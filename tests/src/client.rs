//! A client that uses a stack's module through the `cryptoki` crate.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Function, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::object::{Attribute, AttributeType, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;

use crate::{Stack, USER_PIN};

/// Loads and initialises a module; its configuration is passed as `pReserved`.
///
/// # Panics
/// When the module does not load or initialise.
#[expect(unsafe_code, reason = "cryptoki takes pReserved as a raw pointer")]
pub fn load(module: &Path, config: &Path) -> Pkcs11 {
    let pkcs11 = Pkcs11::new(module).expect("the module loads");
    let reserved = [b"config=", config.as_os_str().as_bytes()].concat();
    let reserved = CString::new(reserved).expect("a path has no null");
    let pointer = NonNull::new(reserved.as_ptr().cast_mut().cast()).expect("a string has an address");
    // SAFETY: the module reads a string there, during `C_Initialize` only; `reserved` lives until this function ends.
    let arguments = unsafe { CInitializeArgs::new_with_reserved(CInitializeFlags::OS_LOCKING_OK, pointer) };
    pkcs11.initialize(arguments).expect("the module initialises");
    pkcs11
}

/// A stack's module with an open session.
#[derive(Debug)]
pub struct Client {
    /// A read-write session.
    pub session: Session,
    /// The ring's slot.
    pub slot: Slot,
    /// The module.
    pub pkcs11: Pkcs11,
}

impl Client {
    /// Opens a stack's module without a login.
    ///
    /// # Panics
    /// When that fails.
    pub fn public(stack: &Stack) -> Self {
        let pkcs11 = load(&stack.module(), &stack.config());
        let slot = slot(&pkcs11, stack.ring());
        let session = pkcs11.open_rw_session(slot).expect("a session opens");
        Self { session, slot, pkcs11 }
    }

    /// Opens a stack's module and logs in as the ring's user.
    ///
    /// # Panics
    /// When that fails.
    pub fn user(stack: &Stack) -> Self {
        let client = Self::public(stack);
        client.session.login(UserType::User, Some(&pin(USER_PIN))).expect("the user logs in");
        client
    }

    /// The value of an attribute that is a byte string.
    ///
    /// # Panics
    /// When the object does not have it.
    #[track_caller]
    pub fn bytes(&self, object: ObjectHandle, kind: AttributeType) -> Vec<u8> {
        let found = self.session.get_attributes(object, &[kind]).expect("attributes can be read");
        let value = found.into_iter().next().unwrap_or_else(|| panic!("the object has no {kind}"));
        bytes_of(&value)
    }

    /// The public key of an object, as `SubjectPublicKeyInfo` in DER.
    ///
    /// # Panics
    /// When the object does not have it.
    #[track_caller]
    pub fn public_key_info(&self, object: ObjectHandle) -> Vec<u8> {
        self.bytes(object, AttributeType::PublicKeyInfo)
    }
}

/// The slot whose token has this label.
///
/// # Panics
/// When there is none.
pub fn slot(pkcs11: &Pkcs11, label: &str) -> Slot {
    let slots = pkcs11.get_slots_with_token().expect("slots can be listed");
    let named = |slot: &&Slot| pkcs11.get_token_info(**slot).is_ok_and(|token| token.label() == label);
    *slots.iter().find(named).unwrap_or_else(|| panic!("no token {label:?} in {slots:?}"))
}

/// Converts a PIN to cryptoki's type.
pub fn pin(text: &str) -> AuthPin {
    AuthPin::new(text.to_owned().into())
}

/// The bytes of an attribute whose value is a byte string.
///
/// # Panics
/// When the attribute is of another type, or of one that the tests do not use.
#[expect(clippy::wildcard_enum_match_arm, reason = "not our enum")]
pub fn bytes_of(attribute: &Attribute) -> Vec<u8> {
    match attribute {
        Attribute::Value(bytes)
        | Attribute::Id(bytes)
        | Attribute::Label(bytes)
        | Attribute::UniqueId(bytes)
        | Attribute::PublicKeyInfo(bytes)
        | Attribute::Modulus(bytes)
        | Attribute::PublicExponent(bytes)
        | Attribute::CheckValue(bytes)
        | Attribute::Subject(bytes)
        | Attribute::EcPoint(bytes)
        | Attribute::EcParams(bytes) => bytes.clone(),
        other => panic!("{other:?} is not bytes"),
    }
}

/// Asserts that a call failed with this code.
///
/// # Panics
/// When it succeeded, or failed with another code.
#[track_caller]
pub fn refused<T: std::fmt::Debug>(result: Result<T, Error>, expected: RvError) {
    match result {
        Err(Error::Pkcs11(found, _)) if same(found, expected) => {}
        other => panic!("expected {expected:?}, got {other:?}"),
    }
}

/// The return code of a call that must fail, and the function that returned it.
///
/// # Panics
/// When the call succeeded, or failed before it reached the module.
#[track_caller]
pub fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> (RvError, Function) {
    match result {
        Err(Error::Pkcs11(found, function)) => (found, function),
        other => panic!("expected an error, got {other:?}"),
    }
}

fn same(one: RvError, other: RvError) -> bool {
    std::mem::discriminant(&one) == std::mem::discriminant(&other)
}
