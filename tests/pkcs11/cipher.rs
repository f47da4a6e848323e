//! "Encryption functions" and "Decryption functions": each mode against openssl, single-part and multi-part.

use cryptoki::error::RvError;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::vendor_defined::VendorDefinedMechanism;
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::ObjectHandle;
use cryptoki_sys::CK_AES_CTR_PARAMS;
use kms_tests::Stack;
use kms_tests::client::{Client, refused};
use kms_tests::openssl::{self, PublicKey};

use crate::keys;

/// Lengths of plaintext: around the block length, and larger than usual frames.
const LENGTHS: [usize; 9] = [0, 1, 15, 16, 17, 31, 32, 1000, 70_000];

fn text(length: usize) -> Vec<u8> {
    (0..length).map(|index| u8::try_from(index % 251).expect("below 251")).collect()
}

/// Encrypts in parts of these sizes, repeated until the data end.
fn encrypt_in_parts(
    client: &Client,
    mechanism: &Mechanism<'_>,
    key: ObjectHandle,
    data: &[u8],
    sizes: &[usize],
) -> Vec<u8> {
    client.session.encrypt_init(mechanism, key).expect("C_EncryptInit succeeds");
    let mut sealed = Vec::new();
    for part in parts(data, sizes) {
        sealed.extend(client.session.encrypt_update(part).expect("the part is accepted"));
    }
    sealed.extend(client.session.encrypt_final().expect("encryption ends"));
    sealed
}

fn decrypt_in_parts(
    client: &Client,
    mechanism: &Mechanism<'_>,
    key: ObjectHandle,
    data: &[u8],
    sizes: &[usize],
) -> Vec<u8> {
    client.session.decrypt_init(mechanism, key).expect("C_DecryptInit succeeds");
    let mut opened = Vec::new();
    for part in parts(data, sizes) {
        opened.extend(client.session.decrypt_update(part).expect("the part is accepted"));
    }
    opened.extend(client.session.decrypt_final().expect("decryption ends"));
    opened
}

fn parts<'a>(mut data: &'a [u8], sizes: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut sizes = sizes.iter().cycle();
    std::iter::from_fn(move || {
        let size = (*sizes.next()?).min(data.len());
        let (part, rest) = data.split_at(size);
        data = rest;
        (!part.is_empty()).then_some(part)
    })
}

/// Compares one mode and key with openssl's result.
#[track_caller]
fn check(client: &Client, mechanism: &Mechanism<'_>, key: ObjectHandle, data: &[u8], expected: &[u8]) {
    let sealed = client.session.encrypt(mechanism, key, data).expect("it encrypts");
    assert_eq!(openssl::hex(&sealed), openssl::hex(expected), "{mechanism:?}, {} bytes", data.len());
    assert_eq!(client.session.decrypt(mechanism, key, &sealed).expect("it decrypts"), data);
    for sizes in [[1_usize, 2, 3].as_slice(), &[16], &[17, 5], &[5000]] {
        if sizes[0] == 1 && data.len() > 1000 {
            continue;
        }
        assert_eq!(
            encrypt_in_parts(client, mechanism, key, data, sizes),
            expected,
            "{mechanism:?} in {sizes:?}"
        );
        assert_eq!(
            decrypt_in_parts(client, mechanism, key, expected, sizes),
            data,
            "{mechanism:?} in {sizes:?}"
        );
    }
}

#[test]
fn aes_cbc_pad() {
    let stack = Stack::compat();
    let client = Client::user(&stack);
    let iv = *b"0123456789abcdef";
    for bytes in [16, 24, 32] {
        let (key, value) = keys::open_aes(&client, bytes);
        for length in LENGTHS {
            let data = text(length);
            let expected = openssl::encrypt(&format!("aes-{}-cbc", bytes * 8), &[], &value, &iv, &data);
            check(&client, &Mechanism::AesCbcPad(iv), key, &data, &expected);
        }
    }
}

#[test]
fn aes_cbc_and_ecb() {
    let stack = Stack::compat();
    let client = Client::user(&stack);
    let iv = [9; 16];
    for bytes in [16, 24, 32] {
        let (key, value) = keys::open_aes(&client, bytes);
        for length in [16, 32, 4096] {
            let data = text(length);
            let cbc = openssl::encrypt(&format!("aes-{}-cbc", bytes * 8), &["-nopad"], &value, &iv, &data);
            check(&client, &Mechanism::AesCbc(iv), key, &data, &cbc);
            let ecb = openssl::encrypt(&format!("aes-{}-ecb", bytes * 8), &["-nopad"], &value, &[], &data);
            check(&client, &Mechanism::AesEcb, key, &data, &ecb);
        }
        for mechanism in [Mechanism::AesCbc(iv), Mechanism::AesEcb] {
            refused(client.session.encrypt(&mechanism, key, &[0; 17]), RvError::DataLenRange);
            refused(client.session.decrypt(&mechanism, key, &[0; 17]), RvError::EncryptedDataLenRange);
        }
    }
}

#[test]
fn aes_ctr() {
    let stack = Stack::compat();
    let client = Client::user(&stack);
    for bytes in [16, 32] {
        let (key, value) = keys::open_aes(&client, bytes);
        for length in LENGTHS {
            let data = text(length);
            let parameters = CK_AES_CTR_PARAMS { ulCounterBits: 128, cb: [0xfe; 16] };
            let mechanism = VendorDefinedMechanism::new(MechanismType::AES_CTR, Some(&parameters));
            let expected =
                openssl::encrypt(&format!("aes-{}-ctr", bytes * 8), &[], &value, &[0xfe; 16], &data);
            check(&client, &Mechanism::VendorDefined(mechanism), key, &data, &expected);
        }
        // A counter of 32 bits wraps within those bits, while openssl's carries into the rest. One block is encrypted
        // with the counter at its maximum.
        let parameters = CK_AES_CTR_PARAMS { ulCounterBits: 32, cb: [0xff; 16] };
        let mechanism = VendorDefinedMechanism::new(MechanismType::AES_CTR, Some(&parameters));
        let sealed =
            client.session.encrypt(&Mechanism::VendorDefined(mechanism), key, &[0; 16]).expect("one block");
        let block =
            openssl::encrypt(&format!("aes-{}-ecb", bytes * 8), &["-nopad"], &value, &[], &[0xff; 16]);
        assert_eq!(sealed, block);
    }
}

#[test]
fn aes_gcm() {
    let stack = Stack::compat();
    let client = Client::user(&stack);
    for bytes in [16, 32] {
        let (key, value) = keys::open_aes(&client, bytes);
        for (length, aad) in LENGTHS.into_iter().zip([b"".as_slice(), b"row 7"].into_iter().cycle()) {
            let (data, mut iv) = (text(length), *b"unique nonce");
            let expected = openssl::encrypt_gcm(&value, &iv, aad, &data);
            let parameters = GcmParams::new(&mut iv, aad, 128.into()).expect("parameters");
            check(&client, &Mechanism::AesGcm(parameters), key, &data, &expected);
        }
    }
}

#[test]
fn aes_gcm_rejects_modified_data() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let key = keys::aes(&client, "gcm");
    let open = |iv: [u8; 12], aad: &[u8], tag_bits: u64, sealed: &[u8]| {
        let mut iv = iv;
        let parameters = GcmParams::new(&mut iv, aad, tag_bits.into()).expect("parameters");
        client.session.decrypt(&Mechanism::AesGcm(parameters), key, sealed)
    };
    for tag_bits in [128, 96] {
        let mut iv = [1; 12];
        let parameters = GcmParams::new(&mut iv, b"aad", tag_bits.into()).expect("parameters");
        let sealed = client
            .session
            .encrypt(&Mechanism::AesGcm(parameters), key, b"attack at dawn")
            .expect("it encrypts");
        assert_eq!(sealed.len(), 14 + usize::try_from(tag_bits / 8).expect("small"));
        assert_eq!(open([1; 12], b"aad", tag_bits, &sealed).expect("it opens"), b"attack at dawn");
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            let (code, _) = kms_tests::client::code(open([1; 12], b"aad", tag_bits, &changed));
            assert!(matches!(code, RvError::EncryptedDataInvalid), "{index}: {code:?}");
        }
        for wrong in [open([2; 12], b"aad", tag_bits, &sealed), open([1; 12], b"AAD", tag_bits, &sealed)] {
            let (code, _) = kms_tests::client::code(wrong);
            assert!(matches!(code, RvError::EncryptedDataInvalid), "{code:?}");
        }
        let (code, _) = kms_tests::client::code(open([1; 12], b"aad", tag_bits, &sealed[..8]));
        assert!(
            matches!(code, RvError::EncryptedDataLenRange | RvError::EncryptedDataInvalid),
            "shorter than the tag: {code:?}"
        );
    }
}

#[test]
fn gcm_returns_no_plaintext_before_the_tag_is_verified() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let key = keys::aes(&client, "gcm");
    let mut iv = [3; 12];
    let parameters = GcmParams::new(&mut iv, b"", 128.into()).expect("parameters");
    let mechanism = Mechanism::AesGcm(parameters);
    let mut sealed = client.session.encrypt(&mechanism, key, &text(5000)).expect("it encrypts");
    *sealed.last_mut().expect("there is a tag") ^= 1;
    client.session.decrypt_init(&mechanism, key).expect("C_DecryptInit succeeds");
    for part in sealed.chunks(100) {
        assert_eq!(
            client.session.decrypt_update(part).expect("the part is accepted"),
            b"",
            "no output before the tag is verified"
        );
    }
    let (code, _) = kms_tests::client::code(client.session.decrypt_final());
    assert!(matches!(code, RvError::EncryptedDataInvalid), "{code:?}");
    refused(client.session.decrypt_update(b"x"), RvError::OperationNotInitialized);
}

#[test]
fn every_padding_error_has_the_same_code() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let key = keys::aes(&client, "pad");
    let sealed = client.session.encrypt(&Mechanism::AesCbcPad([0; 16]), key, &text(32)).expect("it encrypts");
    let mut codes = Vec::new();
    for index in 32..48 {
        let mut changed = sealed.clone();
        changed[index - 16] ^= 0xff;
        let (code, function) =
            kms_tests::client::code(client.session.decrypt(&Mechanism::AesCbcPad([0; 16]), key, &changed));
        codes.push(format!("{code:?} by {function:?}"));
    }
    codes.dedup();
    assert_eq!(codes.len(), 1, "{codes:?}");
    assert!(codes[0].contains("EncryptedDataInvalid"), "{codes:?}");
    refused(
        client.session.decrypt(&Mechanism::AesCbcPad([0; 16]), key, &sealed[..40]),
        RvError::EncryptedDataLenRange,
    );
}

#[test]
fn rsa_oaep() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let (public, private) = keys::rsa(&client, 2048);
    let openssl = PublicKey::new(&client.public_key_info(public));
    let hashes = [
        ("sha1", MechanismType::SHA1, PkcsMgfType::MGF1_SHA1),
        ("sha256", MechanismType::SHA256, PkcsMgfType::MGF1_SHA256),
        ("sha384", MechanismType::SHA384, PkcsMgfType::MGF1_SHA384),
        ("sha512", MechanismType::SHA512, PkcsMgfType::MGF1_SHA512),
    ];
    for (name, hash, mgf) in hashes {
        for label in [b"".as_slice(), b"a label"] {
            let source = if label.is_empty() {
                PkcsOaepSource::empty()
            } else {
                PkcsOaepSource::data_specified(label)
            };
            let mechanism = Mechanism::RsaPkcsOaep(PkcsOaepParams::new(hash, mgf, source));
            let (md, mgf1) = (format!("rsa_oaep_md:{name}"), format!("rsa_mgf1_md:{name}"));
            let hex_label = format!("rsa_oaep_label:{}", openssl::hex(label));
            let mut options = vec!["rsa_padding_mode:oaep", &md, &mgf1];
            if !label.is_empty() {
                options.push(&hex_label);
            }
            let by_openssl = openssl.encrypt(&options, b"from outside");
            assert_eq!(
                client.session.decrypt(&mechanism, private, &by_openssl).expect("it decrypts"),
                b"from outside"
            );
            let by_kms = client.session.encrypt(&mechanism, public, b"from inside").expect("it encrypts");
            assert_eq!(
                client.session.decrypt(&mechanism, private, &by_kms).expect("it decrypts"),
                b"from inside"
            );
            let mut changed = by_kms;
            changed[100] ^= 1;
            let (code, _) = kms_tests::client::code(client.session.decrypt(&mechanism, private, &changed));
            assert!(
                matches!(code, RvError::EncryptedDataInvalid | RvError::EncryptedDataLenRange),
                "{code:?}"
            );
        }
    }
    // The hash and that of the mask generation function may differ.
    let mixed = PkcsOaepParams::new(MechanismType::SHA256, PkcsMgfType::MGF1_SHA1, PkcsOaepSource::empty());
    let by_openssl =
        openssl.encrypt(&["rsa_padding_mode:oaep", "rsa_oaep_md:sha256", "rsa_mgf1_md:sha1"], b"mixed");
    assert_eq!(client.session.decrypt(&mixed.into(), private, &by_openssl).expect("it decrypts"), b"mixed");
    // The longest message is 256 - 2 * 32 - 2 bytes.
    let longest =
        PkcsOaepParams::new(MechanismType::SHA256, PkcsMgfType::MGF1_SHA256, PkcsOaepSource::empty());
    let longest = Mechanism::from(longest);
    let by_kms = client.session.encrypt(&longest, public, &[7; 190]).expect("it encrypts");
    assert_eq!(client.session.decrypt(&longest, private, &by_kms).expect("it decrypts"), [7; 190]);
    refused(client.session.encrypt(&longest, public, &[7; 191]), RvError::DataLenRange);
}

#[test]
fn rsa_pkcs_on_a_compat_ring() {
    let stack = Stack::compat();
    let client = Client::user(&stack);
    let (public, private) = keys::rsa(&client, 2048);
    let openssl = PublicKey::new(&client.public_key_info(public));
    let by_openssl = openssl.encrypt(&["rsa_padding_mode:pkcs1"], b"from outside");
    assert_eq!(
        client.session.decrypt(&Mechanism::RsaPkcs, private, &by_openssl).expect("it decrypts"),
        b"from outside"
    );
    let by_kms = client.session.encrypt(&Mechanism::RsaPkcs, public, b"from inside").expect("it encrypts");
    assert_eq!(
        client.session.decrypt(&Mechanism::RsaPkcs, private, &by_kms).expect("it decrypts"),
        b"from inside"
    );
    refused(client.session.encrypt(&Mechanism::RsaPkcs, public, &[7; 246]), RvError::DataLenRange);
}
