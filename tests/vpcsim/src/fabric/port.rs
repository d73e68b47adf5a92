//! One ENI in the fabric: its device, what is routed to it, and the commands that bring about either.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use ipnetwork::IpNetwork;

use super::ruleset;
use crate::tools;
use crate::wires::Port;

/// Jumbo frames inside a VPC. Source: EC2 User Guide, "Network MTU for your EC2 instance".
const MTU: u16 = 9001;

/// How long the kernel may take to notice a link. Its own limit is one second, plus whatever it is busy with.
const CARRIER_DEADLINE: Duration = Duration::from_secs(10);

/// A port that is in place. Its methods run inside the fabric's namespaces.
#[derive(Debug)]
pub(super) struct PluggedPort {
    pub(super) spec: Port,
    /// The fabric's end.
    pub(super) device: String,
    /// Beside the primary address.
    pub(super) routes: BTreeSet<IpNetwork>,
}

impl PluggedPort {
    pub(super) fn new(spec: Port, device: String) -> Self {
        Self { spec, device, routes: BTreeSet::new() }
    }

    /// Protection first, then the device: it is never there without its checks.
    pub(super) fn create(&self, keeper: u32) -> anyhow::Result<()> {
        let Self { spec, device, .. } = self;
        let mut text = ruleset::add_port(device, self.is_primary(), spec.source_dest_check, &spec.groups);
        text.push_str(&ruleset::member("add", device, &spec.groups, self.primary()));
        tools::nft(&text)?;
        if let Err(error) = self.bring_up(keeper) {
            if let Err(second) = self.remove() {
                tracing::warn!(eni = spec.eni, error = %second, "cannot undo a failed plug");
            }
            return Err(error);
        }
        Ok(())
    }

    fn bring_up(&self, keeper: u32) -> anyhow::Result<()> {
        tools::ip(&self.creation(keeper))?;
        // The kernel would wait up to 0.8 s before it answers ARP for another; `default` has no such knob here.
        let path = format!("/proc/sys/net/ipv4/neigh/{}/proxy_delay", self.device);
        fs::write(&path, "0").with_context(|| format!("cannot set {path}"))
    }

    /// The first line is the hot-plug: a single `RTM_NEWLINK` in the node, with name and MAC already right.
    fn creation(&self, keeper: u32) -> String {
        let Self { spec, device, .. } = self;
        let (mac, name) = (self.mac(), device_name(spec.card, spec.device));
        let (gateway, primary, link_local) = (self.gateway(), spec.primary, self.link_local());
        let mut text = format!(
            "link add {device} mtu {MTU} type veth peer name {name} address {mac} mtu {MTU} netns {keeper}
addr add {gateway}/32 dev {device}
link set {device} up alias {eni}
neigh replace {primary} lladdr {mac} dev {device} nud permanent
route add {primary}/32 dev {device}
",
            eni = spec.eni,
        );
        if has_ipv6() {
            text.push_str(&format!(
                "addr add fe80::1/64 dev {device} nodad
neigh replace {link_local} lladdr {mac} dev {device} nud permanent
"
            ));
        }
        text
    }

    pub(super) fn remove(&self) -> anyhow::Result<()> {
        self.remove_device()?;
        let mut text = ruleset::remove_port(&self.device, self.is_primary());
        for net in self.routes.iter().copied().chain([self.primary()]) {
            text.push_str(&ruleset::membership("delete", &self.spec.groups, net));
        }
        tools::nft(&text)
    }

    /// The device anew, in a namespace anew; what is assigned stays.
    pub(super) fn replug(&self, keeper: u32) -> anyhow::Result<()> {
        self.remove_device()?;
        self.bring_up(keeper)?;
        let routes: String = self.routes.iter().map(|net| self.route_line("add", *net)).collect();
        if routes.is_empty() { Ok(()) } else { tools::ip(&routes) }
    }

    /// Gone devices are not missed: when the node vanished first, its end takes ours along, at any moment.
    fn remove_device(&self) -> anyhow::Result<()> {
        let device = Path::new("/sys/class/net").join(&self.device);
        if device.exists()
            && let Err(error) = tools::ip(&format!("link del {}\n", self.device))
            && device.exists()
        {
            return Err(error);
        }
        Ok(())
    }

    pub(super) fn add_route(&self, net: IpNetwork) -> anyhow::Result<()> {
        tools::nft(&ruleset::member("add", &self.device, &self.spec.groups, net))?;
        if let Err(error) = tools::ip(&self.route_line("add", net)) {
            tools::nft(&ruleset::member("delete", &self.device, &self.spec.groups, net))?;
            return Err(error);
        }
        Ok(())
    }

    pub(super) fn remove_route(&self, net: IpNetwork) -> anyhow::Result<()> {
        tools::ip(&self.route_line("del", net))?;
        tools::nft(&ruleset::member("delete", &self.device, &self.spec.groups, net))
    }

    /// One transaction: no moment without protection, none without its groups.
    pub(super) fn regroup(&self, groups: &[String]) -> anyhow::Result<()> {
        let mut text = ruleset::regroup(&self.device, groups);
        for net in self.routes.iter().copied().chain([self.primary()]) {
            text.push_str(&ruleset::membership("delete", &self.spec.groups, net));
            text.push_str(&ruleset::membership("add", groups, net));
        }
        tools::nft(&text)
    }

    fn route_line(&self, verb: &str, net: IpNetwork) -> String {
        let next_hop: IpAddr = match net {
            IpNetwork::V4(_) => self.spec.primary.into(),
            IpNetwork::V6(_) => self.link_local().into(),
        };
        format!("route {verb} {net} via {next_hop} dev {} onlink\n", self.device)
    }

    fn primary(&self) -> IpNetwork {
        IpAddr::from(self.spec.primary).into()
    }

    fn is_primary(&self) -> bool {
        self.spec.card == 0 && self.spec.device == 0
    }

    fn gateway(&self) -> IpAddr {
        IpAddr::from(std::net::Ipv4Addr::from(u32::from(self.spec.subnet.network()) + 1))
    }

    fn mac(&self) -> String {
        self.spec.mac.map(|byte| format!("{byte:02x}")).join(":")
    }

    /// The node's own IPv6 link-local address, made from the MAC. Source: RFC 4291, appendix A.
    fn link_local(&self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.spec.mac;
        let word = |high: u8, low: u8| u16::from_be_bytes([high, low]);
        Ipv6Addr::new(0xfe80, 0, 0, 0, word(a ^ 2, b), word(c, 0xff), word(0xfe, d), word(e, f))
    }
}

/// Source: RFC 2863, `ifOperStatus`; the kernel sets it in the same breath as it activates the device's queue.
pub(super) fn wait_for_carrier(device: &str) -> anyhow::Result<()> {
    let path = format!("/sys/class/net/{device}/operstate");
    let deadline = Instant::now() + CARRIER_DEADLINE;
    while fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?.trim() != "up" {
        if Instant::now() > deadline {
            bail!("{device} has no carrier: its node has not set its end up");
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Whether new devices here speak IPv6: neither the kernel (then there is no such file) nor the namespace is without it.
fn has_ipv6() -> bool {
    fs::read_to_string("/proc/sys/net/ipv6/conf/default/disable_ipv6").is_ok_and(|value| value.trim() == "0")
}

/// The kernel's names, in the order of device indexes; those of further cards in hundreds of their own.
pub(super) fn device_name(card: u32, device: u32) -> String {
    format!("eth{}", card * 100 + device)
}
