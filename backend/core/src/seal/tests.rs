//! Tests of the seals: what opens them, and what ends them.

use kms_protocol::{Attribute, KeyType};
use proptest::prelude::*;

use super::*;
use crate::object::RingRole;

const RING: RingId = RingId([1; 16]);

const NOW: u64 = 1_800_000_000;

fn seals() -> Seals {
    Seals::new(Zeroizing::new([9; 32]), Zeroizing::new([10; 32]))
}

fn login(name: &str, id: u8) -> Login {
    let (name, ring_role) = (name.to_owned(), RingRole::Admin);
    Login { id: LoginId([id; 16]), pin_changes: 4, objects_from: 4, ring: RING, name, ring_role }
}

fn context(login: Option<&Login>) -> SealContext<'_> {
    SealContext { ring: RING, epoch: 2, login, now: NOW }
}

fn attributes(private: bool) -> Template {
    Template(vec![
        Attribute::ulong(AttributeType::CLASS, ObjectClass::SECRET_KEY.0.into()),
        Attribute::ulong(AttributeType::KEY_TYPE, KeyType::AES.0.into()),
        Attribute::bool(AttributeType::PRIVATE, private),
        Attribute::bytes(AttributeType::LABEL, b"session key".as_slice()),
    ])
}

fn sealed_in(context: &SealContext<'_>, private: bool) -> Result<Secret, SealError> {
    let (key, bounds) = (KeyBytes::from(vec![5; 32]), SealBounds::of(context, None));
    seals().seal(context, &bounds, &attributes(private), &key, [3; NONCE_BYTES])
}

/// A seal of the login `user` 7.
fn sealed(private: bool) -> Secret {
    sealed_in(&context(Some(&login("user", 7))), private).unwrap()
}

fn open(context: &SealContext<'_>, seal: &[u8]) -> Result<(), SealError> {
    seals().open(context, seal).map(drop)
}

#[test]
fn a_seal_opens_to_what_was_sealed() {
    let user = login("user", 7);
    let opened = seals().open(&context(Some(&user)), &sealed(true)).unwrap();
    assert_eq!(opened.object.attributes, attributes(true));
    assert!(matches!(&opened.object.material, Material::Plaintext(key) if key.as_ref() == [5; 32]));
    assert_eq!((opened.object.id, opened.object.ring, opened.object.version), (None, RING, None));
    assert_eq!(opened.bounds, SealBounds::of(&context(Some(&user)), None));
    let bounds = SealBounds::of(&context(None), Some(ObjectId(77)));
    let seal =
        seals().seal(&context(None), &bounds, &attributes(false), &KeyBytes::from(vec![5; 32]), [3; 24]);
    let opened = seals().open(&context(None), &seal.unwrap()).unwrap();
    assert_eq!(opened.bounds.origin(), Some(ObjectId(77)));
}

#[test]
fn a_private_seal_opens_only_for_its_login_and_a_public_one_for_all_callers_of_the_ring() {
    let (user, again, other) = (login("user", 7), login("user", 8), login("other", 7));
    let shorter = login("use", 7);
    for (caller, expected) in [
        (Some(&user), Ok(())),
        (Some(&again), Err(SealError::Invalid)),
        (Some(&other), Err(SealError::Invalid)),
        (Some(&shorter), Err(SealError::Invalid)),
        (None, Err(SealError::Invalid)),
    ] {
        assert_eq!(open(&context(caller), &sealed(true)), expected, "{caller:?}");
        assert_eq!(open(&context(caller), &sealed(false)), Ok(()), "{caller:?}");
    }
}

#[test]
fn a_seal_ends_with_the_epoch_of_its_ring_and_opens_in_no_other() {
    let user = login("user", 7);
    for private in [true, false] {
        for (ring, epoch) in [(RING, 3), (RING, 1), (RingId([2; 16]), 2)] {
            let later = SealContext { ring, epoch, ..context(Some(&user)) };
            assert_eq!(open(&later, &sealed(private)), Err(SealError::Invalid));
        }
    }
}

#[test]
fn a_public_seal_ends_after_its_time_but_not_for_the_login_that_made_it() {
    let (user, again) = (login("user", 7), login("user", 8));
    let at = |now, login| SealContext { now, ..context(login) };
    let end = NOW + PUBLIC_SEAL_SECONDS;
    for caller in [None, Some(&again)] {
        assert_eq!(open(&at(end - 1, caller), &sealed(false)), Ok(()));
        assert_eq!(open(&at(end, caller), &sealed(false)), Err(SealError::Ended(SealEnd::Time)));
    }
    // The login's own tickets are renewed while it is used: it may be older than any ticket, and so may its objects.
    for private in [true, false] {
        assert_eq!(open(&at(end + 1_000_000_000, Some(&user)), &sealed(private)), Ok(()));
    }
    let without_login = sealed_in(&context(None), false).unwrap();
    assert_eq!(open(&at(end - 1, Some(&user)), &without_login), Ok(()));
    assert_eq!(open(&at(end, Some(&user)), &without_login), Err(SealError::Ended(SealEnd::Time)));
    // A clock that was set back ends nothing.
    assert_eq!(open(&at(0, None), &sealed(false)), Ok(()));
}

#[test]
fn a_private_seal_ends_when_the_pin_was_changed_by_another_login() {
    let changed = |pin_changes, objects_from| Login { pin_changes, objects_from, ..login("user", 7) };
    let (old, by_this, by_another) = (sealed(true), changed(5, 4), changed(5, 5));
    assert_eq!(open(&context(Some(&by_this)), &old), Ok(()));
    assert_eq!(open(&context(Some(&by_another)), &old), Err(SealError::Ended(SealEnd::Pin)));
    let new = sealed_in(&context(Some(&by_another)), true).unwrap();
    assert_eq!(open(&context(Some(&by_another)), &new), Ok(()));
    // A public object belongs to no principal.
    assert_eq!(open(&context(Some(&by_another)), &sealed(false)), Ok(()));
}

#[test]
fn a_fingerprint_depends_on_the_value_and_its_key_but_not_on_the_seal_key() {
    let new_seals = Seals::new(Zeroizing::new([8; 32]), Zeroizing::new([10; 32]));
    let other = Seals::new(Zeroizing::new([9; 32]), Zeroizing::new([8; 32]));
    assert_eq!(seals().fingerprint(&[5; 32]), new_seals.fingerprint(&[5; 32]));
    assert_ne!(seals().fingerprint(&[5; 32]), seals().fingerprint(&[5; 31]));
    assert_ne!(seals().fingerprint(&[5; 32]), other.fingerprint(&[5; 32]));
}

#[test]
fn another_key_opens_nothing() {
    let other = Seals::new(Zeroizing::new([8; 32]), Zeroizing::new([10; 32]));
    assert!(other.open(&context(Some(&login("user", 7))), &sealed(true)).is_err());
}

#[test]
fn seals_of_earlier_releases_do_not_open() {
    for private in [true, false] {
        let mut seal = sealed(private).to_vec();
        seal[0] -= 2;
        assert_eq!(open(&context(Some(&login("user", 7))), &seal), Err(SealError::Invalid));
    }
}

#[test]
fn private_objects_without_a_login_and_large_objects_are_rejected() {
    let nobody = context(None);
    assert_eq!(sealed_in(&nobody, true).map(drop), Err(SealError::NoOwner));
    let bounds = SealBounds::of(&nobody, None);
    let seal = |attributes: &Template, bytes| {
        seals().seal(&nobody, &bounds, attributes, &KeyBytes::from(vec![5; bytes]), [0; NONCE_BYTES])
    };
    assert_eq!(seal(&attributes(false), SEAL_BYTES_MAX).map(drop), Err(SealError::TooLarge));
    let data = Template(vec![Attribute::ulong(AttributeType::CLASS, ObjectClass::DATA.0.into())]);
    assert!(seals().open(&nobody, &seal(&data, DATA_BYTES_MAX).unwrap()).is_ok());
    assert_eq!(seal(&data, DATA_SEAL_BYTES_MAX).map(drop), Err(SealError::TooLarge));
    let empty = seals().open(&nobody, &seal(&Template::default(), 0).unwrap()).unwrap();
    assert!(matches!(empty.object.material, Material::None));
}

proptest! {
    #[test]
    fn a_changed_seal_does_not_open(at in 0_usize..200, change in 1_u8.., private: bool) {
        let mut seal = sealed(private).to_vec();
        let at = at % seal.len();
        seal[at] ^= change;
        prop_assert_eq!(open(&context(Some(&login("user", 7))), &seal), Err(SealError::Invalid));
    }

    #[test]
    fn other_bytes_do_not_open(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(open(&context(Some(&login("user", 7))), &bytes).is_err());
    }
}
