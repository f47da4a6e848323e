//! HashML-DSA (FIPS 204, section 5.4) against another library, with openssl's digests: the mechanisms that hash the
//! message, and the one that takes a digest.

use cryptoki::error::RvError;
use cryptoki::mechanism::dsa::{HashSignAdditionalContext, HedgeType, SignAdditionalContext};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, MlDsaParameterSetType, ObjectHandle};
use fips204::traits::{KeyGen, SerDes, Signer, Verifier};
use fips204::{ml_dsa_44, ml_dsa_65, ml_dsa_87};
use kms_tests::Stack;
use kms_tests::client::{Client, refused};
use kms_tests::openssl;

const MESSAGE: &[u8] = b"The quick brown fox jumps over the lazy dog";
const CONTEXT: &[u8] = b"context";

/// A hash: the mechanism that hashes with it, the mechanism type that names it (if the crate has one), the digest of
/// `MESSAGE`, and the last number of its object identifier.
type Row = (fn(SignAdditionalContext<'static>) -> Mechanism<'static>, Option<MechanismType>, Vec<u8>, u8);

fn rows() -> Vec<Row> {
    let of = |name| openssl::digest(name, MESSAGE);
    vec![
        (Mechanism::HashMlDsaSha224, Some(MechanismType::SHA224), of("sha224"), 4),
        (Mechanism::HashMlDsaSha256, Some(MechanismType::SHA256), of("sha256"), 1),
        (Mechanism::HashMlDsaSha384, Some(MechanismType::SHA384), of("sha384"), 2),
        (Mechanism::HashMlDsaSha512, Some(MechanismType::SHA512), of("sha512"), 3),
        (Mechanism::HashMlDsaSha3_224, None, of("sha3-224"), 7),
        (Mechanism::HashMlDsaSha3_256, None, of("sha3-256"), 8),
        (Mechanism::HashMlDsaSha3_384, None, of("sha3-384"), 9),
        (Mechanism::HashMlDsaSha3_512, None, of("sha3-512"), 10),
        (
            Mechanism::HashMlDsaShake128,
            Some(MechanismType::HASH_ML_DSA_SHAKE128),
            openssl::xof("shake128", 32, MESSAGE),
            11,
        ),
        (
            Mechanism::HashMlDsaShake256,
            Some(MechanismType::HASH_ML_DSA_SHAKE256),
            openssl::xof("shake256", 64, MESSAGE),
            12,
        ),
    ]
}

fn oid(arc: u8) -> [u8; 11] {
    [0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, arc]
}

/// Generates a token key pair: public key, private key.
fn pair(client: &Client, set: MlDsaParameterSetType) -> (ObjectHandle, ObjectHandle) {
    let public = [Attribute::Token(true), Attribute::ParameterSet(set.into()), Attribute::Verify(true)];
    let private = [Attribute::Token(true), Attribute::Sign(true)];
    client
        .session
        .generate_key_pair(&Mechanism::MlDsaKeyPairGen, &public, &private)
        .expect("the pair is generated")
}

fn of_digest(hash: MechanismType, context: Option<&'static [u8]>) -> Mechanism<'static> {
    Mechanism::HashMlDsa(HashSignAdditionalContext::new(HedgeType::Preferred, context, hash))
}

/// Signatures of a message and of its digest verify as both, and with the other library.
macro_rules! signs {
    ($client:ident, $set:ident, $module:ident) => {{
        let session = &$client.session;
        let (public, private) = pair(&$client, MlDsaParameterSetType::$set);
        let value = $client.bytes(public, AttributeType::Value);
        let other_library = $module::PublicKey::try_from_bytes(value.try_into().expect("a key's length"));
        let other_library = other_library.expect("a public key");
        for (kind, hash, digest, arc) in rows() {
            for context in [None, Some(CONTEXT)] {
                let of_message = || kind(SignAdditionalContext::new(HedgeType::Required, context));
                let of_digest = hash.map(|hash| of_digest(hash, context));
                let mut signatures =
                    vec![session.sign(&of_message(), private, MESSAGE).expect("it signs a message")];
                signatures.extend(
                    of_digest.as_ref().map(|of_digest| {
                        session.sign(of_digest, private, &digest).expect("it signs a digest")
                    }),
                );
                for signature in signatures {
                    session.verify(&of_message(), public, MESSAGE, &signature).expect("it verifies");
                    if let Some(of_digest) = &of_digest {
                        session.verify(of_digest, public, &digest, &signature).expect("it verifies");
                    }
                    let wrong = session.verify(&of_message(), public, b"another", &signature);
                    refused(wrong, RvError::SignatureInvalid);
                    let pure = Mechanism::MlDsa(SignAdditionalContext::new(HedgeType::Preferred, context));
                    refused(session.verify(&pure, public, &digest, &signature), RvError::SignatureInvalid);
                    let signature = signature.try_into().expect("a signature's length");
                    let context = context.unwrap_or_default();
                    assert!(other_library.hash_verify(&digest, &signature, context, &oid(arc)), "{hash:?}");
                }
            }
        }
    }};
}

#[test]
fn another_library_verifies() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    signs!(client, ML_DSA_44, ml_dsa_44);
    signs!(client, ML_DSA_65, ml_dsa_65);
    signs!(client, ML_DSA_87, ml_dsa_87);
}

#[test]
fn signatures_of_another_library_are_verified() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let (public, private) = ml_dsa_65::KG::keygen_from_seed(&[7; 32]);
    let template = [
        Attribute::Class(cryptoki::object::ObjectClass::PUBLIC_KEY),
        Attribute::KeyType(cryptoki::object::KeyType::ML_DSA),
        Attribute::ParameterSet(MlDsaParameterSetType::ML_DSA_65.into()),
        Attribute::Value(public.into_bytes().to_vec()),
        Attribute::Verify(true),
    ];
    let key = client.session.create_object(&template).expect("a public key is created");
    for (kind, hash, digest, arc) in rows() {
        let signature = private.try_hash_sign_with_seed(&[9; 32], &digest, CONTEXT, &oid(arc));
        let mut signature = signature.expect("it signs").to_vec();
        let of_message = |context| kind(SignAdditionalContext::new(HedgeType::Preferred, Some(context)));
        let verify =
            |context, signature: &[u8]| client.session.verify(&of_message(context), key, MESSAGE, signature);
        verify(CONTEXT, &signature).expect("it verifies");
        refused(verify(b"other", &signature), RvError::SignatureInvalid);
        if let Some(hash) = hash {
            let named = of_digest(hash, Some(CONTEXT));
            client.session.verify(&named, key, &digest, &signature).expect("it verifies by its digest");
        }
        signature[100] ^= 1;
        refused(verify(CONTEXT, &signature), RvError::SignatureInvalid);
    }
}

#[test]
fn a_digest_has_the_length_of_its_hash_and_is_single_part() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let session = &client.session;
    let (_, private) = pair(&client, MlDsaParameterSetType::ML_DSA_44);
    let sha256 = of_digest(MechanismType::SHA256, None);
    for length in [0, 31, 33] {
        refused(session.sign(&sha256, private, &vec![1; length]), RvError::DataLenRange);
    }
    for hash in [MechanismType::SHA1, MechanismType::ML_DSA, MechanismType::AES_ECB] {
        refused(session.sign_init(&of_digest(hash, None), private), RvError::MechanismParamInvalid);
    }
    session.sign_init(&sha256, private).expect("C_SignInit succeeds");
    refused(session.sign_update(&[1; 10]), RvError::OperationNotInitialized);
    // The failed call has ended the operation.
    session.sign(&sha256, private, &[1; 32]).expect("it signs in one call");
    let too_long = of_digest(MechanismType::SHA256, Some(&[7; 256]));
    refused(session.sign_init(&too_long, private), RvError::MechanismParamInvalid);
}

#[test]
fn multi_part_messages_have_the_same_signature() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let session = &client.session;
    let (public, private) = pair(&client, MlDsaParameterSetType::ML_DSA_65);
    for (kind, _, _, _) in rows() {
        let mechanism = || kind(SignAdditionalContext::new(HedgeType::DeterministicRequired, None));
        session.sign_init(&mechanism(), private).expect("C_SignInit succeeds");
        MESSAGE.chunks(7).for_each(|part| session.sign_update(part).expect("the part is accepted"));
        let signature = session.sign_final().expect("signing ends");
        assert_eq!(session.sign(&mechanism(), private, MESSAGE).expect("it signs"), signature);
        session.verify_init(&mechanism(), public).expect("C_VerifyInit succeeds");
        MESSAGE.chunks(5).for_each(|part| session.verify_update(part).expect("the part is accepted"));
        session.verify_final(&signature).expect("it verifies");
    }
}
