//! The kinds of objects: objects that differ in their values only are of one kind, and the policy decides once on each.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use kms_core::object::{Material, Object};
use kms_protocol::{Attribute, AttributeType as A, KeyType, ObjectClass, RingId, Template, Value};

use crate::menu::USES;

/// The number of a kind in [`Kinds`].
pub(crate) type KindId = usize;

/// A kind of objects.
pub(crate) struct Kind {
    pub(crate) object: Object,
    /// Everything but the uses that a template requests.
    group: usize,
    /// The uses, as bits in the order of [`USES`].
    uses: u8,
}

/// All kinds that occur.
#[derive(Default)]
pub(crate) struct Kinds {
    kinds: Vec<Kind>,
    groups: HashMap<Vec<(A, u64)>, usize>,
    ids: HashMap<(usize, u8), KindId>,
}

/// Attributes without influence on what an object may do. A session object that is otherwise like a token object does
/// what that does; readable token objects do not exist in a strict ring.
const IGNORED: [A; 7] =
    [A::KEY_GEN_MECHANISM, A::MODIFIABLE, A::DESTROYABLE, A::VALUE_LEN, A::PRIVATE, A::TRUSTED, A::TOKEN];

impl Kinds {
    /// The kind of an object with these attributes, to which those are added that come with its value.
    pub(crate) fn id(&mut self, mut attributes: Template) -> KindId {
        match (attributes.class(), attributes.key_type()) {
            (Some(ObjectClass::SECRET_KEY), _) => attributes.set(Attribute::ulong(A::VALUE_LEN, 32)),
            (_, Some(KeyType::RSA)) => attributes.set(Attribute::bytes(A::MODULUS, vec![0xff; 256])),
            (_, Some(KeyType::EC)) => {
                let p256 = kms_core::object::Curve::P256.oid_der();
                attributes.set(Attribute::bytes(A::EC_PARAMS, p256));
            }
            _ => {}
        }
        let number = |attribute: &Attribute| match &attribute.value {
            Value::Bool(value) => Some(u64::from(*value)),
            Value::Ulong(value) => Some(*value),
            Value::Template(nested) => {
                let mut hasher = DefaultHasher::new();
                format!("{nested:?}").hash(&mut hasher);
                Some(hasher.finish())
            }
            Value::Bytes(_) | Value::Mechanisms(_) => None,
        };
        let is_secret = attributes.class() == Some(ObjectClass::SECRET_KEY);
        let mut group: Vec<(A, u64)> = attributes
            .0
            .iter()
            .filter(|one| !(IGNORED.contains(&one.kind) || is_secret && USES.contains(&one.kind)))
            .filter_map(|one| Some((one.kind, number(one)?)))
            .collect();
        group.sort_unstable();
        let groups = self.groups.len();
        let group = *self.groups.entry(group).or_insert(groups);
        let uses = bits(|usage| is_secret && attributes.bool(usage) == Some(true));
        let kinds = &mut self.kinds;
        *self.ids.entry((group, uses)).or_insert_with(|| {
            let material = Material::None;
            let object = Object { id: None, ring: RingId([1; 16]), version: None, attributes, material };
            kinds.push(Kind { object, group, uses });
            kinds.len() - 1
        })
    }

    pub(crate) fn object(&self, id: KindId) -> &Object {
        &self.kinds[id].object
    }

    /// Whether whoever has an object of the one kind gains nothing from one of the other: it has no more uses, and is
    /// the same otherwise. A key that does nothing but derive can do what one with more uses cannot.
    pub(crate) fn covers(&self, one: KindId, other: KindId) -> bool {
        let (one, other) = (&self.kinds[one], &self.kinds[other]);
        let only_derives = |kind: &Kind| kind.uses == bits(|usage| usage == A::DERIVE);
        let more = one.uses & other.uses == other.uses;
        one.group == other.group && more && (only_derives(one) || !only_derives(other))
    }

    /// What of an object matters, for a report.
    pub(crate) fn text(&self, id: KindId) -> String {
        let object = &self.kinds[id].object;
        let set =
            object.attributes.0.iter().filter(|one| object.is(one.kind) && !IGNORED.contains(&one.kind));
        let names: Vec<String> = set.map(|one| one.kind.to_string().replace("CKA_", "")).collect();
        let kind = object.key_type().map_or(String::new(), |kind| kind.to_string().replace("CKK_", ""));
        format!("{kind} [{}]", names.join(" "))
    }
}

/// The uses for which this holds, as bits in the order of [`USES`].
fn bits(holds: impl Fn(A) -> bool) -> u8 {
    USES.into_iter().enumerate().map(|(at, usage)| u8::from(holds(usage)) << at).sum()
}
