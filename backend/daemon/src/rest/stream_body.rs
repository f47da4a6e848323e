//! A body that is written while it is read: never more of it in memory than some chunks, however long it is and however
//! slowly it is taken.

use std::io::{self, BufWriter, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body::Frame;
use kms_core::api::{Problem, Status};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::backend_trait::Writing;

/// Bytes handed over at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Chunks that wait to be taken.
const CHUNKS_WAITING_MAX: usize = 2;

/// Exports at once. Each holds a thread, a connection to the database, and what the database's log has grown by since.
const EXPORTS_MAX: usize = 4;

/// How long a reader may leave the next chunk lying.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);

/// How long all of it may take: 100,000 keys are written within seconds, so it is up to the reader.
const DONE_WITHIN: Duration = Duration::from_secs(15 * 60);

/// The places for exports.
#[derive(Debug)]
pub(super) struct Exports(Arc<Semaphore>);

/// A place.
pub(super) struct Turn(OwnedSemaphorePermit);

/// What the writer hands over. A body ends with `End`, or it was cut off: who reads must not take the one for the other.
enum Piece {
    Chunk(Bytes),
    End,
}

impl Exports {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(EXPORTS_MAX)))
    }

    /// Takes a place.
    ///
    /// # Errors
    /// 503 when there is none.
    pub(super) fn turn(&self) -> Result<Turn, Problem> {
        let busy = |_| {
            let sentence = format!("{EXPORTS_MAX} exports are being written; try again when one is done");
            Problem::new(Status::Unavailable, sentence)
        };
        Arc::clone(&self.0).try_acquire_owned().map(Turn).map_err(busy)
    }
}

impl Turn {
    /// The body that `writing` writes, on a thread that may block.
    pub(super) fn stream(self, writing: Writing) -> Body {
        let (sender, pieces) = channel(CHUNKS_WAITING_MAX);
        let until = Instant::now() + DONE_WITHIN;
        let mut chunks = Chunks { sender, runtime: Handle::current(), until };
        tokio::task::spawn_blocking(move || {
            let mut out = BufWriter::with_capacity(CHUNK_BYTES, &mut chunks);
            let written = writing(&mut out).and_then(|()| out.flush());
            drop(out);
            match written.and_then(|()| chunks.hand(Piece::End)) {
                Ok(()) => {}
                Err(error) => tracing::warn!(%error, "an export was cut off"),
            }
            drop(self.0);
        });
        Body::new(Streamed { pieces, ended: false })
    }
}

/// Where the writer writes: blocks until the reader has taken something.
struct Chunks {
    sender: Sender<Piece>,
    runtime: Handle,
    until: Instant,
}

impl Chunks {
    fn hand(&self, piece: Piece) -> io::Result<()> {
        let until = self.until.min(Instant::now() + TAKEN_WITHIN);
        let handed = self.runtime.block_on(tokio::time::timeout_at(until, self.sender.send(piece)));
        let slow = |_| io::Error::new(io::ErrorKind::TimedOut, "the reader took too long");
        handed.map_err(slow)?.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the reader has gone"))
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // What is larger than the buffer before us comes here whole.
        let chunk = bytes.get(..CHUNK_BYTES).unwrap_or(bytes);
        if !chunk.is_empty() {
            self.hand(Piece::Chunk(Bytes::copy_from_slice(chunk)))?;
        }
        Ok(chunk.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The body.
struct Streamed {
    pieces: Receiver<Piece>,
    ended: bool,
}

impl HttpBody for Streamed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.pieces.poll_recv(context).map(|piece| match piece {
            Some(Piece::Chunk(chunk)) => Some(Ok(Frame::data(chunk))),
            Some(Piece::End) => {
                self.ended = true;
                None
            }
            None => {
                self.ended = true;
                Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the writer stopped")))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::BodyExt;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    #[test]
    fn no_more_is_written_than_is_taken_and_some_chunks() {
        let written = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&written);
        let writing: Writing = Box::new(move |out| {
            for _ in 0..10_000 {
                out.write_all(&[7; 1000])?;
                count.fetch_add(1000, Ordering::SeqCst);
            }
            Ok(())
        });
        runtime().block_on(async {
            let mut body = Exports::new().turn().unwrap().stream(writing);
            let mut taken = 0;
            while let Some(frame) = body.frame().await {
                let chunk = frame.unwrap().into_data().unwrap();
                assert!(chunk.len() <= CHUNK_BYTES);
                taken += chunk.len();
                // The chunks that wait, the one that is handed over, and what fills the buffer.
                let ahead = written.load(Ordering::SeqCst).saturating_sub(taken);
                assert!(ahead <= (CHUNKS_WAITING_MAX + 2) * CHUNK_BYTES, "{ahead} bytes ahead");
            }
            assert_eq!(taken, 10_000_000);
        });
    }

    #[test]
    fn a_body_that_was_cut_off_does_not_end_well() {
        let fails: Writing = Box::new(|out| {
            out.write_all(b"{\"half\":")?;
            Err(io::Error::other("the disk"))
        });
        let panics: Writing = Box::new(|_| panic!("a bug"));
        runtime().block_on(async {
            for writing in [fails, panics] {
                let exports = Exports::new();
                assert!(exports.turn().unwrap().stream(writing).collect().await.is_err());
            }
            let whole: Writing = Box::new(|out| out.write_all(b"{}"));
            let body = Exports::new().turn().unwrap().stream(whole).collect().await.unwrap();
            assert_eq!(body.to_bytes(), "{}");
        });
    }

    #[test]
    fn a_reader_who_goes_frees_the_place() {
        runtime().block_on(async {
            let exports = Exports::new();
            let endless = || -> Writing {
                Box::new(|out| {
                    loop {
                        out.write_all(&[0; 4096])?
                    }
                })
            };
            let bodies: Vec<_> =
                (0..EXPORTS_MAX).map(|_| exports.turn().unwrap().stream(endless())).collect();
            assert_eq!(exports.turn().err().unwrap().status.code(), 503);
            drop(bodies);
            let again = tokio::time::timeout(Duration::from_secs(10), exports.0.acquire_many(4)).await;
            assert!(again.is_ok(), "the places are free again");
        });
    }
}
