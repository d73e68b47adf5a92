//! ENIs that are not as they should be: attached by others without tags (design D6), with a device of another name or
//! with none at all (pain-points C26), and demand that nobody can serve (C31). Real daemon, real plugin, HTTP.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use podwire_e2e::binaries::Binaries;
use podwire_e2e::daemon::{Daemon, Setting, wait_for};
use podwire_e2e::pod::{self, Pod};
use podwire_e2e::proof;
use podwire_e2e::runtime;
use podwire_e2e::scene::{Mode, READY, Worker, delete, holdings};
use serde_json::{Value, json};
use vpcsim::api::wall_clock;
use vpcsim::cloud::{AttachInterface, CreateInterface, Delay, EniId, InstanceId, SubnetId};
use vpcsim::lab::{Lab, LabSpec, NodeSpec};
use vpcsim::node::Node;
use vpcsim::trouble::TroubleSettings;

const PATIENCE: Duration = Duration::from_secs(60);

fn lab(test: &str) -> Lab {
    Lab::start(LabSpec::instant(&format!("e2e-{test}-{}", std::process::id())))
        .expect("a simulated VPC (root, ip and nft)")
}

fn worker(lab: &Lab, name: &str, settings: &[Setting<'_>]) -> Worker {
    let spec = NodeSpec::new(name).of_type("t3.medium");
    Worker::start(lab, &Binaries::find().expect("binaries"), spec, Mode::Secondary, settings)
        .expect("a ready node")
}

fn calls(lab: &Lab, action: &str) -> u64 {
    lab.with_cloud(|cloud| cloud.stats().actions.get(action).map_or(0, |count| count.calls))
}

/// An ENI without tags, with three addresses, that somebody attached as device 1.
fn attached_by_hand(lab: &Lab, instance: &InstanceId) -> EniId {
    let subnet = SubnetId::from(holdings(lab, instance)[0].subnet.as_str());
    let wanted = vpcsim::cloud::Wanted { count: 3, ..Default::default() };
    let request = CreateInterface { wanted, ..CreateInterface::new(&subnet) };
    lab.with_cloud(|cloud| {
        let eni = cloud.create_network_interface(wall_clock(), &request).expect("created").id;
        let attach = AttachInterface { eni: eni.clone(), instance: instance.clone(), device: 1, card: None };
        cloud.attach_network_interface(wall_clock(), &attach).expect("attached");
        eni
    })
}

/// Waits until the daemon knows the lent ENI, and may give its three addresses.
fn sees_it_as_borrowed(node: &Node) {
    let podwire = Binaries::find().expect("binaries").podwire();
    wait_for(PATIENCE, "the ENI to be known as borrowed", || {
        let output = node.command(&podwire).args(["status", "--json"]).output()?;
        let told: Value = serde_json::from_slice(&output.stdout)?;
        let lent = |eni: &Value| eni["role"] == "borrowed" && eni["free"].as_u64() == Some(3);
        Ok(told["enis"]["list"].as_array().is_some_and(|list| list.iter().any(lent)).then_some(()))
    })
    .expect("known");
}

/// Waits until EC2 has attached what was attached by hand.
fn attached_in_ec2(lab: &Lab, eni: &EniId) {
    wait_for(PATIENCE, "the attachment", || {
        let done = |cloud: &mut vpcsim::cloud::Cloud| {
            format!("{:?}", cloud.interface(eni)).contains("status: Attached")
        };
        Ok(lab.with_cloud(done).then_some(()))
    })
    .expect("attached");
}

/// Which mutating calls were made, in order.
fn changes(lab: &Lab) -> Vec<String> {
    lab.with_cloud(|cloud| {
        cloud.calls().filter(|call| call.mutating).map(|call| call.action.clone()).collect()
    })
}

/// D6, C34: without ec2:CreateTags the lent ENI is left as it is: nothing of it changes, others grow, the cause is told.
#[test]
fn d6_eni_that_may_not_be_tagged_is_never_changed() {
    let lab = lab("d6-denied");
    let node = lab.add_node(NodeSpec::new("n1").of_type("t3.medium")).expect("a node");
    let instance = InstanceId::from(node.instance_id());
    let eni = attached_by_hand(&lab, &instance);
    let state = || lab.with_cloud(|cloud| format!("{:?}", cloud.interface(&eni)));
    attached_in_ec2(&lab, &eni);
    let before = state();
    // A new ENI comes with its tags in one call, which needs the same permission: ENIs that are there already grow.
    let denied = json!({"iam": {"policy": {"deny": ["CreateTags"]}}});
    lab.trouble(serde_json::from_value::<TroubleSettings>(denied).expect("trouble settings"));
    let settings = [("IP_COOLDOWN_PERIOD", "1")];
    let mut daemon = Daemon::start(&node, &Binaries::find().expect("binaries"), &settings).expect("a daemon");
    daemon.wait_ready(READY).expect("ready");
    sees_it_as_borrowed(&node);
    let worker = Worker { node, daemon, mode: Mode::Secondary, ready_after: Duration::ZERO };
    let pods = worker.add_pods("pod", 8).expect("five on the primary ENI, three on the lent one");
    proof::addresses_are_true(&lab, &pods).expect("EC2 agrees");
    let more = std::thread::scope(|scope| {
        let adding = scope.spawn(|| short_add(&worker.node, "ninth"));
        wait_for(PATIENCE, "the cause", || {
            Ok(worker.daemon.log_tail_of(300).contains("ec2:CreateTags is denied").then_some(()))
        })
        .expect("told");
        adding.join().expect("a thread")
    });
    assert!(!more, "the ninth has nowhere to go");
    assert_eq!(state(), before, "it was changed");
}

/// D6: a lent ENI gets our tags before anything else of it is changed; from then on it grows, and goes, like one of ours.
#[test]
fn d6_lent_eni_is_tagged_before_its_first_change_and_is_ours_from_then_on() {
    let lab = lab("d6");
    let node = lab.add_node(NodeSpec::new("n1").of_type("t3.medium")).expect("a node");
    let instance = InstanceId::from(node.instance_id());
    let eni = attached_by_hand(&lab, &instance);
    attached_in_ec2(&lab, &eni);
    let state = || lab.with_cloud(|cloud| cloud.interface(&eni).cloned());
    let before = state().expect("it exists");
    assert!(before.tags.is_empty(), "{:?}", before.tags);
    let slow = json!({"latency": {"CreateTags": {"fixed": {"ms": 400}}}});
    lab.trouble(serde_json::from_value::<TroubleSettings>(slow).expect("trouble settings"));
    let ready = AtomicBool::new(false);
    let (_worker, pods, seen_untagged) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut untagged = 0;
            while !ready.load(Ordering::Relaxed) {
                if let Some(now) = state().filter(|now| now.tags.is_empty()) {
                    assert_eq!(format!("{now:?}"), format!("{before:?}"), "changed without our tags");
                    untagged += 1;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            untagged
        });
        // The cooldown is long enough for the pods to come before it goes back for want of them.
        let settings = [("IP_COOLDOWN_PERIOD", "5")];
        let mut daemon =
            Daemon::start(&node, &Binaries::find().expect("binaries"), &settings).expect("a daemon");
        daemon.wait_ready(READY).expect("ready");
        let worker = Worker { node, daemon, mode: Mode::Secondary, ready_after: Duration::ZERO };
        let pods = worker.add_pods("pod", 10).expect("five on the primary ENI, five on the lent one");
        ready.store(true, Ordering::Relaxed);
        (worker, pods, watching.join().expect("tags came first"))
    });
    assert!(seen_untagged >= 20, "looked at it {seen_untagged} times before it was tagged");
    proof::addresses_are_true(&lab, &pods).expect("EC2 agrees");
    let grown = state().expect("it exists");
    assert!(grown.secondaries.len() > before.secondaries.len(), "{grown:?}");
    assert_eq!(
        grown.tags.get("node.k8s.amazonaws.com/instance_id").map(String::as_str),
        Some(instance.as_str())
    );
    assert_eq!(calls(&lab, "CreateTags"), 1);
    delete(&pods).expect("DEL");
    wait_for(PATIENCE, "the lent ENI to go", || Ok(state().is_none().then_some(()))).expect("given back");
}

fn short_add(node: &Node, name: &str) -> bool {
    node.add_netns(name).expect("a namespace");
    let mut conf = runtime::netconf(node, "1.0.0", None).expect("a conflist");
    conf["podwireAddTimeoutMs"] = json!(5000);
    let ran = runtime::execute(node, "ADD", &pod::attachment(node, name), &conf).expect("executed");
    ran.code == Some(0)
}

/// C26: somebody (udev, an administrator) renames the device of a new ENI as soon as it is there: it is known by its MAC.
#[test]
fn c26_renamed_device_carries_its_pods() {
    let mut spec = LabSpec::instant(&format!("e2e-c26-renamed-{}", std::process::id()));
    spec.cloud.timings.attach = Delay::Fixed { ms: 1_000 };
    let lab = Lab::start(spec).expect("a simulated VPC");
    let worker = worker(&lab, "n1", &[]);
    let script =
        "for n in $(seq 600); do ip link set eth1 name ens77 2>/dev/null && exit 0; sleep 0.02; done; exit 1";
    let mut renames = worker.node.command("sh").args(["-c", script]).spawn().expect("a shell");
    let pods = worker.add_pods("pod", 7).expect("pods on two ENIs");
    assert!(renames.wait().expect("it ends").success(), "the device was never there");
    let far = self::worker(&lab, "n2", &[]).add_pods("far", 1).expect("a pod elsewhere");
    let late =
        pods.iter().find(|p| proof::device_of(&lab, p).is_ok_and(|(_, d)| d == 1)).expect("a pod on it");
    proof::leaves_by_its_eni(&lab, late, &far[0]).expect("the renamed ENI carries packets");
    late.check().expect("CHECK");
}

/// C26: the ENI is attached and its device never appears: its addresses are withheld, the others serve, no ENI after ENI
/// is made for it, and the cause is told. (That it goes back after ten tries is the pool's test.)
#[test]
fn c26_eni_without_a_device_is_withheld_and_named() {
    let lab = lab("c26-never");
    let worker = worker(&lab, "n1", &[]);
    // The name that the hot-plug needs is taken, so that the kernel refuses the device.
    let taken = worker
        .node
        .command("ip")
        .args(["link", "add", "eth1", "type", "veth", "peer", "name", "taken"])
        .status();
    assert!(taken.expect("ip").success());
    let first = worker.add_pods("first", 4).expect("pods on the primary ENI");
    let served = std::thread::scope(|scope| {
        let adds: Vec<_> = (0..4)
            .map(|n| {
                let node = &worker.node;
                scope.spawn(move || short_add(node, &format!("more-{n}")))
            })
            .collect();
        adds.into_iter().map(|add| add.join().expect("a thread")).filter(|served| *served).count()
    });
    assert!(served <= 1, "{served} pods were given addresses that nobody can reach");
    let second = holdings(&lab, &worker.instance());
    assert!(second.len() > 1, "a second ENI was attached: {second:?}");
    wait_for(PATIENCE, "the cause", || {
        Ok(worker.daemon.log_tail_of(300).contains("no device with MAC").then_some(()))
    })
    .expect("told");
    assert!(calls(&lab, "CreateNetworkInterface") <= 2, "ENI after ENI");
    proof::addresses_are_true(&lab, &first).expect("EC2 agrees");
    first.iter().try_for_each(Pod::check).expect("CHECK");
}

/// C31: pods ask for more than the node can ever hold, over and over. No ENI is made beyond what can be used, every ADD is
/// answered with the reason, and all of it goes back when they are gone.
#[test]
fn c31_demand_that_cannot_be_met_makes_no_eni_after_eni() {
    let lab = lab("c31");
    let settings = [("MAX_ENI", "1"), ("IP_COOLDOWN_PERIOD", "1")];
    let worker = worker(&lab, "n1", &settings);
    let pods = worker.add_pods("pod", 5).expect("as many pods as one ENI holds");
    let began = Instant::now();
    let mut refused = 0;
    for round in 0..4 {
        std::thread::scope(|scope| {
            let adds: Vec<_> = (0..5)
                .map(|n| {
                    let node = &worker.node;
                    scope.spawn(move || refused_add(node, &format!("round-{round}-{n}")))
                })
                .collect();
            for add in adds {
                let told = add.join().expect("a thread");
                assert!(told.contains("pod addresses of this node are taken"), "{told}");
                refused += 1;
            }
        });
    }
    assert_eq!(refused, 20);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    assert_eq!(calls(&lab, "CreateNetworkInterface"), 0, "{:?}", changes(&lab));
    let held: usize = holdings(&lab, &worker.instance()).iter().map(|eni| eni.addresses).sum();
    assert_eq!(held, 5, "what an ENI of this type holds");
    delete(&pods).expect("DEL");
    wait_for(PATIENCE, "the rest to go back", || {
        let enis = holdings(&lab, &worker.instance());
        Ok((enis.len() == 1 && enis[0].addresses <= 2).then_some(()))
    })
    .expect("given back");
    assert_eq!(calls(&lab, "CreateNetworkInterface"), 0);
}

/// What the plugin says to a pod that gets no address.
fn refused_add(node: &Node, name: &str) -> String {
    node.add_netns(name).expect("a namespace");
    let mut conf = runtime::netconf(node, "1.0.0", None).expect("a conflist");
    // The daemon gives up a tenth of this before the plugin does: time enough for its reason on a busy machine.
    conf["podwireAddTimeoutMs"] = json!(4000);
    let attachment = pod::attachment(node, name);
    let ran = runtime::execute(node, "ADD", &attachment, &conf).expect("executed");
    assert_ne!(ran.code, Some(0), "{name} got an address");
    // As a runtime does after a failed ADD.
    runtime::execute(node, "DEL", &attachment, &conf).expect("executed");
    let told: Value = serde_json::from_str(&ran.stdout).expect("an error object");
    format!("{} {}", told["msg"].as_str().unwrap_or_default(), told["details"].as_str().unwrap_or_default())
}
