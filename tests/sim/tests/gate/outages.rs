//! Four outages of the incumbent as traces: each is the story of its thread. A pool that takes metadata for the truth
//! (planted) black-holes a pod in each, ours in none.

use podwire_pool::settings::{Limits, Mode};
use podwire_pool::{Cause, Settings};
use podwire_sim::oracle::Violation;
use podwire_sim::script::{Script, settings};
use podwire_sim::world::{Action, Blur, Tampering};

type Story = fn(&mut Script) -> Result<(), Violation>;

/// Plays a story; the world goes on after violations, so that one sees whom they hit.
fn play(settings: Settings, follows_metadata: bool, story: Story) -> Script {
    let mut script = Script::boot(settings, 16).unwrap();
    script.world.noted = Some(Vec::new());
    if follows_metadata {
        plant(&mut script);
    }
    story(&mut script).unwrap();
    script
}

#[cfg(feature = "planted")]
fn plant(script: &mut Script) {
    script.world.plant(podwire_pool::Bug::FollowsMetadata);
}

#[cfg(not(feature = "planted"))]
fn plant(_: &mut Script) {
    panic!("bugs are planted with the feature `planted` alone");
}

/// Ours comes through whole; the planted one is seen to fail where it can be planted.
fn judge(settings: Settings, pods: usize, story: Story) -> Script {
    if cfg!(feature = "planted") {
        let planted = play(settings.clone(), true, story);
        let holes = planted.black_holes();
        assert!(!holes.is_empty(), "a pool that follows metadata should have black-holed a pod");
        let noted = planted.world.noted.unwrap();
        assert!(noted.iter().any(|v| v.id == "S2"), "{noted:?}");
    }
    let ours = play(settings, false, story);
    assert_eq!(ours.world.noted, Some(Vec::new()), "no violation");
    assert_eq!((ours.black_holes(), ours.living()), (Vec::new(), pods));
    ours
}

fn prefixes() -> Settings {
    let mut settings = settings();
    settings.mode = Mode::Prefix;
    settings
}

/// A1, cni#3824: sixteen pods live on a prefix; metadata lists the ENI without it for ten minutes.
#[test]
fn cni_3824_prefix_missing_from_metadata_for_ten_minutes() {
    let ours = judge(prefixes(), 16, |script| {
        script.start(0..16)?;
        script.pass(5_000)?;
        for _ in 0..10 {
            script.act(Action::Metadata(0, Blur::Blocks(9)))?;
            script.pass(60_000)?;
        }
        Ok(())
    });
    assert_eq!(ours.world.marks.times("unassign"), 0);
    assert!(ours.world.tally.describes <= 10, "{} describes", ours.world.tally.describes);
}

/// A3, cni#3887: addresses were given back; the daemon restarts, metadata still lists them, pods come.
#[test]
fn cni_3887_metadata_lists_what_was_unassigned() {
    judge(settings(), 10, |script| {
        script.start(0..10)?;
        script.pass(3_000)?;
        let full = script.world.now;
        script.stop(0..10)?;
        script.pass(120_000)?;
        script.act(Action::Restart(None))?;
        let age = script.world.now - full;
        script.act(Action::Metadata(age, Blur::Clear))?;
        script.start(0..10)?;
        script.pass(30_000)
    });
}

/// A4, cni#3019: somebody exchanged an address of the ENI for another; the number is the same, the members are not.
#[test]
fn cni_3019_same_number_of_addresses_other_members() {
    let mut small = settings();
    small.limits = Limits { enis: 1, ipv4_per_eni: 3 };
    judge(small, 2, |script| {
        script.start(0..2)?;
        script.pass(3_000)?;
        script.stop(0..2)?;
        script.pass(40_000)?;
        script.act(Action::Tamper(0, Tampering::Unassign))?;
        script.world.ec2.recycle = false;
        script.act(Action::Tamper(0, Tampering::Assign))?;
        script.world.oracle.tampered.clear();
        script.act(Action::Metadata(0, Blur::Clear))?;
        script.pass(1_000)?;
        script.start(0..2)?;
        script.pass(60_000)
    });
}

/// A5, cni#1967: the daemon restarts, metadata is from the time before the second ENI's addresses: it looks empty.
#[test]
fn cni_1967_eni_with_pods_looks_empty_after_a_restart() {
    let mut small = settings();
    small.limits = Limits { enis: 2, ipv4_per_eni: 3 };
    let ours = judge(small, 4, |script| {
        script.start(0..4)?;
        script.pass(20_000)?;
        script.act(Action::Restart(None))?;
        for _ in 0..15 {
            script.act(Action::Metadata(0, Blur::Leaves))?;
            script.pass(60_000)?;
        }
        Ok(())
    });
    assert_eq!(ours.enis(), 2);
    assert_eq!(ours.world.marks.times("detach"), 0);
    assert!(!matches!(ours.world.pool.stats().failure, Some(Cause::Quarantined { .. })));
}
