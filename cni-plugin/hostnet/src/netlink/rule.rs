//! Routing rules: requests and readings.

use super::uapi::{
    AF_INET, FIB_RULE_INVERT, FR_ACT_TO_TBL, FRA_DST, FRA_FWMARK, FRA_FWMASK, FRA_PRIORITY, FRA_PROTOCOL,
    FRA_SRC, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, NLM_F_CREATE, NLM_F_EXCL, RTM_DELRULE, RTM_GETRULE,
    RTM_NEWRULE, RTPROT_KERNEL,
};
use super::wire::{Message, attrs, u32_at};
use super::{address, family, octets};
use crate::numbers::{PROTOCOL, TABLE_MAIN};
use ipnetwork::IpNetwork;

/// Length of `struct fib_rule_hdr`.
const HEADER_LEN: usize = 12;

/// A rule that looks up a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rule {
    pub(crate) family: u8,
    pub(crate) priority: u32,
    pub(crate) source: Option<IpNetwork>,
    pub(crate) destination: Option<IpNetwork>,
    /// Value and mask of the packet mark.
    pub(crate) mark: Option<(u32, u32)>,
    pub(crate) table: u32,
}

/// A rule that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeenRule {
    pub(crate) rule: Rule,
    /// Number of whoever made it.
    pub(crate) protocol: u8,
}

impl SeenRule {
    /// Whether it is ours.
    pub(crate) fn is_ours(&self) -> bool {
        self.protocol == PROTOCOL
    }
}

impl Rule {
    /// An IPv4 rule for every packet.
    pub(crate) fn all(priority: u32, table: u32) -> Self {
        Self { family: AF_INET, priority, source: None, destination: None, mark: None, table }
    }

    /// An IPv4 rule for a packet mark.
    pub(crate) fn marked(priority: u32, value: u32, mask: u32, table: u32) -> Self {
        Self { mark: Some((value, mask)), ..Self::all(priority, table) }
    }

    /// A rule for a destination; host bits of `destination` count for nothing.
    pub(crate) fn to(priority: u32, destination: IpNetwork, table: u32) -> Self {
        let network = IpNetwork::new(destination.network(), destination.prefix()).unwrap_or(destination);
        Self { family: family(network.ip()), destination: Some(network), ..Self::all(priority, table) }
    }

    /// Whether every packet is looked up in `main` by it, as by the kernel's own rule.
    pub(crate) fn is_main(&self) -> bool {
        *self == Self::all(self.priority, TABLE_MAIN)
    }

    /// A rule for a source.
    pub(crate) fn from(priority: u32, source: IpNetwork, table: u32) -> Self {
        Self { family: family(source.ip()), source: Some(source), ..Self::all(priority, table) }
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: from ", self.priority)?;
        match self.source {
            Some(source) => write!(f, "{source}")?,
            None => f.write_str("all")?,
        }
        if let Some(to) = self.destination {
            write!(f, " to {to}")?;
        }
        if let Some((value, mask)) = self.mark {
            write!(f, " fwmark {value:#x}/{mask:#x}")?;
        }
        write!(f, " lookup {}", self.table)
    }
}

fn body(kind: u16, flags: u16, rule: &Rule, protocol: u8) -> Message {
    let mut head = [0; HEADER_LEN];
    head[0] = rule.family;
    head[1] = rule.destination.map_or(0, |d| d.prefix());
    head[2] = rule.source.map_or(0, |s| s.prefix());
    head[4] = u8::try_from(rule.table).unwrap_or(0);
    head[7] = FR_ACT_TO_TBL;
    let source = rule.source.map(|s| octets(s.network()));
    let destination = rule.destination.map(|d| octets(d.network()));
    let message = Message::new(kind, flags)
        .raw(&head)
        .u32(FRA_PRIORITY, rule.priority)
        .u32(FRA_TABLE, rule.table)
        .attr(FRA_PROTOCOL, &[protocol])
        .maybe(FRA_DST, destination.as_deref())
        .maybe(FRA_SRC, source.as_deref());
    match rule.mark {
        Some((value, mask)) => message.u32(FRA_FWMARK, value).u32(FRA_FWMASK, mask),
        None => message,
    }
}

/// Adds a rule.
pub(crate) fn add(rule: &Rule) -> Message {
    body(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, rule, PROTOCOL)
}

/// Adds a rule that the kernel made at its start and somebody removed: it is nobody's, as before.
pub(crate) fn add_kernels(rule: &Rule) -> Message {
    body(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, rule, RTPROT_KERNEL)
}

/// Removes a rule of ours.
pub(crate) fn delete(rule: &Rule) -> Message {
    body(RTM_DELRULE, 0, rule, PROTOCOL)
}

/// Removes a rule whoever made it.
pub(crate) fn delete_anyones(rule: &Rule, protocol: u8) -> Message {
    body(RTM_DELRULE, 0, rule, protocol)
}

/// Asks for all rules of a family.
pub(crate) fn list(family: u8) -> Message {
    let mut head = [0; HEADER_LEN];
    head[0] = family;
    Message::new(RTM_GETRULE, 0).raw(&head)
}

/// Reads a rule out of an answer. Rules with selectors we never write are left out.
pub(crate) fn parse(kind: u16, payload: &[u8]) -> Option<SeenRule> {
    let (tos, action, flags) = (*payload.get(3)?, *payload.get(7)?, u32_at(payload, 8)?);
    if !matches!(kind, RTM_NEWRULE | RTM_DELRULE)
        || tos != 0
        || action != FR_ACT_TO_TBL
        || flags & FIB_RULE_INVERT != 0
    {
        return None;
    }
    let mut rule = Rule::all(0, u32::from(*payload.get(4)?));
    rule.family = *payload.first()?;
    let (mut value, mut mask, mut protocol) = (None, None, 0);
    for attr in attrs(payload.get(HEADER_LEN..)?) {
        match attr.kind {
            FRA_PRIORITY => rule.priority = attr.u32()?,
            FRA_TABLE => rule.table = attr.u32()?,
            FRA_DST => rule.destination = IpNetwork::new(address(attr.payload)?, *payload.get(1)?).ok(),
            FRA_SRC => rule.source = IpNetwork::new(address(attr.payload)?, *payload.get(2)?).ok(),
            FRA_FWMARK => value = attr.u32(),
            FRA_FWMASK => mask = attr.u32(),
            FRA_PROTOCOL => protocol = *attr.payload.first()?,
            FRA_SUPPRESS_PREFIXLEN if attr.u32() == Some(u32::MAX) => {}
            _ => return None,
        }
    }
    // A value of 0 is left out. *Source*: net/core/fib_rules.c, `fib_nl_fill_rule`.
    rule.mark = mask.map(|mask| (value.unwrap_or(0), mask));
    Some(SeenRule { rule, protocol })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel gives it back: `ip rule add fwmark 0/0x7f` shows a mask and no value.
    #[test]
    fn mark_of_zero_reads_back() {
        let wanted = Rule::marked(1536, 0, 0x7f, 7);
        let mut payload = vec![0; HEADER_LEN];
        (payload[0], payload[4], payload[7]) = (AF_INET, 7, FR_ACT_TO_TBL);
        for (kind, value) in [(FRA_PRIORITY, 1536_u32), (FRA_FWMASK, 0x7f), (FRA_TABLE, 7)] {
            payload.extend_from_slice(&8_u16.to_ne_bytes());
            payload.extend_from_slice(&kind.to_ne_bytes());
            payload.extend_from_slice(&value.to_ne_bytes());
        }
        let seen = parse(RTM_NEWRULE, &payload).expect("a rule");
        assert_eq!(seen.rule, wanted);
    }
}
