//! What the kernel refuses once: the rest goes on, and the next time everything is made.

use super::{SHORT, SOURCES, doomed, wired};
use podwire_hostnet::features::{self, Wanted};
use podwire_hostnet::{Attachment, Doomed, HostError, NodeNet, probe};
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

/// One link that no guess finds, and a list that is interrupted for ever: only that one is told so.
#[test]
fn list_that_fails_concerns_only_whom_it_was_for() {
    on_stage(|stage| {
        let mut node = NodeNet::open().expect("sockets");
        let pods: Vec<_> = (1..=3).map(|n| wired(stage, n)).collect();
        let mut all: Vec<Doomed> = pods.iter().map(|(_, wiring)| doomed(wiring)).collect();
        let stranger = Attachment { container_id: "stranger".into(), ifname: "eth0".into() };
        all.insert(1, Doomed { attachment: stranger, names: vec!["never-there".into()] });
        probe::interrupt_lists(100);
        let told = node.delete_pods_if(&all, &mut |found| Ok(found.iter().map(|one| *one != 3).collect()));
        probe::interrupt_lists(0);
        let name = |name: &str| Some(name.to_owned());
        assert_eq!(told[0].as_ref().ok(), Some(&name("enipod1")), "{told:?}");
        assert!(told[1].as_ref().is_err_and(|e| e.to_string().contains("stranger")), "{told:?}");
        assert_eq!(told[2].as_ref().ok(), Some(&name("enipod2")), "{told:?}");
        assert_eq!(told[3].as_ref().ok(), Some(&None), "the third has begun another life: {told:?}");
        let left = stage.run("ip -o link show type veth");
        assert!(left.contains("enipod3") && !left.contains("enipod1") && !left.contains("enipod2"), "{left}");
    });
}
