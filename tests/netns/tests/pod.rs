//! The pod's side of hostnet, in process: every message refused once, and what is sent at all.

use podwire_hostnet::pod::{self, PodWiring, Teardown};
use podwire_hostnet::{Attachment, HostError, probe};
use podwire_netns::{Ns, kernel_state, on_stage};

/// *Source*: linux/rtnetlink.h.
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;

fn wiring(id: &str) -> PodWiring {
    PodWiring {
        attachment: Attachment { container_id: id.into(), ifname: "eth0".into() },
        host_ifname: "enicc21c2d7785".into(),
        addresses: vec![[10, 0, 0, 101].into()],
        mtu: 9001,
        compat: None,
    }
}

fn inside(ns: &Ns) -> String {
    ns.run("ip -o addr; ip route; ip neigh show nud permanent")
}

/// H2: whichever message the kernel refuses, nothing is left, neither on the host nor in the pod.
#[test]
fn add_refused_at_any_step_leaves_nothing() {
    on_stage(|stage| {
        let ns = stage.netns("pod");
        let (before, pod_before) = (kernel_state(stage), inside(&ns));
        let mut refused = 0;
        loop {
            probe::refuse_after(Some(refused));
            let outcome = pod::add(ns.open(), &wiring("c1"));
            probe::refuse_after(None);
            if outcome.is_ok() {
                break;
            }
            assert_eq!(kernel_state(stage), before, "message {refused} refused");
            assert_eq!(inside(&ns), pod_before, "message {refused} refused");
            refused += 1;
        }
        assert!(refused >= 12, "only {refused} messages were refused");
    });
}

/// The same for a further interface of a container: the first one keeps what it had.
#[test]
fn further_interface_refused_at_any_step_leaves_the_first_as_it_was() {
    on_stage(|stage| {
        let ns = stage.netns("pod");
        pod::add(ns.open(), &wiring("c1")).expect("wired");
        let before = inside(&ns);
        let mut further = wiring("c1");
        further.attachment.ifname = "net1".into();
        further.host_ifname = "eni0123456789a".into();
        further.addresses = vec![[10, 0, 0, 102].into()];
        for refused in 0.. {
            probe::refuse_after(Some(refused));
            let outcome = pod::add(ns.open(), &further);
            probe::refuse_after(None);
            if outcome.is_ok() {
                break;
            }
            assert_eq!(inside(&ns), before, "message {refused} refused");
        }
        for (gone, stays) in [("eni0123456789a", "eth0"), ("enicc21c2d7785", "net1")] {
            stage.run(&format!("ip link del {gone}"));
            assert!(ns.run("ip route get 1.1.1.1").contains(&format!("dev {stays}")), "{gone} is gone");
            if stays == "eth0" {
                pod::add(ns.open(), &further).expect("wired again");
            }
        }
    });
}

/// D4: where the kernel refuses the undoing as well, it is told that the link stays; and it is told only then.
#[test]
fn add_that_cannot_be_undone_says_that_its_link_stays() {
    on_stage(|stage| {
        let mut stayed = 0;
        for refused in 0.. {
            let ns = stage.netns("pod");
            probe::refuse_from(refused);
            let outcome = pod::add(ns.open(), &wiring("c1"));
            probe::refuse_after(None);
            let is_there = stage.succeeds("ip link show enicc21c2d7785");
            let told = matches!(&outcome, Err(HostError::LinkStays { link, .. }) if link == "enicc21c2d7785");
            ns.remove();
            if outcome.is_ok() {
                break;
            }
            assert_eq!(told, is_there, "from message {refused} on: {outcome:?}");
            stayed += u32::from(told);
            stage.run("ip link del enicc21c2d7785 2>/dev/null || true");
        }
        assert!(stayed >= 9, "only {stayed} times a link stayed");
    });
}

/// The same where what the kernel says gets lost: what it did is done.
#[test]
fn add_that_lost_an_answer_says_whether_its_link_stays() {
    on_stage(|stage| {
        let mut stayed = Vec::new();
        for lost in 0.. {
            let ns = stage.netns("pod");
            probe::lose_answers_after(Some(lost));
            let outcome = pod::add(ns.open(), &wiring("c1"));
            probe::lose_answers_after(None);
            let is_there = stage.succeeds("ip link show enicc21c2d7785");
            ns.remove();
            if outcome.is_ok() {
                break;
            }
            let told = matches!(&outcome, Err(HostError::LinkStays { link, .. }) if link == "enicc21c2d7785");
            assert_eq!(told, is_there, "answer {lost}: {outcome:?}");
            stayed.extend(told.then_some(lost));
            stage.run("ip link del enicc21c2d7785 2>/dev/null || true");
        }
        assert_eq!(stayed, [1], "after a look at the pod, the pair");
    });
}

/// The same for DEL: what failed can be repeated.
#[test]
fn del_refused_at_any_step_can_be_repeated() {
    on_stage(|stage| {
        let before = kernel_state(stage);
        for refused in 0..4 {
            let ns = stage.netns("pod");
            let wiring = wiring("c1");
            pod::add(ns.open(), &wiring).expect("wired");
            let names = [wiring.host_ifname.clone()];
            let teardown = Teardown { attachment: &wiring.attachment, host_ifnames: &names };
            probe::refuse_after(Some(refused));
            let first = pod::delete_own(&teardown);
            probe::refuse_after(None);
            assert_eq!(first.is_err(), refused < 2, "{refused}: {first:?}");
            let again = pod::delete_own(&teardown).expect("deleted");
            assert_eq!(again.was_there, refused < 2);
            assert_eq!(kernel_state(stage), before);
            ns.remove();
        }
    });
}

/// D17: an ADD asks for no list, and is a look and three batches.
#[test]
fn add_sends_few_messages_and_asks_for_no_list() {
    on_stage(|stage| {
        let ns = stage.netns("pod");
        let _ = probe::sent();
        pod::add(ns.open(), &wiring("c1")).expect("wired");
        let sent = probe::sent();
        assert!(sent.iter().all(|(_, list)| !list), "{sent:?}");
        assert_eq!(sent.len(), 12, "{sent:?}");
        let kinds: Vec<u16> = sent.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds[..3], [RTM_GETLINK, RTM_NEWLINK, RTM_GETLINK]);
    });
}

/// A name that something else has is refused with its owner, and that something stays as it is.
#[test]
fn add_names_the_owner_of_a_taken_name() {
    on_stage(|stage| {
        let ns = stage.netns("pod");
        stage.run("ip link add enicc21c2d7785 type veth peer name x; ip link set enicc21c2d7785 alias vm-7");
        let before = kernel_state(stage);
        match pod::add(ns.open(), &wiring("c1")) {
            Err(HostError::Foreign { name, owner }) => {
                assert_eq!(name, "enicc21c2d7785");
                assert!(owner.contains("vm-7"), "{owner}");
            }
            other => assert!(matches!(other, Err(HostError::Foreign { .. })), "{other:?}"),
        }
        assert_eq!(kernel_state(stage), before);
    });
}

/// Scenario 49: routes that an earlier owner of the address or of the name left are replaced or stand behind; a neighbour it
/// had on another device stays, and nothing is sent to it.
#[test]
fn add_replaces_what_an_earlier_owner_left() {
    on_stage(|stage| {
        let (old, new) = (stage.netns("old"), stage.netns("new"));
        // A link of ours under the same name and with the same address, never deleted.
        pod::add(old.open(), &wiring("earlier")).expect("wired");
        let wired = pod::add(new.open(), &wiring("c1")).expect("wired");
        assert!(wired.replaced);
        assert_eq!(old.run("ip -o link show type veth"), "");
        // Routes to the address elsewhere, in our table and in main; a neighbour that the address had on another device.
        stage
            .run("ip link del enicc21c2d7785; ip link add stale type veth peer name x; ip link set stale up");
        for table in ["5120", "main"] {
            stage.run(&format!("ip route add 10.0.0.101/32 dev stale table {table}"));
            stage.run(&format!("ip route add 10.0.0.101/32 dev stale metric 7 table {table}"));
        }
        stage.run("ip neigh add 10.0.0.101 lladdr 02:00:00:00:00:99 dev stale nud permanent; ip addr add 10.0.0.11/32 dev lo");
        let again = stage.netns("again");
        pod::add(again.open(), &wiring("c2")).expect("wired");
        stage.run("ip rule add pref 512 lookup 5120");
        for _ in 0..2 {
            assert!(stage.run("ip route get 10.0.0.101").contains("dev enicc21c2d7785"));
            stage.run("ping -n -q -c 1 -W 2 -I 10.0.0.11 10.0.0.101");
            stage.run("ip rule del pref 512 || true");
        }
    });
}

/// IPv6 is refused, not half done.
#[test]
fn add_with_an_address_that_cannot_be_wired_changes_nothing() {
    on_stage(|stage| {
        let ns = stage.netns("pod");
        let before = kernel_state(stage);
        for addresses in [Vec::new(), vec!["fd00::1".parse().expect("an address")]] {
            let outcome = pod::add(ns.open(), &PodWiring { addresses, ..wiring("c1") });
            assert!(matches!(outcome, Err(HostError::Setting(_) | HostError::Family(_))), "{outcome:?}");
        }
        for mtu in [0, 67, 70_000] {
            assert!(pod::add(ns.open(), &PodWiring { mtu, ..wiring("c1") }).is_err(), "MTU {mtu}");
        }
        assert_eq!(kernel_state(stage), before);
    });
}

/// Host routes need no IPv6, and a pod must not give the host a route by router advertisements.
#[test]
fn host_end_accepts_no_router_advertisements() {
    on_stage(|stage| {
        let ns = stage.netns("pod");
        pod::add(ns.open(), &wiring("c1")).expect("wired");
        // A kernel without IPv6 accepts none by itself.
        if std::fs::exists("/proc/sys/net/ipv6").expect("looked") {
            assert_eq!(stage.run("sysctl -n net.ipv6.conf.enicc21c2d7785.accept_ra").trim(), "0");
        }
    });
}
