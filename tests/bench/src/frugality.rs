//! The what-if's four workloads: how much the default targets hold and how long pods wait, beside the incumbent's.

use podwire_e2e::report::say;
use podwire_pool::settings::Warm;
use podwire_whatif::workloads::STANDARD;
use podwire_whatif::{Node, Report, Scenario, Summary, Waits, run as play};

use crate::figures::{Figures, Must};

/// The incumbent's targets, as its manifest sets them.
const INCUMBENT: Warm = Warm::Targets { ip: 0, minimum: 0, eni: 1, prefix: 1 };
/// Runs of each workload, each with chance of its own.
const SEEDS: u64 = 5;

/// Measures, in virtual time: the same on every machine.
///
/// # Errors
/// The instance type is unknown.
pub(crate) fn run(figures: &mut Figures) -> anyhow::Result<()> {
    say(
        "  steady services, a drain of 56 pods, a cron tick each minute, a mixed day; each 5 times on an m5.xlarge",
    );
    let ours = Warm::DemandDriven;
    let default = all("default", ours, false, false)?;
    let told = all("default, binding known", ours, false, true)?;
    let prefixes = all("default, prefixes", ours, true, false)?;
    let theirs = all("incumbent", INCUMBENT, false, false)?;
    let their_prefixes = all("incumbent, prefixes", INCUMBENT, true, false)?;
    let worst = default.over_bound.max(told.over_bound).max(prefixes.over_bound);
    figures.judge("held_over_bound", worst, "×", Must::AtMost(1.0), "the worst of any run");
    let share = |s: &Summary| format!("with prefixes {:.3}", s.idle_share);
    figures.note("idle_share_default", default.idle_share, "", &share(&prefixes));
    figures.note("idle_share_incumbent", theirs.idle_share, "", &share(&their_prefixes));
    let ms = |waits: &Waits| waits.percentile(99).as_secs_f64() * 1_000.0;
    let remark = format!("all ADDs; binding known {:.0}", ms(&told.all));
    figures.note("wait_p99_ms_default", ms(&default.all), "ms", &remark);
    figures.note("wait_p99_ms_incumbent", ms(&theirs.all), "ms", "all ADDs");
    let near = ms(&default.with_room).max(ms(&told.with_room)).max(ms(&prefixes.with_room));
    figures.judge("wait_with_room_p99_ms", near, "ms", Must::AtMost(1_000.0), "no ENI to attach");
    let far = ms(&default.without_room).max(ms(&told.without_room)).max(ms(&prefixes.without_room));
    figures.judge("wait_for_eni_p99_ms", far, "ms", Must::AtMost(12_000.0), "an ENI to attach");
    Ok(())
}

fn all(who: &str, warm: Warm, prefixes: bool, binding_known: bool) -> anyhow::Result<Summary> {
    let node = Node { instance_type: "m5.xlarge".into(), prefixes, warm, max_pods: None };
    let mut reports: Vec<Report> = Vec::new();
    for workload in &STANDARD {
        let mut of_kind = Vec::new();
        for seed in 1..=SEEDS {
            let (steps, lasts) = (workload.make)(seed);
            of_kind.push(play(&Scenario { binding_known, seed, ..Scenario::on(&node, steps, lasts)? }));
        }
        let s = Summary::of(&of_kind);
        say(&format!(
            "    {who:<24} {:<16} held/allowed {:.3}  idle {:4.1} %  p99 with room {:>8?}, without {:>8?}  {:.0} calls",
            workload.name,
            s.over_bound,
            s.idle_share * 100.0,
            s.with_room.percentile(99),
            s.without_room.percentile(99),
            s.calls
        ));
        reports.extend(of_kind);
    }
    Ok(Summary::of(&reports))
}
