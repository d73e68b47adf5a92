//! Asking the daemon.

use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use podwire_proto::v1::ipam_client::IpamClient;
use podwire_proto::v1::{ExplainRequest, ExplainResponse, LeaksRequest, LeaksResponse};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::failure::Failure;

/// How long the daemon may take. *Source*: our choice; it answers from memory.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same where it looks at EC2 first. *Source*: our choice, beyond the daemon's own 60 s.
const LOOK_PATIENCE: Duration = Duration::from_secs(65);

/// What is going on, as the daemon says.
///
/// # Errors
/// Nobody listens, or there is no answer in time.
pub fn explain(socket: &Path) -> Result<ExplainResponse, Failure> {
    ask(socket, PATIENCE, async |mut client| client.explain(ExplainRequest {}).await)
}

/// What dead nodes left behind, as the daemon sees it in EC2 now; `delete`: those proven to be are deleted.
///
/// # Errors
/// Nobody listens, or there is no answer in time.
pub fn leaks(socket: &Path, delete: bool) -> Result<LeaksResponse, Failure> {
    ask(socket, LOOK_PATIENCE, async |mut client| client.leaks(LeaksRequest { delete }).await)
}

type Told<T> = Result<tonic::Response<T>, tonic::Status>;

fn ask<T>(
    socket: &Path,
    patience: Duration,
    call: impl AsyncFnOnce(IpamClient<Channel>) -> Told<T>,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = runtime.block_on(async {
        tokio::time::timeout(patience, async {
            let answer = call(connect(socket).await?).await;
            let refused =
                |status: tonic::Status| Failure::Refused(socket.to_owned(), status.message().into());
            answer.map(tonic::Response::into_inner).map_err(refused)
        })
        .await
    });
    asked.unwrap_or_else(|_| Err(Failure::Late(socket.to_owned(), patience.as_secs())))
}

async fn connect(socket: &Path) -> Result<IpamClient<Channel>, Failure> {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://ipamd").connect_with_connector(connector).await;
    Ok(IpamClient::new(channel.map_err(|error| Failure::NoDaemon(socket.to_owned(), error))?))
}
