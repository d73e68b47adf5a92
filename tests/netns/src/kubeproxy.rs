//! kube-proxy's rules, as its modes write them, for a handful of Services: real tables made with the node's own tools, at
//! kube-proxy's hooks and priorities, with its mark 0x4000.
//!
//! *Source*: `pkg/proxy/{iptables,nftables}/proxier.go` of Kubernetes 1.33; names shortened. Mode ipvs needs another kernel
//! than many a development machine has: `tests/stock.rs`.

use crate::stage::Stage;
use std::fmt::Write as _;

/// What writes the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// kube-proxy in mode iptables, with the tool that speaks nf_tables.
    IptablesNft,
    /// kube-proxy in mode iptables, with the old tool.
    IptablesLegacy,
    /// kube-proxy in mode nftables.
    Nftables,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::IptablesNft, Self::IptablesLegacy, Self::Nftables];
}

/// How a Service is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// By a cluster address.
    Cluster(&'static str),
    /// By a port of the node; whoever asks is masqueraded (externalTrafficPolicy: Cluster).
    NodePort(u16),
    /// By a port of the node; the client's address is kept (externalTrafficPolicy: Local).
    NodePortLocal(u16),
}

/// A Service with one endpoint; port 80 on both sides but for node ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// How it is reached.
    pub front: Front,
    /// Who answers.
    pub endpoint: &'static str,
}

/// Installs the Services' rules.
///
/// # Panics
/// When a tool refuses.
pub fn install(stage: &Stage, mode: Mode, services: &[Service]) {
    match mode {
        Mode::IptablesNft => restore(stage, "iptables-nft-restore", services),
        Mode::IptablesLegacy => restore(stage, "iptables-legacy-restore", services),
        Mode::Nftables => {
            stage.run(&format!("nft -f - <<'E'\n{}E", nftables(services)));
        }
    }
}

/// Removes them, as a switch to another mode does.
///
/// # Panics
/// When a tool refuses.
pub fn remove(stage: &Stage, mode: Mode) {
    match mode {
        Mode::IptablesNft => {
            stage.run("iptables-nft -t nat -F; iptables-nft -t nat -X; iptables-nft -F; iptables-nft -X")
        }
        Mode::IptablesLegacy => stage.run(
            "iptables-legacy -t nat -F; iptables-legacy -t nat -X; iptables-legacy -F; iptables-legacy -X",
        ),
        Mode::Nftables => stage.run("nft delete table ip kube-proxy"),
    };
}

fn restore(stage: &Stage, tool: &str, services: &[Service]) {
    stage.run(&format!("{tool} --noflush <<'E'\n{}E", iptables(services)));
}

fn iptables(services: &[Service]) -> String {
    let mut chains = String::new();
    let mut rules = String::new();
    let mut line = |text: String| writeln!(rules, "{text}").expect("a String takes everything");
    for (number, service) in services.iter().enumerate() {
        let endpoint = service.endpoint;
        writeln!(chains, ":KUBE-SVC-{number} - [0:0]\n:KUBE-SEP-{number} - [0:0]")
            .expect("a String takes everything");
        line(format!("-A KUBE-SEP-{number} -s {endpoint}/32 -j KUBE-MARK-MASQ"));
        line(format!("-A KUBE-SEP-{number} -p tcp -m tcp -j DNAT --to-destination {endpoint}:80"));
        match service.front {
            Front::Cluster(address) => line(format!(
                "-A KUBE-SERVICES -d {address}/32 -p tcp -m comment --comment \"s{number} cluster IP\" -m tcp --dport 80 -j KUBE-SVC-{number}"
            )),
            Front::NodePort(port) => {
                line(format!("-A KUBE-NODEPORTS -p tcp -m tcp --dport {port} -j KUBE-SVC-{number}"));
                line(format!("-A KUBE-SVC-{number} -j KUBE-MARK-MASQ"));
            }
            Front::NodePortLocal(port) => {
                line(format!("-A KUBE-NODEPORTS -p tcp -m tcp --dport {port} -j KUBE-SVC-{number}"));
            }
        }
        line(format!("-A KUBE-SVC-{number} -j KUBE-SEP-{number}"));
    }
    format!(
        "*filter
:KUBE-FORWARD - [0:0]
-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
{chains}-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
{rules}-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
COMMIT
"
    )
}

fn nftables(services: &[Service]) -> String {
    let mut chains = String::new();
    let (mut ips, mut ports) = (Vec::new(), Vec::new());
    for (number, service) in services.iter().enumerate() {
        let endpoint = service.endpoint;
        let masquerade = match service.front {
            Front::Cluster(address) => {
                ips.push(format!("{address} . tcp . 80 : goto service-{number}"));
                ""
            }
            Front::NodePort(port) => {
                ports.push(format!("tcp . {port} : goto service-{number}"));
                "jump mark-for-masquerade; "
            }
            Front::NodePortLocal(port) => {
                ports.push(format!("tcp . {port} : goto service-{number}"));
                ""
            }
        };
        writeln!(
            chains,
            "  chain endpoint-{number} {{ ip saddr {endpoint} jump mark-for-masquerade; meta l4proto tcp dnat to {endpoint}:80; }}
  chain service-{number} {{ {masquerade}goto endpoint-{number}; }}"
        )
        .expect("a String takes everything");
    }
    let elements = |list: &[String]| match list {
        [] => String::new(),
        _ => format!("elements = {{ {} }}", list.join(", ")),
    };
    format!(
        "table ip kube-proxy {{
  chain mark-for-masquerade {{ mark set mark or 0x4000; }}
  chain masquerading {{ mark and 0x4000 == 0 return; mark set mark xor 0x4000; masquerade fully-random; }}
{chains}  map service-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; {} }}
  map service-nodeports {{ type inet_proto . inet_service : verdict; {} }}
  chain services {{
    ip daddr . meta l4proto . th dport vmap @service-ips
    fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @service-nodeports
  }}
  chain nat-prerouting {{ type nat hook prerouting priority dstnat; jump services; }}
  chain nat-output {{ type nat hook output priority -100; jump services; }}
  chain nat-postrouting {{ type nat hook postrouting priority srcnat; jump masquerading; }}
}}
",
        elements(&ips),
        elements(&ports)
    )
}
