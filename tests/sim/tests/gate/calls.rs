//! Named scenarios of pain-points §3 B, the order of CNI calls.

use podwire_pool::settings::Limits;
use podwire_sim::script::{Script, settings};
use podwire_sim::world::{Action, Blur};

fn two_addresses() -> Script {
    let mut small = settings();
    small.limits = Limits { enis: 1, ipv4_per_eni: 3 };
    let mut script = Script::boot(small, 4).unwrap();
    script.pass(2_000).unwrap();
    script
}

/// B15: sandboxes are made anew in a crash loop and their DELs are skipped: the runtime's list frees the old ones.
#[test]
fn skipped_dels_are_made_up_for_by_gc() {
    let mut script = Script::boot(settings(), 4).unwrap();
    for _ in 0..8 {
        script.start(0..4).unwrap();
        script.pass(5_000).unwrap();
        assert_eq!(script.living(), 4);
        for pod in 0..4 {
            script.vanish(pod);
        }
    }
    assert_eq!(script.world.pool.stats().allocated, 32, "four pods leaked so many");
    script.act(Action::Gc).unwrap();
    script.pass(1_000).unwrap();
    assert_eq!(script.world.pool.stats().allocated, 0);
    script.pass(600_000).unwrap();
    assert!(script.held() <= 2, "{} held", script.held());
}

/// B16: the plugin dies after its address was allocated, before it was told: the DEL gives the address back.
#[test]
fn address_of_a_killed_plugin_comes_back_with_its_del() {
    let mut script = two_addresses();
    script.act(Action::Start(0, false)).unwrap();
    let request = *script.world.runtime.messages.keys().next().unwrap();
    script.act(Action::Arrive(request)).unwrap();
    script.act(Action::Kill(0)).unwrap();
    script.pass(1_000).unwrap();
    script.act(Action::Stop(0)).unwrap();
    script.pass(40_000).unwrap();
    let stats = script.world.pool.stats();
    assert_eq!((stats.allocated, stats.cooling, stats.releasing), (0, 0, 0), "{stats:?}");
    script.start(1..3).unwrap();
    script.pass(2_000).unwrap();
    assert_eq!(script.living(), 2);
}

/// B17, B21: the daemon is away when pods are torn down: their releases come when it is back, and free the addresses.
#[test]
fn dels_without_a_daemon_are_released_when_it_is_back() {
    let mut script = two_addresses();
    script.start(0..2).unwrap();
    script.pass(1_000).unwrap();
    script.stop(0..2).unwrap();
    script.act(Action::Crash(0, 9)).unwrap();
    script.act(Action::Metadata(0, Blur::Clear)).unwrap();
    script.pass(1_000).unwrap();
    assert_eq!(script.world.pool.stats().allocated, 0);
    script.start(2..4).unwrap();
    script.pass(40_000).unwrap();
    assert_eq!(script.living(), 2);
}

/// B18: DEL of a sandbox nobody knows succeeds, and an ADD that began before it is refused.
#[test]
fn del_of_an_unknown_sandbox_succeeds() {
    let mut script = two_addresses();
    script.act(Action::Start(0, false)).unwrap();
    script.act(Action::Kill(0)).unwrap();
    script.world.runtime.messages.clear();
    let before = script.world.tally.dels;
    script.act(Action::Stop(0)).unwrap();
    script.pass(1_000).unwrap();
    assert_eq!(script.world.tally.dels, before + 1);
    assert_eq!(script.world.pool.stats().tombstones, 1);
}

/// B19: 200 ADDs at once on a node with 300 pods.
#[test]
fn two_hundred_adds_at_once_beside_three_hundred_pods() {
    let mut large = settings();
    large.limits = Limits { enis: 15, ipv4_per_eni: 50 };
    large.max_pods = 737;
    let mut script = Script::boot(large, 500).unwrap();
    script.start(0..300).unwrap();
    script.pass(60_000).unwrap();
    assert_eq!(script.living(), 300);
    let before = script.world.tally.changes;
    script.start(300..500).unwrap();
    script.pass(12_000).unwrap();
    assert_eq!(script.living(), 500);
    let calls = script.world.tally.changes - before;
    assert!(calls <= 20, "{calls} EC2 changes for four or five ENIs");
}

/// B20: the daemon is replaced again and again while pods come and go: none fails, none keeps what it gave back.
#[test]
fn rollout_while_pods_churn_fails_nobody() {
    let mut script = Script::boot(settings(), 20).unwrap();
    script.start(0..20).unwrap();
    script.pass(20_000).unwrap();
    for round in 0..12 {
        let pods = round..round + 6;
        script.stop(pods.clone()).unwrap();
        script.act(Action::Restart(None)).unwrap();
        script.act(Action::Metadata(0, Blur::Clear)).unwrap();
        script.pass(500).unwrap();
        script.start(pods).unwrap();
        script.act(Action::Restart(None)).unwrap();
        script.act(Action::Metadata(0, Blur::Clear)).unwrap();
        script.pass(10_000).unwrap();
        assert_eq!(script.living(), 20, "round {round}");
    }
    assert_eq!(script.world.tally.refused, 0);
    assert_eq!(script.world.pool.stats().allocated, 20);
}

/// B23: ready says whether an address can be had now; GC frees what the runtime does not list, and nothing else.
#[test]
fn status_is_true_and_gc_spares_the_living() {
    let mut script = Script::boot(settings(), 3).unwrap();
    assert!(!script.world.pool.stats().ready, "nothing is assigned yet");
    script.pass(2_000).unwrap();
    assert!(script.world.pool.stats().ready);
    script.start(0..3).unwrap();
    script.pass(2_000).unwrap();
    script.vanish(0);
    script.act(Action::Gc).unwrap();
    script.pass(1_000).unwrap();
    assert_eq!((script.living(), script.world.pool.stats().allocated), (2, 2));
}

/// S8: a second ADD of a pod that lives gets the same address.
#[test]
fn repeated_add_gets_the_same_address() {
    let mut script = two_addresses();
    script.start(0..1).unwrap();
    script.pass(1_000).unwrap();
    let first = script.address(0);
    script.act(Action::Repeat(0)).unwrap();
    script.pass(1_000).unwrap();
    assert_eq!(script.world.marks.times("ADD repeated"), 1);
    assert_eq!((script.address(0), script.living()), (first, 1));
}
