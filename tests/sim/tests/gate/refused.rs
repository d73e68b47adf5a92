//! The role lacks an action for hours, and pods come and go meanwhile (pain-points C34): what cannot leave is used, and
//! nothing piles up.

use podwire_pool::settings::Limits;
use podwire_pool::{Ec2Call, FailureClass, Settings};
use podwire_sim::script::{Script, settings};
use podwire_sim::world::Fate;

const DENIED: Option<Fate> = Some(Fate::Refused(FailureClass::Denied));

fn node(enis: u32) -> Script {
    let small = Settings { limits: Limits { enis, ipv4_per_eni: 4 }, ..settings() };
    Script::boot(small, 3 * usize::try_from(enis).unwrap()).unwrap()
}

/// Ten times all pods come, live for a minute, and go for five. All live each time; gives the number of ENIs afterwards.
fn ten_cycles(script: &mut Script, what: &str) -> usize {
    let all = 0..script.world.runtime.pods.len();
    for cycle in 0..10 {
        script.start(all.clone()).unwrap();
        script.pass(60_000).unwrap();
        assert_eq!(script.living(), all.len(), "cycle {cycle} without {what}");
        script.stop(all.clone()).unwrap();
        script.pass(300_000).unwrap();
    }
    assert!(script.world.marks.times("denied") > 0, "nobody was told of {what}");
    script.world.ec2.enis.len()
}

/// Once it is allowed all that is not needed goes.
fn heals(script: &mut Script) {
    script.fate_of = |_, _| None;
    script.pass(3_600_000).unwrap();
    assert_eq!(script.world.ec2.enis.len(), 1, "what is left goes once it is allowed");
    script.start(0..2).unwrap();
    script.pass(5_000).unwrap();
    assert_eq!(script.living(), 2);
}

/// Detach is denied: the ENIs come back to the pods each time, and no others are made.
#[test]
fn enis_that_cannot_be_detached_are_used_again() {
    for enis in [2, 4] {
        let mut script = node(enis);
        script.fate_of = |call, _| DENIED.filter(|_| matches!(call, Ec2Call::Detach { .. }));
        let left = ten_cycles(&mut script, "Detach");
        let most = usize::try_from(enis).unwrap();
        assert!(left <= most, "{left} of {most}");
        assert_eq!(script.world.marks.times("create"), u64::from(enis) - 1);
        assert!(script.world.marks.times("detach") <= 30, "{}", script.world.marks.times("detach"));
        heals(&mut script);
    }
}

/// Delete is denied: those that left together are left behind once, and the others stay.
#[test]
fn enis_that_cannot_be_deleted_do_not_pile_up() {
    for enis in [2, 4] {
        let mut script = node(enis);
        script.fate_of = |call, _| DENIED.filter(|_| matches!(call, Ec2Call::Delete { .. }));
        let left = ten_cycles(&mut script, "Delete");
        let most = usize::try_from(2 * enis).unwrap() - 1;
        assert!(left <= most, "{left} of {most}");
        heals(&mut script);
    }
}

/// Attaches fail in this way, and Delete is denied.
fn neither_attach_nor_delete(call: &Ec2Call, class: FailureClass) -> Option<Fate> {
    let attach = matches!(call, Ec2Call::Attach { .. }).then_some(Fate::Refused(class));
    attach.or_else(|| DENIED.filter(|_| matches!(call, Ec2Call::Delete { .. })))
}

/// Attaches fail and Delete is denied: pods wait for an hour, and no more than two ENIs are made for nothing.
#[test]
fn enis_that_are_made_for_nothing_and_cannot_be_deleted_are_two() {
    let fates: [fn(&Ec2Call, u64) -> Option<Fate>; 3] = [
        |call, _| neither_attach_nor_delete(call, FailureClass::Busy),
        |call, _| neither_attach_nor_delete(call, FailureClass::Denied),
        |call, _| neither_attach_nor_delete(call, FailureClass::QuotaExceeded),
    ];
    for (at, fate) in fates.into_iter().enumerate() {
        let mut script = node(3);
        script.fate_of = fate;
        for _ in 0..60 {
            script.start(0..9).unwrap();
            script.pass(59_000).unwrap();
            script.stop(3..9).unwrap();
            script.pass(1_000).unwrap();
        }
        let left = script.world.ec2.enis.len() - 1;
        assert!(left <= 2, "fate {at}: {left} were made for nothing");
        script.stop(0..3).unwrap();
        heals(&mut script);
    }
}
