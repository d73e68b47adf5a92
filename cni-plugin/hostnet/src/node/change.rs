//! What is changed in the kernel, in words and by part, so that drift can be counted and explained. Pure.

use crate::netlink::wire::Message;
use std::fmt;

/// A part of the node's networking: looked at, counted and backed off from on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Routing rules.
    Rule,
    /// The nft table.
    Ruleset,
    /// Whether a link is up.
    Link,
    /// An ENI's MTU.
    Mtu,
    /// An ENI's reverse-path filter.
    ReversePath,
    /// `ip_forward`.
    Forwarding,
    /// Addresses on an ENI.
    Address,
    /// Routes of an ENI.
    Route,
    /// Routes to pods.
    PodRoute,
    /// What an earlier owner of an address left: connections, neighbours, rules.
    Leftover,
    /// Pod links.
    PodLink,
}

impl Part {
    /// Every part, in order of declaration.
    pub const ALL: [Self; 11] = [
        Self::Rule,
        Self::Ruleset,
        Self::Link,
        Self::Mtu,
        Self::ReversePath,
        Self::Forwarding,
        Self::Address,
        Self::Route,
        Self::PodRoute,
        Self::Leftover,
        Self::PodLink,
    ];

    /// A word for logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Ruleset => "nft",
            Self::Link => "link-state",
            Self::Mtu => "mtu",
            Self::ReversePath => "rp-filter",
            Self::Forwarding => "forwarding",
            Self::Address => "address",
            Self::Route => "route",
            Self::PodRoute => "pod-route",
            Self::Leftover => "leftover",
            Self::PodLink => "pod-link",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One change that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Of what.
    pub part: Part,
    /// In words: `added rule 512 from all lookup 5120`.
    pub what: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// A change to be made.
#[derive(Debug)]
pub(super) struct Edit {
    pub(super) change: Change,
    pub(super) message: Message,
}

impl Edit {
    pub(super) fn new(part: Part, what: String, message: Message) -> Self {
        Self { change: Change { part, what }, message }
    }
}

/// What has been changed so far.
#[derive(Debug, Default)]
pub(super) struct Made {
    count: u64,
    latest: Vec<Change>,
}

/// Most changes kept in words until somebody takes them; further ones are only counted. *Source*: our choice; a whole
/// repair of 15 ENIs is some hundred.
const KEPT: usize = 512;

impl Made {
    pub(super) fn note(&mut self, change: Change) {
        self.count += 1;
        if self.latest.len() < KEPT {
            self.latest.push(change);
        }
    }

    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn take(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.latest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn parts_are_all_listed_once() {
        let names: BTreeSet<&str> = Part::ALL.iter().map(|p| p.name()).collect();
        assert_eq!(names.len(), Part::ALL.len());
        assert!(Part::ALL.is_sorted());
    }

    #[test]
    fn changes_beyond_the_bound_are_counted() {
        let mut made = Made::default();
        for _ in 0..KEPT + 3 {
            made.note(Change { part: Part::Rule, what: String::new() });
        }
        assert_eq!((made.count(), made.take().len()), (515, KEPT));
        assert!(made.take().is_empty());
    }
}
