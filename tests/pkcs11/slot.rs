//! "Slot and token management functions": each ring is a slot with a token.

use cryptoki::mechanism::MechanismType;
use cryptoki::slot::Limit;
use kms_protocol::mechanism_table::{EDWARDS_BITS, TABLE, Uses};
use kms_tests::Stack;
use kms_tests::artefacts::pre_release_curves;
use kms_tests::client::{self, Client};

#[test]
fn a_ring_is_a_token() {
    let stack = Stack::strict();
    let client = Client::public(&stack);
    let info = client.pkcs11.get_slot_info(client.slot).expect("slot info is returned");
    assert!(info.token_present());
    let token = client.pkcs11.get_token_info(client.slot).expect("token info is returned");
    assert_eq!(token.label(), stack.ring());
    assert_eq!(token.serial_number().len(), 16, "{token:?}");
    assert!(
        token.token_initialized() && token.login_required() && token.user_pin_initialized() && token.rng()
    );
    assert!(!token.write_protected() && !token.user_pin_locked() && !token.user_pin_to_be_changed());
    let limits = (token.max_session_count(), token.max_rw_session_count());
    assert!(matches!(limits, (Limit::Infinite, Limit::Infinite)), "{limits:?}");
    assert!(token.min_pin_length() <= 4 && token.max_pin_length() >= 64, "{token:?}");
}

#[test]
fn slots_are_stable_and_serial_numbers_differ() {
    let mut stack = Stack::strict();
    stack.kms(&["ring", "create", "second", "--user-pin", "4321", "--so-pin", "87654321"]).ok();
    let of = |pkcs11: &cryptoki::context::Pkcs11| {
        let slots = pkcs11.get_slots_with_token().expect("slots can be listed");
        let tokens = slots.iter().map(|slot| {
            let token = pkcs11.get_token_info(*slot).expect("token info is returned");
            (slot.id(), token.label().to_owned(), token.serial_number().to_owned())
        });
        tokens.collect::<Vec<_>>()
    };
    stack.restart();
    let before = of(&client::load(&stack.module(), &stack.config()));
    assert_eq!(before.len(), 2, "{before:?}");
    assert_ne!(before[0].2, before[1].2, "serial numbers differ");
    stack.restart();
    let copy = stack.folder().join("again.so");
    std::fs::copy(stack.module(), &copy).expect("the module can be copied");
    assert_eq!(of(&client::load(&copy, &stack.config())), before);
}

#[test]
fn mechanisms_match_the_mechanism_table() {
    let stack = Stack::compat();
    let client = Client::public(&stack);
    let listed = client.pkcs11.get_mechanism_list(client.slot).expect("mechanisms can be listed");
    for row in TABLE {
        let Ok(kind) = MechanismType::try_from(u64::from(row.kind.0)) else { continue };
        assert!(listed.contains(&kind), "{} is listed", row.kind);
        let info = client.pkcs11.get_mechanism_info(client.slot, kind).expect("mechanism info is returned");
        let flags = [
            (info.encrypt(), Uses::ENCRYPT),
            (info.decrypt(), Uses::DECRYPT),
            (info.digest(), Uses::DIGEST),
            (info.sign(), Uses::SIGN),
            (info.verify(), Uses::VERIFY),
            (info.generate(), Uses::GENERATE),
            (info.generate_key_pair(), Uses::GENERATE_PAIR),
            (info.wrap(), Uses::WRAP),
            (info.unwrap(), Uses::UNWRAP),
            (info.derive(), Uses::DERIVE),
        ];
        for (flag, usage) in flags {
            assert_eq!(flag, row.uses.has(usage), "{} and {usage:?}", row.kind);
        }
        let sizes = (info.min_key_size(), info.max_key_size());
        // Without the feature `pre-release-curves`, curve 25519 is the largest of its kind.
        let left_out = row.sizes == EDWARDS_BITS && !pre_release_curves();
        let largest = if left_out { row.sizes.0 } else { row.sizes.1 };
        let expected = (row.sizes.0 as usize, largest as usize);
        assert_eq!(sizes, expected, "{}", row.kind);
        assert!(!info.hardware());
    }
}
