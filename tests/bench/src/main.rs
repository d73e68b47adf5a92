//! `podwire-bench`: ADD and DEL beside a kernel floor measured in the same run. `scripts/bench` builds and runs it.

mod figures;
mod floor;
mod plugin;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use ipnetwork::Ipv4Network;
use podwire_e2e::binaries::Binaries;
use podwire_e2e::report::say;
use podwire_e2e::runtime::netconf;
use podwire_e2e::scene::{Mode, Worker};
use vpcsim::lab::{Lab, LabSpec, NodeSpec};

use figures::{Figures, Samples};
use plugin::Subject;

/// Measures podwire beside the kernel's floor, in one run on one machine.
#[derive(Debug, Parser)]
#[command(name = "scripts/bench")]
struct Options {
    /// Finish within a minute; says what is left out.
    #[arg(long)]
    quick: bool,
    /// Write the figures as one flat JSON object.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Pods on the node at the end. *Source*: EKS's recommended largest max-pods.
const MANY: usize = 250;
/// Pods added at once.
const BURST: usize = 30;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scripts/bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    let binaries = Binaries::find()?;
    let rounds = if options.quick { 60 } else { 200 };
    say("bringing up a node with a pool of 272 addresses (17 launch prefixes, no EC2 call)");
    let lab = Lab::start(lab_spec()?)?;
    let spec = NodeSpec::new("bench").of_type("m5.4xlarge").with_launch_prefixes(17);
    let settings = [("MINIMUM_IP_TARGET", "272"), ("PODWIRE_MAX_PODS", "272"), ("IP_COOLDOWN_PERIOD", "0")];
    let worker = Worker::start(&lab, &binaries, spec, Mode::Prefix, &settings)?;
    let conf = netconf(&worker.node, "1.0.0", None)?.to_string().into_bytes();
    let mut figures = Figures::default();
    figures.note("plugin_size_mib", mib(std::fs::metadata(binaries.plugin())?.len()), "MiB", "");
    for number in 0..BURST {
        worker.node.add_netns(&format!("bench-{number}"))?;
    }
    one_by_one(&worker, &conf, rounds, &mut figures)?;
    burst(&worker, &conf, if options.quick { 3 } else { 10 }, &mut figures)?;
    if options.quick {
        say("left out by --quick: growth to 250 pods");
        figures.note("daemon_rss_mib", mib(worker.daemon.rss_kib()? * 1024), "MiB", "after the bursts");
    } else {
        to_many(&worker, &conf, &mut figures)?;
    }
    say(&format!("\n{}", figures.table()));
    if let Some(path) = &options.json {
        figures.write(path)?;
    }
    worker.daemon.stop(Duration::from_secs(15))?;
    Ok(())
}

/// Subnets large enough for 250 pods and more.
fn lab_spec() -> anyhow::Result<LabSpec> {
    let mut spec = LabSpec::named(&format!("bench-{}", std::process::id()));
    for (third, subnet) in [0u8, 64].into_iter().zip(&mut spec.cloud.subnets) {
        subnet.cidr = Ipv4Network::new([10, 0, third, 0].into(), 18)?;
    }
    Ok(spec)
}

/// Floor, empty process and plugin take turns, so that the machine's moods hit all of them alike.
fn one_by_one(worker: &Worker, conf: &[u8], rounds: usize, figures: &mut Figures) -> anyhow::Result<()> {
    say(&format!("ADD and DEL one by one beside the floor, {rounds} rounds"));
    let empty = std::env::var_os("PODWIRE_BENCH_EMPTY").map(PathBuf::from).context("run scripts/bench")?;
    let taken = worker.node.enter(|| rounds_of(conf, rounds, &empty))??;
    let [floors, empties, adds, dels] = taken.map(|t| (Samples::noise(&t), Samples::new(t)));
    let noise = format!("noise {:.0} %", floors.0);
    figures.note("floor_add_p50_ms", floors.1.p50(), "ms", &noise);
    figures.note("empty_exec_p50_ms", empties.1.p50(), "ms", "an empty static program");
    let add = &adds.1;
    let tail = format!("p90 {:.2}, p99 {:.2}, noise {:.0} %", add.percentile(90), add.percentile(99), adds.0);
    figures.note("add_p50_ms", add.p50(), "ms", &tail);
    figures.note("add_p50_over_floor", add.p50() / floors.1.p50(), "×", "");
    figures.note("add_p50_over_floor_and_exec", add.p50() / (floors.1.p50() + empties.1.p50()), "×", "");
    let tail = format!("p90 {:.2}, p99 {:.2}", dels.1.percentile(90), dels.1.percentile(99));
    figures.note("del_p50_ms", dels.1.p50(), "ms", &tail);
    let subject = Subject::new(0, rounds);
    let rss = worker.node.enter(|| {
        let rss = plugin::peak_rss_kib(&subject, conf)?;
        plugin::run("DEL", &subject, conf)?;
        anyhow::Ok(rss)
    })??;
    figures.note("plugin_rss_mib", rss / 1024.0, "MiB", "peak of one ADD");
    Ok(())
}

fn rounds_of(conf: &[u8], rounds: usize, empty: &Path) -> anyhow::Result<[Vec<Duration>; 4]> {
    let [mut floors, mut empties, mut adds, mut dels] = [(); 4].map(|()| Vec::with_capacity(rounds));
    for round in 0..rounds {
        floors.push(floor::add_and_del("/run/netns/bench-1", 1)?);
        empties.push(plugin::empty(empty)?);
        let subject = Subject::new(0, round);
        adds.push(plugin::run("ADD", &subject, conf)?);
        dels.push(plugin::run("DEL", &subject, conf)?);
    }
    Ok([floors, empties, adds, dels])
}

fn burst(worker: &Worker, conf: &[u8], rounds: usize, figures: &mut Figures) -> anyhow::Result<()> {
    say(&format!("{BURST} at once, {rounds} rounds"));
    let (adds, dels, floors) = worker.node.enter(|| {
        let (mut adds, mut dels, mut floors) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..rounds {
            let subjects: Vec<Subject> = (0..BURST).map(|n| Subject::new(n, 1_000_000 + round)).collect();
            adds.push(plugin::all_at_once("ADD", &subjects, conf)?);
            dels.push(plugin::all_at_once("DEL", &subjects, conf)?);
            let thirty: anyhow::Result<Vec<Duration>> =
                (0..BURST).map(|n| floor::add_and_del(&Subject::new(n, 0).netns, 1)).collect();
            floors.push(thirty?.iter().sum());
        }
        anyhow::Ok((Samples::new(adds), Samples::new(dels), Samples::new(floors)))
    })??;
    figures.note("add30_ms", adds.p50(), "ms", "last one done");
    figures.note("add30_over_30_floors", adds.p50() / floors.p50(), "×", "");
    figures.note("del30_ms", dels.p50(), "ms", "last one done");
    Ok(())
}

fn to_many(worker: &Worker, conf: &[u8], figures: &mut Figures) -> anyhow::Result<()> {
    say(&format!("one by one to {MANY} pods on the node"));
    for number in BURST..MANY {
        worker.node.add_netns(&format!("bench-{number}"))?;
    }
    let subjects: Vec<Subject> = (0..MANY).map(|n| Subject::new(n, 2_000_000)).collect();
    let add_all =
        || subjects.iter().map(|s| plugin::run("ADD", s, conf)).collect::<anyhow::Result<Vec<Duration>>>();
    let adds = worker.node.enter(add_all)??;
    figures.note("daemon_rss_mib", mib(worker.daemon.rss_kib()? * 1024), "MiB", "with 250 pods");
    let drain = worker.node.enter(|| plugin::all_at_once("DEL", &subjects, conf))??;
    let rss = mib(worker.daemon.rss_kib()? * 1024);
    let first = Samples::new(adds.iter().take(40).copied().collect());
    let last = Samples::new(adds.iter().skip(MANY - 40).copied().collect());
    figures.note("add_at_250_p50_ms", last.p50(), "ms", "the last 40 of 250");
    figures.note("add_250_over_1", last.p50() / first.p50(), "×", "last 40 over first 40");
    figures.note("drain_250_ms", drain.as_secs_f64() * 1000.0, "ms", "250 DELs at once");
    figures.note("daemon_rss_after_drain_mib", rss, "MiB", "right after them");
    Ok(())
}

/// *Precision*: good to a part in 2⁵³, far finer than what is measured.
#[allow(clippy::cast_precision_loss, reason = "sizes of files and processes are far below 2^53")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}
