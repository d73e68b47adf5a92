//! Named scenarios of pain-points §3 A, truth and state: the world runs the recipe, the oracle judges every step.

use podwire_pool::settings::{Limits, Mode};
use podwire_sim::script::{Script, settings};
use podwire_sim::world::{Action, Blur, Tampering};

/// A2: the daemon restarts with 30 sandboxes in its ledger, and what it reads of the attachments is partial.
#[test]
fn partial_attachment_read_after_a_restart_keeps_every_sandbox() {
    let mut script = Script::boot(settings(), 30).unwrap();
    script.start(0..30).unwrap();
    script.pass(20_000).unwrap();
    assert_eq!(script.living(), 30);
    script.act(Action::Crash(0, 9)).unwrap();
    for blur in [Blur::Enis(2), Blur::Blocks(5), Blur::Leaves, Blur::Clear] {
        script.act(Action::Metadata(0, blur)).unwrap();
        script.pass(400_000).unwrap();
    }
    assert_eq!(script.world.pool.stats().allocated, 30);
    assert_eq!((script.living(), script.black_holes().len()), (30, 0));
}

/// A7, A11: the ledger is garbage, or another instance's: what lives is taken from the kernel, never from zero.
#[test]
fn lost_ledger_is_rebuilt_from_the_kernel() {
    let mut small = settings();
    small.limits = Limits { enis: 2, ipv4_per_eni: 6 };
    let mut script = Script::boot(small, 10).unwrap();
    script.start(0..8).unwrap();
    script.pass(20_000).unwrap();
    script.stop(6..8).unwrap();
    script.pass(1_000).unwrap();
    script.act(Action::LoseLedger).unwrap();
    assert_eq!(script.world.pool.stats().allocated, 6);
    script.act(Action::Metadata(0, Blur::Clear)).unwrap();
    script.start(6..10).unwrap();
    script.pass(75_000).unwrap();
    assert_eq!((script.living(), script.black_holes().len()), (10, 0));
}

/// A7: the same, and the daemon dies again and again while it recovers.
#[test]
fn lost_ledger_and_crashes_while_recovering_forget_no_cooling() {
    let mut small = settings();
    small.limits = Limits { enis: 1, ipv4_per_eni: 4 };
    for at in 0..12 {
        let mut script = Script::boot(small.clone(), 4).unwrap();
        script.start(0..3).unwrap();
        script.pass(3_000).unwrap();
        script.stop(0..2).unwrap();
        script.pass(100).unwrap();
        script.act(Action::LoseLedger).unwrap();
        script.act(Action::Metadata(0, Blur::Clear)).unwrap();
        script.start(0..1).unwrap();
        script.pass(100 * at).unwrap();
        script.act(Action::Crash(0, 9)).unwrap();
        script.act(Action::Metadata(0, Blur::Clear)).unwrap();
        // S4: the oracle sees every address that is used again too early.
        script.pass(70_000).unwrap();
        assert_eq!(script.living(), 2, "after a crash at {at}");
    }
}

/// A8: pods came and went while another version ran: what the ledger still says of them ends by the runtime's list.
#[test]
fn stale_entries_end_by_the_runtimes_list() {
    let mut script = Script::boot(settings(), 6).unwrap();
    script.start(0..6).unwrap();
    script.pass(3_000).unwrap();
    for pod in 0..4 {
        script.vanish(pod);
    }
    script.act(Action::Crash(0, 9)).unwrap();
    script.act(Action::Metadata(0, Blur::Clear)).unwrap();
    assert_eq!(script.world.pool.stats().allocated, 6, "nothing is forgotten by itself");
    script.pass(1_000).unwrap();
    script.act(Action::Gc).unwrap();
    script.pass(1_000).unwrap();
    assert_eq!((script.world.pool.stats().allocated, script.living()), (2, 2));
}

/// A9: the node reboots; /run went with it, the ENIs did not: no leak, no duplicate, and within minutes all is well.
#[test]
fn reboot_without_ledger_finds_its_enis_again() {
    let mut small = settings();
    small.limits = Limits { enis: 2, ipv4_per_eni: 6 };
    let mut script = Script::boot(small, 10).unwrap();
    script.start(0..10).unwrap();
    script.pass(20_000).unwrap();
    script.act(Action::Reboot(false)).unwrap();
    assert_eq!(script.world.pool.stats().allocated, 0);
    script.act(Action::Metadata(0, Blur::Clear)).unwrap();
    script.start(0..10).unwrap();
    script.pass(60_000).unwrap();
    assert_eq!((script.living(), script.enis()), (10, 2));
}

/// A9: the reverse; and the clock of the new boot is behind the old one's.
#[test]
fn reboot_with_ledger_does_not_take_old_times_for_new() {
    let mut script = Script::boot(settings(), 10).unwrap();
    script.start(0..10).unwrap();
    script.pass(3_600_000).unwrap();
    script.stop(0..5).unwrap();
    script.pass(100).unwrap();
    script.act(Action::Reboot(true)).unwrap();
    script.act(Action::Metadata(0, Blur::Clear)).unwrap();
    script.start(0..10).unwrap();
    script.pass(60_000).unwrap();
    assert_eq!(script.living(), 10);
    script.stop(0..10).unwrap();
    script.pass(1_000_000).unwrap();
    assert!(script.held() <= 2, "{} held", script.held());
}

/// A10: the API server no longer lists a pod whose sandbox lives: its address stays until the sandbox is torn down.
#[test]
fn terminating_pod_keeps_its_address_until_its_del() {
    let mut script = Script::boot(settings(), 4).unwrap();
    script.start(0..4).unwrap();
    script.pass(3_000).unwrap();
    script.demand(Some(0)).unwrap();
    script.pass(3_600_000).unwrap();
    assert_eq!((script.living(), script.black_holes().len()), (4, 0));
    assert_eq!(script.world.pool.stats().allocated, 4);
}

/// A12: a Describe that was asked for before pods were bound to an ENI comes after: bindings survive.
#[test]
fn late_describe_does_not_overwrite_bindings() {
    let mut with_prefixes = settings();
    with_prefixes.mode = Mode::Prefix;
    with_prefixes.limits = Limits { enis: 2, ipv4_per_eni: 2 };
    let mut script = Script::boot(with_prefixes, 20).unwrap();
    script.start(0..20).unwrap();
    script.pass(12_000).unwrap();
    assert_eq!(script.living(), 20);
    // Others add an address: a Describe follows, and it is slow.
    script.act(Action::Tamper(0, Tampering::Assign)).unwrap();
    script.act(Action::Metadata(0, Blur::Blocks(1))).unwrap();
    script.stop(0..5).unwrap();
    script.start(5..5).unwrap();
    script.pass(600_000).unwrap();
    script.start(0..5).unwrap();
    script.pass(10_000).unwrap();
    assert_eq!((script.living(), script.black_holes().len()), (20, 0));
}

/// A8 of the assumptions (testing.md §3), broken: others move an address of a live pod to another ENI of ours. It is kept
/// out of use, and nobody else gets it.
#[test]
fn address_moved_between_our_enis_is_never_given_twice() {
    let mut small = settings();
    small.limits = Limits { enis: 2, ipv4_per_eni: 4 };
    let mut script = Script::boot(small, 4).unwrap();
    script.start(0..4).unwrap();
    script.pass(20_000).unwrap();
    assert_eq!((script.living(), script.enis()), (4, 2));
    script.act(Action::Tamper(0, Tampering::Move)).unwrap();
    script.act(Action::Metadata(0, Blur::Clear)).unwrap();
    script.pass(300_000).unwrap();
    assert_eq!(script.living(), 4);
    script.stop(0..4).unwrap();
    script.pass(600_000).unwrap();
    script.start(0..4).unwrap();
    script.pass(60_000).unwrap();
    assert_eq!(script.living(), 4);
}
