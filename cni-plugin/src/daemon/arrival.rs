//! Notices at once when `ipamd` begins to listen: an ADD that waited loses no time, and ADDs that waited together come
//! together, so that one EC2 call can serve them all. Never used while the daemon is there.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

/// A watch on the directory of the daemon's socket. Without one, because there is no such directory yet or the kernel
/// has no more watches, time alone decides.
#[derive(Debug)]
pub(super) struct Arrival {
    events: Option<OwnedFd>,
}

impl Arrival {
    /// Begins to watch.
    pub(super) fn of(socket: &str) -> Self {
        Self { events: watch(socket) }
    }

    /// Returns when something happened beside the socket, at the latest after `pause`. Holds the thread: the plugin has
    /// nothing else to do.
    pub(super) fn wait(&self, pause: Duration) {
        let Some(events) = &self.events else { return std::thread::sleep(pause) };
        let patience = Timespec::try_from(pause).ok();
        // Only that something happened counts, and a wait cut short is as good; whether the daemon listens, the next
        // attempt tells.
        match poll(&mut [PollFd::new(events, PollFlags::IN)], patience.as_ref()) {
            Ok(0) | Err(_) => {}
            Ok(_) => while rustix::io::read(events, &mut [0; 1024]).is_ok_and(|read| read > 0) {},
        }
    }
}

/// The socket appears by `bind`, and its mode is set once it listens: both are told.
fn watch(socket: &str) -> Option<OwnedFd> {
    let directory = Path::new(socket).parent()?;
    let made = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).and_then(|events| {
        inotify::add_watch(&events, directory, WatchFlags::CREATE | WatchFlags::ATTRIB)?;
        Ok::<_, Errno>(events)
    });
    made.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn socket_that_appears_ends_the_wait() {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("ipamd.sock");
        let arrival = Arrival::of(socket.to_str().expect("a path"));
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        let began = Instant::now();
        arrival.wait(LONG);
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o660)).expect("chmod");
        arrival.wait(LONG);
        assert!(began.elapsed() < LONG / 2, "an event was missed");
        let began = Instant::now();
        arrival.wait(Duration::from_millis(20));
        assert!(began.elapsed() >= Duration::from_millis(20), "nothing happened, and it did not wait");
    }

    #[test]
    fn without_a_directory_time_decides() {
        let arrival = Arrival::of("/nonexistent/ipamd.sock");
        assert!(arrival.events.is_none());
        let began = Instant::now();
        arrival.wait(Duration::from_millis(10));
        assert!(began.elapsed() >= Duration::from_millis(10));
    }
}
