//! Time as the cloud counts it: milliseconds since the Unix epoch, handed in by the caller.
//!
//! Must not read any clock.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// This moment and `delay` more; saturates at the end of time.
    #[must_use]
    pub fn plus(self, delay: Duration) -> Self {
        let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(delay))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// As signatures write it: `20260131T235959Z`.
impl FromStr for Millis {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        let (date, time) = text.strip_suffix('Z').and_then(|text| text.split_once('T')).ok_or(NotATime)?;
        if date.len() != 8 || time.len() != 6 || !(date.to_owned() + time).bytes().all(|b| b.is_ascii_digit())
        {
            return Err(NotATime);
        }
        let number = |text: &str, from: usize, to: usize| text[from..to].parse::<u64>().map_err(|_| NotATime);
        let (year, month, day) = (number(date, 0, 4)?, number(date, 4, 6)?, number(date, 6, 8)?);
        let (hour, minute, second) = (number(time, 0, 2)?, number(time, 2, 4)?, number(time, 4, 6)?);
        let possible = year >= 1970 && (1..=12).contains(&month) && (1..=31).contains(&day);
        if !possible || hour > 23 || minute > 59 || second > 60 {
            return Err(NotATime);
        }
        let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
        Ok(Self(seconds * 1000))
    }
}

/// The text is not a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a time of the form 20260131T235959Z")]
pub struct NotATime;

/// As EC2 writes times: `2026-01-31T23:59:59.000Z`.
impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1000;
        let (year, month, day) = civil(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", self.0 % 1000)
    }
}

/// Days since the epoch → year, month, day of the proleptic Gregorian calendar.
///
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`, for days ≥ 0.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

/// The inverse of [`civil`]; source as there, `days_from_civil`, for years from 1970.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_ec2s_timestamp() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Millis(ms).to_string(), text);
        }
    }

    #[test]
    fn date_stamps_are_read_and_nonsense_is_not() {
        for day in (0..60_000).step_by(37) {
            let time = Millis(day * 86_400_000 + 3_661_000);
            let stamp = time.to_string().replace(['-', ':'], "").replace(".000", "");
            assert_eq!(stamp.parse(), Ok(time), "{stamp}");
        }
        for bad in
            ["", "20260131", "20260131T235959", "20261331T000000Z", "2026013aT000000Z", "19690101T000000Z"]
        {
            assert_eq!(bad.parse::<Millis>(), Err(NotATime), "{bad}");
        }
    }
}
