//! A hundred and ten ADDs at once on a node whose processors are all busy with something else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::available_parallelism;
use std::time::Duration;

use podwire_e2e::report::say;

use crate::figures::{Figures, Must, Samples};
use crate::plugin::{self, Subject};
use crate::stage::Stage;

/// Pods added at once. *Source*: the most the incumbent recommends on a node of usual size.
const AT_ONCE: usize = 110;

/// Measures.
///
/// # Errors
/// The stage cannot be set, or a verb fails.
pub(crate) fn run(figures: &mut Figures) -> anyhow::Result<()> {
    let rounds = if figures.quick() { 3 } else { 10 };
    let stage = Stage::start("busy", AT_ONCE)?;
    let processors = available_parallelism()?.get();
    say(&format!("  {rounds} rounds of {AT_ONCE} at once beside {processors} busy threads"));
    let ended = AtomicBool::new(false);
    let taken = std::thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let taken = stage.worker.node.enter(|| rounds_of(&stage.conf, rounds));
        ended.store(true, Ordering::Relaxed);
        taken
    })??;
    let count = taken.len();
    let adds = Samples::new(taken);
    let remark =
        format!("of {count}; p50 {:.0}, p99 {:.0}, each from its start", adds.p50(), adds.percentile(99));
    figures.judge("add110_busy_p999_ms", adds.per_mille(999), "ms", Must::AtMost(250.0), &remark);
    stage.stop()
}

fn rounds_of(conf: &[u8], rounds: usize) -> anyhow::Result<Vec<Duration>> {
    let mut taken = Vec::new();
    for round in 0..rounds {
        let subjects: Vec<Subject> = (0..AT_ONCE).map(|n| Subject::new(n, round)).collect();
        taken.extend(plugin::each_at_once("ADD", &subjects, conf)?);
        plugin::all_at_once("DEL", &subjects, conf)?;
    }
    Ok(taken)
}
