//! Writes replies to the caller's memory after the call has computed them: the only code that writes C memory. It never
//! creates a reference to that memory and writes through raw pointers, unaligned.

use std::ptr;

use cryptoki_sys::{CK_ATTRIBUTE, CK_BYTE, CK_ULONG};
use kms_protocol::{Attribute, Rv, Secret, Shape, Value};

use super::input;
use crate::calls::object::AttributeValues;
use crate::calls::{OutputCapacity, random};
use crate::session::attributes::AttributeView;
use crate::session::reply::{Capacity, Reply};

/// `CK_UNAVAILABLE_INFORMATION`.
pub(crate) const UNAVAILABLE: CK_ULONG = CK_ULONG::MAX;

/// Converts a number to the host's width; one that does not fit becomes "unavailable".
#[allow(clippy::useless_conversion, reason = "CK_ULONG has 32 bits on some targets")]
pub(crate) fn ulong(number: u64) -> CK_ULONG {
    CK_ULONG::try_from(number).unwrap_or(UNAVAILABLE)
}

fn length(bytes: usize) -> CK_ULONG {
    CK_ULONG::try_from(bytes).unwrap_or(UNAVAILABLE)
}

/// Runs a call and writes the value that it returns. A null pointer gets `CKR_ARGUMENTS_BAD` before anything is done.
///
/// # Safety
/// A pointer that is not null must be writable for a `T`.
pub(crate) unsafe fn value<T>(pointer: *mut T, call: impl FnOnce() -> Result<T, Rv>) -> Result<(), Rv> {
    if pointer.is_null() {
        return Err(Rv::ARGUMENTS_BAD);
    }
    let value = call()?;
    // SAFETY: not null; writable is the caller's promise.
    unsafe { pointer.write_unaligned(value) };
    Ok(())
}

/// Runs a call and writes the two values that it returns.
///
/// # Safety
/// Pointers that are not null must be writable.
pub(crate) unsafe fn pair<T>(
    first: *mut T,
    second: *mut T,
    call: impl FnOnce() -> Result<(T, T), Rv>,
) -> Result<(), Rv> {
    if first.is_null() || second.is_null() {
        return Err(Rv::ARGUMENTS_BAD);
    }
    let values = call()?;
    // SAFETY: not null; writable is the caller's promise.
    unsafe { first.write_unaligned(values.0) };
    // SAFETY: likewise.
    unsafe { second.write_unaligned(values.1) };
    Ok(())
}

/// Runs a call and writes the bytes that it returns, by the two-call convention.
///
/// # Safety
/// Pointers that are not null must be writable: `data` for `*data_length` bytes.
pub(crate) unsafe fn bytes(
    data: *mut CK_BYTE,
    data_length: *mut CK_ULONG,
    call: impl FnOnce(OutputCapacity) -> Result<Reply, Rv>,
) -> Result<(), Rv> {
    // SAFETY: the caller's promise is passed on.
    let capacity = unsafe { capacity(data, data_length) };
    let (needed, result) = match call(capacity)? {
        Reply::Length(needed) => (needed, Ok(())),
        Reply::TooSmall(needed) => (needed, Err(Rv::BUFFER_TOO_SMALL)),
        Reply::Bytes(bytes) => {
            // SAFETY: a call replies with bytes only if they fit in the capacity that it was passed.
            unsafe { copy(&bytes, data) };
            (bytes.len(), Ok(()))
        }
    };
    // SAFETY: a call without a pointer to the length has failed.
    unsafe { data_length.write_unaligned(length(needed)) };
    result
}

/// The capacity of the caller's buffer.
///
/// # Safety
/// A `data_length` that is not null must be readable.
unsafe fn capacity(data: *const CK_BYTE, data_length: *const CK_ULONG) -> OutputCapacity {
    // SAFETY: the caller's promise is passed on.
    let capacity = unsafe { input::value(data_length) }.ok_or(Rv::ARGUMENTS_BAD)?;
    if data.is_null() {
        return Ok(Capacity::LengthQuery);
    }
    Ok(Capacity::Bytes(usize::try_from(capacity).unwrap_or(usize::MAX)))
}

/// Copies our bytes to the caller.
///
/// # Safety
/// `to` must be writable for as many bytes as `from` has.
pub(super) unsafe fn copy(from: &[u8], to: *mut u8) {
    if !from.is_empty() {
        // SAFETY: `to` is as long as `from`, which is our own memory and cannot overlap the caller's.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) }
    }
}

/// Runs a call and writes the list of numbers that it returns, by the two-call convention.
///
/// # Safety
/// Pointers that are not null must be writable: `list` for `*count` numbers.
pub(crate) unsafe fn list(
    list: *mut CK_ULONG,
    count: *mut CK_ULONG,
    call: impl FnOnce(Capacity) -> Result<Vec<u64>, Rv>,
) -> Result<(), Rv> {
    // SAFETY: the caller's promise is passed on.
    let capacity = unsafe { capacity(list.cast(), count) }?;
    let numbers = call(capacity)?;
    let result = match capacity {
        Capacity::LengthQuery => Ok(()),
        Capacity::Bytes(capacity) if capacity < numbers.len() => Err(Rv::BUFFER_TOO_SMALL),
        Capacity::Bytes(_) => {
            // SAFETY: the list has space for all of them.
            unsafe { write_all(&numbers, list) };
            Ok(())
        }
    };
    // SAFETY: `capacity` has checked that it is not null.
    unsafe { count.write_unaligned(length(numbers.len())) };
    result
}

/// Writes numbers of the host's width.
///
/// # Safety
/// `list` must be writable for all of them.
unsafe fn write_all(numbers: &[u64], list: *mut CK_ULONG) {
    for (index, number) in numbers.iter().enumerate() {
        // SAFETY: the list has space for all numbers.
        let pointer = unsafe { list.add(index) };
        // SAFETY: likewise.
        unsafe { pointer.write_unaligned(ulong(*number)) };
    }
}

/// Runs `C_FindObjects` and writes at most `max_count` numbers and their count.
///
/// # Safety
/// Pointers that are not null must be writable: `objects` for `max_count` numbers.
pub(crate) unsafe fn found(
    objects: *mut CK_ULONG,
    max_count: CK_ULONG,
    count: *mut CK_ULONG,
    call: impl FnOnce(usize) -> Result<Vec<u64>, Rv>,
) -> Result<(), Rv> {
    if count.is_null() || (objects.is_null() && max_count > 0) {
        return Err(Rv::ARGUMENTS_BAD);
    }
    let numbers = call(usize::try_from(max_count).unwrap_or(usize::MAX))?;
    // SAFETY: there are at most `max_count`.
    unsafe { write_all(&numbers, objects) };
    // SAFETY: not null; writable is the caller's promise.
    unsafe { count.write_unaligned(length(numbers.len())) };
    Ok(())
}

/// Runs a call and fills the caller's buffer with the bytes that it returns.
///
/// # Safety
/// For a non-zero `data_length`, `data` must be writable for that many bytes.
pub(crate) unsafe fn fill(
    data: *mut CK_BYTE,
    data_length: CK_ULONG,
    call: impl FnOnce(usize) -> Result<Secret, Rv>,
) -> Result<(), Rv> {
    let wanted = usize::try_from(data_length).ok().filter(|length| *length <= random::RANDOM_BYTES_MAX);
    let wanted = wanted.ok_or(Rv::ARGUMENTS_BAD)?;
    if wanted > 0 && data.is_null() {
        return Err(Rv::ARGUMENTS_BAD);
    }
    let bytes = call(wanted)?;
    // SAFETY: exactly the length of the caller's buffer.
    unsafe { copy(&bytes[..wanted], data) };
    Ok(())
}

/// Runs `C_GetAttributeValue`: each attribute is written, and an error of one of them is returned at the end (spec,
/// "C_GetAttributeValue").
///
/// # Safety
/// For a non-zero `count`, `template` must point at `count` writable attributes, whose values are writable for their
/// lengths or null.
pub(crate) unsafe fn attributes(
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    call: impl FnOnce(&[Option<kms_protocol::AttributeType>]) -> Result<AttributeValues, Rv>,
) -> Result<(), Rv> {
    // SAFETY: the caller's promise is passed on.
    let kinds = unsafe { input::kinds(template, count) }?;
    let values = call(&kinds)?;
    let (mut sensitive, mut invalid, mut small) = (false, false, false);
    for (index, kind) in kinds.iter().enumerate() {
        // SAFETY: below `count`.
        let pointer = unsafe { template.add(index) };
        let written = match values.view(*kind) {
            // SAFETY: the caller's promise is passed on.
            AttributeView::Value(value) => unsafe { write_value(pointer, value) },
            AttributeView::Empty => Ok(0),
            AttributeView::Secret | AttributeView::Sensitive => Err(Rv::ATTRIBUTE_SENSITIVE),
            AttributeView::Invalid => Err(Rv::ATTRIBUTE_TYPE_INVALID),
        };
        match written {
            Ok(_) => {}
            Err(Rv::ATTRIBUTE_SENSITIVE) => sensitive = true,
            Err(Rv::BUFFER_TOO_SMALL) => small = true,
            Err(_) => invalid = true,
        }
        // SAFETY: the field is part of an attribute that is writable.
        let field = unsafe { &raw mut (*pointer).ulValueLen };
        // SAFETY: likewise.
        unsafe { field.write_unaligned(written.map_or(UNAVAILABLE, length)) };
    }
    match (sensitive, invalid, small) {
        (true, _, _) => Err(Rv::ATTRIBUTE_SENSITIVE),
        (false, true, _) => Err(Rv::ATTRIBUTE_TYPE_INVALID),
        (false, false, true) => Err(Rv::BUFFER_TOO_SMALL),
        (false, false, false) => Ok(()),
    }
}

/// Writes a value in its C representation, or returns its length if the caller has no buffer.
///
/// # Safety
/// `pointer` must point at an attribute whose value is null or writable for its length.
unsafe fn write_value(pointer: *const CK_ATTRIBUTE, value: &Value) -> Result<usize, Rv> {
    let list: Vec<u8>;
    let number: [u8; input::ULONG_BYTES];
    let bytes: &[u8] = match value {
        Value::Bool(false) => &[0],
        Value::Bool(true) => &[1],
        Value::Ulong(value) => {
            number = ulong(*value).to_ne_bytes();
            &number
        }
        Value::Bytes(bytes) => bytes,
        Value::Mechanisms(mechanisms) => {
            list = mechanisms.0.iter().flat_map(|kind| CK_ULONG::from(kind.0).to_ne_bytes()).collect();
            &list
        }
        // SAFETY: the caller's promise is passed on.
        Value::Template(nested) => return unsafe { write_nested(pointer, &nested.0) },
    };
    // SAFETY: the caller's promise is passed on.
    let attribute = unsafe { ptr::read_unaligned(pointer) };
    if attribute.pValue.is_null() {
        return Ok(bytes.len());
    }
    if usize::try_from(attribute.ulValueLen).is_ok_and(|capacity| capacity < bytes.len()) {
        return Err(Rv::BUFFER_TOO_SMALL);
    }
    // SAFETY: not null, and long enough.
    unsafe { copy(bytes, attribute.pValue.cast()) };
    Ok(bytes.len())
}

/// Writes a template that is the value of an attribute. Its own attributes follow the same rule as the outer ones: the
/// length for a null value, otherwise the value if it fits (spec, "C_GetAttributeValue").
///
/// # Safety
/// As for [`write_value`], and the values of the attributes inside must be null or writable for their lengths.
unsafe fn write_nested(pointer: *const CK_ATTRIBUTE, nested: &[Attribute]) -> Result<usize, Rv> {
    let needed = nested.len() * size_of::<CK_ATTRIBUTE>();
    // SAFETY: the caller's promise is passed on.
    let outer = unsafe { ptr::read_unaligned(pointer) };
    if outer.pValue.is_null() {
        return Ok(needed);
    }
    if usize::try_from(outer.ulValueLen).is_ok_and(|capacity| capacity < needed) {
        return Err(Rv::BUFFER_TOO_SMALL);
    }
    let list = outer.pValue.cast::<CK_ATTRIBUTE>();
    let mut result = Ok(needed);
    for (index, attribute) in nested.iter().enumerate() {
        // SAFETY: the list has space for all of them.
        let inner = unsafe { list.add(index) };
        // Templates from the backend are nested one level deep.
        let written = if attribute.value.has_shape(Shape::Template) {
            Err(Rv::ATTRIBUTE_TYPE_INVALID)
        } else {
            // SAFETY: likewise, and its value is null or writable by the caller's promise.
            unsafe { write_value(inner, &attribute.value) }
        };
        // SAFETY: as above.
        let mut written_attribute = unsafe { ptr::read_unaligned(inner) };
        written_attribute.type_ = attribute.kind.0.into();
        written_attribute.ulValueLen = written.map_or(UNAVAILABLE, length);
        // SAFETY: as above.
        unsafe { inner.write_unaligned(written_attribute) };
        result = result.and_then(|needed| written.map(|_| needed));
    }
    result
}

#[cfg(test)]
mod tests {
    use kms_protocol::AttributeType;

    use super::*;
    use crate::session::reply::{OutputLength, length_reply};

    fn reply(capacity: OutputCapacity) -> Result<Reply, Rv> {
        let without_output = length_reply(capacity?, OutputLength::Exact(3));
        Ok(without_output.unwrap_or_else(|| Reply::Bytes(Secret::from(b"abc".as_slice()))))
    }

    #[test]
    fn bytes_are_written_only_if_they_fit() {
        let mut data = *b"......";
        for (capacity, expected, left) in [
            (2, Err(Rv::BUFFER_TOO_SMALL), *b"......"),
            (3, Ok(()), *b"abc..."),
            (CK_ULONG::MAX, Ok(()), *b"abc..."),
        ] {
            let mut length = capacity;
            // SAFETY: at most three bytes are written, into six.
            assert_eq!(unsafe { bytes(data.as_mut_ptr(), &raw mut length, reply) }, expected);
            assert_eq!((length, data), (3, left));
            data = *b"......";
        }
    }

    #[test]
    fn a_null_buffer_gets_the_length_and_a_null_length_an_error() {
        let mut length = 77;
        // SAFETY: a null buffer is not written to.
        assert_eq!(unsafe { bytes(ptr::null_mut(), &raw mut length, reply) }, Ok(()));
        assert_eq!(length, 3);
        // SAFETY: nor is a null length.
        assert_eq!(unsafe { bytes(ptr::null_mut(), ptr::null_mut(), reply) }, Err(Rv::ARGUMENTS_BAD));
    }

    #[test]
    fn a_value_without_a_pointer_is_not_computed() {
        // SAFETY: null.
        let rejected = unsafe { value(ptr::null_mut::<CK_ULONG>(), || panic!("the call must not run")) };
        assert_eq!(rejected, Err(Rv::ARGUMENTS_BAD));
    }

    #[test]
    fn a_nested_template_is_written_attribute_by_attribute() {
        let nested =
            [Attribute::bool(AttributeType::SENSITIVE, true), Attribute::bytes(AttributeType::ID, [1, 2])];
        let empty = CK_ATTRIBUTE { type_: 0, pValue: ptr::null_mut(), ulValueLen: 0 };
        let size = size_of::<CK_ATTRIBUTE>();
        let mut list = [empty; 2];
        let mut outer = CK_ATTRIBUTE { type_: cryptoki_sys::CKA_WRAP_TEMPLATE, ..empty };
        // SAFETY: null values are not written to.
        assert_eq!(unsafe { write_nested(&raw const outer, &nested) }, Ok(2 * size));
        outer.pValue = list.as_mut_ptr().cast();
        outer.ulValueLen = length(size);
        // SAFETY: nothing is written if it does not fit.
        assert_eq!(unsafe { write_nested(&raw const outer, &nested) }, Err(Rv::BUFFER_TOO_SMALL));
        outer.ulValueLen = length(2 * size);
        // SAFETY: the list holds two attributes; their values are null.
        assert_eq!(unsafe { write_nested(&raw const outer, &nested) }, Ok(2 * size));
        assert_eq!(list.map(|inner| (inner.type_, inner.ulValueLen)), [(0x103, 1), (0x102, 2)]);
        let mut id = [0; 1];
        list[1].pValue = id.as_mut_ptr().cast();
        list[1].ulValueLen = 1;
        // SAFETY: the value has one byte, as its length says.
        assert_eq!(unsafe { write_nested(&raw const outer, &nested) }, Err(Rv::BUFFER_TOO_SMALL));
        assert_eq!((list[1].ulValueLen, id), (UNAVAILABLE, [0]));
    }

    #[test]
    fn a_list_follows_the_same_convention() {
        let mut numbers = [0; 2];
        let mut count = 1;
        // SAFETY: the list holds two numbers.
        let short = unsafe { list(numbers.as_mut_ptr(), &raw mut count, |_| Ok(vec![7, 8])) };
        assert_eq!((short, count, numbers), (Err(Rv::BUFFER_TOO_SMALL), 2, [0, 0]));
        // SAFETY: as above.
        let whole = unsafe { list(numbers.as_mut_ptr(), &raw mut count, |_| Ok(vec![7, 8])) };
        assert_eq!((whole, count, numbers), (Ok(()), 2, [7, 8]));
    }
}
