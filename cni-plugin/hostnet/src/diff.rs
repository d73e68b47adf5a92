//! Desired against observed → steps. Pure: applying the steps and comparing again gives none.

pub(crate) mod rules;

use crate::nft::read::{Seen, SeenChain, SeenSet};
use crate::nft::transaction::{Step, key_type, set_flags, tag};
use crate::nft::uapi::{NF_ACCEPT, NFT_SET_INTERVAL, NFT_SET_MAP, TYPE_IPADDR};
use crate::plan::ruleset::{
    ADDRESSES, Chain, Element, PREFIXES, Ruleset, SETS_OF_ENIS as SETS, Set, arrival_chain, eni_chain,
};
use std::collections::BTreeSet;

/// What to do with chains and elements of ENIs that have not been named yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strangers {
    /// A restarted daemon learns its ENIs one by one; the pods of those to come keep their way out.
    Keep,
    /// All ENIs are known: what belongs to none of them goes.
    Remove,
}

/// The steps from what was seen to what is wanted.
pub(crate) fn ruleset(wanted: &Ruleset, seen: Option<&Seen>, strangers: Strangers) -> Vec<Step> {
    match seen {
        None => [vec![Step::AddTable], build(wanted)].concat(),
        Some(seen) if !fits(wanted, seen) => {
            [vec![Step::DeleteTable, Step::AddTable], build(wanted)].concat()
        }
        Some(seen) => amend(wanted, seen, strangers),
    }
}

/// Whether the table is at work and every set and base chain that exists has the wanted shape; a shape cannot be changed in
/// place.
fn fits(wanted: &Ruleset, seen: &Seen) -> bool {
    let set_fits = |set: &Set| seen.sets.get(set.name).is_none_or(|s| same_shape(set, s));
    let chain_fits = |chain: &Chain| seen.chains.get(&chain.name).is_none_or(|s| same_hook(chain, s));
    !seen.dormant && wanted.sets.iter().all(set_fits) && wanted.chains.iter().all(chain_fits)
}

fn same_shape(set: &Set, seen: &SeenSet) -> bool {
    set_flags(set) == seen.flags && key_type(set.key) == seen.key_type && seen.key_len == 4
}

fn same_hook(chain: &Chain, seen: &SeenChain) -> bool {
    match (&chain.hook, &seen.hook) {
        (None, None) => true,
        (Some(hook), Some((number, priority, kind))) => {
            let accepts = seen.policy.is_none_or(|policy| policy == NF_ACCEPT);
            hook.number == *number && hook.priority == *priority && hook.kind == kind && accepts
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}

fn build(wanted: &Ruleset) -> Vec<Step> {
    amend(wanted, &Seen::default(), Strangers::Remove)
}

fn amend(wanted: &Ruleset, seen: &Seen, strangers: Strangers) -> Vec<Step> {
    let stale_chains = stale_chains(wanted, seen, strangers);
    let changed: Vec<&Chain> = wanted.chains.iter().filter(|c| rules_differ(c, seen)).collect();
    let mut steps = Vec::new();
    steps.extend(
        wanted
            .sets
            .iter()
            .filter(|s| !seen.sets.contains_key(s.name))
            .map(|s| Step::AddSet(Set { elements: BTreeSet::new(), ..s.clone() })),
    );
    let missing = wanted.chains.iter().filter(|c| !seen.chains.contains_key(&c.name));
    steps.extend(missing.map(|c| Step::AddChain(Chain { rules: Vec::new(), ..c.clone() })));
    let refilled = changed.iter().map(|c| &c.name).filter(|name| has_rules(name, seen));
    steps.extend(refilled.chain(&stale_chains).map(|name| Step::FlushChain(name.clone())));
    for chain in changed {
        steps.extend(chain.rules.iter().map(|r| Step::AddRule(chain.name.clone(), r.clone())));
    }
    for set in &wanted.sets {
        steps.extend(elements(set, seen, wanted, strangers));
    }
    steps.extend(stale_sets(wanted, seen));
    steps.extend(stale_chains.into_iter().map(Step::DeleteChain));
    steps
}

fn has_rules(name: &str, seen: &Seen) -> bool {
    seen.chains.get(name).is_some_and(|c| !c.tags.is_empty())
}

fn rules_differ(chain: &Chain, seen: &Seen) -> bool {
    let wanted = chain.rules.iter().map(|r| tag(r));
    seen.chains.get(&chain.name).is_none_or(|s| !wanted.eq(s.tags.iter().cloned()))
}

fn stale_chains(wanted: &Ruleset, seen: &Seen, strangers: Strangers) -> Vec<String> {
    let known: BTreeSet<&str> = wanted.chains.iter().map(|c| c.name.as_str()).collect();
    let stale = seen.chains.keys().filter(|name| !known.contains(name.as_str()));
    stale.filter(|name| strangers == Strangers::Remove || !of_an_eni(name)).cloned().collect()
}

/// Sets that no chain looks into any more (the chains were flushed before).
fn stale_sets(wanted: &Ruleset, seen: &Seen) -> Vec<Step> {
    let known: BTreeSet<&str> = wanted.sets.iter().map(|s| s.name).collect();
    let stale = seen.sets.keys().filter(|name| !known.contains(name.as_str()));
    stale.map(|name| Step::DeleteSet(name.clone())).collect()
}

/// Whether a chain is one of those kept for each ENI.
fn of_an_eni(chain: &str) -> bool {
    number_of(chain).is_some()
}

/// The number of the ENI for which a chain is kept.
pub(crate) fn number_of(chain: &str) -> Option<u32> {
    chain.strip_prefix("eni-").or_else(|| chain.strip_prefix("arrival-"))?.parse().ok()
}

fn elements(set: &Set, seen: &Seen, wanted: &Ruleset, strangers: Strangers) -> Vec<Step> {
    let nothing = BTreeSet::new();
    let present = seen.sets.get(set.name).map_or(&nothing, |s| &s.elements);
    let mut added: Vec<Element> = set.elements.difference(present).cloned().collect();
    if strangers == Strangers::Keep {
        carry_over(&mut added, set, seen, wanted);
    }
    let removed: Vec<Element> = present
        .difference(&set.elements)
        .filter(|e| {
            strangers == Strangers::Remove
                || !of_a_stranger(e, set, wanted)
                || collides(set, e, &added)
                || hides_a_prefix(set, e, wanted)
        })
        .cloned()
        .collect();
    let step = |make: fn(&'static str, Vec<Element>) -> Step, elements: Vec<Element>| {
        (!elements.is_empty()).then(|| make(set.name, elements))
    };
    step(Step::DeleteElements, removed).into_iter().chain(step(Step::AddElements, added)).collect()
}

/// Adds what an older table leads to ENIs that have not been named yet, from maps of other names that are about to go: their
/// pods keep their way out through an upgrade. What meets something of the present maps has found another ENI meanwhile.
fn carry_over(added: &mut Vec<Element>, set: &Set, seen: &Seen, wanted: &Ruleset) {
    let known = |name: &str| wanted.sets.iter().any(|s| s.name == name);
    let older = seen.sets.iter().filter(|(name, s)| !known(name) && leads_addresses(s));
    let present = seen.sets.get(set.name).into_iter().flat_map(|s| &s.elements);
    let taken: Vec<Element> = set.elements.iter().chain(present).cloned().collect();
    for (map, element) in older.flat_map(|(_, s)| s.elements.iter().map(|e| placed(e, s))) {
        let strangers =
            element.jump.as_deref().is_some_and(of_an_eni) && of_a_stranger(&element, set, wanted);
        let met = collides(set, &element, &taken) || hides_a_prefix(set, &element, wanted);
        // Two older maps may hold the same.
        if map == set.name && strangers && !met && !collides(set, &element, added) {
            added.push(element);
        }
    }
}

fn leads_addresses(set: &SeenSet) -> bool {
    set.flags & NFT_SET_MAP != 0 && set.key_type == TYPE_IPADDR && set.key_len == 4
}

/// The map in which an element of an older one belongs, by its width, and its form there.
fn placed(element: &Element, older: &SeenSet) -> (&'static str, Element) {
    let behind = u32::from_be_bytes(element.key).checked_add(1).map(u32::to_be_bytes);
    if older.flags & NFT_SET_INTERVAL == 0 || element.end == behind {
        (ADDRESSES, Element { end: None, ..element.clone() })
    } else {
        (PREFIXES, element.clone())
    }
}

/// Whether an element belongs to an ENI that has not been named yet. Elements without a jump say nothing about their
/// owner; in the set of networks there are no owners.
fn of_a_stranger(element: &Element, set: &Set, wanted: &Ruleset) -> bool {
    match &element.jump {
        Some(chain) => wanted.chains.iter().all(|c| c.name != *chain),
        None => !set.interval,
    }
}

/// Whether an element's keys meet those of elements to be added.
fn collides(set: &Set, element: &Element, added: &[Element]) -> bool {
    let meet = |a: &Element| set.interval && (covers(a, element.key) || covers(element, a.key));
    added.iter().any(|a| a.key == element.key || meet(a))
}

/// Whether a single address would be found before the prefix around it, which belongs to an ENI that has been named.
fn hides_a_prefix(set: &Set, element: &Element, wanted: &Ruleset) -> bool {
    let prefixes = wanted.sets.iter().filter(|s| s.name == PREFIXES).flat_map(|s| &s.elements);
    set.name == ADDRESSES && prefixes.into_iter().any(|prefix| covers(prefix, element.key))
}

fn covers(range: &Element, key: [u8; 4]) -> bool {
    range.key <= key && range.end.is_none_or(|end| key < end)
}

/// The steps that take one ENI out of what was seen, whatever else is there.
pub(crate) fn without_eni(seen: &Seen, mark: u32, device: u32) -> Vec<Step> {
    let chains: Vec<&String> = seen
        .chains
        .keys()
        .filter(|name| **name == eni_chain(mark) || **name == arrival_chain(mark))
        .collect();
    let leads_there = |e: &Element| match &e.jump {
        Some(chain) => chains.contains(&chain),
        None => e.end.is_none() && e.key == device.to_ne_bytes(),
    };
    let mut steps = Vec::new();
    for name in SETS {
        let elements = seen.sets.get(name).map(|s| &s.elements).into_iter().flatten();
        let gone: Vec<Element> = elements.filter(|e| leads_there(e)).cloned().collect();
        if !gone.is_empty() {
            steps.push(Step::DeleteElements(name, gone));
        }
    }
    steps.extend(chains.iter().map(|name| Step::FlushChain((*name).clone())));
    steps.extend(chains.iter().map(|name| Step::DeleteChain((*name).clone())));
    steps
}

#[cfg(test)]
mod tests;
