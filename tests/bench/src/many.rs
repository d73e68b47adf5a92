//! Growth to 250 pods one by one, and all of them deleted at once.

use std::time::Duration;

use podwire_e2e::report::say;

use crate::figures::{Figures, Must, Samples, mib};
use crate::plugin::{self, Subject};
use crate::stage::Stage;

/// Pods on the node at the end. *Source*: EKS's recommended largest max-pods.
const MANY: usize = 250;

/// Measures.
///
/// # Errors
/// The stage cannot be set, or a verb fails.
pub(crate) fn run(figures: &mut Figures) -> anyhow::Result<()> {
    if figures.quick() {
        say("  left out by --quick");
        return Ok(());
    }
    let stage = Stage::start("many", MANY)?;
    let Stage { worker, conf, .. } = &stage;
    let subjects: Vec<Subject> = (0..MANY).map(|n| Subject::new(n, 0)).collect();
    let add_all =
        || subjects.iter().map(|s| plugin::run("ADD", s, conf)).collect::<anyhow::Result<Vec<Duration>>>();
    let adds = worker.node.enter(add_all)??;
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
    stage.stop()
}
