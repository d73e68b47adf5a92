//! A change of the ruleset as one atomic transaction.

use super::expr::Expr;
use super::uapi::{
    BYTEORDER_HOST, BYTEORDER_NETWORK, NF_ACCEPT, NFPROTO_IPV4, NFT_DATA_VERDICT, NFT_JUMP, NFT_MSG_DELCHAIN,
    NFT_MSG_DELRULE, NFT_MSG_DELSET, NFT_MSG_DELSETELEM, NFT_MSG_DELTABLE, NFT_MSG_NEWCHAIN, NFT_MSG_NEWRULE,
    NFT_MSG_NEWSET, NFT_MSG_NEWSETELEM, NFT_MSG_NEWTABLE, NFT_SET_ELEM_INTERVAL_END, NFT_SET_INTERVAL,
    NFT_SET_MAP, NFTA_CHAIN_HOOK, NFTA_CHAIN_NAME, NFTA_CHAIN_POLICY, NFTA_CHAIN_TABLE, NFTA_CHAIN_TYPE,
    NFTA_DATA_VALUE, NFTA_DATA_VERDICT, NFTA_HOOK_HOOKNUM, NFTA_HOOK_PRIORITY, NFTA_LIST_ELEM,
    NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS, NFTA_RULE_TABLE, NFTA_RULE_USERDATA, NFTA_SET_DATA_LEN,
    NFTA_SET_DATA_TYPE, NFTA_SET_ELEM_DATA, NFTA_SET_ELEM_FLAGS, NFTA_SET_ELEM_KEY,
    NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_SET_ELEM_LIST_SET, NFTA_SET_ELEM_LIST_TABLE, NFTA_SET_FLAGS,
    NFTA_SET_ID, NFTA_SET_KEY_LEN, NFTA_SET_KEY_TYPE, NFTA_SET_NAME, NFTA_SET_TABLE, NFTA_SET_USERDATA,
    NFTA_TABLE_NAME, NFTA_VERDICT_CHAIN, NFTA_VERDICT_CODE, NFTNL_UDATA_RULE_COMMENT,
    NFTNL_UDATA_SET_KEYBYTEORDER, TYPE_IFINDEX, TYPE_IPADDR, TYPE_MARK,
};
use crate::netlink::socket::{NetlinkError, Socket};
use crate::netlink::uapi::{
    NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END, NFNL_SUBSYS_NFTABLES, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE,
};
use crate::netlink::wire::Message;
use crate::plan::ruleset::{Chain, Element, KeyKind, Set, TABLE};
use sha1::{Digest, Sha1};
use std::fmt::Write as _;

/// Elements in one message; an attribute holds at most 64 KiB. *Source*: netpol.md §2 uses 1,500 of this size.
const ELEMENTS_MAX: usize = 500;

/// One step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    AddTable,
    /// With everything in it.
    DeleteTable,
    AddSet(Set),
    DeleteSet(String),
    AddChain(Chain),
    /// Removes the chain's rules.
    FlushChain(String),
    DeleteChain(String),
    AddRule(String, Vec<Expr>),
    AddElements(&'static str, Vec<Element>),
    DeleteElements(&'static str, Vec<Element>),
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AddTable => write!(f, "added nft table {TABLE}"),
            Self::DeleteTable => write!(f, "removed nft table {TABLE}, which had another shape"),
            Self::AddSet(set) => write!(f, "added nft set {}", set.name),
            Self::DeleteSet(name) => write!(f, "removed nft set {name}"),
            Self::AddChain(chain) => write!(f, "added nft chain {}", chain.name),
            Self::FlushChain(name) => write!(f, "emptied nft chain {name}"),
            Self::DeleteChain(name) => write!(f, "removed nft chain {name}"),
            Self::AddRule(chain, _) => write!(f, "added a rule to nft chain {chain}"),
            Self::AddElements(set, elements) => write!(f, "added {} to nft set {set}", elements.len()),
            Self::DeleteElements(set, elements) => write!(f, "removed {} from nft set {set}", elements.len()),
        }
    }
}

/// Carries the steps out, all or none.
pub(crate) fn commit(socket: &mut Socket, steps: &[Step]) -> Result<(), NetlinkError> {
    if steps.is_empty() {
        return Ok(());
    }
    send(socket, (1..).zip(steps).flat_map(|(id, step)| messages(step, id)).collect())
}

/// Sends the requests as one transaction.
pub(super) fn send(socket: &mut Socket, messages: Vec<Message>) -> Result<(), NetlinkError> {
    let mut batch = vec![(frame(NFNL_MSG_BATCH_BEGIN), 0)];
    batch.extend(messages.into_iter().map(|m| (m, NLM_F_ACK)));
    batch.push((frame(NFNL_MSG_BATCH_END), 0));
    socket.transaction(batch)
}

/// Whether the kernel would carry the steps out. It is asked to, in a transaction whose last step it must refuse, so that
/// it undoes the others.
pub(crate) fn is_accepted(socket: &mut Socket, steps: &[Step]) -> Result<bool, NetlinkError> {
    let impossible = Step::DeleteChain("no-such-chain".into());
    let mut batch = vec![(frame(NFNL_MSG_BATCH_BEGIN), 0)];
    for (id, step) in (1..).zip(steps.iter().chain([&impossible])) {
        batch.extend(messages(step, id).into_iter().map(|m| (m, NLM_F_ACK)));
    }
    let last = batch.len() - 1;
    batch.push((frame(NFNL_MSG_BATCH_END), 0));
    Ok(socket.refusals(batch)?.iter().all(|index| *index == last))
}

/// Which ruleset a rule belongs to: a digest of its instructions, kept as its comment. *Why*: the kernel gives rules back
/// in other words than it was given them.
pub(crate) fn tag(rule: &[Expr]) -> String {
    let bytes = expressions(Message::new(0, 0), rule).finish(0, 0);
    let mut text = String::from("podwire ");
    for byte in Sha1::digest(bytes).iter().take(5) {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
    }
    text
}

fn messages(step: &Step, id: u32) -> Vec<Message> {
    match step {
        Step::AddTable => vec![request(NFT_MSG_NEWTABLE, NLM_F_CREATE).text(NFTA_TABLE_NAME, TABLE)],
        Step::DeleteTable => vec![request(NFT_MSG_DELTABLE, 0).text(NFTA_TABLE_NAME, TABLE)],
        Step::AddSet(set) => vec![add_set(set, id)],
        Step::DeleteSet(name) => {
            vec![request(NFT_MSG_DELSET, 0).text(NFTA_SET_TABLE, TABLE).text(NFTA_SET_NAME, name)]
        }
        Step::AddChain(chain) => vec![add_chain(chain)],
        Step::FlushChain(name) => {
            vec![request(NFT_MSG_DELRULE, 0).text(NFTA_RULE_TABLE, TABLE).text(NFTA_RULE_CHAIN, name)]
        }
        Step::DeleteChain(name) => {
            vec![request(NFT_MSG_DELCHAIN, 0).text(NFTA_CHAIN_TABLE, TABLE).text(NFTA_CHAIN_NAME, name)]
        }
        Step::AddRule(chain, rule) => vec![add_rule(chain, rule)],
        Step::AddElements(set, elements) => chunks(NFT_MSG_NEWSETELEM, NLM_F_CREATE, set, elements),
        Step::DeleteElements(set, elements) => chunks(NFT_MSG_DELSETELEM, 0, set, elements),
    }
}

/// A request to the nftables subsystem, for the IPv4 family.
pub(crate) fn request(kind: u16, flags: u16) -> Message {
    Message::new(NFNL_SUBSYS_NFTABLES << 8 | kind, flags).raw(&[NFPROTO_IPV4, 0, 0, 0])
}

/// The start or the end of a transaction; its last two bytes name the subsystem.
fn frame(kind: u16) -> Message {
    let [high, low] = NFNL_SUBSYS_NFTABLES.to_be_bytes();
    Message::new(kind, 0).raw(&[0, 0, high, low])
}

fn add_chain(chain: &Chain) -> Message {
    let message = request(NFT_MSG_NEWCHAIN, NLM_F_CREATE)
        .text(NFTA_CHAIN_TABLE, TABLE)
        .text(NFTA_CHAIN_NAME, &chain.name);
    let Some(hook) = chain.hook else { return message };
    message
        .nest(NFTA_CHAIN_HOOK, |h| {
            h.be32(NFTA_HOOK_HOOKNUM, hook.number).attr(NFTA_HOOK_PRIORITY, &hook.priority.to_be_bytes())
        })
        .be32(NFTA_CHAIN_POLICY, NF_ACCEPT)
        .text(NFTA_CHAIN_TYPE, hook.kind)
}

fn expressions(message: Message, rule: &[Expr]) -> Message {
    message.nest(NFTA_RULE_EXPRESSIONS, |list| rule.iter().fold(list, |list, e| e.write(list)))
}

fn add_rule(chain: &str, rule: &[Expr]) -> Message {
    let message = request(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND)
        .text(NFTA_RULE_TABLE, TABLE)
        .text(NFTA_RULE_CHAIN, chain);
    let comment = tag(rule);
    let mut userdata = vec![NFTNL_UDATA_RULE_COMMENT, u8::try_from(comment.len() + 1).unwrap_or(u8::MAX)];
    userdata.extend_from_slice(comment.as_bytes());
    userdata.push(0);
    expressions(message, rule).attr(NFTA_RULE_USERDATA, &userdata)
}

/// The flags a set is made with.
pub(crate) fn set_flags(set: &Set) -> u32 {
    let interval = if set.interval { NFT_SET_INTERVAL } else { 0 };
    let map = if set.verdicts { NFT_SET_MAP } else { 0 };
    interval | map
}

/// The data type of a set's keys.
pub(crate) fn key_type(key: KeyKind) -> u32 {
    match key {
        KeyKind::Ipv4 => TYPE_IPADDR,
        KeyKind::Mark => TYPE_MARK,
        KeyKind::Device => TYPE_IFINDEX,
    }
}

fn add_set(set: &Set, id: u32) -> Message {
    let order = match set.key {
        KeyKind::Ipv4 => BYTEORDER_NETWORK,
        KeyKind::Mark | KeyKind::Device => BYTEORDER_HOST,
    };
    let mut userdata = vec![NFTNL_UDATA_SET_KEYBYTEORDER, 4];
    userdata.extend_from_slice(&order.to_ne_bytes());
    let message = request(NFT_MSG_NEWSET, NLM_F_CREATE)
        .text(NFTA_SET_TABLE, TABLE)
        .text(NFTA_SET_NAME, set.name)
        .be32(NFTA_SET_FLAGS, set_flags(set))
        .be32(NFTA_SET_KEY_TYPE, key_type(set.key))
        .be32(NFTA_SET_KEY_LEN, 4)
        .be32(NFTA_SET_ID, id)
        .attr(NFTA_SET_USERDATA, &userdata);
    if set.verdicts {
        message.be32(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT).be32(NFTA_SET_DATA_LEN, 0)
    } else {
        message
    }
}

fn chunks(kind: u16, flags: u16, set: &str, elements: &[Element]) -> Vec<Message> {
    let message = |chunk: &[Element]| {
        request(kind, flags)
            .text(NFTA_SET_ELEM_LIST_TABLE, TABLE)
            .text(NFTA_SET_ELEM_LIST_SET, set)
            .nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| chunk.iter().fold(list, add_element))
    };
    elements.chunks(ELEMENTS_MAX).map(message).collect()
}

/// An interval is two records: where it starts, and the first key behind it.
fn add_element(list: Message, element: &Element) -> Message {
    let list = list.nest(NFTA_LIST_ELEM, |record| {
        let record = record.nest(NFTA_SET_ELEM_KEY, |k| k.attr(NFTA_DATA_VALUE, &element.key));
        match &element.jump {
            Some(chain) => record.nest(NFTA_SET_ELEM_DATA, |d| {
                d.nest(NFTA_DATA_VERDICT, |v| {
                    v.be32(NFTA_VERDICT_CODE, NFT_JUMP).text(NFTA_VERDICT_CHAIN, chain)
                })
            }),
            None => record,
        }
    });
    match element.end {
        Some(end) => list.nest(NFTA_LIST_ELEM, |record| {
            record
                .be32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END)
                .nest(NFTA_SET_ELEM_KEY, |k| k.attr(NFTA_DATA_VALUE, &end))
        }),
        None => list,
    }
}
