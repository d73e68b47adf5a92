//! Named scenarios of pain-points §3 C, what EC2 and metadata do: the pool's side of them.

use std::net::{IpAddr, Ipv4Addr};

use podwire_pool::settings::{Limits, Mode};
use podwire_pool::{Cause, Ec2Call, FailureClass};
use podwire_sim::ec2::Ec2;
use podwire_sim::runtime::Life;
use podwire_sim::script::{Script, settings};
use podwire_sim::world::{Action, Blur, Fate};

fn two_enis() -> Script {
    let mut small = settings();
    small.limits = Limits { enis: 2, ipv4_per_eni: 4 };
    Script::boot(small, 6).unwrap()
}

/// C24: the ENI was created, and EC2 says NotFound to its attachment for a while: tried again, never made twice.
#[test]
fn attach_answered_not_found_makes_no_second_eni() {
    let mut script = two_enis();
    script.start(0..2).unwrap();
    script.pass(3_000).unwrap();
    script.fate_of = |call, _| {
        let attach = matches!(call, Ec2Call::Attach { .. });
        attach.then_some(Fate::Refused(FailureClass::NotFound))
    };
    script.start(2..5).unwrap();
    script.pass(4_000).unwrap();
    script.fate_of = |_, _| None;
    script.pass(30_000).unwrap();
    assert_eq!((script.living(), script.world.marks.times("create")), (5, 1));
}

/// C25: EC2 does it, the answer is lost; what a Describe confirms enters the pool, once.
#[test]
fn assignments_with_a_lost_answer_are_found_by_describe() {
    let mut script = two_enis();
    script.fate_of = |call, _| matches!(call, Ec2Call::Assign { .. }).then_some(Fate::LostDone);
    script.start(0..3).unwrap();
    script.pass(15_000).unwrap();
    assert_eq!(script.living(), 3);
    assert!(script.held() <= 9, "{} held: asked for again what was there", script.held());
}

/// C25: attaching and detaching take EC2 ten seconds, in which a Describe says so.
#[test]
fn slow_attachment_is_neither_missing_nor_ready() {
    let mut script = two_enis();
    script.world.ec2.moves_take = 10_000;
    script.start(0..6).unwrap();
    script.pass(8_000).unwrap();
    assert_eq!(script.living(), 3);
    script.pass(30_000).unwrap();
    assert_eq!(script.living(), 6);
    script.stop(0..6).unwrap();
    script.pass(600_000).unwrap();
    assert_eq!((script.enis(), script.world.ec2.enis.len()), (1, 1));
}

/// C27, L6: four of five calls are throttled for 15 minutes: the load stays small, pods still come, those that live are
/// not touched.
#[test]
fn four_of_five_calls_throttled_still_make_progress() {
    let mut script = Script::boot(settings(), 40).unwrap();
    script.start(0..10).unwrap();
    script.pass(5_000).unwrap();
    script.fate_of = |_, n| (n % 5 != 0).then_some(Fate::Refused(FailureClass::Throttled));
    let calls = |s: &Script| s.world.tally.changes + s.world.tally.describes;
    let before = calls(&script);
    for step in 1..10 {
        try_again(&mut script);
        script.pass(100_000).unwrap();
        assert!(script.living() >= 10, "minute {step}");
    }
    assert!(script.living() > 10, "{} live", script.living());
    assert_eq!(script.black_holes().len(), 0);
    let load = calls(&script) - before;
    assert!(load <= 120, "{load} calls in 15 minutes");
    script.fate_of = |_, _| None;
    for _ in 0..6 {
        try_again(&mut script);
        script.pass(100_000).unwrap();
    }
    assert_eq!(script.living(), 40);
}

/// The runtime tears down what failed, and tries again.
fn try_again(script: &mut Script) {
    for pod in 0..script.world.runtime.pods.len() {
        if script.world.runtime.pods[pod].life == Life::Failed {
            script.act(Action::Stop(pod)).unwrap();
        }
    }
    script.pass(1_000).unwrap();
    script.start(0..script.world.runtime.pods.len()).unwrap();
}

/// C28: a restart of the daemon asks EC2 once at most.
#[test]
fn restart_costs_one_describe_at_most() {
    let mut script = Script::boot(settings(), 20).unwrap();
    script.start(0..20).unwrap();
    script.pass(1_800_000).unwrap();
    for _ in 0..10 {
        let (describes, changes) = (script.world.tally.describes, script.world.tally.changes);
        script.act(Action::Restart(None)).unwrap();
        script.act(Action::Metadata(0, Blur::Clear)).unwrap();
        script.pass(60_000).unwrap();
        let more = script.world.tally.describes - describes;
        assert!(more <= 1, "{more} describes");
        assert_eq!(script.world.tally.changes, changes);
    }
}

/// C29: the subnet is full; seconds after it has room again pods get their addresses.
#[test]
fn exhausted_subnet_recovers_within_seconds() {
    let mut script = Script::boot(settings(), 20).unwrap();
    script.start(0..5).unwrap();
    script.pass(3_000).unwrap();
    script.act(Action::Subnet(-20_000, false)).unwrap();
    script.start(5..20).unwrap();
    script.pass(60_000).unwrap();
    assert!(script.living() < 20, "{} live", script.living());
    assert!(matches!(script.world.pool.stats().growth_waits, Some(Cause::SubnetExhausted { .. })));
    script.stop(5..20).unwrap();
    script.act(Action::Subnet(1_000, false)).unwrap();
    script.pass(1_000).unwrap();
    script.start(5..20).unwrap();
    script.pass(31_000).unwrap();
    assert_eq!(script.living(), 20);
}

/// C31: the API server tells of pods that never come: no more is held than the node may run, and no ENI after ENI.
#[test]
fn demand_that_never_comes_is_bounded() {
    let mut script = Script::boot(settings(), 5).unwrap();
    script.demand(Some(5_000)).unwrap();
    script.pass(600_000).unwrap();
    assert!(script.held() <= 58, "{} held", script.held());
    assert!(script.world.marks.times("create") <= 3);
    script.demand(Some(0)).unwrap();
    script.pass(3_600_000).unwrap();
    assert!(script.held() <= 2, "{} held", script.held());
}

/// C33: metadata does not answer at all, then one ENI without leaves: EC2 is asked, the others go on.
#[test]
fn broken_metadata_blocks_nobody() {
    let mut script = two_enis();
    script.start(0..6).unwrap();
    script.pass(20_000).unwrap();
    script.act(Action::Restart(None)).unwrap();
    script.stop(0..2).unwrap();
    script.pass(40_000).unwrap();
    script.start(0..2).unwrap();
    script.pass(2_000).unwrap();
    assert_eq!(script.living(), 6);
    script.act(Action::Metadata(0, Blur::Leaves)).unwrap();
    script.stop(0..2).unwrap();
    script.pass(40_000).unwrap();
    script.start(0..2).unwrap();
    script.pass(2_000).unwrap();
    assert_eq!((script.living(), script.black_holes().len()), (6, 0));
}

/// C34: the role lacks one action, whichever: pods that live are safe, what can be served is, the cause is named, and with
/// the permission everything comes right.
#[test]
fn one_missing_permission_degrades_and_heals() {
    let denied: [fn(&Ec2Call, u64) -> Option<Fate>; 6] = [
        |c, _| matches!(c, Ec2Call::Create { .. }).then_some(Fate::Refused(FailureClass::Denied)),
        |c, _| matches!(c, Ec2Call::Attach { .. }).then_some(Fate::Refused(FailureClass::Denied)),
        |c, _| {
            matches!(c, Ec2Call::DeleteOnTermination { .. }).then_some(Fate::Refused(FailureClass::Denied))
        },
        |c, _| matches!(c, Ec2Call::Detach { .. }).then_some(Fate::Refused(FailureClass::Denied)),
        |c, _| matches!(c, Ec2Call::Describe { .. }).then_some(Fate::Refused(FailureClass::Denied)),
        |c, _| matches!(c, Ec2Call::Unassign { .. }).then_some(Fate::Refused(FailureClass::Denied)),
    ];
    for (at, denied) in denied.into_iter().enumerate() {
        let mut script = two_enis();
        script.fate_of = denied;
        script.start(0..6).unwrap();
        script.pass(60_000).unwrap();
        let least = if at < 2 { 3 } else { 6 };
        assert!(script.living() >= least, "{} live without action {at}", script.living());
        script.stop(0..6).unwrap();
        script.pass(600_000).unwrap();
        let told = script.world.marks.times("denied");
        assert!(told > 0 || at == 4, "nobody was told of action {at}");
        assert!(told <= 60, "told {told} times");
        script.fate_of = |_, _| None;
        script.pass(1_300_000).unwrap();
        script.start(0..6).unwrap();
        script.pass(70_000).unwrap();
        assert_eq!(script.living(), 6, "after action {at} was allowed");
        let outlive = script.world.ec2.enis.values().skip(1).filter(|e| !e.seen.goes_with_instance);
        assert_eq!(outlive.count(), 0, "every ENI goes with the instance");
    }
}

/// C35: the machine sleeps for ten minutes, or the daemon is stopped for so long: what cooled has cooled, nobody is lost.
#[test]
fn sleeping_for_ten_minutes_breaks_nothing() {
    let mut script = two_enis();
    script.start(0..6).unwrap();
    script.pass(20_000).unwrap();
    script.stop(0..3).unwrap();
    script.pass(1_000).unwrap();
    script.start(0..3).unwrap();
    script.act(Action::Pause(600_000)).unwrap();
    script.pass(2_000).unwrap();
    script.stop(0..3).unwrap();
    script.pass(1_000).unwrap();
    script.start(0..3).unwrap();
    script.pass(40_000).unwrap();
    assert_eq!((script.living(), script.black_holes().len()), (6, 0));
}

/// C36: the daemon dies between detach and delete, at any moment of it: the ENI is deleted afterwards.
#[test]
fn eni_detached_before_a_crash_is_deleted_after_it() {
    for later in (0..30_000).step_by(1_000) {
        let mut script = two_enis();
        script.world.ec2.moves_take = 3_000;
        script.start(0..6).unwrap();
        script.pass(20_000).unwrap();
        script.stop(0..6).unwrap();
        for _ in 0..400 {
            if script.world.marks.times("detach") > 0 {
                break;
            }
            script.pass(1_000).unwrap();
        }
        script.pass(later / 10).unwrap();
        script.act(Action::Crash(0, usize::try_from(later / 1_000 % 3).unwrap())).unwrap();
        script.act(Action::Metadata(0, Blur::Clear)).unwrap();
        script.pass(600_000).unwrap();
        assert_eq!((script.enis(), script.world.ec2.enis.len()), (1, 1), "crash {} ms after", later / 10);
    }
}

/// C36: pods come at any moment at which an ENI leaves. EC2 keeps its place for three seconds after it was asked to detach
/// it; no false limit is learned from that, and all get their addresses by another one.
#[test]
fn pods_that_come_while_an_eni_leaves_get_the_next_one() {
    let leaving = || {
        let mut script = two_enis();
        script.world.ec2.moves_take = 3_000;
        script.start(0..6).unwrap();
        script.pass(20_000).unwrap();
        script.stop(0..6).unwrap();
        script
    };
    let mut script = leaving();
    let mut until = 0;
    while script.world.marks.times("detach") == 0 {
        script.pass(100).unwrap();
        until += 100;
    }
    for at in (until - 1_000..until + 8_000).step_by(100) {
        let mut script = leaving();
        script.pass(at).unwrap();
        script.start(0..6).unwrap();
        script.pass(40_000).unwrap();
        assert_eq!((script.living(), script.world.pool.stats().max_enis), (6, 2), "{at} ms, detach {until}");
    }
}

/// C39: ENIs of others of every kind (unmanaged, trunk, EFA, another node's, on another card) come and are left alone,
/// across restarts.
#[test]
fn foreign_enis_of_every_kind_are_left_alone_across_restarts() {
    for kinds in 0..5 {
        let mut script = Script::boot(settings(), 28).unwrap();
        for _ in 0..kinds {
            script.act(Action::Foreign).unwrap();
            script.world.ec2.enis.retain(|_, e| e.ours);
        }
        script.act(Action::Foreign).unwrap();
        for round in 0..4u32 {
            script.act(Action::Metadata(0, Blur::Clear)).unwrap();
            script.pass(400_000).unwrap();
            script.start(0..28).unwrap();
            script.pass(30_000).unwrap();
            assert_eq!(script.living(), 28, "kind {kinds}, round {round}");
            script.stop(0..28).unwrap();
            script.pass(400_000).unwrap();
            script.act(Action::Restart(None)).unwrap();
        }
        assert_eq!(script.world.ec2.enis.values().filter(|e| !e.ours).count(), 1);
    }
}

/// C40: addresses are marked to go and pods come, at every moment of the way: nobody gets one that goes, all get one.
#[test]
fn release_never_races_an_allocation() {
    for later in (0..2_000).step_by(50) {
        let mut script = two_enis();
        script.start(0..3).unwrap();
        script.pass(5_000).unwrap();
        script.stop(0..3).unwrap();
        for _ in 0..200 {
            if script.world.marks.times("unassign") > 0 {
                break;
            }
            script.pass(500).unwrap();
        }
        script.pass(later).unwrap();
        script.start(0..3).unwrap();
        script.pass(5_000).unwrap();
        assert_eq!((script.living(), script.black_holes().len()), (3, 0), "{later} ms after");
    }
}

/// C40b: the launch template put prefixes and addresses on the primary ENI: used from the first ADD on without any change
/// of EC2, and given back only when nobody uses them.
#[test]
fn launch_time_prefixes_are_adopted_without_a_call() {
    let mut with_prefixes = settings();
    with_prefixes.mode = Mode::Prefix;
    let launched = |ec2: &mut Ec2| {
        for eni in ec2.enis.values_mut() {
            eni.seen.prefixes.insert("10.0.200.0/28".parse().unwrap());
            eni.seen.singles.insert(IpAddr::V4(Ipv4Addr::new(10, 0, 100, 1)));
        }
    };
    let mut script = Script::boot_in(with_prefixes, 16, launched).unwrap();
    script.start(0..16).unwrap();
    script.pass(500).unwrap();
    assert_eq!(script.living(), 16);
    assert_eq!((script.world.marks.times("assign"), script.world.tally.describes), (0, 0));
    script.stop(0..16).unwrap();
    script.pass(10_000).unwrap();
    assert_eq!(script.world.marks.times("unassign"), 0, "they cool");
}
