//! A malicious provider and `CKA_ALWAYS_AUTHENTICATE`: a ticket alone uses no such key, and a proof is good for one use
//! of the key that it is for.

use kms_protocol::{
    Attribute, AttributeType, Mechanism, MechanismType, ObjectRef, Request, Response, Role, Rv, Secret,
    Template,
};
use kms_tests::peer::Peer;
use kms_tests::{Stack, USER_PIN};

const REFUSED: Rv = Rv::USER_NOT_LOGGED_IN;

/// Generates a P-256 pair; returns the private key.
fn key(peer: &mut Peer, always_authenticate: bool) -> ObjectRef {
    let flag = |kind, value| Attribute::bool(kind, value);
    let curve = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    let curve = Attribute::bytes(AttributeType::EC_PARAMS, curve.as_slice());
    let private = vec![
        flag(AttributeType::TOKEN, true),
        flag(AttributeType::SIGN, true),
        flag(AttributeType::DERIVE, true),
        flag(AttributeType::ALWAYS_AUTHENTICATE, always_authenticate),
    ];
    let request = Request::GeneratePair {
        mechanism: Mechanism::plain(MechanismType::EC_KEY_PAIR_GEN),
        public: Template(vec![flag(AttributeType::TOKEN, true), curve]),
        private: Template(private),
    };
    match peer.send(request) {
        Ok(Response::Pair { private, .. }) => private.object,
        other => panic!("the pair is not generated: {other:?}"),
    }
}

fn sign(peer: &mut Peer, key: &ObjectRef) -> Result<(), Rv> {
    let (key, data) = (key.clone(), Secret::from([7; 32].as_slice()));
    peer.send(Request::Sign { key, mechanism: Mechanism::plain(MechanismType::ECDSA), data }).map(drop)
}

fn sign_proven(peer: &mut Peer, key: &ObjectRef, proof: &Secret) -> Result<(), Rv> {
    let (key, data, proof) = (key.clone(), Secret::from([7; 32].as_slice()), proof.clone());
    let mechanism = Mechanism::plain(MechanismType::ECDSA);
    peer.send(Request::SignProven { key, mechanism, data, proof }).map(drop)
}

fn prove(peer: &mut Peer, key: &ObjectRef, pin: &str) -> Result<Secret, Rv> {
    let response = peer.send(Request::ProveUse { key: key.clone(), pin: Secret::from(pin.as_bytes()) })?;
    let Response::Proof(proof) = response else { panic!("not a proof: {response:?}") };
    Ok(proof)
}

#[test]
fn a_ticket_alone_uses_no_key_that_always_authenticates() {
    let mut stack = Stack::strict();
    let ring = stack.ring().to_owned();
    stack.kms(&["account", "add", "alice", "--ring", &ring, "--role", "kms.user"]).ok();
    let text = std::fs::read_to_string(stack.home().join("credentials")).expect("the PINs can be read");
    let alice = text.lines().find_map(|line| line.strip_prefix("pin = \"alice:")).expect("alice's PIN");
    let alice = format!("alice:{}", alice.trim_end_matches('"'));

    let mut peer = Peer::of(&stack);
    peer.enter(Role::User, USER_PIN).expect("the PIN is right");
    let (asking, other, ordinary) = (key(&mut peer, true), key(&mut peer, true), key(&mut peer, false));
    sign(&mut peer, &ordinary).expect("an ordinary key signs");
    let nonsense = Secret::from([9; 120].as_slice());
    for _ in 0..3 {
        assert_eq!(sign(&mut peer, &asking), Err(REFUSED));
        assert_eq!(sign_proven(&mut peer, &asking, &nonsense), Err(REFUSED));
    }
    // What providers of version 1 send does not help.
    let ticket = peer.ticket.clone();
    peer.enter(Role::Context, USER_PIN).expect("the PIN is right");
    assert_eq!(sign(&mut peer, &asking), Err(REFUSED));
    peer.ticket = ticket.clone();
    // Neither do other uses of the key.
    let derive = Request::Derive {
        mechanism: Mechanism {
            kind: MechanismType::ECDH1_DERIVE,
            parameters: kms_protocol::Parameters::Ecdh {
                kdf: kms_protocol::Kdf::NULL,
                shared: Secret::default(),
                public: Secret::from([4; 65].as_slice()),
            },
        },
        base: asking.clone(),
        template: Template(vec![Attribute::ulong(AttributeType::VALUE_LEN, 32)]),
    };
    assert_eq!(peer.send(derive).map(drop), Err(REFUSED));

    assert_eq!(prove(&mut peer, &asking, "wrong").map(drop), Err(Rv::PIN_INCORRECT));
    assert_eq!(prove(&mut peer, &asking, &alice).map(drop), Err(REFUSED), "another principal's PIN");
    assert_eq!(prove(&mut peer, &ordinary, USER_PIN).map(drop), Err(Rv::OPERATION_NOT_INITIALIZED));

    let proof = prove(&mut peer, &asking, USER_PIN).expect("the PIN is right");
    assert_eq!(sign_proven(&mut peer, &other, &proof), Err(REFUSED), "a proof for another key");
    assert_eq!(sign_proven(&mut peer, &ordinary, &proof), Err(Rv::KEY_FUNCTION_NOT_PERMITTED));
    // Another login, and none.
    let mut elsewhere = Peer::of(&stack);
    assert_eq!(sign_proven(&mut elsewhere, &asking, &proof), Err(REFUSED));
    elsewhere.enter(Role::User, &alice).expect("the PIN is right");
    assert_eq!(sign_proven(&mut elsewhere, &asking, &proof), Err(REFUSED));
    // The same login over another connection, as after a broken one.
    elsewhere.ticket = ticket;
    sign_proven(&mut elsewhere, &asking, &proof).expect("the first use");
    assert_eq!(sign_proven(&mut elsewhere, &asking, &proof), Err(REFUSED), "the second use");
    assert_eq!(sign_proven(&mut peer, &asking, &proof), Err(REFUSED), "the second use");

    // A restart makes no used proof good again, and ends no unused one.
    let unused = prove(&mut peer, &asking, USER_PIN).expect("the PIN is right");
    let ticket = peer.ticket.clone();
    stack.kill9();
    stack.start();
    let mut peer = Peer::of(&stack);
    peer.ticket = ticket;
    assert_eq!(sign_proven(&mut peer, &asking, &proof), Err(REFUSED));
    sign_proven(&mut peer, &asking, &unused).expect("the first use");
    assert_eq!(sign_proven(&mut peer, &asking, &unused), Err(REFUSED));
    stack.kms(&["audit", "verify"]).ok();
}
