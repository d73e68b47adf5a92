//! What the incumbent made of nftables, by itself or through `iptables`: finding it and taking it away. Nothing else in
//! those tables is touched.
//!
//! *Source*: incumbent-behaviour §4.4. `iptables-nft` keeps its chains in tables `nat` and `mangle` of this family, and a
//! rule's comment as a match of xtables, or as userdata.

use super::read::{body, comment, text};
use super::transaction::{request, send};
use super::uapi::{
    NFT_MSG_DELCHAIN, NFT_MSG_DELRULE, NFT_MSG_DELTABLE, NFT_MSG_GETCHAIN, NFT_MSG_GETRULE, NFT_MSG_GETTABLE,
    NFTA_CHAIN_NAME, NFTA_CHAIN_TABLE, NFTA_DATA_VERDICT, NFTA_EXPR_DATA, NFTA_EXPR_NAME,
    NFTA_IMMEDIATE_DATA, NFTA_MATCH_INFO, NFTA_MATCH_NAME, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS,
    NFTA_RULE_HANDLE, NFTA_RULE_TABLE, NFTA_RULE_USERDATA, NFTA_TABLE_NAME, NFTA_VERDICT_CHAIN,
};
use crate::netlink::socket::{NetlinkError, Socket};
use crate::netlink::wire::{Attr, Message, find};
use std::fmt;

/// The table that it makes itself, for connection marks.
const TABLE: &str = "aws-cni";
/// Where `iptables-nft` has its NAT.
const NAT: &str = "nat";
/// Where its rules are hooked in: table and chain.
const HOOKED: [(&str, &str); 3] = [(NAT, "PREROUTING"), (NAT, "POSTROUTING"), ("mangle", "PREROUTING")];
/// What the names of its chains in table `nat` start with; a number follows.
const CHAINS: [&str; 2] = ["AWS-SNAT-CHAIN-", "AWS-CONNMARK-CHAIN-"];
/// Comments of its rules that jump nowhere, by table.
const COMMENTS: [(&str, &str); 2] = [(NAT, "AWS, CONNMARK"), ("mangle", "AWS, primary ENI")];

/// A part of what it left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Left {
    /// A rule of a chain that is not its own.
    Rule { table: &'static str, chain: &'static str, handle: Vec<u8> },
    /// A chain of table `nat`.
    Chain(String),
    /// Its own table.
    Table,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule { table, chain, .. } => write!(f, "a rule in nft chain {table} {chain}"),
            Self::Chain(name) => write!(f, "nft chain {NAT} {name}"),
            Self::Table => write!(f, "nft table {TABLE}"),
        }
    }
}

/// Finds it all.
pub(crate) fn find_all(socket: &mut Socket) -> Result<Vec<Left>, NetlinkError> {
    let mut left = Vec::new();
    for (table, chain) in HOOKED {
        let list = request(NFT_MSG_GETRULE, 0).text(NFTA_RULE_TABLE, table).text(NFTA_RULE_CHAIN, chain);
        let found = socket.list(&list, |_, payload| rule(body(payload), table, chain));
        left.extend(none_if_absent(found)?);
    }
    // A busy kube-proxy has tens of thousands of others.
    left.extend(none_if_absent(socket.list(&request(NFT_MSG_GETCHAIN, 0), |_, p| chain(body(p))))?);
    match socket.request(request(NFT_MSG_GETTABLE, 0).text(NFTA_TABLE_NAME, TABLE)) {
        Ok(_) => left.push(Left::Table),
        Err(error) if error.is_absent() => {}
        Err(error) => return Err(error),
    }
    Ok(left)
}

fn none_if_absent(found: Result<Vec<Left>, NetlinkError>) -> Result<Vec<Left>, NetlinkError> {
    found.or_else(|error| if error.is_absent() { Ok(Vec::new()) } else { Err(error) })
}

/// Takes it away, all or nothing. *Why in this order*: a chain goes only when nothing jumps to it.
pub(crate) fn remove(socket: &mut Socket, left: &[Left]) -> Result<(), NetlinkError> {
    let chains = || left.iter().filter_map(|l| if let Left::Chain(name) = l { Some(name) } else { None });
    let mut messages: Vec<Message> = left.iter().filter_map(removal).collect();
    messages.extend(
        chains()
            .map(|name| request(NFT_MSG_DELRULE, 0).text(NFTA_RULE_TABLE, NAT).text(NFTA_RULE_CHAIN, name)),
    );
    messages
        .extend(chains().map(|name| {
            request(NFT_MSG_DELCHAIN, 0).text(NFTA_CHAIN_TABLE, NAT).text(NFTA_CHAIN_NAME, name)
        }));
    send(socket, messages)
}

/// The removal of what stands by itself.
fn removal(left: &Left) -> Option<Message> {
    match left {
        Left::Rule { table, chain, handle } => Some(
            request(NFT_MSG_DELRULE, 0)
                .text(NFTA_RULE_TABLE, table)
                .text(NFTA_RULE_CHAIN, chain)
                .attr(NFTA_RULE_HANDLE, handle),
        ),
        Left::Chain(_) => None,
        Left::Table => Some(request(NFT_MSG_DELTABLE, 0).text(NFTA_TABLE_NAME, TABLE)),
    }
}

fn rule(body: &[u8], table: &'static str, chain: &'static str) -> Option<Left> {
    // Kernels differ in what of a question they heed.
    if text(body, NFTA_RULE_TABLE)? != table || text(body, NFTA_RULE_CHAIN)? != chain {
        return None;
    }
    let expressions = || find(body, NFTA_RULE_EXPRESSIONS).into_iter().flat_map(Attr::nested);
    let target = expressions().find_map(|e| jump(e.payload));
    let userdata = find(body, NFTA_RULE_USERDATA).and_then(|u| comment(u.payload));
    let said = userdata.or_else(|| expressions().find_map(|e| match_comment(e.payload)).map(str::to_owned));
    let handle = find(body, NFTA_RULE_HANDLE)?.payload.to_vec();
    is_theirs(table, target, said.as_deref()).then_some(Left::Rule { table, chain, handle })
}

/// Whether a rule that is hooked in is the incumbent's: where it jumps to, or for want of a jump its comment, says so.
fn is_theirs(table: &str, target: Option<&str>, comment: Option<&str>) -> bool {
    match target {
        Some(target) => table == NAT && is_their_chain(target),
        None => comment.is_some_and(|said| COMMENTS.contains(&(table, said))),
    }
}

fn is_their_chain(name: &str) -> bool {
    CHAINS.iter().filter_map(|start| name.strip_prefix(start)).any(|number| number.parse::<u16>().is_ok())
}

fn chain(body: &[u8]) -> Option<Left> {
    let name = text(body, NFTA_CHAIN_NAME)?;
    (text(body, NFTA_CHAIN_TABLE)? == NAT && is_their_chain(name)).then(|| Left::Chain(name.to_owned()))
}

/// The chain that an expression jumps to.
fn jump(expression: &[u8]) -> Option<&str> {
    let data =
        find(expression, NFTA_EXPR_DATA).filter(|_| text(expression, NFTA_EXPR_NAME) == Some("immediate"))?;
    let verdict = find(find(data.payload, NFTA_IMMEDIATE_DATA)?.payload, NFTA_DATA_VERDICT)?;
    text(verdict.payload, NFTA_VERDICT_CHAIN)
}

/// What the match `comment` of xtables says. *Source*: linux/netfilter/xt_comment.h, 256 bytes of text.
fn match_comment(expression: &[u8]) -> Option<&str> {
    let data =
        find(expression, NFTA_EXPR_DATA).filter(|_| text(expression, NFTA_EXPR_NAME) == Some("match"))?;
    text(data.payload, NFTA_MATCH_INFO).filter(|_| text(data.payload, NFTA_MATCH_NAME) == Some("comment"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_certainly_the_incumbents() {
        for (table, target, comment, theirs) in [
            ("nat", Some("AWS-SNAT-CHAIN-0"), Some("AWS SNAT CHAIN"), true),
            ("nat", Some("AWS-CONNMARK-CHAIN-12"), None, true),
            ("nat", Some("AWS-SNAT-CHAIN-mine"), Some("AWS, CONNMARK"), false),
            ("nat", Some("AWS-SNAT-CHAIN-"), None, false),
            ("nat", Some("KUBE-SERVICES"), Some("AWS, CONNMARK"), false),
            ("nat", None, Some("AWS, CONNMARK"), true),
            ("nat", None, Some("AWS, primary ENI"), false),
            ("mangle", None, Some("AWS, primary ENI"), true),
            ("mangle", None, Some("AWS, primary ENI of mine"), false),
            ("mangle", Some("AWS-SNAT-CHAIN-0"), None, false),
            ("mangle", None, None, false),
        ] {
            assert_eq!(is_theirs(table, target, comment), theirs, "{table} {target:?} {comment:?}");
        }
    }
}
