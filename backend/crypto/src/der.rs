//! The DER encodings of keys: PKCS #8, `SubjectPublicKeyInfo`, and the OCTET STRING of `CKA_EC_POINT`.

use kms_core::object::KeyBytes;
use rsa::pkcs8::PrivateKeyInfoRef;
use rsa::pkcs8::der::asn1::{BitStringRef, ObjectIdentifier, OctetStringRef};
use rsa::pkcs8::der::{Decode, Encode};
use rsa::pkcs8::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};
use zeroize::Zeroizing;

/// The tag of an OCTET STRING.
const OCTET_STRING: u8 = 0x04;

/// The tag of a SEQUENCE, which contains a seed and the key expanded from it.
const SEQUENCE: u8 = 0x30;

/// The tag of a seed: `[0] IMPLICIT OCTET STRING`.
const SEED: u8 = 0x80;

/// Encodes a private key in PKCS #8, with an algorithm without parameters. `oid` and `inner` are DER.
pub(super) fn private_key(oid: &[u8], inner: &[u8]) -> Option<KeyBytes> {
    let algorithm = algorithm(oid)?;
    let info = PrivateKeyInfoRef::new(algorithm, OctetStringRef::new(inner).ok()?);
    info.to_der().ok().map(KeyBytes::from)
}

/// The `inner` of [`private_key`], if the algorithm is this one.
pub(super) fn inner_of<'a>(material: &'a [u8], oid: &[u8]) -> Option<&'a [u8]> {
    let info = PrivateKeyInfoRef::try_from(material).ok()?;
    let same = info.algorithm == algorithm(oid)?;
    same.then(|| info.private_key.as_bytes())
}

/// Encodes a public key as in certificates: the value of `CKA_PUBLIC_KEY_INFO`.
pub(super) fn public_info(oid: &[u8], key: &[u8]) -> Option<Vec<u8>> {
    let subject_public_key = BitStringRef::from_bytes(key).ok()?;
    SubjectPublicKeyInfoRef { algorithm: algorithm(oid)?, subject_public_key }.to_der().ok()
}

fn algorithm(oid: &[u8]) -> Option<AlgorithmIdentifierRef<'static>> {
    Some(AlgorithmIdentifierRef { oid: ObjectIdentifier::from_der(oid).ok()?, parameters: None })
}

/// Encodes an OCTET STRING (spec, "Elliptic curve public key objects").
pub(super) fn octet_string(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let string = OctetStringRef::new(bytes).and_then(|string| string.to_der());
    Zeroizing::new(string.expect("keys are shorter than DER's longest string"))
}

/// The bytes of an OCTET STRING that fills all of `der`.
pub(super) fn octets(der: &[u8]) -> Option<&[u8]> {
    if der.first() != Some(&OCTET_STRING) {
        return None;
    }
    <&OctetStringRef>::from_der(der).ok().map(OctetStringRef::as_bytes)
}

/// A point or a public key as callers give it: bare, or in an OCTET STRING. `length` is that of the bare form, which
/// distinguishes the two where both begin with 4.
pub(super) fn point(given: &[u8], length: usize) -> Option<&[u8]> {
    if given.len() == length { Some(given) } else { octets(given).filter(|point| point.len() == length) }
}

/// The private key of ML-KEM or ML-DSA in PKCS #8: its seed, the key expanded from it, or both (RFC 9881,
/// RFC 9935).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Forms<'a> {
    /// The seed.
    pub(super) seed: Option<&'a [u8]>,
    /// The expanded key.
    pub(super) expanded: Option<&'a [u8]>,
}

impl<'a> Forms<'a> {
    /// Reads the private key inside PKCS #8.
    pub(super) fn read(inner: &'a [u8]) -> Option<Self> {
        match inner {
            [SEED, length, seed @ ..] if usize::from(*length) == seed.len() => {
                Some(Self { seed: Some(seed), expanded: None })
            }
            [SEQUENCE, 0x82, high, low, rest @ ..]
                if usize::from(u16::from_be_bytes([*high, *low])) == rest.len() =>
            {
                let end = usize::from(*rest.get(1)?) + 2;
                let (seed, expanded) = rest.split_at_checked(end)?;
                Some(Self { seed: Some(octets(seed)?), expanded: Some(octets(expanded)?) })
            }
            _ => Some(Self { seed: None, expanded: Some(octets(inner)?) }),
        }
    }

    /// Encodes it. None if both are missing, or too long for such keys.
    pub(super) fn write(self) -> Option<Zeroizing<Vec<u8>>> {
        match (self.seed, self.expanded) {
            (Some(seed), None) => {
                let length = u8::try_from(seed.len()).ok().filter(|length| *length < 0x80)?;
                Some(Zeroizing::new([&[SEED, length], seed].concat()))
            }
            (None, Some(expanded)) => Some(octet_string(expanded)),
            (Some(seed), Some(expanded)) => {
                let both = Zeroizing::new([octet_string(seed).as_slice(), &octet_string(expanded)].concat());
                let [high, low] = u16::try_from(both.len()).ok()?.to_be_bytes();
                Some(Zeroizing::new([&[SEQUENCE, 0x82, high, low], both.as_slice()].concat()))
            }
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use kms_core::object::EdwardsMontgomery;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn encodings_round_trip(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
            let string = octet_string(&bytes);
            prop_assert_eq!(octets(&string), Some(&bytes[..]));
            prop_assert_eq!(octets(&string[..string.len() - 1]), None);
            let oid = EdwardsMontgomery::Ed25519.oid_der();
            let key = private_key(oid, &bytes).unwrap();
            prop_assert_eq!(inner_of(key.as_ref(), oid), Some(&bytes[..]));
            prop_assert_eq!(inner_of(key.as_ref(), EdwardsMontgomery::X25519.oid_der()), None);
        }

        #[test]
        fn seeds_and_expanded_keys_round_trip(
            seed in prop::option::of(prop::collection::vec(any::<u8>(), 32..65)), fill: u8, has_expanded: bool,
        ) {
            let expanded = vec![fill; 2400];
            let expanded = (has_expanded || seed.is_none()).then_some(&expanded[..]);
            let forms = Forms { seed: seed.as_deref(), expanded };
            let written = forms.write().unwrap();
            prop_assert_eq!(Forms::read(&written), Some(forms));
            prop_assert_eq!(Forms::read(&written[..written.len() - 1]), None);
        }

        #[test]
        fn a_point_is_read_in_both_encodings(mut point in prop::collection::vec(any::<u8>(), 1..140)) {
            point[0] = 4;
            prop_assert_eq!(super::point(&point, point.len()), Some(&point[..]));
            let string = octet_string(&point);
            prop_assert_eq!(super::point(&string, point.len()), Some(&point[..]));
            prop_assert_eq!(super::point(&point, point.len() + 1), None);
        }
    }
}
