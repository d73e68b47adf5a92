//! Connection tracking: finding and deleting the entries of one address.

use super::socket::{NetlinkError, Reply, Socket};
use super::uapi::{
    CTA_FILTER, CTA_FILTER_F_IP_SRC, CTA_FILTER_ORIG_FLAGS, CTA_FILTER_REPLY_FLAGS, CTA_ID, CTA_IP_V4_SRC,
    CTA_IP_V6_SRC, CTA_TUPLE_IP, CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ZONE, IPCTNL_MSG_CT_DELETE,
    IPCTNL_MSG_CT_GET, NFNL_SUBSYS_CTNETLINK,
};
use super::wire::{Message, find};
use super::{family, octets};
use rustix::io::Errno;
use std::net::IpAddr;

/// Length of `struct nfgenmsg`.
const HEADER_LEN: usize = 4;
/// Deletions sent at once, so that their answers fit the socket's receive buffer. *Source*: our choice.
const BATCH: usize = 64;

/// Which end of a connection the address is.
#[derive(Debug, Clone, Copy)]
enum Direction {
    /// It opened the connection.
    Original,
    /// It answers: also behind a service address, where the original destination is another.
    Reply,
}

impl Direction {
    fn tuple(self) -> u16 {
        match self {
            Self::Original => CTA_TUPLE_ORIG,
            Self::Reply => CTA_TUPLE_REPLY,
        }
    }
}

/// Deletes every entry in which the address opened or answers the connection; returns how many there were.
pub(crate) fn flush(socket: &mut Socket, ip: IpAddr) -> Result<usize, NetlinkError> {
    let mut deleted = 0;
    for direction in [Direction::Original, Direction::Reply] {
        let entries = socket.dump(&list(ip, direction))?;
        let requests: Vec<_> = entries.iter().filter_map(|e| delete(ip, direction, e)).collect();
        for chunk in requests.chunks(BATCH) {
            for answer in socket.batch(chunk.to_vec())? {
                match answer.verdict {
                    Ok(()) => deleted += 1,
                    // It ended by itself meanwhile.
                    Err(error) if error.errno() == Some(Errno::NOENT) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(deleted)
}

fn message(kind: u16, ip: IpAddr) -> Message {
    Message::new(NFNL_SUBSYS_CTNETLINK << 8 | kind, 0).raw(&[family(ip), 0, 0, 0])
}

fn source_attr(ip: IpAddr) -> u16 {
    match ip {
        IpAddr::V4(_) => CTA_IP_V4_SRC,
        IpAddr::V6(_) => CTA_IP_V6_SRC,
    }
}

/// *Source*: filters in conntrack dumps exist since Linux 5.8.
fn list(ip: IpAddr, direction: Direction) -> Message {
    let flags = |wanted| if wanted { CTA_FILTER_F_IP_SRC } else { 0 };
    message(IPCTNL_MSG_CT_GET, ip)
        .nest(direction.tuple(), |t| t.nest(CTA_TUPLE_IP, |i| i.attr(source_attr(ip), &octets(ip))))
        .nest(CTA_FILTER, |f| {
            f.u32(CTA_FILTER_ORIG_FLAGS, flags(matches!(direction, Direction::Original)))
                .u32(CTA_FILTER_REPLY_FLAGS, flags(matches!(direction, Direction::Reply)))
        })
}

/// The deletion of exactly this entry; `None` when the entry is not the address's after all.
fn delete(ip: IpAddr, direction: Direction, entry: &Reply) -> Option<Message> {
    const NESTED: u16 = 1 << 15;
    let body = entry.payload.get(HEADER_LEN..)?;
    let addresses = find(find(body, direction.tuple())?.payload, CTA_TUPLE_IP)?;
    let source = find(addresses.payload, source_attr(ip))?;
    if source.payload != octets(ip) {
        return None;
    }
    let original = find(body, CTA_TUPLE_ORIG)?;
    let (id, zone) = (find(body, CTA_ID), find(body, CTA_ZONE));
    Some(
        message(IPCTNL_MSG_CT_DELETE, ip)
            .attr(CTA_TUPLE_ORIG | NESTED, original.payload)
            .maybe(CTA_ID, id.map(|a| a.payload))
            .maybe(CTA_ZONE, zone.map(|a| a.payload)),
    )
}
