//! Routing rules that should exist against those that do. Pure.

use super::Strangers;
use crate::netlink::rule::{Rule, SeenRule};
use crate::numbers::{EniSlot, PRIORITY_ENI_MARK, PRIORITY_ENI_SOURCE, PRIORITY_PODS};
use crate::plan::routing::{address_of, pod_rules};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Addresses of running pods, each with the slot of its ENI where that has been named.
pub(crate) type PodAddresses = BTreeMap<IpAddr, Option<EniSlot>>;

/// What rules there should be.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// The node's and its ENIs'.
    pub(crate) shared: Vec<Rule>,
    /// In layout compat the addresses that have rules of their own.
    pub(crate) pods: Option<PodAddresses>,
    /// Tables of the ENIs that have been named.
    pub(crate) tables: BTreeSet<u32>,
    /// What becomes of rules of others.
    pub(crate) strangers: Strangers,
}

impl Wanted {
    /// What is to be added. A rule is there whoever made it.
    pub(crate) fn missing(&self, seen: &[SeenRule]) -> Vec<Rule> {
        let pods = self.pods.iter().flatten().flat_map(|(address, slot)| pod_rules(*address, *slot));
        let present: BTreeSet<&Rule> = seen.iter().map(|s| &s.rule).collect();
        self.shared.iter().cloned().chain(pods).filter(|rule| !present.contains(rule)).collect()
    }

    /// What is to be removed: only ours.
    pub(crate) fn stale<'a>(&self, seen: &'a [SeenRule]) -> Vec<&'a SeenRule> {
        seen.iter().filter(|s| s.is_ours() && self.is_stale(&s.rule)).collect()
    }

    fn is_stale(&self, rule: &Rule) -> bool {
        if self.shared.contains(rule) || address_of(rule).is_some_and(|address| self.keeps(address, rule)) {
            return false;
        }
        // Until its ENI is named, a pod of the other layout keeps its way out.
        let of_eni = matches!(rule.priority, PRIORITY_ENI_MARK | PRIORITY_ENI_SOURCE);
        let of_pod = self.pods.is_some() && address_of(rule).is_some();
        !of_eni || of_pod || self.strangers == Strangers::Remove || self.tables.contains(&rule.table)
    }

    /// Whether a rule for one address is one that its pod needs.
    pub(crate) fn keeps(&self, address: IpAddr, rule: &Rule) -> bool {
        let Some(slot) = self.pods.as_ref().and_then(|pods| pods.get(&address)) else { return false };
        // Where its ENI has not been named, the rule that leads out may well be right.
        pod_rules(address, *slot).contains(rule) || (slot.is_none() && rule.priority != PRIORITY_PODS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::route::host_net;
    use crate::numbers::{PROTOCOL, TABLE_MAIN, TABLE_PODS};
    use proptest::prelude::*;

    const SECOND: EniSlot = EniSlot { card: 0, device: 1 };

    fn wanted(compat: Option<PodAddresses>) -> Wanted {
        let all = Rule::all(PRIORITY_PODS, TABLE_PODS);
        let shared = if compat.is_some() { Vec::new() } else { vec![all] };
        let tables = BTreeSet::from([SECOND.table()]);
        Wanted { shared, pods: compat, tables, strangers: Strangers::Keep }
    }

    fn ours(rules: Vec<Rule>) -> Vec<SeenRule> {
        rules.into_iter().map(|rule| SeenRule { rule, protocol: PROTOCOL }).collect()
    }

    fn applied(wanted: &Wanted, seen: &[SeenRule]) -> Vec<SeenRule> {
        let stale = wanted.stale(seen);
        let kept = seen.iter().filter(|s| !stale.contains(s)).cloned();
        kept.chain(ours(wanted.missing(seen))).collect()
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 1, last])
    }

    proptest! {
        /// Between any two sets of pods, in either layout: applied once, nothing is left to do, and nothing of before stays.
        #[test]
        fn layouts_change_into_each_other(
            from in proptest::option::of(proptest::collection::btree_set(any::<u8>(), 0..8)),
            to in proptest::option::of(proptest::collection::btree_set(any::<u8>(), 0..8)),
        ) {
            let world = |pods: Option<BTreeSet<u8>>| {
                wanted(pods.map(|p| p.into_iter().map(|last| (address(last), Some(SECOND))).collect()))
            };
            let (from, to) = (world(from), world(to));
            let before = applied(&from, &[]);
            let after = applied(&to, &before);
            prop_assert!(to.missing(&after).is_empty() && to.stale(&after).is_empty());
            let sorted = |seen: Vec<SeenRule>| seen.into_iter().map(|s| s.rule).collect::<BTreeSet<_>>();
            prop_assert_eq!(sorted(after), sorted(applied(&to, &[])));
        }
    }

    /// A restarted daemon names its ENIs one by one: until then no pod on them loses its way, in either direction.
    #[test]
    fn rules_to_an_eni_not_named_yet_stay() {
        let seen = ours(pod_rules(address(5), Some(EniSlot { card: 0, device: 2 })));
        let constant = wanted(None);
        let stale: Vec<u32> = constant.stale(&seen).iter().map(|s| s.rule.priority).collect();
        assert_eq!(stale, [PRIORITY_PODS], "the way in has another rule, the way out has none yet");
        let compat = wanted(Some(PodAddresses::from([(address(5), None)])));
        assert!(compat.stale(&seen).is_empty() && compat.missing(&seen).is_empty());
        let named = wanted(Some(PodAddresses::from([(address(5), Some(SECOND))])));
        assert_eq!(named.stale(&seen).len(), 1, "to the wrong ENI");
    }

    #[test]
    fn rules_of_others_count_and_stay() {
        let theirs = |rule| SeenRule { rule, protocol: 3 };
        let seen: Vec<SeenRule> = pod_rules(address(5), Some(SECOND)).into_iter().map(theirs).collect();
        let compat = wanted(Some(PodAddresses::from([(address(5), Some(SECOND))])));
        assert!(compat.missing(&seen).is_empty(), "the incumbent's own rules do");
        assert!(wanted(None).stale(&seen).is_empty());
        let net = Rule::from(PRIORITY_ENI_MARK, host_net(address(5)), TABLE_MAIN);
        assert!(!compat.keeps(address(5), &net));
    }
}
