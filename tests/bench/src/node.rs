//! Nodes for the data path: a network namespace with two ENIs, pods made by the product's own hostnet, and what routes them.
//!
//! ```text
//!   pod a ──┐                        ┌── eth0 10.0.0.11
//!   pod b ──┼── node (routing) ──────┤
//!   others ─┘                        └── eth1 10.<n>.0.12/16, the pods' ENI ── wire ── whatever the section puts there
//! ```
//! Every node is a stock one, whatever routes its pods: rp_filter 1, and networkd's /32 routes to gateway and resolver. The
//! kernel then looks a source up for each packet, on plain routes as well.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use ipnetwork::{IpNetwork, Ipv4Network};
use podwire_hostnet::pod::{self, PodWiring};
use podwire_hostnet::{Attachment, EniConfig, EniSlot, Layout, NodeConfig, NodeNet, RandomSnat};
use podwire_netns::{Ns, Stage};

/// How a node finds its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Routing {
    /// As podwire does.
    Podwire,
    /// The incumbent's rules: one to and one from each pod (incumbent-behaviour §4). Neither its NAT nor connection
    /// tracking: in its favour.
    RulePerPod,
    /// Routes to the pods and one default route; no rule, no nft.
    Bare,
    /// The same, with connections tracked and a chain for NAT, as they are on any node where kube-proxy runs.
    Tracked,
}

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    /// Its own namespace.
    pub(crate) ns: Ns,
    /// A pod.
    pub(crate) a: Ns,
    /// Another one.
    pub(crate) b: Ns,
    number: u8,
    /// Keeps the sockets; what it set up stays in the kernel anyway.
    _net: Option<NodeNet>,
}

/// The kernel tracks connections once a rule asks for their state.
const TRACKING: &str = "nft add table ip tracked
    nft 'add chain ip tracked state { type filter hook prerouting priority -150; }'
    nft add rule ip tracked state ct state new counter
    nft 'add chain ip tracked leaving { type nat hook postrouting priority 100; }'";
/// Where the ENI that carries the pods sits.
const SECOND: EniSlot = EniSlot { card: 0, device: 1 };

impl Node {
    /// Builds node `number` (1 to 250) with `pods` pods, `a` and `b` among them; `eth1` ends in `wire` as `w<number>`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn build(
        stage: &Stage,
        wire: &Ns,
        number: u8,
        routing: Routing,
        pods: u16,
    ) -> anyhow::Result<Self> {
        let pods = pods.max(2);
        let [ns, a, b, crowd] =
            ["node", "a", "b", "crowd"].map(|name| stage.netns(&format!("{name}-{number}")));
        wire.run(&format!(
            "ip link add w{number} mtu 9001 type veth peer name eth1 address {} mtu 9001 netns {ns}
             ip addr add 10.{number}.0.1/16 dev w{number}; ip link set w{number} up
             ip link add v{number} type veth peer name eth0 address {} netns {ns}; ip link set v{number} up",
            mac_text(1),
            mac_text(0),
            ns = ns.path(),
        ));
        let mut node = Self { ns, a, b, number, _net: None };
        node.ns.run(&format!(
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.default.rp_filter=1
             sysctl -qw net.ipv4.conf.eth0.rp_filter=1 net.ipv4.conf.eth1.rp_filter=1
             ip addr add 10.0.0.11/24 dev eth0; ip link set eth0 up; ip route add default via 10.0.0.1 dev eth0
             ip route add 10.0.0.1/32 dev eth0 scope link; ip route add 10.0.0.2/32 dev eth0 scope link
             ip addr add 10.{number}.0.12/16 dev eth1 noprefixroute; ip link set eth1 up"
        ));
        // Before the pods, as the daemon does.
        if routing == Routing::Podwire {
            node._net = Some(node.ns.within(|| node.podwire(pods))?);
        }
        for index in 0..pods {
            let (inside, ifname) = match index {
                0 => (&node.a, "eth0".to_owned()),
                1 => (&node.b, "eth0".to_owned()),
                _ => (&crowd, format!("p{index}")),
            };
            node.wire_pod(inside, ifname, index)?;
        }
        match routing {
            Routing::Podwire => {}
            Routing::RulePerPod => node.rule_per_pod(pods)?,
            Routing::Bare => node.by_eth1("main")?,
            Routing::Tracked => {
                node.by_eth1("main")?;
                node.ns.run(TRACKING);
            }
        }
        Ok(node)
    }

    /// The address of pod number `index`: `a` is 0, `b` is 1.
    pub(crate) fn pod_address(&self, index: u16) -> Ipv4Addr {
        let [high, low] = (index + 256).to_be_bytes();
        Ipv4Addr::new(10, self.number, high, low)
    }

    /// Its own address on the pods' ENI.
    pub(crate) fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.number, 0, 12)
    }

    fn wire_pod(&self, inside: &Ns, ifname: String, index: u16) -> anyhow::Result<()> {
        let wiring = PodWiring {
            attachment: Attachment { container_id: format!("pod-{index}"), ifname },
            host_ifname: format!("eni{index}"),
            addresses: vec![IpAddr::V4(self.pod_address(index))],
            mtu: 9001,
            compat: None,
        };
        self.ns.within(|| pod::add(inside.open(), &wiring)).with_context(|| format!("pod {index}"))?;
        Ok(())
    }

    fn podwire(&self, pods: u16) -> anyhow::Result<NodeNet> {
        let number = self.number;
        let mut net = NodeNet::open()?;
        net.apply_node(&NodeConfig {
            primary_mac: mac(0),
            primary_ip: Ipv4Addr::new(10, 0, 0, 11),
            vpc_cidrs: vec![IpNetwork::V4(Ipv4Network::new(Ipv4Addr::new(10, 0, 0, 0), 8)?)],
            external_snat: false,
            exclude_snat_cidrs: Vec::new(),
            random_snat: RandomSnat::Prng,
            node_port_support: true,
            external_service_cidrs: Vec::new(),
            veth_prefix: "eni".into(),
            eni_mtu: 9001,
            layout: Layout::Constant,
        })?;
        // Single addresses: the larger map.
        let sources = (0..pods).map(|index| IpNetwork::from(IpAddr::V4(self.pod_address(index)))).collect();
        let eni = EniConfig {
            slot: SECOND,
            mac: mac(1),
            primary: IpAddr::V4(self.address()),
            subnet: IpNetwork::V4(Ipv4Network::new(Ipv4Addr::new(10, number, 0, 0), 16)?),
            mtu: 9001,
            sources,
        };
        net.apply_eni(&eni, Duration::from_secs(5))?;
        Ok(net)
    }

    fn rule_per_pod(&self, pods: u16) -> anyhow::Result<()> {
        self.by_eth1("2")?;
        let mut rules = String::new();
        // The kernel walks rules in the order they were made; the pods that are measured come in the middle, as any does.
        let others = 2..pods;
        let half = others.len() / 2;
        for index in others.clone().take(half).chain(0..2).chain(others.skip(half)) {
            let pod = self.pod_address(index);
            // Writing to a String cannot fail.
            let _ = writeln!(rules, "rule add to {pod}/32 lookup main prio 512");
            let _ = writeln!(rules, "rule add from {pod}/32 lookup 2 prio 1536");
        }
        self.ip(&rules)
    }

    fn by_eth1(&self, table: &str) -> anyhow::Result<()> {
        let gateway = format!("10.{}.0.1", self.number);
        self.ip(&format!(
            "route replace {gateway}/32 dev eth1 scope link table {table}
             route replace default via {gateway} dev eth1 onlink table {table}
"
        ))
    }

    /// Hands a list of commands to ip(8) inside the node.
    fn ip(&self, batch: &str) -> anyhow::Result<()> {
        self.ns.within(|| {
            let mut ip = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn()?;
            ip.stdin.take().context("no standard input")?.write_all(batch.as_bytes())?;
            let status = ip.wait()?;
            if !status.success() {
                bail!("ip -batch ended with {status}");
            }
            Ok(())
        })
    }
}

fn mac(device: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, device + 1]
}

fn mac_text(device: u8) -> String {
    podwire_hostnet::mac_text(&mac(device))
}

/// Packets a device has received, as the calling thread's namespace counts them.
///
/// # Errors
/// There is no such device.
pub(crate) fn received(device: &str) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev")?;
    let fields = text.lines().find_map(|line| line.trim().strip_prefix(device)?.strip_prefix(':'));
    let packets = fields.and_then(|fields| fields.split_whitespace().nth(1));
    packets.and_then(|p| p.parse().ok()).with_context(|| format!("no device {device}"))
}
