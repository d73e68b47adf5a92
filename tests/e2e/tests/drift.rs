//! Drift on a node with the real daemon: noticed, repaired within a second, counted and explained in the log, while
//! established connections go on; and what earlier owners of an address left.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use podwire_e2e::binaries::Binaries;
use podwire_e2e::daemon::{Daemon, LOG, wait_for};
use podwire_e2e::pod::{self, Pod};
use podwire_e2e::proof;
use podwire_e2e::scene::{Mode, READY, Worker, delete};
use vpcsim::lab::{Lab, LabSpec, NodeSpec};
use vpcsim::node::Node;

const PATIENCE: Duration = Duration::from_secs(20);
/// Design D19.
const REPAIRED: Duration = Duration::from_secs(1);
/// How often a repair may be timed: on a busy machine one look takes long, a slow repair is slow every time. Our choice.
const TRIES: usize = 3;
/// Beyond what the daemon remembers of a repair, so that another try is no quarrel. *Source*: `CALM` and `PAUSE` in
/// `ipamd/src/executors/host/schedule.rs`.
const FORGIVEN: Duration = Duration::from_secs(15);

fn lab(test: &str) -> Lab {
    Lab::start(LabSpec::named(&format!("e2e-{test}-{}", std::process::id())))
        .expect("a simulated VPC (root, ip and nft)")
}

fn worker(lab: &Lab, name: &str, settings: &[(&str, &str)]) -> Worker {
    let spec = NodeSpec::new(name).of_type("t3.medium");
    Worker::start(lab, &Binaries::find().expect("binaries"), spec, Mode::Secondary, settings)
        .expect("a ready node")
}

fn sh(node: &Node, line: &str) -> String {
    let output = node.command("sh").args(["-ec", line]).output().expect("executed");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What drift would change: rules, routes, addresses, reverse-path filters, our table. Sorted, since a rebuilt table lists
/// its parts in another order.
fn state(node: &Node) -> Vec<String> {
    let text = sh(
        node,
        "ip -4 rule; ip -4 route show table all; ip -4 -o addr | sed 's/ *valid_lft.*//'; \
         for d in eth0 eth1; do cat /proc/sys/net/ipv4/conf/$d/rp_filter; ip -o link show $d | grep -o 'state [A-Z]*'; done; \
         cat /proc/sys/net/ipv4/ip_forward; nft list table ip podwire",
    );
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn log(node: &Node) -> String {
    std::fs::read_to_string(node.path(LOG)).expect("a log")
}

fn on_device(lab: &Lab, pods: &[Pod], device: u32) -> Pod {
    let found = pods.iter().find(|p| proof::device_of(lab, p).is_ok_and(|(_, d)| d == device));
    found.expect("a pod on that ENI").clone()
}

/// A server in a pod that tells each caller its address and then echoes, however long it takes. Ends with the process.
fn serve(pod: &Pod) -> SocketAddr {
    let address = SocketAddr::from((pod.address, 7000));
    let listener = pod.netns.enter(|| TcpListener::bind(address)).expect("namespaces").expect("a listener");
    std::thread::spawn(move || {
        for caller in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let peer = caller.peer_addr()?;
                let (mut from, mut to) = (caller.try_clone()?, caller);
                writeln!(to, "{} {}", peer.ip(), peer.port())?;
                std::io::copy(&mut from, &mut to)
            });
        }
    });
    address
}

/// A connection that somebody talks over all the time.
struct Flow {
    stream: BufReader<TcpStream>,
    seen_as: String,
}

impl Flow {
    fn open(pod: &Pod, to: SocketAddr) -> Self {
        let connect = || TcpStream::connect_timeout(&to, PATIENCE);
        let stream = pod.netns.enter(connect).expect("namespaces").expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        let mut stream = BufReader::new(stream);
        let mut seen_as = String::new();
        stream.read_line(&mut seen_as).expect("a greeting");
        Self { stream, seen_as: seen_as.split(' ').next().unwrap_or_default().to_owned() }
    }

    fn ask(&mut self) -> std::io::Result<()> {
        self.stream.get_mut().write_all(b"ping")?;
        self.stream.read_exact(&mut [0; 4])
    }
}

/// Each kind of damage, and the part under which it is counted.
const DAMAGES: [(&str, &str); 11] = [
    ("ip rule flush; ip rule add pref 32767 lookup default", "rule"),
    ("ip route flush table 2", "route"),
    ("ip link set eth1 down; ip link set eth1 up", "route"),
    ("ip link set eth1 down", "link-state"),
    ("nft delete table ip podwire", "nft"),
    ("nft add rule ip podwire egress drop", "nft"),
    // As systemd-networkd does on a restart: foreign rules and routes go, addresses it did not set are dropped.
    (
        "ip rule del pref 512; ip rule del pref 1536; ip route flush table 5120; ip route flush table 2; ip addr flush dev eth1",
        "address",
    ),
    (
        "echo 1 > /proc/sys/net/ipv4/conf/eth1/rp_filter; echo 1 > /proc/sys/net/ipv4/conf/eth0/rp_filter",
        "rp-filter",
    ),
    ("echo 0 > /proc/sys/net/ipv4/ip_forward", "forwarding"),
    ("ip route flush table 5120", "pod-route"),
    ("ip link set $(ip -o link show type veth | grep -o 'eni[0-9a-f]*' | head -1) down", "pod-route"),
];

/// Scenarios 42 and 43: whatever is damaged is right again within a second; connections across both ENIs go on.
#[test]
fn drift_is_repaired_within_a_second_and_connections_survive() {
    let lab = lab("drift");
    let (here, there) = (worker(&lab, "n1", &[]), worker(&lab, "n2", &[]));
    // As kube-proxy does on every node, something else keeps connection tracking and NAT at work while our table is away.
    sh(
        &here.node,
        "nft -f - <<'E'
table ip kube-proxy {
  chain pre { type nat hook prerouting priority dstnat; ip daddr 172.20.0.1 tcp dport 443 dnat to 10.0.0.250:6443; }
  chain post { type nat hook postrouting priority srcnat; mark & 0x4000 != 0 masquerade; }
}
E",
    );
    let pods = here.add_pods("pod", 8).expect("pods on two ENIs");
    let far = there.add_pods("far", 1).expect("a pod");
    let server = serve(&far[0]);
    let (first, second) = (on_device(&lab, &pods, 0), on_device(&lab, &pods, 1));
    let mut flows = Vec::new();
    for pod in [&first, &second] {
        let inside = Flow::open(pod, server);
        assert_eq!(inside.seen_as, pod.address.to_string(), "in the VPC a pod is itself");
        flows.extend([inside, Flow::open(pod, lab.internet().address())]);
    }
    let (stop, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let talking: Vec<_> = flows
            .iter_mut()
            .map(|flow| {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        flow.ask()?;
                        rounds.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    std::io::Result::Ok(())
                })
            })
            .collect();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for (damage, part) in DAMAGES {
                damage_is_repaired(&here.node, damage, part);
            }
        }));
        let before = rounds.load(Ordering::Relaxed);
        let more = wait_for(PATIENCE, "the connections to go on", || {
            Ok((rounds.load(Ordering::Relaxed) > before + 200).then_some(()))
        });
        stop.store(true, Ordering::Relaxed);
        for flow in talking {
            flow.join().expect("a thread").expect("a connection was reset or stalled");
        }
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
        more.expect("connections go on");
    });
    for pod in &pods {
        pod.check().expect("CHECK finds every pod as ADD made it");
    }
    assert!(log(&here.node).matches("drift repaired").count() >= DAMAGES.len());
    assert!(!log(&here.node).contains("keeps undoing"), "nobody quarrels here:\n{}", here.daemon.log_tail());
}

fn damage_is_repaired(node: &Node, damage: &str, part: &str) {
    let mut tries = Vec::new();
    loop {
        let took = repair_of(node, damage, part);
        tries.push(took);
        if took < REPAIRED {
            break;
        }
        assert!(tries.len() < TRIES, "{damage}: right after {tries:?}");
        std::thread::sleep(FORGIVEN);
    }
    eprintln!("{damage}: right within {tries:?}");
}

/// Damages the node. Returns after how long it was right again.
fn repair_of(node: &Node, damage: &str, part: &str) -> Duration {
    let (before, told) = (state(node), log(node).matches("drift repaired").count());
    sh(node, damage);
    let began = Instant::now();
    let right = wait_for(PATIENCE, damage, || {
        // A look is a dozen processes; what it finds right was right when it began.
        let at = began.elapsed();
        Ok((state(node) == before).then_some(at))
    });
    let took = right
        .map_err(|error| {
            let after = state(node);
            let missing: Vec<_> = before.iter().filter(|l| !after.contains(l)).collect();
            let more: Vec<_> = after.iter().filter(|l| !before.contains(l)).collect();
            anyhow::anyhow!("{error}; missing {missing:?}, more {more:?}")
        })
        .expect("repaired");
    wait_for(PATIENCE, "the log to say so", || {
        let text = log(node);
        let lines: Vec<&str> = text.lines().filter(|l| l.contains("drift repaired")).collect();
        Ok(lines[told..].iter().any(|line| line.contains(&format!("\"{part}\""))).then_some(()))
    })
    .map_err(|error| anyhow::anyhow!("{damage}, {part}: {error}:\n{}", log(node)))
    .expect("it says so");
    took
}

/// Two programs that fight over a rule: back-off and an alarm that names rule and culprit, not a war; peace is noticed.
#[test]
fn fight_over_a_rule_ends_in_back_off_and_an_alarm() {
    let lab = lab("fight");
    let worker = worker(&lab, "n1", &[]);
    let pods = worker.add_pods("pod", 2).expect("pods");
    let fight = "n=0; end=$(( $(date +%s) + 8 )); while [ $(date +%s) -lt $end ]; do \
                 if ip rule del pref 512 2>/dev/null; then n=$((n+1)); fi; sleep 0.02; done; echo $n";
    let won: usize = sh(&worker.node, fight).trim().parse().expect("a number");
    assert!(
        (8..16).contains(&won),
        "the rule was deleted {won} times in 8 s: it must come back, ever more slowly"
    );
    let text = log(&worker.node);
    let alarm = text.lines().find(|l| l.contains("keeps undoing")).expect("an alarm");
    assert!(alarm.contains("rule 512") && alarm.contains("ERROR"), "{alarm}");
    assert!(alarm.contains("netlink port") || alarm.contains("(pid "), "the culprit: {alarm}");
    // Something else that drifts meanwhile does not wait.
    let tries: Vec<Duration> = (0..TRIES)
        .map(|_| {
            sh(&worker.node, "nft flush chain ip podwire egress");
            let began = Instant::now();
            wait_for(PATIENCE, "the chain", || {
                let at = began.elapsed();
                let chain = sh(&worker.node, "nft list chain ip podwire egress");
                Ok(chain.contains("@addresses").then_some(at))
            })
            .expect("repaired")
        })
        .collect();
    assert!(tries.iter().any(|took| *took < REPAIRED), "{tries:?}");
    wait_for(PATIENCE, "the rule", || Ok(sh(&worker.node, "ip rule").contains("512:").then_some(())))
        .expect("repaired in the end");
    pods[0].ping(pods[1].address).expect("pods talk");
}

/// What an ENI that vanished while no daemon ran left goes once the others are configured; theirs stays throughout.
#[test]
fn rules_of_an_eni_that_vanished_meanwhile_are_pruned() {
    let lab = lab("prune");
    let mut worker = worker(&lab, "n1", &[]);
    let pods = worker.add_pods("pod", 8).expect("pods on two ENIs");
    let before = state(&worker.node);
    worker.daemon.stop(PATIENCE).expect("a graceful stop");
    // What the ENI at device 7 would have left: its device and routes are gone, rules and ruleset are not.
    sh(
        &worker.node,
        "ip rule add pref 1536 fwmark 0x8/0x7f lookup 8 protocol 80; \
         ip rule add pref 32765 from 10.0.77.7 lookup 8 protocol 80; \
         nft 'add chain ip podwire eni-8; add chain ip podwire arrival-8; \
              add element ip podwire prefixes { 10.0.77.16/28 : jump eni-8 }; add element ip podwire arrivals { 999 : jump arrival-8 }'",
    );
    assert_ne!(state(&worker.node), before);
    worker.daemon = Daemon::start(&worker.node, &Binaries::find().expect("binaries"), &[]).expect("a daemon");
    wait_for(READY, "the leftovers to go", || {
        let now = state(&worker.node);
        for line in before.iter().filter(|l| l.contains("lookup 2") || l.contains("fwmark")) {
            assert!(now.contains(line), "an ENI that is there lost {line}");
        }
        Ok((now == before).then_some(()))
    })
    .map_err(|e| anyhow::anyhow!("{e}: {:?}", state(&worker.node)))
    .expect("pruned");
    worker.daemon.wait_ready(READY).expect("ready");
    let second = on_device(&lab, &pods, 1);
    proof::leaves_by_snat(&lab, &second).expect("pods on the second ENI reach the internet");
}

/// Scenario 46: the VPC gets another range while the daemon runs. Within the refresh period pods are themselves there, and
/// what was connected before goes on under the node's address.
#[test]
fn range_added_to_the_vpc_is_exempt_from_snat() {
    let lab = lab("range");
    let worker = worker(&lab, "n1", &[]);
    let pods = worker.add_pods("pod", 8).expect("pods on two ENIs");
    let outside = lab.internet().address();
    let second = on_device(&lab, &pods, 1);
    let mut before = Flow::open(&second, outside);
    let node = worker.node.primary().expect("a primary address").address.to_string();
    assert_eq!(before.seen_as, node);
    let there = outside.ip().to_string();
    let (network, _) = there.rsplit_once('.').expect("an IPv4 address");
    let range = format!("{network}.0/24").parse().expect("a range");
    lab.with_cloud(|cloud| cloud.widen_vpc(cloud.now(), range));
    // The refresh period is 30 s.
    wait_for(Duration::from_secs(45), "the range", || {
        before.ask()?;
        let exempt = sh(&worker.node, "nft list set ip podwire no-snat");
        Ok(exempt.contains(network).then_some(()))
    })
    .expect("exempt");
    for pod in &pods {
        assert_eq!(Flow::open(pod, outside).seen_as, pod.address.to_string());
    }
    before.ask().expect("the older connection goes on");
    assert_eq!(before.seen_as, node);
}

/// Scenario 47: when an address starts to cool, the node forgets its connections and neighbours, and nobody else's.
#[test]
fn connections_and_neighbours_of_a_released_address_are_forgotten() {
    let lab = lab("forget");
    let worker = worker(&lab, "n1", &[]);
    let pods = worker.add_pods("pod", 12).expect("pods");
    let flows: Vec<Flow> = pods.iter().map(|pod| Flow::open(pod, lab.internet().address())).collect();
    let count = |pod: &Pod| {
        let table = sh(&worker.node, "conntrack -L 2>/dev/null");
        let neighbours = sh(&worker.node, "ip -4 neigh");
        let of = |text: &str, word: String| text.lines().filter(|l| format!("{l} ").contains(&word)).count();
        (of(&table, format!("={} ", pod.address)), of(&neighbours, format!("{} ", pod.address)))
    };
    for pod in &pods {
        worker.node.command("ping").args(["-c1", "-W1", &pod.address.to_string()]).output().expect("ping");
        let (connections, neighbours) = count(pod);
        assert!(connections > 0 && neighbours > 0, "{}: {connections} {neighbours}", pod.address);
    }
    // Ten at once are flushed together, one alone by itself.
    for gone in [&pods[..1], &pods[1..11]] {
        delete(gone).expect("DEL");
        for pod in gone {
            wait_for(
                PATIENCE,
                "the connections to be forgotten",
                || Ok((count(pod) == (0, 0)).then_some(())),
            )
            .map_err(|e| anyhow::anyhow!("{e}: {} {:?}", pod.address, count(pod)))
            .expect("forgotten");
        }
    }
    assert!(count(&pods[11]).0 > 0, "another pod's connections are kept");
    drop(flows);
}

/// Pods that come and go are no drift, and watching them costs next to nothing.
#[test]
fn churn_of_pods_is_no_drift_and_costs_little() {
    let lab = lab("churn");
    let spec = NodeSpec::new("n1").of_type("m5.large").with_launch_prefixes(1);
    let settings = [("IP_COOLDOWN_PERIOD", "1")];
    let worker = Worker::start(&lab, &Binaries::find().expect("binaries"), spec, Mode::Prefix, &settings)
        .expect("a node");
    let warm = worker.add_pods("warm", 10).expect("pods");
    delete(&warm).expect("DEL");
    // Time that a hypervisor steals counts, too: the median round tells.
    let mut rounds = Vec::new();
    for round in 0..10 {
        let before = cpu(&worker.daemon, Some("hostnet"));
        let pods = worker.add_pods(&format!("pod-{round}"), 10).expect("pods");
        delete(&pods).expect("DEL");
        rounds.push(cpu(&worker.daemon, Some("hostnet")).saturating_sub(before));
    }
    rounds.sort_unstable();
    let median = rounds[rounds.len() / 2];
    eprintln!(
        "10 ADD and DEL: {median} ms of processor time for host networking and its watch; all: {rounds:?}"
    );
    assert!(median <= 40, "{median} ms for 10 pods: {rounds:?}");
    let text = log(&worker.node);
    assert!(!text.contains("drift repaired"), "{text}");
    let one = pod::add(&worker.node, "last").expect("a pod");
    one.check().expect("CHECK");
}

/// Processor time of the daemon, or of one of its threads, in ms.
///
/// *Source*: proc_pid_stat(5), fields 14 and 15, in ticks of 10 ms; proc_pid_schedstat gives nanoseconds in its first field.
fn cpu(daemon: &Daemon, thread: Option<&str>) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("a process");
    let mut total = 0;
    for task in tasks.flatten() {
        let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        if thread.is_none_or(|name| read("comm").trim() == name) {
            let spent: u64 = read("schedstat").split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
            total += spent / 1_000_000;
        }
    }
    total
}
