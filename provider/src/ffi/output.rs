//! Replies to the caller's memory, after the call is over: the only place where C memory is written. No reference to
//! it is ever made, only raw, unaligned writes.

use std::ptr;

use cryptoki_sys::{CK_ATTRIBUTE, CK_BYTE, CK_ULONG};
use kms_protocol::{Attribute, Rv, Secret, Shape, Value};

use super::input;
use crate::calls::object::AttributeValues;
use crate::calls::{Offered, random};
use crate::session::attributes::AttributeView;
use crate::session::reply::{Reply, Room};

/// `CK_UNAVAILABLE_INFORMATION`.
pub(crate) const UNAVAILABLE: CK_ULONG = CK_ULONG::MAX;

/// A number in the host's width; one that does not fit is "unavailable".
#[allow(clippy::useless_conversion, reason = "CK_ULONG has 32 bits on some targets")]
pub(crate) fn ulong(number: u64) -> CK_ULONG {
    CK_ULONG::try_from(number).unwrap_or(UNAVAILABLE)
}

fn length(bytes: usize) -> CK_ULONG {
    CK_ULONG::try_from(bytes).unwrap_or(UNAVAILABLE)
}

/// Answers a call with one value. A caller without a place for it gets `CKR_ARGUMENTS_BAD` before anything is done.
///
/// # Safety
/// A `place` that is not null must be writable for a `T`.
pub(crate) unsafe fn value<T>(place: *mut T, call: impl FnOnce() -> Result<T, Rv>) -> Result<(), Rv> {
    if place.is_null() {
        return Err(Rv::ARGUMENTS_BAD);
    }
    let value = call()?;
    // SAFETY: not null; writable is the caller's promise.
    unsafe { place.write_unaligned(value) };
    Ok(())
}

/// Answers a call with two values, made together.
///
/// # Safety
/// Places that are not null must be writable.
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

/// Answers a call with bytes, by the two-call rule.
///
/// # Safety
/// Pointers that are not null must be writable: `data` for the length that stands at `data_length`.
pub(crate) unsafe fn bytes(
    data: *mut CK_BYTE,
    data_length: *mut CK_ULONG,
    call: impl FnOnce(Offered) -> Result<Reply, Rv>,
) -> Result<(), Rv> {
    // SAFETY: the caller's promise is handed on.
    let room = unsafe { room(data, data_length) };
    let (needed, result) = match call(room)? {
        Reply::Length(needed) => (needed, Ok(())),
        Reply::TooSmall(needed) => (needed, Err(Rv::BUFFER_TOO_SMALL)),
        Reply::Bytes(bytes) => {
            // SAFETY: a reply with bytes is one to a room that has place for them.
            unsafe { copy(&bytes, data) };
            (bytes.len(), Ok(()))
        }
    };
    // SAFETY: a call that had no place for the length has failed.
    unsafe { data_length.write_unaligned(length(needed)) };
    result
}

/// What the caller offers.
///
/// # Safety
/// A `data_length` that is not null must be readable.
unsafe fn room(data: *const CK_BYTE, data_length: *const CK_ULONG) -> Offered {
    // SAFETY: the caller's promise is handed on.
    let offered = unsafe { input::value(data_length) }.ok_or(Rv::ARGUMENTS_BAD)?;
    if data.is_null() {
        return Ok(Room::LengthOnly);
    }
    Ok(Room::Bytes(usize::try_from(offered).unwrap_or(usize::MAX)))
}

/// Copies our bytes to the caller.
///
/// # Safety
/// `to` must be writable for as many bytes as `from` has.
pub(super) unsafe fn copy(from: &[u8], to: *mut u8) {
    if !from.is_empty() {
        // SAFETY: `to` has room for `from`, which is our own memory and cannot overlap the caller's.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) }
    }
}

/// Answers a call with a list of numbers, by the two-call rule.
///
/// # Safety
/// Pointers that are not null must be writable: `list` for as many numbers as stand at `count`.
pub(crate) unsafe fn list(
    list: *mut CK_ULONG,
    count: *mut CK_ULONG,
    call: impl FnOnce(Room) -> Result<Vec<u64>, Rv>,
) -> Result<(), Rv> {
    // SAFETY: the caller's promise is handed on.
    let room = unsafe { room(list.cast(), count) }?;
    let numbers = call(room)?;
    let result = match room {
        Room::LengthOnly => Ok(()),
        Room::Bytes(room) if room < numbers.len() => Err(Rv::BUFFER_TOO_SMALL),
        Room::Bytes(_) => {
            // SAFETY: there is room for all of them.
            unsafe { write_all(&numbers, list) };
            Ok(())
        }
    };
    // SAFETY: `room` found it not null.
    unsafe { count.write_unaligned(length(numbers.len())) };
    result
}

/// Writes numbers in the host's width.
///
/// # Safety
/// `list` must be writable for all of them.
unsafe fn write_all(numbers: &[u64], list: *mut CK_ULONG) {
    for (index, number) in numbers.iter().enumerate() {
        // SAFETY: the list has room for all numbers.
        let place = unsafe { list.add(index) };
        // SAFETY: likewise.
        unsafe { place.write_unaligned(ulong(*number)) };
    }
}

/// Answers `C_FindObjects`: at most `most` numbers, and how many they are.
///
/// # Safety
/// Pointers that are not null must be writable: `objects` for `most` numbers.
pub(crate) unsafe fn found(
    objects: *mut CK_ULONG,
    most: CK_ULONG,
    count: *mut CK_ULONG,
    call: impl FnOnce(usize) -> Result<Vec<u64>, Rv>,
) -> Result<(), Rv> {
    if count.is_null() || (objects.is_null() && most > 0) {
        return Err(Rv::ARGUMENTS_BAD);
    }
    let numbers = call(usize::try_from(most).unwrap_or(usize::MAX))?;
    // SAFETY: there are at most `most`.
    unsafe { write_all(&numbers, objects) };
    // SAFETY: not null; writable is the caller's promise.
    unsafe { count.write_unaligned(length(numbers.len())) };
    Ok(())
}

/// Fills the caller's buffer.
///
/// # Safety
/// For a non-zero `data_length`, `data` must be writable for so many bytes.
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
    // SAFETY: as many as the caller has room for.
    unsafe { copy(&bytes[..wanted], data) };
    Ok(())
}

/// Answers `C_GetAttributeValue`: every attribute is answered, and what went wrong with one of them is said at the end
/// (spec, "C_GetAttributeValue").
///
/// # Safety
/// For a non-zero `count`, `template` must point at so many writable attributes, whose values are writable for their
/// lengths or null.
pub(crate) unsafe fn attributes(
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    call: impl FnOnce(&[Option<kms_protocol::AttributeType>]) -> Result<AttributeValues, Rv>,
) -> Result<(), Rv> {
    // SAFETY: the caller's promise is handed on.
    let kinds = unsafe { input::kinds(template, count) }?;
    let looked = call(&kinds)?;
    let (mut sensitive, mut invalid, mut small) = (false, false, false);
    for (index, kind) in kinds.iter().enumerate() {
        // SAFETY: below `count`.
        let place = unsafe { template.add(index) };
        let written = match looked.at(*kind) {
            // SAFETY: the caller's promise is handed on.
            AttributeView::Value(value) => unsafe { write_value(place, value) },
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
        // SAFETY: the field lies in an attribute that is writable.
        let field = unsafe { &raw mut (*place).ulValueLen };
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

/// Writes a value as C has it, or tells its length to a caller without a buffer.
///
/// # Safety
/// `place` must point at an attribute whose value is null or writable for its length.
unsafe fn write_value(place: *const CK_ATTRIBUTE, value: &Value) -> Result<usize, Rv> {
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
        // SAFETY: the caller's promise is handed on.
        Value::Template(nested) => return unsafe { write_nested(place, &nested.0) },
    };
    // SAFETY: the caller's promise is handed on.
    let attribute = unsafe { ptr::read_unaligned(place) };
    if attribute.pValue.is_null() {
        return Ok(bytes.len());
    }
    if usize::try_from(attribute.ulValueLen).is_ok_and(|room| room < bytes.len()) {
        return Err(Rv::BUFFER_TOO_SMALL);
    }
    // SAFETY: not null, and there is room.
    unsafe { copy(bytes, attribute.pValue.cast()) };
    Ok(bytes.len())
}

/// Writes a template that is the value of an attribute. Each of its own attributes is answered by the same rule as the
/// outer ones: a length for a null value, the value where there is room (spec, "C_GetAttributeValue").
///
/// # Safety
/// As for [`write_value`], and the values of the attributes inside must be null or writable for their lengths.
unsafe fn write_nested(place: *const CK_ATTRIBUTE, nested: &[Attribute]) -> Result<usize, Rv> {
    let needed = nested.len() * size_of::<CK_ATTRIBUTE>();
    // SAFETY: the caller's promise is handed on.
    let outer = unsafe { ptr::read_unaligned(place) };
    if outer.pValue.is_null() {
        return Ok(needed);
    }
    if usize::try_from(outer.ulValueLen).is_ok_and(|room| room < needed) {
        return Err(Rv::BUFFER_TOO_SMALL);
    }
    let list = outer.pValue.cast::<CK_ATTRIBUTE>();
    let mut result = Ok(needed);
    for (index, attribute) in nested.iter().enumerate() {
        // SAFETY: the list has room for all of them.
        let inner = unsafe { list.add(index) };
        // A template that came from the wire has none inside.
        let written = if attribute.value.has_shape(Shape::Template) {
            Err(Rv::ATTRIBUTE_TYPE_INVALID)
        } else {
            // SAFETY: likewise, and its value is null or writable by the caller's promise.
            unsafe { write_value(inner, &attribute.value) }
        };
        // SAFETY: as above.
        let mut answered = unsafe { ptr::read_unaligned(inner) };
        answered.type_ = attribute.kind.0.into();
        answered.ulValueLen = written.map_or(UNAVAILABLE, length);
        // SAFETY: as above.
        unsafe { inner.write_unaligned(answered) };
        result = result.and_then(|needed| written.map(|_| needed));
    }
    result
}

#[cfg(test)]
mod tests {
    use kms_protocol::AttributeType;

    use super::*;
    use crate::session::reply::{Length, early};

    fn reply(room: Offered) -> Result<Reply, Rv> {
        let early = early(room?, Length::Exact(3));
        Ok(early.unwrap_or_else(|| Reply::Bytes(Secret::from(b"abc".as_slice()))))
    }

    #[test]
    fn bytes_are_written_only_where_there_is_room() {
        let mut data = *b"......";
        for (room, expected, left) in [
            (2, Err(Rv::BUFFER_TOO_SMALL), *b"......"),
            (3, Ok(()), *b"abc..."),
            (CK_ULONG::MAX, Ok(()), *b"abc..."),
        ] {
            let mut length = room;
            // SAFETY: at most three bytes are written, into six.
            assert_eq!(unsafe { bytes(data.as_mut_ptr(), &raw mut length, reply) }, expected);
            assert_eq!((length, data), (3, left));
            data = *b"......";
        }
    }

    #[test]
    fn without_a_buffer_the_length_is_told_and_without_a_length_nothing() {
        let mut length = 77;
        // SAFETY: a null buffer is not written to.
        assert_eq!(unsafe { bytes(ptr::null_mut(), &raw mut length, reply) }, Ok(()));
        assert_eq!(length, 3);
        // SAFETY: neither is a null length.
        assert_eq!(unsafe { bytes(ptr::null_mut(), ptr::null_mut(), reply) }, Err(Rv::ARGUMENTS_BAD));
    }

    #[test]
    fn a_value_without_a_place_is_not_made() {
        // SAFETY: null.
        let refused = unsafe { value(ptr::null_mut::<CK_ULONG>(), || panic!("nothing is to be done")) };
        assert_eq!(refused, Err(Rv::ARGUMENTS_BAD));
    }

    #[test]
    fn a_template_in_a_template_is_answered_attribute_by_attribute() {
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
        // SAFETY: nothing is written where there is no room.
        assert_eq!(unsafe { write_nested(&raw const outer, &nested) }, Err(Rv::BUFFER_TOO_SMALL));
        outer.ulValueLen = length(2 * size);
        // SAFETY: two attributes have room; their values are null.
        assert_eq!(unsafe { write_nested(&raw const outer, &nested) }, Ok(2 * size));
        assert_eq!(list.map(|inner| (inner.type_, inner.ulValueLen)), [(0x103, 1), (0x102, 2)]);
        let mut id = [0; 1];
        list[1].pValue = id.as_mut_ptr().cast();
        list[1].ulValueLen = 1;
        // SAFETY: the value has one byte, and says so.
        assert_eq!(unsafe { write_nested(&raw const outer, &nested) }, Err(Rv::BUFFER_TOO_SMALL));
        assert_eq!((list[1].ulValueLen, id), (UNAVAILABLE, [0]));
    }

    #[test]
    fn a_list_follows_the_same_rule() {
        let mut numbers = [0; 2];
        let mut count = 1;
        // SAFETY: two numbers have room.
        let short = unsafe { list(numbers.as_mut_ptr(), &raw mut count, |_| Ok(vec![7, 8])) };
        assert_eq!((short, count, numbers), (Err(Rv::BUFFER_TOO_SMALL), 2, [0, 0]));
        // SAFETY: as above.
        let whole = unsafe { list(numbers.as_mut_ptr(), &raw mut count, |_| Ok(vec![7, 8])) };
        assert_eq!((whole, count, numbers), (Ok(()), 2, [7, 8]));
    }
}
