//! What a stock node (Amazon Linux 2023 with systemd-networkd and kubelet) has set up before any CNI runs.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Context as _;
use ipnetwork::Ipv4Network;
use serde::{Deserialize, Serialize};

use crate::tools;

/// What DHCP tells the primary interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrimaryAddress {
    /// The address.
    pub address: Ipv4Addr,
    /// The subnet: mask, and gateway at base plus one.
    pub subnet: Ipv4Network,
    /// The VPC's resolver: base of the VPC plus two.
    pub resolver: Ipv4Addr,
    /// The first IPv6 address, if the ENI has one.
    pub ipv6: Option<Ipv6Addr>,
}

impl PrimaryAddress {
    /// The subnet's router.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.subnet.network()) + 1)
    }

    /// The routes are networkd's: default, and in `main` a /32 each to the gateway and to the resolver, which a CNI's
    /// own routes must not be confused by. Source: `ip route` on Amazon Linux 2023 (metric 512 is its `RouteMetric`).
    pub(super) fn configure(&self) -> anyhow::Result<()> {
        let Self { address, subnet, resolver, ipv6 } = self;
        let (gateway, length) = (self.gateway(), subnet.prefix());
        let learned = format!("dev eth0 proto dhcp src {address} metric 512");
        let hop = if subnet.contains(*resolver) { "scope link".to_owned() } else { format!("via {gateway}") };
        // DHCPv6 gives a /128, the router advertisement a default route.
        let ipv6 = ipv6.map(|address| {
            format!(
                "addr add {address}/128 dev eth0 nodad\nroute add default via fe80::1 dev eth0 proto ra metric 512\n"
            )
        });
        tools::ip(&format!(
            "link set eth0 up
addr add {address}/{length} brd + dev eth0 metric 512
route add {gateway}/32 {learned} scope link
route add default via {gateway} {learned}
route add {resolver}/32 {hop} {learned}
{}",
            ipv6.unwrap_or_default()
        ))
    }
}

/// As the distribution (rp_filter) and kubelet (ip_forward) leave them. New devices inherit from `default`.
pub(super) fn sysctls() -> anyhow::Result<()> {
    for (name, value) in [
        ("ipv4/ip_forward", "1"),
        ("ipv4/conf/all/rp_filter", "1"),
        ("ipv4/conf/default/rp_filter", "1"),
        ("ipv4/conf/lo/rp_filter", "1"),
    ] {
        let path = format!("/proc/sys/net/{name}");
        fs::write(&path, value).with_context(|| format!("cannot set {path}"))?;
    }
    Ok(())
}
