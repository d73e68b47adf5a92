//! The default targets in the what-if: frugal and fast on the standard workloads.

use std::time::Duration;

use podwire_pool::settings::Warm;
use podwire_whatif::workloads::{STANDARD, Workload};
use podwire_whatif::{Change, Node, NodeError, Scenario, Step, Subnet, Summary, run};

/// The incumbent's, as its manifest sets them.
const INCUMBENT: Warm = Warm::Targets { ip: 0, minimum: 0, eni: 1, prefix: 1 };

fn xlarge(prefixes: bool, warm: Warm) -> Node {
    Node { instance_type: "m5.xlarge".into(), prefixes, warm, max_pods: None }
}

fn summary(workload: &Workload, node: &Node, binding_known: bool) -> Summary {
    let seeds = if workload.name == "drain" { 60 } else { 6 };
    let reports = (1..=seeds).map(|seed| {
        let (steps, lasts) = (workload.make)(seed);
        run(&Scenario { binding_known, seed, ..Scenario::on(node, steps, lasts).expect("a known type") })
    });
    Summary::of(&reports.collect::<Vec<_>>())
}

fn line(who: &str, workload: &str, s: &Summary) -> String {
    let waits = |w: &podwire_whatif::Waits| {
        format!(
            "{:>6} p50 {:>7?} p99 {:>8?} max {:>8?}",
            w.count(),
            w.percentile(50),
            w.percentile(99),
            w.longest()
        )
    };
    format!(
        "{who:<32} {workload:<16} held/allowed {:.3} idle {:>4.1} %  with room {}  without {}  calls {:.0}",
        s.over_bound,
        s.idle_share * 100.0,
        waits(&s.with_room),
        waits(&s.without_room),
        s.calls
    )
}

/// Every figure without and with the signal of pods that are bound and not wired yet.
#[test]
fn default_targets_are_frugal_and_fast_on_four_workloads() {
    let mut missed = Vec::new();
    for prefixes in [false, true] {
        let what = if prefixes { "prefixes" } else { "single addresses" };
        for workload in &STANDARD {
            for known in [false, true] {
                let s = summary(workload, &xlarge(prefixes, Warm::DemandDriven), known);
                let who = format!("{what}{}", if known { ", binding known" } else { "" });
                let text = line(&who, workload.name, &s);
                println!("{text}");
                let fast = s.with_room.percentile(99) <= Duration::from_secs(1)
                    && s.without_room.percentile(99) <= Duration::from_secs(12);
                if s.over_bound > 1.0 || !fast || s.unserved > 0 || s.throttled > 0 {
                    missed.push(text);
                }
            }
            let incumbent = summary(workload, &xlarge(prefixes, INCUMBENT), false);
            println!("{}", line(&format!("{what}, incumbent's targets"), workload.name, &incumbent));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn the_same_question_has_the_same_answer() {
    let (steps, lasts) = (STANDARD[1].make)(7);
    let scenario = Scenario::on(&xlarge(false, Warm::DemandDriven), steps, lasts).unwrap();
    assert_eq!(run(&scenario), run(&scenario));
    assert_ne!(run(&scenario), run(&Scenario { seed: 2, ..scenario.clone() }), "the seed matters");
}

#[test]
fn exhausted_subnet_shows_as_pods_without_address() {
    let steps = (0..20).map(|pod| Step { at: Duration::from_secs(5), pod, change: Change::Start }).collect();
    let lasts = Duration::from_secs(300);
    let mut scenario = Scenario::on(&xlarge(false, Warm::DemandDriven), steps, lasts).unwrap();
    scenario.subnets = vec![Subnet { addresses: 12, prefixes: 0 }];
    let report = run(&scenario);
    assert_eq!((report.never, report.held.peak().pods), (8, 12), "{report}");
    assert!(report.refused >= 8 && report.calls.failed > 0, "{report}");
}

#[test]
fn small_budget_shows_as_throttled_calls() {
    let (steps, lasts) = (STANDARD[3].make)(1);
    let mut scenario = Scenario::on(&xlarge(false, Warm::DemandDriven), steps, lasts).unwrap();
    scenario.lasts = Duration::from_secs(4 * 3_600);
    scenario.model.changing = podwire_whatif::model::Budget { burst: 1, per_second: 0 };
    let report = run(&scenario);
    assert!(report.calls.throttled > 0, "{report}");
}

#[test]
fn node_that_cannot_be_is_refused() {
    let unknown = Node { instance_type: "m99.huge".into(), ..xlarge(false, INCUMBENT) };
    assert_eq!(unknown.settings(), Err(NodeError::UnknownType("m99.huge".into())));
    let xen = Node { instance_type: "m4.xlarge".into(), ..xlarge(true, INCUMBENT) };
    assert_eq!(xen.settings(), Err(NodeError::NoPrefixes("m4.xlarge".into())));
}
