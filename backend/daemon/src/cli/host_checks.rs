//! What a home stands on beside its own parts, for the doctor: room on the disk, the clock, the REST door's address and
//! certificate.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use rsa::pkcs8::der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use rsa::pkcs8::der::{Decode, Reader, SliceReader, Tagged};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::failure::Failure;
use super::output;
use crate::config::RestConfig;
use crate::service::Backend;

/// Less room than this is used up before anybody looks again: some thousand keys, or SQLite's log of a busy hour.
const ROOM_BYTES_MIN: u64 = 16 << 20;

/// How far the clock may be behind what was written last, in milliseconds: two processes may see it differently.
const BEHIND_MAX: u64 = 60_000;

/// A certificate that ends sooner is told of, in seconds: a week.
const SOON: u64 = 7 * 24 * 3600;

/// How long the door may take to answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// Whether there is room where the database is.
pub(super) fn room(database: &Path) -> Result<String, Failure> {
    let folder = database.parent().unwrap_or(Path::new("."));
    let found = rustix::fs::statvfs(folder).map_err(|error| {
        let next = "see whether the disk is mounted";
        Failure::because(format!("{} cannot be looked at", folder.display()), &error, next)
    })?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let (said, folder) = (format!("{} MiB are free", free >> 20), folder.display());
    if free < ROOM_BYTES_MIN {
        let next = "make room: keys are used without, but none can be made, and nothing can be recorded";
        return Err(Failure::new(format!("only {said} in {folder}"), next));
    }
    Ok(format!("{said} in {folder}"))
}

/// Whether the clock goes on where it was when something was recorded last.
pub(super) fn clock(backend: &Backend) -> Result<String, Failure> {
    let (now, last) = (backend.now(), backend.last_recorded()?.unwrap_or(0));
    if last > now + BEHIND_MAX {
        let (now, last) = (output::time(now / 1000), output::time(last / 1000));
        let what = format!("the clock says {now}, but the audit log's last entry is of {last}");
        let next = "set the clock, and keep it with NTP (`timedatectl set-ntp true`): until then nothing falls due, and \
                    tokens hold longer than they should";
        return Err(Failure::new(what, next));
    }
    Ok(format!("{}, not behind the audit log", output::time(now / 1000)))
}

/// Whether the certificate holds.
pub(super) fn certificate(path: &Path, now: u64) -> Result<String, Failure> {
    let next = "put a new certificate there, and tell the daemon with SIGHUP";
    let read = CertificateDer::from_pem_file(path);
    let der = read.map_err(|error| {
        Failure::because(path.display(), &error, "name a certificate in PEM with [rest] tls_cert")
    })?;
    let (begin, end) = validity(&der)
        .ok_or_else(|| Failure::new(format!("{} is no X.509 certificate", path.display()), next))?;
    let (from, until) = (output::time(begin), output::time(end));
    if end <= now {
        return Err(Failure::new(format!("{} has expired: it held until {until}", path.display()), next));
    }
    if begin > now {
        let next = "wait until then, or look at the clock";
        return Err(Failure::new(format!("{} holds from {from} on only", path.display()), next));
    }
    let soon = if end - now < SOON { ", which is soon" } else { "" };
    Ok(format!("{} holds until {until}{soon}", path.display()))
}

/// When a certificate holds (RFC 5280, 4.1), in seconds since 1970.
fn validity(der: &[u8]) -> Option<(u64, u64)> {
    let certificate = parts(AnyRef::from_der(der).ok()?)?;
    let signed = parts(*certificate.first()?)?;
    // Version 1 says no version.
    let version = usize::from(signed.first()?.tag().is_context_specific());
    let times = parts(*signed.get(version + 3)?)?;
    let [begin, end] = times[..] else { return None };
    let time = |time: AnyRef<'_>| {
        let utc = time.decode_as::<UtcTime>().map(|time| time.to_unix_duration());
        let any = utc.or_else(|_| time.decode_as::<GeneralizedTime>().map(|time| time.to_unix_duration()));
        any.ok().map(|duration| duration.as_secs())
    };
    Some((time(begin)?, time(end)?))
}

fn parts(sequence: AnyRef<'_>) -> Option<Vec<AnyRef<'_>>> {
    let (mut reader, mut found) = (SliceReader::new(sequence.value()).ok()?, Vec::new());
    while !reader.is_finished() {
        found.push(AnyRef::decode(&mut reader).ok()?);
    }
    Some(found)
}

/// Whether the door's address is the daemon's.
pub(super) fn address(rest: &RestConfig, daemon_runs: bool) -> Result<String, Failure> {
    let address = rest.listen;
    let connected = TcpStream::connect_timeout(&address, ANSWERED_WITHIN);
    let (Ok(stream), true) = (&connected, daemon_runs) else {
        return match (connected, daemon_runs) {
            (Ok(_), _) => Err(somebody_else(address)),
            // It may have been started with --rest-listen, which only it knows.
            (Err(error), true) => Ok(format!(
                "nothing listens on {address} ({error}): right if --rest-listen named another place, else restart the daemon"
            )),
            (Err(_), false) => Ok(format!("{address} is free")),
        };
    };
    // Behind TLS it is asked by its clients; that a daemon runs and somebody listens is enough here.
    if rest.tls.is_none() && !healthy(stream, address) {
        return Err(somebody_else(address));
    }
    Ok(format!("{address} answers"))
}

fn somebody_else(address: SocketAddr) -> Failure {
    let next = "stop what listens there (`ss -ltnp` shows it), or choose another address with [rest] listen in kms.toml";
    Failure::new(format!("another program listens on {address}"), next)
}

fn healthy(mut stream: &TcpStream, address: SocketAddr) -> bool {
    let call = format!("GET /healthz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let asked = stream
        .set_read_timeout(Some(ANSWERED_WITHIN))
        .and_then(|()| stream.write_all(call.as_bytes()))
        .and_then(|()| stream.take(4096).read_to_end(&mut answer).map(drop));
    asked.is_ok() && String::from_utf8_lossy(&answer).contains("x-trace-id")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_has_no_end() {
        for der in [b"".as_slice(), b"\x30\x00", b"\x30\x02\x30\x00", b"\x02\x01\x01"] {
            assert_eq!(validity(der), None, "{der:02x?}");
        }
    }
}
