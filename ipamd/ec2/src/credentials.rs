//! Credentials that do not come in time. What gives them may hang, or be tried for longer than a request may take; then
//! nothing was sent, and that must not look like a request without an answer.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future::ProvideCredentials as Providing;
use aws_credential_types::provider::{ProvideCredentials, Result, SharedCredentialsProvider};

/// A source of credentials whose patience ends, in an error of the kind that all its other failures have. *Why* not the
/// SDK's own timeout around it: that error has no public type, and its text is no code.
#[derive(Debug)]
pub(crate) struct InTime {
    source: SharedCredentialsProvider,
    patience: Duration,
}

impl InTime {
    /// Asks `source`, and waits no longer than `patience`.
    pub(crate) fn new(source: SharedCredentialsProvider, patience: Duration) -> Self {
        Self { source, patience }
    }

    async fn credentials(&self) -> Result {
        match tokio::time::timeout(self.patience, self.source.provide_credentials()).await {
            Ok(outcome) => outcome,
            Err(_) => self
                .source
                .fallback_on_interrupt()
                .ok_or_else(|| CredentialsError::provider_timed_out(self.patience)),
        }
    }
}

impl ProvideCredentials for InTime {
    fn provide_credentials<'a>(&'a self) -> Providing<'a>
    where
        Self: 'a,
    {
        Providing::new(self.credentials())
    }

    fn fallback_on_interrupt(&self) -> Option<Credentials> {
        self.source.fallback_on_interrupt()
    }
}
