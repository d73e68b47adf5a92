//! The fabric's nft text: what a hypervisor does to an ENI's packets. Pure: ports and groups in, text out.
//!
//! Per port `P`: set `ok_P` holds the sources it may send, chain `src_P` checks them, chain `in_P` jumps to the chain
//! of each of its security groups. Per group `G`: chain `g_G` holds its ingress rules, sets `m_G` and `m6_G` hold the
//! addresses of its members. Maps from interface to chain keep the number of rules a packet meets independent of the
//! number of ports.

use std::fmt::Write as _;

use ipnetwork::IpNetwork;

use crate::wires::{GroupRule, Peer};

/// Counter of packets dropped because their source is not assigned to the ENI they came from.
pub(super) const SPOOFED: &str = "spoofed";
/// Counter of packets no security group of the receiving ENI allows.
pub(super) const SG_DENIED: &str = "sg_denied";
/// Counter of packets to IMDS that came by an ENI which is not the instance's primary one.
pub(super) const IMDS_DENIED: &str = "imds_denied";

/// The table before the first port. `endpoint` is EC2's address in the fabric.
pub(super) fn base(imds: &str, endpoint: &str) -> String {
    format!(
        "table inet vpc {{
  counter {SPOOFED} {{ }}
  counter {SG_DENIED} {{ }}
  counter {IMDS_DENIED} {{ }}
  map eni_src {{ type ifname : verdict; }}
  map eni_in {{ type ifname : verdict; }}
  set primary {{ type ifname; }}
  chain spoof {{
    type filter hook prerouting priority raw; policy accept;
    iifname vmap @eni_src
    iifname \"f-*\" counter name {SPOOFED} drop
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    ct state invalid drop
    oifname \"igw\" accept
    oifname vmap @eni_in
  }}
  chain input {{
    type filter hook input priority filter; policy drop;
    iifname \"lo\" accept
    iifname @primary ip daddr {{ {imds}, {endpoint} }} tcp dport 80 accept
    ip daddr {imds} counter name {IMDS_DENIED} drop
    ct state established,related accept
    iifname \"f-*\" icmp type echo-request accept
    iifname \"f-*\" meta l4proto ipv6-icmp accept
  }}
}}
"
    )
}

/// A port appears, with nothing assigned yet.
pub(super) fn add_port(port: &str, primary: bool, source_check: bool, groups: &[String]) -> String {
    let mut text = String::new();
    let check = if source_check {
        format!(
            "ip saddr @ok_{port} accept
    ip6 saddr @ok6_{port} accept
    ip6 saddr {{ ::, fe80::/10 }} accept
    counter name {SPOOFED} drop"
        )
    } else {
        "accept".to_owned()
    };
    let jumps = jumps(groups);
    put(
        &mut text,
        format_args!(
            "table inet vpc {{
  set ok_{port} {{ type ipv4_addr; flags interval; }}
  set ok6_{port} {{ type ipv6_addr; flags interval; }}
  chain src_{port} {{
    {check}
  }}
  chain in_{port} {{
    {jumps}
  }}
}}
add element inet vpc eni_src {{ {port} : jump src_{port} }}
add element inet vpc eni_in {{ {port} : jump in_{port} }}
"
        ),
    );
    if primary {
        put(&mut text, format_args!("add element inet vpc primary {{ {port} }}\n"));
    }
    text
}

/// A port is gone, with all that was assigned to it.
pub(super) fn remove_port(port: &str, primary: bool) -> String {
    let mut text = String::new();
    if primary {
        put(&mut text, format_args!("delete element inet vpc primary {{ {port} }}\n"));
    }
    put(
        &mut text,
        format_args!(
            "delete element inet vpc eni_src {{ {port} }}
delete element inet vpc eni_in {{ {port} }}
delete chain inet vpc src_{port}
delete chain inet vpc in_{port}
delete set inet vpc ok_{port}
delete set inet vpc ok6_{port}
"
        ),
    );
    text
}

/// Packets from `net` may (not) leave the port, and `net` is (not) a member of the groups.
pub(super) fn member(verb: &str, port: &str, groups: &[String], net: IpNetwork) -> String {
    let mut text = source(verb, port, net);
    text.push_str(&membership(verb, groups, net));
    text
}

fn source(verb: &str, port: &str, net: IpNetwork) -> String {
    format!("{verb} element inet vpc ok{}_{port} {{ {net} }}\n", family(net))
}

/// `net` is (not) a member of the groups.
pub(super) fn membership(verb: &str, groups: &[String], net: IpNetwork) -> String {
    groups
        .iter()
        .map(|group| format!("{verb} element inet vpc m{}_{group} {{ {net} }}\n", family(net)))
        .collect()
}

/// The port is in these groups from now on.
pub(super) fn regroup(port: &str, groups: &[String]) -> String {
    format!(
        "flush chain inet vpc in_{port}
table inet vpc {{
  chain in_{port} {{
    {}
  }}
}}
",
        jumps(groups)
    )
}

/// A group that allows nothing and has no members. Repeating it changes nothing.
pub(super) fn add_group(group: &str) -> String {
    format!(
        "table inet vpc {{
  set m_{group} {{ type ipv4_addr; flags interval; }}
  set m6_{group} {{ type ipv6_addr; flags interval; }}
  chain g_{group} {{ }}
}}
"
    )
}

/// These are the group's ingress rules from now on. The groups they name must exist.
pub(super) fn group_rules(group: &str, rules: &[GroupRule]) -> String {
    let mut text = format!("flush chain inet vpc g_{group}\n");
    for rule in rules {
        for peer in peers(&rule.peer) {
            let what = protocol(rule);
            put(&mut text, format_args!("add rule inet vpc g_{group} {peer}{what}accept\n"));
        }
    }
    text
}

fn peers(peer: &Peer) -> Vec<String> {
    match peer {
        Peer::Cidr(net) if net.prefix() == 0 => {
            vec![format!("meta nfproto ipv{} ", if net.is_ipv4() { 4 } else { 6 })]
        }
        Peer::Cidr(IpNetwork::V4(net)) => vec![format!("ip saddr {net} ")],
        Peer::Cidr(IpNetwork::V6(net)) => vec![format!("ip6 saddr {net} ")],
        Peer::Group(group) => vec![format!("ip saddr @m_{group} "), format!("ip6 saddr @m6_{group} ")],
    }
}

/// IP protocol numbers whose rules carry ports. Source: EC2 API reference, IpPermission.FromPort (TCP and UDP).
const WITH_PORTS: [u8; 2] = [6, 17];

fn protocol(rule: &GroupRule) -> String {
    match (rule.protocol, rule.ports) {
        (None, _) => String::new(),
        (Some(number), Some((first, last))) if WITH_PORTS.contains(&number) => {
            format!("meta l4proto {number} th dport {first}-{last} ")
        }
        (Some(number), _) => format!("meta l4proto {number} "),
    }
}

fn jumps(groups: &[String]) -> String {
    let mut text: String = groups.iter().map(|group| format!("jump g_{group}\n    ")).collect();
    put(&mut text, format_args!("counter name {SG_DENIED} drop"));
    text
}

fn family(net: IpNetwork) -> &'static str {
    if net.is_ipv4() { "" } else { "6" }
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_with_ports_and_a_group_covers_both_families() {
        let rule =
            GroupRule { protocol: Some(6), ports: Some((80, 81)), peer: Peer::Group("sg-1".to_owned()) };
        assert_eq!(
            group_rules("sg-2", &[rule]),
            "flush chain inet vpc g_sg-2\n\
             add rule inet vpc g_sg-2 ip saddr @m_sg-1 meta l4proto 6 th dport 80-81 accept\n\
             add rule inet vpc g_sg-2 ip6 saddr @m6_sg-1 meta l4proto 6 th dport 80-81 accept\n"
        );
    }

    #[test]
    fn icmp_type_and_code_are_not_taken_for_ports() {
        let everyone = Peer::Cidr("0.0.0.0/0".parse().unwrap());
        let rule = GroupRule { protocol: Some(1), ports: Some((8, 0)), peer: everyone };
        assert!(group_rules("g", &[rule]).contains("meta nfproto ipv4 meta l4proto 1 accept"));
    }

    #[test]
    fn without_source_check_everything_is_accepted() {
        let text = add_port("f-1", false, false, &[]);
        assert!(!text.contains("saddr"), "{text}");
        assert!(!text.contains("element inet vpc primary"), "{text}");
    }
}
