//! What the SDK reports → what the pool is told. A request that may have reached EC2 and got no answer is `Unknown`.

use std::error::Error;
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ec2::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use podwire_pool::{Ec2Failure, FailureClass};

use crate::classify::{Call, meaning_at};
use crate::explain::{explain, readable};

/// A clock that is off by less than this cannot be why a signature is refused. *Source*: aws-runtime 1.10.2, its
/// threshold for clock-skew errors; EC2 itself refuses from 5 minutes on.
const SKEW_MATTERS: Duration = Duration::from_secs(4 * 60);

/// A failed request.
#[derive(Debug)]
pub(crate) struct Failed {
    /// For the pool.
    pub(crate) failure: Ec2Failure,
    /// EC2 refused the signature, and its clock and ours differ: nothing was done, and the SDK signs by EC2's clock from
    /// the next request on.
    pub(crate) skewed: bool,
}

impl From<Failed> for Ec2Failure {
    fn from(failed: Failed) -> Self {
        failed.failure
    }
}

impl Failed {
    fn new(class: FailureClass, code: &str, message: &str) -> Self {
        let failure = Ec2Failure { class, code: code.into(), message: message.into() };
        Self { failure, skewed: false }
    }

    /// The request cannot be made, or its answer makes no sense although nothing was changed.
    pub(crate) fn invalid(code: &str, message: &str) -> Self {
        Self::new(FailureClass::Invalid, code, message)
    }

    /// It may have been done.
    pub(crate) fn unknown(code: &str, message: &str) -> Self {
        Self::new(FailureClass::Unknown, code, message)
    }

    /// Classifies and explains what the SDK reports.
    pub(crate) fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        Self::at(None, error)
    }

    /// The same for a call whose codes mean something of their own.
    pub(crate) fn at<E>(call: Option<Call>, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        if let Some(credentials) = cause::<CredentialsError>(error) {
            return Self::without_credentials(credentials);
        }
        match error {
            SdkError::ServiceError(service) => {
                let meta = service.err().meta();
                let code = meta.code().unwrap_or("no-code");
                let meaning = meaning_at(call, code, Some(service.raw().status().as_u16()));
                let message = explain(code, meta.message().unwrap_or_default(), meaning);
                let skewed = meaning.signature && skew(service.raw()).is_some_and(|skew| skew > SKEW_MATTERS);
                Self { skewed, ..Self::new(meaning.class, code, &message) }
            }
            SdkError::ConstructionFailure(_) => {
                Self::invalid("not-sent", &format!("no request could be made: {}", chain(error)))
            }
            SdkError::TimeoutError(_) => Self::silent(),
            SdkError::DispatchFailure(_) if not_connected(error) => Self::new(
                FailureClass::Busy,
                "no-connection",
                &format!("EC2 cannot be reached ({}); nothing was sent; {REACH}", chain(error)),
            ),
            SdkError::DispatchFailure(dispatch) if dispatch.is_timeout() => Self::silent(),
            SdkError::DispatchFailure(_) => {
                Self::unknown("connection", &format!("EC2 cannot be reached ({}); {REACH}", chain(error)))
            }
            SdkError::ResponseError(response) => {
                let status = response.raw().status().as_u16();
                let message = format!("HTTP status {status} with an answer that is not EC2's; {REACH}");
                Self::unknown("unreadable-answer", &message)
            }
            _ => Self::unknown("sdk", &chain(error)),
        }
    }

    fn silent() -> Self {
        Self::unknown("timeout", &format!("EC2 did not answer in time; {REACH}"))
    }

    /// Nothing was sent. Credentials appear seconds after the first boot and come back by themselves after trouble of
    /// metadata or STS, so this is no denial, which would be waited out for minutes.
    fn without_credentials(error: &CredentialsError) -> Self {
        let message = format!(
            "no credentials ({}); check the instance profile, or role and token of the pod's service account",
            readable(&DisplayErrorContext(error).to_string())
        );
        Self::new(FailureClass::Busy, "no-credentials", &message)
    }
}

/// What to do when nothing of EC2's comes back.
const REACH: &str = "check route, security groups and VPC endpoint for EC2, and AWS_ENDPOINT_URL_EC2";

/// The first error of this type in the chain.
fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Whether there never was a connection to send the request on: no address for the name, refused, no answer to the first
/// packet, TLS not agreed on. A request that a kept connection lost unsent is sent on a new one, and fails so as well.
/// *Source*: hyper-util 0.1.21, `client::legacy`: errors of `connection_for`, which comes before `try_send_request`.
fn not_connected(error: &(dyn Error + 'static)) -> bool {
    cause::<hyper_util::client::legacy::Error>(error).is_some_and(|error| error.is_connect())
}

fn chain<E: Error + 'static>(error: &SdkError<E, HttpResponse>) -> String {
    readable(&DisplayErrorContext(error).to_string())
}

/// How far EC2's clock and ours are apart.
fn skew(answer: &HttpResponse) -> Option<Duration> {
    let theirs = DateTime::from_str(answer.headers().get("date")?, Format::HttpDate).ok()?;
    let (theirs, ours) = (SystemTime::try_from(theirs).ok()?, SystemTime::now());
    theirs.duration_since(ours).or_else(|_| ours.duration_since(theirs)).ok()
}
