//! One message of each kind, for the golden files and the property tests.

use kms_protocol::{
    Attribute, AttributeType, Counter, Kdf, KeyType, Mechanism, MechanismType, Mechanisms, Mgf, Nested,
    ObjectClass, ObjectId, ObjectRef, ObjectView, Parameters, PrfData, PrfPart, Request, RequestEnvelope,
    RequestId, Response, ResponseEnvelope, RingId, RingPolicy, Role, Rv, Salt, Secret, Slot, SlotId,
    Template, Ticket, Value,
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

/// One request of each kind. `has_sample` does not compile until it names a new kind.
pub(crate) fn requests() -> Vec<Request> {
    let key = ObjectRef::Token(ObjectId(300));
    let sealed = ObjectRef::Session(secret(b"sealed"));
    let pss = Parameters::Pss { hash: MechanismType::SHA256, mgf: Mgf::SHA256, salt_bytes: 32 };
    let oaep = Parameters::Oaep { hash: MechanismType::SHA_1, mgf: Mgf::SHA1, label: secret(b"") };
    let mut all = vec![
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
    all.extend(further_requests());
    all.extend(proven_requests());
    all.into_iter().inspect(|request| assert!(has_sample(request))).collect()
}

fn has_sample(request: &Request) -> bool {
    match request {
        Request::Slots | Request::Login { .. } | Request::InitPin { .. } | Request::SetPin { .. } => true,
        Request::Find { .. } | Request::Attributes { .. } | Request::Reveal { .. } => true,
        Request::SetAttributes { .. } | Request::Destroy { .. } => true,
        Request::Generate { .. } | Request::GeneratePair { .. } => true,
        Request::Encrypt { .. } | Request::Decrypt { .. } | Request::Sign { .. } | Request::Verify { .. } => {
            true
        }
        Request::Create { .. } | Request::Copy { .. } | Request::Wrap { .. } | Request::Unwrap { .. } => true,
        Request::Derive { .. } | Request::Encapsulate { .. } | Request::Decapsulate { .. } => true,
        Request::EncryptMessage { .. } | Request::InitToken { .. } => true,
        Request::ProveUse { .. } | Request::SignProven { .. } | Request::DecryptProven { .. } => true,
    }
}

/// The requests of version 2: those about keys that need a proof.
fn proven_requests() -> Vec<Request> {
    let token = ObjectRef::Token(ObjectId(300));
    let with = |kind, parameters| Mechanism { kind: MechanismType(kind), parameters };
    vec![
        Request::ProveUse { key: token.clone(), pin: secret(b"1234") },
        Request::SignProven {
            key: token.clone(),
            mechanism: with(0x1041, Parameters::None),
            data: secret(&[1; 32]),
            proof: secret(b"proof"),
        },
        Request::DecryptProven {
            key: token.clone(),
            mechanism: with(1, Parameters::None),
            data: secret(&[2; 256]),
            proof: secret(b"proof"),
        },
    ]
}

/// The requests that import, wrap, unwrap and derive keys, and those with further parameters.
fn further_requests() -> Vec<Request> {
    let token = ObjectRef::Token(ObjectId(300));
    let nested = Nested(vec![Attribute::bool(AttributeType::SENSITIVE, true)]);
    let with_template =
        Template(vec![Attribute { kind: AttributeType::UNWRAP_TEMPLATE, value: Value::Template(nested) }]);
    let with = |kind, parameters| Mechanism { kind: MechanismType(kind), parameters };
    let mut all = vec![
        Request::Create { template: with_template },
        Request::Copy { object: token.clone(), template: template() },
        Request::Wrap { mechanism: with(0x1054, rsa_aes()), wrapping: token.clone(), key: token.clone() },
        Request::Unwrap {
            mechanism: with(0x210b, Parameters::WrapIv(secret(&[0xa6; 4]))),
            unwrapping: token.clone(),
            wrapped: secret(&[5; 40]),
            template: template(),
        },
        Request::Encapsulate {
            mechanism: with(0x17, Parameters::None),
            public: token.clone(),
            template: template(),
        },
        Request::Decapsulate {
            mechanism: with(0x17, Parameters::None),
            private: token.clone(),
            ciphertext: secret(&[6; 32]),
            template: template(),
        },
        Request::EncryptMessage {
            key: token.clone(),
            mechanism: with(0x1087, gcm_generate()),
            data: secret(b"plaintext"),
        },
        Request::InitToken { pin: secret(b"12345678"), label: "ring".to_owned() },
    ];
    for mechanism in [
        with(0x402a, hkdf()),
        with(0x3ac, kbkdf()),
        with(
            0x1050,
            Parameters::Ecdh { kdf: Kdf::SHA256_KDF, shared: secret(b"s"), public: secret(&[4; 65]) },
        ),
        with(0x1105, Parameters::Data { iv: secret(&[1; 16]), data: secret(&[2; 16]) }),
        with(0x360, Parameters::Key(token.clone())),
        with(0x365, Parameters::Extract { bit: 21 }),
    ] {
        all.push(Request::Derive { mechanism, base: token.clone(), template: template() });
    }
    for mechanism in [
        with(0x1057, Parameters::Eddsa { prehashed: false, context: secret(b"c") }),
        with(0x1d, Parameters::MlDsa { hedge: 0, context: secret(b"c") }),
        with(0x1f, Parameters::HashMlDsa { hedge: 0, context: secret(b"c"), hash: MechanismType::SHA3_256 }),
    ] {
        all.push(Request::Sign { key: token.clone(), mechanism, data: secret(b"data") });
    }
    let ccm = Parameters::Ccm { data_bytes: 4, nonce: secret(&[1; 12]), aad: secret(b""), mac_bytes: 16 };
    let poly = Parameters::Poly1305 { nonce: secret(&[1; 12]), aad: secret(b"") };
    for mechanism in [with(0x1088, ccm), with(0x4021, poly)] {
        all.push(Request::Encrypt { key: token.clone(), mechanism, data: secret(b"data") });
    }
    all
}

fn hkdf() -> Parameters {
    let salt = Salt::Key(ObjectRef::Token(ObjectId(300)));
    Parameters::Hkdf { extract: true, expand: true, hash: MechanismType::SHA256, salt, info: secret(b"info") }
}

fn kbkdf() -> Parameters {
    let counter = Counter { bits: 32, little_endian: false };
    let data = PrfData(vec![
        PrfPart::Iteration(counter),
        PrfPart::Bytes(secret(b"label")),
        PrfPart::Length(counter),
        PrfPart::Counter(counter),
        PrfPart::Segments(counter),
    ]);
    Parameters::Kbkdf { prf: MechanismType::SHA256_HMAC, data, iv: secret(b"") }
}

fn rsa_aes() -> Parameters {
    Parameters::RsaAes { aes_bits: 256, hash: MechanismType::SHA256, mgf: Mgf::SHA256, label: secret(b"") }
}

fn gcm_generate() -> Parameters {
    Parameters::GcmGenerate {
        iv_bytes: 12,
        fixed: secret(&[1; 4]),
        fixed_bits: 32,
        aad: secret(b""),
        tag_bits: 128,
    }
}

/// A request in its envelope.
pub(crate) fn envelope(request: Request) -> RequestEnvelope {
    RequestEnvelope {
        id: RequestId([9; 16]),
        slot: SlotId(1),
        ticket: Some(Ticket(secret(b"ticket"))),
        request,
    }
}

/// One response of each kind, with a name for its file.
pub(crate) fn responses() -> Vec<(&'static str, ResponseEnvelope)> {
    let view = ObjectView { object: ObjectRef::Token(ObjectId(300)), attributes: template() };
    let slot = Slot {
        id: SlotId(1),
        ring: RingId([3; 16]),
        label: "orders".to_owned(),
        serial: "0123456789abcdef".to_owned(),
        policy: RingPolicy::Strict,
        user_pin_set: true,
        initialized: true,
    };
    let ok = |name, response| {
        assert!(response_has_sample(&response));
        (name, ResponseEnvelope { ticket: None, result: Ok(response) })
    };
    vec![
        ok("done", Response::Done),
        ok("slots", Response::Slots(vec![slot])),
        ok("logged-in", Response::LoggedIn { ticket: Ticket(secret(b"ticket")) }),
        ok("found", Response::Found { objects: vec![view.clone()], next: Some(ObjectId(300)) }),
        ok("object", Response::Object(view.clone())),
        ok("pair", Response::Pair { public: view.clone(), private: view.clone() }),
        ok("encapsulated", Response::Encapsulated { ciphertext: secret(&[7; 32]), secret: view }),
        ok("proof", Response::Proof(secret(b"proof"))),
        ok("message", Response::Message { nonce: secret(&[8; 12]), ciphertext: secret(b"ciphertext") }),
        ok("revealed", Response::Revealed(template())),
        ok("bytes", Response::Bytes(secret(b"signature"))),
        (
            "refused",
            ResponseEnvelope { ticket: Some(Ticket(secret(b"fresh"))), result: Err(Rv::USER_NOT_LOGGED_IN) },
        ),
    ]
}

fn response_has_sample(response: &Response) -> bool {
    match response {
        Response::Done | Response::Slots(_) | Response::LoggedIn { .. } | Response::Found { .. } => true,
        Response::Object(_) | Response::Pair { .. } | Response::Revealed(_) | Response::Bytes(_) => true,
        Response::Encapsulated { .. } | Response::Message { .. } | Response::Proof(_) => true,
    }
}
