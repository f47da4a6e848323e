//! Checks of the host for `kms doctor`: disk space, clock, and the address and certificate of the REST listener.

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

/// How far the clock may be behind the last audit entry, in milliseconds: two processes may read it differently.
const CLOCK_LAG_MAX: u64 = 60_000;

/// A certificate that expires within this time gets a remark, in seconds: a week.
const EXPIRES_SOON: u64 = 7 * 24 * 3600;

/// The maximum time for a response of the REST listener.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Checks the free space on the disk of the database.
pub(super) fn disk_space(database: &Path, floor: u64) -> Result<String, Failure> {
    let folder = database.parent().unwrap_or(Path::new("."));
    let found = rustix::fs::statvfs(folder).map_err(|error| {
        let next = "check whether the disk is mounted";
        Failure::because(format!("cannot read the free space of {}", folder.display()), &error, next)
    })?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let (amount, folder) = (format!("{} MiB are free", free >> 20), folder.display());
    let floor_mib = floor >> 20;
    if free < floor {
        let next = format!(
            "free some space: existing keys can be used and deleted, but nothing is created below {floor_mib} MiB ([store] \
             disk_floor_mib in kms.toml)"
        );
        return Err(Failure::new(format!("only {amount} in {folder}"), next));
    }
    let soon = if free < floor.saturating_mul(2) {
        format!(" (soon too few: below {floor_mib} MiB nothing is created)")
    } else {
        String::new()
    };
    Ok(format!("{amount} in {folder}{soon}"))
}

/// Checks that the clock is not behind the last audit entry.
pub(super) fn clock(backend: &Backend) -> Result<String, Failure> {
    let (now, last) = (backend.now(), backend.last_recorded()?.unwrap_or(0));
    if last > now + CLOCK_LAG_MAX {
        let (now, last) = (output::time(now / 1000), output::time(last / 1000));
        let what = format!("the clock shows {now}, but the audit log's last entry is of {last}");
        let next = "set the clock, and synchronise it with NTP (`timedatectl set-ntp true`): until then background jobs are \
                    late, and tokens are valid for too long";
        return Err(Failure::new(what, next));
    }
    Ok(format!("{}, not behind the audit log", output::time(now / 1000)))
}

/// Checks that the certificate is valid now.
pub(super) fn certificate(path: &Path, now: u64) -> Result<String, Failure> {
    let next = "replace the certificate file, and reload it in the daemon with SIGHUP";
    let read = CertificateDer::from_pem_file(path);
    let der = read.map_err(|error| {
        Failure::because(path.display(), &error, "set [rest] tls_cert to a certificate file in PEM")
    })?;
    let (begin, end) = validity(&der)
        .ok_or_else(|| Failure::new(format!("{} is not an X.509 certificate", path.display()), next))?;
    let (from, until) = (output::time(begin), output::time(end));
    if end <= now {
        return Err(Failure::new(
            format!("{} has expired: it was valid until {until}", path.display()),
            next,
        ));
    }
    if begin > now {
        let next = "wait until then, or check the clock";
        return Err(Failure::new(format!("{} is valid only from {from} on", path.display()), next));
    }
    let soon = if end - now < EXPIRES_SOON { " (soon)" } else { "" };
    Ok(format!("{} is valid until {until}{soon}", path.display()))
}

/// The validity period of a certificate (RFC 5280, 4.1), in seconds since 1970.
fn validity(der: &[u8]) -> Option<(u64, u64)> {
    let certificate = elements(AnyRef::from_der(der).ok()?)?;
    let tbs = elements(*certificate.first()?)?;
    // A version 1 certificate omits the version field.
    let version = usize::from(tbs.first()?.tag().is_context_specific());
    let times = elements(*tbs.get(version + 3)?)?;
    let [begin, end] = times[..] else { return None };
    let time = |time: AnyRef<'_>| {
        let utc = time.decode_as::<UtcTime>().map(|time| time.to_unix_duration());
        let any = utc.or_else(|_| time.decode_as::<GeneralizedTime>().map(|time| time.to_unix_duration()));
        any.ok().map(|duration| duration.as_secs())
    };
    Some((time(begin)?, time(end)?))
}

/// The elements of a DER sequence.
fn elements(sequence: AnyRef<'_>) -> Option<Vec<AnyRef<'_>>> {
    let (mut reader, mut found) = (SliceReader::new(sequence.value()).ok()?, Vec::new());
    while !reader.is_finished() {
        found.push(AnyRef::decode(&mut reader).ok()?);
    }
    Some(found)
}

/// Checks that the daemon, or no program, listens on the address of the REST API.
pub(super) fn rest_address(rest: &RestConfig, daemon_runs: bool) -> Result<String, Failure> {
    let address = rest.listen;
    let connected = TcpStream::connect_timeout(&address, RESPONSE_TIMEOUT);
    let (Ok(stream), true) = (&connected, daemon_runs) else {
        return match (connected, daemon_runs) {
            (Ok(_), _) => Err(address_in_use(address)),
            // The daemon may have been started with --rest-listen, which this process cannot see.
            (Err(error), true) => Ok(format!(
                "nothing listens on {address} ({error}): correct if --rest-listen named another address, else restart the daemon"
            )),
            (Err(_), false) => Ok(format!("{address} is free")),
        };
    };
    // With TLS no request is sent: a running daemon and an open port are sufficient here.
    if rest.tls.is_none() && !is_healthy(stream, address) {
        return Err(address_in_use(address));
    }
    Ok(format!("{address} responds"))
}

fn address_in_use(address: SocketAddr) -> Failure {
    let next =
        "stop that program (`ss -ltnp` shows it), or choose another address with [rest] listen in kms.toml";
    Failure::new(format!("another program listens on {address}"), next)
}

fn is_healthy(mut stream: &TcpStream, address: SocketAddr) -> bool {
    let request = format!("GET /healthz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    let mut response = Vec::new();
    let exchanged = stream
        .set_read_timeout(Some(RESPONSE_TIMEOUT))
        .and_then(|()| stream.write_all(request.as_bytes()))
        .and_then(|()| stream.take(4096).read_to_end(&mut response).map(drop));
    exchanged.is_ok() && String::from_utf8_lossy(&response).contains("x-trace-id")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_certificate_has_no_validity() {
        for der in [b"".as_slice(), b"\x30\x00", b"\x30\x02\x30\x00", b"\x02\x01\x01"] {
            assert_eq!(validity(der), None, "{der:02x?}");
        }
    }
}
