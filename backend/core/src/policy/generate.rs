//! Decisions on `C_GenerateKey` and `C_GenerateKeyPair`: mechanism and templates → the specification of the key, and
//! the attributes of its objects.

use kms_protocol::{
    Attribute, AttributeType, KeyType, Mechanism, ObjectClass, RingPolicy, Rv, Template,
    mechanism_table::{EC_BITS, GENERIC_BYTES, RSA_BITS, Uses, is_hmac_key, row_of},
};

use super::attributes::Functions;
use super::defaults::{KeySource, may_create, with_computed_attributes};
use super::ring;
use super::separation;
use super::template::{Creation, complete};
use crate::object::{Caller, Curve, Draft, EdwardsMontgomery, KeySpec, MlDsaSet, MlKemSet};

/// The public exponent when the template names none, big endian.
const EXPONENT: &[u8] = &[1, 0, 1];

/// The maximum length of a public exponent, in bits: the libraries accept no longer one.
const EXPONENT_BITS_MAX: u32 = 33;

/// The length of a ChaCha20 key, in bytes.
const CHACHA20_BYTES: u64 = 32;

/// Decides on a secret key: its specification, and the attributes of its object.
///
/// # Errors
/// The errors of the attribute table, and `CKR_USER_NOT_LOGGED_IN`, `CKR_TOKEN_WRITE_PROTECTED` or
/// `CKR_FUNCTION_REJECTED` for a caller that may not create it.
pub fn generate(caller: &Caller, mechanism: &Mechanism, template: &Template) -> Result<(KeySpec, Draft), Rv> {
    let kind = kind_of(mechanism, Uses::GENERATE)?;
    let creation =
        Creation { function: Functions::GENERATE, class: ObjectClass::SECRET_KEY, kind: Some(kind) };
    let attributes = complete(creation, caller, template)?;
    let spec = secret_spec(caller.policy, kind, attributes.ulong(AttributeType::VALUE_LEN))?;
    may_create(caller, creation, &attributes)?;
    Ok((spec, with_computed_attributes(creation, attributes, KeySource::Generated(mechanism.kind))))
}

/// Decides on a key pair: its specification, and the attributes of its public and its private object.
///
/// # Errors
/// As [`generate`].
pub fn generate_pair(
    caller: &Caller,
    mechanism: &Mechanism,
    public: &Template,
    private: &Template,
) -> Result<(KeySpec, Draft, Draft), Rv> {
    let kind = kind_of(mechanism, Uses::GENERATE_PAIR)?;
    let creation = |class| Creation { function: Functions::GENERATE, class, kind: Some(kind) };
    let (of_public, of_private) = (creation(ObjectClass::PUBLIC_KEY), creation(ObjectClass::PRIVATE_KEY));
    let mut public_key = complete(of_public, caller, public)?;
    let mut private_key = complete(of_private, caller, private)?;
    if caller.policy == RingPolicy::Strict {
        separation::restrict_public_wrapping(&private_key, &mut public_key);
    }
    // If both templates name the curve or the parameter set, they must agree.
    for kind in [AttributeType::EC_PARAMS, AttributeType::PARAMETER_SET] {
        let (in_public, in_private) = (public_key.value(kind), private_key.value(kind));
        if in_public.is_some() && in_private.is_some() && in_public != in_private {
            return Err(Rv::TEMPLATE_INCONSISTENT);
        }
    }
    let spec = pair_spec(caller.policy, kind, &public_key)?;
    may_create(caller, of_public, &public_key)?;
    may_create(caller, of_private, &private_key)?;
    share_id(&mut public_key, &mut private_key);
    let source = KeySource::Generated(mechanism.kind);
    Ok((
        spec,
        with_computed_attributes(of_public, public_key, source),
        with_computed_attributes(of_private, private_key, source),
    ))
}

/// The specification of a key's next version: that of its current version, a secret or private key with the attributes
/// `current`.
///
/// # Errors
/// `CKR_KEY_TYPE_INCONSISTENT` for an object of which there can be no next version.
pub fn next_version_spec(current: &Template) -> Result<KeySpec, Rv> {
    let kind = current.key_type().ok_or(Rv::KEY_TYPE_INCONSISTENT)?;
    let spec = match current.class() {
        Some(ObjectClass::SECRET_KEY) => {
            secret_spec(RingPolicy::Compat, kind, current.ulong(AttributeType::VALUE_LEN))
        }
        Some(ObjectClass::PRIVATE_KEY) => {
            let mut template = current.clone();
            let bits =
                current.bytes(AttributeType::MODULUS).and_then(|bytes| u64::try_from(bytes.len() * 8).ok());
            template.0.extend(bits.map(|bits| Attribute::ulong(AttributeType::MODULUS_BITS, bits)));
            pair_spec(RingPolicy::Compat, kind, &template)
        }
        _ => Err(Rv::KEY_TYPE_INCONSISTENT),
    };
    spec.map_err(|_| Rv::KEY_TYPE_INCONSISTENT)
}

/// The type of key that a mechanism generates.
fn kind_of(mechanism: &Mechanism, usage: Uses) -> Result<KeyType, Rv> {
    let row = row_of(mechanism.kind).filter(|row| row.uses.has(usage)).ok_or(Rv::MECHANISM_INVALID)?;
    row.key.ok_or(Rv::MECHANISM_INVALID)
}

fn secret_spec(policy: RingPolicy, kind: KeyType, length: Option<u64>) -> Result<KeySpec, Rv> {
    if kind == KeyType::CHACHA20 {
        let right = length.is_none_or(|length| length == CHACHA20_BYTES);
        return if right { Ok(KeySpec::ChaCha20) } else { Err(Rv::ATTRIBUTE_VALUE_INVALID) };
    }
    let length = length.ok_or(Rv::TEMPLATE_INCOMPLETE)?;
    let bytes = u32::try_from(length).map_err(|_| Rv::ATTRIBUTE_VALUE_INVALID)?;
    match kind {
        KeyType::AES if matches!(bytes, 16 | 24 | 32) => Ok(KeySpec::Aes { bytes }),
        KeyType::AES => Err(Rv::ATTRIBUTE_VALUE_INVALID),
        kind if kind == KeyType::GENERIC_SECRET || kind == KeyType::HKDF || is_hmac_key(kind) => {
            let too_short = policy == RingPolicy::Strict && length < ring::STRICT_GENERIC_BYTES_MIN;
            if too_short || !(GENERIC_BYTES.0..=GENERIC_BYTES.1).contains(&bytes) {
                return Err(Rv::ATTRIBUTE_VALUE_INVALID);
            }
            Ok(KeySpec::Generic { bytes })
        }
        _ => Err(Rv::MECHANISM_INVALID),
    }
}

fn pair_spec(policy: RingPolicy, kind: KeyType, public: &Template) -> Result<KeySpec, Rv> {
    let params = || public.bytes(AttributeType::EC_PARAMS).ok_or(Rv::TEMPLATE_INCOMPLETE);
    let set = || public.ulong(AttributeType::PARAMETER_SET).ok_or(Rv::TEMPLATE_INCOMPLETE);
    match kind {
        KeyType::RSA => rsa_spec(policy, public),
        KeyType::EC => Ok(KeySpec::Ec { curve: curve_of(params()?)? }),
        KeyType::EC_EDWARDS | KeyType::EC_MONTGOMERY => EdwardsMontgomery::of_params(params()?)
            .filter(|curve| curve.key_type() == kind)
            .map(|curve| KeySpec::EdwardsMontgomery { curve })
            .ok_or(Rv::CURVE_NOT_SUPPORTED),
        KeyType::ML_KEM => MlKemSet::of_number(set()?)
            .map(|set| KeySpec::MlKem { set })
            .ok_or(Rv::PARAMETER_SET_NOT_SUPPORTED),
        KeyType::ML_DSA => MlDsaSet::of_number(set()?)
            .map(|set| KeySpec::MlDsa { set })
            .ok_or(Rv::PARAMETER_SET_NOT_SUPPORTED),
        _ => Err(Rv::MECHANISM_INVALID),
    }
}

/// Gives both keys of a pair one `CKA_ID` if only one template names it: applications find one key by the other's.
fn share_id(public: &mut Template, private: &mut Template) {
    let id_of = |key: &Template| key.bytes(AttributeType::ID).unwrap_or_default().to_vec();
    let (of_public, of_private) = (id_of(public), id_of(private));
    match (of_public.is_empty(), of_private.is_empty()) {
        (true, false) => public.set(Attribute::bytes(AttributeType::ID, of_private)),
        (false, true) => private.set(Attribute::bytes(AttributeType::ID, of_public)),
        (true, true) | (false, false) => {}
    }
}

fn rsa_spec(policy: RingPolicy, public: &Template) -> Result<KeySpec, Rv> {
    let bits = public.ulong(AttributeType::MODULUS_BITS).ok_or(Rv::TEMPLATE_INCOMPLETE)?;
    let bits = u32::try_from(bits).map_err(|_| Rv::ATTRIBUTE_VALUE_INVALID)?;
    if !(RSA_BITS.0..=RSA_BITS.1).contains(&bits) || !matches!(bits, 2048 | 3072 | 4096) {
        return Err(Rv::ATTRIBUTE_VALUE_INVALID);
    }
    let exponent = public.bytes(AttributeType::PUBLIC_EXPONENT).unwrap_or(EXPONENT);
    let number = integer(exponent).ok_or(Rv::ATTRIBUTE_VALUE_INVALID)?;
    let least = match policy {
        RingPolicy::Strict => ring::STRICT_EXPONENT_MIN,
        RingPolicy::Compat => 3,
    };
    if number < least || number.is_multiple_of(2) || number >> EXPONENT_BITS_MAX != 0 {
        return Err(Rv::ATTRIBUTE_VALUE_INVALID);
    }
    Ok(KeySpec::Rsa { bits, exponent: unpadded(exponent).to_vec() })
}

/// A big-endian integer without its leading zeros.
fn unpadded(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    &bytes[zeros..]
}

/// The value of a big-endian integer; `None` if it has more than 64 bits.
pub(super) fn integer(bytes: &[u8]) -> Option<u64> {
    let bytes = unpadded(bytes);
    let fits = bytes.len() <= size_of::<u64>();
    fits.then(|| bytes.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
}

fn curve_of(params: &[u8]) -> Result<Curve, Rv> {
    let (least, most) = EC_BITS;
    Curve::ALL
        .into_iter()
        .find(|curve| curve.oid_der() == params)
        .filter(|curve| {
            (least / 8..=most.div_ceil(8)).contains(&u32::try_from(curve.field_bytes()).unwrap_or(0))
        })
        .ok_or(Rv::CURVE_NOT_SUPPORTED)
}

#[cfg(test)]
mod tests {
    use kms_protocol::MechanismType;

    use super::super::callers::{LOGINS, caller};
    use super::super::template::nested;
    use super::*;
    use crate::object::RingRole;

    fn flag(kind: AttributeType, value: bool) -> Attribute {
        Attribute::bool(kind, value)
    }

    fn admin(policy: RingPolicy) -> Caller {
        caller(Some(RingRole::Admin), policy)
    }

    fn aes(policy: RingPolicy, template: &[Attribute]) -> Result<(KeySpec, Draft), Rv> {
        generate(&admin(policy), &Mechanism::plain(MechanismType::AES_KEY_GEN), &Template(template.to_vec()))
    }

    fn rsa(
        policy: RingPolicy,
        public: &[Attribute],
        private: &[Attribute],
    ) -> Result<(KeySpec, Template, Template), Rv> {
        let mechanism = Mechanism::plain(MechanismType::RSA_PKCS_KEY_PAIR_GEN);
        let (public, private) = (Template(public.to_vec()), Template(private.to_vec()));
        generate_pair(&admin(policy), &mechanism, &public, &private)
            .map(|(spec, public, private)| (spec, public.attributes, private.attributes))
    }

    fn length(bytes: u64) -> Attribute {
        Attribute::ulong(AttributeType::VALUE_LEN, bytes)
    }

    fn bits(bits: u64) -> Attribute {
        Attribute::ulong(AttributeType::MODULUS_BITS, bits)
    }

    /// The template that `pkcs11-tool --keygen --key-type AES:32 --label a` sends (OpenSC 0.23, recorded by
    /// pkcs11-spy).
    fn pkcs11_tool_aes() -> Vec<Attribute> {
        vec![
            Attribute::ulong(AttributeType::CLASS, 4),
            flag(AttributeType::TOKEN, true),
            Attribute::ulong(AttributeType::KEY_TYPE, 0x1f),
            flag(AttributeType::SENSITIVE, false),
            flag(AttributeType::EXTRACTABLE, false),
            flag(AttributeType::PRIVATE, false),
            flag(AttributeType::ENCRYPT, true),
            flag(AttributeType::DECRYPT, true),
            length(32),
            Attribute::bytes(AttributeType::LABEL, "a"),
        ]
    }

    #[test]
    fn templates_of_pkcs11_tool_are_accepted_in_both_rings() {
        for policy in [RingPolicy::Strict, RingPolicy::Compat] {
            let (spec, draft) = aes(policy, &pkcs11_tool_aes()).unwrap();
            assert_eq!(spec, KeySpec::Aes { bytes: 32 });
            assert!(draft.token);
            let strict = policy == RingPolicy::Strict;
            assert_eq!(draft.attributes.bool(AttributeType::SENSITIVE), Some(strict));
            assert_eq!(draft.attributes.bool(AttributeType::ALWAYS_SENSITIVE), Some(strict));
            assert_eq!(draft.attributes.bool(AttributeType::NEVER_EXTRACTABLE), Some(true));
            assert_eq!(draft.attributes.bool(AttributeType::LOCAL), Some(true));
            assert_eq!(draft.attributes.ulong(AttributeType::KEY_GEN_MECHANISM), Some(0x1080));
            assert_eq!(draft.attributes.bool(AttributeType::WRAP), Some(!strict));
        }
        // The template requests encryption for a generic secret, which must still sign.
        let mut template = pkcs11_tool_aes();
        template[2] = Attribute::ulong(AttributeType::KEY_TYPE, 0x10);
        let mechanism = Mechanism::plain(MechanismType::GENERIC_SECRET_KEY_GEN);
        let (_, draft) = generate(&admin(RingPolicy::Strict), &mechanism, &Template(template)).unwrap();
        assert_eq!(draft.attributes.bool(AttributeType::SIGN), Some(true));
    }

    #[test]
    fn templates_of_vault_give_a_key_with_a_wrapping_subkey_in_a_strict_ring() {
        let all =
            [AttributeType::ENCRYPT, AttributeType::DECRYPT, AttributeType::WRAP, AttributeType::UNWRAP];
        let mut template = vec![length(32), flag(AttributeType::TOKEN, true)];
        template.extend(all.map(|kind| flag(kind, true)));
        for (policy, has_subkey) in [(RingPolicy::Strict, Some(true)), (RingPolicy::Compat, None)] {
            let (_, draft) = aes(policy, &template).unwrap();
            assert_eq!(all.map(|kind| draft.attributes.bool(kind)), [Some(true); 4]);
            assert_eq!(draft.attributes.bool(AttributeType::KMS_WRAP_SUBKEY), has_subkey);
        }
    }

    #[test]
    fn a_wrapping_key_wraps_only() {
        let template = [length(32), flag(AttributeType::WRAP, true), flag(AttributeType::UNWRAP, true)];
        let (_, draft) = aes(RingPolicy::Strict, &template).unwrap();
        assert_eq!(draft.attributes.bool(AttributeType::WRAP), Some(true));
        assert_eq!(draft.attributes.bool(AttributeType::ENCRYPT), Some(false));
    }

    #[test]
    fn a_pair_that_decrypts_wraps_only_readable_keys() {
        // pkcs11-provider's templates: everything RSA can do, for both keys.
        let public = [bits(2048), flag(AttributeType::ENCRYPT, true), flag(AttributeType::WRAP, true)];
        let private = [flag(AttributeType::DECRYPT, true), flag(AttributeType::UNWRAP, true)];
        let (_, strict_public, strict_private) = rsa(RingPolicy::Strict, &public, &private).unwrap();
        let readable = [flag(AttributeType::SENSITIVE, false), flag(AttributeType::EXTRACTABLE, true)];
        assert_eq!(strict_public.bool(AttributeType::WRAP), Some(true));
        assert_eq!(nested(&strict_public, AttributeType::WRAP_TEMPLATE), readable);
        assert_eq!(strict_private.bool(AttributeType::UNWRAP), Some(true));
        assert_eq!(strict_private.bool(AttributeType::DECRYPT), Some(true));
        let (_, compat_public, _) = rsa(RingPolicy::Compat, &public, &private).unwrap();
        assert!(nested(&compat_public, AttributeType::WRAP_TEMPLATE).is_empty());
        let unwrapping = [flag(AttributeType::UNWRAP, true)];
        let (_, public, private) = rsa(RingPolicy::Strict, &public, &unwrapping).unwrap();
        assert!(nested(&public, AttributeType::WRAP_TEMPLATE).is_empty());
        assert_eq!(private.bool(AttributeType::DECRYPT), Some(false));
    }

    #[test]
    fn a_key_that_requires_the_pin_for_each_use_is_private() {
        let requested = [flag(AttributeType::ALWAYS_AUTHENTICATE, true), flag(AttributeType::PRIVATE, false)];
        assert_eq!(rsa(RingPolicy::Compat, &[bits(2048)], &requested).err(), Some(Rv::TEMPLATE_INCONSISTENT));
        assert!(rsa(RingPolicy::Compat, &[bits(2048)], &requested[..1]).is_ok());
    }

    #[test]
    fn lengths_and_exponents_are_checked() {
        let rejected = Some(Rv::ATTRIBUTE_VALUE_INVALID);
        for wrong in [0, 8, 17, 33, u64::MAX] {
            assert_eq!(aes(RingPolicy::Compat, &[length(wrong)]).err(), rejected);
        }
        assert_eq!(aes(RingPolicy::Compat, &[]).err(), Some(Rv::TEMPLATE_INCOMPLETE));
        for wrong in [0, 512, 1024, 2047, 2056, 8192, u64::MAX] {
            assert_eq!(rsa(RingPolicy::Compat, &[bits(wrong)], &[]).err(), rejected);
        }
        assert_eq!(rsa(RingPolicy::Compat, &[], &[]).err(), Some(Rv::TEMPLATE_INCOMPLETE));
        let exponent = |policy, bytes: &[u8]| {
            let named = Attribute::bytes(AttributeType::PUBLIC_EXPONENT, bytes);
            rsa(policy, &[bits(2048), named], &[]).map(|(spec, ..)| spec)
        };
        let usual = KeySpec::Rsa { bits: 2048, exponent: vec![1, 0, 1] };
        assert_eq!(exponent(RingPolicy::Strict, &[0, 0, 1, 0, 1]), Ok(usual));
        assert!(exponent(RingPolicy::Compat, &[3]).is_ok());
        assert_eq!(exponent(RingPolicy::Strict, &[3]).err(), rejected);
        for wrong in [&[][..], &[0], &[1], &[1, 0, 0], &[3, 0, 0, 0, 1], &[1; 9]] {
            assert_eq!(exponent(RingPolicy::Compat, wrong).err(), rejected, "{wrong:?}");
        }
    }

    #[test]
    fn both_keys_of_a_pair_have_one_id_and_one_curve() {
        let mechanism = Mechanism::plain(MechanismType::EC_KEY_PAIR_GEN);
        let curve = |curve: Curve| Attribute::bytes(AttributeType::EC_PARAMS, curve.oid_der());
        let generate = |public: &[Attribute], private: &[Attribute]| {
            let (public, private) = (Template(public.to_vec()), Template(private.to_vec()));
            generate_pair(&admin(RingPolicy::Strict), &mechanism, &public, &private)
        };
        let id = Attribute::bytes(AttributeType::ID, vec![1, 2]);
        for (public, private) in [(vec![], vec![id.clone()]), (vec![id], vec![])] {
            let (spec, public, private) =
                generate(&[vec![curve(Curve::P384)], public].concat(), &private).unwrap();
            assert_eq!(spec, KeySpec::Ec { curve: Curve::P384 });
            assert_eq!(public.attributes.bytes(AttributeType::ID), Some(&[1, 2][..]));
            assert_eq!(private.attributes.bytes(AttributeType::ID), Some(&[1, 2][..]));
        }
        let two_curves = generate(&[curve(Curve::P384)], &[curve(Curve::P256)]);
        assert_eq!(two_curves.err(), Some(Rv::TEMPLATE_INCONSISTENT));
        // secp256k1.
        let other = Attribute::bytes(AttributeType::EC_PARAMS, vec![6, 5, 0x2b, 0x81, 4, 0, 10]);
        assert_eq!(generate(&[other], &[]).err(), Some(Rv::CURVE_NOT_SUPPORTED));
        assert_eq!(generate(&[], &[]).err(), Some(Rv::TEMPLATE_INCOMPLETE));
    }

    #[test]
    fn key_generation_by_role() {
        let outcome = |policy, token, private| {
            LOGINS.map(|login| {
                let template = Template(vec![
                    length(32),
                    flag(AttributeType::TOKEN, token),
                    flag(AttributeType::PRIVATE, private),
                ]);
                let mechanism = Mechanism::plain(MechanismType::AES_KEY_GEN);
                generate(&caller(login, policy), &mechanism, &template).err()
            })
        };
        let (no_login, protected, rejected) =
            (Some(Rv::USER_NOT_LOGGED_IN), Some(Rv::TOKEN_WRITE_PROTECTED), Some(Rv::FUNCTION_REJECTED));
        for policy in [RingPolicy::Strict, RingPolicy::Compat] {
            assert_eq!(
                outcome(policy, true, true),
                [no_login, no_login, None, protected, protected, protected]
            );
            assert_eq!(outcome(policy, false, true), [no_login, no_login, None, None, None, rejected]);
            assert_eq!(
                outcome(policy, true, false),
                [no_login, no_login, None, protected, protected, protected]
            );
        }
        assert_eq!(
            outcome(RingPolicy::Strict, false, false),
            [no_login, no_login, None, None, None, rejected]
        );
        assert_eq!(outcome(RingPolicy::Compat, false, false), [None, None, None, None, None, rejected]);
    }
}
