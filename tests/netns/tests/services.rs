//! Services with kube-proxy's real rules, in each of its modes, for pods on either ENI. The fabric drops every source that is
//! not assigned to the ENI it comes from, so whatever arrives has taken the right way.

use podwire_hostnet::{NodeConfig, NodeNet, Part};
use podwire_netns::kubeproxy::{self, Front, Mode, Service};
use podwire_netns::node::{Fabric, node_config, ready_node, second_eni, wired_pod};
use podwire_netns::tcp::{Client, Server, seen_as};
use podwire_netns::{Ns, Stage, on_stage};
use std::time::Duration;

const SERVICES: [Service; 9] = [
    Service { front: Front::Cluster("172.20.0.10"), endpoint: "10.0.9.9" },
    Service { front: Front::Cluster("172.20.0.11"), endpoint: "198.51.100.10" },
    Service { front: Front::Cluster("172.20.0.12"), endpoint: "10.0.0.101" },
    Service { front: Front::Cluster("172.20.0.13"), endpoint: "10.0.1.101" },
    Service { front: Front::NodePort(30001), endpoint: "10.0.0.101" },
    Service { front: Front::NodePort(30002), endpoint: "10.0.1.101" },
    Service { front: Front::NodePort(30003), endpoint: "10.0.9.9" },
    Service { front: Front::NodePortLocal(30004), endpoint: "10.0.0.101" },
    Service { front: Front::NodePortLocal(30005), endpoint: "10.0.1.101" },
];

/// The node's own addresses.
const NODE: [&str; 2] = ["10.0.0.11", "10.0.1.12"];

struct Scene {
    fabric: Fabric,
    node: NodeNet,
    first: Ns,
    second: Ns,
    _servers: [Server; 4],
}

/// A node with a pod on each ENI; something listens everywhere.
fn scene(stage: &Stage) -> Scene {
    let (fabric, node) = ready_node(stage);
    let (first, second) = (wired_pod(stage, "first", "10.0.0.101"), wired_pod(stage, "second", "10.0.1.101"));
    let servers = [
        Server::start(&fabric.peer, "10.0.9.9:80"),
        Server::start(&fabric.internet, "198.51.100.10:80"),
        Server::start(&first, "10.0.0.101:80"),
        Server::start(&second, "10.0.1.101:80"),
    ];
    Scene { fabric, node, first, second, _servers: servers }
}

#[track_caller]
fn seen(from: &Ns, address: &str, what: &str) -> String {
    seen_as(from, address).map_err(|error| format!("{what}, {address}: {error}")).expect("an answer")
}

/// ClusterIP from a pod on either ENI: to a pod elsewhere, an endpoint outside the VPC, a pod here, itself (hairpin).
fn cluster_ips(scene: &Scene, mode: Mode) {
    for (pod, own) in [(&scene.first, "10.0.0.101"), (&scene.second, "10.0.1.101")] {
        let what = format!("{mode:?}, ClusterIP from {own}");
        assert_eq!(seen(pod, "172.20.0.10:80", &what), own, "{what}: a pod elsewhere in the VPC");
        assert_eq!(seen(pod, "172.20.0.11:80", &what), "10.0.0.11", "{what}: an endpoint outside");
        let hairpin = if own == "10.0.0.101" { "172.20.0.12:80" } else { "172.20.0.13:80" };
        assert_eq!(seen(pod, hairpin, &what), "10.0.0.11", "{what}: hairpin");
        let neighbour = if own == "10.0.0.101" { "172.20.0.13:80" } else { "172.20.0.12:80" };
        assert_eq!(seen(pod, neighbour, &what), own, "{what}: a pod here");
    }
    // The node itself.
    for address in ["172.20.0.10:80", "172.20.0.12:80", "172.20.0.13:80"] {
        let here = Client::connect_here(address).and_then(|mut client| client.ask());
        let here = here.map_err(|error| format!("{mode:?}, from the node, {address}: {error}"));
        assert_eq!(here.as_deref(), Ok("10.0.0.11"));
    }
}

/// NodePort by either ENI's own address: the answer leaves by the ENI of arrival, whatever ENI the pod is on. This is also
/// how a load balancer with instance targets comes in, the client's address kept or not.
fn node_ports(scene: &Scene, mode: Mode) {
    let outside = &scene.fabric.internet;
    for (node, client) in NODE.iter().flat_map(|n| [(n, outside), (n, &scene.fabric.peer)]) {
        let own = if std::ptr::eq(client, outside) { "198.51.100.10" } else { "10.0.9.9" };
        let what = format!("{mode:?}, NodePort from {own}");
        for port in [30001, 30002] {
            assert!(NODE.contains(&&*seen(client, &format!("{node}:{port}"), &what)), "{what}: masqueraded");
        }
        for port in [30004, 30005] {
            assert_eq!(seen(client, &format!("{node}:{port}"), &what), own, "{what}: policy Local");
        }
    }
    for node in NODE {
        // The endpoint is elsewhere: in by one ENI, on by the primary one, back the same way.
        let seen = seen(outside, &format!("{node}:30003"), "NodePort to a pod elsewhere");
        assert!(NODE.contains(&&*seen), "{mode:?}: masqueraded as {seen}");
    }
}

/// A load balancer with IP targets keeps the client's address: the pod's answer leaves by the pod's ENI and is under no SNAT.
/// What the pod itself begins towards the outside is.
fn direct(scene: &Scene, mode: Mode) {
    for (pod, own) in [(&scene.first, "10.0.0.101"), (&scene.second, "10.0.1.101")] {
        let what = format!("{mode:?}, {own}");
        assert_eq!(seen(&scene.fabric.internet, &format!("{own}:80"), &what), "198.51.100.10", "{what}: NLB");
        assert_eq!(seen(&scene.fabric.peer, &format!("{own}:80"), &what), "10.0.9.9", "{what}: from the VPC");
        assert_eq!(seen(pod, "198.51.100.10:80", &what), "10.0.0.11", "{what}: external SNAT");
        assert_eq!(seen(pod, "10.0.9.9:80", &what), own, "{what}: to the VPC");
    }
}

fn everything(scene: &Scene, mode: Mode) {
    cluster_ips(scene, mode);
    node_ports(scene, mode);
    direct(scene, mode);
    assert_eq!(scene.fabric.spoofed(), 0, "{mode:?}: spoofed packets left the node");
}

/// Scenario 44: Services work for pods on every ENI in each mode, whoever starts first.
#[test]
fn services_work_with_kube_proxy_started_after_us() {
    for mode in Mode::ALL {
        on_stage(move |stage| {
            let scene = scene(stage);
            kubeproxy::install(stage, mode, &SERVICES);
            everything(&scene, mode);
        });
    }
}

#[test]
fn services_work_with_kube_proxy_started_before_us() {
    for mode in Mode::ALL {
        on_stage(move |stage| {
            kubeproxy::install(stage, mode, &SERVICES);
            everything(&scene(stage), mode);
        });
    }
}

/// kube-proxy's mode is switched live, and our own table is lost and repaired with Services at work.
#[test]
fn services_survive_a_switch_of_mode_and_a_repair() {
    on_stage(|stage| {
        let mut scene = scene(stage);
        kubeproxy::install(stage, Mode::IptablesNft, &SERVICES);
        let mut open = Client::connect(&scene.second, "172.20.0.11:80").expect("connected");
        assert_eq!(open.ask().expect("an answer"), "10.0.0.11");
        let mut before = Mode::IptablesNft;
        for mode in [Mode::Nftables, Mode::IptablesLegacy, Mode::IptablesNft] {
            kubeproxy::install(stage, mode, &SERVICES);
            kubeproxy::remove(stage, before);
            before = mode;
            stage.run("nft delete table ip podwire");
            let repair = scene.node.repair(&[Part::Ruleset].into(), &mut |_| Vec::new());
            assert!(repair.failures.is_empty(), "{:?}", repair.failures);
            assert_eq!(open.ask().expect("still there"), "10.0.0.11", "{mode:?}");
            everything(&scene, mode);
        }
    });
}

/// AWS_VPC_CNI_NODE_PORT_SUPPORT=false with AWS_VPC_K8S_CNI_EXTERNALSNAT=true leaves nothing but the way out by the pod's ENI.
#[test]
fn services_without_node_port_support_and_with_external_snat() {
    for mode in Mode::ALL {
        on_stage(move |stage| {
            let mut scene = scene(stage);
            kubeproxy::install(stage, mode, &SERVICES);
            let mut config = node_config();
            (config.external_snat, config.node_port_support) = (true, false);
            scene.node.apply_node(&config).expect("node");
            scene
                .node
                .apply_eni(&second_eni(&["10.0.1.101/32", "10.0.1.64/28"]), Duration::ZERO)
                .expect("ENI");
            for (pod, own) in [(&scene.first, "10.0.0.101"), (&scene.second, "10.0.1.101")] {
                assert_eq!(seen(pod, "172.20.0.10:80", "ClusterIP"), own, "{mode:?}");
                assert_eq!(seen(pod, "172.20.0.11:80", "ClusterIP, endpoint outside"), own, "{mode:?}");
                assert_eq!(seen(pod, "198.51.100.10:80", "outside"), own, "{mode:?}");
            }
            // By the primary ENI's address NodePorts need no help.
            assert_eq!(seen(&scene.fabric.peer, "10.0.0.11:30004", "NodePort"), "10.0.9.9", "{mode:?}");
            assert_eq!(scene.fabric.spoofed(), 0, "{mode:?}");
        });
    }
}

/// AWS_VPC_K8S_CNI_EXTERNALSNAT=true with AWS_VPC_CNI_NODE_PORT_SUPPORT=true: pods leave as themselves, and NodePorts are
/// answered by the ENI of arrival all the same.
#[test]
fn services_with_node_port_support_and_external_snat() {
    for mode in Mode::ALL {
        on_stage(move |stage| {
            let mut scene = scene(stage);
            kubeproxy::install(stage, mode, &SERVICES);
            scene.node.apply_node(&NodeConfig { external_snat: true, ..node_config() }).expect("node");
            node_ports(&scene, mode);
            for (pod, own) in [(&scene.first, "10.0.0.101"), (&scene.second, "10.0.1.101")] {
                assert_eq!(seen(pod, "172.20.0.11:80", "ClusterIP, endpoint outside"), own, "{mode:?}");
                assert_eq!(seen(pod, "198.51.100.10:80", "outside"), own, "{mode:?}");
            }
            assert_eq!(scene.fabric.spoofed(), 0, "{mode:?}");
        });
    }
}
