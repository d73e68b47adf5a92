//! Listens on the Unix socket and lets only root in.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use podwire_proto::v1::ipam_server::IpamServer;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::Instant;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Server;

use crate::rpc::server::IpamService;
use crate::single;

/// Pause after a caller could not be let in. *Source*: our choice; descriptors come back as calls end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often that is told while it lasts. *Source*: our choice.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// How often the socket's file is looked at. *Source*: our choice; one stat(2).
const LOOK: Duration = Duration::from_secs(1);

/// The socket's file as this daemon made it. Others may remove it, or put theirs in its place: the incumbent does so when
/// it starts.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

/// What became of the socket's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// It is gone.
    Removed,
    /// Another one is in its place.
    Replaced,
}

impl SocketFile {
    fn of(path: &Path) -> anyhow::Result<Self> {
        let id = id(path).with_context(|| format!("cannot find {}, just made", path.display()))?;
        Ok(Self { path: path.to_owned(), id })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until it is lost.
    pub async fn lost(&self) -> Lost {
        loop {
            match id(&self.path) {
                Ok(id) if id == self.id => {}
                Ok(_) => return Lost::Replaced,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Lost::Removed,
                Err(error) => tracing::debug!(%error, "the socket's file cannot be looked at"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Removes it. What another daemon put in its place stays.
    ///
    /// # Errors
    /// It is not there any more, or cannot be removed.
    pub fn remove(&self) -> std::io::Result<()> {
        if id(&self.path)? == self.id { std::fs::remove_file(&self.path) } else { Ok(()) }
    }
}

fn id(path: &Path) -> std::io::Result<(u64, u64)> {
    let found = std::fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// Binds the socket. A stale file of an earlier life is removed.
///
/// # Errors
/// The directory or the socket cannot be made, or another program answers there: it came after [`crate::single`] looked.
pub fn bind(path: &Path) -> anyhow::Result<(UnixListener, SocketFile)> {
    let dir = path.parent().context("the socket has no directory")?;
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    if single::answers(path) {
        bail!("another program has begun to serve at {}", path.display());
    }
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error).with_context(|| format!("cannot remove the stale socket {}", path.display()));
        }
    }
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    // 0660 as the incumbent (incumbent-behaviour §0); peers are checked besides.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok((listener, SocketFile::of(path)?))
}

/// Serves until `stop` resolves.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    listener: UnixListener,
    service: IpamService,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<IpamServer<IpamService>>().await;
    // The name the incumbent's probes ask for (incumbent-behaviour §3).
    reporter.set_service_status("grpc.health.v1.aws-node", tonic_health::ServingStatus::Serving).await;
    let callers = calm(UnixListenerStream::new(listener)).filter(is_root).map(Ok::<_, std::io::Error>);
    let router = Server::builder().add_service(IpamServer::new(service)).add_service(health);
    router.serve_with_incoming_shutdown(callers, stop).await
}

/// Those who came. When nobody can be let in, for want of file descriptors say, it is told, and tried again only after a
/// pause: whoever knocks stays at the door, so that without one the next try would come at once, and fail as well.
fn calm<T>(comers: impl Stream<Item = std::io::Result<T>>) -> impl Stream<Item = T> {
    let mut told: Option<Instant> = None;
    comers
        .then(move |comer| {
            let pause = comer.as_ref().err().map(|error| {
                if told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
                    told = Some(Instant::now());
                    tracing::error!(%error, "callers cannot be let in; tried again");
                }
                ACCEPT_PAUSE
            });
            async move {
                if let Some(pause) = pause {
                    tokio::time::sleep(pause).await;
                }
                comer
            }
        })
        .filter_map(Result::ok)
}

/// Credentials prove the user id, no more: the pid is 0 across pid namespaces.
fn is_root(stream: &UnixStream) -> bool {
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == 0 => true,
        Ok(peer) => {
            tracing::warn!(uid = peer.uid(), "a caller that is not root was turned away");
            false
        }
        Err(error) => {
            tracing::warn!(%error, "a caller without credentials was turned away");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// While descriptors are used up each try fails at once: there are ten of them a second, and nobody who comes later is
    /// lost.
    #[tokio::test(start_paused = true)]
    async fn failing_accept_is_tried_again_after_a_pause() {
        let emfile = || std::io::Error::from_raw_os_error(24);
        let failures = (0..50).map(|_| Err(emfile()));
        let mut callers = std::pin::pin!(calm(tokio_stream::iter(failures.chain([Ok(1), Ok(2)]))));
        let began = Instant::now();
        assert_eq!(callers.next().await, Some(1));
        assert_eq!(began.elapsed().as_secs(), 5);
        assert_eq!((callers.next().await, callers.next().await), (Some(2), None));
        assert_eq!(began.elapsed().as_secs(), 5, "nobody waits who is let in");
    }
}
