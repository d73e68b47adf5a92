//! Every planted bug is found, and every invariant finds one: the oracle sees.

use std::collections::BTreeSet;

use podwire_pool::Bug;
use podwire_sim::exhaustive::{End, explore, suite};
use podwire_sim::random::run_planted;
use podwire_sim::script::{Script, settings};

/// Which invariant must find it, and within how many seeds.
fn expected(bug: Bug) -> (&'static [&'static str], u64) {
    match bug {
        Bug::ForgetsAllocations => (&["S1"], 100),
        Bug::ForgetsCooling | Bug::NeverCools => (&["S4"], 50),
        Bug::HostNotAwaited => (&["S2"], 50),
        Bug::UnknownTrusted => (&["S2"], 300),
        Bug::IntentNotAwaited => (&["S2", "S5"], 500),
        Bug::TakesForeign => (&["S11"], 50),
        Bug::GivesBackCooling => (&["S5"], 3_000),
        Bug::RepliesEarly => (&["S6"], 50),
        Bug::ReleasesEarly => (&["S7"], 100),
        Bug::IgnoresTombstones => (&["S8"], 200),
        Bug::FollowsMetadata => (&["S10"], 100),
        Bug::ForgetsDeadlines => (&["L2"], 100),
        Bug::GivesUpOnHost => (&["L1", "L4", "L5"], 300),
        Bug::LosesCreated => (&["L4"], 200),
        Bug::KeepsEverything => (&["L5"], 50),
        // No single step of it is wrong; the scenario of minutely pods finds it, below.
        Bug::NoPatience => (&[], 0),
        Bug::GivesPrimary => (&["S3"], 50),
        Bug::IgnoresLimits => (&["S9"], 100),
        Bug::Miscounts => (&["S12"], 50),
        Bug::ForgetsAnswers => (&["S13"], 50),
        Bug::WaitsForever => (&["L1"], 100),
        Bug::DropsReleases => (&["L3"], 100),
        Bug::IgnoresBudget => (&["L6"], 100),
        Bug::IgnoresRole => (&["S3"], 500),
        Bug::IgnoresFloor => (&["S14"], 500),
        Bug::IgnoresOwner => (&["S11"], 500),
        Bug::DetachesCordoned => (&["S15"], 500),
        Bug::ChangesUntagged => (&["S11"], 500),
    }
}

#[test]
fn random_engine_finds_every_planted_bug() {
    for bug in Bug::ALL {
        let (ids, seeds) = expected(bug);
        let found = (1..=seeds).find_map(|seed| {
            let failure = run_planted(seed, 1_400, bug).err()?;
            ids.contains(&failure.violation.id).then_some(seed)
        });
        assert!(found.is_some() || ids.is_empty(), "{bug:?} was not found by {ids:?} in {seeds} seeds");
    }
}

#[test]
fn every_invariant_finds_a_planted_bug() {
    let judges: BTreeSet<&str> =
        Bug::ALL.into_iter().flat_map(|bug| expected(bug).0.iter().copied()).collect();
    let all = [
        "S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "S11", "S12", "S13", "S14", "S15", "L1",
        "L2", "L3", "L4", "L5", "L6",
    ];
    for id in all {
        assert!(judges.contains(id), "nothing shows that {id} is judged");
    }
}

/// Without patience the pool gives back and takes again with every pod (L5, S9).
#[test]
fn minutely_pods_find_a_pool_without_patience() {
    let changes = |bug: Option<Bug>| {
        let mut script = Script::boot(settings(), 30).unwrap();
        if let Some(bug) = bug {
            script.world.plant(bug);
        }
        for _ in 0..30 {
            script.start(0..30).unwrap();
            script.pass(20_000).unwrap();
            script.stop(0..30).unwrap();
            script.pass(40_000).unwrap();
        }
        script.world.tally.changes
    };
    let (sound, hasty) = (changes(None), changes(Some(Bug::NoPatience)));
    assert!(hasty > 2 * sound, "{hasty} changes without patience, {sound} with");
}

/// The bug that 20,000 random seeds of the prototype did not find (testing.md §5), by a shortest path.
#[test]
fn explorer_finds_a_release_acted_on_before_it_is_on_disk() {
    let (_, mut world, budget) = suite().swap_remove(0);
    world.plant(Bug::ReleasesEarly);
    let finding = explore(world, budget, End::at_depth(10, 2_000_000)).unwrap_err();
    assert_eq!(finding.violation.id, "S7", "{finding}");
}
