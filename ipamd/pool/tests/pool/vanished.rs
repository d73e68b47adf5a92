//! ENIs that others take away, and what the host, the ledger and other instances keep of them (design D1, D6).

use podwire_pool::{Ec2Call, EniId, HostChange, InstanceId, Record};

use crate::bench::{Bench, eni, settings};
use crate::scenes::{describes, grown, second};

/// Another ENI of ours that takes its place.
const OTHER: &str = "eni-z";

fn unhosts(bench: &Bench) -> usize {
    let of_second = |c: &&HostChange| matches!(c, HostChange::RemoveEni { eni, .. } if *eni == second());
    bench.all_hosts.iter().filter(of_second).count()
}

fn gone(bench: &Bench) -> bool {
    bench.log.iter().any(|r| matches!(r, Record::EniGone { eni } if *eni == second()))
}

/// A node whose second ENI carries no pod and cools nothing.
fn idle() -> Bench {
    let mut bench = grown();
    bench.pass(60_000);
    bench.del(100, "pod-4");
    bench.pass(31_000);
    bench
}

/// Time goes by until this is so.
fn until(bench: &mut Bench, so: impl Fn(&Bench) -> bool) {
    for _ in 0..600 {
        if so(bench) {
            return;
        }
        bench.pass(100);
    }
    panic!("it never came to that: {:?}", bench.all_calls);
}

/// The host forgets an ENI that is gone, once: EC2 may give its addresses to another ENI.
#[test]
fn host_forgets_an_eni_that_is_gone() {
    let mut bench = idle();
    bench.enis.remove(&second());
    bench.describe();
    bench.pass(31_000);
    assert!(gone(&bench));
    assert_eq!(unhosts(&bench), 1, "{:?}", bench.all_hosts);
}

#[test]
fn host_forgets_an_eni_that_others_detached() {
    let mut bench = idle();
    let taken = bench.enis.get_mut(&second()).unwrap();
    (taken.attached, taken.attachment, taken.instance) = (false, None, None);
    bench.describe();
    bench.pass(60_000);
    assert!(bench.removed.contains(&second()));
    assert_eq!(unhosts(&bench), 1, "{:?}", bench.all_hosts);
}

/// Found by the simulator (seed 9820): EC2 assigned to an ENI that others had detached, and the host refused its device for
/// ever. What the host says is evidence: EC2 is asked, and not at each refusal.
#[test]
fn host_that_refuses_an_eni_for_long_has_ec2_asked() {
    let mut bench = grown();
    bench.pass(60_000);
    let taken = bench.enis.get_mut(&second()).unwrap();
    (taken.attached, taken.attachment, taken.instance) = (false, None, None);
    bench.broken = Some("AddSources");
    let (before, refused) = (describes(&bench), bench.all_hosts.len());
    bench.add(200, "pod-5");
    bench.pass(600_000);
    let refused = bench.all_hosts[refused..].len();
    let asked = describes(&bench) - before;
    assert!(asked >= 1, "EC2 was never asked: {refused} changes on the host");
    assert!(asked <= 8, "{asked} times");
    // Pods are on it, so it stays, and nothing more is given out on it.
    let rows = bench.pool.eni_rows();
    assert!(rows.iter().any(|row| row.id == second() && row.doubted_since.is_some()), "{rows:?}");
}

/// Where another ENI has its place by now, that one stays set up.
#[test]
fn host_keeps_the_eni_that_has_its_place_by_now() {
    let mut bench = idle();
    let place = bench.enis.remove(&second()).unwrap().device;
    bench.enis.insert(EniId::new(OTHER), eni(OTHER, place.0));
    bench.describe();
    bench.pass(31_000);
    assert!(gone(&bench));
    assert_eq!(unhosts(&bench), 0, "{:?}", bench.all_hosts);
}

/// The next ENI at that place is set up only after the host has forgotten the one before.
#[test]
fn eni_at_the_place_of_one_that_is_gone_is_set_up_after_it() {
    let mut bench = idle();
    let place = bench.enis.remove(&second()).unwrap().device;
    bench.describe();
    bench.host_holds = true;
    bench.pass(31_000);
    assert_eq!(unhosts(&bench), 1);
    bench.enis.insert(EniId::new(OTHER), eni(OTHER, place.0));
    bench.describe();
    bench.run();
    let set_up = |bench: &Bench| {
        let of_other =
            |c: &HostChange| matches!(c, HostChange::ConfigureEni { eni, .. } if *eni == EniId::new(OTHER));
        bench.all_hosts.iter().any(of_other)
    };
    assert!(!set_up(&bench), "{:?}", bench.all_hosts);
    bench.host_holds = false;
    bench.run();
    assert!(set_up(&bench), "{:?}", bench.all_hosts);
}

/// Nothing of an ENI that is gone stays behind in the ledger.
#[test]
fn doubts_end_with_their_eni() {
    let mut bench = idle();
    bench.enis.remove(&second());
    bench.describe();
    bench.pass(31_000);
    assert!(gone(&bench));
    let intents = |r: &Record| matches!(r, Record::Intent { eni: Some(eni), .. } if *eni == second());
    assert!(!bench.pool.snapshot().iter().any(intents), "{:?}", bench.pool.snapshot());
}

/// An ENI that is on its way out and that others attached to another instance is theirs.
#[test]
fn leaving_eni_that_others_attached_elsewhere_is_left_alone() {
    for attached in [true, false] {
        let mut bench = idle();
        bench.broken = Some("Delete {");
        (1..=3).for_each(|n| bench.del(100 + n, &format!("pod-{n}")));
        bench.pass(600_000);
        assert!(bench.all_calls.iter().any(|c| matches!(c, Ec2Call::Delete { .. })), "{:?}", bench.all_calls);
        let taken = bench.enis.get_mut(&second()).unwrap();
        taken.instance = Some(InstanceId::new("i-2"));
        taken.attachment = Some(podwire_pool::AttachmentId::new("eni-attach-of-i-2"));
        taken.attached = attached;
        bench.describe();
        bench.run();
        bench.all_calls.clear();
        bench.broken = None;
        bench.pass(600_000);
        let touches = |c: &Ec2Call| matches!(c, Ec2Call::Detach { .. } | Ec2Call::Delete { .. });
        assert!(!bench.all_calls.iter().any(touches), "attached: {attached}: {:?}", bench.all_calls);
        assert!(!bench.removed.contains(&second()));
    }
}

/// Once attached, an ENI that a Describe had missed before is used at once.
#[test]
fn created_eni_that_was_missed_is_used_as_soon_as_it_is_attached() {
    let mut bench = Bench::new(settings());
    bench.broken = Some("Attach {");
    bench.see_metadata();
    for n in 1..=4 {
        bench.add(n, &format!("pod-{n}"));
    }
    let tries = |bench: &Bench| {
        bench
            .all_calls
            .iter()
            .filter(|c| matches!(c, Ec2Call::Attach { eni, .. } if *eni == second()))
            .count()
    };
    until(&mut bench, |bench| tries(bench) == 5);
    // The next Describe shows everything up to that try.
    (bench.left_out, bench.broken) = (Some(second()), None);
    until(&mut bench, |bench| bench.left_out.is_none());
    until(&mut bench, |bench| bench.enis[&second()].attached);
    let set_up = |c: &HostChange| matches!(c, HostChange::ConfigureEni { eni, .. } if *eni == second());
    assert!(bench.all_hosts.iter().any(set_up), "{:?}", bench.all_hosts);
    assert!((1..=4).all(|n| bench.answer(n).is_some()));
}

/// Shown once on its way in or out, an ENI is somewhere: absence counts anew from then on.
#[test]
fn eni_shown_on_its_way_is_not_gone_half_a_minute_after_it_was_missed() {
    let mut bench = idle();
    let known = bench.enis.remove(&second()).unwrap();
    bench.describe();
    bench.pass(20_000);
    let mut shown = known.clone();
    shown.attached = false;
    bench.enis.insert(second(), shown);
    bench.describe();
    bench.enis.remove(&second());
    bench.pass(15_000);
    bench.describe();
    assert!(!gone(&bench), "{:?}", bench.all_calls);
    bench.pass(60_000);
    assert!(gone(&bench));
}
