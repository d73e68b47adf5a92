//! How the plugin talks to `ipamd`: one connection, a deadline on every call, one table from failures to error codes.

use crate::cni::error::{
    CniError, DENIED, NODE_FULL, PROTOCOL, REFUSED, SUBNET_FRAGMENTED, SUBNET_FULL, THROTTLED, TRY_AGAIN,
};
use hyper_util::rt::TokioIo;
use podwire_proto::SOCKET_PATH;
use podwire_proto::v1::ipam_client::IpamClient;
use podwire_proto::v1::{
    AllocateRequest, Allocation, CollectRequest, CollectResponse, Failure, InspectRequest, InspectResponse,
    ReleaseRequest, Sandbox, StatusRequest, StatusResponse, allocate_response, release_response,
};
use std::future::Future;
use std::io;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};
use tower::service_fn;

/// First pause before connecting again. *Source*: our choice; doubled up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// Longest pause before connecting again. *Source*: our choice: what a restart of the daemon costs an ADD on top.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// Why the daemon gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Nobody listens.
    #[error("ipamd does not listen on {SOCKET_PATH}")]
    Absent(#[source] tonic::transport::Error),
    /// It did not answer in time.
    #[error("ipamd did not answer within {0:?}")]
    Late(Duration),
    /// The call failed.
    #[error("ipamd failed: {}", .0.message())]
    Call(Box<Status>),
    /// The answer is empty, or says something this plugin does not know.
    #[error("ipamd's answer to {0} cannot be understood; are plugin and daemon of neighbouring versions?")]
    Unknown(&'static str),
    /// It said no.
    #[error("{}", .0.message)]
    Refused(Failure),
    /// The plugin has no runtime to wait with.
    #[error("cannot wait for ipamd")]
    Runtime(#[source] io::Error),
}

impl DaemonError {
    /// Whether nobody took notice of the call for certain, or perhaps: the same call must be made again later.
    #[must_use]
    pub fn is_away(&self) -> bool {
        match self {
            Self::Absent(_) | Self::Late(_) | Self::Runtime(_) => true,
            Self::Call(status) => matches!(
                status.code(),
                Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Aborted | Code::Unknown
            ),
            Self::Unknown(_) | Self::Refused(_) => false,
        }
    }

    /// The error for the runtime.
    #[must_use]
    pub fn to_cni(&self, msg: &str) -> CniError {
        let code = match self {
            Self::Absent(_) | Self::Late(_) | Self::Runtime(_) => TRY_AGAIN,
            Self::Call(status) if matches!(status.code(), Code::Unimplemented | Code::InvalidArgument) => {
                PROTOCOL
            }
            Self::Call(_) => TRY_AGAIN,
            Self::Unknown(_) => PROTOCOL,
            Self::Refused(failure) if failure.retry => TRY_AGAIN,
            Self::Refused(failure) => code_of(&failure.cause),
        };
        CniError::new(code, msg).details(format!("{}{}", self.cause(), podwire_hostnet::chain(self)))
    }

    fn cause(&self) -> String {
        match self {
            Self::Refused(failure) if !failure.cause.is_empty() => format!("{}: ", failure.cause),
            Self::Refused(_)
            | Self::Absent(_)
            | Self::Late(_)
            | Self::Call(_)
            | Self::Unknown(_)
            | Self::Runtime(_) => String::new(),
        }
    }
}

/// *Source*: cni-conformance §8; the names are `podwire_pool::Cause::name`.
fn code_of(cause: &str) -> u32 {
    match cause {
        "subnet-exhausted" => SUBNET_FULL,
        "subnet-fragmented" => SUBNET_FRAGMENTED,
        "node-full" => NODE_FULL,
        "ec2-throttled" => THROTTLED,
        "ec2-denied" => DENIED,
        _ => REFUSED,
    }
}

/// A connection to the daemon and the runtime it lives in.
#[derive(Debug)]
pub struct Daemon {
    runtime: Runtime,
    client: IpamClient<Channel>,
}

impl Daemon {
    /// Connects; keeps trying for `patience`, since the daemon may be just being restarted.
    ///
    /// # Errors
    /// Nobody listens for that long.
    pub fn connect(patience: Duration) -> Result<Self, DaemonError> {
        let runtime =
            Builder::new_current_thread().enable_io().enable_time().build().map_err(DaemonError::Runtime)?;
        let channel = runtime.block_on(connected(patience))?;
        Ok(Self { runtime, client: IpamClient::new(channel) })
    }

    /// Asks for the sandbox's address.
    ///
    /// # Errors
    /// No answer in time, or a refusal.
    pub fn allocate(
        &mut self,
        request: AllocateRequest,
        patience: Duration,
    ) -> Result<Allocation, DaemonError> {
        let client = &mut self.client;
        let response = answer(&self.runtime, patience, client.allocate(request))?;
        match response.outcome {
            Some(allocate_response::Outcome::Allocation(allocation)) => Ok(allocation),
            Some(allocate_response::Outcome::Failure(failure)) => Err(DaemonError::Refused(failure)),
            None => Err(DaemonError::Unknown("Allocate")),
        }
    }

    /// Gives the sandbox's address back; returns what was given back.
    ///
    /// # Errors
    /// No answer in time, or a refusal.
    pub fn release(
        &mut self,
        request: ReleaseRequest,
        patience: Duration,
    ) -> Result<Vec<String>, DaemonError> {
        let client = &mut self.client;
        let response = answer(&self.runtime, patience, client.release(request))?;
        match response.outcome {
            Some(release_response::Outcome::Released(released)) => Ok(released.addresses),
            Some(release_response::Outcome::Failure(failure)) => Err(DaemonError::Refused(failure)),
            None => Err(DaemonError::Unknown("Release")),
        }
    }

    /// Asks what the ledger holds for a sandbox, and whether EC2 agrees.
    ///
    /// # Errors
    /// No answer in time.
    pub fn inspect(&mut self, sandbox: Sandbox, patience: Duration) -> Result<InspectResponse, DaemonError> {
        let client = &mut self.client;
        let request = InspectRequest { sandbox: Some(sandbox) };
        answer(&self.runtime, patience, client.inspect(request))
    }

    /// Has every attachment released that is not in the request's list, or only asks which would be; returns which.
    ///
    /// # Errors
    /// No answer in time, or a refusal.
    pub fn collect(
        &mut self,
        request: CollectRequest,
        patience: Duration,
    ) -> Result<CollectResponse, DaemonError> {
        let client = &mut self.client;
        let mut response = answer(&self.runtime, patience, client.collect(request))?;
        match response.failure.take() {
            Some(failure) => Err(DaemonError::Refused(failure)),
            None => Ok(response),
        }
    }

    /// Asks whether an ADD can be served.
    ///
    /// # Errors
    /// No answer in time.
    pub fn status(&mut self, patience: Duration) -> Result<StatusResponse, DaemonError> {
        let client = &mut self.client;
        answer(&self.runtime, patience, client.status(StatusRequest {}))
    }
}

fn answer<T>(
    runtime: &Runtime,
    patience: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, DaemonError> {
    // The timer belongs to the runtime, so it is made inside.
    let outcome = runtime.block_on(async { tokio::time::timeout(patience, call).await });
    match outcome {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(DaemonError::Call(Box::new(status))),
        Err(_) => Err(DaemonError::Late(patience)),
    }
}

async fn connected(patience: Duration) -> Result<Channel, DaemonError> {
    let until = Instant::now() + patience;
    let mut pause = PAUSE_MIN;
    loop {
        // The address is never resolved: the connector goes to the socket whatever it says.
        let endpoint = Endpoint::from_static("http://ipamd");
        let connector = service_fn(|_| async { UnixStream::connect(SOCKET_PATH).await.map(TokioIo::new) });
        let left = until.saturating_duration_since(Instant::now());
        // Even without patience one attempt is made; a listening daemon accepts at once.
        let attempt =
            tokio::time::timeout(left.max(PAUSE_MAX), endpoint.connect_with_connector(connector)).await;
        match attempt {
            Ok(Ok(channel)) => return Ok(channel),
            Ok(Err(error)) if Instant::now() + pause >= until => return Err(DaemonError::Absent(error)),
            Err(_) if Instant::now() >= until => return Err(DaemonError::Late(patience)),
            Ok(Err(_)) | Err(_) => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// The error for a daemon that is away, where a verb has nothing better to say.
#[must_use]
pub fn away(error: &DaemonError) -> CniError {
    error
        .to_cni("cannot reach ipamd")
        .details(format!("{}; is the aws-node pod running on this node?", podwire_hostnet::chain(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(cause: &str, retry: bool) -> CniError {
        let failure = Failure { cause: cause.into(), message: "why, and what to do".into(), retry };
        DaemonError::Refused(failure).to_cni("no address")
    }

    ///
    #[test]
    fn refusal_worth_a_retry_is_code_11() {
        assert_eq!(refused("subnet-exhausted", true).code, TRY_AGAIN);
        assert_eq!(refused("subnet-exhausted", false).code, SUBNET_FULL);
        assert_eq!(refused("sandbox-deleted", false).code, REFUSED);
        assert_eq!(refused("new-cause-of-a-newer-daemon", false).code, REFUSED);
        assert_eq!(refused("node-full", true).details, "node-full: why, and what to do");
    }

    #[test]
    fn a_daemon_that_failed_midway_is_away() {
        assert!(DaemonError::Call(Box::new(Status::unavailable("gone"))).is_away());
        assert!(DaemonError::Late(Duration::ZERO).is_away());
        assert!(!DaemonError::Call(Box::new(Status::invalid_argument("no"))).is_away());
        assert_eq!(DaemonError::Call(Box::new(Status::unimplemented("no"))).to_cni("x").code, PROTOCOL);
    }
}
