//! Packets. The fabric drops every source that is not assigned to the ENI it comes from, so whatever arrives has taken the
//! right way.

#[path = "datapath/outside.rs"]
mod outside;

use podwire_hostnet::pod::{self, PodWiring};
use podwire_hostnet::{Attachment, NodeNet};
use podwire_netns::node::{Fabric, net, node_config, ready_node, second_eni, set, wired_pod};
use podwire_netns::tcp::{Client, Server, seen_as};
use podwire_netns::{Ns, Stage, on_stage};
use std::time::Duration;

/// One pod on each ENI, and one on a prefix of the second.
struct Pods {
    first: Ns,
    second: Ns,
    prefixed: Ns,
}

fn pods(stage: &Stage) -> Pods {
    Pods {
        first: wired_pod(stage, "first", "10.0.0.101"),
        second: wired_pod(stage, "second", "10.0.1.101"),
        prefixed: wired_pod(stage, "prefixed", "10.0.1.65"),
    }
}

/// Sends echo requests until one is answered, for five seconds.
fn ping(to: &str) -> String {
    format!("ping -c1 -i0.2 -w5 {to}")
}

fn clean(fabric: &Fabric) {
    assert_eq!(fabric.spoofed(), 0, "spoofed packets left the node");
}

/// Pod to pod on one node, in all pairs, with its own address; pod to node and node to pod.
#[test]
fn pods_of_one_node_reach_each_other_and_the_node() {
    on_stage(|stage| {
        let (fabric, _node) = ready_node(stage);
        let pods = pods(stage);
        let all = [(&pods.first, "10.0.0.101"), (&pods.second, "10.0.1.101"), (&pods.prefixed, "10.0.1.65")];
        for (to, address) in all {
            let _server = Server::start(to, &format!("{address}:80"));
            for (from, own) in all.iter().filter(|(_, own)| *own != address) {
                assert_eq!(seen_as(from, &format!("{address}:80")).expect("an answer"), *own);
            }
            let mut here = Client::connect_here(&format!("{address}:80")).expect("node to pod");
            assert_eq!(here.ask().expect("an answer"), "10.0.0.11");
        }
        for (from, _) in all {
            for address in ["10.0.0.11", "10.0.1.12"] {
                from.run(&ping(address));
            }
        }
        clean(&fabric);
    });
}

/// Pod to VPC leaves by the ENI that holds its address, although `main` leads elsewhere and carries networkd's /32 routes.
#[test]
fn pods_leave_by_their_own_eni() {
    on_stage(|stage| {
        let (fabric, _node) = ready_node(stage);
        let pods = pods(stage);
        let _server = Server::start(&fabric.peer, "10.0.9.9:80");
        // The resolver, for which stock nodes have a /32 route by eth0 in main.
        fabric.router.run("ip addr add 10.0.0.2/32 dev lo");
        for (pod, own) in
            [(&pods.first, "10.0.0.101"), (&pods.second, "10.0.1.101"), (&pods.prefixed, "10.0.1.65")]
        {
            assert_eq!(seen_as(pod, "10.0.9.9:80").expect("an answer"), own);
            pod.run(&ping("10.0.0.2"));
        }
        clean(&fabric);
    });
}

/// The VPC to pods on either ENI, although an arriving packet's way back leads by `main` and stock nodes filter strictly.
#[test]
fn pods_are_reached_from_the_vpc_and_from_outside() {
    on_stage(|stage| {
        let (fabric, _node) = ready_node(stage);
        let pods = pods(stage);
        let _servers = [
            Server::start(&pods.first, "10.0.0.101:80"),
            Server::start(&pods.second, "10.0.1.101:80"),
            Server::start(&pods.prefixed, "10.0.1.65:80"),
        ];
        for address in ["10.0.0.101:80", "10.0.1.101:80", "10.0.1.65:80"] {
            assert_eq!(seen_as(&fabric.peer, address).expect("from the VPC"), "10.0.9.9");
            // A load balancer that keeps the client's address: the answer leaves by the pod's ENI and is not under SNAT.
            assert_eq!(seen_as(&fabric.internet, address).expect("from outside"), "198.51.100.10");
        }
        clean(&fabric);
    });
}

/// A connection stays on the way it began, whatever is set meanwhile, and through a restart of the daemon.
#[test]
fn established_connections_survive_changes() {
    on_stage(|stage| {
        let (fabric, mut node) = ready_node(stage);
        // As kube-proxy does on every node, something else keeps NAT at work while our table is away.
        stage.run(
            "nft -f - <<'E'
table ip kube {
  chain pre { type nat hook prerouting priority dstnat; }
  chain post { type nat hook postrouting priority srcnat; }
}
E",
        );
        let pods = pods(stage);
        let _servers =
            [Server::start(&fabric.internet, "198.51.100.10:80"), Server::start(&fabric.peer, "10.0.9.9:80")];
        let mut outside = Client::connect(&pods.second, "198.51.100.10:80").expect("connected");
        let mut inside = Client::connect(&pods.second, "10.0.9.9:80").expect("connected");
        let mut both = || {
            assert_eq!(outside.ask().expect("still there"), "10.0.0.11");
            assert_eq!(inside.ask().expect("still there"), "10.0.1.101");
        };
        both();
        set(&mut node, |c| c.vpc_cidrs.push(net("198.51.100.0/24")));
        both();
        stage.run("nft delete table ip podwire");
        set(&mut node, |_| {});
        both();
        drop(node);
        let mut restarted = NodeNet::open().expect("sockets");
        restarted.apply_node(&node_config()).expect("node");
        both();
        restarted
            .apply_eni(&second_eni(&["10.0.1.101/32", "10.0.1.64/28"]), Duration::from_secs(1))
            .expect("ENI");
        restarted.prune().expect("pruned");
        both();
    });
}

/// ClusterIP: kube-proxy's DNAT comes first, so that the true destination chooses the way.
#[test]
fn cluster_ip_leads_by_the_true_destination() {
    on_stage(|stage| {
        let (fabric, _node) = ready_node(stage);
        let pods = pods(stage);
        stage.run(
            "nft -f - <<'E'
table ip kube {
  chain pre { type nat hook prerouting priority dstnat;
    ip daddr 172.20.0.10 tcp dport 80 dnat to 10.0.9.9:80
    ip daddr 172.20.0.11 tcp dport 80 dnat to 198.51.100.10:80
    ip daddr 172.20.0.12 tcp dport 80 dnat to 10.0.0.101:80
    ip saddr 10.0.1.101 ip daddr 172.20.0.13 tcp dport 80 meta mark set mark | 0x4000 dnat to 10.0.1.101:80
  }
  chain post { type nat hook postrouting priority srcnat; mark & 0x4000 != 0 masquerade; }
}
E",
        );
        let _servers = [
            Server::start(&fabric.peer, "10.0.9.9:80"),
            Server::start(&fabric.internet, "198.51.100.10:80"),
            Server::start(&pods.first, "10.0.0.101:80"),
            Server::start(&pods.second, "10.0.1.101:80"),
        ];
        let seen =
            |address: &str| seen_as(&pods.second, address).unwrap_or_else(|e| panic!("{address}: {e}"));
        assert_eq!(seen("172.20.0.10:80"), "10.0.1.101", "a pod elsewhere in the VPC");
        assert_eq!(seen("172.20.0.11:80"), "10.0.0.11", "an endpoint outside");
        assert_eq!(seen("172.20.0.12:80"), "10.0.1.101", "a pod of this node");
        assert_eq!(seen("172.20.0.13:80"), "10.0.0.11", "hairpin: the node's address");
        clean(&fabric);
    });
}

/// W9: mark bits of others stay.
#[test]
fn mark_bits_of_others_stay() {
    on_stage(|stage| {
        let (fabric, _node) = ready_node(stage);
        let pods = pods(stage);
        // The first packet of a link may be lost.
        pods.second.run("ping -c5 -i0.1 -W1 10.0.9.9");
        stage.run(
            "nft -f - <<'E'
table ip other {
  counter vpc { }
  counter outside { }
  chain pre { type filter hook prerouting priority raw; iifname \"eni*\" meta mark set 0xa000; }
  chain post { type filter hook postrouting priority 200;
    oifname eth1 mark & 0xffff == 0xa002 counter name vpc
    oifname eth0 mark & 0xffff == 0xa080 counter name outside
  }
}
E",
        );
        pods.second.run("ping -c1 -W5 10.0.9.9; ping -c2 -i0.2 -W5 198.51.100.10");
        let counted = |name: &str| {
            stage.json(&format!("nft -j list counter ip other {name}"))["nftables"][1]["counter"]["packets"]
                .as_u64()
        };
        assert_eq!((counted("vpc"), counted("outside")), (Some(1), Some(2)));
        clean(&fabric);
    });
}

/// Cilium, chained behind the plugin, gives each packet of a pod a mark whose low byte is a cluster's number, and reads it again
/// at the other pod's device: no packet is misled by it, and none arrives with an ENI's number.
#[test]
fn numbers_of_others_in_our_bits_mislead_no_packet() {
    on_stage(|stage| {
        let (fabric, _node) = ready_node(stage);
        let pods = pods(stage);
        stage.run(
            "nft -f - <<'E'
table ip cilium {
  counter clean { }
  counter soiled { }
  chain pre { type filter hook prerouting priority raw; iifname \"eni*\" meta mark set 0x12340f02; }
  chain post { type filter hook postrouting priority 400;
    oifname \"eni*\" mark == 0x12340f00 counter name clean
    oifname \"eni*\" mark & 0x7f != 0 counter name soiled
  }
}
E",
        );
        let _servers =
            [Server::start(&fabric.peer, "10.0.9.9:80"), Server::start(&pods.first, "10.0.0.101:80")];
        assert_eq!(seen_as(&pods.first, "10.0.9.9:80").expect("by the primary ENI"), "10.0.0.101");
        assert_eq!(seen_as(&pods.second, "10.0.0.101:80").expect("pod to pod"), "10.0.1.101");
        let counted = |name: &str| {
            stage.json(&format!("nft -j list counter ip cilium {name}"))["nftables"][1]["counter"]["packets"]
                .as_u64()
                .expect("a number")
        };
        assert!(counted("clean") > 0);
        assert_eq!(counted("soiled"), 0);
        clean(&fabric);
    });
}

/// The node's own connections by a secondary ENI's address leave by that ENI, and under no SNAT.
#[test]
fn node_speaks_by_the_eni_of_its_address() {
    on_stage(|stage| {
        let (fabric, _node) = ready_node(stage);
        for to in ["10.0.9.9", "198.51.100.10"] {
            stage.run(&ping(&format!("-I 10.0.1.12 {to}")));
            stage.run(&ping(to));
        }
        clean(&fabric);
    });
}

/// Scenario 47: connections of an address are forgotten when it changes owner; others are not.
#[test]
fn flush_forgets_the_connections_of_one_address() {
    on_stage(|stage| {
        let (fabric, mut node) = ready_node(stage);
        let pods = pods(stage);
        let _servers = [
            Server::start(&fabric.internet, "198.51.100.10:80"),
            Server::start(&pods.second, "10.0.1.101:80"),
        ];
        let _open = [
            Client::connect(&pods.second, "198.51.100.10:80").expect("out"),
            Client::connect(&fabric.peer, "10.0.1.101:80").expect("in"),
            Client::connect(&pods.first, "198.51.100.10:80").expect("another's"),
        ];
        let of = |address: &str| {
            stage.run("conntrack -L 2>/dev/null").lines().filter(|l| l.contains(address)).count()
        };
        assert_eq!((of("10.0.1.101"), of("10.0.0.101")), (2, 1));
        let address = "10.0.1.101".parse().expect("an address");
        let before = node.changes();
        node.flush_addresses(&[address]).expect("flushed");
        assert!(node.changes() >= before + 2);
        assert_eq!((of("10.0.1.101"), of("10.0.0.101")), (0, 1));
        assert_eq!(stage.run("ip neigh show 10.0.1.101"), "");
        let after = node.changes();
        node.flush_addresses(&[address]).expect("flushed");
        assert_eq!(node.changes(), after);
        // The same where there are too many connections to look at them all.
        let _again = Client::connect(&fabric.peer, "10.0.1.101:80").expect("in");
        pods.first.run(
            "python3 -c 'import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for port in range(20000, 31000):
    try: s.sendto(b\"x\", (\"198.51.100.10\", port))
    except OSError: pass'",
        );
        let all = || stage.run("conntrack -C").trim().parse::<usize>().expect("a number");
        assert!(all() > 10_000 && of("10.0.1.101") == 1, "{} connections", all());
        node.flush_addresses(&[address]).expect("flushed");
        assert!(all() > 10_000 && of("10.0.1.101") == 0, "{} connections", all());
    });
}

/// AWS_VPC_K8S_CNI_VETHPREFIX changed while pods run: those under the older name keep their way out.
#[test]
fn pods_under_an_older_veth_prefix_keep_their_way() {
    on_stage(|stage| {
        let (fabric, mut node) = ready_node(stage);
        let named = |prefix: &str, name: &str, address: &str| {
            let ns = stage.netns(name);
            let attachment = Attachment { container_id: name.into(), ifname: "eth0".into() };
            let host_ifname = podwire_hostnet::host_ifname(prefix, "default", name, &attachment);
            let addresses = vec![address.parse().expect("an address")];
            pod::add(ns.open(), &PodWiring { attachment, host_ifname, addresses, mtu: 9001, compat: None })
                .expect("wired");
            ns
        };
        let _servers =
            [Server::start(&fabric.internet, "198.51.100.10:80"), Server::start(&fabric.peer, "10.0.9.9:80")];
        let old = named("eni", "old", "10.0.1.101");
        set(&mut node, |c| c.veth_prefix = "a*".into());
        let new = named("a*", "new", "10.0.1.66");
        for (pod, own) in [(&old, "10.0.1.101"), (&new, "10.0.1.66")] {
            assert_eq!(seen_as(pod, "10.0.9.9:80").expect("an answer"), own);
            assert_eq!(seen_as(pod, "198.51.100.10:80").expect("an answer"), "10.0.0.11");
        }
        clean(&fabric);
    });
}
