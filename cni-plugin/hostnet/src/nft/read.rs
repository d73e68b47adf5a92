//! The table as the kernel holds it.

use super::transaction::request;
use super::uapi::{
    NFT_MSG_GETCHAIN, NFT_MSG_GETRULE, NFT_MSG_GETSET, NFT_MSG_GETSETELEM, NFT_MSG_GETTABLE,
    NFT_SET_ELEM_INTERVAL_END, NFT_TABLE_F_DORMANT, NFTA_CHAIN_HOOK, NFTA_CHAIN_NAME, NFTA_CHAIN_POLICY,
    NFTA_CHAIN_TABLE, NFTA_CHAIN_TYPE, NFTA_DATA_VALUE, NFTA_DATA_VERDICT, NFTA_HOOK_HOOKNUM,
    NFTA_HOOK_PRIORITY, NFTA_LIST_ELEM, NFTA_RULE_CHAIN, NFTA_RULE_TABLE, NFTA_RULE_USERDATA,
    NFTA_SET_ELEM_DATA, NFTA_SET_ELEM_FLAGS, NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_LIST_ELEMENTS,
    NFTA_SET_ELEM_LIST_SET, NFTA_SET_ELEM_LIST_TABLE, NFTA_SET_FLAGS, NFTA_SET_KEY_LEN, NFTA_SET_KEY_TYPE,
    NFTA_SET_NAME, NFTA_SET_TABLE, NFTA_TABLE_FLAGS, NFTA_TABLE_NAME, NFTA_VERDICT_CHAIN,
    NFTNL_UDATA_RULE_COMMENT,
};
use crate::netlink::socket::{NetlinkError, Reply, Socket};
use crate::netlink::wire::{Attr, attrs, find};
use crate::plan::ruleset::{ADDRESSES, Element, PREFIXES, TABLE};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Length of `struct nfgenmsg`.
const HEADER_LEN: usize = 4;

/// A chain in the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SeenChain {
    /// Hook number, priority and type of a base chain.
    pub(crate) hook: Option<(u32, i32, String)>,
    /// What becomes of a packet at a base chain's end; absent where there is no such thing.
    pub(crate) policy: Option<u32>,
    /// The comments of its rules, in order; empty text for a rule without one.
    pub(crate) tags: Vec<String>,
}

/// A set in the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SeenSet {
    pub(crate) flags: u32,
    pub(crate) key_type: u32,
    pub(crate) key_len: u32,
    pub(crate) elements: BTreeSet<Element>,
}

/// Our table in the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Somebody switched the table off.
    pub(crate) dormant: bool,
    pub(crate) chains: BTreeMap<String, SeenChain>,
    pub(crate) sets: BTreeMap<String, SeenSet>,
}

/// Whether our table is there and at work.
pub(crate) fn is_at_work(socket: &mut Socket) -> Result<bool, NetlinkError> {
    Ok(is_dormant(socket)? == Some(false))
}

/// `None` where there is no table of ours.
fn is_dormant(socket: &mut Socket) -> Result<Option<bool>, NetlinkError> {
    let replies = match socket.request(request(NFT_MSG_GETTABLE, 0).text(NFTA_TABLE_NAME, TABLE)) {
        Ok(replies) => replies,
        Err(error) if error.is_absent() => return Ok(None),
        Err(error) => return Err(error),
    };
    let flags = replies.iter().find_map(|reply| find(body(&reply.payload), NFTA_TABLE_FLAGS)?.be32());
    Ok(Some(flags.unwrap_or(0) & NFT_TABLE_F_DORMANT != 0))
}

/// The chain to which our maps lead what has this source, in the order in which packets meet them. Neither map is listed.
pub(crate) fn chain_of(socket: &mut Socket, source: IpAddr) -> Result<Option<String>, NetlinkError> {
    let IpAddr::V4(source) = source else { return Ok(None) };
    for map in [ADDRESSES, PREFIXES] {
        let key = source.octets();
        let question = request(NFT_MSG_GETSETELEM, 0)
            .text(NFTA_SET_ELEM_LIST_TABLE, TABLE)
            .text(NFTA_SET_ELEM_LIST_SET, map)
            .nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
                list.nest(NFTA_LIST_ELEM, |one| {
                    one.nest(NFTA_SET_ELEM_KEY, |k| k.attr(NFTA_DATA_VALUE, &key))
                })
            });
        let replies = match socket.request(question) {
            Ok(replies) => replies,
            Err(error) if error.is_absent() => continue,
            Err(error) => return Err(error),
        };
        if let Some(found) = replies.iter().flat_map(records).next() {
            return Ok(found.jump);
        }
    }
    Ok(None)
}

/// Reads our table; `None` when there is none.
pub(crate) fn read(socket: &mut Socket) -> Result<Option<Seen>, NetlinkError> {
    let Some(dormant) = is_dormant(socket)? else { return Ok(None) };
    let mut seen = Seen { dormant, ..Seen::default() };
    for reply in socket.dump(&request(NFT_MSG_GETCHAIN, 0))? {
        if let Some((name, chain)) = chain(&reply) {
            seen.chains.insert(name, chain);
        }
    }
    for reply in socket.dump(&request(NFT_MSG_GETRULE, 0).text(NFTA_RULE_TABLE, TABLE))? {
        if let Some((name, tag)) = rule(&reply)
            && let Some(chain) = seen.chains.get_mut(&name)
        {
            chain.tags.push(tag);
        }
    }
    for reply in socket.dump(&request(NFT_MSG_GETSET, 0).text(NFTA_SET_TABLE, TABLE))? {
        if let Some((name, mut set)) = set(&reply) {
            set.elements = elements(socket, &name)?;
            seen.sets.insert(name, set);
        }
    }
    Ok(Some(seen))
}

/// What follows the header of an answer.
pub(super) fn body(payload: &[u8]) -> &[u8] {
    payload.get(HEADER_LEN..).unwrap_or_default()
}

pub(super) fn text(bytes: &[u8], kind: u16) -> Option<&str> {
    find(bytes, kind).and_then(Attr::text)
}

fn chain(reply: &Reply) -> Option<(String, SeenChain)> {
    let body = body(&reply.payload);
    if text(body, NFTA_CHAIN_TABLE)? != TABLE {
        return None;
    }
    let hook = find(body, NFTA_CHAIN_HOOK).and_then(|hook| {
        let number = find(hook.payload, NFTA_HOOK_HOOKNUM)?.be32()?;
        let priority = find(hook.payload, NFTA_HOOK_PRIORITY)?.payload.try_into().ok()?;
        Some((number, i32::from_be_bytes(priority), text(body, NFTA_CHAIN_TYPE)?.to_owned()))
    });
    let policy = find(body, NFTA_CHAIN_POLICY).and_then(Attr::be32);
    Some((text(body, NFTA_CHAIN_NAME)?.to_owned(), SeenChain { hook, policy, tags: Vec::new() }))
}

fn rule(reply: &Reply) -> Option<(String, String)> {
    let body = body(&reply.payload);
    if text(body, NFTA_RULE_TABLE)? != TABLE {
        return None;
    }
    let tag = find(body, NFTA_RULE_USERDATA).and_then(|u| comment(u.payload)).unwrap_or_default();
    Some((text(body, NFTA_RULE_CHAIN)?.to_owned(), tag))
}

/// Userdata is a list of (type, length, value), one byte each for the first two.
pub(super) fn comment(mut userdata: &[u8]) -> Option<String> {
    while let [kind, len, rest @ ..] = userdata {
        let value = rest.get(..usize::from(*len))?;
        if *kind == NFTNL_UDATA_RULE_COMMENT {
            let text = value.split(|b| *b == 0).next()?;
            return String::from_utf8(text.to_vec()).ok();
        }
        userdata = rest.get(usize::from(*len)..)?;
    }
    None
}

fn set(reply: &Reply) -> Option<(String, SeenSet)> {
    let body = body(&reply.payload);
    if text(body, NFTA_SET_TABLE)? != TABLE {
        return None;
    }
    let number = |kind| find(body, kind).and_then(Attr::be32).unwrap_or(0);
    let set = SeenSet {
        flags: number(NFTA_SET_FLAGS),
        key_type: number(NFTA_SET_KEY_TYPE),
        key_len: number(NFTA_SET_KEY_LEN),
        elements: BTreeSet::new(),
    };
    Some((text(body, NFTA_SET_NAME)?.to_owned(), set))
}

/// One record of a set.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Record {
    key: [u8; 4],
    is_end: bool,
    jump: Option<String>,
}

fn elements(socket: &mut Socket, set: &str) -> Result<BTreeSet<Element>, NetlinkError> {
    let message = request(NFT_MSG_GETSETELEM, 0)
        .text(NFTA_SET_ELEM_LIST_TABLE, TABLE)
        .text(NFTA_SET_ELEM_LIST_SET, set);
    Ok(paired(socket.dump(&message)?.iter().flat_map(records).collect()))
}

fn records(reply: &Reply) -> Vec<Record> {
    let list = find(body(&reply.payload), NFTA_SET_ELEM_LIST_ELEMENTS);
    list.into_iter().flat_map(|l| attrs(l.payload)).filter_map(|a| record(a.payload)).collect()
}

fn record(bytes: &[u8]) -> Option<Record> {
    let key = find(find(bytes, NFTA_SET_ELEM_KEY)?.payload, NFTA_DATA_VALUE)?.payload.try_into().ok()?;
    let flags = find(bytes, NFTA_SET_ELEM_FLAGS).and_then(Attr::be32).unwrap_or(0);
    let jump = find(bytes, NFTA_SET_ELEM_DATA)
        .and_then(|d| find(d.payload, NFTA_DATA_VERDICT))
        .and_then(|v| find(v.payload, NFTA_VERDICT_CHAIN))
        .and_then(Attr::text)
        .map(str::to_owned);
    Some(Record { key, is_end: flags & NFT_SET_ELEM_INTERVAL_END != 0, jump })
}

/// Joins starts with ends. Intervals in a set are disjoint, so a start's end is the nearest one behind it.
fn paired(records: Vec<Record>) -> BTreeSet<Element> {
    let ends: BTreeSet<[u8; 4]> = records.iter().filter(|r| r.is_end).map(|r| r.key).collect();
    records
        .into_iter()
        .filter(|r| !r.is_end)
        .map(|r| Element { key: r.key, end: ends.range(successor(r.key)..).next().copied(), jump: r.jump })
        .collect()
}

fn successor(key: [u8; 4]) -> [u8; 4] {
    u32::from_be_bytes(key).saturating_add(1).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8, is_end: bool) -> Record {
        Record { key: [10, 0, 0, last], is_end, jump: (!is_end).then(|| "eni-2".to_owned()) }
    }

    #[test]
    fn paired_touching_intervals() {
        let elements = paired(vec![at(4, true), at(3, false), at(5, true), at(4, false), at(9, false)]);
        let ends: Vec<_> = elements.iter().map(|e| (e.key[3], e.end.map(|end| end[3]))).collect();
        assert_eq!(ends, [(3, Some(4)), (4, Some(5)), (9, None)]);
    }

    #[test]
    fn comment_behind_other_userdata() {
        assert_eq!(comment(&[7, 2, 1, 1, 0, 3, b'h', b'i', 0]), Some("hi".to_owned()));
        assert_eq!(comment(&[0, 9, b'h']), None);
        assert_eq!(comment(&[]), None);
    }
}
