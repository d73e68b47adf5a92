//! Every duration and limit of the pool that is not a setting, in one place.

use std::time::Duration;

use crate::settings::Settings;

/// Sandboxes that may wait for an address at once. *Source*: our choice; four times the most pods any node runs.
pub(crate) const WAITERS_MAX: usize = 1_024;

/// Requests that may wait for an answer at once, of all kinds. *Source*: our choice; room for every waiter, its DEL
/// and a repetition of both.
pub(crate) const REQUESTS_MAX: usize = 4 * WAITERS_MAX;

/// Tombstones kept, oldest out. *Source*: design §7.
pub(crate) const TOMBSTONES_MAX: usize = 4_096;

/// How long a tombstone is kept. *Source*: design §7 (10 min).
pub(crate) const TOMBSTONE_LIFE: Duration = Duration::from_secs(600);

/// An address is never used again sooner than this after its release. *Source*: design §7 (5 s).
pub(crate) const COOLED_AT_LEAST: Duration = Duration::from_secs(5);

/// An operation without an answer for this long has an unknown outcome. *Source*: our choice; far beyond the 10 s each
/// EC2 try has (design §7), so that only a lost answer comes here.
pub(crate) const OP_PATIENCE: Duration = Duration::from_secs(120);

/// How long EC2's Describe may still tell of the time before a change. *Source*: our choice; EC2 is eventually
/// consistent, "seconds" in practice (pain-points C24).
pub(crate) const DESCRIBE_LAG: Duration = Duration::from_secs(10);

/// A node that booted no longer ago has no EC2 calls of an earlier life of the daemon in flight, or none that a ledger
/// of this boot would not know. *Source*: our choice; nothing is given back before it has cooled and been quiet, 30 s each
/// by default.
pub(crate) const BOOTED_LATELY: Duration = Duration::from_secs(60);

/// Something missing from Describe is believed gone only when a Describe asked this much later misses it too.
/// *Source*: our choice; three times the lag, because a wrong belief here costs a live pod.
pub(crate) const GONE_AFTER: Duration = Duration::from_secs(30);

/// At most one Describe in this time because of what metadata says. *Source*: our choice; metadata may be stale for
/// hours (design D1) and must not cost an account's reading budget.
pub(crate) const METADATA_DOUBT_EVERY: Duration = Duration::from_secs(300);

/// How long to wait for the first metadata before EC2 is asked instead. *Source*: our choice; metadata answers in
/// milliseconds.
pub(crate) const METADATA_PATIENCE: Duration = Duration::from_secs(5);

/// How long a doubtful ENI still counts as about to help. *Source*: our choice; a Describe takes well under a second,
/// so after this the others should grow instead.
pub(crate) const DOUBT_COUNTS: Duration = Duration::from_secs(10);

/// How long a learned limit (ENIs of the instance, addresses of an ENI) is believed. *Source*: our choice; limits
/// change only with the instance type, a wrong lesson should not last a day.
pub(crate) const LIMIT_MEMORY: Duration = Duration::from_secs(1_800);

/// How long a subnet without free /28 is asked for single addresses instead. *Source*: our choice; fragmentation heals
/// only when others release.
pub(crate) const FRAGMENTED_MEMORY: Duration = Duration::from_secs(300);

/// Tries of an attach before the new ENI is given up. *Source*: our choice.
pub(crate) const ATTACH_TRIES: u32 = 6;

/// Tries of the host to configure an empty secondary ENI before it is given back. *Source*: our choice; with the
/// back-off below about five minutes (pain-points D26).
pub(crate) const CONFIGURE_TRIES: u32 = 10;

/// Over which time arrivals are counted for the reserve. *Source*: our choice; the time one ENI needs to attach
/// (design §7: 2 to 10 s).
pub(crate) const ARRIVAL_WINDOW: Duration = Duration::from_secs(10);

/// Arrivals remembered at most. *Source*: our choice; above it the reserve is at its cap anyway.
pub(crate) const ARRIVALS_MAX: usize = 64;

/// The give-back time is stretched at most by this factor when demand comes back soon after. *Source*: our choice;
/// 30 s grow to 8 min, below the ten minutes for which peaks may be held.
pub(crate) const QUIET_STRETCH_MAX: u32 = 16;

/// Addresses of a /28 prefix, all usable by pods. *Source*: EC2 user guide, "Prefix delegation".
pub(crate) const PREFIX_SIZE: u32 = 16;

/// Prefix length of what EC2 delegates for IPv4. *Source*: as above.
pub(crate) const PREFIX_LEN: u8 = 28;

/// Durations that follow from the settings.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Tuning {
    /// How long something must be in excess before it is given back.
    pub(crate) quiet: Duration,
}

crate::text::fields!(Tuning { quiet });

impl Tuning {
    /// Derives them. *Why* quiet = cooldown: both say "this may be wanted again soon", and tests that shorten one mean
    /// the other too.
    pub(crate) fn of(settings: &Settings) -> Self {
        Self { quiet: settings.cooldown.max(Duration::from_secs(1)) }
    }
}

/// A length as the counters' type. Lengths here are bounded far below the limit.
pub(crate) fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
