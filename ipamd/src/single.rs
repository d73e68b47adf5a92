//! One writer for each node (design §4): a lock beside the socket, and no daemon behind the socket.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// Pause between looks. *Source*: our choice.
const PAUSE: Duration = Duration::from_millis(500);
/// Every how many looks the wait is told again. *Source*: our choice; 30 s.
const TELL_EVERY: u32 = 60;

/// Held as long as this daemon lives.
#[derive(Debug)]
pub struct Only {
    _lock: File,
}

/// Waits until no other daemon serves this node, saying so while it waits.
///
/// # Errors
/// The lock file cannot be made.
pub async fn wait(socket: &Path) -> anyhow::Result<Only> {
    let path = socket.with_extension("lock");
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let lock = File::options().create(true).append(true).open(&path);
    let lock = lock.with_context(|| format!("cannot open {}", path.display()))?;
    let mut looks = 0u32;
    while let Some(holder) = holder(&lock, socket) {
        if looks.is_multiple_of(TELL_EVERY) {
            tracing::warn!(socket = %socket.display(), holder, "another ipamd serves this node; waiting for it to end");
        }
        looks = looks.saturating_add(1);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(Only { _lock: lock })
}

fn holder(lock: &File, socket: &Path) -> Option<&'static str> {
    if flock(lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Some("podwire");
    }
    // Somebody who does not know our lock, for example the incumbent, still answers there.
    answers(socket).then_some("another program")
}

/// Whether a program listens there. Never waits: one whose queue is full listens, too.
#[must_use]
pub fn answers(socket: &Path) -> bool {
    let connected = SocketAddrUnix::new(socket).and_then(|address| {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        connect(&socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?, &address)
    });
    matches!(connected, Ok(()) | Err(Errno::AGAIN))
}
