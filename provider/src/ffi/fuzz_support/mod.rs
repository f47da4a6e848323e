//! What the fuzzer does at the C edge, and what the replay of its corpus does again: templates and mechanisms out of any
//! bytes, read by the functions that read those of an application. Nothing here is in the module that is shipped.

mod memory;
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

use super::{input, mechanism, message, output};
use crate::calls::message::Sealed;
use crate::calls::object::AttributeValues;
use crate::session::ObjectHandle;
use crate::session::cipher::Direction;
use crate::session::message::Nonce;
use crate::session::objects::Known;
use crate::session::reply::{Length, Reply, early};
use memory::{Choices, Memory, Value};

/// How deep templates stand in templates here: one level more than the module takes.
const DEPTH: usize = 2;

/// Types of every shape: the five that are templates themselves would seldom be met by chance.
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

/// Templates as hosts pass them in, and as they have them filled.
///
/// # Panics
/// When the module does what it must not.
pub fn templates(bytes: &[u8]) {
    let (choices, memory) = (&mut Choices(bytes), &mut Memory::default());
    let list = attributes(choices, memory, DEPTH, Memory::claim);
    let true_count = list.len() as CK_ULONG;
    let (place, count) = match choices.byte() {
        0..=223 => (memory.array(list), true_count),
        224..=239 => (ptr::null_mut(), choices.number()),
        240.. => {
            let beyond = choices.number().saturating_add(TEMPLATE_ATTRIBUTES_MAX as CK_ULONG + 1);
            (memory.array(list), beyond)
        }
    };
    // SAFETY: `count` attributes stand there, or it is more than a template may have; so for all values.
    let read = unsafe { input::template(place, count) };
    // SAFETY: as above.
    let again = unsafe { input::template(place, count) };
    assert_eq!(read, again, "a template was changed by being read");
    // SAFETY: as above.
    if let Ok(kinds) = unsafe { input::kinds(place, count) } {
        assert_eq!(kinds.len() as CK_ULONG, count);
    }
    if let Ok(template) = read {
        assert!(template.0.len() as CK_ULONG == count, "attributes were lost");
        for Attribute { kind, value } in &template.0 {
            assert!(value.has_shape(kind.shape()), "{kind:?} is read as another shape");
        }
        crosses(&template);
        filled(template, choices);
    }
}

/// Mechanisms with their parameters.
///
/// # Panics
/// When the module does what it must not.
pub fn mechanisms(bytes: &[u8]) {
    let (choices, memory) = (&mut Choices(bytes), &mut Memory::default());
    let table = mechanism_table::TABLE;
    let row = &table[usize::from(choices.byte()) % table.len()];
    let unknown = choices.byte() > 250;
    let number = if unknown { choices.number() } else { row.kind.0.into() };
    // What is no mechanism of ours may be one whose parameter is not the one laid out here.
    let known = u32::try_from(number).ok().and_then(|number| mechanism_table::row_of(MechanismType(number)));
    let wanted = known.map_or(row.parameter, |row| row.parameter);
    let (parameter, length) = parameters::lay(wanted, choices, memory);
    let given = CK_MECHANISM { mechanism: number, pParameter: parameter, ulParameterLen: length };
    let place = memory.structure(given);
    let keys = |handle: ObjectHandle| match handle.0 % 2 {
        0 => Ok(ObjectRef::Token(ObjectId(handle.0))),
        _ => Err(Rv::KEY_HANDLE_INVALID),
    };
    // SAFETY: the parameter is readable for its length and what it points at too, or it is longer than any may be.
    let read = unsafe { mechanism::mechanism_with(place, &keys) };
    // SAFETY: as above.
    let kind = unsafe { mechanism::kind(place) };
    assert!(kind.is_err() || known.is_some(), "{kind:?} is no mechanism");
    let Ok(read) = read else { return };
    let read = read.expect("it is not null");
    assert_eq!(CK_ULONG::from(read.kind.0), number);
    assert!(weight(&read) < 4 * GCM_AAD_BYTES_MAX, "a parameter without bound");
    // Whether it is legal, the backend asks again: both must be able to.
    std::hint::black_box(read.check().is_ok());
    crosses(&read);
}

/// Parameters of messages: read before a call, written after it.
///
/// # Panics
/// When the module does what it must not.
pub fn messages(bytes: &[u8]) {
    let (choices, memory) = (&mut Choices(bytes), &mut Memory::default());
    let (parameter, length) = parameters::message(choices, memory);
    let (direction, tag) = match choices.byte() % 5 {
        0 => (Direction::Decrypt, message::Tag::Checked),
        1 => (Direction::Decrypt, message::Tag::Later),
        2 => (Direction::Encrypt, message::Tag::Later),
        _ => (Direction::Encrypt, message::Tag::Made),
    };
    // SAFETY: the parameter is readable for its length and what it points at too, or it is longer than any may be.
    let read = unsafe { message::parameter(parameter, length, direction, tag) };
    if direction == Direction::Decrypt {
        return;
    }
    let out = usize::from(choices.byte());
    let (room, needed) = (memory.bytes(&vec![0; out]), usize::from(choices.byte()));
    let mut room_length = out as CK_ULONG;
    let mut made = None;
    let call = |parameter: Result<_, Rv>, room: Result<_, Rv>| {
        let parameter: crate::session::message::Parameter = parameter?;
        let nonce = match &parameter.nonce {
            Nonce::Made { bytes, .. } => Secret::from(vec![0xa5; usize::from(*bytes)]),
            Nonce::Given(_) => Secret::default(),
        };
        let tag = match tag {
            message::Tag::Made => Secret::from(vec![0xb6; usize::from(parameter.tag_bits / 8)]),
            message::Tag::Later | message::Tag::Checked => Secret::default(),
        };
        let reply = early(room?, Length::Exact(needed));
        let reply = reply.unwrap_or_else(|| Reply::Bytes(Secret::from(vec![0xc7; needed])));
        made = Some(());
        Ok(Sealed { reply, nonce, tag })
    };
    // SAFETY: as above; the room has the length that it says, the tag's place room for each tag, the vector its own.
    let sealed = unsafe { message::sealed(parameter, length, tag, room, &raw mut room_length, call) };
    assert_eq!(made.is_some(), read.is_ok(), "{sealed:?}");
    assert_eq!(sealed.is_ok(), read.is_ok() && needed <= out, "{sealed:?}");
}

/// Lays out attributes: as many as the fuzzer wants, each value by the shape of its type.
fn attributes(
    choices: &mut Choices<'_>,
    memory: &mut Memory,
    depth: usize,
    value: Value,
) -> Vec<CK_ATTRIBUTE> {
    let count = match choices.byte() {
        few @ 0..=247 => usize::from(few) % 12,
        many @ 248.. => 60 + usize::from(many - 248) * 10,
    };
    let mut list = Vec::new();
    for _ in 0..count {
        let kind = match choices.byte() {
            known @ 0..=239 => KINDS[usize::from(known) % KINDS.len()].0.into(),
            240.. => choices.number(),
        };
        let shape = u32::try_from(kind).map(|kind| AttributeType(kind).shape());
        let (place, length) = match shape {
            Ok(Shape::Template) if depth > 0 => nested(choices, memory, depth - 1, value),
            Ok(Shape::Template) => (ptr::null_mut(), choices.number()),
            Ok(Shape::Bool) => parts(memory.flat_or(choices, 1, value)),
            Ok(Shape::Ulong) => parts(memory.flat_or(choices, size_of::<CK_ULONG>(), value)),
            Ok(Shape::Bytes | Shape::Mechanisms) | Err(_) => parts(value(memory, choices)),
        };
        list.push(CK_ATTRIBUTE { type_: kind, pValue: place.cast(), ulValueLen: length });
        if choices.is_over() {
            break;
        }
    }
    list
}

fn parts(claim: memory::Claim) -> (*mut u8, CK_ULONG) {
    (claim.place, claim.length)
}

/// A template as a value. Cut in the middle of an attribute it is none.
fn nested(choices: &mut Choices<'_>, memory: &mut Memory, depth: usize, value: Value) -> (*mut u8, CK_ULONG) {
    let list = attributes(choices, memory, depth, value);
    let bytes = (list.len() * size_of::<CK_ATTRIBUTE>()) as CK_ULONG;
    let place = memory.array(list).cast();
    let cut = if choices.byte() > 239 { CK_ULONG::from(choices.byte()) } else { 0 };
    (place, bytes.saturating_sub(cut))
}

/// Answers a host that asks for the attributes of an object which has these.
fn filled(has: Template, choices: &mut Choices<'_>) {
    let memory = &mut Memory::default();
    // Where we write, the host's lengths are true: that is its promise.
    let list = attributes(choices, memory, 1, Memory::honest);
    let asked: Vec<_> = list.iter().map(|attribute| attribute.type_).collect();
    let count = list.len() as CK_ULONG;
    let place = memory.array(list);
    let known =
        Known { slot: SlotId(0), object: ObjectRef::Token(ObjectId(1)), attributes: has, owner: None };
    let looked = AttributeValues::known(Arc::new(known));
    // SAFETY: so many attributes stand there; each value is null, or writable for the length that is said.
    let answered = unsafe { output::attributes(place, count, |_| Ok(looked)) };
    assert!(!matches!(answered, Err(Rv::ARGUMENTS_BAD)), "{answered:?}");
    for (index, kind) in asked.into_iter().enumerate() {
        // SAFETY: below `count`.
        let attribute = unsafe { place.add(index) };
        // SAFETY: likewise.
        let attribute = unsafe { attribute.read_unaligned() };
        assert_eq!(attribute.type_, kind, "a type was written over");
    }
}

/// What was read goes through the wire and is the same, or it is too large for a frame.
fn crosses<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let mut wire = Zeroizing::new(Vec::new());
    match frame::encode(value, &mut wire) {
        Ok(()) => assert_eq!(frame::decode::<T>(&wire[frame::HEADER_BYTES..]).as_ref(), Ok(value)),
        Err(error) => assert_eq!(error, FrameError::TooLarge),
    }
}

/// How much memory a mechanism's parameters take.
fn weight(mechanism: &Mechanism) -> usize {
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

    /// The fuzzer's corpus, read again with every test run.
    fn replay(target: &str, exercise: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut files = 0;
        for entry in std::fs::read_dir(&corpus).expect("the corpus is committed") {
            exercise(&std::fs::read(entry.expect("a file of the corpus").path()).expect("a readable file"));
            files += 1;
        }
        assert!(files > 50, "the corpus of {target} has {files} files");
    }

    #[test]
    fn the_corpus_of_templates_is_read_or_refused() {
        replay("templates", templates);
    }

    #[test]
    fn the_corpus_of_mechanisms_is_read_or_refused() {
        replay("mechanisms", mechanisms);
    }

    #[test]
    fn the_corpus_of_messages_is_read_or_refused() {
        replay("messages", messages);
    }
}
