//! Records with a memory: what they are now, and what they were when a lagging reader last looked.
//!
//! Every change is kept as a version with two random draws. How late a version becomes visible to readers follows from
//! its draw and the lag that is set when the reader asks, so lag can be switched on and off at any time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::delay::Delay;
use super::random::Random;
use super::time::Millis;

/// Versions older than this are merged into one. No lag may be longer.
pub(crate) const MEMORY: Duration = Duration::from_secs(600);

/// At most so many versions are kept of one record.
const VERSIONS: usize = 64;

/// Which readers ask: their lags are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// `Describe…` calls.
    Describe,
    /// The instance metadata service.
    Imds,
}

#[derive(Debug, Clone)]
struct Version<T> {
    since: Millis,
    describe: f64,
    imds: f64,
    /// `None`: deleted.
    record: Option<Arc<T>>,
}

/// A table of records by id.
#[derive(Debug, Clone)]
pub(crate) struct Store<K, T> {
    live: BTreeMap<K, T>,
    changed: BTreeSet<K>,
    past: BTreeMap<K, VecDeque<Version<T>>>,
}

impl<K: Ord + Clone, T: Clone> Store<K, T> {
    pub(crate) fn new() -> Self {
        Self { live: BTreeMap::new(), changed: BTreeSet::new(), past: BTreeMap::new() }
    }

    pub(crate) fn get(&self, key: &K) -> Option<&T> {
        self.live.get(key)
    }

    /// For changing; the change becomes a version at the next [`Self::commit`].
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut T> {
        let record = self.live.get_mut(key)?;
        self.changed.insert(key.clone());
        Some(record)
    }

    pub(crate) fn insert(&mut self, key: K, record: T) {
        self.changed.insert(key.clone());
        self.live.insert(key, record);
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<T> {
        self.changed.insert(key.clone());
        self.live.remove(key)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.live.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }

    /// Makes versions of everything changed since the last time, and forgets what no reader can see any more.
    pub(crate) fn commit(&mut self, now: Millis, random: &mut Random) {
        for key in std::mem::take(&mut self.changed) {
            let record = self.live.get(&key).cloned().map(Arc::new);
            let versions = self.past.entry(key).or_default();
            versions.push_back(Version { since: now, describe: random.unit(), imds: random.unit(), record });
            while versions.len() > VERSIONS
                || versions.get(1).is_some_and(|next| now.since(next.since) > MEMORY)
            {
                versions.pop_front();
                // What came before is forgotten, so the oldest that is left is what it was always.
                if let Some(oldest) = versions.front_mut() {
                    oldest.since = Millis(0);
                }
            }
        }
        self.past.retain(|_, versions| {
            let gone =
                versions.back().is_some_and(|last| last.record.is_none() && now.since(last.since) > MEMORY);
            !gone
        });
    }

    /// The records as a reader with this lag sees them now.
    pub(crate) fn seen(&self, reader: Reader, lag: Delay, now: Millis) -> impl Iterator<Item = &T> {
        self.past.values().filter_map(move |versions| {
            let visible = |version: &&Version<T>| {
                let unit = match reader {
                    Reader::Describe => version.describe,
                    Reader::Imds => version.imds,
                };
                version.since.plus(lag.quantile(unit).min(MEMORY)) <= now
            };
            versions.iter().rev().find(visible)?.record.as_deref()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAG: Delay = Delay::Fixed { ms: 100 };

    fn seen(store: &Store<u8, &'static str>, lag: &Delay, now: u64) -> Vec<&'static str> {
        store.seen(Reader::Describe, *lag, Millis(now)).copied().collect()
    }

    #[test]
    fn a_lagging_reader_sees_each_state_later() {
        let (mut store, mut random) = (Store::new(), Random::new(1));
        store.insert(1, "new");
        store.commit(Millis(1000), &mut random);
        *store.get_mut(&1).unwrap() = "changed";
        store.commit(Millis(1050), &mut random);
        store.remove(&1);
        store.commit(Millis(1200), &mut random);
        for (now, what) in [
            (1099, vec![]),
            (1100, vec!["new"]),
            (1150, vec!["changed"]),
            (1299, vec!["changed"]),
            (1300, vec![]),
        ] {
            assert_eq!(seen(&store, &LAG, now), what, "at {now}");
        }
        assert_eq!(seen(&store, &Delay::NONE, 1150), vec!["changed"], "without lag: the truth");
    }

    #[test]
    fn the_past_does_not_grow_without_bound() {
        let (mut store, mut random) = (Store::new(), Random::new(1));
        for at in 0..10_000 {
            store.insert(1, at);
            store.commit(Millis(at), &mut random);
        }
        assert!(store.past[&1].len() <= VERSIONS);
        store.remove(&1);
        store.commit(Millis(10_000), &mut random);
        store.commit(Millis(10_000).plus(MEMORY * 2), &mut random);
        assert!(store.past.is_empty());
    }
}
