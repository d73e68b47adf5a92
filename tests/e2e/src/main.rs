//! `podwire-demo`: the main job, shown. `scripts/demo` builds and runs it.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use podwire_e2e::binaries::Binaries;
use podwire_e2e::daemon::{status_of, wait_for};
use podwire_e2e::pod::Pod;
use podwire_e2e::proof::{self, LinkWatch};
use podwire_e2e::report::{Report, ms, say, table};
use podwire_e2e::scene::{Mode, Worker, delete, holdings};
use vpcsim::lab::{Lab, LabSpec, NodeSpec};

/// Shows podwire's main job on a simulated VPC of real Linux parts.
#[derive(Debug, Parser)]
#[command(name = "scripts/demo")]
struct Options {
    /// Pods on each node; by default more than the first ENI can hold.
    #[arg(long)]
    pods: Option<usize>,
    /// What the nodes give their pods.
    #[arg(long, value_enum, default_value = "both")]
    mode: Modes,
    /// Instance type of the nodes.
    #[arg(long)]
    instance_type: Option<String>,
    /// Leave everything up and tell how to look around; Ctrl-C takes it down.
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Modes {
    /// One node of each.
    Both,
    /// Single secondary addresses.
    Secondary,
    /// /28 prefixes.
    Prefix,
}

impl Modes {
    const fn of_nodes(self) -> [Mode; 2] {
        match self {
            Self::Both => [Mode::Secondary, Mode::Prefix],
            Self::Secondary => [Mode::Secondary, Mode::Secondary],
            Self::Prefix => [Mode::Prefix, Mode::Prefix],
        }
    }
}

/// Short enough that a reader sees addresses come back; the default is 30 s.
const COOLDOWN_S: &str = "8";
/// How long giving back may take. *Source*: our choice, several times cooldown + quiet time.
const GIVE_BACK: Duration = Duration::from_secs(75);

fn main() -> ExitCode {
    let options = Options::parse();
    let mut report = Report::new();
    if let Err(error) = run(&options, &mut report) {
        report.prove("the demo ran to its end", || Err(error));
    }
    report.summary();
    if report.count().1 == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let binaries = Binaries::find()?;
    report.step(
        "bringing up a VPC 10.0.0.0/16 with two subnets, EC2 and metadata servers, and an internet host",
    );
    let lab = Lab::start(LabSpec::named(&format!("demo-{}", std::process::id())))?;
    let workers = start_workers(&lab, &binaries, options, report)?;
    let pods = add_pods(&lab, &workers, options, report)?;
    prove_packets(&lab, &workers, &pods, report)?;
    show(&lab, &workers, &pods)?;
    if options.keep {
        keep(&lab)?;
    }
    give_back(&lab, &workers, &pods, report)?;
    say(&calls(&lab));
    for worker in workers {
        let name = worker.node.name().to_owned();
        report.prove(&format!("ipamd on {name} stops gracefully"), || {
            worker.daemon.stop(Duration::from_secs(15)).map(ms)
        });
    }
    lab.shutdown();
    Ok(())
}

fn start_workers(
    lab: &Lab,
    binaries: &Binaries,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<Vec<Worker>> {
    let mut workers = Vec::new();
    for (name, mode) in ["node-a", "node-b"].into_iter().zip(options.mode.of_nodes()) {
        // Small types, so that a few pods fill the first ENI: 5 addresses, or one prefix of 16.
        let default_type = if mode == Mode::Prefix { "t3.micro" } else { "t3.medium" };
        let instance_type = options.instance_type.as_deref().unwrap_or(default_type);
        report.step(&format!("booting {name} ({instance_type}, {}) and starting ipamd", mode.name()));
        let spec = NodeSpec::new(name).of_type(instance_type);
        let worker = Worker::start(lab, binaries, spec, mode, &[("IP_COOLDOWN_PERIOD", COOLDOWN_S)])?;
        report.step(&format!("{name} takes pods {} after ipamd's start", ms(worker.ready_after)));
        workers.push(worker);
    }
    Ok(workers)
}

/// How many pods overflow the first ENI of a node.
fn overflow(worker: &Worker, options: &Options) -> usize {
    let by_mode = match worker.mode {
        Mode::Secondary => 8,
        Mode::Prefix => 19,
    };
    options.pods.unwrap_or(by_mode)
}

fn add_pods(
    lab: &Lab,
    workers: &[Worker],
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<Vec<Pod>> {
    let mut all = Vec::new();
    for worker in workers {
        let count = overflow(worker, options);
        let name = worker.node.name();
        report.step(&format!("adding {count} pods to {name} at once, by executing aws-cni"));
        let watch = LinkWatch::start(&worker.node)?;
        let began = Instant::now();
        let pods = worker.add_pods(&format!("{name}-pod"), count)?;
        let took = began.elapsed();
        let appeared = watch.appeared()?;
        report.prove(&format!("{count} pods on {name} got an address"), || {
            Ok(format!("all within {}", ms(took)))
        });
        if options.pods.is_none() && options.instance_type.is_none() {
            report.prove(&format!("a second ENI was hot-plugged into {name} while its pods waited"), || {
                ensure!(appeared.iter().any(|n| n == "eth1"), "no eth1 among {appeared:?}");
                Ok(format!("seen by the node's own ip monitor: {}", appeared.join(", ")))
            });
        }
        all.extend(pods);
    }
    report.prove("every address is assigned in EC2 to its pod's node, none twice", || {
        proof::addresses_are_true(lab, &all)
    });
    report.prove("CHECK finds every pod as ADD made it", || {
        all.iter().try_for_each(Pod::check)?;
        Ok(format!("{} pods", all.len()))
    });
    Ok(all)
}

fn prove_packets(lab: &Lab, workers: &[Worker], pods: &[Pod], report: &mut Report) -> anyhow::Result<()> {
    let [a, b] = workers else { anyhow::bail!("the demo has two nodes") };
    let on_a = proof::one_per_eni(lab, pods, &a.node);
    let on_b = proof::one_per_eni(lab, pods, &b.node);
    let first_b = on_b.values().next().context("node-b has no pod")?;
    let here: Vec<&Pod> = pods.iter().filter(|p| p.node.name() == a.node.name()).collect();
    if let [one, .., other] = here.as_slice() {
        report.prove("pod ↔ pod on one node", || proof::reaches(one, other.address, "pod"));
    }
    for (device, pod) in &on_a {
        let from = format!("from ENI {device} of node-a");
        report.prove(&format!("pod → pod across nodes and subnets, {from}"), || {
            proof::leaves_by_its_eni(lab, pod, first_b)
        });
        report.prove(&format!("pod → internet through SNAT, {from}"), || proof::leaves_by_snat(lab, pod));
    }
    for (device, pod) in &on_b {
        let from = format!("from ENI {device} of node-b");
        report.prove(&format!("pod → pod across nodes and subnets, {from}"), || {
            proof::leaves_by_its_eni(lab, pod, here.first().context("node-a has no pod")?)
        });
        report.prove(&format!("pod → internet through SNAT, {from}"), || proof::leaves_by_snat(lab, pod));
    }
    let one = *on_a.values().next_back().context("node-a has no pod")?;
    for worker in workers {
        let node = worker.node.primary().context("the node has no address")?.address;
        report.prove(&format!("pod → {}", worker.node.name()), || proof::reaches(one, node, "node"));
    }
    report.prove("a pod cannot speak under a foreign address", || {
        proof::pod_cannot_spoof(one, first_b.address)
    });
    report.prove("the VPC drops spoofed packets", || proof::vpc_drops_spoofed(lab, &a.node, first_b.address));
    report.prove("pods get no instance metadata token (hop limit 1)", || proof::metadata_is_closed(one));
    Ok(())
}

fn show(lab: &Lab, workers: &[Worker], pods: &[Pod]) -> anyhow::Result<()> {
    let rows: Result<Vec<Vec<String>>, anyhow::Error> = pods
        .iter()
        .map(|pod| {
            let (eni, device) = proof::device_of(lab, pod)?;
            let place = [pod.name().to_owned(), pod.node.name().to_owned(), pod.address.to_string()];
            Ok(place.into_iter().chain([device.to_string(), eni, ms(pod.took)]).collect())
        })
        .collect();
    say(&format!("\n{}", table(&["pod", "node", "address", "ENI", "", "ADD"], &rows?)));
    let mut rows = Vec::new();
    for worker in workers {
        for held in holdings(lab, &worker.instance()) {
            let counts = [held.addresses.to_string(), held.prefixes.to_string()];
            let place =
                [worker.node.name().to_owned(), held.device.to_string(), held.eni, held.subnet, held.primary];
            rows.push(place.into_iter().chain(counts).collect());
        }
    }
    say(&table(&["node", "ENI", "", "subnet", "primary", "addresses", "prefixes"], &rows));
    let rows: Result<Vec<Vec<String>>, anyhow::Error> = workers
        .iter()
        .map(|w| {
            let memory = format!("{:.1} MiB", f64::from(u32::try_from(w.daemon.rss_kib()?)?) / 1024.0);
            Ok(vec![w.node.name().to_owned(), ms(w.ready_after), memory])
        })
        .collect();
    say(&table(&["node", "ready after", "memory of ipamd"], &rows?));
    Ok(())
}

fn give_back(lab: &Lab, workers: &[Worker], pods: &[Pod], report: &mut Report) -> anyhow::Result<()> {
    report.step("deleting all pods at once");
    let began = Instant::now();
    let dels = delete(pods)?;
    let longest = dels.iter().max().copied().unwrap_or_default();
    report.prove("every DEL succeeds", || {
        Ok(format!("{} in {}, longest {}", dels.len(), ms(began.elapsed()), ms(longest)))
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for worker in workers {
        let name = worker.node.name();
        report.prove(&format!("nothing of the pods is left in {name}'s kernel"), || {
            proof::nothing_left(worker)
        });
        report.prove(&format!("their addresses cool down on {name}"), || {
            let status = runtime.block_on(status_of(&worker.node))?;
            ensure!(status.allocated == 0, "{} are still allocated", status.allocated);
            ensure!(status.cooling > 0, "none is cooling");
            Ok(format!("{} cooling, {} assigned", status.cooling, status.assigned))
        });
    }
    report.step("waiting for addresses and ENIs to be given back");
    for worker in workers {
        let name = worker.node.name();
        report.prove(&format!("ENIs and addresses of {name} are given back"), || {
            let left = wait_for(GIVE_BACK, "ENIs to be given back", || {
                let held = holdings(lab, &worker.instance());
                Ok((held.len() == 1).then_some(held))
            });
            let left = left.with_context(|| match runtime.block_on(status_of(&worker.node)) {
                Ok(status) => format!("{status:?}"),
                Err(error) => format!("{error:#}"),
            })?;
            Ok(format!(
                "{} after the DELs; {} addresses, {} prefixes stay",
                ms(began.elapsed()),
                left[0].addresses,
                left[0].prefixes
            ))
        });
    }
    Ok(())
}

fn calls(lab: &Lab) -> String {
    let stats = lab.with_cloud(|cloud| cloud.stats());
    let rows: Vec<Vec<String>> =
        stats.actions.iter().map(|(action, count)| vec![action.clone(), count.calls.to_string()]).collect();
    format!("\nEC2 calls of both nodes, from boot to give-back:\n{}", table(&["action", "calls"], &rows))
}

fn keep(lab: &Lab) -> anyhow::Result<()> {
    say("everything stays up. Look around from another terminal:");
    for node in lab.nodes() {
        let enter = format!("nsenter -t {} -n -m -u", node.pid());
        say(&format!("  {enter} ip rule                        # {}", node.name()));
        say(&format!("  {enter} nft list table ip podwire"));
        say(&format!("  {enter} tail /var/log/aws-routed-eni/ipamd.log"));
    }
    say("press Enter (or Ctrl-C) to take it down");
    std::io::stdin().read_line(&mut String::new()).context("standard input is closed")?;
    Ok(())
}
