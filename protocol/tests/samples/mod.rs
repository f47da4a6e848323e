//! One message of each kind, for the golden files and for the properties.

use kms_protocol::{
    Answer, Ask, Attribute, AttributeType, KeyType, Mechanism, MechanismType, Mechanisms, Mgf, ObjectClass,
    ObjectId, ObjectRef, ObjectView, Parameters, Request, RequestId, Response, RingId, RingPolicy, Role, Rv,
    Secret, Slot, SlotId, Template, Ticket, Value,
};

fn secret(bytes: &[u8]) -> Secret {
    Secret::from(bytes)
}

fn template() -> Template {
    let list = Mechanisms(vec![MechanismType::AES_GCM, MechanismType::AES_CBC]);
    Template(vec![
        Attribute::ulong(AttributeType::CLASS, u64::from(ObjectClass::SECRET_KEY.0)),
        Attribute::ulong(AttributeType::KEY_TYPE, u64::from(KeyType::AES.0)),
        Attribute::bool(AttributeType::TOKEN, true),
        Attribute::bytes(AttributeType::LABEL, b"orders".as_slice()),
        Attribute { kind: AttributeType::ALLOWED_MECHANISMS, value: Value::Mechanisms(list) },
    ])
}

fn gcm() -> Mechanism {
    let parameters = Parameters::Gcm { iv: secret(&[7; 12]), aad: secret(b"aad"), tag_bits: 128 };
    Mechanism { kind: MechanismType::AES_GCM, parameters }
}

/// Every request, by name. A new one does not compile until it stands here.
pub(crate) fn requests() -> Vec<Request> {
    let key = ObjectRef::Token(ObjectId(300));
    let sealed = ObjectRef::Session(secret(b"sealed"));
    let pss = Parameters::Pss { hash: MechanismType::SHA256, mgf: Mgf::SHA256, salt_bytes: 32 };
    let oaep = Parameters::Oaep { hash: MechanismType::SHA_1, mgf: Mgf::SHA1, label: secret(b"") };
    let all = vec![
        Request::Slots,
        Request::Login { role: Role::User, pin: secret(b"1234") },
        Request::InitPin { pin: secret(b"5678") },
        Request::SetPin { role: Role::Officer, old: secret(b"1234"), new: secret(b"5678") },
        Request::Find { template: template(), after: Some(ObjectId(5)) },
        Request::Attributes { object: key.clone() },
        Request::Reveal { object: sealed.clone() },
        Request::SetAttributes { object: key.clone(), template: template() },
        Request::Destroy { object: key.clone() },
        Request::Generate { mechanism: Mechanism::plain(MechanismType::AES_KEY_GEN), template: template() },
        Request::GeneratePair {
            mechanism: Mechanism::plain(MechanismType::EC_KEY_PAIR_GEN),
            public: Template::default(),
            private: template(),
        },
        Request::Encrypt { key: sealed, mechanism: gcm(), data: secret(b"plaintext") },
        Request::Decrypt {
            key: key.clone(),
            mechanism: Mechanism { kind: MechanismType::RSA_PKCS_OAEP, parameters: oaep },
            data: secret(b"ciphertext"),
        },
        Request::Sign {
            key: key.clone(),
            mechanism: Mechanism { kind: MechanismType::SHA256_RSA_PKCS_PSS, parameters: pss },
            data: secret(&[1; 32]),
        },
        Request::Verify {
            key,
            mechanism: Mechanism {
                kind: MechanismType::SHA256_HMAC_GENERAL,
                parameters: Parameters::MacBytes(16),
            },
            data: secret(b"data"),
            signature: secret(&[2; 16]),
        },
    ];
    all.into_iter().inspect(|request| assert!(listed(request))).collect()
}

fn listed(request: &Request) -> bool {
    match request {
        Request::Slots | Request::Login { .. } | Request::InitPin { .. } | Request::SetPin { .. } => true,
        Request::Find { .. } | Request::Attributes { .. } | Request::Reveal { .. } => true,
        Request::SetAttributes { .. } | Request::Destroy { .. } => true,
        Request::Generate { .. } | Request::GeneratePair { .. } => true,
        Request::Encrypt { .. } | Request::Decrypt { .. } | Request::Sign { .. } | Request::Verify { .. } => {
            true
        }
    }
}

/// A request as it goes over the wire.
pub(crate) fn ask(request: Request) -> Ask {
    Ask { id: RequestId([9; 16]), slot: SlotId(1), ticket: Some(Ticket(secret(b"ticket"))), request }
}

/// Every answer, with a name for its file.
pub(crate) fn answers() -> Vec<(&'static str, Answer)> {
    let view = ObjectView { object: ObjectRef::Token(ObjectId(300)), attributes: template() };
    let slot = Slot {
        id: SlotId(1),
        ring: RingId([3; 16]),
        label: "orders".to_owned(),
        serial: "0123456789abcdef".to_owned(),
        policy: RingPolicy::Strict,
        user_pin_set: true,
    };
    let ok = |name, response| {
        assert!(known(&response));
        (name, Answer { ticket: None, result: Ok(response) })
    };
    vec![
        ok("done", Response::Done),
        ok("slots", Response::Slots(vec![slot])),
        ok("logged-in", Response::LoggedIn { ticket: Ticket(secret(b"ticket")) }),
        ok("found", Response::Found { objects: vec![view.clone()], next: Some(ObjectId(300)) }),
        ok("object", Response::Object(view.clone())),
        ok("pair", Response::Pair { public: view.clone(), private: view }),
        ok("revealed", Response::Revealed(template())),
        ok("bytes", Response::Bytes(secret(b"signature"))),
        ("refused", Answer { ticket: Some(Ticket(secret(b"fresh"))), result: Err(Rv::USER_NOT_LOGGED_IN) }),
    ]
}

fn known(response: &Response) -> bool {
    match response {
        Response::Done | Response::Slots(_) | Response::LoggedIn { .. } | Response::Found { .. } => true,
        Response::Object(_) | Response::Pair { .. } | Response::Revealed(_) | Response::Bytes(_) => true,
    }
}
