//! Decides whether a caller may use a key: attributes, caller and mechanism → a [`Permit`] or a return code.

use kms_protocol::{
    AttributeType, KeyType, Mechanism, MechanismType, ObjectClass, ObjectId, ObjectRef, Parameters,
    RingPolicy, Rv, Template, Usage, Value,
    mechanism_table::{Row, SizeUnit, row_of},
};

use super::proof::{self, UseClaims, covers, needs_proof};
use super::ring::{STRICT_GCM_TAG_BITS_MIN, STRICT_MAC_BITS_MIN};
use super::{derivation, is_private, is_user, wrapping};
use crate::object::{Caller, Curve, Object, RingRole};

/// Proof that policy allows a caller one operation with one key. Only this module creates it.
#[derive(Debug)]
pub struct Permit {
    object: Option<ObjectId>,
    grant: Grant,
}

#[derive(Debug)]
enum Grant {
    Use { usage: Usage, mechanism: MechanismType },
    Reveal,
    Transfer,
}

impl Permit {
    /// The token object it is for, or `None` for a session object.
    pub fn object(&self) -> Option<ObjectId> {
        self.object
    }

    /// Whether it allows this use with this mechanism.
    pub fn covers(&self, wanted: Usage, by: MechanismType) -> bool {
        match self.grant {
            Grant::Use { usage, mechanism } => usage == wanted && mechanism == by,
            Grant::Reveal | Grant::Transfer => false,
        }
    }

    /// Whether it allows reading the key's secret attributes.
    pub fn reveals(&self) -> bool {
        match self.grant {
            Grant::Reveal => true,
            Grant::Use { .. } | Grant::Transfer => false,
        }
    }

    /// A permit for moving a key's secret into another object or under another key, without returning it to the caller.
    pub(super) fn transfer(key: &Object) -> Self {
        Self { object: key.id, grant: Grant::Transfer }
    }
}

/// Decides whether a caller may use a key in this way. `Mechanism::check` has checked the mechanism's parameters.
///
/// # Errors
/// The return code that `C_EncryptInit` and the like have for the reason. `CKR_USER_NOT_LOGGED_IN` for a key with
/// `CKA_ALWAYS_AUTHENTICATE`: only [`permit_proven`] permits its use.
pub fn permit(caller: &Caller, usage: Usage, mechanism: &Mechanism, key: &Object) -> Result<Permit, Rv> {
    let permit = decide(caller, usage, mechanism, key)?;
    if needs_proof(key) { Err(Rv::USER_NOT_LOGGED_IN) } else { Ok(permit) }
}

/// As [`permit`], with the proof of a context-specific login, which a key with `CKA_ALWAYS_AUTHENTICATE` needs for each
/// use. `reference` is how the request names the key. The caller has checked that the proof is valid, and burns it
/// before the key is opened.
///
/// # Errors
/// As [`permit`]; `CKR_USER_NOT_LOGGED_IN` for a proof of another login or for another key.
pub fn permit_proven(
    caller: &Caller,
    usage: Usage,
    mechanism: &Mechanism,
    key: &Object,
    reference: &ObjectRef,
    claims: &UseClaims,
) -> Result<Permit, Rv> {
    let permit = decide(caller, usage, mechanism, key)?;
    if covers(claims, caller, key, reference) { Ok(permit) } else { Err(Rv::USER_NOT_LOGGED_IN) }
}

fn decide(caller: &Caller, usage: Usage, mechanism: &Mechanism, key: &Object) -> Result<Permit, Rv> {
    may_use(caller, &key.attributes)?;
    let row = row_of(mechanism.kind).ok_or(Rv::MECHANISM_INVALID)?;
    if !row.uses_in(caller.policy).has(usage.flag()) {
        return Err(Rv::MECHANISM_INVALID);
    }
    if !key.is(usage.attribute()) {
        return Err(Rv::KEY_FUNCTION_NOT_PERMITTED);
    }
    match key.class() {
        Some(ObjectClass::SECRET_KEY | ObjectClass::PRIVATE_KEY) => {}
        Some(ObjectClass::PUBLIC_KEY) if usage.class_of_pair() == ObjectClass::PUBLIC_KEY => {}
        Some(ObjectClass::PUBLIC_KEY) => return Err(Rv::FUNCTION_NOT_SUPPORTED),
        _ => return Err(Rv::KEY_HANDLE_INVALID),
    }
    if !key.key_type().is_some_and(|kind| row.accepts(kind)) {
        return Err(usage.type_inconsistent());
    }
    fits(row, &key.attributes).map_err(|_| usage.size_range())?;
    allows(&key.attributes, mechanism.kind)?;
    wrapping::check_wrapping_key(caller.policy, usage, key)?;
    if usage == Usage::Derive {
        derivation::check_base(caller.policy, key)?;
    }
    check_tag(caller.policy, mechanism)?;
    Ok(Permit { object: key.id, grant: Grant::Use { usage, mechanism: mechanism.kind } })
}

/// Decides whether a caller may read a key's secret attributes, or a data object's value.
///
/// # Errors
/// `CKR_USER_NOT_LOGGED_IN`, `CKR_ATTRIBUTE_SENSITIVE`, or `CKR_ATTRIBUTE_TYPE_INVALID` for an object without secrets.
pub fn permit_reveal(caller: &Caller, key: &Object) -> Result<Permit, Rv> {
    let hidden = match key.class() {
        // A missing attribute protects the secret, like one that is set to protect it.
        Some(ObjectClass::SECRET_KEY | ObjectClass::PRIVATE_KEY) => {
            key.attributes.bool(AttributeType::SENSITIVE) != Some(false)
                || key.attributes.bool(AttributeType::EXTRACTABLE) != Some(true)
                || proof::stays_inside(caller.policy, key)
        }
        // The value of a data object is what it protects: a role that may see objects and not use keys does not read
        // private ones.
        Some(ObjectClass::DATA) => false,
        _ => return Err(Rv::ATTRIBUTE_TYPE_INVALID),
    };
    match may_use(caller, &key.attributes) {
        Err(Rv::USER_NOT_LOGGED_IN) => Err(Rv::USER_NOT_LOGGED_IN),
        Err(_) => Err(Rv::ATTRIBUTE_SENSITIVE),
        Ok(()) if hidden => Err(Rv::ATTRIBUTE_SENSITIVE),
        Ok(()) => Ok(Permit { object: key.id, grant: Grant::Reveal }),
    }
}

/// Checks whether a caller may use keys at all: a private key needs a login whose role may use keys.
pub(super) fn may_use(caller: &Caller, attributes: &Template) -> Result<(), Rv> {
    if !is_private(attributes) {
        return Ok(());
    }
    if !is_user(caller) {
        return Err(Rv::USER_NOT_LOGGED_IN);
    }
    if caller.ring_role() == Some(RingRole::Reader) { Err(Rv::KEY_FUNCTION_NOT_PERMITTED) } else { Ok(()) }
}

/// Checks the key's size against the mechanism's range.
fn fits(row: &Row, attributes: &Template) -> Result<(), Rv> {
    let bytes = |kind| attributes.bytes(kind).and_then(|bytes| u64::try_from(bytes.len()).ok());
    let size = match (row.unit, attributes.key_type()) {
        (SizeUnit::None, _) => return Ok(()),
        (SizeUnit::Bytes, _) => attributes.ulong(AttributeType::VALUE_LEN),
        (SizeUnit::Bits, Some(KeyType::EC)) => {
            attributes.bytes(AttributeType::EC_PARAMS).and_then(curve_bits)
        }
        (SizeUnit::Bits, Some(KeyType::RSA)) => bytes(AttributeType::MODULUS).map(|bytes| bytes * 8),
        // These keys have one size each, or parameter sets instead of sizes: other material cannot be opened.
        (SizeUnit::Bits, _) => return Ok(()),
    };
    let (least, most) = (u64::from(row.sizes.0), u64::from(row.sizes.1));
    if size.is_some_and(|size| (least..=most).contains(&size)) { Ok(()) } else { Err(Rv::KEY_SIZE_RANGE) }
}

fn curve_bits(params: &[u8]) -> Option<u64> {
    let curve = Curve::ALL.into_iter().find(|curve| curve.oid_der() == params)?;
    Some(match curve {
        Curve::P256 => 256,
        Curve::P384 => 384,
        Curve::P521 => 521,
    })
}

/// Checks the length of an authentication tag or MAC. Each forgery of a short GCM tag also helps to find the
/// authentication key (Ferguson, "Authentication weaknesses in GCM", 2005).
fn check_tag(policy: RingPolicy, mechanism: &Mechanism) -> Result<(), Rv> {
    let (bits, least) = if let Parameters::Gcm { tag_bits, .. } | Parameters::GcmGenerate { tag_bits, .. } =
        &mechanism.parameters
    {
        (u32::from(*tag_bits), STRICT_GCM_TAG_BITS_MIN)
    } else if let Parameters::Ccm { mac_bytes, .. } = &mechanism.parameters {
        (u32::from(*mac_bytes) * 8, STRICT_MAC_BITS_MIN)
    } else if let Parameters::MacBytes(bytes) = &mechanism.parameters {
        (bytes.saturating_mul(8), STRICT_MAC_BITS_MIN)
    } else {
        return Ok(());
    };
    let short = policy == RingPolicy::Strict && bits < least;
    if short { Err(Rv::MECHANISM_PARAM_INVALID) } else { Ok(()) }
}

/// Checks `CKA_ALLOWED_MECHANISMS`. An empty list allows all mechanisms.
pub(super) fn allows(attributes: &Template, mechanism: MechanismType) -> Result<(), Rv> {
    let Some(Value::Mechanisms(allowed)) = attributes.value(AttributeType::ALLOWED_MECHANISMS) else {
        return Ok(());
    };
    let listed = |wanted: MechanismType| allowed.0.contains(&wanted);
    // The provider encrypts all parts of a padded message but the last with plain CBC (docs/decisions/0007).
    let as_pieces = mechanism == MechanismType::AES_CBC && listed(MechanismType::AES_CBC_PAD);
    if allowed.0.is_empty() || listed(mechanism) || as_pieces { Ok(()) } else { Err(Rv::MECHANISM_INVALID) }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use expect_test::expect_file;
    use kms_protocol::{Attribute, Mechanisms, Parameters, RingId, RingPolicy, Secret};

    use super::super::callers::{LOGINS, caller};
    use super::super::{generate, generate_pair};
    use super::*;
    use crate::object::{KeySpec, Material};

    fn object(attributes: Template) -> Object {
        Object {
            id: Some(ObjectId(7)),
            ring: RingId([1; 16]),
            version: None,
            attributes,
            material: Material::None,
        }
    }

    /// A token AES key made by an admin.
    fn aes(policy: RingPolicy, asked: &[Attribute]) -> Object {
        let mut template = Template(vec![
            Attribute::ulong(AttributeType::VALUE_LEN, 32),
            Attribute::bool(AttributeType::TOKEN, true),
        ]);
        template.0.extend_from_slice(asked);
        let admin = caller(Some(RingRole::Admin), policy);
        let mechanism = Mechanism::plain(MechanismType::AES_KEY_GEN);
        object(generate(&admin, &mechanism, &template).unwrap().1.attributes)
    }

    fn generic(policy: RingPolicy) -> Object {
        let template = Template(vec![
            Attribute::ulong(AttributeType::VALUE_LEN, 32),
            Attribute::bool(AttributeType::TOKEN, true),
        ]);
        let admin = caller(Some(RingRole::Admin), policy);
        let mechanism = Mechanism::plain(MechanismType::GENERIC_SECRET_KEY_GEN);
        object(generate(&admin, &mechanism, &template).unwrap().1.attributes)
    }

    #[test]
    fn a_strict_ring_rejects_short_tags_and_macs() {
        let user = |policy| caller(Some(RingRole::User), policy);
        let gcm = |tag_bits| {
            let iv = Secret::from(vec![0; 12]);
            Mechanism {
                kind: MechanismType::AES_GCM,
                parameters: Parameters::Gcm { iv, aad: Secret::default(), tag_bits },
            }
        };
        let ccm = |mac_bytes| {
            let (nonce, aad) = (Secret::from(vec![0; 12]), Secret::default());
            let parameters = Parameters::Ccm { data_bytes: 1, nonce, aad, mac_bytes };
            Mechanism { kind: MechanismType::AES_CCM, parameters }
        };
        let mac = |bytes| Mechanism {
            kind: MechanismType::SHA256_HMAC_GENERAL,
            parameters: Parameters::MacBytes(bytes),
        };
        for policy in [RingPolicy::Strict, RingPolicy::Compat] {
            let may = |usage, mechanism: &Mechanism, key: &Object| {
                permit(&user(policy), usage, mechanism, key).map(drop)
            };
            let short = if policy == RingPolicy::Strict { Err(Rv::MECHANISM_PARAM_INVALID) } else { Ok(()) };
            let (aes, generic) = (aes(policy, &[]), generic(policy));
            for usage in [Usage::Encrypt, Usage::Decrypt] {
                assert_eq!(may(usage, &gcm(88), &aes), short);
                assert_eq!(may(usage, &gcm(96), &aes), Ok(()));
                assert_eq!(may(usage, &ccm(6), &aes), short);
                assert_eq!(may(usage, &ccm(8), &aes), Ok(()));
            }
            for usage in [Usage::Sign, Usage::Verify] {
                assert_eq!(may(usage, &mac(7), &generic), short);
                assert_eq!(may(usage, &mac(8), &generic), Ok(()));
            }
        }
    }

    /// Both halves of a token pair made by an admin, complete with what comes with the keys.
    fn pair(policy: RingPolicy, kind: MechanismType) -> (Object, Object) {
        let token = Attribute::bool(AttributeType::TOKEN, true);
        let shape = if kind == MechanismType::EC_KEY_PAIR_GEN {
            Attribute::bytes(AttributeType::EC_PARAMS, Curve::P256.oid_der())
        } else {
            Attribute::ulong(AttributeType::MODULUS_BITS, 2048)
        };
        let admin = caller(Some(RingRole::Admin), policy);
        let (public, private) = (Template(vec![token.clone(), shape]), Template(vec![token]));
        let (spec, public, private) =
            generate_pair(&admin, &Mechanism::plain(kind), &public, &private).unwrap();
        // What `kms_crypto` adds to both objects of a generated pair, as far as policy reads it.
        let generated = if let KeySpec::Rsa { bits, .. } = spec {
            Attribute::bytes(AttributeType::MODULUS, vec![0xff; bits as usize / 8])
        } else {
            Attribute::bytes(AttributeType::EC_PARAMS, Curve::P256.oid_der())
        };
        let complete = |mut attributes: Template| {
            attributes.set(generated.clone());
            object(attributes)
        };
        (complete(public.attributes), complete(private.attributes))
    }

    fn gcm() -> Mechanism {
        let iv = Secret::from(vec![0; 12]);
        let parameters = Parameters::Gcm { iv, aad: Secret::default(), tag_bits: 128 };
        Mechanism { kind: MechanismType::AES_GCM, parameters }
    }

    fn oaep() -> Mechanism {
        let (hash, mgf) = (MechanismType::SHA256, kms_protocol::Mgf::SHA256);
        let parameters = Parameters::Oaep { hash, mgf, label: Secret::default() };
        Mechanism { kind: MechanismType::RSA_PKCS_OAEP, parameters }
    }

    fn cell(outcome: Result<Permit, Rv>) -> String {
        match outcome {
            Ok(_) => "✔".to_owned(),
            Err(rv) => format!("✘ {}", rv.to_string().trim_start_matches("CKR_")),
        }
    }

    /// The lines of the picture: which key, what for (none: to see its secret), by which mechanism.
    fn lines(policy: RingPolicy) -> Vec<(&'static str, Object, Option<Usage>, Mechanism)> {
        let (rsa_public, rsa) = pair(policy, MechanismType::RSA_PKCS_KEY_PAIR_GEN);
        let (_, ec) = pair(policy, MechanismType::EC_KEY_PAIR_GEN);
        let open = [
            Attribute::bool(AttributeType::SENSITIVE, false),
            Attribute::bool(AttributeType::EXTRACTABLE, true),
            Attribute::bool(AttributeType::PRIVATE, false),
        ];
        let wrapping = [Attribute::bool(AttributeType::WRAP, true)];
        let plain = Mechanism::plain;
        vec![
            ("AES", aes(policy, &[]), Some(Usage::Encrypt), gcm()),
            ("AES", aes(policy, &[]), Some(Usage::Decrypt), gcm()),
            ("AES", aes(policy, &[]), Some(Usage::Sign), plain(MechanismType::SHA256_HMAC)),
            ("AES", aes(policy, &[]), None, gcm()),
            ("AES, template asks to wrap", aes(policy, &wrapping), Some(Usage::Decrypt), gcm()),
            ("AES, template asks to be readable", aes(policy, &open), Some(Usage::Encrypt), gcm()),
            ("AES, template asks to be readable", aes(policy, &open), None, gcm()),
            ("generic secret", generic(policy), Some(Usage::Sign), plain(MechanismType::SHA256_HMAC)),
            ("generic secret", generic(policy), Some(Usage::Verify), plain(MechanismType::SHA256_HMAC)),
            ("generic secret", generic(policy), Some(Usage::Encrypt), gcm()),
            ("RSA private", rsa, Some(Usage::Sign), plain(MechanismType::SHA256_RSA_PKCS)),
            (
                "RSA private",
                pair(policy, MechanismType::RSA_PKCS_KEY_PAIR_GEN).1,
                Some(Usage::Decrypt),
                oaep(),
            ),
            (
                "RSA private",
                pair(policy, MechanismType::RSA_PKCS_KEY_PAIR_GEN).1,
                Some(Usage::Decrypt),
                plain(MechanismType::RSA_PKCS),
            ),
            ("RSA public", rsa_public, Some(Usage::Encrypt), oaep()),
            ("EC private", ec, Some(Usage::Sign), plain(MechanismType::ECDSA)),
        ]
    }

    /// The policy as a picture: every use of every kind of key by everybody, as the ring makes the keys by itself.
    /// `UPDATE_EXPECT=1 cargo test` writes it anew.
    #[test]
    fn the_matrix_is_as_committed() {
        let mut page = String::from(
            "# Who may use which key for what\n\nWritten by a test from `backend/core/src/policy`.\n",
        );
        for policy in [RingPolicy::Strict, RingPolicy::Compat] {
            writeln!(
                page,
                "\n## {policy:?} ring\n\n| key | use | no login | officer | admin | editor | user | reader |"
            )
            .unwrap();
            page.push_str("|---|---|---|---|---|---|---|---|\n");
            for (name, key, usage, mechanism) in &lines(policy) {
                let used = match usage {
                    Some(usage) => format!("{usage:?}, {}", mechanism.kind),
                    None => "reveal".to_owned(),
                };
                let cells = LOGINS.map(|login| {
                    let caller = caller(login, policy);
                    cell(match usage {
                        Some(usage) => permit(&caller, *usage, mechanism, key),
                        None => permit_reveal(&caller, key),
                    })
                });
                writeln!(page, "| {name} | {used} | {} |", cells.join(" | ")).unwrap();
            }
        }
        expect_file!["MATRIX.md"].assert_eq(&page);
    }

    #[track_caller]
    fn check(usage: Usage, asked: &[Attribute], mechanism: &Mechanism, expected: Result<(), Rv>) {
        for policy in [RingPolicy::Strict, RingPolicy::Compat] {
            let user = caller(Some(RingRole::User), policy);
            let allowed = permit(&user, usage, mechanism, &aes(policy, asked));
            assert_eq!(allowed.map(drop), expected, "{policy:?}");
        }
    }

    #[test]
    fn a_key_does_only_what_it_is_told() {
        let no = |kind| [Attribute::bool(kind, false)];
        check(Usage::Encrypt, &[], &gcm(), Ok(()));
        check(Usage::Encrypt, &no(AttributeType::ENCRYPT), &gcm(), Err(Rv::KEY_FUNCTION_NOT_PERMITTED));
        check(Usage::Decrypt, &no(AttributeType::DECRYPT), &gcm(), Err(Rv::KEY_FUNCTION_NOT_PERMITTED));
        check(Usage::Sign, &[], &gcm(), Err(Rv::MECHANISM_INVALID));
        let keygen = Mechanism::plain(MechanismType::AES_KEY_GEN);
        check(Usage::Encrypt, &[], &keygen, Err(Rv::MECHANISM_INVALID));
        check(Usage::Decrypt, &[], &oaep(), Err(Rv::KEY_TYPE_INCONSISTENT));
    }

    #[test]
    fn allowed_mechanisms_are_the_only_ones() {
        let only = |kind| Attribute {
            kind: AttributeType::ALLOWED_MECHANISMS,
            value: Value::Mechanisms(Mechanisms(vec![kind])),
        };
        let cbc = |kind| Mechanism { kind, parameters: Parameters::Iv([0; 16]) };
        let pad = [only(MechanismType::AES_CBC_PAD)];
        check(Usage::Encrypt, &[only(MechanismType::AES_GCM)], &gcm(), Ok(()));
        check(Usage::Encrypt, &pad, &gcm(), Err(Rv::MECHANISM_INVALID));
        check(Usage::Encrypt, &pad, &cbc(MechanismType::AES_CBC_PAD), Ok(()));
        check(Usage::Encrypt, &pad, &cbc(MechanismType::AES_CBC), Ok(()));
        let cbc_only = [only(MechanismType::AES_CBC)];
        check(Usage::Encrypt, &cbc_only, &cbc(MechanismType::AES_CBC_PAD), Err(Rv::MECHANISM_INVALID));
    }

    #[test]
    fn a_permit_is_for_one_key_one_use_and_one_mechanism() {
        let user = caller(Some(RingRole::User), RingPolicy::Strict);
        let permit = permit(&user, Usage::Encrypt, &gcm(), &aes(RingPolicy::Strict, &[])).unwrap();
        assert_eq!(permit.object(), Some(ObjectId(7)));
        assert!(permit.covers(Usage::Encrypt, MechanismType::AES_GCM) && !permit.reveals());
        assert!(!permit.covers(Usage::Decrypt, MechanismType::AES_GCM));
        assert!(!permit.covers(Usage::Encrypt, MechanismType::AES_CBC));
    }

    #[test]
    fn a_key_without_its_attributes_hides_its_secret() {
        let mut key = aes(RingPolicy::Compat, &[Attribute::bool(AttributeType::SENSITIVE, false)]);
        let user = caller(Some(RingRole::User), RingPolicy::Compat);
        assert_eq!(permit_reveal(&user, &key).map(drop), Err(Rv::ATTRIBUTE_SENSITIVE), "not extractable");
        key.attributes.set(Attribute::bool(AttributeType::EXTRACTABLE, true));
        assert!(permit_reveal(&user, &key).is_ok_and(|permit| permit.reveals()));
        key.attributes.0.retain(|attribute| attribute.kind != AttributeType::SENSITIVE);
        assert_eq!(permit_reveal(&user, &key).map(drop), Err(Rv::ATTRIBUTE_SENSITIVE));
    }

    #[test]
    fn private_data_is_read_by_roles_that_use_keys_only() {
        let data = |private| {
            object(Template(vec![
                Attribute::ulong(AttributeType::CLASS, ObjectClass::DATA.0.into()),
                Attribute::bool(AttributeType::TOKEN, true),
                Attribute::bool(AttributeType::PRIVATE, private),
            ]))
        };
        let read = |private| {
            LOGINS.map(|login| permit_reveal(&caller(login, RingPolicy::Strict), &data(private)).err())
        };
        let (no_login, sensitive) = (Some(Rv::USER_NOT_LOGGED_IN), Some(Rv::ATTRIBUTE_SENSITIVE));
        assert_eq!(read(true), [no_login, no_login, None, None, None, sensitive]);
        assert_eq!(read(false), [None; 6], "a public data object is public");
    }
}
