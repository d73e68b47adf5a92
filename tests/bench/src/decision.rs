//! One durable ADD decision: the daemon's own driver, pool, ledger writer and file on tmpfs; only EC2 and the host are
//! played.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use podwire_e2e::report::say;
use podwire_ipamd::clock;
use podwire_ipamd::driver::{Driver, Handle, Message};
use podwire_ipamd::executors::persist::{PersistExecutor, is_in_memory};
use podwire_ipamd::executors::{CarryOut, mirror::Holdings};
use podwire_ipamd::recorder::Recorder;
use podwire_ledger::{Identity, Ledger};
use podwire_pool::{
    Answer, Ec2Call, HostChange, Input, OpId, Pool, Record, RequestId, Revision, Snapshot, Time,
};
use podwire_trace::Bounds;
use tokio::sync::oneshot;

use crate::figures::{Figures, Must, Samples};
use crate::full_node::{add, answer, del, sandbox, seen, settings};

/// Where a tmpfs may be: `/run` on stock nodes, `/dev/shm` where containers and small machines have none there.
/// *Source*: file-hierarchy(7).
const PLACES: [&str; 2] = ["/run", "/dev/shm"];

/// Measures.
///
/// # Errors
/// There is no tmpfs to write to, or the driver does not answer.
pub(crate) fn run(figures: &mut Figures) -> anyhow::Result<()> {
    let rounds = if figures.quick() { 1_000 } else { 5_000 };
    let place = PLACES.into_iter().find(|place| is_in_memory(Path::new(place)));
    let place = place.with_context(|| format!("none of {PLACES:?} is a tmpfs: mount one"))?;
    say(&format!("  {rounds} ADDs and DELs through driver, pool and ledger on {place}"));
    let dir = tempfile::Builder::new().prefix("podwire-bench-").tempdir_in(place)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let adds = runtime.block_on(decisions(dir.path(), rounds))?;
    let noise = Samples::noise(&adds);
    let adds = Samples::new(adds);
    let disk = appends(dir.path(), rounds)?;
    let hops = hops(rounds)?;
    let us = |samples: &Samples, share| samples.percentile(share) * 1_000.0;
    let remark = format!(
        "p99 {:.0}, noise {noise:.0} %; append and fdatasync alone {:.1}, to another thread and back alone {:.1}",
        us(&adds, 99),
        us(&disk, 50),
        us(&hops, 50)
    );
    figures.judge("ledger_commit_p50_us", us(&adds, 50), "µs", Must::AtMost(50.0), &remark);
    Ok(())
}

/// EC2 and the host answer at once.
struct Played {
    persist: PersistExecutor,
    driver: Handle,
}

impl Played {
    fn happened(&self, input: Input) {
        if !self.driver.try_send(Message::Happened(input)) {
            say("  the driver's queue is full");
        }
    }
}

impl CarryOut for Played {
    fn persist(&mut self, revision: Revision, records: Vec<Record>) -> Option<Input> {
        self.persist.append(revision, records)
    }

    fn compact(&mut self, snapshot: Vec<Record>) {
        self.persist.compact(snapshot);
    }

    fn ec2(&self, op: OpId, call: Ec2Call) {
        match answer(op, &call) {
            Ok(input) => self.happened(input),
            Err(error) => say(&format!("  {error:#}")),
        }
    }

    fn host(&self, op: OpId, _: HostChange) {
        self.happened(Input::Host { op, outcome: Ok(()) });
    }

    fn last_op(&self) -> OpId {
        OpId(u64::MAX)
    }

    fn close(self, _: Holdings) {
        self.persist.close();
    }
}

async fn decisions(dir: &Path, rounds: usize) -> anyhow::Result<Vec<Duration>> {
    let settings = settings(Duration::ZERO);
    let (instance, boot) = (settings.instance.clone(), settings.boot.clone());
    let who = Identity { instance, boot, cooldown: settings.cooldown, lineage: "bench".into() };
    let home = dir.join("ledger");
    let (ledger, _) = Ledger::open(&home, &who)?;
    let (driver, inbox) = Handle::channel();
    let (mut persist, writer) = PersistExecutor::start(ledger, &home, driver.clone())?;
    let pool = Pool::recover(settings, true, Vec::new(), clock::now());
    persist.compact(pool.snapshot());
    let recorder = Recorder::new(dir.to_owned(), Bounds::default());
    let (on_ready, ready) = oneshot::channel();
    let played = Played { persist, driver: driver.clone() };
    let running = tokio::spawn(Driver::new(pool, recorder, inbox, played, on_ready).run());
    let Input::Observed(snapshot) = seen() else { bail!("an observation") };
    driver.send(Message::Saw(Snapshot { ..snapshot })).await?;
    ready.await.context("the pool never became ready")?;

    let mut adds = Vec::with_capacity(rounds);
    for round in 0..rounds {
        let request = u64::try_from(round)? * 2;
        let key = sandbox(round, 0);
        let (given, took) = ask(&driver, request, add(request, key.clone(), clock::now())).await?;
        ensure!(matches!(given, Answer::Allocated { is_new: true, .. }), "{given:?}");
        adds.push(took);
        let (given, _) = ask(&driver, request + 1, del(request + 1, key, clock::now())).await?;
        ensure!(matches!(given, Answer::Released(_)), "{given:?}");
    }
    driver.send(Message::Happened(Input::Stop)).await?;
    drop(driver);
    running.await?;
    tokio::task::spawn_blocking(move || writer.join())
        .await?
        .map_err(|_| anyhow::anyhow!("the writer died"))?;
    Ok(adds)
}

/// From the driver's door to the answer at the caller's: a little more than the decision itself.
async fn ask(driver: &Handle, request: u64, input: Input) -> anyhow::Result<(Answer, Duration)> {
    let (reply, given) = oneshot::channel();
    let began = Instant::now();
    driver.send(Message::Ask { input, request: RequestId(request), reply }).await?;
    let given = given.await.context("no answer")?;
    Ok((given, began.elapsed()))
}

/// What the disk alone costs.
fn appends(dir: &Path, rounds: usize) -> anyhow::Result<Samples> {
    let mut file = std::fs::File::create(dir.join("floor"))?;
    let frame = [7u8; 200];
    let once = |_| {
        let began = Instant::now();
        file.write_all(&frame)?;
        file.sync_data()?;
        anyhow::Ok(began.elapsed())
    };
    Ok(Samples::new((0..rounds).map(once).collect::<anyhow::Result<_>>()?))
}

/// What handing over to a thread that sleeps, and back to one that sleeps, costs alone.
fn hops(rounds: usize) -> anyhow::Result<Samples> {
    let (there, inbox) = std::sync::mpsc::channel::<Time>();
    let (back, outbox) = std::sync::mpsc::channel::<Time>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while let Ok(time) = inbox.recv() {
                if back.send(time).is_err() {
                    break;
                }
            }
        });
        let once = |_| {
            let began = Instant::now();
            there.send(Time::from_ms(1))?;
            outbox.recv()?;
            anyhow::Ok(began.elapsed())
        };
        let taken = (0..rounds).map(once).collect::<anyhow::Result<_>>();
        drop(there);
        Ok(Samples::new(taken?))
    })
}
