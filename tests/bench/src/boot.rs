//! What a boot costs in EC2 calls, and how long its first pod waits, with all pods waiting before `ipamd` starts and
//! EC2 answering at once.

use std::time::Duration;

use podwire_e2e::binaries::Binaries;
use podwire_e2e::boot::{Boot, boot};
use podwire_e2e::report::say;
use podwire_e2e::scene::Mode;
use vpcsim::lab::{Lab, LabSpec, NodeSpec};

use crate::figures::{Figures, Must, Samples};

/// One boot of an m5.large: figure, most calls, remark, mode, launch prefixes, pods.
const BOOTS: [(&str, f64, &str, Mode, u32, usize); 4] = [
    ("boot_prefix_mutating_calls", 0.0, "launch prefix → 16 pods", Mode::Prefix, 1, 16),
    ("boot_mutating_calls_first_pod", 1.0, "nothing assigned → first pod", Mode::Secondary, 0, 1),
    ("boot_mutating_calls_29_secondary", 7.0, "27 pods by single addresses", Mode::Secondary, 0, 27),
    ("boot_mutating_calls_110_prefix", 3.0, "108 pods by prefixes", Mode::Prefix, 0, 108),
];

/// Starts of the daemon measured for the time to the first ADD.
const STARTS: usize = 6;
/// How long a daemon may take to end. *Source*: our choice.
const STOP: Duration = Duration::from_secs(15);

/// Measures.
///
/// # Errors
/// A node does not boot.
pub(crate) fn run(figures: &mut Figures) -> anyhow::Result<()> {
    let binaries = Binaries::find()?;
    say("  boots of an m5.large, its pods waiting before ipamd starts, EC2 at once");
    let lab = Lab::start(LabSpec::instant(&format!("bench-boot-{}", std::process::id())))?;
    for (number, (id, most, remark, mode, prefixes, pods)) in BOOTS.into_iter().enumerate() {
        let spec =
            NodeSpec::new(&format!("boot-{number}")).of_type("m5.large").with_launch_prefixes(prefixes);
        let done = boot(&lab, &binaries, spec, pods, &[mode.setting()])?;
        let remark = format!("{remark}; {:?}", done.mutating);
        figures.judge(id, calls(&done), "", Must::AtMost(most), &remark);
        done.daemon.stop(STOP)?;
    }
    let (mut firsts, mut path) = (Vec::new(), Vec::new());
    for number in 0..STARTS {
        let spec = NodeSpec::new(&format!("start-{number}")).of_type("m5.large");
        let done = boot(&lab, &binaries, spec, 1, &[Mode::Secondary.setting()])?;
        firsts.push(done.first_add);
        path = done.critical_path();
        done.daemon.stop(STOP)?;
    }
    let remark = format!("one assign included; noise {:.0} %", Samples::noise(&firsts));
    let first = Samples::new(firsts).p50();
    figures.judge("start_to_first_add_ms", first, "ms", Must::AtMost(300.0), &remark);
    say("  critical path of the last start:");
    path.iter().for_each(|line| say(&format!("    {line}")));
    Ok(())
}

/// *Precision*: a handful of calls.
#[allow(clippy::cast_precision_loss, reason = "calls of one boot are far below 2^53")]
fn calls(boot: &Boot) -> f64 {
    boot.calls() as f64
}
