//! Waiting after failures: how long, and why. A back-off always has an end and a reason (design D10).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cause::Cause;
use crate::effect::Ec2Call;
use crate::ids::{EniId, SubnetId};
use crate::input::{Ec2Failure, FailureClass};
use crate::jitter::Jitter;
use crate::ops::About;
use crate::time::Time;

/// Shortest wait: full jitter from zero could spin. *Source*: our choice.
const LEAST: Duration = Duration::from_millis(100);

/// One EC2 action, by which throttles and denials are remembered (buckets are per action, design D11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Action {
    Assign,
    Unassign,
    Create,
    Attach,
    Modify,
    Detach,
    Delete,
    Describe,
    DescribeSubnets,
    DescribeInstances,
    Tag,
}

crate::text::names!(Action {
    Assign,
    Unassign,
    Create,
    Attach,
    Modify,
    Detach,
    Delete,
    Describe,
    DescribeSubnets,
    DescribeInstances,
    Tag
});

impl Action {
    /// The action of a call.
    pub(crate) const fn of(call: &Ec2Call) -> Self {
        match call {
            Ec2Call::Assign { .. } => Self::Assign,
            Ec2Call::Unassign { .. } => Self::Unassign,
            Ec2Call::Create { .. } => Self::Create,
            Ec2Call::Attach { .. } => Self::Attach,
            Ec2Call::DeleteOnTermination { .. } | Ec2Call::SetGroups { .. } => Self::Modify,
            Ec2Call::Detach { .. } => Self::Detach,
            Ec2Call::Delete { .. } => Self::Delete,
            Ec2Call::Describe { .. } | Ec2Call::FindDetached => Self::Describe,
            Ec2Call::DescribeSubnets { .. } => Self::DescribeSubnets,
            Ec2Call::DescribeInstances { .. } => Self::DescribeInstances,
            Ec2Call::Tag { .. } => Self::Tag,
        }
    }

    /// The action of an operation; none for the host's.
    pub(crate) const fn about(about: &About) -> Option<Self> {
        match about {
            About::Assign { .. } => Some(Self::Assign),
            About::Unassign { .. } => Some(Self::Unassign),
            About::Create { .. } => Some(Self::Create),
            About::Attach { .. } => Some(Self::Attach),
            About::Terminate { .. } => Some(Self::Modify),
            About::Detach { .. } => Some(Self::Detach),
            About::Delete { .. } => Some(Self::Delete),
            About::Describe { .. } => Some(Self::Describe),
            About::SetGroups { .. } => Some(Self::Modify),
            About::DescribeSubnets => Some(Self::DescribeSubnets),
            About::FindDetached => Some(Self::Describe),
            About::DescribeInstances { .. } => Some(Self::DescribeInstances),
            About::Tag { .. } => Some(Self::Tag),
            About::DeleteLeak { .. } => Some(Self::Delete),
            About::Configure { .. }
            | About::AddSources { .. }
            | About::RemoveSources { .. }
            | About::RemoveEni { .. }
            | About::Forget { .. }
            | About::Flush { .. } => None,
        }
    }

    /// Whether it changes nothing.
    pub(crate) const fn reads(self) -> bool {
        match self {
            Self::Describe | Self::DescribeSubnets | Self::DescribeInstances => true,
            Self::Assign
            | Self::Unassign
            | Self::Create
            | Self::Attach
            | Self::Modify
            | Self::Detach
            | Self::Delete
            | Self::Tag => false,
        }
    }

    /// EC2's name of it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Assign => "AssignPrivateIpAddresses",
            Self::Unassign => "UnassignPrivateIpAddresses",
            Self::Create => "CreateNetworkInterface",
            Self::Attach => "AttachNetworkInterface",
            Self::Modify => "ModifyNetworkInterfaceAttribute",
            Self::Detach => "DetachNetworkInterface",
            Self::Delete => "DeleteNetworkInterface",
            Self::Describe => "DescribeNetworkInterfaces",
            Self::DescribeSubnets => "DescribeSubnets",
            Self::DescribeInstances => "DescribeInstances",
            Self::Tag => "CreateTags",
        }
    }
}

/// First and longest wait by class. *Source*: our choice; seconds where the world changes in seconds, minutes where a
/// person must act.
const fn span(class: FailureClass) -> (Duration, Duration) {
    match class {
        FailureClass::Throttled => (Duration::from_secs(1), Duration::from_secs(60)),
        FailureClass::SubnetExhausted | FailureClass::SubnetFragmented => {
            (Duration::from_secs(2), Duration::from_secs(30))
        }
        FailureClass::LimitExceeded | FailureClass::QuotaExceeded | FailureClass::Invalid => {
            (Duration::from_secs(5), Duration::from_secs(300))
        }
        FailureClass::Denied => (Duration::from_secs(20), Duration::from_secs(600)),
        FailureClass::NotFound | FailureClass::Busy => (Duration::from_secs(1), Duration::from_secs(15)),
        FailureClass::Unknown => (Duration::from_secs(1), Duration::from_secs(30)),
    }
}

/// The wait after repeated failures of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub(crate) struct Backoff {
    tries: u32,
    until: Option<Time>,
    cause: Option<Cause>,
}

crate::text::fields!(Backoff { tries, until, cause });

impl Backoff {
    /// Notes a failure; the next try is not before a jittered, doubling span.
    pub(crate) fn fail(&mut self, now: Time, class: FailureClass, cause: Cause, jitter: &mut Jitter) {
        let (first, longest) = span(class);
        let factor = 1u32.checked_shl(self.tries.min(16)).unwrap_or(u32::MAX);
        let most = first.saturating_mul(factor).min(longest);
        self.tries = self.tries.saturating_add(1);
        self.until = Some(now.after(jitter.between(LEAST.max(most / 4), most)));
        self.cause = Some(cause);
    }

    /// Not before then either; a longer wait stands.
    pub(crate) fn pause(&mut self, until: Time) {
        self.until = Some(self.until.map_or(until, |before| before.max(until)));
    }

    /// It worked: forget.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Failures in a row.
    pub(crate) const fn tries(&self) -> u32 {
        self.tries
    }

    /// Until when to wait, when that is still ahead.
    pub(crate) fn wait(&self, now: Time) -> Option<Time> {
        self.until.filter(|until| *until > now)
    }

    /// Whether a try is allowed now.
    pub(crate) fn open(&self, now: Time) -> bool {
        self.wait(now).is_none()
    }

    /// Why, while there is something to say.
    pub(crate) const fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }
}

/// What is remembered of one subnet.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub(crate) struct SubnetMemory {
    /// No free address: wait.
    pub(crate) exhausted: Backoff,
    /// No free /28 until then: single addresses instead.
    pub(crate) fragmented_until: Option<Time>,
    /// Ask for at most this many at once, after a larger request found too few.
    pub(crate) at_most: Option<u32>,
}

crate::text::fields!(SubnetMemory { exhausted, fragmented_until, at_most });

/// All back-offs that are not an ENI's own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub(crate) struct Gates {
    actions: BTreeMap<Action, Backoff>,
    subnets: BTreeMap<SubnetId, SubnetMemory>,
    /// New ENIs that this host could not use at all: the next one would hardly fare better.
    pub(crate) unusable: Backoff,
}

crate::text::fields!(Gates { actions, subnets, unusable });

impl Gates {
    /// The back-off of an action.
    pub(crate) fn action(&mut self, action: Action) -> &mut Backoff {
        self.actions.entry(action).or_default()
    }

    /// Until when the action must wait, and why.
    pub(crate) fn closed(&self, action: Action, now: Time) -> Option<(Time, Cause)> {
        let unusable = Some(&self.unusable).filter(|_| action == Action::Create);
        let gates = self.actions.get(&action).into_iter().chain(unusable);
        let waits = gates.filter_map(|gate| Some((gate.wait(now)?, gate.cause()?.clone())));
        waits.max_by_key(|(until, _)| *until)
    }

    /// The denial of an action that has not worked since.
    pub(crate) fn refused(&self, action: Action) -> Option<&Cause> {
        self.actions.get(&action)?.cause().filter(|cause| matches!(cause, Cause::Denied { .. }))
    }

    /// What is known of a subnet.
    pub(crate) fn subnet(&mut self, subnet: &SubnetId) -> &mut SubnetMemory {
        self.subnets.entry(subnet.clone()).or_default()
    }

    /// Until when the subnet must rest, and why.
    pub(crate) fn exhausted(&self, subnet: &SubnetId, now: Time) -> Option<(Time, Cause)> {
        let memory = self.subnets.get(subnet)?;
        Some((memory.exhausted.wait(now)?, memory.exhausted.cause()?.clone()))
    }

    /// Whether the subnet has no /28 for us now.
    pub(crate) fn fragmented(&self, subnet: &SubnetId, now: Time) -> bool {
        self.subnets.get(subnet).and_then(|m| m.fragmented_until).is_some_and(|until| until > now)
    }

    /// The most to ask the subnet for at once.
    pub(crate) fn at_most(&self, subnet: &SubnetId) -> u32 {
        self.subnets.get(subnet).and_then(|m| m.at_most).unwrap_or(u32::MAX)
    }

    /// The next end of a wait.
    pub(crate) fn next_deadline(&self, now: Time) -> Option<Time> {
        let actions = self.actions.values().filter_map(|b| b.wait(now));
        let subnets = self.subnets.values().filter_map(|m| m.exhausted.wait(now));
        actions.chain(subnets).chain(self.unusable.wait(now)).min()
    }
}

/// The cause that a failed call is to people.
pub(crate) fn cause_of(action: Action, failure: &Ec2Failure, subnet: Option<&SubnetId>) -> Cause {
    let other =
        || Cause::Ec2 { action: action.name(), code: failure.code.clone(), message: failure.message.clone() };
    match failure.class {
        FailureClass::Throttled => Cause::Throttled { action: action.name() },
        FailureClass::Denied => Cause::Denied { action: action.name(), message: failure.message.clone() },
        FailureClass::SubnetExhausted => {
            subnet.map_or_else(other, |s| Cause::SubnetExhausted { subnet: s.clone() })
        }
        FailureClass::SubnetFragmented => {
            subnet.map_or_else(other, |s| Cause::SubnetFragmented { subnet: s.clone() })
        }
        FailureClass::LimitExceeded
        | FailureClass::QuotaExceeded
        | FailureClass::NotFound
        | FailureClass::Busy
        | FailureClass::Invalid
        | FailureClass::Unknown => other(),
    }
}

/// The cause that a failed host change is to people.
pub(crate) fn host_cause(eni: &EniId, reason: &str) -> Cause {
    Cause::Host { eni: eni.clone(), reason: reason.into() }
}

#[cfg(test)]
mod tests;
