//! A fabric with nodes, driven through `Wires` alone, and pods wired by the simplest means that work.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ipnetwork::Ipv4Network;
use vpcsim::fabric::Fabric;
use vpcsim::internet::Internet;
use vpcsim::node::{Node, PodNetns, PrimaryAddress};
use vpcsim::ns::{Keeper, Namespaces};
use vpcsim::probe;
use vpcsim::servers::Servers;
use vpcsim::wires::{GroupRule, Peer, Port, Wires};

/// The group every port of a bench is in at first: its members may send each other everything.
pub(crate) const OPEN: &str = "sg-open";

/// Dropped in this order: nodes first.
pub(crate) struct Bench {
    lab: String,
    pub(crate) fabric: Fabric,
    pub(crate) internet: Internet,
    nodes: Vec<Node>,
    _servers: Servers,
    _keeper: Keeper,
    macs: u8,
}

impl Bench {
    pub(crate) fn new(lab: &str) -> Self {
        let keeper = Keeper::start(&format!("{lab}/fabric"), None, vpcsim::fabric::furnish).unwrap();
        let ranges = ["10.0.0.0/16".parse().unwrap()];
        let mut fabric = Fabric::new(&keeper, &ranges).unwrap();
        let servers = Servers::start().unwrap();
        let internet = Internet::start(lab, &fabric, &ranges, &servers).unwrap();
        let everything_from_members =
            GroupRule { protocol: None, ports: None, peer: Peer::Group(OPEN.to_owned()) };
        fabric.set_group_rules(OPEN, &[everything_from_members]).unwrap();
        let lab = lab.to_owned();
        Self { lab, fabric, internet, nodes: Vec::new(), _servers: servers, _keeper: keeper, macs: 0 }
    }

    /// A node with its primary ENI `eni-<name>-0`, at `10.0.<subnet>.<host>`.
    pub(crate) fn node(&mut self, name: &str, subnet: u8, host: u8) -> Node {
        let node = Node::boot(&self.lab, name, &format!("i-{name}")).unwrap();
        self.fabric.connect_host(node.instance_id(), node.pid());
        self.plug(&node, 0, subnet, host);
        let address = Ipv4Addr::new(10, 0, subnet, host);
        let resolver = Ipv4Addr::new(10, 0, 0, 2);
        node.configure_primary(PrimaryAddress { address, subnet: network(subnet), resolver, ipv6: None })
            .unwrap();
        self.fabric.wait_for_carrier(&format!("eni-{name}-0")).unwrap();
        self.nodes.push(node.clone());
        node
    }

    pub(crate) fn port(&mut self, node: &Node, device: u32, subnet: u8, host: u8) -> Port {
        self.macs += 1;
        Port {
            eni: format!("eni-{}-{device}", node.name()),
            instance: node.instance_id().to_owned(),
            mac: [2, 0, 0, 0, 0, self.macs],
            card: 0,
            device,
            primary: Ipv4Addr::new(10, 0, subnet, host),
            subnet: network(subnet),
            groups: vec![OPEN.to_owned()],
            source_dest_check: true,
        }
    }

    /// Plugs `eni-<node>-<device>`.
    pub(crate) fn plug(&mut self, node: &Node, device: u32, subnet: u8, host: u8) -> Port {
        let port = self.port(node, device, subnet, host);
        self.fabric.plug(&port).unwrap();
        port
    }
}

/// Brings a secondary ENI up in its node, with a route table of its own, as a CNI's daemon does.
pub(crate) fn set_up_secondary(node: &Node, port: &Port) {
    let (device, table) = (format!("eth{}", port.device), port.device + 1);
    let gateway = Ipv4Addr::from(u32::from(port.subnet.network()) + 1);
    ip(
        node.namespaces(),
        &format!(
            "link set {device} up\naddr add {}/32 dev {device}\n\
             route add {gateway}/32 dev {device} scope link table {table}\n\
             route add default via {gateway} dev {device} table {table}\n",
            port.primary
        ),
    );
    // A packet's way back differs from its way in when several ENIs are in one subnet.
    loosen(node, &device);
    // Both ends of the cable must have noticed each other; until then, packets are lost.
    eventually("eth1 carries packets", || ping_by(node, &device, gateway));
}

/// A pod whose packets leave by table `table` (254: main).
pub(crate) fn wire_pod(node: &Node, name: &str, address: Ipv4Addr, table: u32) -> PodNetns {
    let pod = node.add_netns(name).unwrap();
    let host = format!("h-{name}");
    ip(
        node.namespaces(),
        &format!(
            "link add {host} mtu 9001 type veth peer name eth0 mtu 9001 netns {name}\nlink set {host} up\n\
             route add {address}/32 dev {host}\nrule add to {address} lookup main pref 512\n\
             rule add from {address} lookup {table} pref 1536\n"
        ),
    );
    set(node.namespaces(), &format!("conf/{host}/proxy_arp"), "1");
    set(node.namespaces(), &format!("neigh/{host}/proxy_delay"), "0");
    loosen(node, &host);
    loosen(node, "eth0");
    ip(
        &pod.namespaces().unwrap(),
        &format!(
            "addr add {address}/32 dev eth0\nlink set eth0 up\nroute add 169.254.1.1 dev eth0\n\
             route add default via 169.254.1.1\n"
        ),
    );
    let inside = pod.namespaces().unwrap();
    let node_itself = node.primary().unwrap().address.octets();
    eventually("the pod's cable carries packets", || ping(&inside, node_itself));
    pod
}

/// A lab's name that no other run of these tests has at the same time.
pub(crate) fn name(what: &str) -> &'static str {
    format!("t{}-{what}", std::process::id()).leak()
}

pub(crate) fn network(subnet: u8) -> Ipv4Network {
    Ipv4Network::new(Ipv4Addr::new(10, 0, subnet, 0), 24).unwrap()
}

/// Runs `ip -batch`.
pub(crate) fn ip(at: &Namespaces, batch: &str) {
    feed(at.command("ip").args(["-batch", "-"]), batch);
}

/// Runs `nft -f`.
pub(crate) fn nft(at: &Namespaces, rules: &str) {
    feed(at.command("nft").args(["-f", "-"]), rules);
}

fn feed(command: &mut Command, input: &str) {
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{input}", String::from_utf8_lossy(&output.stderr));
}

/// Loose reverse path filter.
pub(crate) fn loosen(node: &Node, device: &str) {
    set(node.namespaces(), &format!("conf/{device}/rp_filter"), "2");
}

fn set(at: &Namespaces, name: &str, value: &str) {
    at.enter(|| std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value)).unwrap().unwrap();
}

pub(crate) fn ping(from: &Namespaces, to: [u8; 4]) -> bool {
    probe::ping(from, None, IpAddr::from(to), 56).unwrap()
}

pub(crate) fn silent(from: &Namespaces, to: [u8; 4]) -> bool {
    probe::silent(from, None, IpAddr::from(to), 56).unwrap()
}

fn ping_by(node: &Node, device: &str, to: Ipv4Addr) -> bool {
    let mut ping = node.command("ping");
    ping.args(["-q", "-c1", "-W1", "-I", device])
        .arg(to.to_string())
        .stdout(Stdio::null())
        .status()
        .unwrap()
        .success()
}

pub(crate) fn tcp(from: &Namespaces, to: [u8; 4], port: u16) -> bool {
    probe::tcp(from, SocketAddr::from((to, port))).unwrap()
}

pub(crate) fn closed(from: &Namespaces, to: [u8; 4], port: u16) -> bool {
    probe::closed(from, SocketAddr::from((to, port))).unwrap()
}

/// Waits on a condition, never on time.
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 10 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One request over HTTP/1.1 from where the calling thread stands: status and body.
pub(crate) fn exchange(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&to, probe::SURE)?;
    stream.set_read_timeout(Some(probe::SURE))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n"
    )?;
    for (name, value) in headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    write!(stream, "\r\n{body}")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let parsed = text
        .split_once("\r\n\r\n")
        .and_then(|(head, body)| Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned())));
    parsed.ok_or_else(|| std::io::Error::other(format!("no answer: {text:?}")))
}
