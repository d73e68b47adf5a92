//! What one pod's wiring consists of. Pure.

use crate::error::HostError;
use crate::netlink::route::{Route, everything, host_net};
use crate::numbers::{TABLE_MAIN, TABLE_PODS};
use std::net::{IpAddr, Ipv4Addr};

/// The pod's way out: an address nobody has, behind which the permanent neighbour entry puts the host veth.
/// *Source*: incumbent-behaviour §2.6, `169.254.1.(1+i)` for interface i.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The host's routes to a pod: in our own table, where packets find it, and in `main`, where people and the incumbent look.
pub(crate) fn host_routes(addresses: &[IpAddr], device: u32) -> Vec<Route> {
    let both = |address: &IpAddr| [TABLE_PODS, TABLE_MAIN].map(|table| Route::host(table, *address, device));
    addresses.iter().flat_map(both).collect()
}

/// The pod's own routes through an interface of this name.
///
/// *Why by metric*: a container may have several interfaces of ours, and each must be able to go without taking the others'
/// routes along. `eth0` leads, with the incumbent's metric; behind it whoever came first, and an index is never the same twice.
/// Equal metrics would not do: the kernel takes default routes with permanent neighbours in turn (`fib_select_default`).
pub(crate) fn pod_routes(ifname: &str, device: u32) -> [Route; 2] {
    let gateway = IpAddr::V4(GATEWAY);
    let mut direct = Route::ours(TABLE_MAIN, host_net(gateway), None, device);
    let mut default = Route::ours(TABLE_MAIN, everything(gateway), Some(gateway), device);
    // Inside the pod the routes are nobody's in particular; some tools remove routes of protocols they do not know.
    for route in [&mut direct, &mut default] {
        route.protocol = PROTOCOL_BOOT;
        route.onlink = false;
        route.metric = if ifname == LEADING { 0 } else { device };
    }
    [direct, default]
}

/// The interface by which a container leaves while it has one of this name. *Source*: CRI runtimes and podman name a
/// container's first interface so; Multus names further ones `net1` and so on.
const LEADING: &str = "eth0";

/// *Source*: linux/rtnetlink.h, `RTPROT_BOOT`; what `ip route add` and the incumbent write.
const PROTOCOL_BOOT: u8 = 3;

/// Refuses what cannot be wired yet.
pub(crate) fn check(addresses: &[IpAddr]) -> Result<(), HostError> {
    match addresses.iter().find(|a| a.is_ipv6()) {
        Some(v6) => Err(HostError::Family(*v6)),
        None if addresses.is_empty() => Err(HostError::Setting("a pod needs an address".into())),
        None => Ok(()),
    }
}
