//! Life of an ENI: created, attaching, attached (and configured on the host), leaving.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::address::{Counts, ReadyKey};
use crate::backoff::Backoff;
use crate::ids::{AttachmentId, DeviceIndex, EniId, GroupId, Mac, NetworkCard, OpId, SubnetId};
use crate::input::ObservedEni;
use crate::record::{EniRecord, EniStage};
use crate::settings::Settings;
use crate::time::Time;

/// The pool's own short name of an ENI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot(pub(crate) u32);

crate::text::wraps!(Slot);

/// Tag that says which node an ENI belongs to. *Source*: incumbent-behaviour §5.6.
pub(crate) const TAG_INSTANCE: &str = "node.k8s.amazonaws.com/instance_id";
/// Tag that says when an ENI was made. *Source*: incumbent-behaviour §5.6.
pub(crate) const TAG_CREATED_AT: &str = "node.k8s.amazonaws.com/createdAt";
/// Tag that keeps an ENI out of our hands. *Source*: incumbent-behaviour §5.6.
pub(crate) const TAG_NO_MANAGE: &str = "node.k8s.amazonaws.com/no_manage";
/// Tag of ours: the operation that created the ENI, so that one created with an unknown outcome is found again.
pub(crate) const TAG_OP: &str = "podwire.io/op";

/// Whose an ENI is (design D6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// The instance's first one: ours without any tag, never given back.
    Primary,
    /// Ours.
    Secondary,
    /// Without tags, and ours to use by `MANAGE_UNTAGGED_ENI`; it becomes ours by our tags before anything is changed.
    Borrowed,
    /// Seen by metadata only, which knows no tags: not touched until a Describe tells.
    Unverified,
    /// Somebody else's, or a kind that carries no pods: never touched, but it takes a place.
    Foreign,
}

crate::text::variants!(Role { Primary, Secondary, Borrowed, Unverified, Foreign });

/// How far an ENI's life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// EC2 made it; to be attached.
    Created,
    /// Attached, as far as we know.
    Attached,
    /// On its way out.
    Leaving(Exit),
}

crate::text::variants!(Stage { Created, Attached, Leaving(a) });

/// Steps of the way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Exit {
    /// Decided; not on disk yet.
    Marked,
    /// The host still knows it.
    Unhost,
    /// Still attached.
    Detach,
    /// Detached; still exists.
    Delete,
}

crate::text::variants!(Exit { Marked, Unhost, Detach, Delete });

/// Why nothing is asked of EC2 for an ENI until a Describe answers (design D3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Doubt {
    /// Since when.
    pub(crate) since: Time,
    /// Only a Describe asked at or after this moment can lift it.
    pub(crate) asked_from: Time,
    /// What it carries is doubtful too, so nothing of it is handed out: after a crash it is not known which blocks were
    /// about to go. A call of this life names what it may have changed; the rest is as EC2 confirmed it before, and is
    /// handed out however long EC2 stays silent (design D14).
    pub(crate) withholds: bool,
}

crate::text::fields!(Doubt { since, asked_from, withholds });

/// EC2 does not show an ENI as attached here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Missing {
    /// Since when; where it does not exist either, since it does not.
    pub(crate) since: Time,
    /// Whether the newest Describe showed it at all.
    pub(crate) exists: bool,
}

crate::text::fields!(Missing { since, exists });

/// One ENI.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Eni {
    pub(crate) id: EniId,
    pub(crate) mac: Mac,
    pub(crate) attachment: Option<AttachmentId>,
    pub(crate) card: NetworkCard,
    pub(crate) device: DeviceIndex,
    pub(crate) subnet: SubnetId,
    pub(crate) subnet_cidr: Option<IpNetwork>,
    pub(crate) groups: Vec<GroupId>,
    /// Its subnet's tags keep pods out.
    pub(crate) excluded: bool,
    pub(crate) primary: IpAddr,
    pub(crate) role: Role,
    /// Its tags were seen in this life of the daemon and say that it is ours. The ledger does not know whose an ENI was:
    /// one it remembers is not detached before EC2 has told.
    pub(crate) confirmed: bool,
    pub(crate) stage: Stage,
    /// The host sends its sources out by it.
    pub(crate) configured: bool,
    /// The one host change in flight for it.
    pub(crate) host_op: Option<OpId>,
    /// The one EC2 call in flight for it, the low-urgency attribute apart.
    pub(crate) ec2_op: Option<OpId>,
    /// The newest operation whose effect a Describe may not show yet.
    pub(crate) touched: OpId,
    /// When the last EC2 change of it ended or began.
    pub(crate) changed: Time,
    /// When it was attached, or first met.
    pub(crate) attached_at: Time,
    /// Unclear: nothing is asked of EC2 for it.
    pub(crate) doubt: Option<Doubt>,
    /// Places an assignment with an unknown outcome may have filled: what a Describe finds there is new.
    pub(crate) expects: u32,
    /// A Describe does not show it as attached here.
    pub(crate) missing: Option<Missing>,
    /// It is to be changed, and must carry our tags first (design D6).
    pub(crate) wants_tags: bool,
    /// EC2 should delete it with the instance, and does not know yet.
    pub(crate) wants_termination: bool,
    /// The call that tells it.
    pub(crate) termination_op: Option<OpId>,
    /// It was attached to this instance at some time.
    pub(crate) ever_attached: bool,
    /// This life made it, and gave it up before it was attached.
    pub(crate) for_nothing: bool,
    /// The place where EC2 would not attach it: somebody we do not see may have it.
    pub(crate) refused: Option<DeviceIndex>,
    /// The host should be told of it once more: something was learned.
    pub(crate) refresh: bool,
    /// What came with it or was assigned later.
    pub(crate) blocks: BTreeSet<IpNetwork>,
    /// Confirmed by EC2, not known to the host yet.
    pub(crate) adding: BTreeSet<IpNetwork>,
    /// Off it in EC2, still known to the host.
    pub(crate) dropping: BTreeSet<IpNetwork>,
    /// To be unassigned once more: the outcome of the first try is not known.
    pub(crate) stuck: BTreeSet<IpNetwork>,
    /// Unassigned lately: a Describe that still lists one may be old.
    pub(crate) lately_gone: BTreeMap<IpNetwork, Time>,
    /// Blocks with something to offer, in order of use.
    pub(crate) ready: BTreeSet<ReadyKey>,
    /// Numbers, kept with every change.
    pub(crate) counts: Counts,
    /// A smaller limit than the table's, learned from EC2, and until when it is believed.
    pub(crate) learned_slots: Option<(u32, Time)>,
    /// Wait before its next EC2 call.
    pub(crate) retry: Backoff,
    /// Wait before its next host change.
    pub(crate) host_retry: Backoff,
    /// Wait before EC2 is told again to delete it with the instance.
    pub(crate) termination_retry: Backoff,
    /// Since when we know it.
    pub(crate) since: Time,
}

crate::text::fields!(Eni {
    id,
    mac,
    attachment,
    card,
    device,
    subnet,
    subnet_cidr,
    groups,
    excluded,
    primary,
    role,
    confirmed,
    stage,
    configured,
    host_op,
    ec2_op,
    touched,
    changed,
    attached_at,
    doubt,
    expects,
    missing,
    wants_tags,
    wants_termination,
    termination_op,
    ever_attached,
    for_nothing,
    refused,
    refresh,
    blocks,
    adding,
    dropping,
    stuck,
    lately_gone,
    ready,
    counts,
    learned_slots,
    retry,
    host_retry,
    termination_retry,
    since
});

impl Eni {
    /// An ENI as somebody saw it.
    pub(crate) fn observed(seen: &ObservedEni, role: Role, stage: Stage, now: Time) -> Self {
        Self {
            id: seen.id.clone(),
            mac: seen.mac,
            attachment: seen.attachment.clone(),
            card: seen.card,
            device: seen.device,
            subnet: seen.subnet.clone(),
            subnet_cidr: seen.subnet_cidr,
            groups: seen.groups.clone(),
            excluded: false,
            primary: seen.primary,
            role,
            confirmed: role == Role::Secondary && seen.tags.is_some(),
            stage,
            configured: false,
            host_op: None,
            ec2_op: None,
            touched: OpId(0),
            changed: Time::default(),
            attached_at: now,
            doubt: None,
            expects: 0,
            missing: None,
            wants_tags: false,
            wants_termination: false,
            termination_op: None,
            ever_attached: !matches!(stage, Stage::Created | Stage::Leaving(Exit::Delete)),
            for_nothing: false,
            refused: None,
            refresh: false,
            blocks: BTreeSet::new(),
            adding: BTreeSet::new(),
            dropping: BTreeSet::new(),
            stuck: BTreeSet::new(),
            lately_gone: BTreeMap::new(),
            ready: BTreeSet::new(),
            counts: Counts::default(),
            learned_slots: None,
            retry: Backoff::default(),
            host_retry: Backoff::default(),
            termination_retry: Backoff::default(),
            since: now,
        }
    }

    /// An ENI as the ledger remembers it.
    pub(crate) fn remembered(record: &EniRecord, now: Time) -> Self {
        let seen = ObservedEni {
            id: record.id.clone(),
            mac: record.mac,
            attachment: record.attachment.clone(),
            instance: None,
            card: record.card,
            device: record.device,
            subnet: record.subnet.clone(),
            subnet_cidr: record.subnet_cidr,
            groups: record.groups.clone(),
            primary: record.primary,
            addresses: Vec::new(),
            prefixes: Vec::new(),
            kind: None,
            tags: None,
            attached: matches!(record.stage, EniStage::Attached | EniStage::Borrowed),
        };
        let stage = match record.stage {
            EniStage::Created => Stage::Created,
            EniStage::Attached | EniStage::Borrowed => Stage::Attached,
            EniStage::Leaving if is_primary(record.card, record.device) => Stage::Leaving(Exit::Delete),
            EniStage::Leaving => Stage::Leaving(Exit::Unhost),
        };
        let role = match record.stage {
            EniStage::Attached if is_primary(record.card, record.device) => Role::Primary,
            EniStage::Borrowed => Role::Borrowed,
            EniStage::Created | EniStage::Attached | EniStage::Leaving => Role::Secondary,
        };
        Self::observed(&seen, role, stage, now)
    }

    /// What the ledger should remember.
    pub(crate) fn record(&self) -> EniRecord {
        EniRecord {
            id: self.id.clone(),
            mac: self.mac,
            attachment: self.attachment.clone(),
            card: self.card,
            device: self.device,
            subnet: self.subnet.clone(),
            subnet_cidr: self.subnet_cidr,
            groups: self.groups.clone(),
            primary: self.primary,
            stage: match self.stage {
                Stage::Created => EniStage::Created,
                Stage::Attached if self.role == Role::Borrowed => EniStage::Borrowed,
                Stage::Attached => EniStage::Attached,
                Stage::Leaving(_) => EniStage::Leaving,
            },
        }
    }

    /// Whether it is one of ours at all.
    pub(crate) const fn ours(&self) -> bool {
        match self.role {
            Role::Primary | Role::Secondary | Role::Borrowed => true,
            Role::Unverified | Role::Foreign => false,
        }
    }

    /// Whether pods may live on it, once it is in order.
    pub(crate) const fn carries_pods(&self, settings: &Settings) -> bool {
        match self.role {
            Role::Primary => !settings.primary_excluded && !self.excluded,
            Role::Secondary | Role::Borrowed => !self.excluded,
            Role::Unverified | Role::Foreign => false,
        }
    }

    /// Whether it stays.
    pub(crate) const fn staying(&self) -> bool {
        match self.stage {
            Stage::Created | Stage::Attached => true,
            Stage::Leaving(_) => false,
        }
    }

    /// Whether its free addresses may be handed out now.
    pub(crate) fn usable(&self, settings: &Settings) -> bool {
        self.stage == Stage::Attached
            && self.configured
            && self.doubt.is_none_or(|doubt| !doubt.withholds)
            && self.missing.is_none()
            && self.carries_pods(settings)
    }

    /// Places that are left for addresses or prefixes.
    pub(crate) fn room(&self, settings: &Settings, now: Time) -> u32 {
        if !self.carries_pods(settings) || !self.staying() {
            return 0;
        }
        let mut places = settings.limits.ipv4_per_eni.saturating_sub(1);
        if let Some((learned, until)) = self.learned_slots
            && until > now
        {
            places = places.min(learned);
        }
        places.saturating_sub(self.counts.slots)
    }
}

/// Whether an attachment at this place is the instance's primary one.
pub(crate) fn is_primary(card: NetworkCard, device: DeviceIndex) -> bool {
    card == NetworkCard(0) && device == DeviceIndex(0)
}

/// The value of a tag, where tags are known.
pub(crate) fn tag<'a>(seen: &'a ObservedEni, key: &str) -> Option<&'a str> {
    let tags = seen.tags.as_ref()?;
    tags.iter().find(|(k, _)| &**k == key).map(|(_, v)| &**v)
}

/// Whose an observed ENI is (design D6).
pub(crate) fn role_of(seen: &ObservedEni, settings: &Settings) -> Role {
    let elsewhere = seen.instance.as_ref().is_some_and(|i| *i != settings.instance);
    // An ENI without IPv4 shows its IPv6 address as its own, an EFA-only one `::`; pods are IPv4 (cni PR#3681). Metadata may
    // not know a new one's address yet.
    match (elsewhere, seen.primary.is_ipv4(), &seen.tags) {
        (true, _, _) | (false, false, Some(_)) => return Role::Foreign,
        (false, false, None) => return Role::Unverified,
        (false, true, _) => {}
    }
    let kind = seen.kind.as_deref().unwrap_or("interface");
    // The first ENI of a node with an elastic fabric adapter is one itself, and carries pods like any other.
    let first = is_primary(seen.card, seen.device) && seen.attached;
    if first && matches!(kind, "interface" | "" | "efa") {
        return Role::Primary;
    }
    if !matches!(kind, "interface" | "") {
        return Role::Foreign;
    }
    if seen.tags.is_none() {
        return Role::Unverified;
    }
    if seen.card != NetworkCard(0) || tag(seen, TAG_NO_MANAGE) == Some("true") {
        return Role::Foreign;
    }
    match tag(seen, TAG_INSTANCE) {
        Some(owner) if owner == settings.instance.as_str() => Role::Secondary,
        Some(_) => Role::Foreign,
        None if settings.manage_untagged => Role::Borrowed,
        None => Role::Foreign,
    }
}

#[cfg(test)]
mod tests;
