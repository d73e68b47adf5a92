//! Thirty ADDs and thirty DELs at once, as kubelet does them after a node drained elsewhere.

use std::time::Duration;

use podwire_e2e::report::say;

use crate::figures::{Figures, Must, Samples};
use crate::floor;
use crate::plugin::{self, Subject};
use crate::stage::Stage;

/// Pods added at once.
const BURST: usize = 30;

/// Measures.
///
/// # Errors
/// The stage cannot be set, or a verb fails.
pub(crate) fn run(figures: &mut Figures) -> anyhow::Result<()> {
    let rounds = if figures.quick() { 3 } else { 10 };
    let stage = Stage::start("burst", BURST)?;
    say(&format!("  {rounds} rounds"));
    let [adds, dels, floors] = stage.worker.node.enter(|| rounds_of(&stage.conf, rounds))??;
    let noise = format!("last one done; noise {:.0} %", Samples::noise(&adds));
    let [adds, dels, floors] = [adds, dels, floors].map(Samples::new);
    figures.note("add30_ms", adds.p50(), "ms", &noise);
    figures.judge("add30_over_30_floors", adds.p50() / floors.p50(), "×", Must::AtMost(2.3), "");
    figures.note("del30_ms", dels.p50(), "ms", "last one done");
    stage.stop()
}

fn rounds_of(conf: &[u8], rounds: usize) -> anyhow::Result<[Vec<Duration>; 3]> {
    let [mut adds, mut dels, mut floors] = [(); 3].map(|()| Vec::with_capacity(rounds));
    for round in 0..rounds {
        let subjects: Vec<Subject> = (0..BURST).map(|n| Subject::new(n, round)).collect();
        adds.push(plugin::all_at_once("ADD", &subjects, conf)?);
        dels.push(plugin::all_at_once("DEL", &subjects, conf)?);
        let thirty: anyhow::Result<Vec<Duration>> =
            subjects.iter().map(|subject| floor::add_and_del(&subject.netns, 1)).collect();
        floors.push(thirty?.iter().sum());
    }
    Ok([adds, dels, floors])
}
