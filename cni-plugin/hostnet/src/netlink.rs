//! Netlink: encoding, one blocking socket per namespace and protocol, and one file for each kind of object.
//!
//! *Why our own encoder*: three families (routing, nftables, conntrack) share one attribute format; the few dozen
//! attributes used here are stable kernel ABI, while the typed crates change shape with almost every minor release.
//! Nothing here decides anything: callers say what to send.

pub(crate) mod addr;
pub(crate) mod conntrack;
pub(crate) mod link;
pub(crate) mod neigh;
pub(crate) mod route;
pub(crate) mod rule;
pub(crate) mod socket;
pub(crate) mod uapi;
pub(crate) mod wire;

pub use socket::NetlinkError;

use std::net::IpAddr;

/// The address family number. *Source*: linux/socket.h.
pub(crate) fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => uapi::AF_INET,
        IpAddr::V6(_) => uapi::AF_INET6,
    }
}

/// An address as the kernel writes it.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// Reads an address of 4 or 16 octets.
pub(crate) fn address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Some(IpAddr::from(v4));
    }
    <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)
}

/// Bits in a host address of the family.
pub(crate) fn host_bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}
