//! What the kernel refuses once: the rest goes on, and the next time everything is made.

use super::{SHORT, SOURCES};
use podwire_hostnet::features::{self, Wanted};
use podwire_hostnet::{HostError, NodeNet, probe};
use podwire_netns::node::{node_config, ready_node, second_eni};
use podwire_netns::{Stage, kernel_state, on_stage};
use serde_json::Value;

fn set_up(node: &mut NodeNet) -> Result<(), HostError> {
    node.apply_node(&node_config())?;
    node.apply_eni(&second_eni(&SOURCES), SHORT)
}

/// The node as it comes, but for the pods' side of the kernel.
fn take_down(stage: &Stage) {
    stage.run("nft delete table ip podwire 2>/dev/null || true");
    stage.run("for p in 512 1024 1536 32765; do ip rule del pref $p 2>/dev/null || true; done");
    stage.run(
        "ip route flush table 2 2>/dev/null || true; ip addr flush dev eth1; ip link set eth1 down mtu 1500",
    );
    stage.run(
        "sysctl -qw net.ipv4.ip_forward=0 net.ipv4.conf.eth0.rp_filter=1 net.ipv4.conf.eth1.rp_filter=1",
    );
}

/// Rebuilt tables list their chains in another order, and a device is settled a moment after it comes up.
fn settled(stage: &Stage) -> Value {
    stage.await_true("ip link show eth1 | grep -q 'state UP'");
    let mut state = kernel_state(stage);
    for part in ["rules", "nft"] {
        if let Some(lines) = state[part].as_array_mut() {
            lines.sort_by_key(Value::to_string);
        }
    }
    state
}

/// H2 on the node's side: whichever message is refused, the next application ends where one without a refusal does.
#[test]
fn node_and_eni_refused_at_any_step_are_set_up_the_next_time() {
    on_stage(|stage| {
        let (_fabric, _node) = ready_node(stage);
        let clean = settled(stage);
        let mut refused = 0;
        loop {
            take_down(stage);
            let mut node = NodeNet::open().expect("sockets");
            probe::refuse_after(Some(refused));
            let outcome = set_up(&mut node);
            probe::refuse_after(None);
            set_up(&mut node).expect("nothing is refused any more");
            assert_eq!(settled(stage), clean, "message {refused} refused: {outcome:?}");
            if outcome.is_ok() {
                break;
            }
            refused += 1;
        }
        assert!(refused > 30, "only {refused} messages were refused");
    });
}

/// A kernel that refuses a trial lacks that feature and no other, and the trial leaves nothing.
#[test]
fn feature_whose_trial_is_refused_is_missing() {
    on_stage(|stage| {
        let before = kernel_state(stage);
        let mut told: Vec<&str> = Vec::new();
        // Beyond the last message nothing is refused.
        for refused in 0..40 {
            probe::refuse_after(Some(refused));
            let missing = features::missing(Wanted { snat: true, node_port: true });
            probe::refuse_after(None);
            let missing = missing.expect("asked");
            assert_eq!(kernel_state(stage), before, "message {refused} refused");
            assert!(missing.len() <= 1, "message {refused} refused: {missing:?}");
            let names = missing.first().and_then(|one| one.feature.split(" (").next());
            told.extend(names.filter(|name| told.last() != Some(name)));
        }
        assert_eq!(
            told,
            [
                "veth devices",
                "nftables with maps",
                "nft connection tracking",
                "nft address types",
                "nft NAT",
                "nft route chains",
            ]
        );
    });
}
