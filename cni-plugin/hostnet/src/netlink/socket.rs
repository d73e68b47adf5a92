//! One blocking netlink socket: batches with an answer for each message, dumps, notifications.
//!
//! A socket belongs to the network namespace of the thread that opened it, wherever the thread goes later.

use super::uapi::{
    MSG_DONTWAIT, NETLINK_NETFILTER, NETLINK_ROUTE, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP,
    NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NLMSGERR_ATTR_MSG,
};
use super::wire::{Attr, Message, Received, attrs, messages, u32_at};
use crate::probe;
use netlink_sys::{Socket as RawSocket, SocketAddr};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Room for one datagram. *Source*: Linux hands out dumps in pieces of at most 32 KiB (`netlink_recvmsg`).
const DATAGRAM_MAX: usize = 64 * 1024;
/// How often an interrupted dump is asked for again. *Source*: incumbent-behaviour §2.6 uses 5; dumps here are rarer.
const DUMP_TRIES: u32 = 10;
/// How long the kernel may take over one answer. *Source*: our choice; requests are served before `send` returns.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// Room for a whole ruleset, and for its acknowledgements. *Source*: our choice, ten times what the largest instance needs.
const RULESET_ROOM: usize = 4 << 20;

/// Why a netlink exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket itself failed.
    #[error("netlink socket: cannot {action}")]
    Socket {
        /// What was attempted.
        action: &'static str,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a request.
    #[error("kernel refused: {errno}{}{message}", if message.is_empty() { "" } else { ": " })]
    Refused {
        /// The error number.
        errno: Errno,
        /// The kernel's own words, when it gave any.
        message: String,
    },
    /// A dump was interrupted by changes every time it was tried.
    #[error("dump was interrupted {DUMP_TRIES} times by concurrent changes; try again")]
    Interrupted,
    /// The kernel's answer could not be read.
    #[error("kernel answered something unreadable to {0}")]
    Unreadable(&'static str),
}

impl NetlinkError {
    /// The kernel's error number, when that is what it is.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            Self::Socket { source, .. } => Errno::from_io_error(source),
            Self::Interrupted | Self::Unreadable(_) => None,
        }
    }

    /// Whether the kernel says that the object does not exist.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self.errno(), Some(Errno::NODEV | Errno::NOENT | Errno::SRCH | Errno::ADDRNOTAVAIL))
    }
}

/// An owned copy of a message that answered a request.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    /// Message type.
    pub(crate) kind: u16,
    /// What follows the netlink header.
    pub(crate) payload: Vec<u8>,
}

/// What the kernel said to one message of a batch.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Objects it returned.
    pub(crate) replies: Vec<Reply>,
    /// Its verdict.
    pub(crate) verdict: Result<(), NetlinkError>,
}

/// A netlink socket.
pub(crate) struct Socket {
    raw: RawSocket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl Socket {
    /// Opens a routing socket in the calling thread's network namespace.
    pub(crate) fn route() -> Result<Self, NetlinkError> {
        let mut socket = Self::open(NETLINK_ROUTE)?;
        // Filters in dumps are honoured only with strict checking (kernel 4.20 and newer).
        socket.raw.set_netlink_get_strict_chk(true).map_err(failed("ask for strict dumps"))?;
        socket.bind(0)?;
        Ok(socket)
    }

    /// Opens a netfilter socket in the calling thread's network namespace.
    pub(crate) fn netfilter() -> Result<Self, NetlinkError> {
        let mut socket = Self::open(NETLINK_NETFILTER)?;
        // A whole ruleset is one send; past the soft limit the kernel would answer EMSGSIZE. Where the limit cannot be
        // raised, the usual one holds some hundred rules.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(&socket.raw, RULESET_ROOM);
        // Each of its messages is acknowledged before `send` returns: the usual room holds some 220, the rest gets lost.
        socket.make_room(RULESET_ROOM);
        socket.bind(0)?;
        Ok(socket)
    }

    /// Opens a routing socket that also receives the kernel's notifications of these groups.
    pub(crate) fn listen(groups: &[u32]) -> Result<Self, NetlinkError> {
        let socket = Self::route()?;
        for group in groups {
            socket.raw.add_membership(*group).map_err(failed("join a notification group"))?;
        }
        Ok(socket)
    }

    /// Opens a netfilter socket that receives the kernel's notifications of these groups.
    pub(crate) fn listen_netfilter(groups: &[u32]) -> Result<Self, NetlinkError> {
        let socket = Self::netfilter()?;
        for group in groups {
            socket.raw.add_membership(*group).map_err(failed("join a notification group"))?;
        }
        Ok(socket)
    }

    /// Hands every notification that waits to `each`; returns whether some were lost for want of room.
    pub(crate) fn each_waiting(&mut self, mut each: impl FnMut(&Received<'_>)) -> Result<bool, NetlinkError> {
        let mut lost = false;
        loop {
            self.buffer.clear();
            self.buffer.reserve(DATAGRAM_MAX);
            match self.raw.recv(&mut self.buffer, MSG_DONTWAIT) {
                Ok(_) => messages(&self.buffer).for_each(|message| each(&message)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(lost),
                Err(error) if Errno::from_io_error(&error) == Some(Errno::NOBUFS) => lost = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed("receive")(error)),
            }
        }
    }

    /// Makes room for this many bytes of notifications. Where that is not allowed, the usual room must do.
    pub(crate) fn make_room(&self, bytes: usize) {
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&self.raw, bytes);
    }

    /// The port the kernel knows this socket by; 0 where it does not say.
    pub(crate) fn port(&self) -> u32 {
        let mut address = SocketAddr::new(0, 0);
        self.raw.get_address(&mut address).map_or(0, |()| address.port_number())
    }

    fn open(protocol: isize) -> Result<Self, NetlinkError> {
        let raw = RawSocket::new(protocol).map_err(failed("open"))?;
        // Both options only shape error texts; a kernel that lacks them still answers correctly.
        let _ = raw.set_ext_ack(true);
        let _ = raw.set_cap_ack(true);
        Ok(Self { raw, sequence: 0, buffer: Vec::with_capacity(DATAGRAM_MAX) })
    }

    fn bind(&mut self, groups: u32) -> Result<(), NetlinkError> {
        self.raw.bind(&SocketAddr::new(0, groups)).map_err(failed("bind"))
    }

    /// Sends the messages in one datagram; the kernel works through them in order and does **not** stop at an error.
    /// The answers are in the order of the messages.
    ///
    /// *Why only the last is acknowledged*: refusals are always reported, and in order, so that after the last verdict
    /// everything without one has succeeded. Each acknowledgement saved is a buffer and a system call.
    pub(crate) fn batch(&mut self, batch: Vec<Message>) -> Result<Vec<Answer>, NetlinkError> {
        let count = batch.len();
        if count == 0 {
            // Sending nothing is an error.
            return Ok(Vec::new());
        }
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::with_capacity(batch.iter().map(Message::len).sum());
        for (index, message) in batch.into_iter().enumerate() {
            self.sequence = self.sequence.wrapping_add(1);
            let flags = if index + 1 == count { NLM_F_ACK } else { 0 };
            probe::note(message.kind(), false);
            let message = if probe::refuses() { unknown() } else { message };
            bytes.extend_from_slice(&message.finish(self.sequence, flags));
        }
        self.send(&bytes)?;
        if probe::loses_answers() {
            return Err(failed("receive")(Errno::NOBUFS.into()));
        }
        let mut answers: Vec<Answer> =
            (0..count).map(|_| Answer { replies: Vec::new(), verdict: Ok(()) }).collect();
        let mut ended = false;
        while !ended {
            self.receive(Instant::now() + ANSWER_PATIENCE)?;
            for message in messages(&self.buffer) {
                let index = usize::try_from(message.sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
                let Some(answer) = answers.get_mut(index) else { continue };
                if message.kind == NLMSG_ERROR {
                    answer.verdict = verdict(&message);
                    ended |= index + 1 == count;
                } else {
                    answer.replies.push(Reply { kind: message.kind, payload: message.payload.to_vec() });
                }
            }
        }
        Ok(answers)
    }

    /// Sends one message and waits for its verdict.
    pub(crate) fn request(&mut self, message: Message) -> Result<Vec<Reply>, NetlinkError> {
        let answer = self.batch(vec![message])?.pop().ok_or(NetlinkError::Unreadable("a request"))?;
        answer.verdict.map(|()| answer.replies)
    }

    /// Sends messages whose every failure counts; the first one is returned.
    pub(crate) fn all(&mut self, batch: Vec<Message>) -> Result<(), NetlinkError> {
        self.batch(batch)?.into_iter().try_for_each(|answer| answer.verdict)
    }

    /// Sends a finished transaction (an nftables batch), of which every message that asks for an answer has its flag
    /// `NLM_F_ACK`; returns the first refusal.
    pub(crate) fn transaction(&mut self, batch: Vec<(Message, u16)>) -> Result<(), NetlinkError> {
        let mut refusal = None;
        self.each_verdict(batch, |_, verdict| refusal = refusal.take().or_else(|| verdict.err()))?;
        refusal.map_or(Ok(()), Err)
    }

    /// The same; returns the positions of all messages that were refused.
    pub(crate) fn refusals(&mut self, batch: Vec<(Message, u16)>) -> Result<Vec<usize>, NetlinkError> {
        let mut refused = Vec::new();
        self.each_verdict(batch, |index, verdict| refused.extend(verdict.is_err().then_some(index)))?;
        Ok(refused)
    }

    fn each_verdict(
        &mut self,
        batch: Vec<(Message, u16)>,
        mut each: impl FnMut(usize, Result<(), NetlinkError>),
    ) -> Result<(), NetlinkError> {
        let first = self.sequence.wrapping_add(1);
        let mut awaited = 0;
        let mut bytes = Vec::new();
        for (message, flags) in batch {
            self.sequence = self.sequence.wrapping_add(1);
            let answered = flags & NLM_F_ACK != 0;
            awaited += usize::from(answered);
            let message = if answered && probe::refuses() { unknown() } else { message };
            bytes.extend_from_slice(&message.finish(self.sequence, flags));
        }
        let count = self.sequence.wrapping_sub(first);
        self.send(&bytes)?;
        while awaited > 0 {
            self.receive(Instant::now() + ANSWER_PATIENCE)?;
            for message in messages(&self.buffer) {
                let index = message.sequence.wrapping_sub(first);
                if message.kind == NLMSG_ERROR && index <= count {
                    // A verdict about the frame is one about everything in it.
                    awaited = if index == 0 { 0 } else { awaited.saturating_sub(1) };
                    each(usize::try_from(index).unwrap_or(usize::MAX), verdict(&message));
                }
            }
        }
        Ok(())
    }

    /// Asks for a list of objects, again when changes interrupted it.
    pub(crate) fn dump(&mut self, request: &Message) -> Result<Vec<Reply>, NetlinkError> {
        self.list(request, |kind, payload| Some(Reply { kind, payload: payload.to_vec() }))
    }

    /// The same, each object read as it comes: a link is a kilobyte on the wire and a tenth of that once read.
    pub(crate) fn list<T>(
        &mut self,
        request: &Message,
        read: impl Fn(u16, &[u8]) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        for _ in 0..DUMP_TRIES {
            let mut found = Vec::new();
            if self.dump_once(request.clone(), |m| found.extend(read(m.kind, m.payload)))? {
                return Ok(found);
            }
        }
        Err(NetlinkError::Interrupted)
    }

    /// Asks for a list of objects that may be long, and hands them over one by one. Changes meanwhile may hide some.
    pub(crate) fn each(
        &mut self,
        request: &Message,
        each: impl FnMut(&Received<'_>),
    ) -> Result<(), NetlinkError> {
        self.dump_once(request.clone(), each).map(|_| ())
    }

    /// Returns whether nothing interrupted it.
    fn dump_once(
        &mut self,
        request: Message,
        mut each: impl FnMut(&Received<'_>),
    ) -> Result<bool, NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        probe::note(request.kind(), true);
        self.send(&request.finish(sequence, NLM_F_DUMP))?;
        let mut whole = !probe::interrupts();
        loop {
            self.receive(Instant::now() + ANSWER_PATIENCE)?;
            for message in messages(&self.buffer).filter(|m| m.sequence == sequence) {
                whole &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_DONE => return finished(&message).map(|()| whole),
                    NLMSG_ERROR => return verdict(&message).map(|()| true),
                    _ => each(&message),
                }
            }
        }
    }

    /// Waits for notifications until the deadline; an empty list means that it passed.
    pub(crate) fn notifications(&mut self, deadline: Instant) -> Result<Vec<Reply>, NetlinkError> {
        match self.receive(deadline) {
            Ok(()) => Ok(messages(&self.buffer)
                .map(|m| Reply { kind: m.kind, payload: m.payload.to_vec() })
                .collect()),
            Err(NetlinkError::Socket { source, .. }) if source.kind() == io::ErrorKind::TimedOut => {
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), NetlinkError> {
        self.raw.send(bytes, 0).map_err(failed("send"))?;
        Ok(())
    }

    fn receive(&mut self, deadline: Instant) -> Result<(), NetlinkError> {
        loop {
            self.buffer.clear();
            self.buffer.reserve(DATAGRAM_MAX);
            // The kernel has answered most requests by the time they are sent.
            match self.raw.recv(&mut self.buffer, MSG_DONTWAIT) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(deadline)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed("receive")(error)),
            }
        }
    }

    fn wait(&self, deadline: Instant) -> Result<(), NetlinkError> {
        let fd = self.raw.as_fd();
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&until(deadline))) {
            Ok(0) => Err(failed("wait")(io::ErrorKind::TimedOut.into())),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(failed("wait")(errno.into())),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
    }
}

/// Waits until one of the descriptors has something to say, or the deadline passes; returns how many have.
pub(crate) fn wait_any(fds: &[BorrowedFd<'_>], deadline: Instant) -> Result<usize, NetlinkError> {
    loop {
        let mut polled: Vec<_> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        match poll(&mut polled, Some(&until(deadline))) {
            Ok(ready) => return Ok(ready),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed("wait")(errno.into())),
        }
    }
}

/// A message of a type that no kernel knows, to have it refuse something. With the four bytes that follow every header in
/// netfilter: shorter messages are passed over there.
fn unknown() -> Message {
    Message::new(0xfff, 0).raw(&[0; 4])
}

fn until(deadline: Instant) -> Timespec {
    let left = deadline.saturating_duration_since(Instant::now());
    Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 })
}

fn failed(action: &'static str) -> impl Fn(io::Error) -> NetlinkError {
    move |source| NetlinkError::Socket { action, source }
}

fn verdict(message: &Received<'_>) -> Result<(), NetlinkError> {
    let code = u32_at(message.payload, 0).ok_or(NetlinkError::Unreadable("a verdict"))?;
    let errno = errno(code)?;
    let Some(errno) = errno else { return Ok(()) };
    Err(NetlinkError::Refused { errno, message: words(message) })
}

/// The end of a dump carries an error number too.
fn finished(message: &Received<'_>) -> Result<(), NetlinkError> {
    match errno(u32_at(message.payload, 0).unwrap_or(0))? {
        None => Ok(()),
        Some(errno) => Err(NetlinkError::Refused { errno, message: String::new() }),
    }
}

/// The kernel writes error numbers negated.
fn errno(code: u32) -> Result<Option<Errno>, NetlinkError> {
    if code == 0 {
        return Ok(None);
    }
    let number = i32::try_from(code.wrapping_neg()).map_err(|_| NetlinkError::Unreadable("a verdict"))?;
    Ok(Some(Errno::from_raw_os_error(number)))
}

/// The extended acknowledgement's text. *Source*: linux/netlink.h, `NLM_F_ACK_TLVS`.
fn words(message: &Received<'_>) -> String {
    if message.flags & NLM_F_ACK_TLVS == 0 {
        return String::new();
    }
    let header = 4 + 16;
    let quoted = if message.flags & NLM_F_CAPPED == 0 {
        u32_at(message.payload, 4).and_then(|l| usize::try_from(l).ok()).unwrap_or(16).saturating_sub(16)
    } else {
        0
    };
    let tlvs = message.payload.get(header + quoted.next_multiple_of(4)..).unwrap_or_default();
    let text = attrs(tlvs).find(|a| a.kind == NLMSGERR_ATTR_MSG).and_then(Attr::text);
    text.unwrap_or_default().to_owned()
}
