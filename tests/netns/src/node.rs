//! A node with two ENIs on a small fabric that drops spoofed sources, as EC2 does.
//!
//! ```text
//!   peer 10.0.9.9 ──┐                 ┌── eth0 10.0.0.11/24  MAC 02:00:00:00:00:01 ──┐
//!                   ├── fabric ───────┤                                              ├── node (the stage)
//!   198.51.100.10 ──┘ (router, filter)└── eth1 10.0.1.12/24  MAC 02:00:00:00:00:02 ──┘
//!   internet
//! ```
//! The node carries what stock images do: rp_filter 1, and networkd's /32 routes to gateway and resolver in `main`.

use crate::stage::{NODE, Ns, Stage};
use podwire_hostnet::pod::{self, PodWiring};
use podwire_hostnet::{Attachment, EniConfig, EniSlot, Layout, NodeConfig, NodeNet, RandomSnat};
use std::net::Ipv4Addr;
use std::time::Duration;

/// The primary ENI's MAC.
pub const MAC0: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The secondary ENI's MAC.
pub const MAC1: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// The secondary ENI's place.
pub const SECOND: EniSlot = EniSlot { card: 0, device: 1 };

/// What lies around the node.
#[derive(Debug)]
pub struct Fabric {
    /// The VPC's router.
    pub router: Ns,
    /// A host in the VPC, 10.0.9.9.
    pub peer: Ns,
    /// A host outside, 198.51.100.10.
    pub internet: Ns,
}

impl Fabric {
    /// Builds everything but the second ENI.
    #[must_use]
    pub fn build(stage: &Stage) -> Self {
        stage.run("sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.default.rp_filter=1");
        let fabric = Self {
            router: stage.netns("router"),
            peer: stage.netns("peer"),
            internet: stage.netns("internet"),
        };
        fabric.router.run(
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0",
        );
        fabric.host(&fabric.peer, "peer", "10.0.9.1", "10.0.9.9");
        fabric.host(&fabric.internet, "igw", "198.51.100.1", "198.51.100.10");
        fabric.router.run(
            "nft -f - <<'E'
table ip vpc {
  set assigned { type ifname . ipv4_addr; flags interval; }
  chain spoof { type filter hook prerouting priority raw; policy accept;
    iifname \"f-*\" iifname . ip saddr != @assigned counter drop
  }
}
E",
        );
        fabric.attach(0, "02:00:00:00:00:01", "10.0.0.1", "10.0.0.11");
        stage.run("ip addr add 10.0.0.11/24 dev eth0; ip link set eth0 up");
        stage.run("ip route add default via 10.0.0.1 dev eth0 proto dhcp src 10.0.0.11 metric 512");
        stage.run("ip route add 10.0.0.1/32 dev eth0 proto dhcp scope link src 10.0.0.11 metric 512");
        stage.run("ip route add 10.0.0.2/32 via 10.0.0.1 dev eth0 proto dhcp src 10.0.0.11 metric 512");
        fabric
    }

    fn host(&self, ns: &Ns, device: &str, gateway: &str, address: &str) {
        self.router.run(&format!("ip link add {device} type veth peer name eth0 netns {}", ns.path()));
        self.router.run(&format!("ip addr add {gateway}/24 dev {device}; ip link set {device} up"));
        ns.run(&format!(
            "ip addr add {address}/24 dev eth0; ip link set eth0 up; ip route add default via {gateway}"
        ));
    }

    /// Attaches ENI `number`: `eth<number>` appears in the node with this MAC.
    pub fn attach(&self, number: u32, mac: &str, gateway: &str, primary: &str) {
        let outside = format!("f-{number}");
        self.router.run(&format!(
            "ip link add {outside} mtu 9001 type veth peer name eth{number} address {mac} mtu 9001 netns {NODE} && \
             ip addr add {gateway}/32 dev {outside} && sysctl -qw net.ipv4.conf.{outside}.proxy_arp=1 net.ipv4.neigh.{outside}.proxy_delay=0 && ip link set {outside} up && \
             ip neigh add {primary} lladdr {mac} dev {outside} nud permanent && \
             ip route add {primary}/32 dev {outside} && \
             nft add element ip vpc assigned '{{ \"{outside}\" . {primary} }}'"
        ));
    }

    /// Attaches the second ENI.
    pub fn attach_second(&self) {
        self.attach(1, "02:00:00:00:00:02", "10.0.1.1", "10.0.1.12");
    }

    /// Packets dropped because their source is not assigned to the ENI they came from.
    ///
    /// # Panics
    /// When the fabric's ruleset is gone.
    #[must_use]
    pub fn spoofed(&self) -> u64 {
        let rules = self.router.json("nft -j list chain ip vpc spoof");
        let counters = rules["nftables"].as_array().into_iter().flatten();
        let counters = counters.flat_map(|o| o["rule"]["expr"].as_array().into_iter().flatten().cloned());
        counters.filter_map(|e| e["counter"]["packets"].as_u64()).sum()
    }

    /// EC2 assigns an address or prefix to an ENI.
    pub fn assign(&self, number: u32, primary: &str, net: &str) {
        self.router.run(&format!(
            "ip route add {net} via {primary} dev f-{number} onlink && \
             nft add element ip vpc assigned '{{ \"f-{number}\" . {net} }}'"
        ));
    }
}

/// The node's settings: the incumbent's defaults.
#[must_use]
pub fn node_config() -> NodeConfig {
    NodeConfig {
        primary_mac: MAC0,
        primary_ip: Ipv4Addr::new(10, 0, 0, 11),
        vpc_cidrs: vec![net("10.0.0.0/16")],
        external_snat: false,
        exclude_snat_cidrs: Vec::new(),
        random_snat: RandomSnat::Prng,
        node_port_support: true,
        external_service_cidrs: Vec::new(),
        veth_prefix: "eni".into(),
        eni_mtu: 9001,
        layout: Layout::Constant,
    }
}

/// The second ENI with these addresses.
#[must_use]
pub fn second_eni(sources: &[&str]) -> EniConfig {
    EniConfig {
        slot: SECOND,
        mac: MAC1,
        primary: [10, 0, 1, 12].into(),
        subnet: net("10.0.1.0/24"),
        mtu: 9001,
        sources: sources.iter().map(|s| net(s)).collect(),
    }
}

/// Wires a pod with this address.
///
/// # Panics
/// When the kernel refuses.
#[must_use]
pub fn wired_pod(stage: &Stage, name: &str, address: &str) -> Ns {
    let ns = stage.netns(name);
    let wiring = PodWiring {
        attachment: Attachment { container_id: name.into(), ifname: "eth0".into() },
        host_ifname: format!("eni{name}"),
        addresses: vec![address.parse().expect("an address")],
        mtu: 9001,
        compat: None,
    };
    pod::add(ns.open(), &wiring).expect("wired");
    ns
}

/// Applies the node's settings with a change.
///
/// # Panics
/// When the kernel refuses.
pub fn set(node: &mut NodeNet, change: impl FnOnce(&mut NodeConfig)) {
    let mut config = node_config();
    change(&mut config);
    node.apply_node(&config).expect("node");
}

/// Reads a network.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn net(text: &str) -> ipnetwork::IpNetwork {
    text.parse().expect("a network")
}

/// What of a node CHECK looks for that concerns every pod, where no daemon sets it up.
pub fn bare_node(stage: &Stage) {
    stage.run("ip rule add pref 512 lookup 5120; nft add table ip podwire");
}

/// A node that has been set up with both ENIs: 10.0.0.101 on the first, 10.0.1.101 and 10.0.1.64/28 on the second.
#[must_use]
pub fn ready_node(stage: &Stage) -> (Fabric, NodeNet) {
    let fabric = Fabric::build(stage);
    fabric.attach_second();
    fabric.assign(0, "10.0.0.11", "10.0.0.101");
    fabric.assign(0, "10.0.0.11", "10.0.0.102");
    fabric.assign(1, "10.0.1.12", "10.0.1.101");
    fabric.assign(1, "10.0.1.12", "10.0.1.64/28");
    let mut node = NodeNet::open().expect("sockets");
    node.apply_node(&node_config()).expect("node");
    node.apply_eni(&second_eni(&["10.0.1.101/32", "10.0.1.64/28"]), Duration::from_secs(5)).expect("ENI");
    // The kernel lets a new link's first packets go a moment after it is up.
    for device in ["eth0", "eth1"] {
        stage.await_true(&format!("ip link show {device} | grep -q 'state UP'"));
    }
    (fabric, node)
}
