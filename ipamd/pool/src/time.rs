//! Time as data: milliseconds of CLOCK_BOOTTIME, handed in by the driver, never read here.

use std::time::Duration;

/// A moment: *Unit* milliseconds since boot, suspend included (CLOCK_BOOTTIME, clock_gettime(2)).
/// *Why* not the wall clock: it jumps; and not CLOCK_MONOTONIC: it stands still while the machine sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

crate::text::wraps!(Time);

impl Time {
    /// The moment `ms` milliseconds after boot.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since boot.
    #[must_use]
    pub const fn as_ms(self) -> u64 {
        self.0
    }

    /// The moment `span` later, saturating at the end of time.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}
