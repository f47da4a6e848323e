//! "Conventions for functions returning output in a variable-length buffer": a length query or a buffer that is too
//! small neither performs nor ends an operation. Also in-place output, misaligned pointers and attributes.

use std::ptr;

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_OBJECT_HANDLE, CK_ULONG, CK_UNAVAILABLE_INFORMATION, CKA_CLASS, CKA_DECRYPT,
    CKA_EC_PARAMS, CKA_ENCRYPT, CKA_LABEL, CKA_MODULUS, CKA_MODULUS_BITS, CKA_PUBLIC_EXPONENT, CKA_SIGN,
    CKA_TOKEN, CKA_VALUE, CKA_VALUE_LEN, CKA_VERIFY, CKM_AES_CBC, CKM_AES_CBC_PAD, CKM_AES_KEY_GEN,
    CKM_EC_KEY_PAIR_GEN, CKM_ECDSA, CKM_RSA_PKCS_KEY_PAIR_GEN, CKM_SHA256, CKM_SHA256_RSA_PKCS,
};
use kms_protocol::Rv;
use kms_tests::child::isolated;
use kms_tests::raw::{Mechanism, Module, OutputSize, Session, Template};
use kms_tests::{Policy, call};

const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

fn aes(session: &Session<'_>) -> CK_OBJECT_HANDLE {
    let template = Template::new().bool(CKA_TOKEN, true).ulong(CKA_VALUE_LEN, 32).bytes(CKA_LABEL, b"four");
    let template = template.bool(CKA_ENCRYPT, true).bool(CKA_DECRYPT, true);
    session.generate(Mechanism::plain(CKM_AES_KEY_GEN), template).expect("the key is generated")
}

type Output = Result<(Vec<u8>, usize), (Rv, usize)>;

/// Queries the length, passes buffers that are too small, then one that is large enough; returns the output. `needed`
/// is the output's length.
#[track_caller]
fn two_calls(needed: usize, call: impl Fn(OutputSize) -> Output) -> Vec<u8> {
    let reported = call(OutputSize::Query).expect("a length query succeeds").1;
    assert!(reported >= needed, "{reported} reported, {needed} needed");
    for size in [0, 1, needed - 1] {
        let (rv, length) = call(OutputSize::Bytes(size)).expect_err("the buffer is too small");
        assert_eq!(rv, Rv::BUFFER_TOO_SMALL, "a buffer of {size} bytes");
        assert!(length >= needed && length <= reported, "a buffer of {size} bytes: {length} reported");
    }
    // The first query may report an upper bound; once the output has been computed, its exact length is allowed too.
    let again = call(OutputSize::Query).expect("a second length query succeeds").1;
    assert!(again == reported || again == needed, "{reported}, then {again} reported, {needed} needed");
    let (output, length) = call(OutputSize::Bytes(reported)).expect("the buffer is large enough");
    assert_eq!(length, needed);
    output
}

#[test]
fn the_two_call_rule() {
    isolated(Policy::Strict, |target| {
        let module = &Module::load(&target.module);
        module.initialize_bare().expect("it initialises");
        let session = module.user("test");
        let key = aes(&session);
        let mechanism = || Mechanism::with(CKM_AES_CBC_PAD, &[1; 16]);
        session.encrypt_init(mechanism(), key).expect("C_EncryptInit succeeds");
        let sealed = two_calls(32, |size| session.encrypt_into(&[7; 20], size));
        assert_eq!(
            session.encrypt_into(&[7; 20], OutputSize::Query),
            Err((Rv::OPERATION_NOT_INITIALIZED, 0))
        );
        session.decrypt_init(mechanism(), key).expect("C_DecryptInit succeeds");
        assert_eq!(two_calls(20, |size| session.decrypt_into(&sealed, size)), [7; 20]);
        let gcm = || Mechanism::gcm(&[2; 12], b"aad", 128);
        session.encrypt_init(gcm(), key).expect("C_EncryptInit succeeds");
        let sealed = two_calls(116, |size| session.encrypt_into(&[8; 100], size));
        session.decrypt_init(gcm(), key).expect("C_DecryptInit succeeds");
        assert_eq!(two_calls(100, |size| session.decrypt_into(&sealed, size)), [8; 100]);
        session.digest_init(Mechanism::plain(CKM_SHA256)).expect("C_DigestInit succeeds");
        two_calls(32, |size| session.digest_into(b"abc", size));
        let public = Template::new().ulong(CKA_MODULUS_BITS, 2048).bytes(CKA_PUBLIC_EXPONENT, &[1, 0, 1]);
        let public = public.bool(CKA_VERIFY, true).bool(CKA_TOKEN, true);
        let private = Template::new().bool(CKA_SIGN, true).bool(CKA_TOKEN, true);
        let pair = session.generate_pair(Mechanism::plain(CKM_RSA_PKCS_KEY_PAIR_GEN), public, private);
        let (_, private) = pair.expect("the pair is generated");
        session.sign_init(Mechanism::plain(CKM_SHA256_RSA_PKCS), private).expect("C_SignInit succeeds");
        let whole = two_calls(256, |size| session.sign_into(b"message", size));
        session.sign_init(Mechanism::plain(CKM_SHA256_RSA_PKCS), private).expect("C_SignInit succeeds");
        session.sign_update(b"mess").expect("the part is accepted");
        session.sign_update(b"age").expect("the part is accepted");
        assert_eq!(two_calls(256, |size| session.sign_final(size)), whole);
    });
}

#[test]
fn ecdsa_signatures_are_computed_once_per_operation() {
    isolated(Policy::Strict, |target| {
        let module = &Module::load(&target.module);
        module.initialize_bare().expect("it initialises");
        let session = module.user("test");
        let public = Template::new().bytes(CKA_EC_PARAMS, P256).bool(CKA_VERIFY, true);
        let private = Template::new().bool(CKA_SIGN, true);
        let pair = session.generate_pair(Mechanism::plain(CKM_EC_KEY_PAIR_GEN), public, private);
        let (public, private) = pair.expect("the pair is generated");
        session.sign_init(Mechanism::plain(CKM_ECDSA), private).expect("C_SignInit succeeds");
        let signature = two_calls(64, |size| session.sign_into(&[3; 32], size));
        session.verify_init(Mechanism::plain(CKM_ECDSA), public).expect("C_VerifyInit succeeds");
        session.verify(&[3; 32], &signature).expect("the signature is valid");
    });
}

#[test]
fn multi_part_operations_follow_the_two_call_rule() {
    isolated(Policy::Strict, |target| {
        let module = &Module::load(&target.module);
        module.initialize_bare().expect("it initialises");
        let session = module.user("test");
        let key = aes(&session);
        let mechanism = || Mechanism::with(CKM_AES_CBC_PAD, &[1; 16]);
        let data: Vec<u8> = (0..100).collect();
        let whole = session.encrypt(mechanism(), key, &data).expect("it encrypts");
        session.encrypt_init(mechanism(), key).expect("C_EncryptInit succeeds");
        let mut sealed = Vec::new();
        for part in data.chunks(33) {
            let (_, reported) =
                session.encrypt_update(part, OutputSize::Query).expect("a length query succeeds");
            if reported > 0 {
                let result = session.encrypt_update(part, OutputSize::Bytes(reported - 1));
                // The length may be an upper bound; then a smaller buffer can be large enough.
                match result {
                    Err((rv, _)) => assert_eq!(rv, Rv::BUFFER_TOO_SMALL),
                    Ok((bytes, _)) => {
                        sealed.extend(bytes);
                        continue;
                    }
                }
            }
            sealed.extend(
                session.encrypt_update(part, OutputSize::Bytes(reported)).expect("the part is accepted").0,
            );
        }
        let left = whole.len() - sealed.len();
        sealed.extend(two_calls(left, |size| session.encrypt_final(size)));
        assert_eq!(sealed, whole);
        session.decrypt_init(mechanism(), key).expect("C_DecryptInit succeeds");
        let mut opened = Vec::new();
        for part in whole.chunks(19) {
            let (_, reported) =
                session.decrypt_update(part, OutputSize::Query).expect("a length query succeeds");
            opened.extend(
                session.decrypt_update(part, OutputSize::Bytes(reported)).expect("the part is accepted").0,
            );
        }
        let left = data.len() - opened.len();
        opened.extend(two_calls(left, |size| session.decrypt_final(size)));
        assert_eq!(opened, data);
    });
}

#[test]
fn input_and_output_may_be_the_same_memory() {
    isolated(Policy::Strict, |target| {
        let module = &Module::load(&target.module);
        module.initialize_bare().expect("it initialises");
        let session = module.user("test");
        let (key, handle) = (aes(&session), session.handle);
        let data: Vec<u8> = (0..160).collect();
        let mechanism = || Mechanism::with(CKM_AES_CBC, &[1; 16]);
        let expected = session.encrypt(mechanism(), key, &data).expect("it encrypts");
        for shift in [0_usize, 1, 16, 40] {
            // The output overlaps the input: exactly, or shifted in either direction.
            for (from, to) in [(0, shift), (shift, 0)] {
                let mut memory = vec![0; 256];
                memory[from..from + 160].copy_from_slice(&data);
                let start = memory.as_mut_ptr();
                let mut length = 160;
                session.encrypt_init(mechanism(), key).expect("C_EncryptInit succeeds");
                let (input, output) = (start.wrapping_add(from), start.wrapping_add(to));
                call!(module, C_Encrypt(handle, input, 160, output, &raw mut length)).expect("it encrypts");
                assert_eq!(memory[to..to + 160], expected, "from {from} to {to}");
            }
        }
        let mut memory = expected.clone();
        let (start, mut length) = (memory.as_mut_ptr(), 160);
        session.decrypt_init(mechanism(), key).expect("C_DecryptInit succeeds");
        call!(module, C_Decrypt(handle, start, 160, start, &raw mut length)).expect("it decrypts in place");
        assert_eq!(memory, data);
    });
}

#[test]
fn misaligned_pointers_work() {
    isolated(Policy::Strict, |target| {
        let module = &Module::load(&target.module);
        module.initialize_bare().expect("it initialises");
        let session = module.user("test");
        let (key, handle) = (aes(&session), session.handle);
        // Every pointer below is one byte off the alignment of these machine words.
        let mut words = [0_u64; 64];
        let odd = words.as_mut_ptr().cast::<u8>().wrapping_add(1);
        call!(module, C_GetSlotList(1, ptr::null_mut(), odd.cast())).expect("a misaligned count");
        call!(module, C_GetInfo(odd.cast())).expect("a misaligned CK_INFO");
        call!(module, C_GetSessionInfo(handle, odd.cast())).expect("a misaligned CK_SESSION_INFO");
        // A misaligned template whose value is misaligned as well: CKA_CLASS, read into byte 201.
        let value = odd.wrapping_add(200);
        let attribute = CK_ATTRIBUTE { type_: CKA_CLASS, pValue: value.cast(), ulValueLen: 8 };
        // SAFETY: `odd` points to 511 bytes of `words`.
        unsafe { odd.cast::<CK_ATTRIBUTE>().write_unaligned(attribute) };
        call!(module, C_GetAttributeValue(handle, key, odd.cast(), 1)).expect("a misaligned template");
        // SAFETY: eight bytes of `words`.
        let class = unsafe { value.cast::<CK_ULONG>().read_unaligned() };
        assert_eq!(class, 4, "CKO_SECRET_KEY");
        let mut iv = Mechanism::with(CKM_AES_CBC, &[1; 16]);
        // SAFETY: as above.
        unsafe { odd.cast::<cryptoki_sys::CK_MECHANISM>().write_unaligned(iv.raw()) };
        call!(module, C_EncryptInit(handle, odd.cast(), key)).expect("a misaligned mechanism");
        let (length, data, output) = (odd.wrapping_add(64), odd.wrapping_add(100), odd.wrapping_add(150));
        // SAFETY: as above.
        unsafe { length.cast::<CK_ULONG>().write_unaligned(32) };
        call!(module, C_Encrypt(handle, data, 32, output, length.cast())).expect("a misaligned length");
        // SAFETY: as above.
        let written = unsafe { length.cast::<CK_ULONG>().read_unaligned() };
        assert_eq!(written, 32);
    });
}

#[test]
fn all_attributes_are_returned_even_when_one_fails() {
    isolated(Policy::Strict, |target| {
        let module = &Module::load(&target.module);
        module.initialize_bare().expect("it initialises");
        let session = module.user("test");
        let (key, handle) = (aes(&session), session.handle);
        let (mut class, mut label, mut short, mut value) = ([0_u8; 8], [0_u8; 8], [0_u8; 2], [0_u8; 64]);
        let attribute = |type_, bytes: &mut [u8]| CK_ATTRIBUTE {
            type_,
            pValue: bytes.as_mut_ptr().cast(),
            ulValueLen: bytes.len() as CK_ULONG,
        };
        let mut list = [
            attribute(CKA_VALUE, &mut value),
            attribute(CKA_MODULUS, &mut []),
            attribute(CKA_LABEL, &mut short),
            attribute(CKA_CLASS, &mut class),
            attribute(CKA_LABEL, &mut label),
            CK_ATTRIBUTE { type_: CKA_LABEL, pValue: ptr::null_mut(), ulValueLen: 0 },
        ];
        let result = call!(module, C_GetAttributeValue(handle, key, list.as_mut_ptr(), 6));
        let known = [Rv::ATTRIBUTE_SENSITIVE, Rv::ATTRIBUTE_TYPE_INVALID, Rv::BUFFER_TOO_SMALL];
        assert!(matches!(result, Err(rv) if known.contains(&rv)), "{result:?}");
        let lengths = list.map(|attribute| attribute.ulValueLen);
        let none = CK_UNAVAILABLE_INFORMATION;
        assert_eq!(lengths, [none, none, none, 8, 4, 4]);
        assert_eq!((class, &label[..4]), (4_u64.to_ne_bytes(), b"four".as_slice()));
        assert_eq!((value, short), ([0; 64], [0; 2]), "nothing is written for rejected attributes");
    });
}
