//! How a life of the daemon begins: what is believed, and on whose word (design D1). Pure.

use std::time::Duration;

use podwire_ledger::Opened;
use podwire_ledger::ipam_json::Checkpoint;
use podwire_pool::{Pool, Settings};

use crate::takeover::{Clocks, Kernel, TakeOver, take_over};

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

/// What an earlier life of this daemon, the incumbent and the kernel say.
#[derive(Debug)]
pub struct Past<'a> {
    /// Our ledger.
    pub opened: Opened,
    /// The incumbent's checkpoint, or our mirror in its place.
    pub checkpoint: Option<&'a Checkpoint>,
    /// The kernel's links.
    pub kernel: Kernel<'a>,
    /// How the clocks relate.
    pub clocks: Clocks,
}

/// How a life begins.
#[derive(Debug)]
pub struct Beginning {
    /// The pool.
    pub pool: Pool,
    /// What to look at first.
    pub look: FirstLook,
    /// What is taken over from the incumbent, where it wrote last or our ledger is lost.
    pub take_over: Option<TakeOver>,
}

impl Past<'_> {
    /// Whether the incumbent wrote last: its key is missing from the checkpoint, and our ledger does not contain that very
    /// file already (design §4).
    #[must_use]
    pub fn incumbent_wrote_last(&self) -> bool {
        let contained = match &self.opened {
            Opened::Recovered(found) => found.adopted.as_deref(),
            Opened::Fresh | Opened::Foreign { .. } | Opened::Newer { .. } | Opened::Corrupt { .. } => None,
        };
        self.checkpoint.is_some_and(|file| file.revision.is_none() && Some(&*file.mark) != contained)
    }

    /// Entries of an earlier boot prove nothing: its pods are gone. A minute's grace, because wall clocks are set.
    fn of_this_boot(&self) -> bool {
        const GRACE_NS: i128 = 60_000_000_000;
        let booted = self.clocks.booted_unix_ns;
        self.checkpoint.is_some_and(|file| file.written_unix_ns.saturating_add(GRACE_NS) >= booted)
    }

    /// Whether nothing shows that this instance had a past. A ledger that cannot be read and a checkpoint of this boot do:
    /// metadata may be older than what they knew. A foreign ledger does not, it came with a cloned disk.
    fn is_blank(&self) -> bool {
        let none = matches!(self.opened, Opened::Fresh | Opened::Foreign { .. });
        none && !self.of_this_boot()
    }

    fn witnesses(&self) -> TakeOver {
        let entries = self.checkpoint.map_or(&[][..], |file| &file.allocations);
        take_over(entries, self.of_this_boot(), self.kernel, self.clocks)
    }
}

/// Begins: the pool, and what to look at first.
#[must_use]
pub fn begin(settings: Settings, past: Past<'_>, first_boot: bool) -> Beginning {
    let now = past.clocks.now;
    let from = |same_boot, records, look| Beginning {
        pool: Pool::recover(settings.clone(), same_boot, records, now),
        look,
        take_over: None,
    };
    if past.incumbent_wrote_last() {
        // Our ledger is history: the incumbent may have released and given anything since. A file that outlived its boot
        // and of whose pods none is there says nothing.
        let take = past.witnesses();
        if past.of_this_boot() || !take.records.is_empty() {
            let begun = from(true, take.records.clone(), FirstLook::Describe);
            return Beginning { take_over: Some(take), ..begun };
        }
    }
    match past.opened {
        Opened::Recovered(found) if !found.damaged => {
            from(found.same_boot, found.records, FirstLook::Metadata)
        }
        Opened::Recovered(ref found) => {
            // Durable entries may be lost: what the kernel and the mirror show beyond the ledger counts as held.
            let take = past.witnesses();
            let records = found.records.iter().cloned().chain(take.records.clone()).collect();
            let begun = from(found.same_boot, records, FirstLook::Describe);
            Beginning { take_over: Some(take), ..begun }
        }
        Opened::Fresh | Opened::Foreign { .. } | Opened::Newer { .. } | Opened::Corrupt { .. } => {
            let take = past.witnesses();
            if first_boot && take.records.is_empty() && past.is_blank() {
                let pool = Pool::new(settings);
                return Beginning { pool, look: FirstLook::Metadata, take_over: None };
            }
            let begun = from(true, take.records.clone(), FirstLook::Describe);
            Beginning { take_over: Some(take), ..begun }
        }
    }
}

/// Whether the machine's boot is the instance's first: it did not boot long after its launch.
#[must_use]
pub fn is_first_boot(booted_at: i64, launched_at: Option<i64>) -> bool {
    let slack = i64::try_from(FIRST_BOOT.as_secs()).unwrap_or(0);
    launched_at.is_some_and(|launched| booted_at <= launched.saturating_add(slack))
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
pub(crate) mod tests;
