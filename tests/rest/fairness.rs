//! Fair shares over REST: nobody is shut out by who opens many connections, or makes many calls that are refused.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use kms_tests::rest::{Field, Rest};
use kms_tests::{Policy, Stack};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

/// Connects from an address of this machine.
fn connect_from(source: [u8; 4], target: SocketAddr) -> TcpStream {
    let stream = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&stream, &SocketAddr::new(IpAddr::from(source), 0)).expect("the address is this machine's");
    connect(&stream, &target).expect("the daemon listens");
    let stream = TcpStream::from(stream);
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout can be set");
    stream
}

/// Sends one request and returns the start of the response; none if the connection was closed.
fn health(stream: &mut TcpStream) -> Option<String> {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: kms\r\n\r\n").ok()?;
    let mut buffer = [0; 1024];
    let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
    Some(String::from_utf8_lossy(&buffer[..read]).into_owned())
}

fn address(stack: &Stack) -> SocketAddr {
    stack.rest_address().trim_start_matches("http://").parse().expect("an address with a port")
}

#[test]
fn an_address_with_many_connections_shuts_out_nobody() {
    let mut stack = Stack::stopped(Policy::Strict);
    stack.configure("rest", "connections_max", "16");
    stack.start();
    let target = address(&stack);
    // Four for each address. Each has answered a request, and is kept alive.
    let mut hostile: Vec<_> = (0..40).map(|_| connect_from([127, 0, 0, 2], target)).collect();
    let answered = hostile.iter_mut().filter_map(health).filter(|text| text.contains(" 200 ")).count();
    assert!(answered <= 5, "{answered} of an address are served at the same time");
    for source in 3..12 {
        for _ in 0..4 {
            let mut stream = connect_from([127, 0, 0, source], target);
            assert!(health(&mut stream).is_some_and(|text| text.contains(" 200 ")), "127.0.0.{source}");
        }
    }
    // The address's own newcomers get in as well: its longest idle connection gives way.
    for _ in 0..10 {
        hostile.push(connect_from([127, 0, 0, 2], target));
        assert!(
            health(hostile.last_mut().expect("it was pushed")).is_some_and(|text| text.contains(" 200 "))
        );
    }
    let rest = Rest::of(&stack);
    let metrics = rest.call("GET", "/metrics", None, &[]);
    let text = String::from_utf8(metrics.body).expect("text");
    let count = text.lines().find_map(|line| line.strip_prefix("kms_rest_connections_closed "));
    assert!(count.and_then(|count| count.parse::<u64>().ok()).is_some_and(|count| count >= 40), "{text}");
}

#[test]
fn the_share_of_an_address_can_be_set() {
    let mut stack = Stack::stopped(Policy::Strict);
    stack.configure("rest", "connections_max", "16");
    stack.configure("rest", "connections_per_address", "16");
    stack.start();
    let target = address(&stack);
    let mut streams: Vec<_> = (0..14).map(|_| connect_from([127, 0, 0, 1], target)).collect();
    let answered = streams.iter_mut().filter_map(health).filter(|text| text.contains(" 200 ")).count();
    assert_eq!(answered, 14);
}

#[test]
fn a_reader_of_one_ring_cannot_use_up_the_projects_calls() {
    let mut stack = Stack::stopped(Policy::Strict);
    stack.configure("rest", "calls_per_hour", "60");
    stack.start();
    let owner = Rest::of(&stack);
    let (mine, other) = (owner.create_ring("his"), owner.create_ring("not-his"));
    let email = "mallory@x.sa.kms.local";
    stack.kms(&["account", "add", email, "--role", "kms.reader", "--ring", &mine]).ok();
    let token = stack.folder().join("mallory.token");
    stack.kms(&["token", "create", email, "--out", token.to_str().expect("a path")]).ok();
    let token = std::fs::read_to_string(&token).expect("the token is written");
    let mallory = owner.with_token(Some(token.trim()));
    let statuses: Vec<u16> =
        (0..70).map(|_| mallory.read(&format!("keyrings/{other}/keys")).status).collect();
    assert_eq!(statuses.iter().filter(|status| [403, 404].contains(*status)).count(), 60, "{statuses:?}");
    let refused = mallory.read(&format!("keyrings/{other}/keys"));
    refused.refused(429);
    assert!(refused.header("retry-after").is_some_and(|seconds| seconds != "0"), "{refused}");
    // The owner works as before, with all the calls that he has not made himself.
    let key = owner.create_key(&mine, "k", "aes_256_gcm");
    let answer = owner.read(&key);
    assert_eq!(answer.json(200).text("displayName"), "k");
    assert_eq!(answer.header("ratelimit-remaining"), Some("56"), "{answer}");
}
