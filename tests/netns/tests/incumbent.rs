//! Pods that the incumbent wired keep working while and after they are taken over, and leave nothing behind.

use podwire_hostnet::{Attachment, Doomed, HostError, host_ifname};
use podwire_netns::node::ready_node;
use podwire_netns::{Ns, Stage, on_stage};
use std::net::IpAddr;

fn attachment(id: &str) -> Attachment {
    Attachment { container_id: id.into(), ifname: "eth0".into() }
}

/// Wires a pod as incumbent-behaviour §2.6 says; returns its link's name.
fn incumbents_pod(stage: &Stage, ns: &Ns, pod: &str, address: &str, table: Option<u32>) -> String {
    let link = host_ifname("eni", "default", pod, &attachment("x"));
    ns.run(&format!("ip link add eth0 type veth peer name {link} netns /run/netns/node"));
    stage.run(&format!("ip link set {link} up"));
    let mac = stage.json(&format!("ip -j link show {link}"))[0]["address"].as_str().expect("MAC").to_owned();
    ns.run(&format!(
        "ip addr add {address}/32 dev eth0; ip link set eth0 up; ip route add 169.254.1.1 dev eth0 scope link; \
         ip route add default via 169.254.1.1; ip neigh add 169.254.1.1 lladdr {mac} dev eth0 nud permanent"
    ));
    stage.run(&format!("ip route replace {address}/32 dev {link} scope link"));
    stage.run(&format!("ip rule add to {address}/32 lookup main prio 512"));
    if let Some(table) = table {
        stage.run(&format!("ip rule add from {address}/32 lookup {table} prio 1536"));
    }
    link
}

fn per_pod_rules(stage: &Stage, address: &str) -> usize {
    stage.run("ip rule").lines().filter(|line| line.contains(&format!(" {address} "))).count()
}

/// Taking over changes neither route nor rule of a live pod; its DEL and the flush that follows leave nothing.
#[test]
fn taken_over_pod_goes_on_and_goes_without_a_trace() {
    on_stage(|stage| {
        let (fabric, mut node) = ready_node(stage);
        let before = stage.run("ip rule");
        let ns = stage.netns("old");
        let link = incumbents_pod(stage, &ns, "web-0", "10.0.1.101", Some(2));
        let address: IpAddr = "10.0.1.101".parse().expect("an address");
        ns.run("ping -n -q -c 3 -i 0.2 -W 2 10.0.9.9");

        let unmarked = node.unmarked_links().expect("listed");
        let found = unmarked.iter().find(|l| l.name == link).expect("the incumbent's pod is seen");
        assert_eq!(found.addresses, [address]);
        let whose = attachment("c1");
        for _ in 0..2 {
            node.mark_pod(&link, &whose, &[address]).expect("taken over");
        }
        assert_eq!(per_pod_rules(stage, "10.0.1.101"), 2, "the incumbent's rules stay");
        assert!(node.unmarked_links().expect("listed").iter().all(|l| l.name != link));
        let pods = node.pods().expect("listed");
        assert_eq!((pods[0].attachment.clone(), pods[0].addresses.clone()), (whose.clone(), vec![address]));
        ns.run("ping -n -q -c 1 -W 2 10.0.9.9");
        fabric.peer.run("ping -n -q -c 1 -W 2 10.0.1.101");

        // Without the incumbent's rules the pod goes on too: it is like one of ours.
        node.flush_addresses(&[address]).expect("flushed");
        assert_eq!(per_pod_rules(stage, "10.0.1.101"), 0);
        assert_eq!(stage.run("ip rule"), before);
        ns.run("ping -n -q -c 1 -W 2 10.0.9.9");
        fabric.peer.run("ping -n -q -c 1 -W 2 10.0.1.101");
        assert_eq!(fabric.spoofed(), 0);

        let doomed = Doomed { attachment: whose, names: vec![link.clone()] };
        assert_eq!(node.delete_pods(&[doomed]).remove(0).expect("deleted"), Some(link.clone()));
        assert_eq!(stage.run("ip route show table all | grep -c 10.0.1.101 || true").trim(), "0");
    });
}

/// What is somebody else's is not taken.
#[test]
fn another_attachments_link_is_refused() {
    on_stage(|stage| {
        let (_fabric, mut node) = ready_node(stage);
        let ns = stage.netns("old");
        let link = incumbents_pod(stage, &ns, "web-0", "10.0.0.101", None);
        node.mark_pod(&link, &attachment("c1"), &[]).expect("taken over");
        let refused = node.mark_pod(&link, &attachment("c2"), &[]);
        assert!(matches!(refused, Err(HostError::Foreign { .. })), "{refused:?}");
        assert!(node.mark_pod("lo", &attachment("c2"), &[]).is_err(), "no veth");
        assert!(node.mark_pod("eniabsent", &attachment("c2"), &[]).is_err());
    });
}
