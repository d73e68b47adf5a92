//! What the incumbent made for the whole node, and what becomes of it after a take-over.

use podwire_hostnet::NodeNet;
use podwire_netns::node::{SECOND, net, ready_node, second_eni};
use podwire_netns::on_stage;
use std::time::Duration;

const SHORT: Duration = Duration::from_secs(2);

/// The incumbent's rule for an ENI that is gone leads a pod astray that has the ENI's address later; that of a live ENI,
/// the same one as ours, stays, whoever made it.
#[test]
fn rule_of_an_eni_that_is_gone_leads_no_pod_astray() {
    on_stage(|stage| {
        let (_fabric, node) = ready_node(stage);
        drop(node);
        stage.run("ip rule del pref 32765; ip rule add pref 32765 from 10.0.1.12 lookup 2");
        for gone in ["10.0.1.70", "10.0.1.101", "10.0.9.70"] {
            stage.run(&format!("ip rule add pref 32765 from {gone} lookup 99"));
        }
        stage.run("ip rule add pref 32765 from 10.0.1.72/31 lookup 99");
        let rules = |wanted: &[&str]| {
            let seen = stage.run("ip rule show pref 32765");
            let sources: Vec<&str> = seen.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
            assert_eq!(sources, wanted, "{seen}");
        };
        let mut node = NodeNet::open().expect("sockets");
        node.apply_node(&podwire_netns::node::node_config()).expect("node");
        node.apply_eni(&second_eni(&["10.0.1.64/28"]), SHORT).expect("ENI");
        rules(&["10.0.1.12", "10.0.1.101", "10.0.9.70", "10.0.1.72/31"]);
        node.add_sources(SECOND, &[net("10.0.1.101/32")]).expect("added");
        rules(&["10.0.1.12", "10.0.9.70", "10.0.1.72/31"]);
        node.flush_addresses(&[[10, 0, 1, 12].into()]).expect("flushed");
        rules(&["10.0.1.12", "10.0.9.70", "10.0.1.72/31"]);
    });
}
