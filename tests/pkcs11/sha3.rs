//! SHA-3 digests and signatures with SHA-3 against openssl, through the C API: the `cryptoki` crate lacks the
//! signatures.

use cryptoki_sys::{
    CK_MECHANISM_TYPE, CK_OBJECT_HANDLE, CKA_EC_PARAMS, CKA_PUBLIC_KEY_INFO, CKA_SIGN, CKA_TOKEN, CKA_VERIFY,
    CKG_MGF1_SHA3_224, CKG_MGF1_SHA3_256, CKG_MGF1_SHA3_384, CKG_MGF1_SHA3_512, CKG_MGF1_SHA256,
    CKM_EC_KEY_PAIR_GEN, CKM_ECDSA_SHA3_224, CKM_ECDSA_SHA3_256, CKM_ECDSA_SHA3_384, CKM_ECDSA_SHA3_512,
    CKM_RSA_PKCS_OAEP, CKM_RSA_PKCS_PSS, CKM_SHA3_224, CKM_SHA3_224_RSA_PKCS, CKM_SHA3_224_RSA_PKCS_PSS,
    CKM_SHA3_256, CKM_SHA3_256_RSA_PKCS, CKM_SHA3_256_RSA_PKCS_PSS, CKM_SHA3_384, CKM_SHA3_384_RSA_PKCS,
    CKM_SHA3_384_RSA_PKCS_PSS, CKM_SHA3_512, CKM_SHA3_512_RSA_PKCS, CKM_SHA3_512_RSA_PKCS_PSS,
};
use kms_protocol::Rv;
use kms_tests::Stack;
use kms_tests::openssl::{self, PublicKey};
use kms_tests::raw::{Mechanism, Module, OutputSize, Session, Template};

use crate::keys;
use crate::wrap::{rsa, yes};

const MESSAGE: &[u8] = b"The quick brown fox jumps over the lazy dog";

/// A hash: openssl's name, its mechanism, its mask generation function, its length, and its signature mechanisms.
struct Row {
    name: &'static str,
    hash: CK_MECHANISM_TYPE,
    mgf: u64,
    bytes: u64,
    pkcs: CK_MECHANISM_TYPE,
    pss: CK_MECHANISM_TYPE,
    ecdsa: CK_MECHANISM_TYPE,
}

const ROWS: [Row; 4] = [
    Row {
        name: "sha3-224",
        hash: CKM_SHA3_224,
        mgf: CKG_MGF1_SHA3_224,
        bytes: 28,
        pkcs: CKM_SHA3_224_RSA_PKCS,
        pss: CKM_SHA3_224_RSA_PKCS_PSS,
        ecdsa: CKM_ECDSA_SHA3_224,
    },
    Row {
        name: "sha3-256",
        hash: CKM_SHA3_256,
        mgf: CKG_MGF1_SHA3_256,
        bytes: 32,
        pkcs: CKM_SHA3_256_RSA_PKCS,
        pss: CKM_SHA3_256_RSA_PKCS_PSS,
        ecdsa: CKM_ECDSA_SHA3_256,
    },
    Row {
        name: "sha3-384",
        hash: CKM_SHA3_384,
        mgf: CKG_MGF1_SHA3_384,
        bytes: 48,
        pkcs: CKM_SHA3_384_RSA_PKCS,
        pss: CKM_SHA3_384_RSA_PKCS_PSS,
        ecdsa: CKM_ECDSA_SHA3_384,
    },
    Row {
        name: "sha3-512",
        hash: CKM_SHA3_512,
        mgf: CKG_MGF1_SHA3_512,
        bytes: 64,
        pkcs: CKM_SHA3_512_RSA_PKCS,
        pss: CKM_SHA3_512_RSA_PKCS_PSS,
        ecdsa: CKM_ECDSA_SHA3_512,
    },
];

#[test]
fn sha3_digests_match_openssl() {
    let stack = Stack::strict();
    let module = Module::of(&stack);
    let session = module.user(stack.ring());
    for Row { name, hash, .. } in ROWS {
        for length in [1, 135, 136, 137, 5000] {
            let data = vec![0x61; length];
            assert_eq!(
                session.digest(Mechanism::plain(hash), &data),
                Ok(openssl::digest(name, &data)),
                "{name}"
            );
        }
    }
}

/// Signs single-part and multi-part, verifies both signatures in both ways, and returns them.
#[track_caller]
fn sign(
    session: &Session<'_>,
    mechanism: &Mechanism,
    (public, private): (CK_OBJECT_HANDLE, CK_OBJECT_HANDLE),
) -> [Vec<u8>; 2] {
    let single_part = session.sign(mechanism.clone(), private, MESSAGE).expect("it signs");
    session.sign_init(mechanism.clone(), private).expect("C_SignInit succeeds");
    for part in MESSAGE.chunks(7) {
        session.sign_update(part).expect("the part is accepted");
    }
    let (multi_part, _) = session.sign_final(OutputSize::Bytes(1024)).expect("signing ends");
    for signature in [&single_part, &multi_part] {
        let begin = || session.verify_init(mechanism.clone(), public).expect("C_VerifyInit succeeds");
        begin();
        session.verify(MESSAGE, signature).expect("it verifies");
        begin();
        MESSAGE.chunks(5).for_each(|part| session.verify_update(part).expect("the part is accepted"));
        session.verify_final(signature).expect("it verifies in parts");
        begin();
        assert_eq!(session.verify(b"another message", signature), Err(Rv::SIGNATURE_INVALID));
        let mut damaged = signature.clone();
        *damaged.last_mut().expect("a signature has bytes") ^= 1;
        begin();
        assert_eq!(session.verify(MESSAGE, &damaged), Err(Rv::SIGNATURE_INVALID));
    }
    [single_part, multi_part]
}

fn info(session: &Session<'_>, public: CK_OBJECT_HANDLE) -> PublicKey {
    PublicKey::new(&session.attribute(public, CKA_PUBLIC_KEY_INFO).expect("the public key can be read"))
}

#[test]
fn openssl_verifies_rsa_signatures_with_sha3() {
    let stack = Stack::strict();
    let module = Module::of(&stack);
    let session = module.user(stack.ring());
    let pair = rsa(&session, yes(&[CKA_TOKEN, CKA_VERIFY]), yes(&[CKA_TOKEN, CKA_SIGN]));
    let openssl = info(&session, pair.0);
    for Row { name, hash, mgf, bytes, pkcs, pss, .. } in ROWS {
        let digest = openssl::digest(name, MESSAGE);
        let option = format!("digest:{name}");
        let [signature, again] = sign(&session, &Mechanism::plain(pkcs), pair);
        assert_eq!(signature, again, "PKCS #1 v1.5 has no randomness");
        assert!(openssl.verifies(&[&option], &digest, &signature), "{name}");
        for salt in [bytes, 0, 11] {
            let salted = format!("rsa_pss_saltlen:{salt}");
            let options = ["rsa_padding_mode:pss", &salted, &option];
            for signature in sign(&session, &Mechanism::pss(pss, hash, mgf, salt), pair) {
                assert!(openssl.verifies(&options, &digest, &signature), "{name}, salt {salt}");
            }
            let raw = || Mechanism::pss(CKM_RSA_PKCS_PSS, hash, mgf, salt);
            let signature = session.sign(raw(), pair.1, &digest).expect("it signs a digest");
            assert!(openssl.verifies(&options, &digest, &signature), "{name}, salt {salt}, of the digest");
            session.verify_init(raw(), pair.0).expect("C_VerifyInit succeeds");
            session.verify(&digest, &signature).expect("it verifies");
        }
        let other = Mechanism::pss(pss, hash, CKG_MGF1_SHA256, bytes);
        assert_eq!(session.sign_init(other, pair.1), Err(Rv::MECHANISM_PARAM_INVALID));
    }
}

#[test]
fn openssl_verifies_ecdsa_signatures_with_sha3() {
    let stack = Stack::strict();
    let module = Module::of(&stack);
    let session = module.user(stack.ring());
    for (curve, params) in keys::CURVES {
        let public = yes(&[CKA_TOKEN, CKA_VERIFY]).bytes(CKA_EC_PARAMS, params);
        let private = yes(&[CKA_TOKEN, CKA_SIGN]);
        let pair = session.generate_pair(Mechanism::plain(CKM_EC_KEY_PAIR_GEN), public, private);
        let pair = pair.expect("the pair is generated");
        let openssl = info(&session, pair.0);
        for Row { name, ecdsa, .. } in ROWS {
            let digest = openssl::digest(name, MESSAGE);
            for signature in sign(&session, &Mechanism::plain(ecdsa), pair) {
                let der = openssl::ecdsa_der(&signature);
                assert!(openssl.verifies(&[], &digest, &der), "{curve}, {name}");
            }
        }
    }
}

#[test]
fn oaep_rejects_sha3() {
    let stack = Stack::compat();
    let module = Module::of(&stack);
    let session = module.user(stack.ring());
    let encrypts = Template::new().bool(cryptoki_sys::CKA_ENCRYPT, true);
    let (public, _) = rsa(&session, encrypts, Template::new());
    for (hash, mgf) in [(CKM_SHA3_256, CKG_MGF1_SHA256), (cryptoki_sys::CKM_SHA256, CKG_MGF1_SHA3_256)] {
        let begun = session.encrypt_init(Mechanism::oaep(hash, mgf, b""), public);
        assert_eq!(begun, Err(Rv::MECHANISM_PARAM_INVALID), "{CKM_RSA_PKCS_OAEP}");
    }
}
