//! The published attacks on PKCS#11 tokens, each tried against a strict ring: Clulow, "On the Security of PKCS#11"
//! (2003); Delaune, Kremer and Steel, "Formal Analysis of PKCS#11" (2008); Bortolozzo, Centenaro, Focardi and Steel,
//! "Attacking and Fixing PKCS#11 Security Tokens" (2010).

use kms_protocol::AttributeType as A;
use kms_protocol::{Nested, Value};

use super::requests::{ecdh, hkdf, kwp, no, oaep, secret, yes};
use super::*;

/// A fixture with the user logged in to the strict ring, and an extractable key as the target.
fn strict(test: &str) -> Option<(Fixture, ObjectRef)> {
    let mut fixture = Fixture::new(&format!("attacks::{test}"))?;
    fixture.log_in(Role::User, "1234").unwrap();
    let target =
        fixture.generate(&[yes(A::TOKEN), yes(A::EXTRACTABLE), yes(A::ENCRYPT), yes(A::DECRYPT)]).object;
    Some((fixture, target))
}

fn wrapping_key(fixture: &mut Fixture) -> ObjectView {
    fixture.generate(&[yes(A::TOKEN), yes(A::WRAP), yes(A::UNWRAP)])
}

#[test]
fn wrap_then_decrypt() {
    let Some((mut fixture, target)) = strict("wrap_then_decrypt") else { return };
    // A key that works on data as well wraps with a subkey; `wrap_subkeys` tests those.
    let both = fixture.generate(&[yes(A::WRAP), yes(A::UNWRAP), yes(A::DECRYPT), yes(A::ENCRYPT)]);
    assert_eq!(both.attributes.bool(A::KMS_WRAP_SUBKEY), Some(true));
    let wrapping = fixture.generate(&[yes(A::WRAP), yes(A::UNWRAP), yes(A::DERIVE)]);
    assert_eq!(wrapping.attributes.bool(A::DERIVE), Some(false));
    let key = wrapping_key(&mut fixture);
    let wrapped = fixture.wrap(kwp(), &key.object, &target).unwrap();
    let ecb = Mechanism::plain(MechanismType::AES_ECB);
    let decrypt = Request::Decrypt { key: key.object.clone(), mechanism: ecb, data: wrapped };
    assert_eq!(fixture.send(decrypt), Err(Rv::KEY_FUNCTION_NOT_PERMITTED));
    for kind in [A::DECRYPT, A::ENCRYPT, A::SIGN, A::DERIVE] {
        assert_eq!(fixture.set(&key.object, &[yes(kind)]), Err(Rv::ATTRIBUTE_READ_ONLY));
        let copyable = fixture.generate(&[yes(A::WRAP), yes(A::COPYABLE)]);
        assert_eq!(fixture.copy(&copyable.object, &[yes(kind)]).map(drop), Err(Rv::TEMPLATE_INCONSISTENT));
    }
}

#[test]
fn the_same_iv_twice() {
    let Some((mut fixture, target)) = strict("the_same_iv_twice") else { return };
    let key = wrapping_key(&mut fixture).object;
    // If a known key and the target are wrapped under one IV, the XOR of the results is the XOR of their values.
    assert_eq!(fixture.wrap(gcm(), &key, &target), Err(Rv::MECHANISM_INVALID));
    let cbc = Mechanism { kind: MechanismType::AES_CBC, parameters: Parameters::Iv([0; 16]) };
    assert_eq!(fixture.wrap(cbc, &key, &target), Err(Rv::MECHANISM_INVALID));
}

#[test]
fn a_weaker_template_when_unwrapping() {
    let Some((mut fixture, target)) = strict("a_weaker_template_when_unwrapping") else { return };
    let key = wrapping_key(&mut fixture).object;
    let wrapped = fixture.wrap(kwp(), &key, &target).unwrap();
    for token in [true, false] {
        let weak = [no(A::SENSITIVE), yes(A::EXTRACTABLE), yes(A::WRAP), Attribute::bool(A::TOKEN, token)];
        let unwrapped =
            fixture.unwrap(kwp(), &key, &wrapped, &[&secret(KeyType::AES)[..], &weak].concat()).unwrap();
        let is = |kind| unwrapped.attributes.bool(kind);
        assert_eq!((is(A::SENSITIVE), is(A::EXTRACTABLE)), (Some(true), Some(false)));
        assert_eq!(fixture.wrap(kwp(), &unwrapped.object, &target), Err(Rv::KEY_NOT_WRAPPABLE));
        assert_eq!((is(A::ALWAYS_SENSITIVE), is(A::NEVER_EXTRACTABLE)), (Some(false), Some(false)));
        assert_eq!(is(A::LOCAL), Some(false));
        assert_eq!(unwrapped.attributes.ulong(A::KEY_GEN_MECHANISM), Some(u64::MAX));
        assert_eq!(fixture.reveal(&unwrapped.object), Err(Rv::ATTRIBUTE_SENSITIVE));
        assert_eq!(fixture.wrap(kwp(), &key, &unwrapped.object), Err(Rv::KEY_UNEXTRACTABLE));
        let weaker = fixture.copy(&unwrapped.object, &[yes(A::EXTRACTABLE)]).map(drop);
        assert!(matches!(weaker, Err(Rv::TEMPLATE_INCONSISTENT | Rv::ACTION_PROHIBITED)));
    }
}

#[test]
fn a_key_taken_for_one_of_another_type() {
    let Some((mut fixture, target)) = strict("a_key_taken_for_one_of_another_type") else { return };
    let key = wrapping_key(&mut fixture).object;
    let wrapped = fixture.wrap(kwp(), &key, &target).unwrap();
    let as_secret = [&secret(KeyType::GENERIC_SECRET)[..], &[no(A::SENSITIVE), yes(A::DERIVE)]].concat();
    let confused = fixture.unwrap(kwp(), &key, &wrapped, &as_secret).unwrap();
    assert_eq!(fixture.reveal(&confused.object), Err(Rv::ATTRIBUTE_SENSITIVE));
    assert_eq!(confused.attributes.bool(A::DERIVE), Some(false), "the same value could sign");
    // A half of the key could be guessed with a fraction of the work.
    let half = [&secret(KeyType::GENERIC_SECRET)[..], &[Attribute::ulong(A::VALUE_LEN, 16)]].concat();
    assert!(fixture.unwrap(kwp(), &key, &wrapped, &half).is_err());
    let mechanism = Mechanism {
        kind: MechanismType::CONCATENATE_BASE_AND_DATA,
        parameters: Parameters::Data { iv: Secret::default(), data: Secret::from(vec![0; 1]) },
    };
    let cut = [&secret(KeyType::GENERIC_SECRET)[..], &[Attribute::ulong(A::VALUE_LEN, 1)]].concat();
    assert_eq!(fixture.derive(mechanism, &confused.object, &cut).map(drop), Err(Rv::MECHANISM_INVALID));
    let derived = fixture.derive(hkdf(b"x"), &confused.object, &secret(KeyType::AES)).map(drop);
    assert_eq!(derived, Err(Rv::KEY_FUNCTION_NOT_PERMITTED));
    let base = fixture.base(&[]).object;
    let short = fixture.derive(hkdf(b"x"), &base, &cut).map(drop);
    assert_eq!(short, Err(Rv::ATTRIBUTE_VALUE_INVALID));
}

#[test]
fn imported_wrapping_keys() {
    let Some((mut fixture, target)) = strict("imported_wrapping_keys") else { return };
    let known =
        [&secret(KeyType::AES)[..], &[Attribute::bytes(A::VALUE, vec![7; 32]), yes(A::WRAP), yes(A::UNWRAP)]];
    let token = [known.concat(), vec![yes(A::TOKEN)]].concat();
    assert_eq!(fixture.create(&token).map(drop), Err(Rv::TEMPLATE_INCONSISTENT));
    let trojan = fixture.create(&known.concat()).unwrap().object;
    assert_eq!(fixture.wrap(kwp(), &trojan, &target), Err(Rv::KEY_NOT_WRAPPABLE));
    assert_eq!(fixture.copy(&trojan, &[yes(A::TOKEN)]).map(drop), Err(Rv::TEMPLATE_INCONSISTENT));
    let open = fixture.generate(&[yes(A::WRAP), no(A::SENSITIVE)]).object;
    assert_eq!(fixture.wrap(kwp(), &open, &target), Err(Rv::KEY_NOT_WRAPPABLE));
    // The attacker has the private key; only the public key is imported.
    let stranger = kms_crypto::generate(
        &kms_core::object::KeySpec::Rsa { bits: 2048, exponent: vec![1, 0, 1] },
        &SystemRandom::new(),
    );
    let numbers = Template(stranger.unwrap().public);
    let number = |kind| Attribute::bytes(kind, numbers.bytes(kind).unwrap());
    let public = [
        Attribute::ulong(A::CLASS, u64::from(ObjectClass::PUBLIC_KEY.0)),
        Attribute::ulong(A::KEY_TYPE, u64::from(KeyType::RSA.0)),
        number(A::MODULUS),
        number(A::PUBLIC_EXPONENT),
        yes(A::WRAP),
        yes(A::TOKEN),
    ];
    let trusted = [&public[..], &[yes(A::TRUSTED)]].concat();
    assert_eq!(fixture.create(&trusted).map(drop), Err(Rv::ATTRIBUTE_READ_ONLY));
    let stranger = fixture.create(&public).unwrap().object;
    assert_eq!(fixture.wrap(oaep(), &stranger, &target), Err(Rv::KEY_FUNCTION_NOT_PERMITTED));
    assert_eq!(fixture.set(&stranger, &[yes(A::TRUSTED)]), Err(Rv::ATTRIBUTE_READ_ONLY));
    // The security officer may set `CKA_TRUSTED` on it, and a key may require that.
    let user = fixture.ticket.take();
    fixture.log_in(Role::Officer, "12345678").unwrap();
    fixture.set(&stranger, &[yes(A::TRUSTED)]).unwrap();
    fixture.ticket = user;
    fixture.wrap(oaep(), &stranger, &target).unwrap();
    fixture.set(&target, &[yes(A::WRAP_WITH_TRUSTED)]).unwrap();
    assert_eq!(fixture.set(&target, &[no(A::WRAP_WITH_TRUSTED)]), Err(Rv::ATTRIBUTE_READ_ONLY));
    let key = wrapping_key(&mut fixture).object;
    assert_eq!(fixture.wrap(kwp(), &key, &target), Err(Rv::KEY_NOT_WRAPPABLE));
    fixture.wrap(oaep(), &stranger, &target).unwrap();
}

#[test]
fn a_pair_whose_private_key_is_open() {
    let Some((mut fixture, target)) = strict("a_pair_whose_private_key_is_open") else { return };
    let unwrapping = [yes(A::UNWRAP), yes(A::TOKEN)];
    let (public, private) = fixture.rsa(&[yes(A::WRAP), yes(A::TOKEN)], &unwrapping);
    let wrapped = fixture.wrap(oaep(), &public.object, &target).unwrap();
    fixture.unwrap(oaep(), &private.object, &wrapped, &secret(KeyType::AES)).unwrap();
    for private in [
        vec![yes(A::UNWRAP), no(A::SENSITIVE)],
        vec![yes(A::UNWRAP), yes(A::EXTRACTABLE)],
        vec![yes(A::UNWRAP), yes(A::DECRYPT)],
        vec![yes(A::UNWRAP), yes(A::SIGN)],
    ] {
        let (public, _) = fixture.rsa(&[yes(A::WRAP)], &private);
        assert_eq!(fixture.wrap(oaep(), &public.object, &target), Err(Rv::KEY_NOT_WRAPPABLE));
    }
}

#[test]
fn a_key_changes_its_role() {
    let Some((mut fixture, target)) = strict("a_key_changes_its_role") else { return };
    let key = wrapping_key(&mut fixture).object;
    // A wrapping key that was wrapped itself could be unwrapped as a key that decrypts.
    let leaving = fixture.generate(&[yes(A::WRAP), yes(A::EXTRACTABLE)]);
    assert_eq!(leaving.attributes.bool(A::EXTRACTABLE), Some(false));
    assert_eq!(fixture.wrap(kwp(), &key, &leaving.object), Err(Rv::KEY_UNEXTRACTABLE));
    assert_eq!(fixture.wrap(kwp(), &key, &key), Err(Rv::KEY_UNEXTRACTABLE));
    // The same key derived twice, once to wrap and once to decrypt.
    let base = fixture.base(&[]).object;
    let requested =
        |kind| [&secret(KeyType::AES)[..], &[Attribute::ulong(A::VALUE_LEN, 32), yes(kind)]].concat();
    let wraps = fixture.derive(hkdf(b"one"), &base, &requested(A::WRAP)).unwrap();
    let decrypts = fixture.derive(hkdf(b"one"), &base, &requested(A::DECRYPT)).unwrap();
    let check = |view: &ObjectView| view.attributes.bytes(A::CHECK_VALUE).map(<[u8]>::to_vec);
    assert_eq!(check(&wraps), check(&decrypts));
    assert_eq!(fixture.wrap(kwp(), &wraps.object, &target), Err(Rv::KEY_NOT_WRAPPABLE));
    // Neither a caller without a login nor the security officer gets further.
    let user = fixture.ticket.take();
    let open = [&secret(KeyType::GENERIC_SECRET)[..], &[no(A::SENSITIVE)]].concat();
    assert!(
        fixture.wrap(kwp(), &key, &target).is_err() && fixture.derive(hkdf(b"one"), &target, &open).is_err()
    );
    fixture.log_in(Role::Officer, "12345678").unwrap();
    assert!(fixture.wrap(kwp(), &key, &target).is_err() && fixture.reveal(&target).is_err());
    assert!(fixture.set(&target, &[no(A::SENSITIVE)]).is_err());
    fixture.ticket = user;
}

#[test]
fn a_derived_key_is_no_more_open_than_its_base() {
    let Some((mut fixture, _)) = strict("a_derived_key_is_no_more_open_than_its_base") else { return };
    let requested = |token| {
        let open = [no(A::SENSITIVE), yes(A::EXTRACTABLE), Attribute::bool(A::TOKEN, token)];
        [&secret(KeyType::GENERIC_SECRET)[..], &[Attribute::ulong(A::VALUE_LEN, 32)], &open].concat()
    };
    let closed = fixture.base(&[]).object;
    let derived = fixture.derive(hkdf(b"one"), &closed, &requested(false)).unwrap();
    assert_eq!(fixture.reveal(&derived.object), Err(Rv::ATTRIBUTE_SENSITIVE));
    assert_eq!(derived.attributes.bool(A::EXTRACTABLE), Some(false));
    assert_eq!(derived.attributes.bool(A::ALWAYS_SENSITIVE), Some(true));
    let open = fixture.base(&[no(A::SENSITIVE), yes(A::EXTRACTABLE)]).object;
    let derived = fixture.derive(hkdf(b"one"), &open, &requested(false)).unwrap();
    assert_eq!(fixture.reveal(&derived.object).unwrap().bytes(A::VALUE).map(<[u8]>::len), Some(32));
    assert_eq!(derived.attributes.bool(A::ALWAYS_SENSITIVE), Some(false));
    assert_eq!(
        fixture.derive(hkdf(b"one"), &open, &requested(true)).map(drop),
        Err(Rv::TEMPLATE_INCONSISTENT)
    );
    // A session key from an agreement is readable, because both sides know it; systemd and OpenSSL read it.
    let request = Request::GeneratePair {
        mechanism: Mechanism::plain(MechanismType::EC_KEY_PAIR_GEN),
        public: Template(vec![Attribute::bytes(A::EC_PARAMS, kms_core::object::Curve::P256.oid_der())]),
        private: Template(vec![yes(A::DERIVE)]),
    };
    let Response::Pair { public, private } = fixture.send(request).unwrap() else { panic!("a pair") };
    let mechanism = ecdh(public.attributes.bytes(A::EC_POINT).unwrap());
    let agreed = fixture.derive(mechanism.clone(), &private.object, &requested(false)).unwrap();
    assert_eq!(fixture.reveal(&agreed.object).unwrap().bytes(A::VALUE).map(<[u8]>::len), Some(32));
    assert_eq!(
        fixture.derive(mechanism, &private.object, &requested(true)).map(drop),
        Err(Rv::TEMPLATE_INCONSISTENT),
        "whoever may use the private key can read the secret"
    );
}

/// Shared secrets that nobody can read: the private key's template says so for all of them.
#[test]
fn a_private_key_that_agrees_on_sensitive_secrets_only() {
    let Some((mut fixture, _)) = strict("a_private_key_that_agrees_on_sensitive_secrets_only") else {
        return;
    };
    let p256 = || Attribute::bytes(A::EC_PARAMS, kms_core::object::Curve::P256.oid_der());
    let sensitive_only = |kind| {
        let nested = Nested(vec![yes(A::SENSITIVE), no(A::EXTRACTABLE)]);
        Attribute { kind, value: Value::Template(nested) }
    };
    let mut pair = |private: &[Attribute]| {
        let request = Request::GeneratePair {
            mechanism: Mechanism::plain(MechanismType::EC_KEY_PAIR_GEN),
            public: Template(vec![p256()]),
            private: Template([&[yes(A::DERIVE), yes(A::COPYABLE)], private].concat()),
        };
        let Response::Pair { public, private } = fixture.send(request).unwrap() else { panic!("a pair") };
        (ecdh(public.attributes.bytes(A::EC_POINT).unwrap()), private.object)
    };
    let (peer, _) = pair(&[]);
    let (_, fixed) = pair(&[sensitive_only(A::DERIVE_TEMPLATE)]);
    let (_, extractable) = pair(&[sensitive_only(A::DERIVE_TEMPLATE), yes(A::EXTRACTABLE)]);
    let (_, open) = pair(&[]);
    let length = Attribute::ulong(A::VALUE_LEN, 32);
    let token = [&secret(KeyType::GENERIC_SECRET)[..], &[length.clone(), yes(A::TOKEN)]].concat();
    let readable = [&secret(KeyType::GENERIC_SECRET)[..], &[length, no(A::SENSITIVE)]].concat();
    let agreed = fixture.derive(peer.clone(), &fixed, &token).unwrap();
    assert_eq!(agreed.attributes.bool(A::ALWAYS_SENSITIVE), Some(true));
    let refused = Err(Rv::TEMPLATE_INCONSISTENT);
    assert_eq!(fixture.derive(peer.clone(), &fixed, &readable).map(drop), refused);
    assert_eq!(fixture.derive(peer.clone(), &extractable, &token).map(drop), refused);
    // The template is not added later, when secrets may have been read.
    assert_eq!(fixture.copy(&open, &[sensitive_only(A::DERIVE_TEMPLATE)]).map(drop), refused);
    assert!(fixture.set(&open, &[sensitive_only(A::DERIVE_TEMPLATE)]).is_err());
}

/// HKDF is HMAC, and the KDFs of SP 800-108 are HMAC or CMAC: a key that derives does nothing else, and neither does
/// what is extracted from it.
#[test]
fn a_key_that_derives_signs_nothing() {
    let Some((mut fixture, _)) = strict("a_key_that_derives_signs_nothing") else { return };
    let uses = [A::SIGN, A::VERIFY, A::ENCRYPT, A::DECRYPT, A::WRAP, A::UNWRAP];
    for usage in uses {
        let key = fixture.generate(&[yes(usage), yes(A::DERIVE)]);
        assert_eq!(key.attributes.bool(A::DERIVE), Some(false), "{usage}");
    }
    let base = fixture.base(&[yes(A::EXTRACTABLE), no(A::ENCRYPT)]);
    assert_eq!(base.attributes.bool(A::EXTRACTABLE), Some(false));
    let length = Attribute::ulong(A::VALUE_LEN, 32);
    let signs = [&secret(KeyType::GENERIC_SECRET)[..], &[length, yes(A::SIGN), yes(A::EXTRACTABLE)]].concat();
    let Mechanism { kind, parameters } = hkdf(b"info");
    let Parameters::Hkdf { hash, salt, info, .. } = parameters else { panic!("HKDF") };
    let extract = Parameters::Hkdf { extract: true, expand: false, hash, salt, info };
    let extract = Mechanism { kind, parameters: extract };
    let extracted = fixture.derive(extract.clone(), &base.object, &signs).unwrap();
    for usage in uses {
        assert_eq!(extracted.attributes.bool(usage), Some(false), "{usage}");
    }
    assert_eq!(extracted.attributes.bool(A::DERIVE), Some(true));
    assert_eq!(extracted.attributes.bool(A::EXTRACTABLE), Some(false));
    let expanded = fixture.derive(hkdf(b"info"), &extracted.object, &signs).unwrap();
    assert_eq!(expanded.attributes.bool(A::SIGN), Some(true));
    let derives = [&signs[..4], &[yes(A::DERIVE)]].concat();
    let expanded = fixture.derive(hkdf(b"info"), &base.object, &derives).unwrap();
    assert_eq!(expanded.attributes.bool(A::DERIVE), Some(false), "what is derived does not derive");
    let copied = fixture.copy(&base.object, &[yes(A::SIGN)]).map(drop);
    assert!(copied.is_err(), "no usage is added to a copy");
}

#[test]
fn template_attributes_of_keys_apply() {
    let Some((mut fixture, target)) = strict("template_attributes_of_keys_apply") else { return };
    let template =
        |kind, inside: &[Attribute]| Attribute { kind, value: Value::Template(Nested(inside.to_vec())) };
    let key = fixture.generate(&[
        yes(A::WRAP),
        yes(A::UNWRAP),
        template(A::WRAP_TEMPLATE, &[yes(A::ENCRYPT)]),
        template(A::UNWRAP_TEMPLATE, &[no(A::DECRYPT), Attribute::bytes(A::LABEL, "unwrapped")]),
    ]);
    let wrapped = fixture.wrap(kwp(), &key.object, &target).unwrap();
    let other = fixture.generate(&[yes(A::EXTRACTABLE), yes(A::SIGN)]).object;
    assert_eq!(fixture.wrap(kwp(), &key.object, &other), Err(Rv::KEY_NOT_WRAPPABLE));
    let unwrapped = fixture.unwrap(kwp(), &key.object, &wrapped, &secret(KeyType::AES)).unwrap();
    assert_eq!(unwrapped.attributes.bytes(A::LABEL), Some(&b"unwrapped"[..]));
    assert_eq!(unwrapped.attributes.bool(A::DECRYPT), Some(false));
    let conflicting = [&secret(KeyType::AES)[..], &[yes(A::DECRYPT)]].concat();
    assert_eq!(
        fixture.unwrap(kwp(), &key.object, &wrapped, &conflicting).map(drop),
        Err(Rv::TEMPLATE_INCONSISTENT)
    );
    let base = fixture.base(&[template(A::DERIVE_TEMPLATE, &[yes(A::SIGN), no(A::DERIVE)])]);
    let length = [&secret(KeyType::GENERIC_SECRET)[..], &[Attribute::ulong(A::VALUE_LEN, 32)]].concat();
    let derived = fixture.derive(hkdf(b"one"), &base.object, &length).unwrap();
    assert_eq!(derived.attributes.bool(A::SIGN), Some(true));
    let conflicting = [&length[..], &[yes(A::DERIVE)]].concat();
    let result = fixture.derive(hkdf(b"one"), &base.object, &conflicting).map(drop);
    assert_eq!(result, Err(Rv::TEMPLATE_INCONSISTENT));
}
