//! The first look at this instance's ENIs: without it the pool serves what its ledger knows, but does not grow.

use std::time::Duration;

use ipnetwork::IpNetwork;
use podwire_ec2::{Ec2Client, Imds};
use podwire_pool::{Ec2Answer, Ec2Call, ObservedEni, OpId, Snapshot, SnapshotSource};

use crate::driver::{Handle, Message};
use crate::start::FirstLook;

/// Pause between attempts. *Source*: our choice.
const PAUSE: Duration = Duration::from_secs(1);
/// Looks at metadata that lists an ENI and does not tell about it, before EC2 is asked. *Source*: our choice; metadata
/// of a new ENI is complete after seconds.
const LOOKS: u32 = 5;

/// Looks until something was seen, and a few times more while metadata lists what it cannot tell about.
pub async fn first(driver: Handle, imds: Imds, ec2: Ec2Client, look: FirstLook) {
    let mut look = look;
    let mut partial = 0;
    loop {
        if let Some((snapshot, complete)) = observe(&imds, &ec2, look).await {
            tracing::info!(enis = snapshot.enis.len(), source = ?snapshot.source, "start-up: this instance's ENIs are seen");
            if driver.send(Message::Saw(snapshot)).await.is_err() {
                tracing::debug!("stopped before the first observation");
                return;
            }
            partial += 1;
            match look {
                FirstLook::Metadata if !complete && partial >= LOOKS => look = FirstLook::Describe,
                FirstLook::Metadata if !complete => {}
                FirstLook::Metadata | FirstLook::Describe => return,
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What is seen, and whether that is all there is. An ENI that metadata cannot tell about keeps no other from being
/// seen.
async fn observe(imds: &Imds, ec2: &Ec2Client, look: FirstLook) -> Option<(Snapshot, bool)> {
    let hints = match imds.enis().await {
        Ok(hints) => hints,
        Err(error) => {
            let error = error.chain();
            tracing::error!(error, "the instance's ENIs cannot be read yet");
            return None;
        }
    };
    // Nothing asked by this life of the daemon is missing from what is read now.
    let as_of = OpId(u64::MAX);
    match look {
        FirstLook::Metadata => {
            let snapshot = Snapshot { source: SnapshotSource::Metadata, as_of, enis: hints.enis };
            Some((snapshot, hints.unreadable.is_empty()))
        }
        FirstLook::Describe => match ec2.call(OpId(0), &Ec2Call::Describe { also: Vec::new() }).await {
            Ok(Ec2Answer::Described(mut enis)) => {
                enis.iter_mut().for_each(|eni| eni.subnet_cidr = cidr_of(eni, &hints.enis));
                Some((Snapshot { source: SnapshotSource::Describe, as_of, enis }, true))
            }
            Ok(_) => None,
            Err(failure) => {
                tracing::error!(code = %failure.code, message = %failure.message, "the instance's ENIs cannot be described yet");
                None
            }
        },
    }
}

fn cidr_of(eni: &ObservedEni, hints: &[ObservedEni]) -> Option<IpNetwork> {
    hints.iter().find(|hint| hint.subnet == eni.subnet).and_then(|hint| hint.subnet_cidr)
}
