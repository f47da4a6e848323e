//! The bodies of the fuzz targets, and the replay of their corpus: templates, mechanisms and messages are built from
//! any bytes and read by the functions that read an application's. Nothing here is in the released module.

mod c_memory;
mod parameters;

use std::ptr;
use std::sync::Arc;

use cryptoki_sys::{CK_ATTRIBUTE, CK_MECHANISM, CK_ULONG};
use kms_protocol::{
    Attribute, AttributeType, FrameError, GCM_AAD_BYTES_MAX, Mechanism, MechanismType, ObjectId, ObjectRef,
    Rv, Secret, Shape, SlotId, TEMPLATE_ATTRIBUTES_MAX, Template, frame, mechanism_table,
};
use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use super::{input, mechanism, message_parameter, output};
use crate::calls::message::EncryptedMessage;
use crate::calls::object::AttributeValues;
use crate::session::ObjectHandle;
use crate::session::cipher::Direction;
use crate::session::message::Nonce;
use crate::session::objects::ObjectInfo;
use crate::session::reply::{OutputLength, Reply, length_reply};
use c_memory::{Buffer, BuildBuffer, FuzzInput, Memory};

/// The nesting depth of templates: one level more than the module accepts.
const NESTING_DEPTH: usize = 2;

/// Attribute types of every shape: a fuzzer would seldom find the five whose values are templates.
const KINDS: [AttributeType; 16] = [
    AttributeType::CLASS,
    AttributeType::TOKEN,
    AttributeType::LABEL,
    AttributeType::VALUE,
    AttributeType::KEY_TYPE,
    AttributeType::ID,
    AttributeType::VALUE_LEN,
    AttributeType::EXTRACTABLE,
    AttributeType::START_DATE,
    AttributeType::MODULUS,
    AttributeType::ALLOWED_MECHANISMS,
    AttributeType::WRAP_TEMPLATE,
    AttributeType::UNWRAP_TEMPLATE,
    AttributeType::DERIVE_TEMPLATE,
    AttributeType::ENCAPSULATE_TEMPLATE,
    AttributeType::DECAPSULATE_TEMPLATE,
];

/// Reads a template, and fills one as `C_GetAttributeValue` does.
///
/// # Panics
/// When an invariant of the module is broken.
pub fn templates(bytes: &[u8]) {
    let (fuzz, memory) = (&mut FuzzInput(bytes), &mut Memory::default());
    let list = attributes(fuzz, memory, NESTING_DEPTH, Memory::any_buffer);
    let true_count = list.len() as CK_ULONG;
    let (pointer, count) = match fuzz.byte() {
        0..=223 => (memory.array(list), true_count),
        224..=239 => (ptr::null_mut(), fuzz.number()),
        240.. => {
            let too_many = fuzz.number().saturating_add(TEMPLATE_ATTRIBUTES_MAX as CK_ULONG + 1);
            (memory.array(list), too_many)
        }
    };
    // SAFETY: `count` attributes are there, or `count` is more than a template may have; likewise for all values.
    let read = unsafe { input::template(pointer, count) };
    // SAFETY: as above.
    let again = unsafe { input::template(pointer, count) };
    assert_eq!(read, again, "a template was changed by being read");
    // SAFETY: as above.
    if let Ok(kinds) = unsafe { input::kinds(pointer, count) } {
        assert_eq!(kinds.len() as CK_ULONG, count);
    }
    if let Ok(template) = read {
        assert!(template.0.len() as CK_ULONG == count, "attributes were lost");
        for Attribute { kind, value } in &template.0 {
            assert!(value.has_shape(kind.shape()), "{kind:?} is read with another shape");
        }
        check_round_trip(&template);
        check_filling(template, fuzz);
    }
}

/// Reads a mechanism with its parameter.
///
/// # Panics
/// When an invariant of the module is broken.
pub fn mechanisms(bytes: &[u8]) {
    let (fuzz, memory) = (&mut FuzzInput(bytes), &mut Memory::default());
    let table = mechanism_table::TABLE;
    let row = &table[usize::from(fuzz.byte()) % table.len()];
    let unknown = fuzz.byte() > 250;
    let number = if unknown { fuzz.number() } else { row.kind.0.into() };
    // The number may be that of another supported mechanism: then the parameter is built for that one.
    let known = u32::try_from(number).ok().and_then(|number| mechanism_table::row_of(MechanismType(number)));
    let wanted = known.map_or(row.parameter, |row| row.parameter);
    let (parameter, length) = parameters::build(wanted, fuzz, memory);
    let raw = CK_MECHANISM { mechanism: number, pParameter: parameter, ulParameterLen: length };
    let pointer = memory.structure(raw);
    let keys = |handle: ObjectHandle| match handle.0 % 2 {
        0 => Ok(ObjectRef::Token(ObjectId(handle.0))),
        _ => Err(Rv::KEY_HANDLE_INVALID),
    };
    // SAFETY: the parameter is readable for its length, and so is what it points at, or it is longer than any may be.
    let read = unsafe { mechanism::read_with_keys(pointer, &keys) };
    // SAFETY: as above.
    let kind = unsafe { mechanism::read_type(pointer) };
    assert!(kind.is_err() || known.is_some(), "{kind:?} is not a supported mechanism");
    let Ok(read) = read else { return };
    let read = read.expect("it is not null");
    assert_eq!(CK_ULONG::from(read.kind.0), number);
    assert!(encoded_bytes(&read) < 4 * GCM_AAD_BYTES_MAX, "a parameter without a limit");
    // The backend runs the same check: it must not panic there or here.
    std::hint::black_box(read.check().is_ok());
    check_round_trip(&read);
}

/// Reads the parameter of a message before a call and writes to it after the call.
///
/// # Panics
/// When an invariant of the module is broken.
pub fn messages(bytes: &[u8]) {
    let (fuzz, memory) = (&mut FuzzInput(bytes), &mut Memory::default());
    let (parameter, length) = parameters::message(fuzz, memory);
    let (direction, tag) = match fuzz.byte() % 5 {
        0 => (Direction::Decrypt, message_parameter::Tag::Read),
        1 => (Direction::Decrypt, message_parameter::Tag::Pending),
        2 => (Direction::Encrypt, message_parameter::Tag::Pending),
        _ => (Direction::Encrypt, message_parameter::Tag::Written),
    };
    // SAFETY: the parameter is readable for its length, and so is what it points at, or it is longer than any may be.
    let read = unsafe { message_parameter::read(parameter, length, direction, tag) };
    if direction == Direction::Decrypt {
        return;
    }
    let out = usize::from(fuzz.byte());
    let (buffer, needed) = (memory.bytes(&vec![0; out]), usize::from(fuzz.byte()));
    let mut buffer_length = out as CK_ULONG;
    let mut called = None;
    let call = |parameter: Result<_, Rv>, capacity: Result<_, Rv>| {
        let parameter: crate::session::message::Parameter = parameter?;
        let nonce = match &parameter.nonce {
            Nonce::Generated { bytes, .. } => Secret::from(vec![0xa5; usize::from(*bytes)]),
            Nonce::Provided(_) => Secret::default(),
        };
        let tag = match tag {
            message_parameter::Tag::Written => Secret::from(vec![0xb6; usize::from(parameter.tag_bits / 8)]),
            message_parameter::Tag::Pending | message_parameter::Tag::Read => Secret::default(),
        };
        let reply = length_reply(capacity?, OutputLength::Exact(needed));
        let reply = reply.unwrap_or_else(|| Reply::Bytes(Secret::from(vec![0xc7; needed])));
        called = Some(());
        Ok(EncryptedMessage { reply, nonce, tag })
    };
    let output = (buffer, &raw mut buffer_length);
    // SAFETY: as above; the buffer has `buffer_length` bytes, the tag's buffer fits every tag, and the IV has its
    // length.
    let encrypted = unsafe { message_parameter::encrypt(parameter, length, tag, output, call) };
    assert_eq!(called.is_some(), read.is_ok(), "{encrypted:?}");
    assert_eq!(encrypted.is_ok(), read.is_ok() && needed <= out, "{encrypted:?}");
}

/// Builds a list of attributes, each value with the shape of its type.
fn attributes(
    fuzz: &mut FuzzInput<'_>,
    memory: &mut Memory,
    depth: usize,
    build_buffer: BuildBuffer,
) -> Vec<CK_ATTRIBUTE> {
    let count = match fuzz.byte() {
        few @ 0..=247 => usize::from(few) % 12,
        many @ 248.. => 60 + usize::from(many - 248) * 10,
    };
    let mut list = Vec::new();
    for _ in 0..count {
        let kind = match fuzz.byte() {
            known @ 0..=239 => KINDS[usize::from(known) % KINDS.len()].0.into(),
            240.. => fuzz.number(),
        };
        let shape = u32::try_from(kind).map(|kind| AttributeType(kind).shape());
        let (pointer, length) = match shape {
            Ok(Shape::Template) if depth > 0 => nested(fuzz, memory, depth - 1, build_buffer),
            Ok(Shape::Template) => (ptr::null_mut(), fuzz.number()),
            Ok(Shape::Bool) => parts(memory.plain_structure_or(fuzz, 1, build_buffer)),
            Ok(Shape::Ulong) => parts(memory.plain_structure_or(fuzz, size_of::<CK_ULONG>(), build_buffer)),
            Ok(Shape::Bytes | Shape::Mechanisms) | Err(_) => parts(build_buffer(memory, fuzz)),
        };
        list.push(CK_ATTRIBUTE { type_: kind, pValue: pointer.cast(), ulValueLen: length });
        if fuzz.is_empty() {
            break;
        }
    }
    list
}

fn parts(buffer: Buffer) -> (*mut u8, CK_ULONG) {
    (buffer.pointer, buffer.length)
}

/// A template as a value; some are cut in the middle of an attribute.
fn nested(
    fuzz: &mut FuzzInput<'_>,
    memory: &mut Memory,
    depth: usize,
    build_buffer: BuildBuffer,
) -> (*mut u8, CK_ULONG) {
    let list = attributes(fuzz, memory, depth, build_buffer);
    let bytes = (list.len() * size_of::<CK_ATTRIBUTE>()) as CK_ULONG;
    let pointer = memory.array(list).cast();
    let cut = if fuzz.byte() > 239 { CK_ULONG::from(fuzz.byte()) } else { 0 };
    (pointer, bytes.saturating_sub(cut))
}

/// Fills a host's template with the attributes of an object.
fn check_filling(has: Template, fuzz: &mut FuzzInput<'_>) {
    let memory = &mut Memory::default();
    // The host promises true lengths for memory that is written.
    let list = attributes(fuzz, memory, 1, Memory::true_buffer);
    let requested: Vec<_> = list.iter().map(|attribute| attribute.type_).collect();
    let count = list.len() as CK_ULONG;
    let pointer = memory.array(list);
    let info =
        ObjectInfo { slot: SlotId(0), object: ObjectRef::Token(ObjectId(1)), attributes: has, owner: None };
    let values = AttributeValues::without_secrets(Arc::new(info));
    // SAFETY: `count` attributes are there; each value is null, or writable for its length.
    let result = unsafe { output::attributes(pointer, count, |_| Ok(values)) };
    assert!(!matches!(result, Err(Rv::ARGUMENTS_BAD)), "{result:?}");
    for (index, kind) in requested.into_iter().enumerate() {
        // SAFETY: below `count`.
        let attribute = unsafe { pointer.add(index) };
        // SAFETY: likewise.
        let attribute = unsafe { attribute.read_unaligned() };
        assert_eq!(attribute.type_, kind, "an attribute type was overwritten");
    }
}

/// Checks that a value is the same after encoding and decoding, or is too large for a frame.
fn check_round_trip<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let mut wire = Zeroizing::new(Vec::new());
    match frame::encode(value, &mut wire) {
        Ok(()) => assert_eq!(frame::decode::<T>(&wire[frame::HEADER_BYTES..]).as_ref(), Ok(value)),
        Err(error) => assert_eq!(error, FrameError::TooLarge),
    }
}

/// The encoded length of a mechanism.
fn encoded_bytes(mechanism: &Mechanism) -> usize {
    let mut wire = Zeroizing::new(Vec::new());
    match frame::encode(mechanism, &mut wire) {
        Ok(()) => wire.len(),
        Err(_) => usize::MAX,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Runs a fuzz target with its corpus.
    fn replay(target: &str, run: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut files = 0;
        for entry in std::fs::read_dir(&corpus).expect("the corpus is committed") {
            run(&std::fs::read(entry.expect("a file of the corpus").path()).expect("a readable file"));
            files += 1;
        }
        assert!(files > 50, "the corpus of {target} has {files} files");
    }

    #[test]
    fn the_corpus_of_templates_is_read_or_rejected() {
        replay("templates", templates);
    }

    #[test]
    fn the_corpus_of_mechanisms_is_read_or_rejected() {
        replay("mechanisms", mechanisms);
    }

    #[test]
    fn the_corpus_of_messages_is_read_or_rejected() {
        replay("messages", messages);
    }
}
