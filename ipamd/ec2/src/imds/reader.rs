//! How one leaf of instance metadata is read: one policy of patience for every caller, one token for the whole daemon.
//!
//! The SDK's client keeps the token; here is what it does not do: a token that is refused is thrown away, a service that
//! asks for patience gets it, and no more than a few requests are open at once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::imds::client::Client;
use aws_config::imds::client::error::ImdsError;
use aws_config::provider_config::ProviderConfig;
use aws_smithy_http_client::Builder as HttpBuilder;
use aws_smithy_types::error::display::DisplayErrorContext;
use tokio::sync::Semaphore;

/// Tries of one leaf. *Source*: our choice; with the pauses and timeouts below a silent service costs about four
/// seconds.
const TRIES: u32 = 4;
/// Pause after the first failure, doubled each time. *Source*: our choice; metadata answers in milliseconds.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Requests open at once. *Source*: our choice; a node of 15 ENIs has 120 leaves, and the service refuses bursts with 429
/// (EC2 user guide, "Use instance metadata", Query throttling).
const AT_ONCE: usize = 8;
/// Time for a connection, and for an answer. *Source*: our choice; the service is one hop away.
const ANSWER: Duration = Duration::from_secs(1);

/// Reads leaves.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    endpoint: Option<String>,
    /// The client with its token, and which one it is.
    client: Mutex<(u64, Client)>,
    gate: Semaphore,
}

impl Reader {
    /// At this endpoint, or at the SDK's.
    pub(super) fn new(endpoint: Option<String>) -> Self {
        let client = Mutex::new((0, client(endpoint.as_deref())));
        Self { shared: Arc::new(Shared { endpoint, client, gate: Semaphore::new(AT_ONCE) }) }
    }

    /// The value of a leaf, or the listing of a directory. `None`: metadata says 404, there is none.
    ///
    /// # Errors
    /// The last failure, after a few tries.
    pub(super) async fn get(&self, path: &str) -> Result<Option<String>, ImdsError> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..TRIES {
            let error = match self.once(path).await {
                Err(error) if worth_another(&error) => error,
                outcome => return outcome,
            };
            tracing::debug!(path, error = %DisplayErrorContext(&error), "instance metadata asked again");
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        self.once(path).await
    }

    async fn once(&self, path: &str) -> Result<Option<String>, ImdsError> {
        // The gate is never closed; without a permit the request is made all the same.
        let _permit = self.shared.gate.acquire().await.ok();
        let (number, client) = self.client();
        match client.get(path).await {
            Ok(text) => Ok(Some(String::from(text))),
            Err(error) => match status(&error) {
                Some(404) => Ok(None),
                Some(401) => {
                    self.renew(number);
                    Err(error)
                }
                _ => Err(error),
            },
        }
    }

    fn client(&self) -> (u64, Client) {
        self.shared.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The token is refused before its time, as happens when a clock jumped or the service forgot it. The SDK would go on
    /// with it until it expires, so its client goes, once for all that were refused together.
    fn renew(&self, refused: u64) {
        let mut current = self.shared.client.lock().unwrap_or_else(PoisonError::into_inner);
        if current.0 == refused {
            *current = (refused + 1, client(self.shared.endpoint.as_deref()));
        }
    }
}

/// The SDK's own repetitions are off: how often is asked is decided here.
fn client(endpoint: Option<&str>) -> Client {
    // Plain HTTP: no trust store has to be read for it.
    let provider = ProviderConfig::default().with_http_client(HttpBuilder::new().build_http());
    let builder = Client::builder()
        .configure(&provider)
        .max_attempts(1)
        .connect_timeout(ANSWER)
        .read_timeout(ANSWER)
        .operation_timeout(ANSWER * 3);
    match endpoint {
        Some(endpoint) => match builder.clone().endpoint(endpoint) {
            Ok(builder) => builder.build(),
            Err(error) => {
                tracing::error!(endpoint, %error, "no URL of a metadata service; the usual one is used");
                builder.build()
            }
        },
        None => builder.build(),
    }
}

fn status(error: &ImdsError) -> Option<u16> {
    if let ImdsError::ErrorResponse(answer) = error {
        Some(answer.response().status().as_u16())
    } else {
        None
    }
}

/// A refusal stays a refusal (403: metadata is switched off); everything else passes.
fn worth_another(error: &ImdsError) -> bool {
    !matches!(status(error), Some(400 | 402 | 403 | 405..=428 | 430..=499))
}
