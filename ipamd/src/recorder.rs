//! Keeps what happened to the pool lately, and writes it to a file: when SIGUSR1 asks for it, and before a broken
//! invariant ends the daemon, so that the outage can be played again.
//!
//! The files lie in the ledger's directory, readable by root alone: a trace names pods, addresses and ENIs. It decides
//! nothing; what cannot be written is said in the log and stops nobody.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use podwire_pool::{Effect, Input, Pool, Time};
use podwire_trace::{Bounds, Recording, Ring};
use tokio::signal::unix::Signal;
use tokio::sync::oneshot;

use crate::driver::{Handle, Message};
use crate::install::{remove_left_over, replace, temporary};

/// What SIGUSR1 asked for.
pub const ON_DEMAND: &str = "trace.txt";
/// What led to the newest panic of the pool.
pub const OUTAGE: &str = "outage-trace.txt";
/// The first of them, until somebody takes it away. *Why* not the one before: a daemon that dies at every start would soon
/// have nothing left of how it began.
pub const FIRST_OUTAGE: &str = "outage-trace.old.txt";

/// Stands between the driver and its pool.
#[derive(Debug)]
pub struct Recorder {
    ring: Ring,
    dir: PathBuf,
}

impl Recorder {
    /// Keeps as much as `bounds` say, and writes into `dir`. Half a trace that an earlier life left there is removed.
    #[must_use]
    pub fn new(dir: PathBuf, bounds: Bounds) -> Self {
        for name in [ON_DEMAND, OUTAGE] {
            let removed = temporary(&dir.join(name)).and_then(|left| Ok(remove_left_over(&left)?));
            if let Err(error) = removed {
                tracing::warn!(error = format!("{error:#}"), "half a trace of an earlier life is in the way");
            }
        }
        Self { ring: Ring::new(bounds), dir }
    }

    /// Hands an input to the pool. When the pool panics, what led to it is on disk before the panic goes on.
    pub fn handle(&mut self, pool: &mut Pool, now: Time, input: Input, effects: &mut Vec<Effect>) {
        self.around(pool, now, input, effects, Pool::handle);
    }

    fn around(
        &mut self,
        pool: &mut Pool,
        now: Time,
        input: Input,
        effects: &mut Vec<Effect>,
        handle: fn(&mut Pool, Time, Input, &mut Vec<Effect>),
    ) {
        self.ring.before(pool, now, &input);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| handle(pool, now, input, effects))) {
            self.keep_outage();
            resume_unwind(panic);
        }
        self.ring.after(effects);
    }

    /// What is kept now.
    #[must_use]
    pub fn recording(&self, pool: &Pool) -> Option<Recording> {
        self.ring.recording(Some(pool))
    }

    fn keep_outage(&self) {
        let Some(recording) = self.ring.recording(None) else { return };
        let (path, first) = (self.dir.join(OUTAGE), self.dir.join(FIRST_OUTAGE));
        if path.exists()
            && !first.exists()
            && let Err(error) = std::fs::rename(&path, first)
        {
            tracing::warn!(path = %path.display(), %error, "the trace of an earlier outage is overwritten");
        }
        match write(&path, &recording) {
            Ok(()) => {
                tracing::error!(path = %path.display(), "the pool panicked, as it does rather than give an address twice; keep this trace as evidence, it can be played again");
            }
            Err(error) => tracing::error!(
                error = format!("{error:#}"),
                "the pool panicked, as it does rather than give an address twice, and its trace cannot be kept"
            ),
        }
    }
}

fn write(path: &Path, recording: &Recording) -> anyhow::Result<()> {
    replace(path, recording.to_text().as_bytes(), 0o600)
}

/// Writes the trace at each SIGUSR1, until the driver is gone. The text is made and written off the driver's thread.
pub async fn write_when_signalled(driver: Handle, mut signal: Signal, dir: PathBuf) {
    while signal.recv().await.is_some() {
        let (reply, recording) = oneshot::channel();
        if driver.send(Message::Record { reply }).await.is_err() {
            return;
        }
        let Ok(Some(recording)) = recording.await else {
            tracing::info!("SIGUSR1: nothing has been recorded yet");
            continue;
        };
        let path = dir.join(ON_DEMAND);
        let written = tokio::task::spawn_blocking(move || write(&path, &recording).map(|()| path)).await;
        match written.map_err(anyhow::Error::from).and_then(|w| w) {
            Ok(path) => tracing::info!(path = %path.display(), "SIGUSR1: trace written"),
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "SIGUSR1: the trace cannot be written")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use podwire_pool::settings::{LEAK_PROOF, LeakPolicy, Limits, Mode, Settings, Share, SubnetPolicy, Warm};
    use podwire_pool::{BootId, InstanceId};
    use podwire_trace::{Outcome, Trace};

    use super::*;

    fn pool() -> Pool {
        Pool::new(Settings {
            instance: InstanceId::new("i-1"),
            boot: BootId::new("b-1"),
            mode: Mode::SecondaryIp,
            warm: Warm::DemandDriven,
            limits: Limits { enis: 3, ipv4_per_eni: 4 },
            max_eni: None,
            max_pods: 11,
            primary_excluded: false,
            manage_untagged: false,
            cooldown: Duration::from_secs(30),
            cluster: None,
            subnets: SubnetPolicy { discovery: false, floor: 0 },
            leaks: LeakPolicy::Ignore,
            leak_proof: LEAK_PROOF,
            share: Share::default(),
            gather: Duration::ZERO,
            seed: 1,
        })
    }

    fn breaks(_: &mut Pool, _: Time, input: Input, _: &mut Vec<Effect>) {
        assert_eq!(input, Input::Stop, "an invariant");
    }

    /// The outage is on disk when the panic comes out, for root alone, with the input that made it as its last line; the
    /// first one is kept beside it, however many follow.
    #[test]
    fn panic_of_the_pool_leaves_its_trace() {
        let dir = tempfile::tempdir().expect("a directory");
        for round in 1..=4 {
            let left = temporary(&dir.path().join(OUTAGE)).expect("a name");
            std::fs::write(&left, "half a trace").expect("left by a daemon that was killed");
            let mut recorder = Recorder::new(dir.path().to_owned(), Bounds::default());
            assert!(!left.exists());
            let (mut pool, mut effects) = (pool(), Vec::new());
            recorder.handle(&mut pool, Time::from_ms(round), Input::Demand { bound: None }, &mut effects);
            let panic = catch_unwind(AssertUnwindSafe(|| {
                recorder.around(&mut pool, Time::from_ms(9), Input::Timer, &mut effects, breaks);
            }));
            assert!(panic.is_err(), "the panic goes on");
            let expected =
                if round == 1 { vec![(OUTAGE, 1)] } else { vec![(OUTAGE, round), (FIRST_OUTAGE, 1)] };
            for (name, began) in expected {
                let path = dir.path().join(name);
                assert_eq!(std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
                let trace = Trace::parse(&std::fs::read_to_string(&path).expect("text")).expect("a trace");
                let [first, last] = trace.events.as_slice() else { panic!("{trace:?}") };
                assert_eq!((first.at, last.did), (Time::from_ms(began), None), "{name}, ending in its panic");
                assert!(matches!(trace.replay().outcome, Outcome::NoPanic { .. }), "the true pool bears it");
            }
        }
    }

    #[test]
    fn recording_of_a_living_pool_replays() {
        let mut recorder = Recorder::new(PathBuf::new(), Bounds::default());
        let (mut pool, mut effects) = (pool(), Vec::new());
        assert!(recorder.recording(&pool).is_none());
        for ms in 0..10 {
            recorder.handle(&mut pool, Time::from_ms(ms), Input::Timer, &mut effects);
            effects.clear();
        }
        let text = recorder.recording(&pool).expect("something").to_text();
        assert_eq!(Trace::parse(&text).expect("a trace").replay().outcome, Outcome::Same);
    }
}
