//! The parts of RSA private keys, and keys built from them.

use kms_core::object::KeyBytes;
use kms_protocol::mechanism_table::RSA_BITS;
use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use rsa::traits::{PrivateKeyParts, PublicKeyParts};
use rsa::{BoxedUint, PrivateKey};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::rsa::RsaKey;

/// The parts of a private key in its PKCS #8 form, for export.
pub(super) struct Components {
    pub(super) private_exponent: Zeroizing<Vec<u8>>,
    pub(super) primes: [Zeroizing<Vec<u8>>; 2],
    pub(super) exponents: [Zeroizing<Vec<u8>>; 2],
    pub(super) coefficient: Zeroizing<Vec<u8>>,
}

/// A private key in parts, as a creation template has it.
pub(super) struct Parts<'a> {
    /// The modulus.
    pub(super) modulus: &'a [u8],
    /// The public exponent.
    pub(super) public_exponent: &'a [u8],
    /// The private exponent.
    pub(super) private_exponent: &'a [u8],
    /// The primes, if given.
    pub(super) primes: Option<[&'a [u8]; 2]>,
    /// The values that follow from the rest, if given: both exponents and the coefficient.
    pub(super) derived: [Option<&'a [u8]>; 3],
}

/// Builds a private key in the stored form from its parts. None if they do not belong together, or have an unsupported
/// size.
pub(super) fn build(parts: &Parts<'_>) -> Option<KeyBytes> {
    let modulus = number(parts.modulus)?;
    let primes = match parts.primes {
        Some(primes) => vec![number(primes[0])?, number(primes[1])?],
        None => Vec::new(),
    };
    let (public, private) = (number(parts.public_exponent)?, number(parts.private_exponent)?);
    let key = PrivateKey::from_components(modulus, public, private, primes).ok()?;
    let material = encode(&key)?;
    let found = components(&material)?;
    let derived = [&found.exponents[0], &found.exponents[1], &found.coefficient];
    let agrees = |(given, found): (Option<&[u8]>, &Zeroizing<Vec<u8>>)| {
        given.is_none_or(|given| bool::from(unpadded(given).ct_eq(unpadded(found))))
    };
    parts.derived.into_iter().zip(derived).all(agrees).then_some(material)
}

/// Converts a private key in PKCS #8 to the stored form, if it is consistent: the values that follow from the primes are
/// computed again, and a key file in which they differ is damaged.
pub(super) fn stored(material: &KeyBytes) -> Option<KeyBytes> {
    let stored = encode(&PrivateKey::from_pkcs8_der(material.as_ref()).ok()?)?;
    let (given, computed) = (components(material)?, components(&stored)?);
    let same = |left: &Zeroizing<Vec<u8>>, right: &Zeroizing<Vec<u8>>| {
        bool::from(unpadded(left).ct_eq(unpadded(right)))
    };
    let [p, q] = &computed.primes;
    let consistent = if same(&given.primes[0], p) && same(&given.primes[1], q) {
        same(&given.exponents[0], &computed.exponents[0])
            && same(&given.exponents[1], &computed.exponents[1])
            && same(&given.coefficient, &computed.coefficient)
    } else {
        // The library stores the larger prime first; the coefficient of the other order is another number.
        same(&given.exponents[0], &computed.exponents[1]) && same(&given.exponents[1], &computed.exponents[0])
    };
    consistent.then_some(stored)
}

/// Whether the primes are as far apart as FIPS 186-5, section A.1.3, requires: |p - q| > 2^(bits/2 - 100). A modulus of
/// two primes that are closer is factored at once (Fermat).
fn are_far_apart(key: &PrivateKey) -> bool {
    let [p, q] = key.primes() else { return false };
    let (p, q): (&BoxedUint, &BoxedUint) = (p, q);
    let difference = if p > q { p.wrapping_sub(q) } else { q.wrapping_sub(p) };
    difference.bit_width() > (key.n().bit_width() / 2).saturating_sub(100)
}

/// Encodes a key of a supported size that both libraries accept.
fn encode(key: &PrivateKey) -> Option<KeyBytes> {
    let bits = key.n().bit_width();
    if !(RSA_BITS.0..=RSA_BITS.1).contains(&bits) {
        return None;
    }
    key.validate().ok()?;
    if !are_far_apart(key) {
        return None;
    }
    let material = KeyBytes::from(key.to_pkcs8_der().ok()?.as_bytes().to_vec());
    RsaKey::open(&material).map(|_| material)
}

/// A number as long as its bytes. None if it is longer than the largest modulus.
fn number(bytes: &[u8]) -> Option<BoxedUint> {
    let bytes = unpadded(bytes);
    let bits = u32::try_from(bytes.len()).ok()?.checked_mul(8).filter(|bits| *bits <= RSA_BITS.1)?;
    BoxedUint::from_be_slice(bytes, bits.max(64)).ok()
}

fn unpadded(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    &bytes[zeros..]
}

/// Reads the parts of a private key.
pub(super) fn components(material: &KeyBytes) -> Option<Components> {
    let info = rsa::pkcs8::PrivateKeyInfoRef::try_from(material.as_ref()).ok()?;
    let key = rsa::pkcs1::RsaPrivateKeyRef::try_from(info.private_key.as_bytes()).ok()?;
    let part = |number: rsa::pkcs1::UintRef<'_>| Zeroizing::new(number.as_bytes().to_vec());
    Some(Components {
        private_exponent: part(key.private_exponent),
        primes: [part(key.prime1), part(key.prime2)],
        exponents: [part(key.exponent1), part(key.exponent2)],
        coefficient: part(key.coefficient),
    })
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use kms_core::object::KeySpec;
    use kms_protocol::{AttributeType, Template};

    use super::super::generate;
    use super::*;

    #[test]
    fn a_key_is_built_from_its_parts_if_they_belong_together() {
        let generated =
            generate(&KeySpec::Rsa { bits: 2048, exponent: vec![1, 0, 1] }, &SystemRandom::new()).unwrap();
        let found = components(&generated.material).unwrap();
        let modulus = Template(generated.attributes.clone());
        let modulus = modulus.bytes(AttributeType::MODULUS).unwrap();
        let parts = |primes| Parts {
            modulus,
            public_exponent: &[1, 0, 1],
            private_exponent: &found.private_exponent,
            primes,
            derived: [None; 3],
        };
        let primes = Some([found.primes[0].as_slice(), &found.primes[1]]);
        let built = build(&parts(primes)).unwrap();
        assert_eq!(components(&built).unwrap().private_exponent, found.private_exponent);
        assert!(build(&parts(None)).is_some(), "the primes follow from the exponents");
        let derived = [Some(&found.exponents[0][..]), Some(&found.exponents[1]), Some(&found.coefficient)];
        assert!(build(&Parts { derived, ..parts(primes) }).is_some());
        let derived = [Some(&found.exponents[1][..]), None, None];
        assert!(build(&Parts { derived, ..parts(primes) }).is_none());
        assert!(build(&Parts { public_exponent: &[3], ..parts(primes) }).is_none());
        assert!(build(&Parts { modulus: &modulus[1..], ..parts(primes) }).is_none());
        assert!(stored(&generated.material).is_some());
    }

    #[test]
    fn a_key_file_with_a_damaged_value_is_rejected() {
        let generated =
            generate(&KeySpec::Rsa { bits: 2048, exponent: vec![1, 0, 1] }, &SystemRandom::new()).unwrap();
        let found = components(&generated.material).unwrap();
        let parts = [&found.exponents[0], &found.exponents[1], &found.coefficient];
        for part in parts {
            let mut damaged = generated.material.as_ref().to_vec();
            let at = damaged.windows(part.len()).position(|window| window == part.as_slice()).unwrap();
            damaged[at + part.len() - 1] ^= 2;
            assert!(stored(&KeyBytes::from(damaged)).is_none());
        }
    }

    /// A prime of 1,024 bits; the next one is 222 larger.
    const PRIME: &str = "\
         e85c2cce39263059f28c105d1fb17c2390c192cfd3ac94af0f21ddb66cad4a268d116ece1738f7d93d9c17\
         2411e20b8f6b0d549b6f03675a1600a35a099950d836f675cc81e74ef5e8e25d940ed904759531985d5d9d\
         c9f81818e811892f902bd23f0824128b2f330c5c7fd0a6a3a4506513270e269e0d37f2a74de452e6b533";
    /// Another prime of 1,024 bits, far from it.
    const FAR_PRIME: &str = "\
         fd619900982355990f7265191ed14e6a2abf1627a5c3e09d58f945ca4e2f76c21cf070c7499b18e50a175b\
         0ef36bf2113c953f5d6f066429037fb23b8532b56c1f27b474402615f619baa4a49f0ac0170928ca2ceca4\
         68e9ce6ba18b8ad12fc9a0d4f2e345ffb65d9f9bc6d3adae2c57eafd6a994409a2329ef50006a43e37bb";

    #[test]
    fn primes_that_are_close_to_each_other_are_rejected() {
        let number = |hex: &str| BoxedUint::from_be_hex(hex, 1024).unwrap();
        let next = number(PRIME).wrapping_add(BoxedUint::from(222_u64));
        let key = |other| PrivateKey::from_p_q(number(PRIME), other, BoxedUint::from(65_537_u64)).unwrap();
        assert!(encode(&key(next)).is_none());
        assert!(encode(&key(number(FAR_PRIME))).is_some());
    }
}
