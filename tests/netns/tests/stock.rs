//! What only stock kernels have: IPVS, VLAN devices, netem. `scripts/kernel-matrix` runs this in virtual machines.

use podwire_hostnet::Layout;
use podwire_netns::node::{Fabric, net, ready_node, second_eni, set, wired_pod};
use podwire_netns::tcp::{Client, Server, seen_as};
use podwire_netns::{Ns, Stage, on_stage};
use std::time::{Duration, Instant};

fn clean(fabric: &Fabric) {
    assert_eq!(fabric.spoofed(), 0, "spoofed packets left the node");
}

/// kube-proxy in its IPVS mode: service addresses on a dummy device, so that they are local; connection tracking on; what
/// is to be masqueraded carries 0x4000. *Source*: kube-proxy's IPVS proxier, `net.ipv4.vs.conntrack` and `KUBE-LOOP-BACK`.
struct Ipvs<'a>(&'a Stage);

impl<'a> Ipvs<'a> {
    fn start(stage: &'a Stage) -> Self {
        stage.run("ip link add kube-ipvs0 type dummy");
        // Loads the module; the settings are there from then on.
        stage.run("ipvsadm -C && sysctl -qw net.ipv4.vs.conntrack=1 net.ipv4.vs.conn_reuse_mode=0");
        stage.run("sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2");
        stage.run(
            "nft -f - <<'E'
table ip kube {
  chain pre { type nat hook prerouting priority dstnat; tcp dport 30003 meta mark set mark | 0x4000; }
  chain out { type nat hook output priority -100; ip saddr 172.20.0.0/16 meta mark set mark | 0x4000; }
  chain post { type nat hook postrouting priority srcnat;
    mark & 0x4000 != 0 masquerade
    ip saddr 10.0.1.101 ip daddr 10.0.1.101 masquerade
  }
}
E",
        );
        Self(stage)
    }

    fn service(&self, address: &str, endpoint: &str) {
        let (ip, _) = address.split_once(':').expect("address and port");
        if ip.starts_with("172.20.") {
            self.0.run(&format!("ip addr add {ip}/32 dev kube-ipvs0"));
        }
        self.0.run(&format!("ipvsadm -A -t {address} -s rr && ipvsadm -a -t {address} -r {endpoint} -m"));
    }
}

fn asks(from: &Ns, address: &str) -> String {
    seen_as(from, address).expect(address)
}

/// Cluster IPs of an endpoint elsewhere in the VPC (.10), outside (.11), and on the node's two pods (.12, .13).
fn served(ipvs: &Ipvs<'_>, fabric: &Fabric, first: &Ns, second: &Ns) -> [Server; 4] {
    let endpoints = [
        (&fabric.peer, "172.20.0.10:80", "10.0.9.9:80"),
        (&fabric.internet, "172.20.0.11:80", "198.51.100.10:80"),
        (first, "172.20.0.12:80", "10.0.0.101:80"),
        (second, "172.20.0.13:80", "10.0.1.101:80"),
    ];
    endpoints.map(|(ns, cluster_ip, endpoint)| {
        ipvs.service(cluster_ip, endpoint);
        Server::start(ns, endpoint)
    })
}

/// Scenario 44, design §7: under IPVS the destination is chosen after prerouting, on the way out, where the kernel has
/// looked the route up without mark or source. Whatever ENI the pod is on, its packet leaves by the right one.
#[test]
fn ipvs_cluster_ip_leaves_by_the_right_eni() {
    on_stage(|stage| {
        let (fabric, mut node) = ready_node(stage);
        let (first, second) =
            (wired_pod(stage, "first", "10.0.0.101"), wired_pod(stage, "second", "10.0.1.101"));
        let ipvs = Ipvs::start(stage);
        let _servers = served(&ipvs, &fabric, &first, &second);
        assert_eq!(asks(&second, "172.20.0.10:80"), "10.0.1.101", "a pod elsewhere in the VPC");
        assert_eq!(asks(&second, "172.20.0.11:80"), "10.0.0.11", "an endpoint outside, under SNAT");
        assert_eq!(asks(&second, "172.20.0.12:80"), "10.0.1.101", "a pod of this node");
        assert_ne!(asks(&second, "172.20.0.13:80"), "10.0.1.101", "hairpin");
        assert_eq!(asks(&first, "172.20.0.10:80"), "10.0.0.101", "from the primary ENI");
        assert_eq!(asks(&first, "172.20.0.11:80"), "10.0.0.11", "from the primary ENI, outside");
        assert_eq!(asks(&first, "172.20.0.13:80"), "10.0.0.101", "to a pod on the second ENI");
        let here =
            |address: &str| Client::connect_here(address).and_then(|mut client| client.ask()).expect(address);
        assert_eq!(here("172.20.0.10:80"), "10.0.0.11", "the node, to a pod elsewhere");
        assert!(here("172.20.0.13:80").starts_with("10.0."), "the node, to a pod on the second ENI");
        clean(&fabric);
        // Without its chain the endpoint outside is not known for one: the pod would leave as itself.
        stage.run("nft delete chain ip podwire reroute");
        assert_ne!(asks(&second, "172.20.0.11:80"), "10.0.0.11", "something else does it");
        set(&mut node, |c| c.external_snat = true);
        assert_eq!(asks(&second, "172.20.0.11:80"), "10.0.1.101", "no SNAT: outside, as itself");
        clean(&fabric);
    });
}

/// The same by the incumbent's rules for each pod.
#[test]
fn ipvs_cluster_ip_leaves_by_the_right_eni_in_layout_compat() {
    on_stage(|stage| {
        let (fabric, mut node) = ready_node(stage);
        let (first, second) =
            (wired_pod(stage, "first", "10.0.0.101"), wired_pod(stage, "second", "10.0.1.101"));
        set(&mut node, |c| c.layout = Layout::Compat);
        let ipvs = Ipvs::start(stage);
        let _servers = served(&ipvs, &fabric, &first, &second);
        for (pod, own) in [(&first, "10.0.0.101"), (&second, "10.0.1.101")] {
            assert_eq!(asks(pod, "172.20.0.10:80"), own, "a pod elsewhere in the VPC");
            assert_eq!(asks(pod, "172.20.0.11:80"), "10.0.0.11", "an endpoint outside, under SNAT");
        }
        assert_eq!(asks(&second, "172.20.0.12:80"), "10.0.1.101", "a pod of this node");
        assert_eq!(asks(&first, "172.20.0.13:80"), "10.0.0.101", "to a pod on the second ENI");
        clean(&fabric);
    });
}

/// A NodePort under IPVS is answered by the ENI it came in by, for a pod here and for one elsewhere.
#[test]
fn ipvs_node_port_answers_by_the_eni_of_arrival() {
    on_stage(|stage| {
        let (fabric, _node) = ready_node(stage);
        let (first, second) =
            (wired_pod(stage, "first", "10.0.0.101"), wired_pod(stage, "second", "10.0.1.101"));
        let ipvs = Ipvs::start(stage);
        let _servers = [
            Server::start(&fabric.peer, "10.0.9.9:80"),
            Server::start(&first, "10.0.0.101:80"),
            Server::start(&second, "10.0.1.101:80"),
        ];
        for node in ["10.0.0.11", "10.0.1.12"] {
            ipvs.service(&format!("{node}:30001"), "10.0.0.101:80");
            ipvs.service(&format!("{node}:30002"), "10.0.1.101:80");
            ipvs.service(&format!("{node}:30003"), "10.0.9.9:80");
            for port in [30001, 30002] {
                assert_eq!(asks(&fabric.internet, &format!("{node}:{port}")), "198.51.100.10");
            }
            assert_eq!(asks(&fabric.internet, &format!("{node}:30003")), "10.0.0.11", "a pod elsewhere");
        }
        clean(&fabric);
    });
}

/// What leaves by a branch ENI's VLAN is not under SNAT, since there the primary address would be spoofed.
#[test]
fn vlan_device_is_left_without_snat() {
    on_stage(|stage| {
        let (fabric, _node) = ready_node(stage);
        let branch = wired_pod(stage, "branch", "10.0.1.201");
        stage.run("ip link add link eth1 name vlan.eth.7 type vlan id 7 && ip link set vlan.eth.7 up");
        stage.run("ip route add default via 10.0.1.1 dev vlan.eth.7 onlink table 107");
        stage.run(
            "ip rule add pref 10 iif enibranch lookup 107 && sysctl -qw net.ipv4.conf.vlan/eth/7.rp_filter=2",
        );
        fabric
            .router
            .run("ip link add link f-1 name f-1.7 type vlan id 7 && ip addr add 10.0.1.1/32 dev f-1.7");
        fabric.router.run("ip link set f-1.7 up && ip route add 10.0.1.201/32 dev f-1.7");
        fabric.router.run("sysctl -qw net.ipv4.conf.f-1/7.proxy_arp=1");
        fabric.router.run("nft add element ip vpc assigned '{ \"f-1.7\" . 10.0.1.201 }'");
        let mac = &stage.json("ip -j link show vlan.eth.7")[0]["address"];
        let mac = mac.as_str().expect("a MAC");
        fabric.router.run(&format!("ip neigh add 10.0.1.201 lladdr {mac} dev f-1.7 nud permanent"));
        let _server = Server::start(&fabric.internet, "198.51.100.10:80");
        assert_eq!(asks(&branch, "198.51.100.10:80"), "10.0.1.201");
        clean(&fabric);
    });
}

/// A slow ENI: connections of pods on it live on through repairs and restarts of the node's side.
#[test]
fn slow_link_keeps_its_connections() {
    on_stage(|stage| {
        let (fabric, mut node) = ready_node(stage);
        fabric.router.run("for d in f-0 f-1; do tc qdisc add dev $d root netem delay 60ms 5ms; done");
        let second = wired_pod(stage, "second", "10.0.1.101");
        let _servers =
            [Server::start(&fabric.internet, "198.51.100.10:80"), Server::start(&fabric.peer, "10.0.9.9:80")];
        let mut outside = Client::connect(&second, "198.51.100.10:80").expect("connected");
        let mut inside = Client::connect(&second, "10.0.9.9:80").expect("connected");
        let began = Instant::now();
        assert_eq!(outside.ask().expect("an answer"), "10.0.0.11");
        assert!(began.elapsed() >= Duration::from_millis(50), "the link is not slow: {:?}", began.elapsed());
        for round in 0..3 {
            stage.run("ip rule del pref 1536; ip route flush table 2; nft flush chain ip podwire egress");
            set(&mut node, |c| {
                c.vpc_cidrs.extend((0..round).map(|i| net(&format!("100.{}.0.0/16", 64 + i))))
            });
            let sources = ["10.0.1.101/32", "10.0.1.64/28"];
            node.apply_eni(&second_eni(&sources), Duration::from_secs(5)).expect("ENI");
            assert_eq!(outside.ask().expect("still there"), "10.0.0.11");
            assert_eq!(inside.ask().expect("still there"), "10.0.1.101");
        }
        clean(&fabric);
    });
}
