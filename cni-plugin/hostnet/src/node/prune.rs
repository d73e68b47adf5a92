//! ENIs that are gone: what they left in rules and ruleset while no daemon ran.

use super::NodeNet;
use super::change::Edit;
use super::rules::removal;
use crate::diff::{self, Strangers};
use crate::error::{During, HostError};
use crate::nft::read;
use crate::numbers::{EniSlot, PRIORITY_ENI_MARK, PRIORITY_ENI_SOURCE};
use std::collections::BTreeSet;
use std::net::IpAddr;

impl NodeNet {
    /// Removes rules and ruleset parts of ENIs that have not been applied since this value was opened and are gone: a table
    /// without any route is one whose device has left. An ENI with routes may only not have been named yet, and its pods
    /// keep their way out. Returns whether all of the ruleset is known now; until then, call it again from time to time.
    ///
    /// # Errors
    /// The node has not been applied, or the kernel refuses a change.
    pub fn prune(&mut self) -> Result<bool, HostError> {
        if self.node.is_none() {
            return Err(super::not_applied());
        }
        if self.strangers == Strangers::Remove {
            return Ok(true);
        }
        let ruleset = read::read(&mut self.filter).during(|| "read nft table ip podwire".into())?;
        let rules = self.seen_rules()?;
        let of_eni = rules
            .iter()
            .filter(|s| s.is_ours() && matches!(s.rule.priority, PRIORITY_ENI_MARK | PRIORITY_ENI_SOURCE));
        let named: BTreeSet<u32> = self.enis.keys().map(|slot| slot.table()).collect();
        let chains = ruleset.iter().flat_map(|seen| seen.chains.keys());
        let mut strangers: BTreeSet<u32> = of_eni.map(|s| s.rule.table).collect();
        strangers.extend(
            chains.filter_map(|c| diff::number_of(c)).filter_map(EniSlot::of_mark).map(EniSlot::table),
        );
        let mut alive = false;
        for table in strangers.difference(&named) {
            let has_routes = !self.seen_routes(IpAddr::from([0, 0, 0, 0]), *table)?.is_empty();
            alive |= has_routes;
            if !has_routes {
                let gone = rules.iter().filter(|s| s.is_ours() && s.rule.table == *table);
                let edits: Vec<Edit> = gone.map(|s| removal(&s.rule)).collect();
                self.send(edits, || format!("remove the rules of table {table}"))?;
            }
        }
        if !alive {
            self.strangers = Strangers::Remove;
            self.sync_paths()?;
        }
        Ok(!alive)
    }
}
