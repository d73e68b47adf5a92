//! The daemon's life on a simulated node: restarts, crashes, stops, with pods running throughout.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use podwire_e2e::binaries::Binaries;
use podwire_e2e::daemon::{CONFLIST, Daemon, SOCKET, channel_of, client_of, status_of, wait_for};
use podwire_e2e::pod::{self, Pod};
use podwire_e2e::proof;
use podwire_e2e::runtime;
use podwire_e2e::scene::{Mode, READY, Worker, delete};
use podwire_proto::v1::ExplainRequest;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use vpcsim::lab::{Lab, LabSpec, NodeSpec};

const PATIENCE: Duration = Duration::from_secs(20);

fn lab(test: &str) -> Lab {
    Lab::start(LabSpec::named(&format!("e2e-{test}-{}", std::process::id())))
        .expect("a simulated VPC (root, ip and nft)")
}

fn worker(lab: &Lab, name: &str, settings: &[(&str, &str)]) -> Worker {
    let spec = NodeSpec::new(name).of_type("t3.medium");
    Worker::start(lab, &Binaries::find().expect("binaries"), spec, Mode::Secondary, settings)
        .expect("a ready node")
}

fn ask<T>(future: impl Future<Output = anyhow::Result<T>>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future).expect("the daemon answers")
}

fn addresses(pods: &[Pod]) -> BTreeSet<std::net::Ipv4Addr> {
    pods.iter().map(|p| p.address).collect()
}

/// Scenario: DaemonSet rollout. Allocations, cooling addresses and conflist survive; nothing is given twice.
#[test]
fn restart_keeps_pods_and_never_gives_their_addresses_again() {
    let lab = lab("restart");
    let mut worker = worker(&lab, "n1", &[]);
    let first = worker.add_pods("first", 4).expect("pods");
    let conflist =
        std::fs::metadata(worker.node.path(CONFLIST)).expect("a conflist").modified().expect("a time");
    worker.daemon.stop(PATIENCE).expect("a graceful stop");
    first[0].ping(first[1].address).expect("pods talk while no daemon runs");

    worker.daemon = Daemon::start(&worker.node, &Binaries::find().expect("binaries"), &[]).expect("a daemon");
    worker.daemon.wait_ready(READY).expect("ready");
    let second = worker.add_pods("second", 4).expect("pods");
    let all: Vec<Pod> = first.iter().chain(&second).cloned().collect();
    assert_eq!(addresses(&all).len(), 8, "an address was given twice");
    proof::addresses_are_true(&lab, &all).expect("EC2 agrees");
    let after =
        std::fs::metadata(worker.node.path(CONFLIST)).expect("a conflist").modified().expect("a time");
    assert_eq!(conflist, after, "the conflist is left alone on a restart in the same boot");
    for pod in &all {
        pod.check().expect("CHECK");
    }
    first[0].ping(second[3].address).expect("old and new pods talk");
}

/// The standard health service, as probes of `aws-node` ask it: as a whole and by the incumbent's name; no other is known.
#[test]
fn health_is_told_by_grpc_health_v1() {
    let lab = lab("health");
    let worker = worker(&lab, "n1", &[]);
    let health = |service: &str| {
        let request = HealthCheckRequest { service: service.to_owned() };
        ask(async {
            let mut client = HealthClient::new(channel_of(&worker.node).await?);
            Ok(client.check(request).await.map(|reply| reply.into_inner().status()))
        })
    };
    for service in ["", "grpc.health.v1.aws-node"] {
        assert_eq!(health(service).expect("known"), ServingStatus::Serving, "{service:?}");
    }
    assert_eq!(health("other").expect_err("unknown").code(), tonic::Code::NotFound);
}

/// Scenario: SIGKILL in the middle of a burst. What was answered stays true; what was not is retried and works.
#[test]
fn crash_in_a_burst_loses_and_doubles_nothing() {
    let lab = lab("crash");
    let mut worker = worker(&lab, "n1", &[]);
    let before = worker.add_pods("before", 3).expect("pods");
    let burst = std::thread::scope(|scope| {
        let adds: Vec<_> = (0..8)
            .map(|i| {
                let node = &worker.node;
                scope.spawn(move || pod::add(node, &format!("burst-{i}")))
            })
            .collect();
        std::thread::sleep(Duration::from_millis(20));
        let binaries = Binaries::find().expect("binaries");
        let dead = std::mem::replace(
            &mut worker.daemon,
            Daemon::start(&worker.node, &binaries, &[])
                .expect("a second daemon, waiting for the first to end"),
        );
        dead.kill().expect("killed");
        let added: Vec<_> =
            adds.into_iter().map(|add| add.join().expect("a thread").expect("an ADD")).collect();
        added
    });
    let all: Vec<Pod> = before.iter().chain(&burst).cloned().collect();
    assert_eq!(addresses(&all).len(), 11, "an address was given twice");
    proof::addresses_are_true(&lab, &all).expect("EC2 agrees");
    let status = ask(status_of(&worker.node));
    assert_eq!(status.allocated, 11, "{status:?}");
    burst[0].ping(before[0].address).expect("pods talk");
}

/// Scenario: DEL while the daemon is away. The plugin tears down and succeeds; the daemon takes the release in later.
#[test]
fn del_without_daemon_succeeds_and_is_taken_in_later() {
    let lab = lab("pending");
    let mut worker = worker(&lab, "n1", &[]);
    let pods = worker.add_pods("pod", 3).expect("pods");
    worker.daemon.stop(PATIENCE).expect("a graceful stop");
    delete(&pods[..2]).expect("DEL without a daemon");
    let links = worker.node.command("ip").args(["-o", "link", "show", "type", "veth"]).output().expect("ip");
    let links = String::from_utf8_lossy(&links.stdout).lines().filter(|l| l.contains(": eni")).count();
    assert_eq!(links, 1, "the plugin deletes its links itself");

    worker.daemon = Daemon::start(&worker.node, &Binaries::find().expect("binaries"), &[]).expect("a daemon");
    worker.daemon.wait_ready(READY).expect("ready");
    wait_for(PATIENCE, "pending releases to be taken in", || {
        let status = ask(status_of(&worker.node));
        Ok((status.allocated == 1).then_some(()))
    })
    .expect("taken in");
    wait_for(PATIENCE, "the files to go", || Ok((left_count(&worker) == 0).then_some(()))).expect("gone");
}

/// T-10: STATUS says yes throughout a restart and a crash of the daemon, also on a node without pods.
#[test]
fn status_stays_yes_while_a_node_without_pods_restarts() {
    let lab = lab("status");
    let Worker { node, mut daemon, .. } = worker(&lab, "n1", &[]);
    let binaries = Binaries::find().expect("binaries");
    let conf = runtime::netconf(&node, "1.1.0", None).expect("a conflist").to_string();
    let env = [("CNI_COMMAND", "STATUS"), ("CNI_PATH", "/opt/cni/bin")];
    let status = || {
        runtime::execute_raw(&node, Path::new("/opt/cni/bin/aws-cni"), &env, conf.as_bytes()).expect("runs")
    };
    let stop = AtomicBool::new(false);
    let asked = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let (mut asked, mut no) = (0, Vec::new());
            while !stop.load(Ordering::Relaxed) {
                let ran = status();
                asked += 1;
                no.extend((ran.code != Some(0)).then_some(ran.stdout));
            }
            (asked, no)
        });
        let restarted = [false, true].into_iter().try_for_each(|is_crash| {
            let next = || Daemon::start(&node, &binaries, &[Mode::Secondary.setting()]);
            let old = std::mem::replace(&mut daemon, next()?);
            if is_crash {
                old.kill()?;
            } else {
                old.stop(PATIENCE)?;
            }
            daemon.wait_ready(READY)?;
            wait_for(READY, "a usable address", || Ok((ask(status_of(&node)).free > 0).then_some(())))
        });
        // Before anything here can fail: the other thread asks until it is told.
        stop.store(true, Ordering::Relaxed);
        restarted.expect("restarted twice");
        asking.join().expect("a thread")
    });
    assert!(asked.0 > 10 && asked.1.is_empty(), "{} of {}: {:?}", asked.1.len(), asked.0, asked.1);
    drop(daemon);
}

fn left_count(worker: &Worker) -> usize {
    std::fs::read_dir(worker.node.path("/var/run/aws-node/podwire/released")).map_or(0, Iterator::count)
}

/// The ledger may lie elsewhere: what plugin and daemon leave for each other lies where both look.
#[test]
fn ledger_elsewhere_cuts_plugin_and_daemon_not_apart() {
    let lab = lab("elsewhere");
    let settings = [("PODWIRE_LEDGER_DIR", "/var/run/aws-node/elsewhere")];
    let mut worker = worker(&lab, "n1", &settings);
    let pods = worker.add_pods("pod", 2).expect("pods");
    worker.daemon.stop(PATIENCE).expect("a graceful stop");
    let conf = runtime::netconf(&worker.node, "1.1.0", None).expect("a conflist").to_string();
    let plugin = Path::new("/opt/cni/bin/aws-cni");
    let env = [("CNI_COMMAND", "STATUS"), ("CNI_PATH", "/opt/cni/bin")];
    let status = runtime::execute_raw(&worker.node, plugin, &env, conf.as_bytes()).expect("runs");
    status.result().expect("STATUS while the daemon is restarted");
    delete(&pods).expect("DEL without a daemon");

    let binaries = Binaries::find().expect("binaries");
    worker.daemon = Daemon::start(&worker.node, &binaries, &settings).expect("a daemon");
    worker.daemon.wait_ready(READY).expect("ready");
    wait_for(PATIENCE, "pending releases to be taken in", || {
        let status = ask(status_of(&worker.node));
        Ok((status.allocated == 0).then_some(()))
    })
    .expect("taken in");
    assert!(worker.node.path("/var/run/aws-node/elsewhere/ledger").exists(), "else the setting did nothing");
}

/// Scenario: an address that was just released is not given to the next pod, not even after a restart (design D5).
#[test]
fn released_address_cools_across_a_restart() {
    let lab = lab("cooling");
    let mut worker = worker(&lab, "n1", &[("IP_COOLDOWN_PERIOD", "30")]);
    let old = worker.add_pods("old", 2).expect("pods");
    let released = addresses(&old);
    delete(&old).expect("DEL");
    worker.daemon.stop(PATIENCE).expect("a graceful stop");
    let settings = [("IP_COOLDOWN_PERIOD", "30")];
    worker.daemon =
        Daemon::start(&worker.node, &Binaries::find().expect("binaries"), &settings).expect("a daemon");
    worker.daemon.wait_ready(READY).expect("ready");
    let new = worker.add_pods("new", 3).expect("pods");
    assert!(addresses(&new).is_disjoint(&released), "{:?} was used again too early", addresses(&new));
}

/// Scenario: the same node name, container and interface asked twice: the answer and the kernel stay as they are.
#[test]
fn second_add_of_a_running_pod_fails_and_changes_nothing() {
    let lab = lab("twice");
    let worker = worker(&lab, "n1", &[]);
    let pods = worker.add_pods("pod", 2).expect("pods");
    let again = pod::attach(&worker.node, pods[0].netns.clone(), pods[0].attachment.clone());
    assert!(again.is_err(), "a second ADD succeeded");
    pods[0].check().expect("CHECK still passes");
    pods[0].ping(pods[1].address).expect("the pod still talks");
    assert_eq!(ask(status_of(&worker.node)).allocated, 2);
}

/// D23: an ADD that waits on a full node for an address to cool lives through a graceful restart.
#[test]
fn add_that_waits_for_an_address_survives_a_graceful_restart() {
    let lab = lab("waiting");
    // Two ENIs with two addresses each, one of them the ENI's own: two pods.
    let spec = NodeSpec::new("n1").of_type("t3.nano");
    let binaries = Binaries::find().expect("binaries");
    let Worker { node, daemon, .. } =
        Worker::start(&lab, &binaries, spec, Mode::Secondary, &[]).expect("a ready node");
    let pods = [pod::add(&node, "pod-0"), pod::add(&node, "pod-1")].map(|pod| pod.expect("a pod"));
    delete(&pods).expect("DEL");
    std::thread::scope(|scope| {
        let add = scope.spawn(|| pod::add(&node, "late"));
        wait_for(PATIENCE, "the ADD to wait", || {
            let status = ask(async {
                let mut client = client_of(&node).await?;
                Ok(client.explain(ExplainRequest {}).await?.into_inner())
            });
            Ok((!status.waiting.is_empty()).then_some(()))
        })
        .expect("it waits");
        daemon.stop(PATIENCE).expect("a graceful stop");
        let settings = [Mode::Secondary.setting()];
        let mut next = Daemon::start(&node, &binaries, &settings).expect("a daemon");
        let ready = next.wait_ready(READY);
        let added = add.join().expect("a thread");
        ready.expect("ready");
        added.expect("ADD").check().expect("CHECK");
    });
}

/// Only root gets in (design D25).
#[test]
fn socket_turns_away_everyone_but_root() {
    let lab = lab("socket");
    let worker = worker(&lab, "n1", &[]);
    let socket = worker.node.path(SOCKET);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&socket).expect("a socket").permissions());
    assert_eq!(mode & 0o777, 0o660);
    // Even with the mode opened up, credentials are checked.
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o666)).expect("chmod");
    let script = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect('/var/run/aws-node/ipamd.sock')\n\
                  s.settimeout(5)\ntry:\n  \
                  s.sendall(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n'+bytes([0,0,0,4,0,0,0,0,0]))\n  \
                  d=s.recv(100)\nexcept ConnectionError:\n  d=b''\nsys.exit(3 if d else 0)";
    let mut stranger = worker.node.command("setpriv");
    stranger.args(["--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c", script]);
    let output = stranger.output().expect("setpriv and python3");
    assert_eq!(
        output.status.code(),
        Some(0),
        "a stranger got an answer: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let root = worker.node.command("/usr/bin/python3").args(["-c", script]).output().expect("python3");
    assert_eq!(root.status.code(), Some(3), "root must get an answer, or the test proves nothing");
}

/// A socket that somebody removed is made again. One that another daemon put in its place is left alone: from then on that
/// one is the node's writer.
#[test]
fn removed_socket_is_made_again_and_a_replaced_one_ends_the_daemon() {
    let lab = lab("door");
    let mut worker = worker(&lab, "n1", &[]);
    let socket = worker.node.path(SOCKET);
    std::fs::remove_file(&socket).expect("removed");
    worker.add_pods("pod", 2).expect("ADD waits until the socket is there again");
    let mirror = podwire_e2e::incumbent::checkpoint(&worker.node);
    wait_for(PATIENCE, "the mirror to name both pods", || {
        let text = std::fs::read_to_string(&mirror)?;
        Ok(["pod-0", "pod-1"].iter().all(|pod| text.contains(pod)).then_some(()))
    })
    .expect("written");

    std::fs::remove_file(&socket).expect("removed");
    let theirs = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
    std::fs::write(&mirror, "theirs").expect("written");
    let code = worker.daemon.wait_for_end(PATIENCE).expect("it ends by itself").code();
    assert_eq!(code, Some(1), "{}", worker.daemon.log_tail());
    assert!(
        worker.daemon.log_tail().contains("delete one of the two DaemonSets"),
        "{}",
        worker.daemon.log_tail()
    );
    assert_eq!(std::fs::read_to_string(&mirror).expect("there"), "theirs");
    theirs.set_nonblocking(true).expect("set");
    std::os::unix::net::UnixStream::connect(&socket).expect("their socket is where it was");
    drop(theirs);
}

/// aws-node writes its checkpoint long before it serves: from then on it is the node's writer.
#[test]
fn checkpoint_that_another_wrote_ends_the_daemon_and_is_left_alone() {
    let lab = lab("written");
    let mut worker = worker(&lab, "n1", &[]);
    worker.add_pods("pod", 1).expect("a pod");
    let checkpoint = podwire_e2e::incumbent::checkpoint(&worker.node);
    let named =
        || Ok(std::fs::read_to_string(&checkpoint).is_ok_and(|text| text.contains("pod-0")).then_some(()));
    wait_for(PATIENCE, "the checkpoint to name the pod", named).expect("written");
    std::fs::remove_file(&checkpoint).expect("removed");
    wait_for(PATIENCE, "the checkpoint to be there again", named).expect("written");

    podwire_e2e::incumbent::write(&checkpoint, &[]).expect("written");
    let theirs = std::fs::read_to_string(&checkpoint).expect("there");
    let code = worker.daemon.wait_for_end(PATIENCE).expect("it ends by itself").code();
    assert_eq!(code, Some(1), "{}", worker.daemon.log_tail());
    assert!(
        worker.daemon.log_tail().contains("delete one of the two DaemonSets"),
        "{}",
        worker.daemon.log_tail()
    );
    assert_eq!(std::fs::read_to_string(&checkpoint).expect("there"), theirs);
}

/// A second daemon waits while the first serves, and takes over when it ends (design §4, one writer).
#[test]
fn second_daemon_waits_for_the_first() {
    let lab = lab("single");
    let mut worker = worker(&lab, "n1", &[]);
    let first = worker.add_pods("pod", 2).expect("pods");
    let second =
        Daemon::start(&worker.node, &Binaries::find().expect("binaries"), &[]).expect("a second daemon");
    wait_for(PATIENCE, "the second daemon to say that it waits", || {
        Ok(second.log_tail().contains("waiting for it to end").then_some(()))
    })
    .expect("it says so");
    let old = std::mem::replace(&mut worker.daemon, second);
    old.stop(PATIENCE).expect("a graceful stop");
    let more = worker.add_pods("more", 1).expect("the second daemon serves; ADD waits for it");
    assert!(addresses(&first).is_disjoint(&addresses(&more)));
}

/// The node's own connections are older than our rules: they must not notice that the daemon came.
#[test]
fn connections_of_the_node_survive_the_daemons_first_start() {
    let lab = lab("own");
    let node = lab.add_node(NodeSpec::new("n1").of_type("t3.medium")).expect("a node");
    let outside = lab.internet().address();
    let mut open = node.enter(|| TcpStream::connect(outside)).expect("namespaces").expect("a connection");
    open.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut greeting = [0; 64];
    assert!(open.read(&mut greeting).expect("a greeting") > 0);
    let binaries = Binaries::find().expect("binaries");
    let stop = AtomicBool::new(false);
    let talked = std::thread::scope(|scope| {
        let talking = scope.spawn(|| {
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) {
                open.write_all(b"ping")?;
                open.read_exact(&mut [0; 4])?;
                rounds += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            std::io::Result::Ok(rounds)
        });
        let ready = Daemon::start(&node, &binaries, &[]).and_then(|mut daemon| {
            daemon.wait_ready(READY)?;
            std::thread::sleep(Duration::from_millis(200));
            Ok(daemon)
        });
        // Before anything here can fail: the other thread talks until it is told.
        stop.store(true, Ordering::Relaxed);
        let _daemon = ready.expect("ready");
        talking.join().expect("a thread")
    });
    assert!(talked.expect("the connection was reset") > 10);
}

/// The runtime's directory is not there yet when the first address is usable, then portmap is not: the node is opened once all is.
#[test]
fn node_is_opened_once_its_plugins_are_there() {
    let lab = lab("open");
    let node = lab.add_node(NodeSpec::new("n1").of_type("t3.medium")).expect("a node");
    let bin = node.path("/opt/cni/late");
    std::fs::write(&bin, "in the way").expect("a file");
    let settings = [Mode::Secondary.setting(), ("HOST_CNI_BIN_PATH", "/opt/cni/late")];
    let mut daemon = Daemon::start(&node, &Binaries::find().expect("binaries"), &settings).expect("a daemon");
    wait_for(PATIENCE, "the failure to be told", || {
        let log = std::fs::read_to_string(node.path("/var/log/aws-routed-eni/ipamd.log")).unwrap_or_default();
        Ok((log + &daemon.log_tail_of(200)).contains("it is tried again").then_some(()))
    })
    .expect("told");
    assert!(!node.path(CONFLIST).exists(), "a node without plugin takes pods");
    std::fs::remove_file(&bin).expect("removed");
    wait_for(PATIENCE, "the missing portmap to be told", || {
        Ok(daemon.log_tail_of(200).contains("no portmap in /opt/cni/late").then_some(()))
    })
    .expect("told");
    assert!(!node.path(CONFLIST).exists(), "every pod would fail at portmap");
    std::fs::write(bin.join("portmap"), "never executed here").expect("written");
    daemon.wait_ready(PATIENCE).expect("opened in the end");
    assert!(bin.join("aws-cni").exists());
}
