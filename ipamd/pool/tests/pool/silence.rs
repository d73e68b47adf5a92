//! EC2 stays silent (design D3, D14; pain-points C32): what was confirmed before goes on being handed out.

use crate::bench::{Bench, settings};
use podwire_pool::settings::Warm;
use podwire_pool::{Answer, Ec2Call, Ec2Failure, Effect, FailureClass, Input};

/// Every call that is open, and every one asked until then, ends without an answer.
fn silent(bench: &mut Bench, ms: u64) {
    let end = bench.now.after(std::time::Duration::from_millis(ms));
    bench.ec2_holds = true;
    while bench.now < end {
        bench.pass(1_000);
        let (calls, others) = std::mem::take(&mut bench.pending)
            .into_iter()
            .partition(|effect| matches!(effect, Effect::Ec2 { .. }));
        bench.pending = others;
        for effect in calls {
            let Effect::Ec2 { op, .. } = effect else { continue };
            let lost = Ec2Failure {
                class: FailureClass::Unknown,
                code: "timeout".into(),
                message: "EC2 did not answer in time".into(),
            };
            bench.input(Input::Ec2 { op, outcome: Err(lost) });
        }
    }
}

/// Three addresses for pods on the only ENI, one pod; the warm target asks for more, in vain.
#[test]
fn an_hour_of_silence_stops_no_pod_that_the_pool_can_serve() {
    let mut settings = settings();
    settings.limits.enis = 1;
    let mut bench = Bench::new(settings);
    bench.see_metadata();
    for n in 1..=3 {
        bench.add(n, &format!("pod-{n}"));
    }
    bench.run();
    bench.del(11, "pod-1");
    bench.run();
    bench.pass(40_000);
    bench.add(100, "pod-100");
    bench.del(12, "pod-2");
    silent(&mut bench, 1_000);
    for round in 0..60 {
        let (old, new) = (100 + round, 101 + round);
        bench.add(new, &format!("pod-{new}"));
        silent(&mut bench, 60_000);
        let answer = bench.answer(new);
        assert!(matches!(answer, Some(Answer::Allocated { .. })), "minute {round}: {answer:?}");
        bench.del(1_000 + old, &format!("pod-{old}"));
    }
    let kept_trying = bench.all_calls.len();
    bench.ec2_holds = false;
    bench.pass(60_000);
    assert!(bench.all_calls.len() >= kept_trying);
}

/// A give-back with an unknown outcome concerns what was to go, not its neighbours.
#[test]
fn give_back_without_an_answer_withholds_only_what_was_to_go() {
    let mut settings = settings();
    settings.warm = Warm::Targets { ip: 1, minimum: 0, eni: 0, prefix: 0 };
    let mut bench = Bench::new(settings);
    bench.see_metadata();
    for n in 1..=3 {
        bench.add(n, &format!("pod-{n}"));
    }
    bench.run();
    for n in 1..=3 {
        bench.del(10 + n, &format!("pod-{n}"));
    }
    silent(&mut bench, 90_000);
    assert!(bench.all_calls.iter().any(|c| matches!(c, Ec2Call::Unassign { .. })), "{:?}", bench.all_calls);
    bench.add(4, "pod-4");
    silent(&mut bench, 2_000);
    assert!(matches!(bench.answer(4), Some(Answer::Allocated { .. })), "{:?}", bench.answer(4));
}
