//! Wrong pointers, lengths, handles and order of calls. Each call returns an error code, and the session stays usable.

use std::ptr;

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_GCM_PARAMS, CK_INVALID_HANDLE, CK_MECHANISM, CK_OBJECT_HANDLE, CKA_DECRYPT, CKA_ENCRYPT,
    CKA_LABEL, CKA_TOKEN, CKA_VALUE_LEN, CKF_RW_SESSION, CKF_SERIAL_SESSION, CKM_AES_CBC, CKM_AES_ECB,
    CKM_AES_GCM, CKM_AES_KEY_GEN, CKM_SHA256, CKU_USER,
};
use kms_protocol::Rv;
use kms_tests::child::isolated;
use kms_tests::raw::{Mechanism, Module, Session, Template};
use kms_tests::{Policy, call};

/// The length that results when a host passes -1.
const NO_LENGTH: u64 = u64::MAX;

fn open(module: &Module) -> Session<'_> {
    module.initialize_bare().expect("it initialises");
    module.user("test")
}

fn aes(session: &Session<'_>) -> CK_OBJECT_HANDLE {
    let template = Template::new().bool(CKA_TOKEN, true).ulong(CKA_VALUE_LEN, 32);
    let template = template.bool(CKA_ENCRYPT, true).bool(CKA_DECRYPT, true).bytes(CKA_LABEL, b"misused");
    session.generate(Mechanism::plain(CKM_AES_KEY_GEN), template).expect("the key is generated")
}

/// Asserts that a call fails with one of these codes.
#[track_caller]
fn refused(result: Result<(), Rv>, expected: &[Rv]) {
    assert!(matches!(result, Err(rv) if expected.contains(&rv)), "{result:?}, expected one of {expected:?}");
}

#[test]
fn null_pointers() {
    isolated(Policy::Strict, |target| {
        let module = &Module::load(&target.module);
        let session = open(module);
        let (key, handle, slot) = (aes(&session), session.handle, module.slots(true).expect("slots")[0]);
        let bad = &[Rv::ARGUMENTS_BAD];
        let mut number = 0;
        refused(call!(module, C_GetInfo(ptr::null_mut())), bad);
        refused(call!(module, C_GetFunctionList(ptr::null_mut())), bad);
        refused(call!(module, C_GetSlotList(1, ptr::null_mut(), ptr::null_mut())), bad);
        refused(call!(module, C_GetSlotInfo(slot, ptr::null_mut())), bad);
        refused(call!(module, C_GetTokenInfo(slot, ptr::null_mut())), bad);
        refused(call!(module, C_GetMechanismList(slot, ptr::null_mut(), ptr::null_mut())), bad);
        refused(call!(module, C_GetMechanismInfo(slot, CKM_AES_ECB, ptr::null_mut())), bad);
        refused(
            call!(module, C_OpenSession(slot, CKF_SERIAL_SESSION, ptr::null_mut(), None, ptr::null_mut())),
            bad,
        );
        refused(call!(module, C_GetSessionInfo(handle, ptr::null_mut())), bad);
        refused(call!(module, C_GetAttributeValue(handle, key, ptr::null_mut(), 1)), bad);
        refused(call!(module, C_SetAttributeValue(handle, key, ptr::null_mut(), 1)), bad);
        refused(call!(module, C_FindObjectsInit(handle, ptr::null_mut(), 1)), bad);
        refused(
            call!(module, C_GenerateKey(handle, ptr::null_mut(), ptr::null_mut(), 0, &raw mut number)),
            bad,
        );
        refused(call!(module, C_GenerateRandom(handle, ptr::null_mut(), 16)), bad);
        let mut generate = Mechanism::plain(CKM_AES_KEY_GEN);
        let mut raw = generate.raw();
        refused(call!(module, C_GenerateKey(handle, &raw mut raw, ptr::null_mut(), 3, &raw mut number)), bad);
        refused(call!(module, C_GenerateKey(handle, &raw mut raw, ptr::null_mut(), 0, ptr::null_mut())), bad);
        let session_two = module.open(slot, CKF_SERIAL_SESSION).expect("a session opens");
        refused(
            call!(module, C_Login(session_two.handle, CKU_USER, ptr::null_mut(), 4)),
            &[Rv::ARGUMENTS_BAD, Rv::USER_ALREADY_LOGGED_IN],
        );
        refused(call!(module, C_SetPIN(handle, ptr::null_mut(), 4, ptr::null_mut(), 4)), bad);
        // An empty template and zero random bytes are allowed.
        call!(module, C_FindObjectsInit(handle, ptr::null_mut(), 0)).expect("an empty template");
        refused(call!(module, C_FindObjects(handle, ptr::null_mut(), 8, &raw mut number)), bad);
        call!(module, C_FindObjectsFinal(handle)).expect("the search is still there");
        call!(module, C_GenerateRandom(handle, ptr::null_mut(), 0)).expect("zero bytes");
        session.encrypt(Mechanism::plain(CKM_AES_ECB), key, &[0; 16]).expect("the session still works");
    });
}

#[test]
fn a_null_input_ends_the_operation() {
    isolated(Policy::Strict, |target| {
        let module = &Module::load(&target.module);
        let session = open(module);
        let (key, handle) = (aes(&session), session.handle);
        let (mut out, mut length) = ([0_u8; 64], 64);
        session.encrypt_init(Mechanism::with(CKM_AES_CBC, &[0; 16]), key).expect("C_EncryptInit succeeds");
        let null = call!(module, C_Encrypt(handle, ptr::null_mut(), 16, out.as_mut_ptr(), &raw mut length));
        refused(null, &[Rv::ARGUMENTS_BAD]);
        let after = call!(module, C_Encrypt(handle, out.as_mut_ptr(), 16, out.as_mut_ptr(), &raw mut length));
        refused(after, &[Rv::OPERATION_NOT_INITIALIZED]);
        session.digest_init(Mechanism::plain(CKM_SHA256)).expect("C_DigestInit succeeds");
        refused(call!(module, C_DigestUpdate(handle, ptr::null_mut(), 5)), &[Rv::ARGUMENTS_BAD]);
        refused(call!(module, C_DigestUpdate(handle, out.as_mut_ptr(), 5)), &[Rv::OPERATION_NOT_INITIALIZED]);
    });
}

#[test]
fn a_null_length_is_rejected() {
    isolated(Policy::Strict, |target| {
        let module = &Module::load(&target.module);
        let session = open(module);
        let (key, handle) = (aes(&session), session.handle);
        let mut data = [0_u8; 64];
        session.encrypt_init(Mechanism::with(CKM_AES_CBC, &[0; 16]), key).expect("C_EncryptInit succeeds");
        let null =
            call!(module, C_Encrypt(handle, data.as_mut_ptr(), 16, data.as_mut_ptr(), ptr::null_mut()));
        refused(null, &[Rv::ARGUMENTS_BAD]);
        // After the operation is cancelled, whether or not it had ended, a new one can begin.
        call!(module, C_EncryptInit(handle, ptr::null_mut(), 0)).unwrap_or_default();
        session.encrypt(Mechanism::plain(CKM_AES_ECB), key, &[0; 16]).expect("the session still works");
    });
}

#[test]
fn lengths_beyond_all_memory() {
    isolated(Policy::Strict, |target| {
        let module = &Module::load(&target.module);
        let session = open(module);
        let (key, handle) = (aes(&session), session.handle);
        let mut data = [0_u8; 64];
        let mut length = 64;
        for huge in [NO_LENGTH, NO_LENGTH - 1, 1 << 63, (1 << 63) - 1, 1 << 48] {
            let lengths = &[Rv::ARGUMENTS_BAD, Rv::DATA_LEN_RANGE];
            session
                .encrypt_init(Mechanism::with(CKM_AES_CBC, &[0; 16]), key)
                .expect("C_EncryptInit succeeds");
            let all =
                call!(module, C_Encrypt(handle, data.as_mut_ptr(), huge, data.as_mut_ptr(), &raw mut length));
            refused(all, lengths);
            session.digest_init(Mechanism::plain(CKM_SHA256)).expect("C_DigestInit succeeds");
            refused(call!(module, C_DigestUpdate(handle, data.as_mut_ptr(), huge)), lengths);
            refused(call!(module, C_GenerateRandom(handle, data.as_mut_ptr(), huge)), lengths);
            let pins = &[Rv::ARGUMENTS_BAD, Rv::PIN_LEN_RANGE, Rv::PIN_INCORRECT, Rv::USER_ALREADY_LOGGED_IN];
            refused(call!(module, C_Login(handle, CKU_USER, data.as_mut_ptr(), huge)), pins);
            let mut value =
                CK_ATTRIBUTE { type_: CKA_LABEL, pValue: data.as_mut_ptr().cast(), ulValueLen: huge };
            let templates = &[Rv::ARGUMENTS_BAD, Rv::ATTRIBUTE_VALUE_INVALID, Rv::TEMPLATE_INCONSISTENT];
            refused(call!(module, C_FindObjectsInit(handle, &raw mut value, 1)), templates);
            refused(call!(module, C_FindObjectsInit(handle, &raw mut value, huge)), templates);
            refused(call!(module, C_SetAttributeValue(handle, key, &raw mut value, 1)), templates);
            refused(call!(module, C_GetAttributeValue(handle, key, &raw mut value, huge)), templates);
            let (mut found, mut count) = ([0; 4], 0);
            call!(module, C_FindObjectsInit(handle, ptr::null_mut(), 0)).expect("a search begins");
            // No more handles are written than objects were found.
            call!(module, C_FindObjects(handle, found.as_mut_ptr(), 4, &raw mut count))
                .expect("objects are found");
            call!(module, C_FindObjectsFinal(handle)).expect("the search ends");
            let mut parameter = CK_MECHANISM {
                mechanism: CKM_AES_CBC,
                pParameter: data.as_mut_ptr().cast(),
                ulParameterLen: huge,
            };
            refused(
                call!(module, C_EncryptInit(handle, &raw mut parameter, key)),
                &[Rv::MECHANISM_PARAM_INVALID, Rv::ARGUMENTS_BAD],
            );
        }
        session.encrypt(Mechanism::plain(CKM_AES_ECB), key, &[0; 16]).expect("the session still works");
    });
}

#[test]
fn broken_mechanism_parameters() {
    isolated(Policy::Strict, |target| {
        let module = &Module::load(&target.module);
        let session = open(module);
        let (key, handle) = (aes(&session), session.handle);
        let mut bytes = [0_u8; 16];
        let iv = bytes.as_mut_ptr();
        let right =
            CK_GCM_PARAMS { pIv: iv, ulIvLen: 12, ulIvBits: 96, pAAD: iv, ulAADLen: 4, ulTagBits: 128 };
        let wrong = [
            CK_GCM_PARAMS { pIv: ptr::null_mut(), ..right },
            CK_GCM_PARAMS { pAAD: ptr::null_mut(), ..right },
            CK_GCM_PARAMS { ulIvLen: 0, ulIvBits: 0, ..right },
            CK_GCM_PARAMS { ulIvLen: NO_LENGTH, ..right },
            CK_GCM_PARAMS { ulAADLen: NO_LENGTH, ..right },
            CK_GCM_PARAMS { ulTagBits: 0, ..right },
            CK_GCM_PARAMS { ulTagBits: 129, ..right },
            CK_GCM_PARAMS { ulTagBits: NO_LENGTH, ..right },
        ];
        let begin = |parameters: &mut CK_GCM_PARAMS, length: usize| {
            let mut mechanism = CK_MECHANISM {
                mechanism: CKM_AES_GCM,
                pParameter: ptr::from_mut(parameters).cast(),
                ulParameterLen: length as u64,
            };
            call!(module, C_EncryptInit(handle, &raw mut mechanism, key))
        };
        for mut parameters in wrong {
            let description = format!("{parameters:?}");
            let result = begin(&mut parameters, size_of::<CK_GCM_PARAMS>());
            assert!(
                matches!(result, Err(Rv::MECHANISM_PARAM_INVALID | Rv::ARGUMENTS_BAD)),
                "{description}: {result:?}"
            );
        }
        for length in [0, 1, 47, 49] {
            refused(begin(&mut { right }, length), &[Rv::MECHANISM_PARAM_INVALID, Rv::ARGUMENTS_BAD]);
        }
        for (kind, length) in
            [(CKM_AES_CBC, 0_usize), (CKM_AES_CBC, 15), (CKM_AES_CBC, 17), (CKM_AES_ECB, 16)]
        {
            let parameter = Mechanism::with(kind, &bytes[..length.min(16)]);
            let mut parameter = if length == 17 { Mechanism::with(kind, &[0; 17]) } else { parameter };
            let mut raw = parameter.raw();
            refused(call!(module, C_EncryptInit(handle, &raw mut raw, key)), &[Rv::MECHANISM_PARAM_INVALID]);
        }
        let mut unknown = Mechanism::plain(0x8000_1234);
        let mut raw = unknown.raw();
        refused(call!(module, C_EncryptInit(handle, &raw mut raw, key)), &[Rv::MECHANISM_INVALID]);
        session.encrypt(Mechanism::plain(CKM_AES_ECB), key, &[0; 16]).expect("the session still works");
    });
}

#[test]
fn invalid_handles_are_rejected() {
    isolated(Policy::Strict, |target| {
        let module = &Module::load(&target.module);
        let session = open(module);
        let (key, slot) = (aes(&session), module.slots(true).expect("slots")[0]);
        let (mut data, mut length) = ([0_u8; 64], 64);
        for wrong in [CK_INVALID_HANDLE, session.handle + 1000, u64::MAX] {
            let none = &[Rv::SESSION_HANDLE_INVALID];
            let invalid = Session { module, handle: wrong };
            refused(invalid.info().map(drop), none);
            refused(invalid.close(), none);
            refused(invalid.logout(), none);
            refused(invalid.login(CKU_USER, b"1234"), none);
            refused(invalid.encrypt_init(Mechanism::plain(CKM_AES_ECB), key), none);
            refused(invalid.find(Template::new()).map(drop), none);
            refused(invalid.destroy(key), none);
            refused(call!(module, C_GenerateRandom(wrong, data.as_mut_ptr(), 8)), none);
            refused(
                call!(module, C_Sign(wrong, data.as_mut_ptr(), 8, data.as_mut_ptr(), &raw mut length)),
                none,
            );
            let no_key = &[Rv::KEY_HANDLE_INVALID];
            refused(session.encrypt_init(Mechanism::plain(CKM_AES_ECB), wrong), no_key);
            refused(session.destroy(wrong), &[Rv::OBJECT_HANDLE_INVALID]);
            refused(session.attribute(wrong, CKA_LABEL).map(drop), &[Rv::OBJECT_HANDLE_INVALID]);
        }
        for wrong in [slot + 77, u64::MAX] {
            refused(module.open(wrong, CKF_SERIAL_SESSION).map(drop), &[Rv::SLOT_ID_INVALID]);
            refused(module.token(wrong).map(drop), &[Rv::SLOT_ID_INVALID]);
            refused(call!(module, C_CloseAllSessions(wrong)), &[Rv::SLOT_ID_INVALID]);
        }
        refused(module.open(slot, CKF_RW_SESSION).map(drop), &[Rv::SESSION_PARALLEL_NOT_SUPPORTED]);
        let other = module.open(slot, CKF_SERIAL_SESSION).expect("a session opens");
        other.close().expect("it closes");
        refused(other.close(), &[Rv::SESSION_HANDLE_INVALID]);
        let another = module.open(slot, CKF_SERIAL_SESSION).expect("a session opens");
        assert_ne!(another.handle, other.handle, "handles are not reused");
        assert_eq!(call!(module, C_CloseAllSessions(slot)), Ok(()));
        refused(session.info().map(drop), &[Rv::SESSION_HANDLE_INVALID]);
        refused(another.info().map(drop), &[Rv::SESSION_HANDLE_INVALID]);
    });
}

#[test]
fn calls_out_of_order() {
    isolated(Policy::Strict, |target| {
        let module = &Module::load(&target.module);
        let session = open(module);
        let (key, handle) = (aes(&session), session.handle);
        let (mut data, mut length) = ([0_u8; 64], 64);
        let none = &[Rv::OPERATION_NOT_INITIALIZED];
        let (io, len, mut found) = (data.as_mut_ptr(), &raw mut length, 0);
        refused(call!(module, C_Encrypt(handle, io, 16, io, len)), none);
        refused(call!(module, C_EncryptUpdate(handle, io, 16, io, len)), none);
        refused(call!(module, C_EncryptFinal(handle, io, len)), none);
        refused(call!(module, C_Decrypt(handle, io, 16, io, len)), none);
        refused(call!(module, C_DecryptFinal(handle, io, len)), none);
        refused(call!(module, C_Sign(handle, io, 16, io, len)), none);
        refused(call!(module, C_SignFinal(handle, io, len)), none);
        refused(call!(module, C_Verify(handle, io, 16, io, 16)), none);
        refused(call!(module, C_VerifyFinal(handle, io, 16)), none);
        refused(call!(module, C_Digest(handle, io, 16, io, len)), none);
        refused(call!(module, C_DigestFinal(handle, io, len)), none);
        refused(call!(module, C_FindObjects(handle, &raw mut found, 1, len)), none);
        refused(call!(module, C_FindObjectsFinal(handle)), none);
        session.encrypt_init(Mechanism::plain(CKM_AES_ECB), key).expect("C_EncryptInit succeeds");
        let active = &[Rv::OPERATION_ACTIVE];
        refused(session.encrypt_init(Mechanism::plain(CKM_AES_ECB), key), active);
        // An operation of another kind can be active at the same time.
        session.digest_init(Mechanism::plain(CKM_SHA256)).expect("C_DigestInit succeeds");
        refused(session.digest_init(Mechanism::plain(CKM_SHA256)), active);
        // Spec, "C_EncryptInit": a null mechanism ends the operation.
        call!(module, C_EncryptInit(handle, ptr::null_mut(), 0)).expect("the operation is cancelled");
        refused(call!(module, C_EncryptFinal(handle, io, len)), none);
        call!(module, C_FindObjectsInit(handle, ptr::null_mut(), 0)).expect("a search begins");
        refused(call!(module, C_FindObjectsInit(handle, ptr::null_mut(), 0)), active);
        call!(module, C_FindObjectsFinal(handle)).expect("the search ends");
        // After a multi-part call, a single-part call is rejected.
        session.encrypt_init(Mechanism::plain(CKM_AES_ECB), key).expect("C_EncryptInit succeeds");
        length = 64;
        call!(module, C_EncryptUpdate(handle, io, 16, io, &raw mut length)).expect("the part is accepted");
        length = 64;
        let single = call!(module, C_Encrypt(handle, io, 16, io, &raw mut length));
        refused(single, &[Rv::OPERATION_ACTIVE, Rv::OPERATION_NOT_INITIALIZED, Rv::FUNCTION_FAILED]);
    });
}

#[test]
fn unsupported_functions_return_their_code() {
    isolated(Policy::Strict, |target| {
        let module = &Module::load(&target.module);
        let session = open(module);
        let (handle, slot) = (session.handle, module.slots(true).expect("slots")[0]);
        let (mut data, mut length) = ([0_u8; 64], 64);
        let (io, len) = (data.as_mut_ptr(), &raw mut length);
        let unsupported = &[Rv::FUNCTION_NOT_SUPPORTED];
        refused(call!(module, C_GetOperationState(handle, io, len)), unsupported);
        refused(call!(module, C_SetOperationState(handle, io, 16, 0, 0)), unsupported);
        refused(call!(module, C_SignRecover(handle, io, 16, io, len)), unsupported);
        refused(
            call!(module, C_DigestEncryptUpdate(handle, io, 16, io, len)),
            &[Rv::OPERATION_NOT_INITIALIZED],
        );
        refused(call!(module, C_GetFunctionStatus(handle)), &[Rv::FUNCTION_NOT_PARALLEL]);
        refused(call!(module, C_CancelFunction(handle)), &[Rv::FUNCTION_NOT_PARALLEL]);
        call!(module, C_SeedRandom(handle, io, 16)).expect("a seed is mixed in");
        let mut event = slot;
        refused(call!(module, C_WaitForSlotEvent(1, &raw mut event, ptr::null_mut())), &[Rv::NO_EVENT]);
    });
}

#[test]
fn a_wait_for_slot_events_ends_with_the_module() {
    isolated(Policy::Strict, |target| {
        let module = &Module::load(&target.module);
        open(module);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let mut event = 0;
                call!(module, C_WaitForSlotEvent(0, &raw mut event, ptr::null_mut()))
            });
            std::thread::sleep(std::time::Duration::from_millis(100));
            assert!(!waiting.is_finished(), "there is no slot event");
            assert_eq!(call!(module, C_Finalize(ptr::null_mut())), Ok(()));
            refused(waiting.join().expect("no panic"), &[Rv::CRYPTOKI_NOT_INITIALIZED]);
        });
    });
}
