//! The node's side: rules, ENIs, ruleset, against the kernel.

use podwire_hostnet::numbers::{GROUP_DOOMED, TABLE_PODS};
use podwire_hostnet::pod::{self, PodNet, PodWiring, Teardown};
use podwire_hostnet::{Attachment, HostError, NodeNet};
use podwire_netns::node::{self, Fabric, node_config, ready_node, second_eni};
use podwire_netns::on_stage;
use std::time::Duration;

#[test]
fn smoke() {
    on_stage(|stage| {
        let (fabric, mut node) = ready_node(stage);
        println!("{}", stage.run("ip rule; ip route show table all; nft list ruleset; ip -d addr"));
        let before = node.changes();
        node.apply_node(&node_config()).expect("node");
        node.apply_eni(&second_eni(&["10.0.1.101/32", "10.0.1.64/28"]), Duration::from_secs(5)).expect("ENI");
        println!("{before} {}", node.changes());
        let ns = stage.netns("pod");
        let w = PodWiring {
            attachment: Attachment { container_id: "c1".into(), ifname: "eth0".into() },
            host_ifname: "enicc21c2d7785".into(),
            addresses: vec!["10.0.1.101".parse().unwrap()],
            mtu: 9001,
        };
        let wired = pod::add(ns.open(), &w).expect("wired");
        println!(
            "{wired:?}\n{}\n{}",
            stage.run("ip route; ip route show table 5120; ip -d link show enicc21c2d7785"),
            ns.run("ip -d addr; ip route; ip neigh")
        );
        println!("{}", ns.run("ping -c1 -W1 10.0.0.11"));
        println!("{}", ns.run("ping -c1 -W1 10.0.9.9"));
        println!("{}", ns.run("ping -c1 -W1 198.51.100.10"));
        let t0 = std::time::Instant::now();
        println!(
            "{:?}",
            pod::del(&Teardown {
                attachment: &w.attachment,
                host_ifnames: &[w.host_ifname.clone()],
                netns: None
            })
        );
        println!("{:?}", node.delete_links(&[w.host_ifname.clone()]));
        println!("{:?}", t0.elapsed());
        let _ = fabric;
    });
}
