//! Listens on the Unix socket and lets only root in.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;
use podwire_proto::v1::ipam_server::IpamServer;
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use crate::rpc::server::IpamService;

/// Binds the socket. A stale file of an earlier life is removed; that no other daemon lives behind it was made sure by
/// [`crate::single`].
///
/// # Errors
/// The directory or the socket cannot be made.
pub fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    let dir = path.parent().context("the socket has no directory")?;
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
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
    Ok(listener)
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
    let callers = UnixListenerStream::new(listener).filter_map(|caller| match caller {
        Ok(stream) if is_root(&stream) => Some(Ok::<_, std::io::Error>(stream)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    });
    let router = Server::builder().add_service(IpamServer::new(service)).add_service(health);
    router.serve_with_incoming_shutdown(callers, stop).await
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
