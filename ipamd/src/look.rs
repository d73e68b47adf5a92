//! The first look at this instance's ENIs: without it the pool serves what its ledger knows, but does not grow.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use ipnetwork::IpNetwork;
use podwire_ec2::{Ec2Client, Imds};
use podwire_pool::{Ec2Answer, Ec2Call, ObservedEni, OpId, Snapshot, SnapshotSource};

use crate::driver::{Handle, Message};
use crate::recheck::newest;
use crate::start::FirstLook;

/// Pause between looks at metadata, and the first after EC2 refused. *Source*: our choice.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest pause after EC2 refused. *Source*: our choice; nodes that lost their permissions or EC2 together must not spend
/// their account's reading budget on that.
const LONGEST: Duration = Duration::from_secs(30);
/// Looks at metadata that lists an ENI and does not tell about it, before EC2 is asked. *Source*: our choice; metadata
/// of a new ENI is complete after seconds.
const LOOKS: u32 = 5;

/// What a look brought.
#[derive(Debug)]
enum Seen {
    /// All there is.
    Whole(Snapshot),
    /// Some of it: metadata lists an ENI that it cannot tell about.
    Part(Snapshot),
    /// Metadata does not answer.
    NoMetadata,
    /// EC2 does not answer, or refuses.
    NoEc2,
}

/// Looks until something was seen, and a few times more while metadata lists what it cannot tell about.
pub async fn first(driver: Handle, imds: Imds, ec2: Ec2Client, look: FirstLook) {
    let mut look = look;
    let (mut partial, mut refusals) = (0u32, 0u32);
    loop {
        // Before the look: what is asked for meanwhile is not in it.
        let Some(as_of) = newest(&driver).await else { return };
        let seen = observe(&imds, &ec2, look, as_of).await;
        let whole = matches!(seen, Seen::Whole(_));
        let mut wait = PAUSE;
        match seen {
            Seen::Whole(snapshot) | Seen::Part(snapshot) => {
                tracing::info!(enis = snapshot.enis.len(), source = ?snapshot.source, "start-up: this instance's ENIs are seen");
                if driver.send(Message::Saw(snapshot)).await.is_err() {
                    tracing::debug!("stopped before the first observation");
                    return;
                }
                if whole {
                    return;
                }
                partial = partial.saturating_add(1);
                if partial >= LOOKS {
                    look = FirstLook::Describe;
                }
            }
            Seen::NoMetadata => {}
            Seen::NoEc2 => {
                wait = pause(refusals, RandomState::new().build_hasher().finish());
                refusals = refusals.saturating_add(1);
            }
        }
        tokio::time::sleep(wait).await;
    }
}

/// The pause after so many refusals and one more: doubling, and somewhere in the upper half of that, so that nodes which
/// failed together do not ask together.
fn pause(refusals: u32, random: u64) -> Duration {
    let most = PAUSE.saturating_mul(1 << refusals.min(16)).min(LONGEST);
    let half = most / 2;
    let width = u64::try_from(half.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
    half.saturating_add(Duration::from_millis(random % width))
}

/// What is seen, and whether that is all there is. An ENI that metadata cannot tell about keeps no other from being
/// seen.
async fn observe(imds: &Imds, ec2: &Ec2Client, look: FirstLook, as_of: OpId) -> Seen {
    let hints = match imds.enis().await {
        Ok(hints) => hints,
        Err(error) => {
            let error = error.chain();
            tracing::error!(error, "the instance's ENIs cannot be read yet");
            return Seen::NoMetadata;
        }
    };
    match look {
        FirstLook::Metadata => {
            let snapshot = Snapshot { source: SnapshotSource::Metadata, as_of, enis: hints.enis };
            if hints.unreadable.is_empty() { Seen::Whole(snapshot) } else { Seen::Part(snapshot) }
        }
        FirstLook::Describe => match ec2.call(OpId(0), &Ec2Call::Describe { also: Vec::new() }).await {
            Ok(Ec2Answer::Described(mut enis)) => {
                enis.iter_mut().for_each(|eni| eni.subnet_cidr = cidr_of(eni, &hints.enis));
                Seen::Whole(Snapshot { source: SnapshotSource::Describe, as_of, enis })
            }
            Ok(_) => Seen::NoEc2,
            Err(failure) => {
                tracing::error!(code = %failure.code, message = %failure.message, "the instance's ENIs cannot be described yet");
                Seen::NoEc2
            }
        },
    }
}

fn cidr_of(eni: &ObservedEni, hints: &[ObservedEni]) -> Option<IpNetwork> {
    hints.iter().find(|hint| hint.subnet == eni.subnet).and_then(|hint| hint.subnet_cidr)
}

#[cfg(test)]
mod tests;
