//! Network namespaces: open one, look into it, come back.

use crate::error::HostError;
use rustix::fs::{Mode, OFlags, fstat, open};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The calling thread's own namespace. *Why thread-self*: another thread may have moved elsewhere.
const OWN: &str = "/proc/thread-self/ns/net";

/// An open network namespace.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
    path: String,
}

impl Netns {
    /// Opens the namespace a path leads to.
    ///
    /// # Errors
    /// Nothing is there, or something that is not a network namespace when it is entered.
    pub fn open(path: &str) -> Result<Self, HostError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path: path.to_owned() }),
            Err(errno) => Err(unusable(path, "it cannot be opened", Some(errno))),
        }
    }

    /// Opens the calling thread's own namespace.
    ///
    /// # Errors
    /// /proc is not mounted.
    pub fn own() -> Result<Self, HostError> {
        Self::open(OWN)
    }

    /// Whether both are the same namespace.
    ///
    /// # Errors
    /// The kernel cannot say.
    pub fn is_same(&self, other: &Self) -> Result<bool, HostError> {
        let identity = |ns: &Self| match fstat(&ns.fd) {
            Ok(stat) => Ok((stat.st_dev, stat.st_ino)),
            Err(errno) => Err(unusable(&ns.path, "it cannot be identified", Some(errno))),
        };
        Ok(identity(self)? == identity(other)?)
    }

    /// The path it was opened by.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Does something inside the namespace on the calling thread, then returns to where the thread was.
    ///
    /// # Errors
    /// The namespace cannot be entered; or, worse, not left, in which case the thread must do nothing more with the
    /// network.
    pub fn within<T>(&self, work: impl FnOnce() -> T) -> Result<T, HostError> {
        let home = Self::own()?;
        self.enter()?;
        let done = work();
        home.enter()?;
        Ok(done)
    }

    fn enter(&self) -> Result<(), HostError> {
        move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|errno| unusable(&self.path, "it cannot be entered as a network namespace", Some(errno)))
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn unusable(path: &str, reason: &'static str, errno: Option<rustix::io::Errno>) -> HostError {
    HostError::Netns { path: path.to_owned(), reason, source: errno.map(Into::into) }
}
