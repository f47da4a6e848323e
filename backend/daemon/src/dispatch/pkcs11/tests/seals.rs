//! What ends sealed session objects (docs/decisions/0050), tried as who keeps the bytes of a seal and sends them again.

use std::collections::HashMap;

use kms_core::api::{Change, Role as ApiRole};
use kms_core::audit::Entry;
use kms_core::object::{Login, RingRole};
use kms_core::seal::PUBLIC_SEAL_SECONDS;
use kms_protocol::AttributeType as A;

use super::requests::{no, yes};
use super::*;
use crate::dispatch::audit_names::AuditedResource;
use crate::dispatch::pkcs11::audit_events::AuditedFunction;

const DAY: u64 = 24 * 3600;

impl Fixture {
    /// The login that the present ticket proves.
    pub(super) fn login(&self) -> Login {
        let dispatch = self.backend.dispatch();
        let (ticket, now) = (self.ticket.as_ref().unwrap(), dispatch.clock.seconds());
        let claims = policy::check(&dispatch.tickets, ticket, now, Some(1000)).unwrap();
        Login::new(claims.login, claims.ring, claims.name, claims.ring_role)
    }

    /// A token key that may be copied.
    fn copyable(&mut self) -> ObjectRef {
        let template = vec![
            Attribute::ulong(A::VALUE_LEN, 32),
            yes(A::TOKEN),
            yes(A::COPYABLE),
            yes(A::ENCRYPT),
            yes(A::DECRYPT),
        ];
        self.generate_with(MechanismType::AES_KEY_GEN, template).object
    }

    /// A session object of this kind, all of which end likewise.
    fn session_objects(&mut self) -> Vec<(&'static str, ObjectRef)> {
        let original = self.copyable();
        let copy = self.copy(&original, &[no(A::TOKEN)]).unwrap().object;
        let again = self.copy(&copy, &[]).unwrap().object;
        let renamed = self.set(&copy, &[Attribute::bytes(A::LABEL, "renamed")]).unwrap().object;
        let generated = self.aes("generated", false).object;
        vec![("copy", copy), ("copy of a copy", again), ("sealed anew", renamed), ("generated", generated)]
    }

    fn set_pin(&mut self, old: &str, new: &str) {
        let (old, new) = (Secret::from(old.as_bytes()), Secret::from(new.as_bytes()));
        self.send(Request::SetPin { role: Role::User, old, new }).unwrap();
    }

    /// Sends a request and keeps the renewed ticket, as a provider does.
    fn use_key(&mut self, key: &ObjectRef) -> Result<(), Rv> {
        let request = Request::Encrypt { key: key.clone(), mechanism: gcm(), data: Secret::default() };
        let envelope = RequestEnvelope {
            id: RequestId::default(),
            slot: self.slot,
            ticket: self.ticket.clone(),
            request,
        };
        let peer = Some(Peer { uid: 1000, pid: 1 });
        let answer = self.backend.dispatch().answer(peer, envelope, &mut Memory::default());
        self.ticket = answer.ticket.or(self.ticket.take());
        answer.result.map(drop)
    }

    fn all(&mut self, objects: &[(&'static str, ObjectRef)], expected: Result<(), Rv>, when: &str) {
        for (kind, object) in objects {
            assert_eq!(self.use_key(object), expected, "{kind}, {when}");
        }
    }
}

/// An audit entry for a change that a test makes in the store.
fn some_entry(fixture: &Fixture) -> Entry {
    let dispatch = fixture.backend.dispatch();
    let ring = dispatch.store.ring(SlotId(0)).unwrap().unwrap();
    let caller = Caller { peer: None, login: None, policy: ring.policy };
    dispatch.request_entry(&ring, &caller, AuditedFunction::DESTROY, &AuditedResource::Ring)
}

const ENDED: Result<(), Rv> = Err(Rv::KEY_HANDLE_INVALID);

#[test]
fn session_objects_end_with_their_login() {
    let Some(mut fixture) = Fixture::new("seals::session_objects_end_with_their_login") else { return };
    fixture.log_in(Role::User, "1234").unwrap();
    let ticket = fixture.ticket.clone();
    let objects = fixture.session_objects();
    fixture.all(&objects, Ok(()), "in their own login");
    // The provider forgets the ticket at C_Logout; the same principal logs in again.
    fixture.ticket = None;
    fixture.all(&objects, ENDED, "without a login");
    fixture.log_in(Role::User, "1234").unwrap();
    fixture.all(&objects, ENDED, "in a later login of the same principal");
    let mut fixture = fixture.restart();
    fixture.all(&objects, ENDED, "in the later login after a restart of the backend");
    fixture.ticket = ticket;
    fixture.all(&objects, Ok(()), "in their own login after a restart of the backend");
    // Another user of the machine who knows the PIN: a ticket and a seal are of no use to each other.
    let (pin, peer) = (Secret::from(b"1234".as_slice()), Some(Peer { uid: 1001, pid: 2 }));
    let log_in = Request::Login { role: Role::User, pin };
    let send = |ticket: Option<Ticket>, request: Request| {
        let (id, slot) = (RequestId::default(), SlotId(0));
        let envelope = RequestEnvelope { id, slot, ticket, request };
        fixture.backend.dispatch().answer(peer, envelope, &mut Memory::default()).result
    };
    let Ok(Response::LoggedIn { ticket }) = send(None, log_in) else { panic!("no login") };
    for (kind, key) in objects {
        let request = Request::Encrypt { key, mechanism: gcm(), data: Secret::default() };
        assert_eq!(send(Some(ticket.clone()), request).map(drop), ENDED, "{kind}");
    }
}

#[test]
fn session_objects_live_as_long_as_their_login_is_used() {
    let Some(mut fixture) = Fixture::new("seals::session_objects_live_as_long_as_their_login_is_used") else {
        return;
    };
    fixture.log_in(Role::User, "1234").unwrap();
    let mut objects = fixture.session_objects();
    let public = fixture.generate(&[no(A::TOKEN), no(A::PRIVATE), yes(A::ENCRYPT)]).object;
    objects.push(("public", public));
    let (first, login) = (fixture.ticket.clone(), fixture.login().id);
    for day in (0..200).step_by(20) {
        fixture.all(&objects, Ok(()), &format!("on day {day}"));
        fixture.advance_clock(20 * DAY);
    }
    fixture.all(&objects, Ok(()), "after 200 days");
    assert!(fixture.ticket != first && fixture.login().id == login, "renewed, and still the same login");
    let used = fixture.ticket.clone();
    fixture.ticket = first;
    fixture.all(&objects[..1], Err(Rv::USER_NOT_LOGGED_IN), "with a ticket that has expired");
    fixture.ticket = used;
    fixture.advance_clock(30 * DAY);
    fixture.all(&objects, Err(Rv::USER_NOT_LOGGED_IN), "after 30 days without use");
}

#[test]
fn public_session_objects_end_after_thirty_days_for_all_but_their_login() {
    let Some(mut fixture) =
        Fixture::new("seals::public_session_objects_end_after_thirty_days_for_all_but_their_login")
    else {
        return;
    };
    let data = |label: &str| {
        let class = Attribute::ulong(A::CLASS, ObjectClass::DATA.0.into());
        [class, no(A::TOKEN), no(A::PRIVATE), Attribute::bytes(A::LABEL, label)]
    };
    let nobodys = fixture.create(&data("nobody's")).unwrap().object;
    fixture.log_in(Role::User, "1234").unwrap();
    let users = fixture.create(&data("user's")).unwrap().object;
    let ticket = fixture.ticket.take();
    let read = |fixture: &mut Fixture, object: &ObjectRef| {
        fixture.send(Request::Attributes { object: object.clone() }).map(drop)
    };
    fixture.advance_clock(PUBLIC_SEAL_SECONDS - DAY);
    assert_eq!((read(&mut fixture, &nobodys), read(&mut fixture, &users)), (Ok(()), Ok(())));
    // Who seals it anew does not keep it for longer.
    fixture.log_in(Role::User, "1234").unwrap();
    let renamed = fixture.set(&nobodys, &[Attribute::bytes(A::LABEL, "new")]).unwrap().object;
    let later = fixture.ticket.take();
    fixture.ticket = ticket;
    assert_eq!(read(&mut fixture, &users), Ok(()));
    fixture.ticket = later;
    fixture.advance_clock(DAY);
    let ended = Err(Rv::OBJECT_HANDLE_INVALID);
    for object in [&nobodys, &renamed, &users] {
        assert_eq!(read(&mut fixture, object), ended);
    }
}

#[test]
fn session_objects_end_when_the_pin_changes_but_not_those_of_the_login_that_changes_it() {
    let Some(mut fixture) = Fixture::new(
        "seals::session_objects_end_when_the_pin_changes_but_not_those_of_the_login_that_changes_it",
    ) else {
        return;
    };
    let mut logins = HashMap::new();
    for name in ["changes", "other"] {
        fixture.log_in(Role::User, "1234").unwrap();
        let objects = fixture.session_objects();
        logins.insert(name, (fixture.ticket.clone(), objects));
    }
    let (changes, others) = (&logins["changes"], &logins["other"]);
    fixture.ticket.clone_from(&changes.0);
    fixture.set_pin("1234", "5678");
    fixture.all(&changes.1, Ok(()), "in the login that changed the PIN");
    fixture.ticket.clone_from(&others.0);
    fixture.all(&others.1, ENDED, "in another login");
    let token = fixture.aes("token", true).object;
    assert_eq!(fixture.use_key(&token), Ok(()), "the other login itself continues");
    let new = fixture.session_objects();
    fixture.all(&new, Ok(()), "made in the other login since");
    // Now the other login changes it, and later the first one again: what had ended stays ended.
    fixture.set_pin("5678", "1234");
    fixture.all(&new, Ok(()), "in the login that changed the PIN again");
    fixture.ticket.clone_from(&changes.0);
    fixture.all(&changes.1, ENDED, "in the first login, whose PIN another changed");
    fixture.set_pin("1234", "5678");
    fixture.all(&changes.1, ENDED, "after the first login changed the PIN once more");
    let newest = fixture.session_objects();
    fixture.set_pin("5678", "1234");
    fixture.all(&newest, Ok(()), "after two changes by their own login");
    // Without a login: all end.
    fixture.ticket = None;
    fixture.set_pin("1234", "5678");
    fixture.ticket.clone_from(&changes.0);
    fixture.all(&newest, ENDED, "after a change without a login");
}

#[test]
fn session_objects_end_with_the_officers_pin_and_with_their_principal() {
    let Some(mut fixture) =
        Fixture::new("seals::session_objects_end_with_the_officers_pin_and_with_their_principal")
    else {
        return;
    };
    fixture.log_in(Role::User, "1234").unwrap();
    let objects = fixture.session_objects();
    let ticket = fixture.ticket.clone();
    fixture.log_in(Role::Officer, "12345678").unwrap();
    fixture.send(Request::InitPin { pin: Secret::from(b"1234".as_slice()) }).unwrap();
    fixture.ticket = ticket;
    fixture.all(&objects, Err(Rv::USER_NOT_LOGGED_IN), "with the login that the officer ended");
    fixture.log_in(Role::User, "1234").unwrap();
    fixture.all(&objects, ENDED, "in a new login with the same PIN");

    let secret = Secret::from(b"swordfish".as_slice());
    fixture.backend.add_account("strict", "alice", RingRole::Admin, &secret).unwrap();
    fixture.log_in(Role::User, "alice:swordfish").unwrap();
    let objects = fixture.session_objects();
    fixture.backend.remove_principal("strict", "alice").unwrap();
    fixture.all(&objects, Err(Rv::USER_NOT_LOGGED_IN), "after the principal was removed");
    fixture.backend.add_account("strict", "alice", RingRole::Admin, &secret).unwrap();
    fixture.log_in(Role::User, "alice:swordfish").unwrap();
    fixture.all(&objects, ENDED, "of a principal that was removed and added again");
}

#[test]
fn session_objects_end_when_the_ring_is_initialised_again() {
    let Some(mut fixture) = Fixture::new("seals::session_objects_end_when_the_ring_is_initialised_again")
    else {
        return;
    };
    let secret = Secret::from(b"swordfish".as_slice());
    fixture.backend.add_account("strict", "alice", RingRole::Admin, &secret).unwrap();
    fixture.log_in(Role::User, "1234").unwrap();
    let public = fixture.generate(&[no(A::TOKEN), no(A::PRIVATE), yes(A::ENCRYPT)]).object;
    let users = fixture.session_objects();
    let user = fixture.ticket.clone();
    fixture.log_in(Role::User, "alice:swordfish").unwrap();
    let mut alices = fixture.session_objects();
    alices.push(("public", public));
    fixture.all(&alices, Ok(()), "before");
    let pin = Secret::from(b"12345678".as_slice());
    fixture.send(Request::InitToken { pin, label: "strict".to_owned() }).unwrap();
    // Her login is not the user's: it continues, but nothing of the former ring does.
    fixture.all(&alices, ENDED, "in the login of a principal that continues");
    assert_eq!(fixture.find(vec![]).len(), 0);
    fixture.ticket = user;
    fixture.all(&users, Err(Rv::USER_NOT_LOGGED_IN), "with the user's old login");
    fixture.log_in(Role::Officer, "12345678").unwrap();
    fixture.send(Request::InitPin { pin: Secret::from(b"1234".as_slice()) }).unwrap();
    fixture.log_in(Role::User, "1234").unwrap();
    fixture.all(&users, ENDED, "in a new login");
}

#[test]
fn copies_end_and_return_with_their_original() {
    let Some(mut fixture) = Fixture::new("seals::copies_end_and_return_with_their_original") else { return };
    fixture.log_in(Role::User, "1234").unwrap();
    let original = fixture.copyable();
    let copy = fixture.copy(&original, &[no(A::TOKEN)]).unwrap().object;
    let of_copy = fixture.copy(&copy, &[]).unwrap().object;
    let renamed = fixture.set(&copy, &[Attribute::bytes(A::LABEL, "renamed")]).unwrap().object;
    let of_renamed = fixture.copy(&renamed, &[]).unwrap().object;
    let copies = [
        ("copy", copy.clone()),
        ("copy of a copy", of_copy),
        ("sealed anew", renamed),
        ("copy of one sealed anew", of_renamed),
    ];
    let kept = fixture.copy(&copy, &[yes(A::TOKEN)]).unwrap().object;
    let ObjectRef::Token(id) = original else { panic!("{original:?}") };
    let (ring, version) = {
        let store = &fixture.backend.dispatch().store;
        let ring = store.ring(SlotId(0)).unwrap().unwrap();
        (ring.id, store.object(ring.id, id).unwrap().version.unwrap())
    };
    let change = |fixture: &Fixture, change| {
        let dispatch = fixture.backend.dispatch();
        let now = dispatch.clock.seconds();
        let entry = some_entry(fixture);
        dispatch.store.change_version(ring, version, change, (now, now + DAY), entry).unwrap().unwrap();
    };
    fixture.all(&copies, Ok(()), "before");
    change(&fixture, Change::Disable);
    fixture.all(&copies, ENDED, "while the original is disabled");
    assert_eq!(fixture.copy(&copy, &[yes(A::TOKEN)]).map(drop), Err(Rv::OBJECT_HANDLE_INVALID));
    change(&fixture, Change::Enable);
    fixture.all(&copies, Ok(()), "after it was enabled");
    fixture.send(Request::Destroy { object: original.clone() }).unwrap();
    fixture.all(&copies, ENDED, "after the original was destroyed");
    change(&fixture, Change::Restore);
    fixture.all(&copies, Ok(()), "after it was restored");
    let (key, entry) = (version.key, some_entry(&fixture));
    let now = fixture.backend.dispatch().clock.seconds();
    let store = &fixture.backend.dispatch().store;
    store.schedule_deletion(ring, uuid::Uuid::from_bytes(key), now + DAY, entry).unwrap().unwrap();
    fixture.all(&copies, ENDED, "while the deletion of its key is scheduled");
    assert_eq!(fixture.use_key(&kept), Ok(()), "a token object that was copied is an object of its own");

    let class = Attribute::ulong(A::CLASS, ObjectClass::DATA.0.into());
    let data = fixture.create(&[class, yes(A::TOKEN), Attribute::bytes(A::VALUE, "text")]).unwrap().object;
    let copy = fixture.copy(&data, &[no(A::TOKEN)]).unwrap().object;
    assert!(fixture.reveal(&copy).is_ok());
    fixture.send(Request::Destroy { object: data }).unwrap();
    assert_eq!(fixture.reveal(&copy).map(drop), Err(Rv::OBJECT_HANDLE_INVALID));
}

#[test]
fn session_objects_of_a_service_account_end_with_its_login() {
    let Some(mut fixture) = Fixture::new("seals::session_objects_of_a_service_account_end_with_its_login")
    else {
        return;
    };
    let email = "ci@test.sa.kms.local";
    let everything = crate::service::Scope { project: None, ring: None };
    fixture.backend.add_service_account(email, Some((ApiRole::Admin, everything))).unwrap();
    let token = fixture.backend.create_token(email, "pkcs11", None).unwrap().text;
    fixture.log_in(Role::User, &token).unwrap();
    let objects = fixture.session_objects();
    let ticket = fixture.ticket.clone();
    fixture.advance_clock(20 * DAY);
    fixture.all(&objects, Ok(()), "after a renewal");
    assert!(fixture.ticket != ticket);
    fixture.log_in(Role::User, &token).unwrap();
    fixture.all(&objects, ENDED, "in a later login with the same token");
}
