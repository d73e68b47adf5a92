//! `ip link set lo up`, as the 32 bytes of netlink that it is: every pod namespace needs it.

use std::io;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// `RTM_NEWLINK`. Source: linux/rtnetlink.h.
const RTM_NEWLINK: u16 = 16;
/// `NLM_F_REQUEST | NLM_F_ACK`. Source: linux/netlink.h.
const REQUEST_ACK: u16 = 0x1 | 0x4;
/// `IFF_UP`. Source: linux/if.h.
const IFF_UP: u32 = 1;
/// `lo` is the first device of every namespace. Source: net/core/dev.h `LOOPBACK_IFINDEX`.
const LOOPBACK: i32 = 1;

/// Brings `lo` up in the calling thread's network namespace.
pub(crate) fn up() -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC;
    // No protocol is protocol 0: NETLINK_ROUTE.
    let kernel = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    send(&kernel, &message(), SendFlags::empty())?;
    let mut answer = [0_u8; 64];
    let (length, _) = recv(&kernel, &mut answer, RecvFlags::empty())?;
    // nlmsghdr is 16 bytes; an acknowledgement carries a negative errno, 0 for success, right after it.
    let code = answer.get(16..20).filter(|_| length >= 20).and_then(|bytes| bytes.try_into().ok());
    match code.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
        None => Err(io::Error::other("short netlink acknowledgement")),
    }
}

fn message() -> [u8; 32] {
    let mut bytes = [0; 32];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &32_u32.to_ne_bytes());
    put(4, &RTM_NEWLINK.to_ne_bytes());
    put(6, &REQUEST_ACK.to_ne_bytes());
    put(8, &1_u32.to_ne_bytes());
    put(20, &LOOPBACK.to_ne_bytes());
    put(24, &IFF_UP.to_ne_bytes());
    put(28, &IFF_UP.to_ne_bytes());
    bytes
}
