//! The floor: the time of a 1 KiB frame to another process and back over a Unix socket, plus the bare operation by the
//! library that the backend uses. Time above the floor is spent in the module and the backend.
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair};

use crate::row::Row;

/// The size of the frame that is echoed.
const FRAME_BYTES: usize = 1024;

/// The echo process, and the keys of the bare operations.
pub(crate) struct Floor {
    child: Child,
    socket: PathBuf,
    gcm: LessSafeKey,
    rsa2048: RsaKeyPair,
    rsa4096: RsaKeyPair,
    p256: EcdsaKeyPair,
    random: SystemRandom,
}

impl Floor {
    /// Starts the echo process.
    pub(crate) fn start(folder: &Path) -> anyhow::Result<Self> {
        let socket = folder.join("floor.sock");
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.arg("floor").arg(&socket).stdout(Stdio::piped()).spawn()?;
        // It writes one byte when it listens.
        child.stdout.take().expect("standard output is piped").read_exact(&mut [0])?;
        let rsa = |size| RsaKeyPair::generate(size).map_err(|_| anyhow::anyhow!("no RSA key"));
        Ok(Self {
            child,
            socket,
            gcm: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32])?),
            rsa2048: rsa(KeySize::Rsa2048)?,
            rsa4096: rsa(KeySize::Rsa4096)?,
            p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?,
            random: SystemRandom::new(),
        })
    }

    /// One round: nanoseconds per round trip with the bare operation; `None` for a row that needs no backend.
    pub(crate) fn measure(
        &mut self,
        row: Row,
        threads: usize,
        milliseconds: u64,
    ) -> anyhow::Result<Option<f64>> {
        if row == Row::Attributes {
            return Ok(None);
        }
        let (start, time, floor) = (Barrier::new(threads), Duration::from_millis(milliseconds), &*self);
        let rates = std::thread::scope(|scope| {
            let run = |_| {
                let start = &start;
                scope.spawn(move || -> anyhow::Result<f64> {
                    let mut stream = UnixStream::connect(&floor.socket)?;
                    let (mut frame, mut count) = ([0; FRAME_BYTES], 0_u64);
                    start.wait();
                    let started = Instant::now();
                    while started.elapsed() < time {
                        stream.write_all(&frame)?;
                        stream.read_exact(&mut frame)?;
                        floor.operate(row)?;
                        count += 1;
                    }
                    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
                    let rate = count as f64 / started.elapsed().as_secs_f64();
                    Ok(rate)
                })
            };
            let running: Vec<_> = (0..threads).map(run).collect();
            running
                .into_iter()
                .map(|thread| thread.join().expect("no panic"))
                .collect::<anyhow::Result<Vec<_>>>()
        })?;
        Ok(Some(1e9 / rates.iter().sum::<f64>()))
    }

    fn operate(&self, row: Row) -> anyhow::Result<()> {
        let message = [0x5a; 32];
        let mut signature = [0; 512];
        let failed = |_| anyhow::anyhow!("a bare operation fails");
        match row {
            Row::Gcm | Row::Message => {
                let mut data = vec![0x5a; FRAME_BYTES];
                let nonce = Nonce::assume_unique_for_key([1; 12]);
                self.gcm.seal_in_place_append_tag(nonce, Aad::empty(), &mut data).map_err(failed)
            }
            Row::Rsa2048 => self
                .rsa2048
                .sign(&RSA_PKCS1_SHA256, &self.random, &message, &mut signature[..256])
                .map_err(failed),
            Row::Rsa4096 => {
                self.rsa4096.sign(&RSA_PKCS1_SHA256, &self.random, &message, &mut signature).map_err(failed)
            }
            Row::P256 => self.p256.sign(&self.random, &message).map(drop).map_err(failed),
            Row::Attributes | Row::Generate | Row::GenerateSession | Row::Find => Ok(()),
        }
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

/// The echo process: returns every frame, with a thread for each connection, as the backend has.
pub(crate) fn echo(socket: &Path) -> anyhow::Result<()> {
    let listener = UnixListener::bind(socket)?;
    std::io::stdout().write_all(b"!")?;
    std::io::stdout().flush()?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        std::thread::spawn(move || {
            let mut frame = [0; FRAME_BYTES];
            loop {
                match stream.read_exact(&mut frame).and_then(|()| stream.write_all(&frame)) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => return,
                }
            }
        });
    }
    Ok(())
}
