//! `kms-bench fairness`: one hostile tenant at full speed on each shared resource in turn. Prints the 99th percentile of
//! what another tenant does meanwhile, against its value when nobody else does anything.
//!
//! The client of the hostile tenant has the lowest priority: what is measured is how the service shares itself, not how the
//! kernel shares the processors between two programs.
//!
//! The hostile tenant is another user of the operating system with a ring of its own, so this needs root.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use kms_protocol::{
    Attribute, AttributeType, Mechanism, MechanismType, ObjectClass, ObjectRef, Parameters, Request,
    Response, Template,
};
use kms_tests::peer::{Peer, become_user, open_to_all_users};
use kms_tests::rest::Rest;
use kms_tests::{Policy, SetOnDrop, Stack, USER_PIN};
use rustix::process::setpriority_process;

/// The users of the victim and of the hostile tenant.
const VICTIM: u32 = 40_001;
const HOSTILE: u32 = 40_002;

/// The slots of their rings: in the order of their creation.
const VICTIM_SLOT: u64 = 0;
const HOSTILE_SLOT: u64 = 1;

/// Threads of the hostile tenant, and its connections where it holds them.
const THREADS: usize = 16;
const CONNECTIONS: usize = 64;

/// How long each measurement takes.
const LASTING: Duration = Duration::from_secs(6);

/// Private objects in the victim's ring, among which is searched.
const OBJECTS: usize = 3000;

/// What both tenants can reach.
struct Place {
    socket: PathBuf,
    rest: Rest,
    /// The full path of a call that is refused, and the token that it is refused for.
    refused: (String, String),
}

/// A measurement of the victim: an operation, and how long each took.
type Measured = Vec<(&'static str, Vec<Duration>)>;

/// A resource, and how it is attacked: one round of a thread.
type Attack = (&'static str, fn(&Place, &mut Vec<Peer>));

const ATTACKS: [Attack; 7] = [
    ("connections", hold_connections),
    ("refused calls over REST", call_rest),
    ("logins", log_in),
    ("creation of keys", create_keys),
    ("searches", search),
    ("guesses of PINs", guess),
    ("incomplete frames", send_frames),
];

/// Measures everything and prints a table.
pub(crate) fn measure() -> anyhow::Result<()> {
    anyhow::ensure!(
        rustix::process::geteuid().is_root(),
        "it takes the ids of other users, which only root may"
    );
    let mut stack = Stack::stopped(Policy::Strict);
    open_to_all_users(&stack);
    stack.configure("rest", "calls_per_hour", "1000000");
    stack.configure("rings", "changes_per_hour", "100000000");
    stack.kms(&["ring", "create", "hostile", "--user-pin", USER_PIN, "--so-pin", USER_PIN]).ok();
    stack.start();
    let place = prepare(&stack)?;
    println!("quiet");
    let quiet = measure_victim(&place)?;
    println!("| hostile at full speed | operation of another tenant | calls | quiet p99 | p99 | ratio |");
    println!("|---|---|--:|--:|--:|--:|");
    for (name, attack) in ATTACKS {
        let stop = AtomicBool::new(false);
        let busy = std::thread::scope(|scope| {
            let stopper = SetOnDrop(&stop);
            for _ in 0..THREADS {
                let (place, stop) = (&place, &stop);
                scope.spawn(move || {
                    if setpriority_process(None, 19).is_ok() && become_user(HOSTILE).is_ok() {
                        let mut peers = Vec::new();
                        while !stop.load(Ordering::Relaxed) {
                            attack(place, &mut peers);
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(500));
            let busy = measure_victim(&place);
            drop(stopper);
            busy
        })?;
        for ((operation, before), (_, during)) in quiet.iter().zip(&busy) {
            let (before, count, during) = (p99(before), during.len(), p99(during));
            let ratio = during.as_secs_f64() / before.as_secs_f64();
            println!("| {name} | {operation} | {count} | {before:.2?} | {during:.2?} | {ratio:.1} |");
        }
    }
    Ok(())
}

fn prepare(stack: &Stack) -> anyhow::Result<Place> {
    let rest = Rest::of(stack);
    let (mine, other) = (rest.create_ring("his"), rest.create_ring("not-his"));
    rest.create_key(&other, "k", "aes_256_gcm");
    let email = "mallory@x.sa.kms.local";
    stack.kms(&["account", "add", email, "--role", "kms.reader", "--ring", &mine]).ok();
    let file = stack.folder().join("mallory.token");
    stack.kms(&["token", "create", email, "--out", file.to_str().expect("a path")]).ok();
    let token = std::fs::read_to_string(&file)?.trim().to_owned();
    let refused = (rest.path(&format!("keyrings/{other}/keys")), token);
    let socket = stack.socket();
    let mut victim = logged_in(&socket, VICTIM_SLOT, VICTIM)?;
    for number in 0..OBJECTS {
        create(&mut victim, VICTIM_SLOT, &format!("k{number}"))?;
    }
    Ok(Place { socket, rest, refused })
}

/// What another tenant does, one after the other, for [`LASTING`]; each operation must succeed.
fn measure_victim(place: &Place) -> anyhow::Result<Measured> {
    let mut measured: Measured = [
        "connect",
        "encrypt",
        "create a key",
        "find by label",
        "find in all",
        "log in, new process",
        "read over REST",
    ]
    .map(|name| (name, Vec::new()))
    .into();
    let mut victim = logged_in(&place.socket, VICTIM_SLOT, VICTIM)?;
    let key = create(&mut victim, VICTIM_SLOT, "used")?;
    let ends = now() + LASTING;
    let users = AtomicU32::new(0);
    for round in 0_u32.. {
        if now() > ends {
            break;
        }
        let mut time = |at: usize, work: &mut dyn FnMut() -> anyhow::Result<()>| {
            let started = now();
            let result = work();
            measured[at].1.push(started.elapsed());
            result
        };
        time(0, &mut || {
            let peer = Peer::connect(&place.socket, VICTIM);
            peer.map(Peer::close).ok_or_else(|| anyhow::anyhow!("shut out"))
        })?;
        for _ in 0..20 {
            time(1, &mut || encrypt(&mut victim, &key))?;
        }
        time(2, &mut || create(&mut victim, VICTIM_SLOT, "new").map(drop))?;
        let by_label = Template(vec![Attribute::bytes(AttributeType::LABEL, "k7")]);
        time(3, &mut || find(&mut victim, VICTIM_SLOT, &by_label))?;
        if round % 10 == 0 {
            let by_nothing = Template(vec![Attribute::bool(AttributeType::SENSITIVE, false)]);
            time(4, &mut || find(&mut victim, VICTIM_SLOT, &by_nothing))?;
            // A user whose PIN was not proven before.
            let user = VICTIM + 10_000 + process_number() + users.fetch_add(1, Ordering::Relaxed);
            time(5, &mut || logged_in(&place.socket, VICTIM_SLOT, user).map(drop))?;
        }
        time(6, &mut || {
            let response = place.rest.read("keyrings");
            anyhow::ensure!(response.status == 200, "{response}");
            Ok(())
        })?;
    }
    Ok(measured)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}

/// The 99th percentile.
fn p99(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    let at = (sorted.len() * 99 / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default()
}

/// A number that differs between the measurements of one run.
fn process_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(100, Ordering::Relaxed)
}

fn logged_in(socket: &Path, slot: u64, user: u32) -> anyhow::Result<Peer> {
    let mut peer = Peer::connect(socket, user).ok_or_else(|| anyhow::anyhow!("shut out"))?;
    peer.log_in(slot, USER_PIN)?.map_err(|rv| anyhow::anyhow!("{rv}"))?;
    Ok(peer)
}

fn call(peer: &mut Peer, slot: u64, request: Request) -> anyhow::Result<Response> {
    peer.call(slot, request)?.map_err(|rv| anyhow::anyhow!("{rv}"))
}

fn create(peer: &mut Peer, slot: u64, label: &str) -> anyhow::Result<ObjectRef> {
    let template = Template(vec![
        Attribute::ulong(AttributeType::CLASS, ObjectClass::SECRET_KEY.0.into()),
        Attribute::bool(AttributeType::TOKEN, true),
        Attribute::bool(AttributeType::ENCRYPT, true),
        Attribute::ulong(AttributeType::VALUE_LEN, 32),
        Attribute::bytes(AttributeType::LABEL, label),
    ]);
    let mechanism = Mechanism::plain(MechanismType::AES_KEY_GEN);
    let response = call(peer, slot, Request::Generate { mechanism, template })?;
    let Response::Object(view) = response else { anyhow::bail!("{response:?}") };
    Ok(view.object)
}

fn encrypt(peer: &mut Peer, key: &ObjectRef) -> anyhow::Result<()> {
    let mechanism = Mechanism { kind: MechanismType::AES_CBC_PAD, parameters: Parameters::Iv([0; 16]) };
    let data = kms_protocol::Secret::from([7; 64].as_slice());
    call(peer, VICTIM_SLOT, Request::Encrypt { key: key.clone(), mechanism, data }).map(drop)
}

fn find(peer: &mut Peer, slot: u64, template: &Template) -> anyhow::Result<()> {
    let mut after = None;
    loop {
        let response = call(peer, slot, Request::Find { template: template.clone(), after })?;
        let Response::Found { next, .. } = response else { anyhow::bail!("{response:?}") };
        if next.is_none() {
            return Ok(());
        }
        after = next;
    }
}

/// Connects as the thread's own user.
fn connect(place: &Place) -> Option<Peer> {
    let stream = UnixStream::connect(&place.socket).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    Peer::over(stream)
}

/// Returns the thread's connection, logged in to the hostile ring.
fn connection<'a>(place: &Place, peers: &'a mut Vec<Peer>) -> Option<&'a mut Peer> {
    if peers.is_empty() {
        let mut peer = connect(place)?;
        peer.log_in(HOSTILE_SLOT, USER_PIN).ok()?.ok()?;
        peers.push(peer);
    }
    peers.last_mut()
}

fn hold_connections(place: &Place, peers: &mut Vec<Peer>) {
    peers.extend(connect(place));
    if peers.len() > CONNECTIONS {
        peers.remove(0).close();
    }
}

fn call_rest(place: &Place, _: &mut Vec<Peer>) {
    let address = place.rest.base().trim_start_matches("http://");
    let Ok(mut stream) = TcpStream::connect(address) else { return };
    let (path, token) = &place.refused;
    let request = format!("GET {path} HTTP/1.1\r\nhost: kms\r\nauthorization: Bearer {token}\r\n\r\n");
    let mut response = [0; 2048];
    for _ in 0..100 {
        let sent = stream.write_all(request.as_bytes()).and_then(|()| stream.read(&mut response));
        if !sent.is_ok_and(|read| read > 0) {
            return;
        }
    }
}

fn log_in(place: &Place, peers: &mut Vec<Peer>) {
    if let Some(peer) = connection(place, peers)
        && peer.log_in(HOSTILE_SLOT, USER_PIN).is_err()
    {
        peers.clear();
    }
}

fn create_keys(place: &Place, peers: &mut Vec<Peer>) {
    if let Some(peer) = connection(place, peers)
        && create(peer, HOSTILE_SLOT, "hostile").is_err()
    {
        peers.clear();
    }
}

/// Searches the victim's ring without a login: private objects are not shown, and cost the victim nothing.
fn search(place: &Place, peers: &mut Vec<Peer>) {
    if peers.is_empty() {
        peers.extend(connect(place));
    }
    if let Some(peer) = peers.last_mut()
        && find(peer, VICTIM_SLOT, &Template(Vec::new())).is_err()
    {
        peers.clear();
    }
}

fn guess(place: &Place, peers: &mut Vec<Peer>) {
    if peers.is_empty() {
        peers.extend(connect(place));
    }
    if let Some(peer) = peers.last_mut()
        && peer.log_in(VICTIM_SLOT, "9999").is_err()
    {
        peers.clear();
    }
}

fn send_frames(place: &Place, _: &mut Vec<Peer>) {
    let mut held: Vec<_> = (0..4).filter_map(|_| connect(place)).collect();
    for peer in &mut held {
        let announced = peer.send_raw(&(1_u32 << 20).to_le_bytes());
        if announced.and_then(|()| peer.send_raw(&vec![0; 128 << 10])).is_err() {
            return;
        }
    }
}
