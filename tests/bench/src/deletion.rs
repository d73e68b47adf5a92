//! DELs, a hundred at once, beside one-by-one deletion of the same run.

use std::time::{Duration, Instant};

use podwire_e2e::report::say;

use crate::figures::{Figures, Must, Samples};
use crate::plugin::{self, Subject};
use crate::stage::Stage;

/// Pods deleted at once.
const AT_ONCE: usize = 100;
/// Pods of these deleted one by one, for the comparison.
const SERIAL: usize = 25;

/// Measures.
///
/// # Errors
/// The stage cannot be set, or a verb fails.
pub(crate) fn run(figures: &mut Figures) -> anyhow::Result<()> {
    let rounds = if figures.quick() { 2 } else { 5 };
    let stage = Stage::start("deletion", AT_ONCE)?;
    say(&format!("  {rounds} rounds of {AT_ONCE} at once and {SERIAL} one by one"));
    let (together, serial) = stage.worker.node.enter(|| rounds_of(&stage.conf, rounds))??;
    let noise = format!("median of {rounds} rounds, noise {:.0} %", Samples::noise(&together));
    let per_second = |pods: f64, took: Vec<Duration>| pods * 1000.0 / Samples::new(took).p50();
    let at_once = per_second(100.0, together);
    let one_by_one = per_second(25.0, serial);
    figures.judge("del_100_per_s", at_once, "/s", Must::AtLeast(800.0), &noise);
    figures.note("del_serial_per_s", one_by_one, "/s", "one by one");
    figures.judge("del_100_over_serial", at_once / one_by_one, "×", Must::AtLeast(12.0), "");
    stage.stop()
}

fn rounds_of(conf: &[u8], rounds: usize) -> anyhow::Result<(Vec<Duration>, Vec<Duration>)> {
    let (mut together, mut serial) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let subjects: Vec<Subject> = (0..AT_ONCE).map(|n| Subject::new(n, round)).collect();
        plugin::all_at_once("ADD", &subjects, conf)?;
        together.push(plugin::all_at_once("DEL", &subjects, conf)?);
        let few = &subjects[..SERIAL];
        plugin::all_at_once("ADD", few, conf)?;
        let began = Instant::now();
        few.iter().try_for_each(|subject| plugin::run("DEL", subject, conf).map(|_| ()))?;
        serial.push(began.elapsed());
    }
    Ok((together, serial))
}
