//! Times since boot, told as wall-clock times where that can be known.

use std::time::Duration;

use podwire_pool::{BootId, Time};
use rustix::time::{ClockId, clock_gettime};

/// Tells the times of one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The present boot.
    This {
        /// Now.
        now: Time,
        /// When the machine booted. *Unit* milliseconds since 1970.
        booted_unix_ms: i64,
    },
    /// Another boot, or another machine's: nothing is known but the distance from its beginning.
    Other,
}

impl Clock {
    /// The clock for a file of this boot.
    #[must_use]
    pub fn of(boot: &BootId) -> Self {
        let own = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        if own.is_ok_and(|own| own.trim() == boot.as_str()) { Self::this() } else { Self::Other }
    }

    /// The clock of this machine, now.
    #[must_use]
    pub fn this() -> Self {
        let ns = |id| {
            let at = clock_gettime(id);
            i128::from(at.tv_sec) * 1_000_000_000 + i128::from(at.tv_nsec)
        };
        let now = ns(ClockId::Boottime);
        // Subtracted before either is rounded, or two tellings of one moment differ by the two roundings.
        let booted = (ns(ClockId::Realtime) - now).div_euclid(1_000_000);
        Self::This {
            now: Time::from_ms(u64::try_from(now / 1_000_000).unwrap_or(0)),
            booted_unix_ms: i64::try_from(booted).unwrap_or(i64::MAX),
        }
    }

    /// Now, in times of that boot.
    #[must_use]
    pub const fn now(self) -> Option<Time> {
        match self {
            Self::This { now, .. } => Some(now),
            Self::Other => None,
        }
    }

    /// A moment, for people and programs.
    #[must_use]
    pub fn tell(self, at: Time) -> String {
        match self {
            Self::This { booted_unix_ms, .. } => {
                utc(booted_unix_ms.saturating_add(i64::try_from(at.as_ms()).unwrap_or(i64::MAX)))
            }
            Self::Other => format!("boot+{}.{:03}s", at.as_ms() / 1000, at.as_ms() % 1000),
        }
    }

    /// How long ago a moment was, or how far it lies ahead; empty where that is unknown.
    #[must_use]
    pub fn distance(self, at: Time) -> String {
        match self {
            Self::This { now, .. } if at > now => format!("in {}", span(at.since(now))),
            Self::This { now, .. } => format!("{} ago", span(now.since(at))),
            Self::Other => String::new(),
        }
    }
}

/// A span in its two largest units.
#[must_use]
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// RFC 3339 in UTC, with milliseconds. Days by Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms",
/// `civil_from_days`.
fn utc(unix_ms: i64) -> String {
    let (days, ms) = (unix_ms.div_euclid(86_400_000), unix_ms.rem_euclid(86_400_000));
    let shifted = days.saturating_add(719_468);
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era.saturating_mul(400) + i64::from(month <= 2);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_the_calendars() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(1_709_251_199_123), "2024-02-29T23:59:59.123Z");
        assert_eq!(utc(1_795_173_223_000), "2026-11-20T11:13:43.000Z");
        assert_eq!(utc(-1), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn extreme_times_are_told_too() {
        for clock in [Clock::this(), Clock::Other] {
            for at in [0, u64::MAX] {
                assert!(!clock.tell(Time::from_ms(at)).is_empty());
                assert_eq!(clock.distance(Time::from_ms(at)).is_empty(), clock == Clock::Other);
            }
        }
        assert_eq!(utc(i64::MAX).len(), utc(i64::MAX).chars().count());
    }

    #[test]
    fn spans_by_size() {
        let of = |s| span(Duration::from_secs(s));
        assert_eq!([of(5), of(65), of(3_700), of(90_000)], ["5s", "1m5s", "1h1m", "1d1h"]);
    }

    #[test]
    fn another_boots_times_are_distances() {
        assert_eq!(Clock::of(&BootId::new("another")), Clock::Other);
        assert_eq!(Clock::Other.tell(Time::from_ms(61_005)), "boot+61.005s");
    }
}
