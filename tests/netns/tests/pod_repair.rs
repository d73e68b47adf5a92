//! When a pod's route is repaired: not while its plugin still wires it, and within a moment after that.

use podwire_hostnet::{Attachment, NodeNet, Part, Repair};
use podwire_netns::node::{ready_node, wired_pod};
use podwire_netns::on_stage;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Longer than a pod may be being wired.
const WIRED: Duration = Duration::from_millis(150);

fn repair(node: &mut NodeNet, held: &mut dyn FnMut(&Attachment) -> Vec<IpAddr>) -> Repair {
    node.repair(&BTreeSet::from([Part::PodRoute]), held)
}

/// A link waits long for its name while many pods are wired at once: its time begins only then.
#[test]
fn link_without_a_name_is_not_being_wired_yet() {
    on_stage(|stage| {
        let (_fabric, mut node) = ready_node(stage);
        let pod = stage.netns("pod");
        let address: IpAddr = [10, 0, 1, 101].into();
        let mut held = |_: &Attachment| vec![address];
        let peer = pod.path();
        stage.run(&format!(
            "ip link add eninew address ee:70:77:01:02:03 type veth peer name eth0 netns {peer}"
        ));
        let newborn = repair(&mut node, &mut held);
        assert!(newborn.made.is_empty() && newborn.again_at.is_none(), "{newborn:?}");
        std::thread::sleep(WIRED);
        stage.run("ip link set eninew alias podwire:c1/eth0; ip link set eninew up");
        let named = repair(&mut node, &mut held);
        assert!(named.made.is_empty() && named.again_at.is_some(), "{named:?}");
        std::thread::sleep(WIRED);
        let left = repair(&mut node, &mut held);
        assert!(!left.made.is_empty(), "{left:?}");
        assert!(stage.run("ip route show table 5120").contains("10.0.1.101 dev eninew"));
    });
}

/// Who knows the addresses is slow to say them: what the same look saw for the first time is looked at again all the same.
#[test]
fn slow_look_forgets_no_pod() {
    on_stage(|stage| {
        let (_fabric, mut node) = ready_node(stage);
        let _pods = [wired_pod(stage, "a", "10.0.1.101"), wired_pod(stage, "b", "10.0.1.65")];
        let mut slow = |attachment: &Attachment| -> Vec<IpAddr> {
            std::thread::sleep(WIRED);
            vec![if &*attachment.container_id == "a" {
                [10, 0, 1, 101].into()
            } else {
                [10, 0, 1, 65].into()
            }]
        };
        stage.run("ip route del 10.0.1.101 table 5120");
        assert!(repair(&mut node, &mut slow).again_at.is_some());
        std::thread::sleep(WIRED);
        stage.run("ip route del 10.0.1.65 table 5120");
        let again_at = repair(&mut node, &mut slow).again_at.expect("b has only just been seen");
        std::thread::sleep(again_at.saturating_duration_since(Instant::now()));
        assert!(!repair(&mut node, &mut slow).made.is_empty());
        let routes = stage.run("ip route show table 5120");
        assert!(routes.contains("10.0.1.101 ") && routes.contains("10.0.1.65 "), "{routes}");
    });
}
