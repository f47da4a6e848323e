//! Keys that work on data and wrap as well, in a strict ring (`policy::separation`).

use kms_protocol::AttributeType as A;
use kms_protocol::{Nested, Value};

use super::requests::{no, oaep, secret, yes};
use super::*;

/// The size of an AES block and of a half block, in bytes.
const BLOCK: usize = 16;
const HALF: usize = 8;

/// The initial value of RFC 3394, section 2.2.3.1.
const INITIAL: [u8; HALF] = [0xa6; HALF];

fn kw() -> Mechanism {
    Mechanism::plain(MechanismType::AES_KEY_WRAP)
}

impl Fixture {
    /// Encrypts or decrypts one block with AES-ECB.
    fn block(&mut self, key: &ObjectRef, decrypt: bool, block: [u8; BLOCK]) -> [u8; BLOCK] {
        let (key, data) = (key.clone(), Secret::from(block.as_slice()));
        let mechanism = Mechanism::plain(MechanismType::AES_ECB);
        let request = match decrypt {
            true => Request::Decrypt { key, mechanism, data },
            false => Request::Encrypt { key, mechanism, data },
        };
        bytes(self.send(request).unwrap()).as_ref().try_into().unwrap()
    }

    /// The attack: unwraps as in RFC 3394, section 2.2.2, block by block with a key that decrypts.
    fn unwrap_by_decrypting(&mut self, key: &ObjectRef, wrapped: &[u8]) -> Option<Vec<u8>> {
        let mut a: [u8; HALF] = wrapped[..HALF].try_into().unwrap();
        let mut blocks: Vec<[u8; HALF]> =
            wrapped[HALF..].chunks(HALF).map(|block| block.try_into().unwrap()).collect();
        for step in (1..=6 * blocks.len()).rev() {
            let at = (step - 1) % blocks.len();
            let mixed = u64::from_be_bytes(a) ^ u64::try_from(step).unwrap();
            let block = self.block(key, true, join(mixed.to_be_bytes(), blocks[at]));
            (a, blocks[at]) = split(block);
        }
        (a == INITIAL).then(|| blocks.concat())
    }

    /// The reverse attack: wraps as in section 2.2.1 with a key that encrypts.
    fn wrap_by_encrypting(&mut self, key: &ObjectRef, value: &[u8]) -> Vec<u8> {
        let mut a = INITIAL;
        let mut blocks: Vec<[u8; HALF]> = value.chunks(HALF).map(|block| block.try_into().unwrap()).collect();
        for step in 1..=6 * blocks.len() {
            let at = (step - 1) % blocks.len();
            let block = self.block(key, false, join(a, blocks[at]));
            (a, blocks[at]) = split(block);
            a = (u64::from_be_bytes(a) ^ u64::try_from(step).unwrap()).to_be_bytes();
        }
        [a.to_vec(), blocks.concat()].concat()
    }
}

fn join(front: [u8; HALF], back: [u8; HALF]) -> [u8; BLOCK] {
    [front, back].concat().try_into().unwrap()
}

fn split(block: [u8; BLOCK]) -> ([u8; HALF], [u8; HALF]) {
    (block[..HALF].try_into().unwrap(), block[HALF..].try_into().unwrap())
}

const BOTH: [A; 4] = [A::ENCRYPT, A::DECRYPT, A::WRAP, A::UNWRAP];

/// A fixture with the user logged in to the ring of a slot.
fn fixture(test: &str, slot: SlotId) -> Option<Fixture> {
    let mut fixture = Fixture::new(&format!("wrap_subkeys::{test}"))?;
    fixture.slot = slot;
    fixture.log_in(Role::User, "1234").unwrap();
    Some(fixture)
}

#[test]
fn the_key_itself_does_not_decrypt_what_its_subkey_wraps() {
    let Some(mut fixture) = fixture("the_key_itself_does_not_decrypt_what_its_subkey_wraps", SlotId(0))
    else {
        return;
    };
    let target = fixture.generate(&[yes(A::EXTRACTABLE)]).object;
    let both = fixture.generate(&[&BOTH.map(yes)[..], &[yes(A::EXTRACTABLE)]].concat());
    let is = |kind| both.attributes.bool(kind);
    assert_eq!((is(A::KMS_WRAP_SUBKEY), is(A::EXTRACTABLE)), (Some(true), Some(false)));
    let key = both.object;
    let wrapped = fixture.wrap(kw(), &key, &target).unwrap();
    // Its copies, also those with fewer uses, have the same wrapping subkey.
    let decrypts = fixture.copy(&key, &[no(A::WRAP), no(A::UNWRAP)]).unwrap().object;
    let unwraps = fixture.copy(&key, &[no(A::ENCRYPT), no(A::DECRYPT)]).unwrap().object;
    for key in [&key, &decrypts] {
        assert_eq!(fixture.unwrap_by_decrypting(key, &wrapped), None);
        let forged = Secret::from(fixture.wrap_by_encrypting(key, &[7; 32]));
        let forged = fixture.unwrap(kw(), &unwraps, &forged, &secret(KeyType::AES)).map(drop);
        assert_eq!(forged, Err(Rv::WRAPPED_KEY_INVALID));
    }
    for key in [&key, &unwraps] {
        let back =
            fixture.unwrap(kw(), key, &wrapped, &[&secret(KeyType::AES)[..], &[no(A::SENSITIVE)]].concat());
        assert_eq!(back.unwrap().attributes.bool(A::SENSITIVE), Some(true));
    }
    for copied in [A::ENCRYPT, A::DECRYPT, A::DERIVE] {
        assert_eq!(fixture.copy(&unwraps, &[yes(copied)]).map(drop), Err(Rv::TEMPLATE_INCONSISTENT));
    }
    assert_eq!(fixture.copy(&key, &[no(A::KMS_WRAP_SUBKEY)]).map(drop), Err(Rv::ATTRIBUTE_READ_ONLY));
    assert_eq!(fixture.set(&key, &[no(A::KMS_WRAP_SUBKEY)]).map(drop), Err(Rv::ATTRIBUTE_READ_ONLY));
}

/// The same calls on a key without a subkey. They disclose the value here, so they would above.
#[test]
fn the_attack_works_in_a_compat_ring() {
    let Some(mut fixture) = fixture("the_attack_works_in_a_compat_ring", SlotId(1)) else { return };
    let target = fixture.generate(&[yes(A::EXTRACTABLE), no(A::SENSITIVE)]).object;
    let value = fixture.reveal(&target).unwrap().bytes(A::VALUE).unwrap().to_vec();
    let both = fixture.generate(&BOTH.map(yes));
    assert_eq!(both.attributes.bool(A::KMS_WRAP_SUBKEY), None);
    let wrapped = fixture.wrap(kw(), &both.object, &target).unwrap();
    assert_eq!(fixture.unwrap_by_decrypting(&both.object, &wrapped), Some(value.clone()));
    assert_eq!(fixture.wrap_by_encrypting(&both.object, &value), wrapped.as_ref());
}

#[test]
fn a_key_without_a_subkey_wraps_open_keys_only() {
    let Some(mut fixture) = fixture("a_key_without_a_subkey_wraps_open_keys_only", SlotId(0)) else { return };
    let hidden = fixture.generate(&[yes(A::EXTRACTABLE)]).object;
    let open = fixture.generate(&[yes(A::EXTRACTABLE), no(A::SENSITIVE)]).object;
    let value = fixture.reveal(&open).unwrap().bytes(A::VALUE).unwrap().to_vec();
    let value_of_caller = [Attribute::bytes(A::VALUE, vec![7; 32])];
    let keys = [
        fixture.generate(&[&BOTH.map(yes)[..], &[no(A::SENSITIVE), yes(A::EXTRACTABLE)]].concat()),
        fixture.create(&[&secret(KeyType::AES)[..], &BOTH.map(yes), &value_of_caller].concat()).unwrap(),
    ];
    for key in keys {
        assert_eq!(fixture.wrap(kw(), &key.object, &hidden), Err(Rv::KEY_NOT_WRAPPABLE));
        let wrapped = fixture.wrap(kw(), &key.object, &open).unwrap();
        let requested = [&secret(KeyType::AES)[..], &[no(A::SENSITIVE), yes(A::EXTRACTABLE)]].concat();
        let back = fixture.unwrap(kw(), &key.object, &wrapped, &requested).unwrap();
        assert_eq!(fixture.reveal(&back.object).unwrap().bytes(A::VALUE), Some(&*value));
        let token = fixture.unwrap(kw(), &key.object, &wrapped, &[&requested[..], &[yes(A::TOKEN)]].concat());
        assert_eq!(token.map(drop), Err(Rv::TEMPLATE_INCONSISTENT), "a token key in plaintext");
        // Giving up its other uses does not let it wrap more keys.
        let copy =
            fixture.copy(&key.object, &[no(A::ENCRYPT), no(A::DECRYPT), no(A::DERIVE)]).unwrap().object;
        assert_eq!(fixture.wrap(kw(), &copy, &hidden), Err(Rv::KEY_NOT_WRAPPABLE));
        fixture.set(&key.object, &[no(A::ENCRYPT), no(A::DECRYPT), no(A::DERIVE)]).unwrap();
        assert_eq!(fixture.wrap(kw(), &key.object, &hidden), Err(Rv::KEY_NOT_WRAPPABLE));
    }
    let (public, private) = fixture.rsa(&[yes(A::WRAP)], &[yes(A::UNWRAP), yes(A::DECRYPT)]);
    assert_eq!(fixture.wrap(oaep(), &public.object, &hidden), Err(Rv::KEY_NOT_WRAPPABLE));
    let wrapped = fixture.wrap(oaep(), &public.object, &open).unwrap();
    fixture.unwrap(oaep(), &private.object, &wrapped, &secret(KeyType::AES)).unwrap();
}

#[test]
fn a_key_whose_wrap_template_excludes_open_keys_does_not_wrap() {
    let Some(mut fixture) = fixture("a_key_whose_wrap_template_excludes_open_keys_does_not_wrap", SlotId(0))
    else {
        return;
    };
    let hidden = Nested(vec![yes(A::SENSITIVE)]);
    let template = [
        yes(A::WRAP),
        no(A::SENSITIVE),
        Attribute { kind: A::WRAP_TEMPLATE, value: Value::Template(hidden) },
    ];
    assert_eq!(fixture.generate(&template).attributes.bool(A::WRAP), Some(false));
}
