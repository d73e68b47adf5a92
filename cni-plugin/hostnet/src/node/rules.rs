//! Routing rules: comparing them with the plan, and taking away what no longer leads anywhere.

use super::change::Edit;
use super::{NodeNet, Part, not_applied, several};
use crate::diff::rules::{PodAddresses, Wanted};
use crate::error::{During, HostError};
use crate::netlink::route;
use crate::netlink::rule::{self, Rule, SeenRule};
use crate::netlink::uapi::AF_INET;
use crate::numbers::{EniSlot, PRIORITY_ENI_SOURCE, PRIORITY_MAIN, TABLE_MAIN};
use crate::plan::{Layout, routing};
use ipnetwork::IpNetwork;
use std::net::IpAddr;
use std::time::Duration;

/// How long a packet may take from the ruleset to its route. *Source*: our choice; it is a microsecond, unless a hypervisor
/// takes the processor away in between.
const IN_FLIGHT: Duration = Duration::from_millis(100);

impl NodeNet {
    pub(super) fn seen_rules(&mut self) -> Result<Vec<SeenRule>, HostError> {
        self.route.list(&rule::list(AF_INET), rule::parse).during(|| "list routing rules".into())
    }

    /// Adds what is missing and removes what is stale.
    pub(super) fn sync_rules(&mut self) -> Result<(), HostError> {
        let (wanted, seen) = self.compare()?;
        self.add_rules(&wanted, &seen)?;
        self.remove_rules(&wanted, &seen)
    }

    /// Rules and ruleset in the order in which no packet is lost when the layout changes: the new way is there before the
    /// old one goes, and what has passed the old ruleset still finds the old rules.
    pub(super) fn sync_paths(&mut self) -> Result<(), HostError> {
        let (wanted, seen) = self.compare()?;
        self.add_rules(&wanted, &seen)?;
        self.sync_ruleset()?;
        if !wanted.stale(&seen).is_empty() {
            std::thread::sleep(IN_FLIGHT);
        }
        self.remove_rules(&wanted, &seen)
    }

    /// *Why rules before pods*: a pod's rules come after its routes, so that a rule without a pod is one whose pod is gone.
    fn compare(&mut self) -> Result<(Wanted, Vec<SeenRule>), HostError> {
        let seen = self.seen_rules()?;
        Ok((self.wanted_rules()?, seen))
    }

    fn wanted_rules(&mut self) -> Result<Wanted, HostError> {
        let Some((node, _)) = &self.node else { return Err(not_applied()) };
        let shared = routing::rules(node, self.enis.values().map(|r| &r.config));
        let pods = match node.layout {
            Layout::Constant => None,
            Layout::Compat => Some(self.pod_addresses()?),
        };
        let tables = self.enis.keys().map(|slot| slot.table()).collect();
        Ok(Wanted { shared, pods, tables, strangers: self.strangers })
    }

    fn pod_addresses(&mut self) -> Result<PodAddresses, HostError> {
        let live = self.live_pods()?;
        let routed = self.routed()?.into_iter().filter(|(device, _)| live.contains_key(device));
        Ok(routed.flat_map(|(_, held)| held).map(|address| (address, self.slot_of(address))).collect())
    }

    fn add_rules(&mut self, wanted: &Wanted, seen: &[SeenRule]) -> Result<(), HostError> {
        let mut edits: Vec<Edit> = wanted
            .missing(seen)
            .iter()
            .map(|r| Edit::new(Part::Rule, format!("added rule {r}"), rule::add(r)))
            .collect();
        if !seen.iter().any(|s| s.rule.is_main()) {
            // Whatever `ip rule flush` takes, `main` must be looked up: the primary ENI's pods leave by it.
            let main = Rule::all(PRIORITY_MAIN, TABLE_MAIN);
            edits.push(Edit::new(Part::Rule, format!("added rule {main}"), rule::add_kernels(&main)));
        }
        self.attempt_all(edits)
    }

    fn remove_rules(&mut self, wanted: &Wanted, seen: &[SeenRule]) -> Result<(), HostError> {
        self.attempt_all(wanted.stale(seen).into_iter().map(|s| removal(&s.rule)).collect())
    }

    /// One by one, since a plugin may have added or removed the same rule meanwhile.
    fn attempt_all(&mut self, edits: Vec<Edit>) -> Result<(), HostError> {
        several(edits.into_iter().filter_map(|edit| self.attempt(edit).err()).collect())
    }

    pub(super) fn remove_rules_of(&mut self, slot: EniSlot) -> Result<(), HostError> {
        let seen = self.seen_rules()?;
        let gone = seen.iter().filter(|s| s.is_ours() && s.rule.table == slot.table());
        self.attempt_all(gone.map(|s| removal(&s.rule)).collect())
    }

    /// Removes what an earlier owner of these addresses left among the rules, whoever made it: a rule to or from exactly
    /// such an address leads its next owner's packets elsewhere. So does what the incumbent made for an ENI that is gone, whose
    /// own address this was. A rule whose address is still routed to a link that is not ours belongs to a pod of the incumbent
    /// and stays, and so does what an ENI, or in layout compat a running pod, needs.
    pub(super) fn forget_rules(&mut self, nets: &[IpNetwork]) -> Result<(), HostError> {
        let within = |s: SeenRule| {
            let address = routing::address_of(&s.rule).or_else(|| of_eni(&s.rule))?;
            nets.iter().any(|net| net.contains(address)).then_some((s, address))
        };
        let rules: Vec<(SeenRule, IpAddr)> = self.seen_rules()?.into_iter().filter_map(within).collect();
        if rules.is_empty() {
            return Ok(());
        }
        let wanted = if self.node.is_some() { Some(self.wanted_rules()?) } else { None };
        let ours = self.live_pods()?;
        let main = self.seen_routes(IpAddr::from([0, 0, 0, 0]), TABLE_MAIN)?;
        let elsewhere = |address: IpAddr| {
            main.iter().any(|r| {
                route::is_host(r.destination)
                    && r.destination.ip() == address
                    && !ours.contains_key(&r.device)
            })
        };
        let needed = |rule: &Rule, address| {
            wanted.as_ref().is_some_and(|w| w.shared.contains(rule) || w.keeps(address, rule))
        };
        let stale = rules.iter().filter(|(s, address)| !elsewhere(*address) && !needed(&s.rule, *address));
        let edits = stale.map(|(SeenRule { rule, protocol }, _)| {
            let what = format!("removed rule {rule}, left by an earlier owner of the address");
            Edit::new(Part::Leftover, what, rule::delete_anyones(rule, *protocol))
        });
        self.attempt_all(edits.collect())
    }
}

/// The address of an ENI's own that a rule is for, whoever made it.
fn of_eni(rule: &Rule) -> Option<IpAddr> {
    let source = rule.source.filter(|net| route::is_host(*net) && rule.destination.is_none())?;
    (rule.priority == PRIORITY_ENI_SOURCE).then(|| source.ip())
}

pub(super) fn removal(rule: &Rule) -> Edit {
    Edit::new(Part::Rule, format!("removed rule {rule}"), rule::delete(rule))
}
