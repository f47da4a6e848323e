//! A connection of the REST listener: counted by its client's network, and closed when another needs its place and no
//! request is in flight.

use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use axum::body::{Body, Bytes, HttpBody};
use axum_server::accept::Accept;
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::middleware::ConnectionService;
use crate::fairness::{Activity, Busy, Connections, Place, ThrottledLog};

/// How long sent data may stay unacknowledged before the connection is closed (`TCP_USER_TIMEOUT`).
const TCP_USER_TIMEOUT_MILLISECONDS: u32 = 30_000;

/// The response to a connection that is refused, where no TLS precedes it.
const REFUSED: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
    connection: close\r\ncontent-length: 50\r\n\r\n{\"message\":\"too many connections; try again soon\"}";

/// Gives each accepted connection a place, or refuses it; sets its socket options: no delay of small writes, and a
/// timeout for unacknowledged data.
#[derive(Clone)]
pub(super) struct ConnectionAcceptor {
    connections: Arc<Connections<IpAddr>>,
    refused: Arc<ThrottledLog>,
    /// Whether a response may be written before TLS.
    is_plain: bool,
}

impl ConnectionAcceptor {
    pub(super) fn new(connections: Connections<IpAddr>, is_plain: bool) -> Self {
        Self { connections: Arc::new(connections), refused: Arc::default(), is_plain }
    }

    fn open(
        &self,
        stream: TcpStream,
        service: ConnectionService,
    ) -> io::Result<(LimitedStream, ConnectionService)> {
        stream.set_nodelay(true)?;
        rustix::net::sockopt::set_tcp_user_timeout(&stream, TCP_USER_TIMEOUT_MILLISECONDS)?;
        let network = client_network(service.peer());
        let (activity, waker) = (Activity::new(), Arc::new(Mutex::new(None::<Waker>)));
        let wake = Arc::clone(&waker);
        let close = move || {
            if let Some(waker) = wake.lock().unwrap_or_else(PoisonError::into_inner).take() {
                waker.wake();
            }
        };
        let Some(place) = self.connections.enter(network, false, &activity, close) else {
            if let Some(times) = self.refused.count() {
                tracing::warn!(%network, times, "connections were refused: too many are open, each with a request in flight");
            }
            let sent = if self.is_plain { stream.try_write(REFUSED) } else { Ok(0) };
            return Err(io::Error::other(format!("too many connections ({sent:?} bytes sent)")));
        };
        let stream = LimitedStream { stream, activity: Arc::clone(&activity), waker, _place: place };
        Ok((stream, service.with_activity(activity)))
    }
}

impl Accept<TcpStream, ConnectionService> for ConnectionAcceptor {
    type Stream = LimitedStream;
    type Service = ConnectionService;
    type Future = std::future::Ready<io::Result<(LimitedStream, ConnectionService)>>;

    fn accept(&self, stream: TcpStream, service: ConnectionService) -> Self::Future {
        std::future::ready(self.open(stream, service))
    }
}

/// The addresses that one client controls: with IPv6, a network of 64 bits.
pub(super) fn client_network(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// A stream that ends when its connection was chosen to be closed and has no request in flight.
pub(super) struct LimitedStream {
    stream: TcpStream,
    activity: Arc<Activity>,
    /// Woken when the connection is chosen.
    waker: Arc<Mutex<Option<Waker>>>,
    _place: Place<IpAddr>,
}

impl LimitedStream {
    /// Whether to end instead of waiting. If not, the task is woken when that changes.
    fn ends(&self, context: &Context<'_>) -> bool {
        let mut waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if waker.as_ref().is_none_or(|waker| !waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        drop(waker);
        // After the waker is stored: either the choice is seen here, or it wakes the task.
        self.activity.may_close()
    }

    /// A write that waits fails instead if the connection is to end: its client does not read.
    fn unless_ending(
        &self,
        context: &Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_pending() && self.ends(context) {
            return Poll::Ready(Err(ErrorKind::ConnectionAborted.into()));
        }
        written
    }
}

impl AsyncRead for LimitedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // What has arrived is served first.
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_pending() && self.ends(context) { Poll::Ready(Ok(())) } else { read }
    }
}

impl AsyncWrite for LimitedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.unless_ending(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.unless_ending(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The body of a response that is written while it is produced: its request is in flight until then.
pub(super) struct BusyBody {
    body: Body,
    _busy: Busy,
}

impl BusyBody {
    /// Returns the body; it keeps `busy` only if its length is not known yet.
    pub(super) fn wrap(body: Body, busy: Busy) -> Body {
        if body.size_hint().exact().is_some() { body } else { Body::new(Self { body, _busy: busy }) }
    }
}

impl HttpBody for BusyBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_states_its_length() {
        let text = std::str::from_utf8(REFUSED).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{} bytes", body.len());
        assert!(head.split("\r\n").all(|line| !line.starts_with(' ')), "{head:?}");
    }
}
