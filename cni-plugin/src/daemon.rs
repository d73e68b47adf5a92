//! How the plugin talks to `ipamd`: one connection, a deadline on every call, one table from failures to error codes.

mod arrival;
mod transport;

use crate::cni::error::{
    CniError, DENIED, NODE_FULL, PROTOCOL, REFUSED, SUBNET_FRAGMENTED, SUBNET_FULL, THROTTLED, TRY_AGAIN,
};
use arrival::Arrival;
use podwire_proto::SOCKET_PATH;
use podwire_proto::v1::{
    AllocateRequest, AllocateResponse, Allocation, CollectRequest, CollectResponse, Failure, InspectRequest,
    InspectResponse, ReleaseRequest, ReleaseResponse, Released, Sandbox, StatusRequest, StatusResponse,
    allocate_response, release_response,
};
use prost::Message;
use std::io;
use std::time::{Duration, Instant};
use tonic::{Code, Status};
use transport::{CallError, Connection};

/// First pause before connecting again. *Source*: our choice; doubled up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// Longest pause before connecting again. *Source*: our choice: what a restart of the daemon costs an ADD on top.
const PAUSE_MAX: Duration = Duration::from_millis(200);
/// The cause of a daemon that ends: its successor will answer. *Source*: `podwire_pool::Cause::name`.
const STOPPING: &str = "stopping";

/// Why the daemon gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Nobody listens.
    #[error("ipamd does not listen on {SOCKET_PATH}")]
    Absent(#[source] io::Error),
    /// It went away during the call, or ended the call itself.
    #[error("ipamd went away during the call")]
    Lost(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It did not answer in time.
    #[error("ipamd did not answer within {0:?}")]
    Late(Duration),
    /// The call failed.
    #[error("ipamd failed: {}", .0.message())]
    Call(Box<Status>),
    /// The answer says something this plugin does not know.
    #[error(
        "ipamd's answer to {method} is {wrong} and cannot be understood; are plugin and daemon of neighbouring versions?"
    )]
    Unknown {
        /// The call.
        method: &'static str,
        /// What is wrong with the answer.
        wrong: &'static str,
    },
    /// It said no.
    #[error("{}", .0.message)]
    Refused(Failure),
}

impl DaemonError {
    /// Whether nobody took notice of the call for certain, or perhaps: the same call must be made again later.
    #[must_use]
    pub fn is_away(&self) -> bool {
        match self {
            Self::Absent(_) | Self::Lost(_) | Self::Late(_) => true,
            Self::Call(status) => matches!(
                status.code(),
                Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Aborted | Code::Unknown
            ),
            Self::Refused(failure) => failure.cause == STOPPING,
            Self::Unknown { .. } => false,
        }
    }

    /// Whether what answers is not this plugin's daemon: the incumbent's, or one of a version that is no neighbour.
    #[must_use]
    pub fn is_anothers(&self) -> bool {
        match self {
            Self::Unknown { .. } => true,
            Self::Call(status) => status.code() == Code::Unimplemented,
            Self::Absent(_) | Self::Lost(_) | Self::Late(_) | Self::Refused(_) => false,
        }
    }

    /// The error for the runtime.
    #[must_use]
    pub fn to_cni(&self, msg: &str) -> CniError {
        let code = match self {
            Self::Absent(_) | Self::Lost(_) | Self::Late(_) => TRY_AGAIN,
            Self::Call(status) if matches!(status.code(), Code::Unimplemented | Code::InvalidArgument) => {
                PROTOCOL
            }
            Self::Call(_) => TRY_AGAIN,
            Self::Unknown { .. } => PROTOCOL,
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
            | Self::Lost(_)
            | Self::Late(_)
            | Self::Call(_)
            | Self::Unknown { .. } => String::new(),
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

/// A connection to the daemon.
#[derive(Debug)]
pub struct Daemon {
    connection: Connection,
}

impl Daemon {
    /// Connects; keeps trying for `patience`, since the daemon may be just being restarted.
    ///
    /// # Errors
    /// Nobody listens for that long.
    pub fn connect(patience: Duration) -> Result<Self, DaemonError> {
        let until = Instant::now() + patience;
        let mut pause = PAUSE_MIN;
        let mut arrival = None;
        loop {
            match Connection::open(SOCKET_PATH) {
                Ok(connection) => return Ok(Self { connection }),
                Err(error) if Instant::now() + pause >= until => return Err(DaemonError::Absent(error)),
                Err(_) => {}
            }
            match &arrival {
                // Once more without a pause: it may have arrived just before the watch began.
                None => arrival = Some(Arrival::of(SOCKET_PATH)),
                Some(arrival) => {
                    arrival.wait(pause);
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Asks for the sandbox's address.
    ///
    /// # Errors
    /// No answer in time, or a refusal.
    pub fn allocate(
        &mut self,
        request: &AllocateRequest,
        patience: Duration,
    ) -> Result<Allocation, DaemonError> {
        let response: AllocateResponse = self.call("Allocate", request, patience)?;
        match response.outcome {
            Some(allocate_response::Outcome::Allocation(allocation)) => Ok(allocation),
            Some(allocate_response::Outcome::Failure(failure)) => Err(DaemonError::Refused(failure)),
            None => Err(DaemonError::Unknown { method: "Allocate", wrong: "empty" }),
        }
    }

    /// Has the sandbox's link deleted and its address given back; returns both.
    ///
    /// # Errors
    /// No answer in time, or a refusal.
    pub fn release(&mut self, request: &ReleaseRequest, patience: Duration) -> Result<Released, DaemonError> {
        let response: ReleaseResponse = self.call("Release", request, patience)?;
        match response.outcome {
            Some(release_response::Outcome::Released(released)) => Ok(released),
            Some(release_response::Outcome::Failure(failure)) => Err(DaemonError::Refused(failure)),
            None => Err(DaemonError::Unknown { method: "Release", wrong: "empty" }),
        }
    }

    /// Asks what the ledger holds for a sandbox, and whether EC2 agrees.
    ///
    /// # Errors
    /// No answer in time.
    pub fn inspect(&mut self, sandbox: Sandbox, patience: Duration) -> Result<InspectResponse, DaemonError> {
        self.call("Inspect", &InspectRequest { sandbox: Some(sandbox) }, patience)
    }

    /// Has every attachment released that is not in the request's list, or only asks which would be; returns which.
    ///
    /// # Errors
    /// No answer in time, or a refusal.
    pub fn collect(
        &mut self,
        request: &CollectRequest,
        patience: Duration,
    ) -> Result<CollectResponse, DaemonError> {
        let mut response: CollectResponse = self.call("Collect", request, patience)?;
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
        self.call("Status", &StatusRequest {}, patience)
    }

    fn call<T: Message + Default>(
        &mut self,
        method: &'static str,
        request: &impl Message,
        patience: Duration,
    ) -> Result<T, DaemonError> {
        self.connection.call(method, request, Instant::now() + patience).map_err(|error| match error {
            CallError::Late => DaemonError::Late(patience),
            CallError::Status(status) => DaemonError::Call(status),
            CallError::Broken(wrong) => DaemonError::Unknown { method, wrong },
            gone @ (CallError::Lost(_) | CallError::Closed) => DaemonError::Lost(gone.into()),
        })
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
        assert!(DaemonError::Lost(CallError::Closed.into()).is_away());
        assert!(!DaemonError::Call(Box::new(Status::invalid_argument("no"))).is_away());
        let refused =
            |cause: &str| DaemonError::Refused(Failure { cause: cause.into(), ..Failure::default() });
        assert!(refused("stopping").is_away() && !refused("node-full").is_away());
        assert_eq!(DaemonError::Call(Box::new(Status::unimplemented("no"))).to_cni("x").code, PROTOCOL);
    }
}
