//! What dead nodes left behind, asked for by an operator (pain-points C36 to C38): who is told what, and when.

use podwire_pool::settings::LeakPolicy;
use podwire_pool::{
    Answer, Cause, Ec2Call, EniId, FailureClass, Input, InstanceId, LeakReport, LeakVerdict, ObservedEni,
    RequestId,
};

use crate::bench::{Bench, eni, settings};

const DEAD: &str = "i-dead";

/// A node of the cluster "ours", and so many ENIs that a dead node of it left behind.
fn left_behind(count: u8, leaks: LeakPolicy) -> Bench {
    let mut bench = Bench::new(podwire_pool::Settings { cluster: Some("ours".into()), leaks, ..settings() });
    bench.see_metadata();
    bench.run();
    bench.dead.insert(InstanceId::new(DEAD));
    for number in 0..count {
        let tags = [
            ("node.k8s.amazonaws.com/instance_id", DEAD),
            ("node.k8s.amazonaws.com/createdAt", "yesterday"),
            ("cluster.k8s.amazonaws.com/name", "ours"),
        ];
        let tags = tags.map(|(key, value)| (key.into(), value.into())).to_vec();
        let mut leak = ObservedEni { tags: Some(tags), ..eni(&format!("eni-left-{number}"), 0) };
        (leak.attached, leak.attachment, leak.instance) = (false, None, None);
        bench.enis.insert(leak.id.clone(), leak);
    }
    bench
}

fn ask(bench: &mut Bench, request: u64, delete: bool) {
    bench.input(Input::Leaks { request: RequestId(request), delete });
    bench.run();
}

fn told(bench: &Bench, request: u64) -> LeakReport {
    match bench.answer(request) {
        Some(Answer::Leaks(report)) => report,
        other => panic!("{other:?}"),
    }
}

fn deletes(bench: &Bench) -> usize {
    bench.all_calls.iter().filter(|c| matches!(c, Ec2Call::Delete { .. })).count()
}

/// The first look suspects, the second one ten minutes later proves, and only an order deletes.
#[test]
fn order_deletes_only_what_was_seen_twice() {
    let mut bench = left_behind(2, LeakPolicy::DryRun);
    ask(&mut bench, 1, true);
    let first = told(&bench, 1);
    assert!(first.rows.iter().all(|r| r.since == Some(bench.now) && !r.proven && !r.deleted), "{first:?}");
    let row = &first.rows[0];
    assert_eq!(row.verdict, Some(LeakVerdict::Leaked(InstanceId::new(DEAD))));
    assert_eq!(row.created_at.as_deref(), Some("yesterday"));
    bench.pass(600_000);
    ask(&mut bench, 2, false);
    assert!(told(&bench, 2).rows.iter().all(|r| r.proven && !r.deleted), "{:?}", told(&bench, 2));
    assert_eq!(deletes(&bench), 0);
    ask(&mut bench, 3, true);
    assert!(told(&bench, 3).rows.iter().all(|r| r.deleted), "{:?}", told(&bench, 3));
    assert_eq!((deletes(&bench), bench.removed.len()), (2, 2));
    ask(&mut bench, 4, true);
    assert_eq!(told(&bench, 4).rows, Vec::new());
}

/// Where the daemon collects by itself, who asks is told at once and does not wait for the collection.
#[test]
fn asker_does_not_wait_for_the_daemons_own_collection() {
    let mut bench = left_behind(3, LeakPolicy::Delete);
    ask(&mut bench, 1, false);
    assert!(told(&bench, 1).rows.iter().all(|r| !r.proven));
    bench.pass(600_000);
    assert_eq!(bench.removed.len(), 3, "proven by the look that followed by itself");
    ask(&mut bench, 2, false);
    assert_eq!(told(&bench, 2).rows, Vec::new());
}

/// A daemon that never looks by itself looks when it is asked, and only then.
#[test]
fn ignoring_daemon_looks_when_asked() {
    let mut bench = left_behind(1, LeakPolicy::Ignore);
    ask(&mut bench, 1, false);
    bench.pass(600_000);
    assert_eq!(told(&bench, 1).rows.len(), 1);
    ask(&mut bench, 2, true);
    assert_eq!(bench.removed.len(), 1);
}

/// An owner that lives after all (a describe may lag) takes all proof away.
#[test]
fn living_owner_takes_the_proof_away() {
    let mut bench = left_behind(1, LeakPolicy::DryRun);
    ask(&mut bench, 1, false);
    bench.dead.clear();
    bench.pass(600_000);
    ask(&mut bench, 2, true);
    let row = told(&bench, 2).rows[0].clone();
    assert_eq!(row.verdict, Some(LeakVerdict::OwnerAlive(InstanceId::new(DEAD))));
    assert_eq!((row.since, row.proven, deletes(&bench)), (None, false, 0));
}

/// An order ends after fifty deletions; the rest is told, and goes with the next one.
#[test]
fn order_is_bounded() {
    let mut bench = left_behind(60, LeakPolicy::DryRun);
    ask(&mut bench, 1, false);
    bench.pass(600_000);
    ask(&mut bench, 2, true);
    let report = told(&bench, 2);
    assert_eq!(
        (bench.removed.len(), report.rows.iter().filter(|r| !r.deleted && r.proven).count()),
        (50, 10)
    );
    bench.pass(60_000);
    ask(&mut bench, 3, true);
    assert_eq!(bench.removed.len(), 60);
}

/// EC2 refuses the deletion: told with the cause, the others are not tried just so, and the proof has to be made anew.
#[test]
fn refused_deletion_is_told_and_not_repeated_for_each() {
    let mut bench = left_behind(3, LeakPolicy::DryRun);
    ask(&mut bench, 1, false);
    bench.pass(600_000);
    bench.input(Input::Leaks { request: RequestId(2), delete: true });
    for _ in 0..2 {
        bench.failures.push(FailureClass::Denied);
    }
    // The look and the owners are refused first.
    bench.run();
    assert!(matches!(bench.answer(2), Some(Answer::Refused(Cause::Denied { .. }))), "{:?}", bench.answer(2));
    bench.failures.clear();
    bench.pass(7_200_000);
    ask(&mut bench, 3, false);
    bench.input(Input::Leaks { request: RequestId(4), delete: true });
    bench.ec2_holds = true;
    bench.run();
    // The look, then the owners; the first deletion is refused.
    bench.ec2_holds = false;
    bench.fail_after(2, FailureClass::Denied);
    bench.run();
    let report = told(&bench, 4);
    assert_eq!(deletes(&bench), 1);
    let failed: Vec<_> = report.rows.iter().filter(|r| r.failure.is_some()).collect();
    assert!(failed.len() == 1 && !failed[0].proven, "{report:?}");
    assert!(matches!(report.held_up, Some(Cause::Denied { .. })), "{report:?}");
}

/// A caller that goes away takes its order along.
#[test]
fn order_of_nobody_is_none() {
    let mut bench = left_behind(1, LeakPolicy::DryRun);
    ask(&mut bench, 1, false);
    bench.pass(600_000);
    bench.ec2_holds = true;
    bench.input(Input::Leaks { request: RequestId(2), delete: true });
    bench.input(Input::Abandon { request: RequestId(2) });
    bench.ec2_holds = false;
    bench.pass(60_000);
    assert_eq!((bench.answer(2), deletes(&bench)), (None, 0));
}

/// A daemon that stops, or cannot write, tells so instead of keeping people waiting.
#[test]
fn stopping_daemon_refuses_at_once() {
    let mut bench = left_behind(1, LeakPolicy::Delete);
    bench.input(Input::Stop);
    ask(&mut bench, 1, false);
    assert_eq!(bench.answer(1), Some(Answer::Refused(Cause::Stopping)));
}

/// The subnet is full of what dead nodes left behind, and pods wait for it: the search goes on all the same.
#[test]
fn waiting_pods_do_not_stop_the_search_that_helps_them() {
    let mut bench = left_behind(1, LeakPolicy::Delete);
    ask(&mut bench, 1, false);
    bench.free_addresses = 0;
    for n in 0..4 {
        bench.add_until(
            10 + n,
            &format!("pod-{n}"),
            bench.now,
            bench.now.after(std::time::Duration::from_secs(7_200)),
        );
    }
    bench.pass(900_000);
    assert!(bench.removed.contains(&EniId::new("eni-left-0")), "{:?}", bench.pool.growth_now());
}

/// What is told of a proven leak says whether it goes: by the policy, or by an order.
#[test]
fn proven_leak_is_told_with_what_becomes_of_it() {
    for (policy, order, goes) in [
        (LeakPolicy::DryRun, false, false),
        (LeakPolicy::DryRun, true, true),
        (LeakPolicy::Delete, false, true),
    ] {
        let mut bench = left_behind(1, policy);
        ask(&mut bench, 1, order);
        bench.now = bench.now.after(std::time::Duration::from_secs(601));
        ask(&mut bench, 2, order);
        let told = bench.causes.iter().filter_map(|c| match c {
            Cause::LeakedEni { deleted, .. } => Some(*deleted),
            _ => None,
        });
        assert_eq!(told.collect::<Vec<_>>(), [goes], "{policy:?} {order}");
    }
}

/// A node that is cordoned looks for nothing by itself; it does when somebody asks.
#[test]
fn cordoned_node_looks_only_when_asked() {
    let looks = |bench: &Bench| bench.all_calls.iter().filter(|c| matches!(c, Ec2Call::FindDetached)).count();
    let mut bench = left_behind(1, LeakPolicy::Delete);
    bench.input(Input::Cordoned(true));
    bench.pass(2 * 86_400_000);
    assert_eq!(looks(&bench), 0);
    ask(&mut bench, 1, false);
    assert_eq!((looks(&bench), told(&bench, 1).rows.len()), (1, 1));
    bench.input(Input::Cordoned(false));
    bench.pass(2 * 86_400_000);
    assert!(looks(&bench) > 1);
}

/// What shows an attachment or an instance is in use, whatever else is missing; what is marked or made by others is theirs.
#[test]
fn what_is_attached_marked_or_made_by_others_is_no_leak() {
    type Change = fn(&mut ObservedEni);
    let no_manage = || ("node.k8s.amazonaws.com/no_manage".into(), "true".into());
    let changes: [(Change, LeakVerdict); 3] = [
        (|leak| leak.attachment = Some(podwire_pool::AttachmentId::new("a")), LeakVerdict::InUse),
        (|leak| leak.instance = Some(InstanceId::new("i-other")), LeakVerdict::InUse),
        (|leak| leak.kind = Some("trunk".into()), LeakVerdict::NotOurs),
    ];
    for (change, verdict) in changes {
        let mut bench = left_behind(1, LeakPolicy::DryRun);
        bench.enis.values_mut().filter(|e| !e.attached).for_each(change);
        ask(&mut bench, 1, false);
        assert_eq!(told(&bench, 1).rows[0].verdict, Some(verdict));
    }
    let mut bench = left_behind(1, LeakPolicy::DryRun);
    for leak in bench.enis.values_mut().filter(|e| !e.attached) {
        leak.tags.as_mut().unwrap().push(no_manage());
    }
    ask(&mut bench, 1, false);
    assert_eq!(told(&bench, 1).rows[0].verdict, Some(LeakVerdict::NotOurs));
}

/// The search makes one call at a time, and calls for other things do not keep it from that.
#[test]
fn search_makes_one_call_at_a_time() {
    let looks = |bench: &Bench| bench.all_calls.iter().filter(|c| matches!(c, Ec2Call::FindDetached)).count();
    let mut bench = left_behind(1, LeakPolicy::Ignore);
    bench.ec2_holds = true;
    for n in 10..13 {
        bench.add(n, &format!("pod-{n}"));
    }
    assert!(bench.pool.stats().in_flight > 0, "growth is under way");
    ask(&mut bench, 1, false);
    assert_eq!(looks(&bench), 1);
    ask(&mut bench, 2, false);
    assert_eq!(looks(&bench), 1);
}

/// On EKS a tag says who made an ENI: one that the network plugin made may be a leak, any other is not ours to judge.
#[test]
fn maker_of_an_eni_decides_whose_it_is() {
    for (maker, ours) in [("amazon-vpc-cni", true), ("eks", false)] {
        let mut bench = left_behind(1, LeakPolicy::DryRun);
        for leak in bench.enis.values_mut().filter(|e| !e.attached) {
            leak.tags.as_mut().unwrap().push(("eks:eni:owner".into(), maker.into()));
        }
        ask(&mut bench, 1, false);
        let verdict = told(&bench, 1).rows[0].verdict.clone();
        assert_eq!(verdict == Some(LeakVerdict::NotOurs), !ours, "{maker}: {verdict:?}");
    }
}
