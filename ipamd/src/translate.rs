//! The operator's settings and the instance's limits → the pool's settings.

use std::time::Duration;

use podwire_config::limits::{self, FALLBACK_MAX_PODS};
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
    for _ in 0..ASK_LIMITS {
        match ec2.instance_limits(instance_type).await {
            Ok((enis, ipv4_per_eni)) => return of_told(settings, PoolLimits { enis, ipv4_per_eni }),
            Err(failure) => {
                tracing::error!(
                    instance_type, code = %failure.code, message = %failure.message, assumed = ?CAUTIOUS,
                    "limits of this instance type are unknown; allow ec2:DescribeInstanceTypes or upgrade podwire"
                );
            }
        }
        tokio::time::sleep(ASK_PAUSE).await;
    }
    Allowed { limits: CAUTIOUS, prefixes: settings.eni.prefix_delegation, max_pods: FALLBACK_MAX_PODS }
}

/// EC2 told the limits; kubelet's side asked it as well.
fn of_told(settings: &Settings, told: PoolLimits) -> Allowed {
    let prefixes = settings.eni.prefix_delegation;
    let usable = settings.eni.max_eni.filter(|&max| max >= 1).map_or(told.enis, |max| max.min(told.enis));
    let max_pods = limits::max_pods(told.enis, usable, told.ipv4_per_eni, prefixes, None);
    Allowed { limits: told, prefixes, max_pods }
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

    /// A type newer than our table, with the limits of m5.4xlarge.
    #[test]
    fn limits_that_ec2_told_bound_the_pods() {
        let settings = |vars: &[(&'static str, &'static str)]| {
            let source: std::collections::BTreeMap<_, _> = vars.iter().copied().collect();
            Settings::parse(&source).expect("valid").settings
        };
        let told = PoolLimits { enis: 8, ipv4_per_eni: 30 };
        let prefixes = ("ENABLE_PREFIX_DELEGATION", "true");
        assert_eq!(of_told(&settings(&[]), told).max_pods, 234);
        assert_eq!(of_told(&settings(&[("MAX_ENI", "2")]), told).max_pods, 60);
        assert_eq!(of_told(&settings(&[prefixes]), told).max_pods, 250);
        let small = PoolLimits { enis: 2, ipv4_per_eni: 2 };
        assert_eq!(of_told(&settings(&[prefixes]), small).max_pods, 34);
    }

    #[test]
    fn seeds_of_different_instances_differ() {
        assert_ne!(seed("i-0aaa"), seed("i-0aab"));
        assert_eq!(seed(""), 0xcbf2_9ce4_8422_2325);
    }
}
