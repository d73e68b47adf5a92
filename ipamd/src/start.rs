//! How a life of the daemon begins: what is believed, and on whose word (design D1). Pure.

use std::time::Duration;

use podwire_hostnet::PodLink;
use podwire_ledger::Opened;
use podwire_pool::{PodRef, Pool, Record, SandboxKey, Settings, Time};

/// An instance counts as in its first boot when it booted no later than this after its launch.
/// *Source*: our choice; EC2 instances boot within minutes of `pendingTime`.
const FIRST_BOOT: Duration = Duration::from_secs(600);

/// Whose word the first observation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstLook {
    /// Metadata may be believed: nothing is known that it could contradict.
    Metadata,
    /// One Describe comes first: there may be a past that is not in the ledger.
    Describe,
}

/// Begins: the pool, and what to look at first.
#[must_use]
pub fn begin(
    settings: Settings,
    opened: Opened,
    pods: &[PodLink],
    first_boot: bool,
    now: Time,
) -> (Pool, FirstLook) {
    match opened {
        Opened::Recovered(found) if found.damaged => {
            // Durable entries may be lost: what the kernel shows beyond the ledger counts as held.
            let records = found.records.into_iter().chain(from_kernel(pods, now)).collect();
            (Pool::recover(settings, found.same_boot, records, now), FirstLook::Describe)
        }
        Opened::Recovered(found) => {
            (Pool::recover(settings, found.same_boot, found.records, now), FirstLook::Metadata)
        }
        Opened::Fresh | Opened::Foreign { .. } | Opened::Newer { .. } | Opened::Corrupt { .. } => {
            if first_boot && pods.is_empty() {
                return (Pool::new(settings), FirstLook::Metadata);
            }
            (Pool::recover(settings, true, from_kernel(pods, now), now), FirstLook::Describe)
        }
    }
}

/// Whether the machine's boot is the instance's first: it did not boot long after its launch.
#[must_use]
pub fn is_first_boot(booted_at: i64, launched_at: Option<i64>) -> bool {
    let slack = i64::try_from(FIRST_BOOT.as_secs()).unwrap_or(0);
    launched_at.is_some_and(|launched| booted_at <= launched.saturating_add(slack))
}

/// Running pods whose ledger is lost: their own host links say which address each holds.
fn from_kernel(pods: &[PodLink], now: Time) -> Vec<Record> {
    let held = |pod: &PodLink| Record::Allocated {
        sandbox: SandboxKey::new(pod.attachment.container_id.as_str(), pod.attachment.ifname.as_str()),
        pod: PodRef::default(),
        addresses: pod.addresses.clone(),
        at: now,
    };
    pods.iter().filter(|pod| !pod.addresses.is_empty()).map(held).collect()
}

/// Seconds of the Unix epoch of an RFC 3339 time in UTC, as the identity document writes it: `2026-11-20T11:13:43Z`.
#[must_use]
pub fn parse_utc(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|p| p.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.splitn(3, ':').map(|p| p.split('.').next().and_then(|s| s.parse::<i64>().ok()));
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days since 1970-01-01 by counting from March, so that the leap day comes last (Howard Hinnant, "chrono-Compatible
    // Low-Level Date Algorithms", days_from_civil).
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_document_time_parsed() {
        assert_eq!(parse_utc("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse_utc("2026-11-20T11:13:43Z"), Some(1_795_173_223));
        assert_eq!(parse_utc("2024-02-29T23:59:59.123Z"), Some(1_709_251_199));
        for bad in ["", "yesterday", "2026-13-01T00:00:00Z", "2026-11-20 11:13:43", "2026-11-20T11:13Z"] {
            assert_eq!(parse_utc(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn late_reboot_is_not_first_boot() {
        assert!(is_first_boot(1_000_060, Some(1_000_000)));
        assert!(!is_first_boot(1_100_000, Some(1_000_000)));
        assert!(!is_first_boot(1_000_000, None), "without a launch time nothing is assumed");
    }
}
