//! Growth to 250 pods one by one, and all of them deleted at once while others are added.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use podwire_e2e::report::say;
use podwire_e2e::scene::Worker;

use crate::figures::{Figures, Must, Samples, mib};
use crate::plugin::{self, Subject};
use crate::stage::Stage;

/// Pods on the node at the end. *Source*: EKS's recommended largest max-pods.
const MANY: usize = 250;
/// Further pods, added while those are deleted: the pool holds 272 addresses.
const OTHERS: usize = 20;

/// Measures.
///
/// # Errors
/// The stage cannot be set, or a verb fails.
pub(crate) fn run(figures: &mut Figures) -> anyhow::Result<()> {
    if figures.quick() {
        say("  left out by --quick");
        return Ok(());
    }
    let stage = Stage::start("many", MANY + OTHERS)?;
    let Stage { worker, conf, .. } = &stage;
    let subjects: Vec<Subject> = (0..MANY).map(|n| Subject::new(n, 0)).collect();
    let adds = worker.node.enter(|| one_by_one(&subjects, conf))??;
    figures.note("daemon_rss_mib", mib(worker.daemon.rss_kib()? * 1024), "MiB", "with 250 pods");
    let drain = worker.node.enter(|| plugin::all_at_once("DEL", &subjects, conf))??;
    let rss = mib(worker.daemon.rss_kib()? * 1024);
    let first = Samples::new(adds.iter().take(40).copied().collect());
    let last = Samples::new(adds.iter().skip(MANY - 40).copied().collect());
    figures.note("add_at_250_p50_ms", last.p50(), "ms", "the last 40 of 250");
    let remark = "last 40 over first 40";
    figures.judge("add_250_over_1", last.p50() / first.p50(), "×", Must::AtMost(1.2), remark);
    let ms = drain.as_secs_f64() * 1000.0;
    figures.judge("drain_250_ms", ms, "ms", Must::AtMost(1000.0), "250 DELs at once");
    figures.note("daemon_rss_after_drain_mib", rss, "MiB", "right after them");
    meanwhile(&stage, &subjects, figures)?;
    beside_nothing(&stage, figures)?;
    stage.stop()
}

fn one_by_one(subjects: &[Subject], conf: &[u8]) -> anyhow::Result<Vec<Duration>> {
    subjects.iter().map(|subject| plugin::run("ADD", subject, conf)).collect()
}

/// Drains again and again, and adds other pods one by one as long as a drain goes on.
fn meanwhile(stage: &Stage, subjects: &[Subject], figures: &mut Figures) -> anyhow::Result<()> {
    let Stage { worker, conf, .. } = stage;
    let others: Vec<Subject> = (MANY..MANY + OTHERS).map(|n| Subject::new(n, 0)).collect();
    let (mut taken, mut drains) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        worker.node.enter(|| one_by_one(subjects, conf))??;
        let drain = || plugin::all_at_once("DEL", subjects, conf);
        let (drain, adds) = while_all_run(worker, &others, conf, drain)?;
        drains.push(drain);
        worker.node.enter(|| plugin::all_at_once("DEL", &others[..adds.len()], conf))??;
        taken.extend(adds);
    }
    let count = taken.len();
    let (adds, drains) = (Samples::new(taken), Samples::new(drains));
    let remark = format!(
        "of {count} in 8 drains, p50 {:.1}, p90 {:.1}, drain p50 {:.0}",
        adds.p50(),
        adds.percentile(90),
        drains.p50()
    );
    figures.judge("add_during_drain_p99_ms", adds.percentile(99), "ms", Must::AtMost(25.0), &remark);
    Ok(())
}

/// The same beside as many processes that do nothing: what so many at once cost whoever is started with them.
fn beside_nothing(stage: &Stage, figures: &mut Figures) -> anyhow::Result<()> {
    let Stage { worker, conf, .. } = stage;
    let empty = std::env::var_os("PODWIRE_BENCH_EMPTY").map(PathBuf::from).context("run scripts/bench")?;
    let others: Vec<Subject> = (MANY..MANY + OTHERS).map(|n| Subject::new(n, 0)).collect();
    let mut taken = Vec::new();
    for _ in 0..8 {
        let adds = while_all_run(worker, &others, conf, || plugin::empty_at_once(&empty, MANY))?.1;
        worker.node.enter(|| plugin::all_at_once("DEL", &others[..adds.len()], conf))??;
        taken.extend(adds);
    }
    let count = taken.len();
    let adds = Samples::new(taken);
    let remark = format!("of {count} beside {MANY} processes that do nothing, p50 {:.1}", adds.p50());
    figures.note("add_beside_nothing_p99_ms", adds.percentile(99), "ms", &remark);
    Ok(())
}

/// Has something done, and adds other pods one by one as long as it goes on.
fn while_all_run(
    worker: &Worker,
    others: &[Subject],
    conf: &[u8],
    all: impl Fn() -> anyhow::Result<Duration> + Send + Sync,
) -> anyhow::Result<(Duration, Vec<Duration>)> {
    let done = AtomicBool::new(false);
    let (took, adds) = std::thread::scope(|scope| {
        let all = scope.spawn(|| {
            let took = worker.node.enter(&all);
            done.store(true, Ordering::Relaxed);
            took?
        });
        let add = |subject: &Subject| worker.node.enter(|| plugin::run("ADD", subject, conf));
        let adds: anyhow::Result<Vec<Duration>> =
            others.iter().take_while(|_| !done.load(Ordering::Relaxed)).map(|s| add(s)?).collect();
        (all.join(), adds)
    });
    Ok((took.map_err(|_| anyhow::anyhow!("a thread died"))??, adds?))
}
