//! Unary gRPC calls over one Unix socket, driven by the calling thread: no runtime, no poller, no other thread.
//!
//! HTTP/2 is h2's business, this file only waits: whenever neither the call nor the connection can go on, the thread sleeps
//! in poll(2) until the socket can be read, or written where that is what is missing, or the deadline has come.
//! *Why*: an async runtime and a client channel cost more than the call itself in a process that lives for a millisecond.

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::{self, SendRequest};
use http::{HeaderMap, Request};
use prost::Message;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::cell::Cell;
use std::future::Future;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::Status;

/// Largest response taken. *Source*: our choice; a GC answer for four thousand attachments is below 1 MiB.
const RESPONSE_MAX: usize = 4 << 20;
/// What gRPC puts before a message: not compressed, and its length. *Source*: gRPC over HTTP/2, "Length-Prefixed-Message".
const PREFIX_LEN: usize = 5;

/// Why a call got no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// The deadline passed.
    #[error("no answer in time")]
    Late,
    /// The connection broke, or the call was reset.
    #[error("the connection broke")]
    Lost(#[source] h2::Error),
    /// The connection ended before the answer.
    #[error("the connection was closed")]
    Closed,
    /// The server ended the call with this status.
    #[error("the call failed")]
    Status(Box<Status>),
    /// The answer cannot be read.
    #[error("the answer is {0}")]
    Broken(&'static str),
}

impl From<h2::Error> for CallError {
    fn from(error: h2::Error) -> Self {
        Self::Lost(error)
    }
}

/// A connection; makes one call at a time.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Rc<Socket>,
    requests: SendRequest<Bytes>,
    /// `None` once it has ended.
    driver: Option<client::Connection<Io, Bytes>>,
}

impl Connection {
    /// Connects without waiting: a listening server takes connections at once.
    ///
    /// # Errors
    /// Nobody listens, or too many wait already.
    pub(super) fn open(path: &str) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let address = SocketAddrUnix::new(path)?;
        // An interrupted attempt has not been made: a local connection is made at once or not at all.
        while let Err(errno) = connect(&socket, &address) {
            if errno != Errno::INTR {
                return Err(errno.into());
            }
        }
        Self::over(UnixStream::from(socket))
    }

    /// Speaks over a connected socket that does not block.
    fn over(stream: UnixStream) -> io::Result<Self> {
        let socket = Rc::new(Socket { stream, full: Cell::new(false) });
        let mut builder = client::Builder::new();
        // Nothing is ever pushed, and headers are sent once: no table to keep.
        builder.enable_push(false).header_table_size(0);
        let handshake = pin!(builder.handshake::<_, Bytes>(Io(Rc::clone(&socket))));
        // Writes the preface and waits for nothing, so a fresh socket has room for it.
        match handshake.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok((requests, driver))) => Ok(Self { socket, requests, driver: Some(driver) }),
            Poll::Ready(Err(error)) => Err(io::Error::other(error)),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Sends a message to a method and waits for the answer's message.
    ///
    /// # Errors
    /// No answer by the deadline, or none that is one.
    pub(super) fn call<T: Message + Default>(
        &mut self,
        method: &str,
        message: &impl Message,
        until: Instant,
    ) -> Result<T, CallError> {
        let call = unary(self.requests.clone(), method.to_owned(), framed(message)?);
        T::decode(self.drive(call, until)?).map_err(|_| CallError::Broken("no message of its kind"))
    }

    /// Polls call and connection in turn until the call is done.
    fn drive<T>(
        &mut self,
        call: impl Future<Output = Result<T, CallError>>,
        until: Instant,
    ) -> Result<T, CallError> {
        let progress = Arc::new(Progress(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&progress));
        let mut context = Context::from_waker(&waker);
        let mut call = pin!(call);
        loop {
            if let Poll::Ready(done) = call.as_mut().poll(&mut context) {
                return done;
            }
            let driver = self.driver.as_mut().ok_or(CallError::Closed)?;
            if let Poll::Ready(end) = Pin::new(driver).poll(&mut context) {
                self.driver = None;
                // The answer may have come with the end.
                return match call.as_mut().poll(&mut context) {
                    Poll::Ready(done) => done,
                    Poll::Pending => Err(end.map_or_else(CallError::Lost, |()| CallError::Closed)),
                };
            }
            // What the connection has just received may be what the call waits for.
            if !progress.0.swap(false, Ordering::Relaxed) {
                self.socket.wait(until)?;
            }
        }
    }
}

/// Set when something that was waited for inside this process has come.
struct Progress(AtomicBool);

impl Wake for Progress {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One call. *Source*: gRPC over HTTP/2, "Requests", "Responses".
async fn unary(requests: SendRequest<Bytes>, method: String, message: Bytes) -> Result<BytesMut, CallError> {
    let head = Request::post(format!("http://ipamd/podwire.v1.Ipam/{method}"))
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .body(())
        .map_err(|_| CallError::Broken("never asked for: the method's name is no path"))?;
    let (response, mut outgoing) = requests.ready().await?.send_request(head, false)?;
    outgoing.send_data(message, true)?;
    let (head, mut incoming) = response.await?.into_parts();
    // An error without a message comes in the headers.
    ended_well(status(head.headers))?;
    let mut body = BytesMut::new();
    while let Some(chunk) = incoming.data().await {
        let chunk = chunk?;
        incoming.flow_control().release_capacity(chunk.len())?;
        if body.len() + chunk.len() > RESPONSE_MAX {
            return Err(CallError::Broken("too long"));
        }
        body.extend_from_slice(&chunk);
    }
    let end = incoming.trailers().await?.and_then(status);
    ended_well(Some(end.unwrap_or_else(|| Status::unknown("the answer has no status"))))?;
    unframed(body)
}

/// The status that headers or trailers carry.
fn status(mut headers: HeaderMap) -> Option<Status> {
    // Nobody reads the details, and tonic takes for granted that they are well-formed.
    headers.remove("grpc-status-details-bin");
    Status::from_header_map(&headers)
}

fn ended_well(status: Option<Status>) -> Result<(), CallError> {
    match status {
        Some(status) if status.code() != tonic::Code::Ok => Err(CallError::Status(Box::new(status))),
        Some(_) | None => Ok(()),
    }
}

fn framed(message: &impl Message) -> Result<Bytes, CallError> {
    let length = message.encoded_len();
    let prefix = u32::try_from(length).map_err(|_| CallError::Broken("never asked for: too much to ask"))?;
    let mut bytes = BytesMut::with_capacity(PREFIX_LEN + length);
    bytes.put_u8(0);
    bytes.put_u32(prefix);
    message.encode(&mut bytes).map_err(|_| CallError::Broken("never asked for: no room for the question"))?;
    Ok(bytes.freeze())
}

fn unframed(mut body: BytesMut) -> Result<BytesMut, CallError> {
    if body.len() < PREFIX_LEN {
        return Err(CallError::Broken("empty"));
    }
    let message = body.split_off(PREFIX_LEN);
    let length = u32::from_be_bytes([body[1], body[2], body[3], body[4]]);
    if body[0] != 0 || usize::try_from(length) != Ok(message.len()) {
        return Err(CallError::Broken("compressed or cut short"));
    }
    Ok(message)
}

/// The socket, and what it is missing.
#[derive(Debug)]
struct Socket {
    stream: UnixStream,
    /// Something is to be written and there was no room.
    full: Cell<bool>,
}

impl Socket {
    fn wait(&self, until: Instant) -> Result<(), CallError> {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|_| CallError::Late)?;
        let wanted = if self.full.take() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        match poll(&mut [PollFd::new(&self.stream, wanted)], Some(&timeout)) {
            Ok(0) => Err(CallError::Late),
            // A socket that cannot be waited for says why when it is used.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// What one system call on a socket that does not block means for whoever polls.
    fn polled<T>(&self, mut call: impl FnMut(&UnixStream) -> io::Result<T>) -> Poll<io::Result<T>> {
        loop {
            match call(&self.stream) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                done => return Poll::Ready(done),
            }
        }
    }

    fn written(&self, call: impl FnMut(&UnixStream) -> io::Result<usize>) -> Poll<io::Result<usize>> {
        let done = self.polled(call);
        self.full.set(done.is_pending());
        done
    }
}

/// The socket as h2 takes it. Nobody is woken: [`Connection::drive`] waits for the socket itself.
#[derive(Debug)]
struct Io(Rc<Socket>);

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = self.0.polled(|mut stream| stream.read(into.initialize_unfilled()));
        read.map_ok(|length| into.advance(length))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.written(|mut stream| stream.write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.written(|mut stream| stream.write_vectored(parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.stream.shutdown(std::net::Shutdown::Write))
    }
}

#[cfg(test)]
mod tests;
