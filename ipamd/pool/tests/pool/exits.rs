//! ENIs that come and go against resistance: attaches and detaches that fail, hosts that do not let go, places that somebody
//! else has taken meanwhile.

use podwire_pool::settings::Limits;
use podwire_pool::{
    Cause, DeviceIndex, Ec2Call, Ec2Failure, Effect, EniId, FailureClass, HostChange, Input, NetworkCard,
    Record, Settings,
};

use crate::bench::{Bench, eni, settings};
use crate::scenes::{self, second};

/// A node with four pods, the last of them on a second ENI, at rest.
fn grown() -> Bench {
    let mut bench = scenes::grown();
    bench.pass(60_000);
    bench
}

fn count(bench: &Bench, which: impl Fn(&Ec2Call) -> bool) -> usize {
    bench.all_calls.iter().filter(|call| which(call)).count()
}

fn detaches(call: &Ec2Call) -> bool {
    matches!(call, Ec2Call::Detach { .. })
}

fn deletes(call: &Ec2Call) -> bool {
    matches!(call, Ec2Call::Delete { .. })
}

fn describes(call: &Ec2Call) -> bool {
    matches!(call, Ec2Call::Describe { .. })
}

fn unhosts(change: &HostChange) -> bool {
    matches!(change, HostChange::RemoveEni { eni, .. } if *eni == second())
}

/// The pods end but one, so that the second ENI is not needed any more.
fn end_pods(bench: &mut Bench) {
    for n in 2..=4 {
        bench.del(100 + n, &format!("pod-{n}"));
    }
}

/// The second ENI leaves; time goes by until this is so.
fn leaves_until(bench: &mut Bench, so: impl Fn(&Bench) -> bool) {
    end_pods(bench);
    for _ in 0..600 {
        if so(bench) {
            return;
        }
        bench.pass(1_000);
    }
    panic!("it never came to that: {:?}", bench.pool.eni_rows());
}

/// The host fails to let an ENI go: after five tries it is detached all the same, and not before.
#[test]
fn eni_the_host_does_not_let_go_is_detached_after_five_tries() {
    let mut bench = grown();
    bench.broken = Some("RemoveEni");
    leaves_until(&mut bench, |bench| count(bench, detaches) > 0);
    assert_eq!(bench.all_hosts.iter().filter(|change| unhosts(change)).count(), 5);
}

/// Another ENI of ours has the place of one that is leaving: the host's device there is not the leaving one's any more, and
/// what pods of the other need is not taken away.
#[test]
fn host_keeps_the_device_of_an_eni_that_took_a_leaving_ones_place() {
    let mut bench = grown();
    bench.broken = Some("RemoveEni");
    leaves_until(&mut bench, |bench| bench.all_hosts.iter().any(unhosts));
    let gone = bench.enis.get_mut(&second()).unwrap();
    (gone.attached, gone.attachment, gone.instance) = (false, None, None);
    let mut other = eni("eni-x", 1);
    other.addresses = vec!["10.0.7.7".parse().unwrap()];
    bench.enis.insert(other.id.clone(), other);
    bench.describe();
    bench.broken = None;
    let before = bench.all_hosts.len();
    bench.pass(120_000);
    assert!(!bench.all_hosts[before..].iter().any(unhosts), "{:?}", &bench.all_hosts[before..]);
    assert!(bench.removed.contains(&second()), "{:?}", bench.pool.eni_rows());
}

/// An ENI at the place of one that the host is just taking away is configured after that, or its routes would go, too; one
/// at another place does not wait.
#[test]
fn eni_is_configured_after_the_one_before_at_its_place_is_taken_away() {
    for (device, waits) in [(1, true), (2, false)] {
        let mut bench = grown();
        let open = |bench: &Bench| {
            bench
                .pending
                .iter()
                .any(|e| matches!(e, Effect::Host { change: HostChange::RemoveEni { .. }, .. }))
        };
        end_pods(&mut bench);
        bench.run();
        bench.pass(29_000);
        bench.host_holds = true;
        for _ in 0..600 {
            if open(&bench) {
                break;
            }
            bench.pass(1_000);
        }
        assert!(open(&bench));
        let gone = bench.enis.get_mut(&second()).unwrap();
        (gone.attached, gone.attachment, gone.instance) = (false, None, None);
        let other = eni("eni-x", device);
        bench.enis.insert(other.id.clone(), other);
        bench.describe();
        let configured = |bench: &Bench| {
            bench.all_hosts.iter().any(
                |change| matches!(change, HostChange::ConfigureEni { eni, .. } if *eni == EniId::new("eni-x")),
            )
        };
        assert_eq!(configured(&bench), !waits, "device {device}");
        bench.host_holds = false;
        bench.run();
        assert!(configured(&bench), "device {device}");
    }
}

/// EC2 does not know the attachment: the ENI is detached already, and deleted without another look.
#[test]
fn eni_that_is_detached_already_is_deleted_at_once() {
    let mut bench = grown();
    end_pods(&mut bench);
    for _ in 0..600 {
        bench.ec2_holds = true;
        bench.pass(1_000);
        let detach = |e: &Effect| matches!(e, Effect::Ec2 { call: Ec2Call::Detach { .. }, .. });
        if bench.pending.iter().any(detach) {
            break;
        }
        bench.ec2_holds = false;
        bench.run();
    }
    let gone = bench.enis.get_mut(&second()).unwrap();
    (gone.attached, gone.attachment, gone.instance) = (false, None, None);
    let looked = count(&bench, describes);
    bench.failures = vec![FailureClass::NotFound];
    bench.ec2_holds = false;
    bench.pass(20_000);
    assert!(bench.removed.contains(&second()), "{:?}", bench.pool.eni_rows());
    assert_eq!((count(&bench, detaches), count(&bench, describes) - looked), (1, 0));
}

/// A deletion whose ENI EC2 does not know, or whose answer is lost: two looks tell that it is gone.
#[test]
fn deletion_of_unclear_outcome_is_decided_by_two_looks() {
    for class in [FailureClass::NotFound, FailureClass::Unknown] {
        let mut bench = grown();
        end_pods(&mut bench);
        let mut held = false;
        for _ in 0..600 {
            bench.ec2_holds = true;
            bench.pass(1_000);
            let delete = |e: &Effect| matches!(e, Effect::Ec2 { call: Ec2Call::Delete { .. }, .. });
            if let Some(open) = bench.pending.iter().position(delete) {
                let Effect::Ec2 { op, .. } = bench.pending.remove(open) else { panic!("a call") };
                bench.enis.remove(&second());
                let failure = Ec2Failure { class, code: "c".into(), message: "m".into() };
                bench.input(Input::Ec2 { op, outcome: Err(failure) });
                held = true;
                break;
            }
            bench.ec2_holds = false;
            bench.run();
        }
        assert!(held, "it is deleted");
        bench.ec2_holds = false;
        bench.failures = vec![FailureClass::NotFound; 40];
        bench.pass(80_000);
        let gone = |r: &Record| matches!(r, Record::EniGone { eni } if *eni == second());
        assert!(bench.log.iter().any(gone), "{class:?}: {:?}", bench.pool.eni_rows());
        assert!(count(&bench, deletes) <= 12, "{class:?}: not again and again: {:?}", bench.all_calls);
    }
}

/// An attach that fails for no clear reason is tried six times, then the new ENI is given up.
#[test]
fn attach_is_tried_six_times() {
    let mut bench = Bench::new(settings());
    bench.see_metadata();
    bench.run();
    bench.broken = Some("Attach {");
    for n in 1..=4 {
        bench.add(n, &format!("pod-{n}"));
    }
    let attaches =
        |bench: &Bench| count(bench, |c| matches!(c, Ec2Call::Attach { eni, .. } if *eni == second()));
    for _ in 0..300 {
        if count(&bench, deletes) > 0 {
            break;
        }
        bench.pass(1_000);
    }
    assert_eq!((attaches(&bench), count(&bench, deletes)), (6, 1));
    assert!(bench.causes.iter().any(|c| matches!(c, Cause::Ec2 { .. })), "{:?}", bench.causes);
}

/// The instance takes fewer ENIs than its table says: what EC2 let us have is the limit for half an hour. An ENI of another
/// card is not one of these.
#[test]
fn limit_that_ec2_teaches_counts_what_is_attached_and_is_forgotten() {
    let mut bench = Bench::new(Settings { limits: Limits { enis: 4, ipv4_per_eni: 2 }, ..settings() });
    let mut elsewhere = eni("eni-card", 9);
    elsewhere.card = NetworkCard(1);
    bench.enis.insert(elsewhere.id.clone(), elsewhere);
    bench.see_metadata();
    bench.add(1, "pod-1");
    bench.run();
    bench.pass(60_000);
    assert_eq!(bench.pool.stats().max_enis, 4);
    bench.ec2_holds = true;
    bench.add(2, "pod-2");
    bench.add(3, "pod-3");
    bench.run();
    bench.ec2_holds = false;
    bench.fail_after(1, FailureClass::LimitExceeded);
    bench.run();
    let attached = bench.enis.values().filter(|e| e.attached && e.card == NetworkCard(0)).count();
    assert_eq!((attached, bench.pool.stats().max_enis), (2, 2));
    let learned = bench.now;
    bench.pass(1_799_000);
    bench.input(Input::Timer);
    assert_eq!(bench.pool.stats().max_enis, 2, "{:?}", bench.now.since(learned));
    bench.pass(1_000);
    bench.input(Input::Timer);
    assert_eq!(bench.pool.stats().max_enis, 4);
}

/// EC2 does not know an attachment of ours when told that it goes with the instance: perhaps somebody detached it, so there
/// is a look once that would show. Another failure is no such reason.
#[test]
fn attachment_that_ec2_does_not_know_is_looked_for() {
    for (class, looks) in [(FailureClass::NotFound, 1), (FailureClass::Busy, 0)] {
        let mut bench = Bench::new(settings());
        // Two assignments, a create and an attach come before.
        bench.fail_after(4, class);
        bench.see_metadata();
        for n in 1..=4 {
            bench.add(n, &format!("pod-{n}"));
            bench.run();
        }
        let told = |c: &Ec2Call| matches!(c, Ec2Call::DeleteOnTermination { .. });
        assert_eq!((count(&bench, told), bench.failures.len()), (1, 0), "{:?}", bench.all_calls);
        let looked = count(&bench, describes);
        bench.pass(10_500);
        assert_eq!(count(&bench, describes) - looked, looks, "{class:?}");
        bench.pass(60_000);
        assert!(count(&bench, told) > 1, "it is told again");
    }
}

/// What a create made is found by the tag of its operation when the answer was lost: it is attached and used at once, and
/// no other is made.
#[test]
fn created_eni_is_found_by_its_tag() {
    let mut bench = Bench::new(settings());
    bench.see_metadata();
    bench.run();
    bench.ec2_holds = true;
    for n in 1..=4 {
        bench.add(n, &format!("pod-{n}"));
    }
    bench.run();
    let creating = |e: &Effect| matches!(e, Effect::Ec2 { call: Ec2Call::Create { .. }, .. });
    let open = bench.pending.iter().position(creating).expect("a create");
    let Effect::Ec2 { op, .. } = bench.pending.remove(open) else { panic!("a call") };
    let mut made = eni("eni-made", 0);
    (made.attached, made.attachment, made.instance, made.device) = (false, None, None, DeviceIndex(0));
    made.addresses = vec!["10.0.7.7".parse().unwrap()];
    let tags = made.tags.as_mut().unwrap();
    tags.push(("podwire.io/op".into(), op.to_string().into_boxed_str()));
    bench.enis.insert(made.id.clone(), made);
    let lost = Ec2Failure { class: FailureClass::Unknown, code: "t".into(), message: "t".into() };
    bench.input(Input::Ec2 { op, outcome: Err(lost) });
    bench.ec2_holds = false;
    bench.pass(5_000);
    assert!(
        matches!(bench.answer(4), Some(podwire_pool::Answer::Allocated { .. })),
        "{:?}",
        bench.pool.rows()
    );
    assert_eq!(count(&bench, |c| matches!(c, Ec2Call::Create { .. })), 1);
}

/// Takes the call of this kind that is open, or will be, out of EC2's hands.
fn take_open(bench: &mut Bench, which: impl Fn(&Ec2Call) -> bool) -> podwire_pool::OpId {
    for _ in 0..600 {
        bench.ec2_holds = true;
        bench.run();
        let open = bench.pending.iter().position(|e| matches!(e, Effect::Ec2 { call, .. } if which(call)));
        if let Some(open) = open {
            let Effect::Ec2 { op, .. } = bench.pending.remove(open) else { panic!("a call") };
            bench.ec2_holds = false;
            return op;
        }
        bench.answer_one();
        if bench.pending.is_empty() {
            bench.pass(500);
        }
    }
    panic!("no such call: {:?}", bench.all_calls)
}

fn lost() -> Ec2Failure {
    Ec2Failure { class: FailureClass::Unknown, code: "t".into(), message: "t".into() }
}

/// The answer to an attach was lost although EC2 attached the ENI: a Describe shows it, and pods get its addresses.
#[test]
fn attachment_whose_answer_was_lost_is_used() {
    let mut bench = Bench::new(settings());
    bench.see_metadata();
    bench.run();
    for n in 1..=4 {
        bench.add(n, &format!("pod-{n}"));
    }
    let attaches = |c: &Ec2Call| matches!(c, Ec2Call::Attach { .. });
    let op = take_open(&mut bench, attaches);
    let made = bench.enis.get_mut(&second()).unwrap();
    (made.attached, made.device) = (true, DeviceIndex(1));
    made.attachment = Some(podwire_pool::AttachmentId::new("attach-late"));
    made.instance = Some(podwire_pool::InstanceId::new("i-1"));
    bench.input(Input::Ec2 { op, outcome: Err(lost()) });
    bench.pass(30_000);
    assert!(
        matches!(bench.answer(4), Some(podwire_pool::Answer::Allocated { .. })),
        "{:?}",
        bench.pool.eni_rows()
    );
    assert_eq!(count(&bench, attaches), 1);
}

/// The answer to a detach was lost although EC2 detached the ENI: a Describe shows it, and it is deleted.
#[test]
fn detachment_whose_answer_was_lost_is_not_repeated() {
    let mut bench = grown();
    end_pods(&mut bench);
    let op = take_open(&mut bench, detaches);
    let gone = bench.enis.get_mut(&second()).unwrap();
    (gone.attached, gone.attachment, gone.instance) = (false, None, None);
    bench.input(Input::Ec2 { op, outcome: Err(lost()) });
    bench.pass(60_000);
    assert!(bench.removed.contains(&second()), "{:?}", bench.pool.eni_rows());
    assert_eq!(count(&bench, detaches), 1);
}

/// A Describe of what is attached says nothing of an ENI that is not attached yet: it is not taken for gone.
#[test]
fn created_eni_is_not_gone_because_it_is_not_listed() {
    let mut bench = Bench::new(settings());
    bench.see_metadata();
    bench.run();
    bench.broken = Some("Attach {");
    for n in 1..=4 {
        bench.add(n, &format!("pod-{n}"));
    }
    bench.pass(4_000);
    let made = bench.enis.remove(&second()).expect("it was created");
    bench.now = bench.now.after(std::time::Duration::from_secs(11));
    bench.ec2_holds = true;
    bench.describe();
    assert!(bench.pool.eni_rows().iter().any(|row| row.id == second()));
    bench.enis.insert(second(), made);
    bench.ec2_holds = false;
    bench.broken = None;
    bench.pass(60_000);
    assert!(matches!(bench.answer(4), Some(podwire_pool::Answer::Allocated { .. })));
}
