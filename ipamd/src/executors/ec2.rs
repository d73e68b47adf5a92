//! Carries EC2 calls out, each on a task of its own. How many there are is the pool's decision.

use podwire_ec2::Ec2Client;
use podwire_pool::{Ec2Answer, Ec2Call, Ec2Failure, FailureClass, Input, OpId};
use tokio::runtime::Handle as Runtime;

use crate::driver::{Handle, Message};

/// Makes the calls.
#[derive(Debug)]
pub struct Ec2Executor {
    client: Ec2Client,
    driver: Handle,
    runtime: Runtime,
}

impl Ec2Executor {
    /// Calls through `client`, reports to `driver`.
    #[must_use]
    pub fn new(client: Ec2Client, driver: Handle, runtime: Runtime) -> Self {
        Self { client, driver, runtime }
    }

    /// Starts one call.
    pub fn call(&self, op: OpId, call: Ec2Call) {
        let (client, driver) = (self.client.clone(), self.driver.clone());
        let task = self
            .runtime
            .spawn(async move { client.call(op, &call).await.inspect(|a| log_done(op, &call, a)) });
        self.runtime.spawn(async move {
            // A panic in the SDK must not leave the pool waiting for ever: the outcome is unknown then.
            let outcome = task.await.unwrap_or_else(|error| Err(lost(&error.to_string())));
            if let Err(failure) = &outcome {
                tracing::warn!(%op, code = %failure.code, class = ?failure.class, message = %failure.message, "EC2 call failed");
            }
            if driver.send(Message::Happened(Input::Ec2 { op, outcome })).await.is_err() {
                tracing::info!(%op, "EC2 answered after the driver had stopped");
            }
        });
    }
}

fn lost(reason: &str) -> Ec2Failure {
    Ec2Failure { class: FailureClass::Unknown, code: "lost".into(), message: reason.into() }
}

fn log_done(op: OpId, call: &Ec2Call, answer: &Ec2Answer) {
    tracing::info!(%op, ?call, ?answer, "EC2 call done");
}
