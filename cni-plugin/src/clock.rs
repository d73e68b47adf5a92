//! The clocks the plugin reads.
//!
//! *Why CLOCK_BOOTTIME*: it never jumps, counts suspended time, and is the same for every process of a boot (design D5).

use rustix::process::{Pid, getppid};
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// When this process started its work, and for whom.
#[derive(Debug, Clone, Copy)]
pub struct Started {
    /// For deadlines.
    pub instant: Instant,
    /// For the daemon, in milliseconds of CLOCK_BOOTTIME.
    pub boottime_ms: u64,
    /// The process that asked; `None` where it lives in another pid namespace.
    parent: Option<Pid>,
}

impl Started {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self { instant: Instant::now(), boottime_ms: boottime_ms(), parent: getppid() }
    }

    /// Whether the process that asked is still there: without it nobody waits for this verb's end any more.
    #[must_use]
    pub fn is_waited_for(self) -> bool {
        getppid() == self.parent
    }

    /// What is left of a time span that began here.
    #[must_use]
    pub fn left(self, span: Duration) -> Duration {
        span.saturating_sub(self.instant.elapsed())
    }
}

/// Milliseconds of CLOCK_BOOTTIME.
#[must_use]
pub fn boottime_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let milliseconds = u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000;
    seconds.saturating_mul(1000).saturating_add(milliseconds)
}

/// The wall clock as `2026-01-31T23:59:59.123Z`, for the log.
#[must_use]
pub fn timestamp() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(since.as_secs(), since.subsec_millis())
}

/// *Source*: civil-from-days, H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn rfc3339(seconds: u64, milliseconds: u32) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_known_moments() {
        assert_eq!(rfc3339(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_400, 7), "2000-02-29T00:00:00.007Z");
        assert_eq!(rfc3339(1_700_000_000, 999), "2023-11-14T22:13:20.999Z");
        assert_eq!(rfc3339(4_102_444_799, 0), "2099-12-31T23:59:59.000Z");
    }

    #[test]
    fn boottime_moves_on() {
        let first = boottime_ms();
        assert!(first > 0 && boottime_ms() >= first);
    }
}
