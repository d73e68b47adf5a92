//! EC2 refuses the same thing again and again: what is tried becomes rare, and everything comes right once it does not.

use podwire_pool::{Answer, Cause, Ec2Call, FailureClass};

use crate::bench::Bench;
use crate::scenes;

fn count(bench: &Bench, which: impl Fn(&Ec2Call) -> bool) -> usize {
    bench.all_calls.iter().filter(|call| which(call)).count()
}

/// EC2 attaches nothing, whyever: the create before each try works, and yet new ENIs become ever rarer while pods wait. Once
/// it attaches again the next one is used.
#[test]
fn refused_attach_makes_fewer_enis_over_time() {
    for class in [FailureClass::Denied, FailureClass::QuotaExceeded, FailureClass::Busy] {
        let mut bench = scenes::booted();
        bench.broken = Some("Attach {");
        bench.broken_as = class;
        let creates = |bench: &Bench| count(bench, |c| matches!(c, Ec2Call::Create { .. }));
        let mut made = Vec::new();
        for half in 0..2 {
            let before = creates(&bench);
            for minute in 0..30 {
                let round = 100 * (30 * half + minute);
                for n in 1..=6 {
                    bench.add(round + n, &format!("pod-{n}"));
                }
                bench.pass(60_000);
            }
            made.push(creates(&bench) - before);
        }
        assert!(made[0] <= 20 && made[1] <= 10 && made[1] < made[0], "{class:?}: {made:?}");
        bench.broken = None;
        bench.pass(600_000);
        bench.add(9_000, "pod-late");
        bench.pass(60_000);
        assert!(matches!(bench.answer(9_000), Some(Answer::Allocated { .. })), "{class:?}");
    }
}

/// What went wrong is told until it is made good: by the next call of that action that works, and not by another one's.
#[test]
fn failure_is_forgotten_when_what_it_names_works() {
    let mut bench = scenes::grown();
    bench.pass(60_000);
    (bench.broken, bench.broken_as) = (Some("Delete {"), FailureClass::Invalid);
    let failed = |bench: &Bench| match bench.pool.stats().failure {
        Some(Cause::Ec2 { action, .. }) => Some(action),
        _ => None,
    };
    for n in 1..=4 {
        bench.del(100 + n, &format!("pod-{n}"));
    }
    bench.pass(200_000);
    assert_eq!(failed(&bench), Some("DeleteNetworkInterface"), "{:?}", bench.pool.stats());
    bench.describe();
    assert_eq!(failed(&bench), Some("DeleteNetworkInterface"));
    bench.broken = None;
    bench.pass(600_000);
    assert_eq!((failed(&bench), bench.removed.len()), (None, 1), "{:?}", bench.pool.stats());
}

/// EC2 calls an ENI busy that it is still detaching: it is deleted seconds later, nothing is told and nothing is left open.
#[test]
fn busy_deletion_is_tried_again_in_seconds_and_is_no_failure() {
    let mut bench = scenes::grown();
    bench.pass(60_000);
    bench.broken = Some("Delete {");
    let deletes = |bench: &Bench| count(bench, |c| matches!(c, Ec2Call::Delete { .. }));
    for n in 1..=4 {
        bench.del(100 + n, &format!("pod-{n}"));
    }
    while deletes(&bench) < 2 {
        bench.pass(100);
    }
    let causes = bench.causes.len();
    bench.broken = None;
    bench.pass(5_000);
    assert_eq!(bench.removed.len(), 1, "{:?}", bench.pool.eni_rows());
    assert_eq!((bench.causes.len(), bench.pool.stats().failure), (causes, None));
}
