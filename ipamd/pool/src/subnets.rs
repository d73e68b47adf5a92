//! Subnets of the zone: what each still has, which may carry pods, and where a new ENI goes (design D13;
//! incumbent-behaviour §5.8). It asks before growth that needs to know, and keeps what it heard; it assigns nothing.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use ipnetwork::IpNetwork;

use crate::backoff::{Action, cause_of};
use crate::budget::Urgency;
use crate::cause::Cause;
use crate::effect::{Ec2Call, Effect};
use crate::ids::{GroupId, SubnetId};
use crate::input::{Ec2Failure, FailureClass, ObservedSubnet};
use crate::machine::Pool;
use crate::ops::About;
use crate::planted::Bug;
use crate::time::Time;

/// Tag by which an operator allows (any value) or forbids (`0`) a subnet. *Source*: incumbent-behaviour §5.8.
const TAG_ROLE: &str = "kubernetes.io/role/cni";
/// Start of the tags that reserve a subnet for clusters. *Source*: incumbent-behaviour §5.8.
const TAG_CLUSTER: &str = "cni.networking.k8s.aws/cluster/";

/// How old the list may be when a new ENI is placed. *Source*: our choice; a node that grows by three ENIs looks once.
const FRESH: Duration = Duration::from_secs(300);
/// How old it may be when addresses are assigned that nobody waits for. *Source*: our choice; what we draw ourselves is
/// subtracted meanwhile.
const LASTS: Duration = Duration::from_secs(3_600);
/// After which time it is looked again whether a subnet is above its floor. *Source*: our choice.
const FLOOR_AGAIN: Duration = Duration::from_secs(600);
/// When a missing ENIConfig or subnet is thought of again; the answer itself comes as an input. *Source*: our choice.
const AGAIN: Duration = Duration::from_secs(60);

/// What a subnet's tags say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Word {
    /// Nothing: good for the primary ENI's subnet, no other.
    Silent,
    /// Pods may use it.
    Allowed,
    /// Pods may not: by role, or because it is another cluster's.
    Forbidden,
}

crate::text::variants!(Word { Silent, Allowed, Forbidden });

/// One subnet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Facts {
    free: u32,
    cidr: Option<IpNetwork>,
    word: Word,
}

crate::text::fields!(Facts { free, cidr, word });

/// What is known of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub(crate) struct Subnets {
    known: BTreeMap<SubnetId, Facts>,
    /// When the newest list was asked for.
    looked: Option<Time>,
    /// A newer one is wanted: what it says stops growth.
    again: bool,
}

crate::text::fields!(Subnets { known, looked, again });

impl Subnets {
    /// A subnet's CIDR, where it was described.
    pub(crate) fn cidr(&self, subnet: &SubnetId) -> Option<IpNetwork> {
        self.known.get(subnet)?.cidr
    }

    /// Whether pods must not use it.
    pub(crate) fn forbids(&self, subnet: &SubnetId) -> bool {
        self.known.get(subnet).is_some_and(|facts| facts.word == Word::Forbidden)
    }

    /// We drew from it.
    pub(crate) fn drew(&mut self, subnet: &SubnetId, addresses: u32) {
        if let Some(facts) = self.known.get_mut(subnet) {
            facts.free = facts.free.saturating_sub(addresses);
        }
    }

    /// We gave back to it.
    pub(crate) fn gave(&mut self, subnet: &SubnetId, addresses: u32) {
        if let Some(facts) = self.known.get_mut(subnet) {
            facts.free = facts.free.saturating_add(addresses);
        }
    }

    fn older_than(&self, age: Duration, now: Time) -> bool {
        self.looked.is_none_or(|at| now.since(at) >= age)
    }

    /// Those that may carry pods, most free addresses first; equal ones by id.
    fn usable(&self, home: &SubnetId) -> Vec<SubnetId> {
        let good = |(id, facts): &(&SubnetId, &Facts)| match facts.word {
            Word::Allowed => true,
            Word::Silent => *id == home,
            Word::Forbidden => false,
        };
        let mut found: Vec<_> = self.known.iter().filter(good).map(|(id, f)| (Reverse(f.free), id)).collect();
        found.sort_unstable();
        found.into_iter().map(|(_, id)| id.clone()).collect()
    }
}

/// What the tags of a subnet say to this cluster. *Source*: incumbent-behaviour §5.8; an unknown cluster name matches
/// every cluster tag there.
fn word_of(subnet: &ObservedSubnet, cluster: Option<&str>) -> Word {
    let role = subnet.tags.iter().find(|(key, _)| &**key == TAG_ROLE).map_or("", |(_, value)| &**value);
    let mut clusters = subnet.tags.iter().filter_map(|(key, _)| key.strip_prefix(TAG_CLUSTER)).peekable();
    let foreign = clusters.peek().is_some() && cluster.is_some_and(|ours| clusters.all(|name| name != ours));
    match role {
        "" => Word::Silent,
        "0" => Word::Forbidden,
        _ if foreign => Word::Forbidden,
        _ => Word::Allowed,
    }
}

/// Where a new ENI may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    /// Subnets in order of preference.
    pub(crate) subnets: Vec<SubnetId>,
    /// Its security groups.
    pub(crate) groups: Vec<GroupId>,
}

impl Pool {
    /// Whether subnets are to be looked at before this growth, and if so, asks. True: an answer is on its way. When it
    /// cannot be asked (denied, throttled, EC2 silent), growth goes on with what is known: the primary ENI's subnet.
    pub(crate) fn look_at_subnets(
        &mut self,
        now: Time,
        new_eni: bool,
        urgency: Urgency,
        out: &mut Vec<Effect>,
    ) -> bool {
        let discovery = self.discovers();
        let age = match (self.subnets.again, new_eni) {
            (true, _) => FLOOR_AGAIN,
            (false, true) => FRESH,
            (false, false) => LASTS,
        };
        if !(discovery || self.settings.subnets.floor > 0) || !self.subnets.older_than(age, now) {
            return false;
        }
        if self.ops.any(|about| matches!(about, About::DescribeSubnets)) {
            return true;
        }
        if self.closed(Action::DescribeSubnets, urgency, now).is_some() {
            return false;
        }
        let only = match self.new_eni_goes(now) {
            _ if discovery => Vec::new(),
            Ok(places) => places.subnets,
            Err(_) => return false,
        };
        self.budget.take(Action::DescribeSubnets, now);
        let op = self.ops.open(About::DescribeSubnets, now, None);
        out.push(Effect::Ec2 { op, call: Ec2Call::DescribeSubnets { only } });
        true
    }

    /// Whether other subnets than the primary ENI's are looked for.
    const fn discovers(&self) -> bool {
        self.settings.subnets.discovery && !self.settings.primary_excluded
    }

    /// EC2 described subnets.
    pub(crate) fn see_subnets(&mut self, asked: Time, seen: &[ObservedSubnet]) {
        self.gates.action(Action::DescribeSubnets).clear();
        self.subnets.looked = Some(asked);
        self.subnets.again = false;
        let cluster = self.settings.cluster.clone();
        let custom = self.settings.primary_excluded;
        self.subnets.known = seen
            .iter()
            .map(|subnet| {
                let word = if custom { Word::Silent } else { word_of(subnet, cluster.as_deref()) };
                (subnet.id.clone(), Facts { free: subnet.free, cidr: subnet.cidr, word })
            })
            .collect();
        for slot in self.ledger.slots() {
            let kept_out = self.ledger.eni(slot).is_some_and(|eni| self.kept_out(&eni.subnet));
            if let Some(eni) = self.ledger.eni_mut(slot) {
                eni.excluded = kept_out;
            }
        }
    }

    /// Whether a subnet's tags keep pods out.
    pub(crate) fn kept_out(&self, subnet: &SubnetId) -> bool {
        !self.planted(Bug::IgnoresRole) && self.subnets.forbids(subnet)
    }

    /// Subnets could not be described: what is known has to do.
    pub(crate) fn subnets_unseen(&mut self, now: Time, failure: &Ec2Failure) -> Cause {
        let cause = cause_of(Action::DescribeSubnets, failure, None);
        if failure.class != FailureClass::Throttled {
            let gate = self.gates.action(Action::DescribeSubnets);
            gate.fail(now, failure.class, cause.clone(), &mut self.jitter);
        }
        cause
    }

    /// Where a new ENI may go, or why nowhere and until when.
    pub(crate) fn new_eni_goes(&self, now: Time) -> Result<Places, (Time, Cause)> {
        let Some((home, groups)) = self.home() else { return Err((now.after(AGAIN), Cause::Starting)) };
        if self.settings.primary_excluded {
            let Some(config) = &self.eni_config else { return Err((now.after(AGAIN), Cause::NoEniConfig)) };
            let groups = if config.groups.is_empty() { groups } else { config.groups.clone() };
            return Ok(Places { subnets: vec![config.subnet.clone()], groups });
        }
        let subnets = match (self.discovers(), self.subnets.known.is_empty()) {
            (true, false) => self.subnets.usable(&home),
            // Also without discovery the primary ENI's subnet may be forbidden.
            (true | false, true | false) if self.kept_out(&home) => Vec::new(),
            (true | false, true | false) => vec![home],
        };
        if subnets.is_empty() {
            let again = self.subnets.looked.map_or(now, |at| at.after(FRESH)).max(now.after(AGAIN));
            return Err((again, Cause::NoSubnet));
        }
        Ok(Places { subnets, groups })
    }

    /// How many of `short` addresses may be drawn from a subnet, in `unit`s: beyond its floor only what pods wait for,
    /// and the one that makes a node ready.
    pub(crate) fn may_draw(
        &self,
        subnet: &SubnetId,
        now: Time,
        (short, urgent): (u32, u32),
        unit: u32,
    ) -> Result<u32, (Time, Cause)> {
        let floor = self.settings.subnets.floor;
        let Some(facts) = self.subnets.known.get(subnet) else { return Ok(short) };
        if floor == 0 || self.subnets.older_than(LASTS, now) || self.planted(Bug::IgnoresFloor) {
            return Ok(short);
        }
        let spare = facts.free.saturating_sub(floor) / unit * unit;
        let most = spare.max(urgent);
        if most == 0 {
            let again = self.subnets.looked.map_or(now, |at| at.after(FLOOR_AGAIN)).max(now.after(AGAIN));
            return Err((again, Cause::SubnetFloor { subnet: subnet.clone(), free: facts.free, floor }));
        }
        Ok(short.min(most))
    }

    /// A floor is in the way: it is looked at again after a while. What is known stands until then.
    pub(crate) fn doubt_floor(&mut self) {
        self.subnets.again = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(id: &str, free: u32, tags: &[(&str, &str)]) -> ObservedSubnet {
        let tags = tags.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        ObservedSubnet { id: SubnetId::new(id), cidr: None, free, tags }
    }

    /// incumbent-behaviour §5.8, row by row.
    #[test]
    fn tags_of_a_subnet_mean_what_they_mean_to_the_incumbent() {
        let ours = "cni.networking.k8s.aws/cluster/ours";
        let theirs = "cni.networking.k8s.aws/cluster/theirs";
        type Tags<'a> = &'a [(&'a str, &'a str)];
        let table: [(Tags<'_>, Option<&str>, Word); 10] = [
            (&[], Some("ours"), Word::Silent),
            (&[(TAG_ROLE, "")], Some("ours"), Word::Silent),
            (&[(TAG_ROLE, "0")], Some("ours"), Word::Forbidden),
            (&[(TAG_ROLE, "0"), (ours, "")], Some("ours"), Word::Forbidden),
            (&[(TAG_ROLE, "1")], Some("ours"), Word::Allowed),
            (&[(TAG_ROLE, "yes")], None, Word::Allowed),
            (&[(TAG_ROLE, "1"), (theirs, "")], Some("ours"), Word::Forbidden),
            (&[(TAG_ROLE, "1"), (theirs, "shared"), (ours, "")], Some("ours"), Word::Allowed),
            (&[(TAG_ROLE, "1"), (theirs, "")], None, Word::Allowed),
            (&[(theirs, "")], Some("ours"), Word::Silent),
        ];
        for (tags, cluster, word) in table {
            assert_eq!(word_of(&subnet("subnet-1", 9, tags), cluster), word, "{tags:?} for {cluster:?}");
        }
    }

    #[test]
    fn usable_subnets_come_by_free_addresses_and_the_home_needs_no_tag() {
        let facts = |free, word| Facts { free, cidr: None, word };
        let known = [
            ("subnet-a", facts(10, Word::Silent)),
            ("subnet-b", facts(30, Word::Allowed)),
            ("subnet-c", facts(99, Word::Silent)),
            ("subnet-d", facts(50, Word::Forbidden)),
            ("subnet-e", facts(30, Word::Allowed)),
        ];
        let known = known.into_iter().map(|(id, facts)| (SubnetId::new(id), facts)).collect();
        let subnets = Subnets { known, looked: None, again: false };
        let names: Vec<String> =
            subnets.usable(&SubnetId::new("subnet-a")).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["subnet-b", "subnet-e", "subnet-a"]);
    }
}
