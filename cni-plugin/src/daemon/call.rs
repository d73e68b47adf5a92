//! Unary gRPC calls over one Unix socket, blocking, each with a deadline. HTTP/2 as a client of one server needs it.
//!
//! *Why not a client library*: a call costs an async runtime, a poller and some hundred page faults there, in a process
//! that lives for a millisecond and makes one call (measured: 0.2 to 0.3 ms of an ADD, and half of the binary).
//! *Source*: RFC 9113 (HTTP/2), "gRPC over HTTP/2".

use super::hpack::{self, Trailers};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Starts every connection. *Source*: RFC 9113 §3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Largest frame and first window until the server says otherwise. *Source*: RFC 9113 §6.5.2.
const FRAME_DEFAULT: usize = 16_384;
const WINDOW_DEFAULT: i64 = 65_535;
/// Largest response taken. *Source*: our choice; a GC answer for a thousand attachments is below 100 KiB.
const RESPONSE_MAX: usize = 4 << 20;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
const SETTING_TABLE_SIZE: u16 = 1;
const SETTING_PUSH: u16 = 2;
const SETTING_WINDOW: u16 = 4;
const SETTING_FRAME: u16 = 5;

/// Why a call got no response.
#[derive(Debug)]
pub(super) enum CallError {
    /// The socket failed, or the server closed it.
    Io(io::Error),
    /// The deadline passed.
    Late,
    /// The server ended the call with this gRPC status.
    Status(u32, String),
    /// The server broke the protocol.
    Broken(&'static str),
}

impl From<io::Error> for CallError {
    fn from(error: io::Error) -> Self {
        // What a socket's own timeout is called differs by system call.
        let late = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
        if late { Self::Late } else { Self::Io(error) }
    }
}

/// A connection; makes one call at a time.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    /// Not sent yet.
    outgoing: Vec<u8>,
    /// Received and not looked at yet.
    incoming: VecDeque<u8>,
    next_stream: u32,
    frame_max: usize,
    window: i64,
    stream_window_first: i64,
}

/// One frame.
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// A call under way.
struct Running {
    stream: u32,
    window: i64,
    unsent: VecDeque<u8>,
    headers: Vec<u8>,
    trailers: Trailers,
    body: Vec<u8>,
    /// The header block under way ends the call.
    last: bool,
    ended: bool,
}

impl Connection {
    /// Connects without waiting: a listening server takes connections at once.
    ///
    /// # Errors
    /// Nobody listens, or too many wait already.
    pub(super) fn open(path: &str) -> Result<Self, io::Error> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        loop {
            match connect(&socket, &SocketAddrUnix::new(path)?) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(false)?;
        let mut outgoing = PREFACE.to_vec();
        let settings = [(SETTING_TABLE_SIZE, 0_u32), (SETTING_PUSH, 0)];
        let bytes = settings.map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat());
        frame(&mut outgoing, SETTINGS, 0, 0, &bytes.concat());
        Ok(Self {
            stream,
            outgoing,
            incoming: VecDeque::new(),
            next_stream: 1,
            frame_max: FRAME_DEFAULT,
            window: WINDOW_DEFAULT,
            stream_window_first: WINDOW_DEFAULT,
        })
    }

    /// Sends a message and waits for the answer's message.
    ///
    /// # Errors
    /// No answer by the deadline, or none that is one.
    pub(super) fn call(&mut self, path: &str, message: &[u8], until: Instant) -> Result<Vec<u8>, CallError> {
        let mut call = Running {
            stream: self.next_stream,
            window: self.stream_window_first,
            unsent: framed(message)?.into(),
            headers: Vec::new(),
            trailers: Trailers::default(),
            body: Vec::new(),
            last: false,
            ended: false,
        };
        self.next_stream += 2;
        frame(&mut self.outgoing, HEADERS, END_HEADERS, call.stream, &hpack::request(path));
        self.send_body(&mut call);
        while !call.ended {
            self.flush(until)?;
            let frame = self.next_frame(until)?;
            self.take(frame, &mut call)?;
        }
        // The last words, such as the acknowledgement of settings; the server does without them where it has gone.
        let _ = self.flush(until);
        call.response()
    }

    /// Queues as much of the request as the windows allow.
    fn send_body(&mut self, call: &mut Running) {
        while !call.unsent.is_empty() {
            let open = usize::try_from(self.window.min(call.window)).unwrap_or(0);
            let length = call.unsent.len().min(open).min(self.frame_max);
            if length == 0 {
                return;
            }
            let chunk: Vec<u8> = call.unsent.drain(..length).collect();
            let used = i64::try_from(length).expect("a frame is small");
            (self.window, call.window) = (self.window - used, call.window - used);
            let flags = if call.unsent.is_empty() { END_STREAM } else { 0 };
            frame(&mut self.outgoing, DATA, flags, call.stream, &chunk);
        }
    }

    fn flush(&mut self, until: Instant) -> Result<(), CallError> {
        if !self.outgoing.is_empty() {
            self.stream.set_write_timeout(Some(left(until)?))?;
            self.stream.write_all(&self.outgoing)?;
            self.outgoing.clear();
        }
        Ok(())
    }

    fn next_frame(&mut self, until: Instant) -> Result<Frame, CallError> {
        let header: [u8; 9] =
            self.bytes(9, until)?.try_into().map_err(|_| CallError::Broken("short frame"))?;
        let [a, b, c, kind, flags, s0, s1, s2, s3] = header;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        // We never allow frames beyond the default.
        if length > FRAME_DEFAULT {
            return Err(CallError::Broken("a frame that is too long"));
        }
        let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
        Ok(Frame { kind, flags, stream, payload: self.bytes(length, until)? })
    }

    fn bytes(&mut self, count: usize, until: Instant) -> Result<Vec<u8>, CallError> {
        while self.incoming.len() < count {
            let mut buffer = [0; 4096];
            self.stream.set_read_timeout(Some(left(until)?))?;
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(length) => self.incoming.extend(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.incoming.drain(..count).collect())
    }

    fn take(&mut self, frame: Frame, call: &mut Running) -> Result<(), CallError> {
        let ours = frame.stream == call.stream;
        match frame.kind {
            DATA if ours => self.take_data(&frame, call),
            HEADERS if ours => {
                call.headers = unpadded(&frame)?.to_vec();
                call.last = frame.flags & END_STREAM != 0;
                call.take_headers(frame.flags)
            }
            CONTINUATION if ours => {
                call.headers.extend_from_slice(&frame.payload);
                call.take_headers(frame.flags)
            }
            RST_STREAM if ours => Err(CallError::Status(STATUS_UNAVAILABLE, "the call was reset".into())),
            GOAWAY => self.take_goaway(&frame, call),
            SETTINGS if frame.flags & ACK == 0 => self.take_settings(&frame, call),
            PING if frame.flags & ACK == 0 => {
                self::frame(&mut self.outgoing, PING, ACK, 0, &frame.payload);
                Ok(())
            }
            WINDOW_UPDATE if ours || frame.stream == 0 => {
                let more = i64::from(number(&frame.payload, 0)? & 0x7fff_ffff);
                let window = if frame.stream == 0 { &mut self.window } else { &mut call.window };
                *window = window.saturating_add(more);
                self.send_body(call);
                Ok(())
            }
            // Frames of older calls, and kinds that may be left alone.
            _ => Ok(()),
        }
    }

    fn take_data(&mut self, frame: &Frame, call: &mut Running) -> Result<(), CallError> {
        call.body.extend_from_slice(unpadded(frame)?);
        if call.body.len() > RESPONSE_MAX {
            return Err(CallError::Broken("a response that is too long"));
        }
        call.ended |= frame.flags & END_STREAM != 0;
        if !call.ended && !frame.payload.is_empty() {
            let length = u32::try_from(frame.payload.len()).expect("a frame is small").to_be_bytes();
            self::frame(&mut self.outgoing, WINDOW_UPDATE, 0, 0, &length);
            self::frame(&mut self.outgoing, WINDOW_UPDATE, 0, call.stream, &length);
        }
        Ok(())
    }

    /// The server is stopping: calls it has not begun will never be answered.
    fn take_goaway(&mut self, frame: &Frame, call: &Running) -> Result<(), CallError> {
        if number(&frame.payload, 0)? & 0x7fff_ffff < call.stream {
            return Err(CallError::Status(STATUS_UNAVAILABLE, "ipamd is stopping".into()));
        }
        Ok(())
    }

    fn take_settings(&mut self, frame: &Frame, call: &mut Running) -> Result<(), CallError> {
        for entry in frame.payload.chunks_exact(6) {
            let value = number(entry, 2)?;
            match u16::from_be_bytes([entry[0], entry[1]]) {
                SETTING_WINDOW => {
                    let first = i64::from(value);
                    call.window += first - self.stream_window_first;
                    self.stream_window_first = first;
                }
                SETTING_FRAME => self.frame_max = usize::try_from(value).unwrap_or(FRAME_DEFAULT),
                _ => {}
            }
        }
        self::frame(&mut self.outgoing, SETTINGS, ACK, 0, &[]);
        self.send_body(call);
        Ok(())
    }
}

/// *Source*: gRPC status codes.
pub(super) const STATUS_UNAVAILABLE: u32 = 14;
/// A response without status. *Source*: gRPC status codes, UNKNOWN.
const STATUS_UNKNOWN: u32 = 2;

impl Running {
    fn take_headers(&mut self, flags: u8) -> Result<(), CallError> {
        if flags & END_HEADERS == 0 {
            // Nothing of the kind may end here: the rest is still to come.
            return Ok(());
        }
        let found = hpack::trailers(&self.headers).ok_or(CallError::Broken("malformed headers"))?;
        if found.status.is_some() {
            self.trailers = found;
        }
        self.ended |= self.last;
        Ok(())
    }

    fn response(self) -> Result<Vec<u8>, CallError> {
        match self.trailers.status {
            Some(0) => {}
            Some(status) => return Err(CallError::Status(status, self.trailers.message)),
            None => return Err(CallError::Status(STATUS_UNKNOWN, "the answer has no status".into())),
        }
        let message = self.body.get(5..).ok_or(CallError::Broken("an answer without message"))?;
        let length = usize::try_from(number(&self.body, 1)?).unwrap_or(usize::MAX);
        if self.body[0] != 0 || length != message.len() {
            return Err(CallError::Broken("an answer that is compressed or cut short"));
        }
        Ok(message.to_vec())
    }
}

/// A message as gRPC frames it: not compressed, with its length.
fn framed(message: &[u8]) -> Result<Vec<u8>, CallError> {
    let length = u32::try_from(message.len()).map_err(|_| CallError::Broken("a request that is too long"))?;
    Ok([&[0][..], &length.to_be_bytes()[..], message].concat())
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("callers keep to the largest frame").to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// A frame's content without padding and priority. *Source*: RFC 9113 §6.1, §6.2.
fn unpadded(frame: &Frame) -> Result<&[u8], CallError> {
    let broken = || CallError::Broken("malformed padding");
    let (padding, mut rest) = if frame.flags & PADDED == 0 {
        (0, &frame.payload[..])
    } else {
        let (length, rest) = frame.payload.split_first().ok_or_else(broken)?;
        (usize::from(*length), rest)
    };
    if frame.kind == HEADERS && frame.flags & PRIORITY != 0 {
        rest = rest.get(5..).ok_or_else(broken)?;
    }
    let end = rest.len().checked_sub(padding).ok_or_else(broken)?;
    Ok(&rest[..end])
}

fn number(bytes: &[u8], at: usize) -> Result<u32, CallError> {
    let four = bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
    four.map(u32::from_be_bytes).ok_or(CallError::Broken("a frame that is too short"))
}

fn left(until: Instant) -> Result<Duration, CallError> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(CallError::Late) } else { Ok(left) }
}

#[cfg(test)]
mod tests;
