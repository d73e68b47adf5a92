//! Expressions, the instructions a rule is made of, and the phrases this project's rules are made of. Pure.
//!
//! Each phrase works in register 1 and leaves nothing behind for the next one.

use super::uapi::{
    CT_STATE_NEW, CT_STATUS_ASSURED, CT_STATUS_DST_NAT, NF_ACCEPT, NFPROTO_IPV4, NFT_CT_DIRECTION,
    NFT_CT_MARK, NFT_CT_STATE, NFT_CT_STATUS, NFT_FIB_RESULT_ADDRTYPE, NFT_LOOKUP_F_INV, NFT_META_IIF,
    NFT_META_IIFNAME, NFT_META_MARK, NFT_META_OIF, NFT_META_OIFNAME, NFT_META_SKUID, NFT_NAT_SNAT,
    NFT_PAYLOAD_NETWORK_HEADER, NFT_REG_1, NFT_REG_VERDICT, NFTA_BITWISE_DREG, NFTA_BITWISE_LEN,
    NFTA_BITWISE_MASK, NFTA_BITWISE_SREG, NFTA_BITWISE_XOR, NFTA_CMP_DATA, NFTA_CMP_OP, NFTA_CMP_SREG,
    NFTA_CT_DREG, NFTA_CT_KEY, NFTA_CT_SREG, NFTA_DATA_VALUE, NFTA_DATA_VERDICT, NFTA_EXPR_DATA,
    NFTA_EXPR_NAME, NFTA_FIB_DREG, NFTA_FIB_F_DADDR, NFTA_FIB_FLAGS, NFTA_FIB_RESULT, NFTA_IMMEDIATE_DATA,
    NFTA_IMMEDIATE_DREG, NFTA_LIST_ELEM, NFTA_LOOKUP_DREG, NFTA_LOOKUP_FLAGS, NFTA_LOOKUP_SET,
    NFTA_LOOKUP_SREG, NFTA_META_DREG, NFTA_META_KEY, NFTA_META_SREG, NFTA_NAT_FAMILY, NFTA_NAT_FLAGS,
    NFTA_NAT_REG_ADDR_MIN, NFTA_NAT_TYPE, NFTA_PAYLOAD_BASE, NFTA_PAYLOAD_DREG, NFTA_PAYLOAD_LEN,
    NFTA_PAYLOAD_OFFSET, NFTA_VERDICT_CODE, RTN_LOCAL,
};
use crate::netlink::wire::Message;
use std::net::Ipv4Addr;

/// Length of `IFNAMSIZ`.
const IFNAME_LEN: usize = 16;
/// Offset of the source address in an IPv4 header. *Source*: RFC 791.
const IPV4_SADDR: u32 = 12;
/// Offset of the destination address in an IPv4 header. *Source*: RFC 791.
const IPV4_DADDR: u32 = 16;

/// How a comparison must turn out. *Source*: `enum nft_cmp_ops`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cmp {
    Equal = 0,
    NotEqual = 1,
}

impl Cmp {
    fn code(self) -> u32 {
        match self {
            Self::Equal => 0,
            Self::NotEqual => 1,
        }
    }
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expr {
    MetaLoad(u32),
    MetaStore(u32),
    CtLoad(u32),
    CtStore(u32),
    /// register = (register & mask) ^ flip, over four bytes.
    Bitwise {
        mask: u32,
        flip: u32,
    },
    Compare(Cmp, Vec<u8>),
    /// Is the register's value in a set?
    InSet {
        set: &'static str,
        inverted: bool,
    },
    /// Go where a map says.
    Verdict(&'static str),
    Payload {
        offset: u32,
        len: u32,
    },
    FibDaddrType,
    Load(Vec<u8>),
    Accept,
    Snat {
        flags: u32,
    },
}

impl Expr {
    /// Appends the instruction to a rule's list.
    pub(crate) fn write(&self, list: Message) -> Message {
        let (name, fill) = self.parts();
        list.nest(NFTA_LIST_ELEM, |e| e.text(NFTA_EXPR_NAME, name).nest(NFTA_EXPR_DATA, fill))
    }

    fn parts(&self) -> (&'static str, Box<dyn FnOnce(Message) -> Message + '_>) {
        let reg = NFT_REG_1;
        match self {
            Self::MetaLoad(key) => {
                ("meta", Box::new(move |m| m.be32(NFTA_META_KEY, *key).be32(NFTA_META_DREG, reg)))
            }
            Self::MetaStore(key) => {
                ("meta", Box::new(move |m| m.be32(NFTA_META_KEY, *key).be32(NFTA_META_SREG, reg)))
            }
            Self::CtLoad(key) => ("ct", Box::new(move |m| m.be32(NFTA_CT_KEY, *key).be32(NFTA_CT_DREG, reg))),
            Self::CtStore(key) => {
                ("ct", Box::new(move |m| m.be32(NFTA_CT_KEY, *key).be32(NFTA_CT_SREG, reg)))
            }
            Self::Bitwise { mask, flip } => ("bitwise", Box::new(move |m| bitwise(m, *mask, *flip))),
            Self::Compare(cmp, value) => ("cmp", Box::new(move |m| compare(m, *cmp, value))),
            Self::InSet { set, inverted } => ("lookup", Box::new(move |m| in_set(m, set, *inverted))),
            Self::Verdict(map) => ("lookup", Box::new(move |m| verdict_map(m, map))),
            Self::Payload { offset, len } => ("payload", Box::new(move |m| payload(m, *offset, *len))),
            Self::FibDaddrType => ("fib", Box::new(fib_daddr_type)),
            Self::Load(value) => ("immediate", Box::new(move |m| load(m, value))),
            Self::Accept => ("immediate", Box::new(accept_verdict)),
            Self::Snat { flags } => ("nat", Box::new(move |m| snat_to_register(m, *flags))),
        }
    }
}

fn value(m: Message, kind: u16, bytes: &[u8]) -> Message {
    m.nest(kind, |d| d.attr(NFTA_DATA_VALUE, bytes))
}

fn bitwise(m: Message, mask: u32, flip: u32) -> Message {
    let m = m.be32(NFTA_BITWISE_SREG, NFT_REG_1).be32(NFTA_BITWISE_DREG, NFT_REG_1).be32(NFTA_BITWISE_LEN, 4);
    value(value(m, NFTA_BITWISE_MASK, &mask.to_ne_bytes()), NFTA_BITWISE_XOR, &flip.to_ne_bytes())
}

fn compare(m: Message, cmp: Cmp, bytes: &[u8]) -> Message {
    value(m.be32(NFTA_CMP_SREG, NFT_REG_1).be32(NFTA_CMP_OP, cmp.code()), NFTA_CMP_DATA, bytes)
}

fn in_set(m: Message, set: &str, inverted: bool) -> Message {
    let flags = if inverted { NFT_LOOKUP_F_INV } else { 0 };
    m.text(NFTA_LOOKUP_SET, set).be32(NFTA_LOOKUP_SREG, NFT_REG_1).be32(NFTA_LOOKUP_FLAGS, flags)
}

fn verdict_map(m: Message, map: &str) -> Message {
    m.text(NFTA_LOOKUP_SET, map).be32(NFTA_LOOKUP_SREG, NFT_REG_1).be32(NFTA_LOOKUP_DREG, NFT_REG_VERDICT)
}

fn payload(m: Message, offset: u32, len: u32) -> Message {
    m.be32(NFTA_PAYLOAD_DREG, NFT_REG_1)
        .be32(NFTA_PAYLOAD_BASE, NFT_PAYLOAD_NETWORK_HEADER)
        .be32(NFTA_PAYLOAD_OFFSET, offset)
        .be32(NFTA_PAYLOAD_LEN, len)
}

fn fib_daddr_type(m: Message) -> Message {
    m.be32(NFTA_FIB_DREG, NFT_REG_1)
        .be32(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE)
        .be32(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR)
}

fn load(m: Message, bytes: &[u8]) -> Message {
    value(m.be32(NFTA_IMMEDIATE_DREG, NFT_REG_1), NFTA_IMMEDIATE_DATA, bytes)
}

fn accept_verdict(m: Message) -> Message {
    m.be32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT)
        .nest(NFTA_IMMEDIATE_DATA, |d| d.nest(NFTA_DATA_VERDICT, |v| v.be32(NFTA_VERDICT_CODE, NF_ACCEPT)))
}

fn snat_to_register(m: Message, flags: u32) -> Message {
    let m = m
        .be32(NFTA_NAT_TYPE, NFT_NAT_SNAT)
        .be32(NFTA_NAT_FAMILY, u32::from(NFPROTO_IPV4))
        .be32(NFTA_NAT_REG_ADDR_MIN, NFT_REG_1);
    if flags == 0 { m } else { m.be32(NFTA_NAT_FLAGS, flags) }
}

/// Ends the chain's work on the packet.
pub(crate) fn accept() -> Vec<Expr> {
    vec![Expr::Accept]
}

/// Replaces the bits of `mask` in the packet mark, and no others.
pub(crate) fn meta_mark_set(mask: u32, bits: u32) -> Vec<Expr> {
    vec![
        Expr::MetaLoad(NFT_META_MARK),
        Expr::Bitwise { mask: !mask, flip: bits },
        Expr::MetaStore(NFT_META_MARK),
    ]
}

/// Does the packet mark have none of the bits of `mask`, or any?
pub(crate) fn meta_mark_test(mask: u32, any: bool) -> Vec<Expr> {
    let cmp = if any { Cmp::NotEqual } else { Cmp::Equal };
    vec![Expr::MetaLoad(NFT_META_MARK), Expr::Bitwise { mask, flip: 0 }, Expr::Compare(cmp, vec![0; 4])]
}

/// Did a process send it? What is passed on has no socket, and so no owner to compare.
pub(crate) fn has_socket() -> Vec<Expr> {
    vec![Expr::MetaLoad(NFT_META_SKUID), Expr::Compare(Cmp::NotEqual, vec![0xff; 4])]
}

/// Replaces the bits of `mask` in the connection mark, and no others.
pub(crate) fn ct_mark_set(mask: u32, bits: u32) -> Vec<Expr> {
    vec![Expr::CtLoad(NFT_CT_MARK), Expr::Bitwise { mask: !mask, flip: bits }, Expr::CtStore(NFT_CT_MARK)]
}

/// Does the connection mark have any bit of `mask`?
pub(crate) fn ct_mark_test(mask: u32) -> Vec<Expr> {
    vec![Expr::CtLoad(NFT_CT_MARK), Expr::Bitwise { mask, flip: 0 }, Expr::Compare(Cmp::NotEqual, vec![0; 4])]
}

/// Is the packet the first of its connection, or one of several before an answer?
pub(crate) fn ct_state_new() -> Vec<Expr> {
    vec![
        Expr::CtLoad(NFT_CT_STATE),
        Expr::Bitwise { mask: CT_STATE_NEW, flip: 0 },
        Expr::Compare(Cmp::NotEqual, vec![0; 4]),
    ]
}

/// Is the packet's connection one whose destination was changed, or that has not been seen to work yet? The kernel calls a
/// connection *assured* once TCP's handshake is through, or datagrams have gone both ways for two seconds.
pub(crate) fn ct_dnat_or_not_assured() -> Vec<Expr> {
    vec![
        Expr::CtLoad(NFT_CT_STATUS),
        Expr::Bitwise { mask: CT_STATUS_ASSURED | CT_STATUS_DST_NAT, flip: 0 },
        Expr::Compare(Cmp::NotEqual, CT_STATUS_ASSURED.to_ne_bytes().to_vec()),
    ]
}

/// Is the packet an answer, or not?
pub(crate) fn ct_direction_is(reply: bool) -> Vec<Expr> {
    vec![Expr::CtLoad(NFT_CT_DIRECTION), Expr::Compare(Cmp::Equal, vec![u8::from(reply)])]
}

/// Is the destination this node's own address?
pub(crate) fn daddr_local(cmp: Cmp) -> Vec<Expr> {
    vec![Expr::FibDaddrType, Expr::Compare(cmp, RTN_LOCAL.to_ne_bytes().to_vec())]
}

/// Is the destination in a set?
pub(crate) fn daddr_in(set: &'static str, inside: bool) -> Vec<Expr> {
    vec![Expr::Payload { offset: IPV4_DADDR, len: 4 }, Expr::InSet { set, inverted: !inside }]
}

/// Is this the source address?
pub(crate) fn saddr_is(cmp: Cmp, address: Ipv4Addr) -> Vec<Expr> {
    vec![Expr::Payload { offset: IPV4_SADDR, len: 4 }, Expr::Compare(cmp, address.octets().to_vec())]
}

/// Is the outgoing device in a set?
pub(crate) fn oif_in(set: &'static str, inside: bool) -> Vec<Expr> {
    vec![Expr::MetaLoad(NFT_META_OIF), Expr::InSet { set, inverted: !inside }]
}

/// Is this the incoming device's name, or what it starts with?
pub(crate) fn iifname_is(cmp: Cmp, name: &str, prefix: bool) -> Vec<Expr> {
    vec![Expr::MetaLoad(NFT_META_IIFNAME), Expr::Compare(cmp, name_bytes(name, prefix))]
}

/// Is this the outgoing device's name, or what it starts with?
pub(crate) fn oifname_is(cmp: Cmp, name: &str, prefix: bool) -> Vec<Expr> {
    vec![Expr::MetaLoad(NFT_META_OIFNAME), Expr::Compare(cmp, name_bytes(name, prefix))]
}

/// A shorter value is compared with the start of the register only.
fn name_bytes(name: &str, prefix: bool) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    if !prefix {
        bytes.resize(IFNAME_LEN, 0);
    }
    bytes
}

/// Goes where a map says for the source address.
pub(crate) fn map_saddr(map: &'static str) -> Vec<Expr> {
    vec![Expr::Payload { offset: IPV4_SADDR, len: 4 }, Expr::Verdict(map)]
}

/// Goes where a map says for the incoming device.
pub(crate) fn map_iif(map: &'static str) -> Vec<Expr> {
    vec![Expr::MetaLoad(NFT_META_IIF), Expr::Verdict(map)]
}

/// Goes where a map says for some bits of the connection mark.
pub(crate) fn map_masked_ct_mark(mask: u32, map: &'static str) -> Vec<Expr> {
    vec![Expr::CtLoad(NFT_CT_MARK), Expr::Bitwise { mask, flip: 0 }, Expr::Verdict(map)]
}

/// Gives the connection another source address.
pub(crate) fn snat(address: Ipv4Addr, flags: u32) -> Vec<Expr> {
    vec![Expr::Load(address.octets().to_vec()), Expr::Snat { flags }]
}
