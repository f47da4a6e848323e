//! Reads slices, templates and arguments: the only code that reads C memory.

use std::ffi::c_void;
use std::{ptr, slice};

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_BYTE, CK_C_INITIALIZE_ARGS, CK_FLAGS, CK_OBJECT_HANDLE, CK_SESSION_HANDLE, CK_SLOT_ID,
    CK_ULONG, CK_USER_TYPE, CK_UTF8CHAR, CKF_ASYNC_SESSION, CKF_DECRYPT, CKF_DIGEST, CKF_ENCRYPT,
    CKF_FIND_OBJECTS, CKF_MESSAGE_DECRYPT, CKF_MESSAGE_ENCRYPT, CKF_OS_LOCKING_OK, CKF_RW_SESSION,
    CKF_SERIAL_SESSION, CKF_SIGN, CKF_VERIFY, CKU_CONTEXT_SPECIFIC, CKU_SO, CKU_USER,
};
use kms_protocol::{
    ALLOWED_MECHANISMS_MAX, Attribute, AttributeType, MechanismType, Mechanisms, NESTED_ATTRIBUTES_MAX,
    Nested, Role, Rv, Secret, Shape, SlotId, TEMPLATE_ATTRIBUTES_MAX, Template, Value,
};

use super::environment;
use crate::calls::general::InitializeArguments;
use crate::calls::session::CancelFlags;
use crate::session::{Access, ObjectHandle, SessionHandle};

/// The longest input of one call: beyond a terabyte it is a wrong length, not data.
const INPUT_BYTES_MAX: usize = 1 << 40;

/// The longest value of one attribute: a longer one does not fit in a frame.
const ATTRIBUTE_BYTES_MAX: usize = 1 << 20;

/// The length of a token's label.
const LABEL_BYTES: CK_ULONG = 32;

/// The width of a `CK_ULONG` in this process.
pub(crate) const ULONG_BYTES: usize = size_of::<CK_ULONG>();

/// The bytes that the caller points at; null only with length zero.
///
/// # Safety
/// For a non-zero `length`, `data` must be readable for `length` bytes for as long as the slice is used.
pub(crate) unsafe fn bytes<'a>(data: *const CK_BYTE, length: CK_ULONG) -> Result<&'a [u8], Rv> {
    let length =
        usize::try_from(length).ok().filter(|length| *length <= INPUT_BYTES_MAX).ok_or(Rv::ARGUMENTS_BAD)?;
    if length == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return Err(Rv::ARGUMENTS_BAD);
    }
    #[expect(clippy::disallowed_methods, reason = "this is the function to use instead")]
    // SAFETY: not null, of byte alignment, and shorter than `isize::MAX`; that it is readable is the caller's promise.
    Ok(unsafe { slice::from_raw_parts(data, length) })
}

/// A PIN. A null pointer, of any length, means a PIN pad at the token (spec, "C_Login"), and there is none.
///
/// # Safety
/// As for [`bytes`].
pub(crate) unsafe fn pin<'a>(pin: *const CK_UTF8CHAR, length: CK_ULONG) -> Result<&'a [u8], Rv> {
    if pin.is_null() {
        return Err(Rv::ARGUMENTS_BAD);
    }
    // SAFETY: the caller's promise is passed on.
    unsafe { bytes(pin, length) }
}

/// A copy of the value that the caller points at, aligned or not; none for null.
///
/// # Safety
/// A pointer that is not null must be readable, and every bit pattern a value of `T`.
pub(crate) unsafe fn value<T>(pointer: *const T) -> Option<T> {
    // SAFETY: not null; readable is the caller's promise.
    (!pointer.is_null()).then(|| unsafe { ptr::read_unaligned(pointer) })
}

/// The arguments of `C_Initialize`.
///
/// # Safety
/// A pointer that is not null must point at a `CK_C_INITIALIZE_ARGS`.
pub(crate) unsafe fn arguments(pointer: *const c_void) -> InitializeArguments {
    // SAFETY: the caller's promise is passed on; the structure holds flags, a pointer, and nullable function pointers.
    let Some(arguments) = (unsafe { value(pointer.cast::<CK_C_INITIALIZE_ARGS>()) }) else {
        return InitializeArguments::default();
    };
    let functions = [
        arguments.CreateMutex.is_some(),
        arguments.DestroyMutex.is_some(),
        arguments.LockMutex.is_some(),
        arguments.UnlockMutex.is_some(),
    ];
    // SAFETY: the function checks whether it points at readable memory.
    let reserved = unsafe { environment::foreign_text(arguments.pReserved.cast()) };
    InitializeArguments {
        lock_functions: functions.map(u8::from).iter().sum(),
        os_locks: arguments.flags & CKF_OS_LOCKING_OK != 0,
        reserved,
    }
}

/// A template with its values parsed.
///
/// # Safety
/// For a non-zero `count`, `template` must point at `count` attributes whose values are readable.
pub(crate) unsafe fn template(template: *const CK_ATTRIBUTE, count: CK_ULONG) -> Result<Template, Rv> {
    // SAFETY: the caller's promise is passed on.
    unsafe { attributes(template, count, Nesting::Outer) }.map(Template)
}

/// Whether a template is nested in another. Deeper nesting is rejected: hosts have small stacks, and the specification
/// has no use for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Nesting {
    Outer,
    Nested,
}

/// # Safety
/// As for [`template`].
unsafe fn attributes(
    template: *const CK_ATTRIBUTE,
    count: CK_ULONG,
    nesting: Nesting,
) -> Result<Vec<Attribute>, Rv> {
    let count = attribute_count(template, count)?;
    let mut attributes = Vec::with_capacity(count);
    for index in 0..count {
        // SAFETY: below `count`.
        let pointer = unsafe { template.add(index) };
        // SAFETY: not null, and readable by the caller's promise.
        let attribute = unsafe { ptr::read_unaligned(pointer) };
        let kind = kind_of(&attribute).ok_or(Rv::ATTRIBUTE_TYPE_INVALID)?;
        // SAFETY: the caller's promise is passed on.
        let value = unsafe { attribute_value(kind, &attribute, nesting) }?;
        attributes.push(Attribute { kind, value });
    }
    Ok(attributes)
}

/// The attribute types of a template; none for a number beyond 32 bits, which no supported type has.
///
/// # Safety
/// For a non-zero `count`, `template` must point at `count` attributes.
pub(crate) unsafe fn kinds(
    template: *const CK_ATTRIBUTE,
    count: CK_ULONG,
) -> Result<Vec<Option<AttributeType>>, Rv> {
    let count = attribute_count(template, count)?;
    let kind = |index| {
        // SAFETY: below `count`.
        let pointer = unsafe { template.add(index) };
        // SAFETY: not null, and readable by the caller's promise.
        kind_of(&unsafe { ptr::read_unaligned(pointer) })
    };
    Ok((0..count).map(kind).collect())
}

fn attribute_count(template: *const CK_ATTRIBUTE, count: CK_ULONG) -> Result<usize, Rv> {
    let count = usize::try_from(count).ok().filter(|count| *count <= TEMPLATE_ATTRIBUTES_MAX);
    let count = count.ok_or(Rv::ARGUMENTS_BAD)?;
    if count > 0 && template.is_null() { Err(Rv::ARGUMENTS_BAD) } else { Ok(count) }
}

fn kind_of(attribute: &CK_ATTRIBUTE) -> Option<AttributeType> {
    u32::try_from(attribute.type_).ok().map(AttributeType)
}

/// Parses one value according to its attribute type.
///
/// # Safety
/// The attribute's value must be readable for its length.
unsafe fn attribute_value(
    kind: AttributeType,
    attribute: &CK_ATTRIBUTE,
    nesting: Nesting,
) -> Result<Value, Rv> {
    let in_range = usize::try_from(attribute.ulValueLen).is_ok_and(|length| length <= ATTRIBUTE_BYTES_MAX);
    if !in_range {
        return Err(Rv::ATTRIBUTE_VALUE_INVALID);
    }
    // SAFETY: the caller's promise is passed on.
    let bytes = unsafe { bytes(attribute.pValue.cast(), attribute.ulValueLen) };
    let bytes = bytes.map_err(|_| Rv::ATTRIBUTE_VALUE_INVALID)?;
    match kind.shape() {
        Shape::Bool => match bytes {
            [byte] => Ok(Value::Bool(*byte != 0)),
            _ => Err(Rv::ATTRIBUTE_VALUE_INVALID),
        },
        Shape::Ulong => Ok(Value::Ulong(to_u64(ulong(bytes).ok_or(Rv::ATTRIBUTE_VALUE_INVALID)?))),
        Shape::Bytes => Ok(Value::Bytes(Secret::from(bytes))),
        Shape::Mechanisms => {
            let (numbers, []) = bytes.as_chunks::<ULONG_BYTES>() else {
                return Err(Rv::ATTRIBUTE_VALUE_INVALID);
            };
            if numbers.len() > ALLOWED_MECHANISMS_MAX {
                return Err(Rv::ATTRIBUTE_VALUE_INVALID);
            }
            let mechanism = |number: &[u8; ULONG_BYTES]| u32::try_from(CK_ULONG::from_ne_bytes(*number));
            let mechanisms: Result<Vec<_>, _> =
                numbers.iter().map(|n| mechanism(n).map(MechanismType)).collect();
            Ok(Value::Mechanisms(Mechanisms(mechanisms.map_err(|_| Rv::ATTRIBUTE_VALUE_INVALID)?)))
        }
        // SAFETY: the value was readable, and what it points at is by the caller's promise.
        Shape::Template if nesting == Nesting::Outer => unsafe { nested(bytes) },
        Shape::Template => Err(Rv::ATTRIBUTE_VALUE_INVALID),
    }
}

/// A template that is the value of an attribute.
///
/// # Safety
/// `bytes` must be attributes whose values are readable.
unsafe fn nested(bytes: &[u8]) -> Result<Value, Rv> {
    let size = size_of::<CK_ATTRIBUTE>();
    let count = bytes.len() / size;
    if !bytes.len().is_multiple_of(size) || count > NESTED_ATTRIBUTES_MAX {
        return Err(Rv::ATTRIBUTE_VALUE_INVALID);
    }
    let count = CK_ULONG::try_from(count).map_err(|_| Rv::ATTRIBUTE_VALUE_INVALID)?;
    // SAFETY: there are `count` of them; their values are readable by the caller's promise.
    let attributes = unsafe { attributes(bytes.as_ptr().cast(), count, Nesting::Nested) }?;
    Ok(Value::Template(Nested(attributes)))
}

/// The label of `C_InitToken`: 32 bytes, padded with blanks. PyKCS11 passes a C string: the bytes after its final zero
/// are not part of the label.
///
/// # Safety
/// A pointer that is not null must be readable for 32 bytes.
pub(crate) unsafe fn label(pointer: *const CK_BYTE) -> Result<String, Rv> {
    // SAFETY: the caller's promise is passed on.
    let label = unsafe { bytes(pointer, LABEL_BYTES) }?;
    let label = label.split(|byte| *byte == 0).next().unwrap_or_default();
    let label = str::from_utf8(label).map_err(|_| Rv::ARGUMENTS_BAD)?;
    Ok(label.trim_end_matches(' ').to_owned())
}

fn ulong(bytes: &[u8]) -> Option<CK_ULONG> {
    bytes.try_into().ok().map(CK_ULONG::from_ne_bytes)
}

/// Converts a number of the host's width to the 64 bits of the wire. All ones stay all ones
/// (`CK_UNAVAILABLE_INFORMATION`).
#[allow(clippy::useless_conversion, reason = "CK_ULONG has 32 bits on some targets")]
pub(crate) fn to_u64(number: CK_ULONG) -> u64 {
    if number == CK_ULONG::MAX { u64::MAX } else { u64::from(number) }
}

/// A session handle.
pub(crate) fn session(handle: CK_SESSION_HANDLE) -> SessionHandle {
    SessionHandle(to_u64(handle))
}

/// An object handle.
pub(crate) fn object(handle: CK_OBJECT_HANDLE) -> ObjectHandle {
    ObjectHandle(to_u64(handle))
}

/// A slot.
pub(crate) fn slot(id: CK_SLOT_ID) -> SlotId {
    SlotId(to_u64(id))
}

/// The access that `C_OpenSession` requests.
///
/// # Errors
/// `CKR_SESSION_PARALLEL_NOT_SUPPORTED` without `CKF_SERIAL_SESSION`, which must always be set.
pub(crate) fn access(flags: CK_FLAGS) -> Result<Access, Rv> {
    if flags & CKF_SERIAL_SESSION == 0 {
        return Err(Rv::SESSION_PARALLEL_NOT_SUPPORTED);
    }
    if flags & CKF_ASYNC_SESSION != 0 {
        return Err(Rv::SESSION_ASYNC_NOT_SUPPORTED);
    }
    Ok(if flags & CKF_RW_SESSION == 0 { Access::ReadOnly } else { Access::ReadWrite })
}

/// The role of a login.
///
/// # Errors
/// `CKR_USER_TYPE_INVALID`.
pub(crate) fn role(user: CK_USER_TYPE) -> Result<Role, Rv> {
    match user {
        CKU_SO => Ok(Role::Officer),
        CKU_USER => Ok(Role::User),
        CKU_CONTEXT_SPECIFIC => Ok(Role::Context),
        _ => Err(Rv::USER_TYPE_INVALID),
    }
}

/// The operations that `C_SessionCancel` ends.
pub(crate) fn cancel_flags(flags: CK_FLAGS) -> CancelFlags {
    CancelFlags {
        encrypt: flags & CKF_ENCRYPT != 0,
        decrypt: flags & CKF_DECRYPT != 0,
        digest: flags & CKF_DIGEST != 0,
        sign: flags & CKF_SIGN != 0,
        verify: flags & CKF_VERIFY != 0,
        search: flags & CKF_FIND_OBJECTS != 0,
        message_encrypt: flags & CKF_MESSAGE_ENCRYPT != 0,
        message_decrypt: flags & CKF_MESSAGE_DECRYPT != 0,
    }
}

#[cfg(test)]
mod tests {
    use cryptoki_sys::{CKA_ALLOWED_MECHANISMS, CKA_CLASS, CKA_LABEL, CKA_TOKEN, CKA_WRAP_TEMPLATE};

    use super::*;

    #[track_caller]
    fn check<T: Copy>(kind: CK_ULONG, content: &[T], length: usize, expected: Result<Value, Rv>) {
        // One byte off: hosts pack structures.
        let mut packed = vec![0_u8; size_of::<CK_ATTRIBUTE>() + 1];
        let attribute = CK_ATTRIBUTE {
            type_: kind,
            pValue: content.as_ptr().cast_mut().cast(),
            ulValueLen: CK_ULONG::try_from(length).unwrap(),
        };
        // SAFETY: the vector holds one attribute after its first byte.
        let pointer = unsafe { packed.as_mut_ptr().add(1) }.cast::<CK_ATTRIBUTE>();
        // SAFETY: as above.
        unsafe { pointer.write_unaligned(attribute) };
        // SAFETY: one attribute, whose value is `content`, and lengths beyond it are rejected before anything is read.
        let template = unsafe { template(pointer, 1) };
        assert_eq!(template.map(|template| template.0[0].value.clone()), expected);
    }

    #[test]
    fn values_are_parsed_by_attribute_type() {
        check(CKA_TOKEN, &[1_u8], 1, Ok(Value::Bool(true)));
        check(CKA_TOKEN, &[1_u8, 0], 2, Err(Rv::ATTRIBUTE_VALUE_INVALID));
        check(CKA_CLASS, &[4 as CK_ULONG], ULONG_BYTES, Ok(Value::Ulong(4)));
        check(CKA_CLASS, &[4_u8, 0, 0], 3, Err(Rv::ATTRIBUTE_VALUE_INVALID));
        check(CKA_CLASS, &[CK_ULONG::MAX], ULONG_BYTES, Ok(Value::Ulong(u64::MAX)));
        check(CKA_LABEL, b"key", 3, Ok(Value::Bytes(b"key".to_vec().into())));
        check(CKA_LABEL, b"", 0, Ok(Value::Bytes(Secret::default())));
        let mechanisms = Mechanisms(vec![MechanismType::AES_GCM, MechanismType::AES_CBC]);
        let numbers: [CK_ULONG; 2] = [0x1087, 0x1082];
        check(CKA_ALLOWED_MECHANISMS, &numbers, 2 * ULONG_BYTES, Ok(Value::Mechanisms(mechanisms)));
        check(CKA_ALLOWED_MECHANISMS, &numbers, 2 * ULONG_BYTES - 1, Err(Rv::ATTRIBUTE_VALUE_INVALID));
        check(CKA_WRAP_TEMPLATE, b"", 0, Ok(Value::Template(Nested::default())));
    }

    #[test]
    fn templates_nest_one_level_deep() {
        let class: CK_ULONG = 4;
        let inner = |kind: CK_ULONG, pointer: *const c_void, length: usize| CK_ATTRIBUTE {
            type_: kind,
            pValue: pointer.cast_mut(),
            ulValueLen: CK_ULONG::try_from(length).unwrap(),
        };
        let size = size_of::<CK_ATTRIBUTE>();
        let flat = [inner(CKA_CLASS, ptr::from_ref(&class).cast(), ULONG_BYTES)];
        let nested = Nested(vec![Attribute::ulong(AttributeType::CLASS, 4)]);
        check(CKA_WRAP_TEMPLATE, &flat, size, Ok(Value::Template(nested)));
        check(CKA_WRAP_TEMPLATE, &flat, size - 1, Err(Rv::ATTRIBUTE_VALUE_INVALID));
        let deep = [inner(CKA_WRAP_TEMPLATE, flat.as_ptr().cast(), size)];
        check(CKA_WRAP_TEMPLATE, &deep, size, Err(Rv::ATTRIBUTE_VALUE_INVALID));
        let many = vec![flat[0]; NESTED_ATTRIBUTES_MAX + 1];
        check(CKA_WRAP_TEMPLATE, &many, size * many.len(), Err(Rv::ATTRIBUTE_VALUE_INVALID));
    }

    #[test]
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "the same promise for all of them")]
    fn the_padding_of_a_label_is_removed() {
        // SAFETY: 32 bytes, or null.
        unsafe {
            assert_eq!(label(b"ring  of keys                   ".as_ptr()), Ok("ring  of keys".to_owned()));
            assert_eq!(label(b"ring\0\xff\xff                          ".as_ptr()), Ok("ring".to_owned()));
            assert_eq!(label([0xff; 32].as_ptr()), Err(Rv::ARGUMENTS_BAD));
            assert_eq!(label(ptr::null()), Err(Rv::ARGUMENTS_BAD));
        }
    }

    #[test]
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "the same promise for all of them")]
    fn impossible_lengths_are_rejected_before_anything_is_read() {
        check(CKA_LABEL, b"key", usize::MAX, Err(Rv::ATTRIBUTE_VALUE_INVALID));
        check(CKA_LABEL, b"key", ATTRIBUTE_BYTES_MAX + 1, Err(Rv::ATTRIBUTE_VALUE_INVALID));
        let byte = 7;
        // SAFETY: nothing is read for a null pointer or a length beyond the limit.
        unsafe {
            assert_eq!(bytes(ptr::null(), 0), Ok([].as_slice()));
            assert_eq!(bytes(ptr::null(), 1), Err(Rv::ARGUMENTS_BAD));
            assert_eq!(bytes(&raw const byte, CK_ULONG::MAX), Err(Rv::ARGUMENTS_BAD));
            assert_eq!(bytes(&raw const byte, 1), Ok([7].as_slice()));
            assert_eq!(pin(ptr::null(), 0), Err(Rv::ARGUMENTS_BAD));
            assert_eq!(pin(&raw const byte, 0), Ok([].as_slice()));
            assert_eq!(template(ptr::null(), 0), Ok(Template::default()));
            assert_eq!(template(ptr::null(), 1), Err(Rv::ARGUMENTS_BAD));
            assert_eq!(template(ptr::null(), CK_ULONG::MAX), Err(Rv::ARGUMENTS_BAD));
        }
    }

    #[test]
    fn sessions_must_be_serial() {
        assert_eq!(access(0), Err(Rv::SESSION_PARALLEL_NOT_SUPPORTED));
        assert_eq!(access(CKF_SERIAL_SESSION), Ok(Access::ReadOnly));
        assert_eq!(access(CKF_SERIAL_SESSION | CKF_RW_SESSION), Ok(Access::ReadWrite));
    }
}
