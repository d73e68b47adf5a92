//! ADD and DEL one by one beside the floor.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use podwire_e2e::binaries::Binaries;
use podwire_e2e::report::say;

use crate::figures::{Figures, Must, Samples, mib};
use crate::floor;
use crate::plugin::{self, Subject};
use crate::stage::Stage;

/// Measures.
///
/// # Errors
/// The stage cannot be set, or a verb fails.
pub(crate) fn run(figures: &mut Figures) -> anyhow::Result<()> {
    let rounds = if figures.quick() { 60 } else { 200 };
    let size = std::fs::metadata(Binaries::find()?.plugin())?.len();
    figures.judge("plugin_size_mib", mib(size), "MiB", Must::AtMost(3.0), "static");
    let stage = Stage::start("one", 2)?;
    say(&format!("  {rounds} rounds"));
    let empty = std::env::var_os("PODWIRE_BENCH_EMPTY").map(PathBuf::from).context("run scripts/bench")?;
    let taken = stage.worker.node.enter(|| rounds_of(&stage.conf, rounds, &empty))??;
    let [floors, empties, adds, dels] = taken.map(|t| (Samples::noise(&t), Samples::new(t)));
    let noise = format!("noise {:.0} %", floors.0);
    figures.note("floor_add_p50_ms", floors.1.p50(), "ms", &noise);
    figures.note("empty_exec_p50_ms", empties.1.p50(), "ms", "an empty static program");
    let add = &adds.1;
    let tail = format!("p90 {:.2}, p99 {:.2}, noise {:.0} %", add.percentile(90), add.percentile(99), adds.0);
    figures.note("add_p50_ms", add.p50(), "ms", &tail);
    figures.judge("add_p50_over_floor", add.p50() / floors.1.p50(), "×", Must::AtMost(3.5), "");
    figures.note("add_p50_over_floor_and_exec", add.p50() / (floors.1.p50() + empties.1.p50()), "×", "");
    let tail = format!("p90 {:.2}, p99 {:.2}", dels.1.percentile(90), dels.1.percentile(99));
    figures.note("del_p50_ms", dels.1.p50(), "ms", &tail);
    let subject = Subject::new(0, rounds);
    let rss = stage.worker.node.enter(|| {
        let rss = plugin::peak_rss_kib(&subject, &stage.conf)?;
        plugin::run("DEL", &subject, &stage.conf)?;
        anyhow::Ok(rss)
    })??;
    figures.judge("plugin_rss_mib", rss / 1024.0, "MiB", Must::AtMost(4.0), "peak of one ADD");
    stage.stop()
}

/// Floor, empty process and plugin take turns, so that the machine's moods hit all of them alike.
fn rounds_of(conf: &[u8], rounds: usize, empty: &Path) -> anyhow::Result<[Vec<Duration>; 4]> {
    let [mut floors, mut empties, mut adds, mut dels] = [(); 4].map(|()| Vec::with_capacity(rounds));
    for round in 0..rounds {
        floors.push(floor::add_and_del("/run/netns/bench-1", 1)?);
        empties.push(plugin::empty(empty)?);
        let subject = Subject::new(0, round);
        adds.push(plugin::run("ADD", &subject, conf)?);
        dels.push(plugin::run("DEL", &subject, conf)?);
    }
    Ok([floors, empties, adds, dels])
}
