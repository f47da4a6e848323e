//! Functions of PKCS #11 3.0 and 3.2: message encryption with generated IVs, ML-DSA and ML-KEM.

use cryptoki::error::RvError;
use cryptoki::mechanism::aead::{GcmMessageParams, GcmParams, GeneratorFunction};
use cryptoki::mechanism::dsa::{HedgeType, SignAdditionalContext};
use cryptoki::mechanism::{Mechanism, MessageParam};
use cryptoki::object::{
    Attribute, AttributeType, KeyType, MlDsaParameterSetType, MlKemParameterSetType, ObjectClass,
};
use kms_tests::Stack;
use kms_tests::client::{Client, refused};

use crate::keys;

fn message_params<'p>(iv: &'p mut [u8], tag: &'p mut [u8], how: GeneratorFunction) -> GcmMessageParams<'p> {
    GcmMessageParams::new(iv, 0.into(), how, tag).expect("lengths fit")
}

#[test]
fn an_encrypted_message_decrypts_with_classic_gcm() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let session = &client.session;
    let key = keys::aes(&client, "messages");
    let mut seen = Vec::new();
    for number in 0..4 {
        let (mut iv, mut tag) = ([0; 12], [0; 16]);
        // The module writes IV and tag through the parameter's pointers, and they are read back through the parameter.
        let mut parameter = message_params(&mut iv, &mut tag, GeneratorFunction::Generate);
        let begin = Mechanism::AesGcmMessage(parameter);
        session.message_encrypt_init(&begin, key).expect("messages begin");
        let data = vec![number; 40];
        let sealed = session.encrypt_message(&MessageParam::AesGcmMessage(parameter), b"aad", &data);
        let sealed = sealed.expect("a message is encrypted");
        session.message_encrypt_final().expect("messages end");
        let (mut iv, tag) = (parameter.iv().to_vec(), parameter.tag().to_vec());
        assert!(iv != [0; 12] && !seen.contains(&iv), "each message has its own IV: {iv:?}");
        seen.push(iv.clone());
        let classic = Mechanism::AesGcm(GcmParams::new(&mut iv, b"aad", 128.into()).expect("lengths fit"));
        let opened = session.decrypt(&classic, key, &[sealed, tag].concat()).expect("it decrypts");
        assert_eq!(opened, data);
    }
}

#[test]
fn a_classic_gcm_ciphertext_decrypts_as_a_message() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let session = &client.session;
    let key = keys::aes(&client, "messages");
    let mut iv = [5; 12];
    let classic = Mechanism::AesGcm(GcmParams::new(&mut iv, b"aad", 128.into()).expect("lengths fit"));
    let sealed = session.encrypt(&classic, key, b"classic").expect("it encrypts");
    let (text, tag) = sealed.split_at(7);
    let (mut iv, mut tag) = ([5; 12], tag.to_vec());
    let parameter = message_params(&mut iv, &mut tag, GeneratorFunction::NoGenerate);
    session.message_decrypt_init(&Mechanism::AesGcmMessage(parameter), key).expect("messages begin");
    let parameter = MessageParam::AesGcmMessage(parameter);
    assert_eq!(session.decrypt_message(&parameter, b"aad", text).expect("it decrypts"), b"classic");
    assert!(session.decrypt_message(&parameter, b"other", text).is_err(), "the AAD is authenticated");
    session.message_decrypt_final().unwrap_or_default();
}

#[test]
fn ml_dsa_signs_and_verifies() {
    let mut stack = Stack::strict();
    let client = Client::user(&stack);
    let session = &client.session;
    for (set, bytes) in [
        (MlDsaParameterSetType::ML_DSA_44, 2420),
        (MlDsaParameterSetType::ML_DSA_65, 3309),
        (MlDsaParameterSetType::ML_DSA_87, 4627),
    ] {
        let public = [Attribute::Token(true), Attribute::ParameterSet(set.into()), Attribute::Verify(true)];
        let private = [Attribute::Token(true), Attribute::Sign(true)];
        let pair = session.generate_key_pair(&Mechanism::MlDsaKeyPairGen, &public, &private);
        let (public, private) = pair.expect("the pair is generated");
        stack.restart();
        for (hedge, context) in [
            (HedgeType::Preferred, None),
            (HedgeType::Required, Some(b"context".as_slice())),
            (HedgeType::DeterministicRequired, Some(b"".as_slice())),
        ] {
            let mechanism = Mechanism::MlDsa(SignAdditionalContext::new(hedge, context));
            let signature = session.sign(&mechanism, private, b"message").expect("it signs");
            assert_eq!(signature.len(), bytes);
            session.verify(&mechanism, public, b"message", &signature).expect("it verifies");
            refused(session.verify(&mechanism, public, b"other", &signature), RvError::SignatureInvalid);
            let other = Mechanism::MlDsa(SignAdditionalContext::new(hedge, Some(b"other")));
            refused(session.verify(&other, public, b"message", &signature), RvError::SignatureInvalid);
        }
        // Another party has only the public value.
        let template = [
            Attribute::Class(ObjectClass::PUBLIC_KEY),
            Attribute::KeyType(KeyType::ML_DSA),
            Attribute::ParameterSet(set.into()),
            Attribute::Value(client.bytes(public, AttributeType::Value)),
            Attribute::Verify(true),
        ];
        let imported = session.create_object(&template).expect("a public key is created");
        let mechanism = Mechanism::MlDsa(SignAdditionalContext::new(HedgeType::Preferred, None));
        let signature = session.sign(&mechanism, private, b"message").expect("it signs");
        session.verify(&mechanism, imported, b"message", &signature).expect("it verifies");
    }
}

#[test]
fn ml_kem_transports_a_secret() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let session = &client.session;
    for (set, bytes) in [
        (MlKemParameterSetType::ML_KEM_512, 768),
        (MlKemParameterSetType::ML_KEM_768, 1088),
        (MlKemParameterSetType::ML_KEM_1024, 1568),
    ] {
        let public =
            [Attribute::Token(true), Attribute::ParameterSet(set.into()), Attribute::Encapsulate(true)];
        let private = [Attribute::Token(true), Attribute::Decapsulate(true)];
        let pair = session.generate_key_pair(&Mechanism::MlKemKeyPairGen, &public, &private);
        let (public, private) = pair.expect("the pair is generated");
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::GENERIC_SECRET),
            Attribute::Sensitive(false),
            Attribute::Extractable(true),
            Attribute::Token(false),
        ];
        let (ciphertext, encapsulated) =
            session.encapsulate_key(&Mechanism::MlKem, public, &template).expect("it encapsulates");
        assert_eq!(ciphertext.len(), bytes);
        let decapsulated = session
            .decapsulate_key(&Mechanism::MlKem, private, &template, &ciphertext)
            .expect("it decapsulates");
        let value = |key| client.bytes(key, AttributeType::Value);
        assert_eq!((value(encapsulated).len(), value(encapsulated)), (32, value(decapsulated)));
        // FIPS 203, implicit rejection: a modified ciphertext gives another secret and no error.
        let mut damaged = ciphertext.clone();
        damaged[0] ^= 1;
        let other = session.decapsulate_key(&Mechanism::MlKem, private, &template, &damaged);
        assert_ne!(value(other.expect("implicit rejection")), value(encapsulated));
        assert!(session.decapsulate_key(&Mechanism::MlKem, private, &template, &ciphertext[1..]).is_err());
    }
}
