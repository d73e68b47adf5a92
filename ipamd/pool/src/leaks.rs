//! ENIs that dead nodes left behind (pain-points C36 to C38). Deleted only with proof: this cluster's tag, an owner that
//! EC2 does not know any more, and both seen twice some time apart. Own ENIs that hang in the air are found by the same
//! look and go the usual way.
//!
//! *Why* seen twice, and not an age by the tag `createdAt`: an ENI that was left behind is as old as the time between the
//! two looks at least, whatever anybody's wall clock says.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::address::State;
use crate::backoff::{Action, cause_of};
use crate::budget::Urgency;
use crate::cause::Cause;
use crate::effect::{Ec2Call, Effect};
use crate::eni::{TAG_INSTANCE, TAG_NO_MANAGE, tag};
use crate::ids::{EniId, InstanceId};
use crate::input::{Ec2Failure, FailureClass, ObservedEni};
use crate::jitter::Jitter;
use crate::machine::Pool;
use crate::ops::About;
use crate::planted::Bug;
use crate::settings::LeakPolicy;
use crate::time::Time;

/// Tag with the cluster's name. *Source*: incumbent-behaviour §5.6.
const TAG_CLUSTER: &str = "cluster.k8s.amazonaws.com/name";
/// Who made an ENI, on EKS. *Source*: incumbent-behaviour §5.6.
const TAG_OWNER: &str = "eks:eni:owner";
/// That tag's value on ENIs of this kind. *Source*: incumbent-behaviour §5.6.
const OWNER: &str = "amazon-vpc-cni";

/// Time between the first look that finds a leak and the one that proves it. *Source*: our choice; the incumbent's age
/// is 5 min, and EC2's describes agree within seconds.
const PROVEN_AFTER: Duration = Duration::from_secs(600);
/// The routine look. *Source*: design §7 (daily); never two within a day.
const EVERY: (Duration, Duration) = (Duration::from_secs(86_400), Duration::from_secs(90_000));
/// The first one of a life: anywhere in this span, so that daemons that start together do not look together.
/// *Source*: our choice.
const FIRST: (Duration, Duration) = (Duration::from_secs(43_200), Duration::from_secs(86_400));
/// After a look that failed. *Source*: our choice.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1_800), Duration::from_secs(7_200));
/// Owners asked for at once. *Source*: EC2 user guide, "Filter API results": 200 values in a request; half of them.
const OWNERS_MAX: usize = 100;

/// What is to be said of a detached ENI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeakVerdict {
    /// It was left behind by this instance, which is gone.
    Leaked(InstanceId),
    /// Its owner exists.
    OwnerAlive(InstanceId),
    /// It is attached, or on its way.
    InUse,
    /// It is no plain ENI, somebody else's, or marked as not to be managed.
    NotOurs,
    /// It is another cluster's, or the cluster's name is not known: then nobody can tell.
    OtherCluster,
}

impl fmt::Display for LeakVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leaked(owner) => write!(f, "leaked: its owner {owner} does not exist any more"),
            Self::OwnerAlive(owner) => write!(f, "kept: its owner {owner} exists"),
            Self::InUse => f.write_str("kept: it is attached"),
            Self::NotOurs => f.write_str("kept: it was not made by a node of this kind"),
            Self::OtherCluster => f.write_str("kept: it does not carry this cluster's tag"),
        }
    }
}

/// Judges a detached ENI as EC2 describes it; `alive` are the instances that exist among the owners asked for.
#[must_use]
pub fn leak_verdict(seen: &ObservedEni, cluster: Option<&str>, alive: &[InstanceId]) -> LeakVerdict {
    if seen.attached || seen.attachment.is_some() || seen.instance.is_some() {
        return LeakVerdict::InUse;
    }
    let plain = seen.kind.as_deref().is_some_and(|kind| kind == "interface");
    let theirs = tag(seen, TAG_OWNER).is_some_and(|owner| owner != OWNER);
    if !plain || theirs || tag(seen, TAG_NO_MANAGE).is_some() {
        return LeakVerdict::NotOurs;
    }
    let Some(owner) = tag(seen, TAG_INSTANCE).filter(|id| id.starts_with("i-")).map(InstanceId::new) else {
        return LeakVerdict::NotOurs;
    };
    if cluster.is_none_or(|name| tag(seen, TAG_CLUSTER) != Some(name)) {
        return LeakVerdict::OtherCluster;
    }
    if alive.contains(&owner) { LeakVerdict::OwnerAlive(owner) } else { LeakVerdict::Leaked(owner) }
}

/// One that may have been left behind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Suspect {
    owner: InstanceId,
    /// When it was first found with a dead owner.
    since: Option<Time>,
    /// Found twice, long enough apart.
    proven: bool,
}

crate::text::fields!(Suspect { owner, since, proven });

/// What the looks found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub(crate) struct Leaks {
    next: Option<Time>,
    suspects: BTreeMap<EniId, Suspect>,
    /// The newest look, whose owners are to be asked for.
    to_judge: Vec<Found>,
}

crate::text::fields!(Leaks { next, suspects, to_judge });

/// A detached ENI with its owner, until that one's fate is known.
type Found = (EniId, InstanceId);

/// A suspect, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeakRow {
    /// Which ENI.
    pub eni: EniId,
    /// Whose it was.
    pub owner: InstanceId,
    /// Since when it is known to have no living owner.
    pub since: Option<Time>,
    /// It is proven, and deleted next unless that is switched off.
    pub proven: bool,
}

impl Leaks {
    /// Plans the first look.
    pub(crate) fn begin(&mut self, now: Time, jitter: &mut Jitter) {
        if self.next.is_none() {
            self.next = Some(now.after(jitter.between(FIRST.0, FIRST.1)));
        }
    }

    /// When the next look is due.
    pub(crate) const fn next_deadline(&self) -> Option<Time> {
        self.next
    }

    fn proven(&self) -> Option<(&EniId, &Suspect)> {
        self.suspects.iter().find(|(_, suspect)| suspect.proven)
    }
}

impl Pool {
    /// The next step of the search: look, ask for the owners, delete what is proven. One call at a time.
    pub(crate) fn tend_leaks(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.leaks.begin(now, &mut self.jitter);
        let busy = |about: &About| {
            matches!(about, About::FindDetached | About::DescribeInstances { .. } | About::DeleteLeak { .. })
        };
        if self.cordoned || self.requests.queued() > 0 || self.ops.any(busy) {
            return;
        }
        let due = self.leaks.next.is_some_and(|at| at <= now);
        if let Some((eni, _)) = self.leaks.proven()
            && self.settings.leaks == LeakPolicy::Delete
        {
            let eni = eni.clone();
            let call = Ec2Call::Delete { eni: eni.clone() };
            self.leak_call(now, About::DeleteLeak { eni }, call, out);
        } else if !self.leaks.to_judge.is_empty() {
            let mut ids: Vec<InstanceId> = self.leaks.to_judge.iter().map(|(_, o)| o.clone()).collect();
            ids.sort_unstable();
            ids.dedup();
            ids.truncate(OWNERS_MAX);
            self.leak_call(
                now,
                About::DescribeInstances { ids: ids.clone() },
                Ec2Call::DescribeInstances { ids },
                out,
            );
        } else if due {
            self.leak_call(now, About::FindDetached, Ec2Call::FindDetached, out);
        }
    }

    fn leak_call(&mut self, now: Time, about: About, call: Ec2Call, out: &mut Vec<Effect>) {
        let action = Action::of(&call);
        if self.closed(action, Urgency::Leaks, now).is_some() {
            return;
        }
        self.budget.take(action, now);
        let op = self.ops.open(about, now, None);
        out.push(Effect::Ec2 { op, call });
    }

    /// A look: own ENIs go the usual way, those of others become suspects once their owner is known to be dead.
    pub(crate) fn see_detached(&mut self, now: Time, seen: &[ObservedEni], out: &mut Vec<Effect>) {
        self.leaks.next = Some(now.after(self.jitter.between(EVERY.0, EVERY.1)));
        let ours = self.settings.instance.clone();
        for eni in seen {
            let mine = tag(eni, TAG_INSTANCE) == Some(ours.as_str());
            if mine && self.ledger.slot_of(&eni.id).is_none() {
                self.meet(now, eni, &State::Cooling { since: now, sandbox: None }, out);
            }
        }
        let cluster = self.settings.cluster.as_deref();
        let candidates: Vec<Found> = seen
            .iter()
            .filter_map(|eni| match leak_verdict(eni, cluster, &[]) {
                LeakVerdict::Leaked(owner) | LeakVerdict::OwnerAlive(owner) if owner != ours => {
                    Some((eni.id.clone(), owner))
                }
                LeakVerdict::Leaked(_)
                | LeakVerdict::OwnerAlive(_)
                | LeakVerdict::InUse
                | LeakVerdict::NotOurs
                | LeakVerdict::OtherCluster => None,
            })
            .collect();
        self.leaks.suspects.retain(|id, _| candidates.iter().any(|(found, _)| found == id));
        self.leaks.to_judge = if self.settings.leaks == LeakPolicy::Ignore { Vec::new() } else { candidates };
    }

    /// Which of the owners asked for exist.
    pub(crate) fn see_owners(
        &mut self,
        now: Time,
        asked: &[InstanceId],
        alive: &[InstanceId],
        out: &mut Vec<Effect>,
    ) {
        let trusting = self.planted(Bug::IgnoresOwner);
        let (judged, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.leaks.to_judge)
            .into_iter()
            .partition(|(_, owner)| asked.contains(owner));
        self.leaks.to_judge = rest;
        let mut again = false;
        for (eni, owner) in judged {
            if alive.contains(&owner) && !trusting {
                self.leaks.suspects.remove(&eni);
                continue;
            }
            let known = self.leaks.suspects.entry(eni.clone()).or_insert_with(|| Suspect {
                owner: owner.clone(),
                since: None,
                proven: false,
            });
            let since = *known.since.get_or_insert(now);
            let proven = now.since(since) >= PROVEN_AFTER || trusting;
            if proven && !known.proven {
                let deleted = self.settings.leaks == LeakPolicy::Delete;
                out.push(Effect::Explain(Cause::LeakedEni { eni, owner, deleted }));
            }
            known.proven |= proven;
            again |= !proven;
        }
        if again {
            let next = now.after(PROVEN_AFTER);
            self.leaks.next = Some(self.leaks.next.map_or(next, |at| at.min(next)));
        }
    }

    /// A proven leak is deleted.
    pub(crate) fn leak_deleted(&mut self, eni: &EniId) {
        self.leaks.suspects.remove(eni);
    }

    /// A step failed. A leak that cannot be deleted is forgotten: the next look finds it again.
    pub(crate) fn leak_failed(
        &mut self,
        now: Time,
        about: &About,
        failure: &Ec2Failure,
        out: &mut Vec<Effect>,
    ) {
        let Some(action) = Action::about(about) else { return };
        if failure.class == FailureClass::Throttled {
            return;
        }
        let cause = cause_of(action, failure, None);
        if let About::DeleteLeak { eni } = about {
            self.leaks.suspects.remove(eni);
        }
        self.leaks.to_judge.clear();
        self.leaks.next = Some(now.after(self.jitter.between(AGAIN.0, AGAIN.1)));
        if !matches!(failure.class, FailureClass::NotFound | FailureClass::Busy) {
            out.push(Effect::Explain(cause));
        }
    }

    /// ENIs that dead nodes may have left behind, as far as this node has looked.
    #[must_use]
    pub fn leaks(&self) -> Vec<LeakRow> {
        let rows = self.leaks.suspects.iter().map(|(eni, suspect)| LeakRow {
            eni: eni.clone(),
            owner: suspect.owner.clone(),
            since: suspect.since,
            proven: suspect.proven,
        });
        rows.collect()
    }
}
