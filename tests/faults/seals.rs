//! Session objects live as long as their session, whatever happens to the backend, and end when their login, their ring
//! or their original ends (docs/decisions/0050).

use cryptoki_sys::{
    CK_OBJECT_HANDLE, CKA_CLASS, CKA_COPYABLE, CKA_DECRYPT, CKA_ENCRYPT, CKA_LABEL, CKA_PRIVATE, CKA_TOKEN,
    CKA_VALUE, CKA_VALUE_LEN, CKF_RW_SESSION, CKF_SERIAL_SESSION, CKM_AES_CBC_PAD, CKM_AES_KEY_GEN, CKO_DATA,
    CKU_USER,
};
use kms_protocol::{
    Attribute, AttributeType, Mechanism as Wire, MechanismType, ObjectRef, Request, Response, Role, Rv,
    Secret, Template as WireTemplate,
};
use kms_tests::peer::Peer;
use kms_tests::raw::{Mechanism, Module, Session, Template};
use kms_tests::rest::{Field, Rest};
use kms_tests::{SO_PIN, Stack, USER_PIN, call};

fn aes(label: &[u8], token: bool) -> Template {
    let template = Template::new().bool(CKA_TOKEN, token).ulong(CKA_VALUE_LEN, 32).bytes(CKA_LABEL, label);
    template.bool(CKA_ENCRYPT, true).bool(CKA_DECRYPT, true).bool(CKA_COPYABLE, true)
}

fn generate(session: &Session<'_>, label: &[u8], token: bool) -> CK_OBJECT_HANDLE {
    session.generate(Mechanism::plain(CKM_AES_KEY_GEN), aes(label, token)).expect("the key is generated")
}

fn copy(session: &Session<'_>, key: CK_OBJECT_HANDLE) -> CK_OBJECT_HANDLE {
    session.copy(key, Template::new().bool(CKA_TOKEN, false)).expect("the key is copied")
}

fn encrypt(session: &Session<'_>, key: CK_OBJECT_HANDLE) -> Result<Vec<u8>, Rv> {
    session.encrypt(Mechanism::with(CKM_AES_CBC_PAD, &[9; 16]), key, b"sealed")
}

#[test]
fn session_objects_survive_the_backend_and_end_at_logout() {
    let mut stack = Stack::strict();
    let module = Module::of(&stack);
    let session = module.user("test");
    let original = generate(&session, b"original", true);
    let keys = [copy(&session, original), generate(&session, b"session", false)];
    let before = keys.map(|key| encrypt(&session, key).expect("it encrypts"));
    for _ in 0..3 {
        stack.kill9();
        stack.start();
        assert_eq!(keys.map(|key| encrypt(&session, key).expect("it still encrypts")), before);
    }
    stack.restart();
    // Another session of the same application has the same login, and with it the same objects.
    let slot = module.slot("test");
    let second = module.open(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION).expect("a session opens");
    assert_eq!(encrypt(&second, keys[0]), Ok(before[0].clone()));
    session.logout().expect("the user logs out");
    let ended = || keys.map(|key| encrypt(&session, key).err());
    assert_eq!(ended(), [Some(Rv::KEY_HANDLE_INVALID); 2]);
    session.login(CKU_USER, USER_PIN.as_bytes()).expect("the user logs in again");
    assert_eq!(ended(), [Some(Rv::KEY_HANDLE_INVALID); 2]);
}

#[test]
fn copies_follow_the_state_of_their_original_at_each_use() {
    let stack = Stack::strict();
    let (module, rest) = (Module::of(&stack), Rest::of(&stack));
    let session = module.user("test");
    let original = generate(&session, b"original", true);
    let key = copy(&session, original);
    let expected = encrypt(&session, key).expect("it encrypts");
    let rings = rest.read("keyrings").json(200);
    let ring = rings["keyRings"][0].text("id");
    let listed = rest.read(&format!("keyrings/{ring}/keys")).json(200);
    let version = format!("keyrings/{ring}/keys/{}/versions/1", listed["keys"][0].text("id"));
    for _ in 0..2 {
        rest.post_empty(&format!("{version}/disable")).empty(204);
        assert_eq!(encrypt(&session, key), Err(Rv::KEY_HANDLE_INVALID), "disabled");
        rest.post_empty(&format!("{version}/enable")).empty(204);
        assert_eq!(encrypt(&session, key), Ok(expected.clone()), "enabled");
    }
    // An operation that has begun ends as well: each part of it opens the seal anew.
    session.encrypt_init(Mechanism::with(CKM_AES_CBC_PAD, &[9; 16]), key).expect("it begins");
    session.destroy(original).expect("the original is destroyed");
    let size = kms_tests::raw::OutputSize::Bytes(64);
    assert_eq!(session.encrypt_into(b"sealed", size).map_err(|(rv, _)| rv), Err(Rv::KEY_HANDLE_INVALID));
    assert_eq!(encrypt(&session, key), Err(Rv::KEY_HANDLE_INVALID), "destroyed");
    let to_token = session.copy(key, Template::new().bool(CKA_TOKEN, true));
    assert_eq!(to_token, Err(Rv::OBJECT_HANDLE_INVALID), "it cannot be made a token object");
}

#[test]
fn a_changed_pin_ends_the_objects_of_other_applications() {
    let stack = Stack::strict();
    let module = Module::of(&stack);
    let session = module.user("test");
    let (token, key) = (generate(&session, b"token", true), generate(&session, b"session", false));
    let mut other = Peer::of(&stack);
    other.enter(Role::User, USER_PIN).expect("the other application logs in");
    let others = session_key(&mut other);
    let mut new = *b"98765";
    let mut old = USER_PIN.to_owned().into_bytes();
    let length = |pin: &[u8]| pin.len() as u64;
    call!(module, C_SetPIN(session.handle, old.as_mut_ptr(), length(&old), new.as_mut_ptr(), length(&new)))
        .expect("the PIN changes");
    encrypt(&session, key).expect("the application that changed it keeps its objects");
    assert_eq!(other.encrypt(&others), Err(Rv::KEY_HANDLE_INVALID));
    session_key(&mut other);

    // The officer's PIN ends the logins: after a new one, token objects have the same handles.
    let mut officer = Peer::of(&stack);
    officer.enter(Role::Officer, SO_PIN).expect("the officer logs in");
    officer.send(Request::InitPin { pin: Secret::from(b"1234".as_slice()) }).expect("the officer sets a PIN");
    assert_eq!(encrypt(&session, key), Err(Rv::USER_NOT_LOGGED_IN));
    session.login(CKU_USER, b"1234").expect("the user logs in again, without a logout");
    assert_eq!(encrypt(&session, key), Err(Rv::KEY_HANDLE_INVALID));
    encrypt(&session, token).expect("token objects keep their handles");
}

#[test]
fn nothing_of_a_ring_opens_after_it_is_initialised_again() {
    let stack = Stack::strict();
    let module = Module::of(&stack);
    // A public object of an application that never logs in: no ticket ends it.
    let slot = module.slot("test");
    let session = module.open(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION).expect("a session opens");
    let data = Template::new().ulong(CKA_CLASS, CKO_DATA).bool(CKA_TOKEN, false).bool(CKA_PRIVATE, false);
    let object = session.create(data.bytes(CKA_VALUE, b"public")).expect("a public object is created");
    assert_eq!(session.attribute(object, CKA_VALUE), Ok(b"public".to_vec()));
    let mut user = Peer::of(&stack);
    user.enter(Role::User, USER_PIN).expect("the user logs in");
    let key = session_key(&mut user);
    user.encrypt(&key).expect("it encrypts");
    let mut officer = Peer::of(&stack);
    let (pin, label) = (Secret::from(SO_PIN.as_bytes()), "test".to_owned());
    officer.send(Request::InitToken { pin, label }).expect("the officer initialises the token");
    officer.enter(Role::Officer, SO_PIN).expect("the officer logs in");
    officer.send(Request::InitPin { pin: Secret::from(USER_PIN.as_bytes()) }).expect("a PIN is set");
    assert_eq!(user.encrypt(&key), Err(Rv::USER_NOT_LOGGED_IN));
    user.enter(Role::User, USER_PIN).expect("the user logs in with the same PIN");
    assert_eq!(
        user.encrypt(&key),
        Err(Rv::KEY_HANDLE_INVALID),
        "the old seal, in the ring initialised again"
    );
    assert_eq!(session.attribute(object, CKA_VALUE), Err(Rv::OBJECT_HANDLE_INVALID));
}

/// Generates a session key.
fn session_key(client: &mut Peer) -> ObjectRef {
    let flag = |kind| Attribute::bool(kind, true);
    let template = vec![
        Attribute::ulong(AttributeType::VALUE_LEN, 32),
        flag(AttributeType::ENCRYPT),
        flag(AttributeType::DECRYPT),
    ];
    let mechanism = Wire::plain(MechanismType::AES_KEY_GEN);
    let response = client.send(Request::Generate { mechanism, template: WireTemplate(template) });
    let Ok(Response::Object(view)) = response else { panic!("{response:?}") };
    view.object
}
