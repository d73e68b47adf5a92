//! The process's start, in place of Rust's own.
//!
//! *Why*: to have a message for a stack overflow, Rust's start reads /proc/self/maps and sets up a signal stack, a dozen of
//! the hundred system calls of an ADD. What else it does matters here too, and is done: the standard streams are open, and
//! a pipe nobody reads is an error of the write.
#![expect(unsafe_code, reason = "libc is told to ignore a signal")]

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::stdio;
use std::ffi::c_int;
use std::os::fd::IntoRawFd;

/// Success and failure, as a shell sees them. *Source*: stdlib.h.
pub(crate) const SUCCESS: c_int = 0;
/// See [`SUCCESS`].
pub(crate) const FAILURE: c_int = 1;

/// Makes the process fit to run anything, or says that it is not.
pub(crate) fn prepare() -> bool {
    // SAFETY: no handler, and no other thread is there yet.
    let ignored = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) } != libc::SIG_ERR;
    ignored && open_standard_streams()
}

/// A standard stream that is closed becomes /dev/null: whatever is opened next would else be taken for it.
fn open_standard_streams() -> bool {
    let none = PollFlags::empty();
    let mut streams =
        [stdio::stdin(), stdio::stdout(), stdio::stderr()].map(|fd| PollFd::from_borrowed_fd(fd, none));
    // What cannot be asked about is left as it is.
    let _ = poll(&mut streams, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    let closed = streams.iter().filter(|stream| stream.revents().contains(PollFlags::NVAL)).count();
    // The lowest free number is taken, and stays taken.
    (0..closed).all(|_| open("/dev/null", OFlags::RDWR, Mode::empty()).map(IntoRawFd::into_raw_fd).is_ok())
}
