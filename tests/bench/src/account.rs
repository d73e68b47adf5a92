//! The node as one of many in an account, on a virtual clock: a storm of starts, and an idle day. The pools are the
//! product's; EC2, hosts and disks are the simulator's.

use anyhow::{Context, ensure};
use podwire_e2e::report::say;
use podwire_pool::Settings;
use podwire_pool::settings::{LeakPolicy, Share, SubnetPolicy};
use podwire_sim::script::{Script, settings};
use podwire_sim::storm::{Storm, naive, storm};

use crate::figures::{Figures, Must};

/// Nodes that start at once: an account with a busy autoscaler. *Source*: our choice.
const NODES: u32 = 200;
/// Storms whose worst is kept.
const STORMS: u64 = 5;
/// Pods of the idle node. *Source*: our choice.
const PODS: usize = 20;

pub(crate) fn run(figures: &mut Figures) -> anyhow::Result<()> {
    say("virtual clock; buckets of 50 and 5/s for each mutating action, 100 and 20/s for each reading one");
    storms(figures)?;
    idle(figures)
}

fn storms(figures: &mut Figures) -> anyhow::Result<()> {
    let nodes = usize::try_from(NODES)?;
    let known = Share { nodes: Some(NODES), percent: 100 };
    // The slowest storm, and the largest share of any.
    let worst = |share| -> anyhow::Result<(Storm, f64)> {
        let mut all = (1..=STORMS).map(|seed| storm(nodes, share, seed)).collect::<Result<Vec<_>, _>>()?;
        let rejected = all.iter().map(Storm::rejected_share).fold(0.0, f64::max);
        all.sort_by_key(|storm| storm.served_ms);
        Ok((all.pop().context("no storm was run")?, rejected))
    };
    let ((ours, rejected), (blind, blind_rejected)) = (worst(known)?, worst(Share::default())?);
    let plain = naive(nodes, 1);
    let remark = format!("worst of {STORMS} storms of {NODES} nodes");
    figures.judge("storm_rejected_share", rejected, "", Must::AtMost(0.10), &remark);
    let remark = format!("worst of {STORMS}: {} ms, arithmetic {} ms", ours.served_ms, ours.arithmetic_ms);
    figures.judge("storm_time_over_arithmetic", ours.over_arithmetic(), "×", Must::AtMost(1.3), &remark);
    let remark = "PODWIRE_EC2_NODES not set";
    figures.note("storm_rejected_share_unknown", blind_rejected, "", remark);
    figures.note("storm_time_over_arithmetic_unknown", blind.over_arithmetic(), "×", remark);
    let remark = "three tries with jitter, then each 5 s";
    figures.note("storm_rejected_share_naive", plain.rejected_share(), "", remark);
    figures.note("storm_time_over_arithmetic_naive", plain.over_arithmetic(), "×", remark);
    Ok(())
}

fn idle(figures: &mut Figures) -> anyhow::Result<()> {
    let product = Settings {
        cluster: Some("idle".into()),
        subnets: SubnetPolicy::default(),
        leaks: LeakPolicy::Delete,
        ..settings()
    };
    let mut script = Script::boot(product, PODS)?;
    let calls = |script: &Script| script.world.tally.changes + script.world.tally.describes;
    script.start(0..PODS)?;
    script.pass(600_000)?;
    ensure!(script.living() == PODS, "{} of {PODS} pods live", script.living());
    let before = calls(&script);
    script.pass(3_600_000)?;
    let hour = calls(&script) - before;
    script.pass(23 * 3_600_000)?;
    let day = calls(&script) - before;
    let looks = script.world.marks.times("find detached");
    figures.judge("idle_hour_calls", whole(hour), "calls", Must::AtMost(0.0), "virtual time, 20 pods");
    let remark = format!("{looks} of them the look for leaks");
    figures.judge("idle_day_calls", whole(day), "calls", Must::AtMost(1.0), &remark);
    Ok(())
}

/// *Precision*: exact, counts are far below 2⁵³.
#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn whole(count: u64) -> f64 {
    count as f64
}
