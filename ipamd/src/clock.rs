//! The only place that reads the time for the pool.

use podwire_pool::Time;
use rustix::time::{ClockId, clock_gettime};

/// Now, in milliseconds of CLOCK_BOOTTIME.
#[must_use]
pub fn now() -> Time {
    let at = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(at.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(at.tv_nsec).unwrap_or(0);
    Time::from_ms(seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000))
}

/// When the machine booted, in seconds of the Unix epoch.
#[must_use]
pub fn booted_at() -> i64 {
    i64::try_from(booted_unix_ns().div_euclid(1_000_000_000)).unwrap_or(0)
}

/// When the machine booted, in nanoseconds of the Unix epoch.
#[must_use]
pub fn booted_unix_ns() -> i128 {
    let of = |id| {
        let at = clock_gettime(id);
        i128::from(at.tv_sec) * 1_000_000_000 + i128::from(at.tv_nsec)
    };
    of(ClockId::Realtime) - of(ClockId::Boottime)
}
