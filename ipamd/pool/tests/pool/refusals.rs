//! EC2 refuses the same thing again and again: what is tried becomes rare, and everything comes right once it does not.

use podwire_pool::{Answer, Ec2Call, FailureClass};

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
