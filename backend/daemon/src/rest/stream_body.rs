//! Streamed response bodies, written while the client reads: memory holds a few chunks, however long the body is and
//! however slowly the client reads.

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

use super::backend_trait::BodyWriter;

/// The size of a chunk, in bytes.
const CHUNK_BYTES: usize = 64 << 10;

/// Chunks that may wait for the client.
const CHUNKS_WAITING_MAX: usize = 2;

/// The maximum number of exports at once. Each occupies a thread and a database connection, and keeps the database's
/// WAL from being truncated.
const EXPORTS_MAX: usize = 4;

/// How long the client may take to accept the next chunk.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(30);

/// How long an export may take: 100,000 keys are written within seconds, so the time depends on the client.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// The semaphore that bounds the exports.
#[derive(Debug)]
pub(super) struct ExportSlots(Arc<Semaphore>);

/// The permit for one export.
pub(super) struct ExportSlot(OwnedSemaphorePermit);

/// What the writer sends. Without `End` the body is incomplete, which the client must be able to detect.
enum BodyMessage {
    Chunk(Bytes),
    End,
}

impl ExportSlots {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(EXPORTS_MAX)))
    }

    /// Acquires the permit for one export.
    ///
    /// # Errors
    /// 503 when all are in use.
    pub(super) fn acquire(&self) -> Result<ExportSlot, Problem> {
        let busy = |_| {
            let message = format!("{EXPORTS_MAX} exports are being written; try again when one is done");
            Problem::new(Status::Unavailable, message)
        };
        Arc::clone(&self.0).try_acquire_owned().map(ExportSlot).map_err(busy)
    }
}

impl ExportSlot {
    /// Returns the body that `body_writer` writes, on a blocking thread.
    pub(super) fn stream(self, body_writer: BodyWriter) -> Body {
        let (sender, messages) = channel(CHUNKS_WAITING_MAX);
        let deadline = Instant::now() + EXPORT_TIMEOUT;
        let mut chunks = ChunkWriter { sender, runtime: Handle::current(), deadline };
        tokio::task::spawn_blocking(move || {
            let mut out = BufWriter::with_capacity(CHUNK_BYTES, &mut chunks);
            let written = body_writer(&mut out).and_then(|()| out.flush());
            drop(out);
            match written.and_then(|()| chunks.send(BodyMessage::End)) {
                Ok(()) => {}
                Err(error) => tracing::warn!(%error, "an export was cut off"),
            }
            drop(self.0);
        });
        Body::new(ChannelBody { messages, ended: false })
    }
}

/// The writer's end of the channel; blocks until the client has accepted a chunk.
struct ChunkWriter {
    sender: Sender<BodyMessage>,
    runtime: Handle,
    deadline: Instant,
}

impl ChunkWriter {
    fn send(&self, message: BodyMessage) -> io::Result<()> {
        let deadline = self.deadline.min(Instant::now() + CHUNK_TIMEOUT);
        let sent = self.runtime.block_on(tokio::time::timeout_at(deadline, self.sender.send(message)));
        let timed_out = |_| io::Error::new(io::ErrorKind::TimedOut, "the reader took too long");
        sent.map_err(timed_out)?
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the reader disconnected"))
    }
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // `BufWriter` passes anything larger than its buffer through in one piece.
        let chunk = bytes.get(..CHUNK_BYTES).unwrap_or(bytes);
        if !chunk.is_empty() {
            self.send(BodyMessage::Chunk(Bytes::copy_from_slice(chunk)))?;
        }
        Ok(chunk.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The client's end of the channel.
struct ChannelBody {
    messages: Receiver<BodyMessage>,
    ended: bool,
}

impl HttpBody for ChannelBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.messages.poll_recv(context).map(|message| match message {
            Some(BodyMessage::Chunk(chunk)) => Some(Ok(Frame::data(chunk))),
            Some(BodyMessage::End) => {
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
    fn the_writer_is_at_most_a_few_chunks_ahead_of_the_client() {
        let written = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&written);
        let body_writer: BodyWriter = Box::new(move |out| {
            for _ in 0..10_000 {
                out.write_all(&[7; 1000])?;
                count.fetch_add(1000, Ordering::SeqCst);
            }
            Ok(())
        });
        runtime().block_on(async {
            let mut body = ExportSlots::new().acquire().unwrap().stream(body_writer);
            let mut taken = 0;
            while let Some(frame) = body.frame().await {
                let chunk = frame.unwrap().into_data().unwrap();
                assert!(chunk.len() <= CHUNK_BYTES);
                taken += chunk.len();
                // The chunks that wait, the one that is being sent, and the content of the buffer.
                let ahead = written.load(Ordering::SeqCst).saturating_sub(taken);
                assert!(ahead <= (CHUNKS_WAITING_MAX + 2) * CHUNK_BYTES, "{ahead} bytes ahead");
            }
            assert_eq!(taken, 10_000_000);
        });
    }

    #[test]
    fn an_incomplete_body_ends_with_an_error() {
        let fails: BodyWriter = Box::new(|out| {
            out.write_all(b"{\"half\":")?;
            Err(io::Error::other("the disk"))
        });
        let panics: BodyWriter = Box::new(|_| panic!("a bug"));
        runtime().block_on(async {
            for body_writer in [fails, panics] {
                let exports = ExportSlots::new();
                assert!(exports.acquire().unwrap().stream(body_writer).collect().await.is_err());
            }
            let whole: BodyWriter = Box::new(|out| out.write_all(b"{}"));
            let body = ExportSlots::new().acquire().unwrap().stream(whole).collect().await.unwrap();
            assert_eq!(body.to_bytes(), "{}");
        });
    }

    #[test]
    fn a_client_that_disconnects_releases_its_permit() {
        runtime().block_on(async {
            let exports = ExportSlots::new();
            let endless = || -> BodyWriter {
                Box::new(|out| {
                    loop {
                        out.write_all(&[0; 4096])?
                    }
                })
            };
            let bodies: Vec<_> =
                (0..EXPORTS_MAX).map(|_| exports.acquire().unwrap().stream(endless())).collect();
            assert_eq!(exports.acquire().err().unwrap().status.code(), 503);
            drop(bodies);
            let again = tokio::time::timeout(Duration::from_secs(10), exports.0.acquire_many(4)).await;
            assert!(again.is_ok(), "the permits are available again");
        });
    }
}
