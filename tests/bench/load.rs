//! A load on the REST door: one thread, many connections that are kept, each with one call under way. It burdens the
//! machine little, for the daemon needs the same cores.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The longest answer that is expected.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// What a load found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Answers per second.
    pub(crate) per_second: f64,
    /// The time that half of the calls took at most, and 99 of 100.
    pub(crate) median: Duration,
    pub(crate) p99: Duration,
    /// Processor time per answer, of the daemon and of this program.
    pub(crate) daemon_cpu: Duration,
    pub(crate) own_cpu: Duration,
}

/// One connection with a call under way.
struct Line {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
    sent: Instant,
}

/// Calls again and again for a while; `head` is the first line and the headers, without the last empty line.
#[expect(clippy::disallowed_methods, reason = "a benchmark has a clock")]
pub(crate) fn run(
    address: &str,
    call: &[u8],
    expected: &str,
    connections: usize,
    lasting: Duration,
    daemon: u32,
) -> anyhow::Result<Found> {
    let mut lines = (0..connections)
        .map(|_| {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            Ok(Line { stream, buffer: vec![0; ANSWER_BYTES_MAX], filled: 0, sent: Instant::now() })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let (daemon_before, own_before) = (processor_time(daemon)?, processor_time(std::process::id())?);
    let mut times = Vec::new();
    let started = Instant::now();
    for line in &mut lines {
        line.send(call)?;
    }
    while started.elapsed() < lasting {
        for index in readable(&lines)? {
            if let Some(time) = lines[index].receive(expected)? {
                times.push(time);
                lines[index].send(call)?;
            }
        }
    }
    let elapsed = started.elapsed();
    let (daemon_after, own_after) = (processor_time(daemon)?, processor_time(std::process::id())?);
    anyhow::ensure!(!times.is_empty(), "no answer in {lasting:?}");
    times.sort_unstable();
    let count = u32::try_from(times.len())?;
    Ok(Found {
        per_second: f64::from(count) / elapsed.as_secs_f64(),
        median: times[times.len() / 2],
        p99: times[times.len() * 99 / 100],
        daemon_cpu: (daemon_after - daemon_before) / count,
        own_cpu: (own_after - own_before) / count,
    })
}

impl Line {
    #[expect(clippy::disallowed_methods, reason = "a benchmark has a clock")]
    fn send(&mut self, call: &[u8]) -> anyhow::Result<()> {
        self.sent = Instant::now();
        self.stream.write_all(call)?;
        Ok(())
    }

    /// Reads what has come; the time the call took once its answer is whole.
    fn receive(&mut self, expected: &str) -> anyhow::Result<Option<Duration>> {
        let read = self.stream.read(&mut self.buffer[self.filled..])?;
        anyhow::ensure!(read > 0, "the daemon closed a connection");
        self.filled += read;
        let Some(whole) = answer_bytes(&self.buffer[..self.filled])? else { return Ok(None) };
        let answer = String::from_utf8_lossy(&self.buffer[..self.filled]);
        anyhow::ensure!(answer.starts_with(expected) && whole == self.filled, "an answer: {answer}");
        self.filled = 0;
        Ok(Some(self.sent.elapsed()))
    }
}

/// The length of an answer as its headers say it, once they and the body are there.
fn answer_bytes(bytes: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..head])?.to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.ok_or_else(|| anyhow::anyhow!("no length: {text}"))?.trim().parse()?;
    Ok((bytes.len() >= head + 4 + length).then_some(head + 4 + length))
}

/// Which lines have something to read.
fn readable(lines: &[Line]) -> anyhow::Result<Vec<usize>> {
    let mut waited: Vec<_> = lines.iter().map(|line| PollFd::new(&line.stream, PollFlags::IN)).collect();
    poll(&mut waited, Some(&Timespec { tv_sec: 10, tv_nsec: 0 }))?;
    let ready = waited.iter().enumerate().filter(|(_, fd)| !fd.revents().is_empty());
    Ok(ready.map(|(index, _)| index).collect())
}

/// What a process has used of the processors so far (proc(5): the 14th and 15th field, in hundredths of a second).
fn processor_time(process: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').ok_or_else(|| anyhow::anyhow!("{stat}"))?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}
