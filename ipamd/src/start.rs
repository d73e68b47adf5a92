//! How a life of the daemon begins: what is believed, and on whose word (design D1). Pure.

use std::time::Duration;

use podwire_ledger::ipam_json::Checkpoint;
use podwire_ledger::{Opened, Recovered};
use podwire_pool::{Pool, Settings};

use crate::past::Beside;
use crate::takeover::{Clocks, Kernel, TakeOver, reconciled, take_over};

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
    /// The checkpoint beside it.
    pub beside: &'a Beside,
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
    /// What is taken over from the incumbent or from the kernel. Where something is, even nothing, the ledger that was found
    /// is history.
    pub take_over: Option<TakeOver>,
}

impl Past<'_> {
    /// Whether somebody else wrote last: the incumbent, which leaves our keys out, or a life of ours with another ledger. Not
    /// so where our ledger contains that very file already (design §4).
    #[must_use]
    pub fn another_wrote_last(&self) -> bool {
        let contained = self.recovered().and_then(|found| found.adopted.as_deref());
        self.beside
            .checkpoint()
            .is_some_and(|file| !self.is_our_mirror(file) && Some(&*file.mark) != contained)
    }

    fn recovered(&self) -> Option<&Recovered> {
        if let Opened::Recovered(found) = &self.opened { Some(found) } else { None }
    }

    /// Whether a checkpoint mirrors the ledger that was found.
    fn is_our_mirror(&self, file: &Checkpoint) -> bool {
        file.revision.is_some() && self.recovered().is_some_and(|found| found.lineage == file.lineage)
    }

    /// Whether a checkpoint of this boot lies there. Entries of an earlier one prove nothing: its pods are gone. A minute's
    /// grace, because wall clocks are set.
    #[must_use]
    pub fn of_this_boot(&self) -> bool {
        const GRACE_NS: i128 = 60_000_000_000;
        let booted = self.clocks.booted_unix_ns;
        let rebooted = self.recovered().is_some_and(|found| !found.same_boot);
        self.beside.checkpoint().is_some_and(|file| {
            file.written_unix_ns.saturating_add(GRACE_NS) >= booted && !(rebooted && self.is_our_mirror(file))
        })
    }

    /// Whether nothing shows that this instance had a past. A ledger or a checkpoint that cannot be read, and a checkpoint of
    /// this boot do: metadata may be older than what they knew. A foreign ledger does not, it came with a cloned disk.
    fn is_blank(&self) -> bool {
        let none = matches!(self.opened, Opened::Fresh | Opened::Foreign { .. });
        none && *self.beside != Beside::Unreadable && !self.of_this_boot()
    }

    /// Whether more may have happened than this ledger knows. It is damaged; or what stands beside it from its first second
    /// on is gone, or says nothing; or pods run that it cannot know: it is of an earlier boot.
    fn may_lack(&self, found: &Recovered) -> bool {
        let mirror_lost = match self.beside {
            Beside::Nothing => found.same_boot,
            Beside::Unreadable => true,
            Beside::Checkpoint(_) => false,
        };
        found.damaged || mirror_lost || (!found.same_boot && self.kernel.has_pods())
    }

    fn witnesses(&self) -> TakeOver {
        let entries = self.beside.checkpoint().map_or(&[][..], |file| &file.allocations);
        take_over(entries, self.of_this_boot(), self.kernel, self.clocks)
    }
}

/// Begins: the pool, and what to look at first.
#[must_use]
pub fn begin(settings: Settings, past: Past<'_>, first_boot: bool) -> Beginning {
    let now = past.clocks.now;
    let from = |same_boot, records, look, take_over| {
        let pool = Pool::recover(settings.clone(), same_boot, records, now);
        Beginning { pool, look, take_over }
    };
    let taken = |take: TakeOver| from(true, take.records.clone(), FirstLook::Describe, Some(take));
    if past.another_wrote_last() {
        // Our ledger is history: addresses may have been released and given since. A file that outlived its boot and of whose
        // pods none is there says nothing.
        let take = past.witnesses();
        if past.of_this_boot() || !take.records.is_empty() {
            return taken(take);
        }
    }
    let lacking = past.recovered().is_some_and(|found| past.may_lack(found));
    match past.opened {
        Opened::Recovered(found) if !lacking => {
            from(found.same_boot, found.records, FirstLook::Metadata, None)
        }
        Opened::Recovered(ref found) => {
            let take = past.witnesses();
            if !found.same_boot && !take.records.is_empty() {
                // What runs is of this boot, hence nothing of the ledger's.
                return taken(take);
            }
            let records = reconciled(&found.records, &take, past.kernel.pods);
            let mut begun = from(found.same_boot, records, FirstLook::Describe, Some(take));
            begun.pool.mistrust_all(now);
            begun
        }
        Opened::Fresh | Opened::Foreign { .. } | Opened::Newer { .. } | Opened::Corrupt { .. } => {
            let take = past.witnesses();
            if first_boot && take.records.is_empty() && past.is_blank() {
                let pool = Pool::new(settings);
                return Beginning { pool, look: FirstLook::Metadata, take_over: None };
            }
            taken(take)
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
