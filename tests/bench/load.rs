//! A load generator for the REST API: one thread with many persistent connections, each with one outstanding request.
//! It uses little CPU time, because the daemon needs the same cores.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The longest response that is expected.
const RESPONSE_BYTES_MAX: usize = 64 << 10;

/// The result of a load.
#[derive(Clone, Debug)]
pub(crate) struct LoadResult {
    /// Responses per second.
    pub(crate) per_second: f64,
    /// The median and the 99th percentile of the time of a request.
    pub(crate) median: Duration,
    pub(crate) p99: Duration,
    /// CPU time per response, of the daemon and of this program.
    pub(crate) daemon_cpu: Duration,
    pub(crate) own_cpu: Duration,
}

/// A connection with one outstanding request.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
    sent: Instant,
}

/// Sends a request on every connection, again and again for `lasting`; each response must start with `expected`.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub(crate) fn run(
    address: &str,
    request: &[u8],
    expected: &str,
    count: usize,
    lasting: Duration,
    daemon: u32,
) -> anyhow::Result<LoadResult> {
    let mut connections = (0..count)
        .map(|_| {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            Ok(Connection { stream, buffer: vec![0; RESPONSE_BYTES_MAX], filled: 0, sent: Instant::now() })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let (daemon_before, own_before) = (cpu_time(daemon)?, cpu_time(std::process::id())?);
    let mut times = Vec::new();
    let started = Instant::now();
    for connection in &mut connections {
        connection.send(request)?;
    }
    while started.elapsed() < lasting {
        for index in readable(&connections)? {
            if let Some(time) = connections[index].receive(expected)? {
                times.push(time);
                connections[index].send(request)?;
            }
        }
    }
    let elapsed = started.elapsed();
    let (daemon_after, own_after) = (cpu_time(daemon)?, cpu_time(std::process::id())?);
    anyhow::ensure!(!times.is_empty(), "no response in {lasting:?}");
    times.sort_unstable();
    let responses = u32::try_from(times.len())?;
    Ok(LoadResult {
        per_second: f64::from(responses) / elapsed.as_secs_f64(),
        median: times[times.len() / 2],
        p99: times[times.len() * 99 / 100],
        daemon_cpu: (daemon_after - daemon_before) / responses,
        own_cpu: (own_after - own_before) / responses,
    })
}

impl Connection {
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
    fn send(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.sent = Instant::now();
        self.stream.write_all(request)?;
        Ok(())
    }

    /// Reads what has arrived; returns the time of the request once its response is complete.
    fn receive(&mut self, expected: &str) -> anyhow::Result<Option<Duration>> {
        let read = self.stream.read(&mut self.buffer[self.filled..])?;
        anyhow::ensure!(read > 0, "the daemon closed a connection");
        self.filled += read;
        let Some(length) = response_bytes(&self.buffer[..self.filled])? else { return Ok(None) };
        let response = String::from_utf8_lossy(&self.buffer[..self.filled]);
        anyhow::ensure!(
            response.starts_with(expected) && length == self.filled,
            "unexpected response: {response}"
        );
        self.filled = 0;
        Ok(Some(self.sent.elapsed()))
    }
}

/// The length of a response according to its headers, once headers and body are complete.
fn response_bytes(bytes: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(header_end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..header_end])?.to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.ok_or_else(|| anyhow::anyhow!("no length: {text}"))?.trim().parse()?;
    Ok((bytes.len() >= header_end + 4 + length).then_some(header_end + 4 + length))
}

/// The indices of the connections that can be read.
fn readable(connections: &[Connection]) -> anyhow::Result<Vec<usize>> {
    let mut waited: Vec<_> =
        connections.iter().map(|connection| PollFd::new(&connection.stream, PollFlags::IN)).collect();
    poll(&mut waited, Some(&Timespec { tv_sec: 10, tv_nsec: 0 }))?;
    let ready = waited.iter().enumerate().filter(|(_, fd)| !fd.revents().is_empty());
    Ok(ready.map(|(index, _)| index).collect())
}

/// The CPU time that a process has used (proc(5): the 14th and 15th field, in hundredths of a second).
fn cpu_time(process: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').ok_or_else(|| anyhow::anyhow!("{stat}"))?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}
