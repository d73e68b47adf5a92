//! The operator's settings and the instance's limits → the pool's settings.

use std::time::Duration;

use podwire_config::limits::FALLBACK_MAX_PODS;
use podwire_config::settings::warm::Warm;
use podwire_config::{Limits, Settings, lint};
use podwire_ec2::{Ec2Client, Identity};
use podwire_pool::BootId;
use podwire_pool::settings::{
    GATHER, LeakPolicy, Limits as PoolLimits, Mode, Settings as PoolSettings, Share, SubnetPolicy,
    Warm as PoolWarm,
};

/// Assumed of a type that neither our table nor EC2 tells about. *Source*: our choice; what a `.large` of the current
/// general-purpose families has (instance limits table).
const CAUTIOUS: PoolLimits = PoolLimits { enis: 3, ipv4_per_eni: 10 };
/// How often EC2 is asked about such a type before the node starts without. *Source*: our choice.
const ASK_LIMITS: u32 = 3;
/// Pause in between. *Source*: our choice.
const ASK_PAUSE: Duration = Duration::from_secs(2);

/// What an instance type allows, as far as the pool must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Allowed {
    limits: PoolLimits,
    prefixes: bool,
    max_pods: u32,
}

/// Settings for the pool. Asks EC2 about the instance type only when our table does not know it.
pub async fn pool_settings(
    settings: &Settings,
    identity: &Identity,
    boot: BootId,
    ec2: &Ec2Client,
) -> PoolSettings {
    let allowed = match Limits::of(&identity.instance_type) {
        Some(known) => of_known(&known, settings),
        None => of_unknown(settings, &identity.instance_type, ec2).await,
    };
    PoolSettings {
        seed: seed(identity.instance.as_str()),
        instance: identity.instance.clone(),
        boot,
        mode: if allowed.prefixes { Mode::Prefix } else { Mode::SecondaryIp },
        warm: warm(settings.warm),
        limits: allowed.limits,
        max_eni: settings.eni.max_eni,
        max_pods: settings.eni.max_pods.unwrap_or(allowed.max_pods),
        primary_excluded: false,
        manage_untagged: settings.eni.manage_untagged,
        cooldown: settings.eni.cooldown,
        cluster: settings.eni.cluster_name.as_deref().map(Into::into),
        subnets: SubnetPolicy { discovery: settings.eni.subnet_discovery, floor: settings.eni.subnet_floor },
        leaks: leaks(settings),
        leak_proof: settings.eni.leak_proof,
        gather: GATHER,
        share: Share { nodes: settings.eni.ec2_nodes, percent: settings.eni.ec2_share },
    }
}

fn leaks(settings: &Settings) -> LeakPolicy {
    match (settings.eni.leak_cleanup, settings.eni.leak_dry_run) {
        (false, _) => LeakPolicy::Ignore,
        (true, true) => LeakPolicy::DryRun,
        (true, false) => LeakPolicy::Delete,
    }
}

fn of_known(known: &Limits, settings: &Settings) -> Allowed {
    for finding in lint::against_limits(settings, known) {
        crate::logging::tell(&finding);
    }
    let prefixes = lint::effective_prefixes(settings, known);
    Allowed {
        limits: PoolLimits { enis: known.enis_default_card, ipv4_per_eni: known.ipv4_per_eni },
        prefixes,
        max_pods: known.max_pods(prefixes, settings.eni.max_eni),
    }
}

/// Every type newer than our table is built on Nitro and carries prefixes. Without an answer the daemon starts all the
/// same (design D21): too small a guess leaves places unused, too large a one is corrected by EC2's first refusal.
async fn of_unknown(settings: &Settings, instance_type: &str, ec2: &Ec2Client) -> Allowed {
    let mut limits = CAUTIOUS;
    for _ in 0..ASK_LIMITS {
        match ec2.instance_limits(instance_type).await {
            Ok((enis, ipv4_per_eni)) => {
                limits = PoolLimits { enis, ipv4_per_eni };
                break;
            }
            Err(failure) => {
                tracing::error!(
                    instance_type, code = %failure.code, message = %failure.message, assumed = ?CAUTIOUS,
                    "limits of this instance type are unknown; allow ec2:DescribeInstanceTypes or upgrade podwire"
                );
            }
        }
        tokio::time::sleep(ASK_PAUSE).await;
    }
    Allowed { limits, prefixes: settings.eni.prefix_delegation, max_pods: FALLBACK_MAX_PODS }
}

fn warm(warm: Warm) -> PoolWarm {
    match warm {
        Warm::DemandDriven => PoolWarm::DemandDriven,
        Warm::Targets { ip, minimum, eni, prefix } => PoolWarm::Targets { ip, minimum, eni, prefix },
    }
}

/// Nodes that start together must not jitter together (FNV-1a, 64 bit; RFC 9923).
fn seed(instance: &str) -> u64 {
    instance
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_of_different_instances_differ() {
        assert_ne!(seed("i-0aaa"), seed("i-0aab"));
        assert_eq!(seed(""), 0xcbf2_9ce4_8422_2325);
    }
}
