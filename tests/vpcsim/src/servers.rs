//! The thread that serves: one runtime for every server of a lab, gone with all its sockets when dropped.
//!
//! A socket holds the network namespace in which it was made. So listeners are made by a thread inside the namespace
//! ([`crate::ns::Namespaces::enter`]), served here, and closed here when the lab ends.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};

use anyhow::Context as _;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::ns::Namespaces;

/// Two, so that a change of the kernel's state (milliseconds, under the cloud's lock) does not delay every answer.
const WORKERS: usize = 2;

/// A runtime on a thread of its own. It may be dropped anywhere, inside another runtime too.
#[derive(Debug)]
pub struct Servers {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Servers {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread or no descriptor is to be had.
    pub fn start() -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .enable_all()
            .build()
            .context("cannot start a runtime")?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("servers".to_owned()).spawn(move || {
            // The sender is dropped, never used: both ends of the wait mean the same.
            drop(runtime.block_on(stopped));
        })?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Runs a server until the end.
    pub fn spawn(&self, server: impl Future<Output = ()> + Send + 'static) {
        drop(self.handle.spawn(server));
    }
}

/// A listener inside `namespaces`, for any runtime to serve.
///
/// # Errors
/// The address is taken or not there.
pub fn listen(namespaces: &Namespaces, at: SocketAddr) -> anyhow::Result<TcpListener> {
    namespaces.enter(|| TcpListener::bind(at))?.with_context(|| format!("cannot listen on {at}"))
}

/// Makes a listener of the standard library one of the running runtime.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn adopt(listener: TcpListener) -> std::io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

impl Drop for Servers {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::warn!("the server thread panicked");
        }
    }
}
