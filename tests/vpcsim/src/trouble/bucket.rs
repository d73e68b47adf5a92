//! Token buckets, one per action.

use std::collections::BTreeMap;

use super::settings::{Bucket, Throttle};
use crate::cloud::Millis;

#[derive(Debug, Clone, Copy)]
struct Level {
    tokens: f64,
    at: Millis,
}

/// How full each action's bucket is.
#[derive(Debug, Clone, Default)]
pub(super) struct Buckets {
    levels: BTreeMap<String, Level>,
}

impl Buckets {
    /// Takes a token for this call; false: there was none, the call is throttled.
    pub(super) fn take(&mut self, now: Millis, settings: &Throttle, action: &str, mutating: bool) -> bool {
        if !settings.enabled {
            return true;
        }
        let default = if mutating { settings.mutating } else { settings.reading };
        let Bucket { capacity, refill_per_s } = settings.actions.get(action).copied().unwrap_or(default);
        let level = self.levels.entry(action.to_owned()).or_insert(Level { tokens: capacity, at: now });
        let earned = now.since(level.at).as_secs_f64() * refill_per_s;
        *level = Level { tokens: (level.tokens + earned).min(capacity), at: now.max(level.at) };
        let enough = level.tokens >= 1.0;
        if enough {
            level.tokens -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_refills_per_action() {
        let settings = Throttle {
            enabled: true,
            mutating: Bucket { capacity: 3.0, refill_per_s: 2.0 },
            actions: BTreeMap::new(),
            ..Throttle::default()
        };
        let mut buckets = Buckets::default();
        let mut take = |at, action| buckets.take(Millis(at), &settings, action, true);
        assert_eq!([take(0, "A"), take(0, "A"), take(0, "A"), take(0, "A")], [true, true, true, false]);
        assert!(take(0, "B"), "another action has its own bucket");
        assert_eq!([take(499, "A"), take(500, "A"), take(500, "A")], [false, true, false]);
        assert_eq!((0..5).filter(|_| take(60_000, "A")).count(), 3, "never fuller than full");
    }
}
