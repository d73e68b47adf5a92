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
    let wall = clock_gettime(ClockId::Realtime).tv_sec;
    wall.saturating_sub(clock_gettime(ClockId::Boottime).tv_sec)
}
