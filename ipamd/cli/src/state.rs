//! What a ledger's records amount to: the same rules as a daemon's that recovers from them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use podwire_ledger::View;
use podwire_pool::record::{EniRecord, EniStage};
use podwire_pool::settings::{LEAK_PROOF, LeakPolicy, Limits, Mode, Settings, Share, SubnetPolicy, Warm};
use podwire_pool::{BootId, EniId, GrowBy, InstanceId, PodRef, Pool, Record, SandboxKey, Time};

use crate::clock::Clock;

/// An ENI and what it carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eni {
    /// What is remembered of it.
    pub record: EniRecord,
    /// What is assigned to it, and since when.
    pub nets: BTreeMap<IpNetwork, Time>,
}

/// A sandbox that holds addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub sandbox: SandboxKey,
    /// Whose.
    pub pod: PodRef,
    /// What.
    pub addresses: Vec<IpAddr>,
    /// When its ADD began.
    pub since: Time,
}

/// A mutating EC2 call whose outcome is not in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Its number.
    pub op: u64,
    /// What it is about.
    pub what: String,
}

/// What a ledger says is so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// ENIs by id.
    pub enis: BTreeMap<EniId, Eni>,
    /// Sandboxes, by key.
    pub held: Vec<Held>,
    /// Addresses that rest, and since when.
    pub cooling: BTreeMap<IpAddr, Time>,
    /// DELs remembered.
    pub tombstones: usize,
    /// Calls without an outcome.
    pub open: Vec<Open>,
}

impl State {
    /// What the file says.
    #[must_use]
    pub fn of(view: &View, clock: Clock) -> Self {
        let now = clock.now().unwrap_or_else(|| latest(&view.records));
        let settings = settings(&view.instance, &view.boot, view.cooldown);
        // The file counts as of its own boot: a person asks what it says, not what a daemon of today would do with it.
        let pool = Pool::recover(settings, true, view.records.clone(), now);
        let mut state = Self::default();
        for record in pool.snapshot() {
            state.take(record);
        }
        if let Some(cooldown) = view.cooldown {
            state.cooling.retain(|_, since| now < since.after(cooldown));
        }
        state
    }

    fn take(&mut self, record: Record) {
        match record {
            Record::Eni(record) => {
                self.enis.insert(record.id.clone(), Eni { record, nets: BTreeMap::new() });
            }
            Record::Assigned { eni, net, at } => {
                if let Some(eni) = self.enis.get_mut(&eni) {
                    eni.nets.insert(net, at);
                }
            }
            Record::Allocated { sandbox, pod, addresses, at } => {
                // Noted again where its ADD came again.
                self.held.retain(|held| held.sandbox != sandbox);
                self.held.push(Held { sandbox, pod, addresses, since: at });
            }
            Record::Released { sandbox, addresses, at, .. } => {
                self.held.retain(|held| held.sandbox != sandbox);
                self.cooling.extend(addresses.into_iter().map(|ip| (ip, at)));
            }
            Record::Tombstone { .. } => self.tombstones += 1,
            Record::Intent { op, create, eni } => self.open.push(Open { op: op.0, what: what(create, eni) }),
            Record::EniGone { .. }
            | Record::Unassigned { .. }
            | Record::Settled { .. }
            | Record::OpsUsed { .. } => {}
        }
    }

    /// The ENI that carries an address.
    #[must_use]
    pub fn carrier(&self, address: IpAddr) -> Option<&Eni> {
        self.enis.values().find(|eni| eni.nets.keys().any(|net| net.contains(address)))
    }
}

impl Eni {
    /// How many addresses are assigned to it.
    #[must_use]
    pub fn addresses(&self) -> u32 {
        let sizes = self.nets.keys().map(|net| match net {
            IpNetwork::V4(v4) => v4.size(),
            IpNetwork::V6(_) => 1,
        });
        sizes.sum()
    }

    /// How many of what is assigned to it are prefixes.
    #[must_use]
    pub fn prefixes(&self) -> usize {
        self.nets.keys().filter(|net| net.is_ipv4() && net.prefix() < 32).count()
    }

    /// How far its life has come.
    #[must_use]
    pub const fn stage(&self) -> &'static str {
        match self.record.stage {
            EniStage::Created => "created",
            EniStage::Attached => "attached",
            EniStage::Borrowed => "borrowed",
            EniStage::Leaving => "leaving",
        }
    }
}

fn what(create: Option<GrowBy>, eni: Option<EniId>) -> String {
    match (create, eni) {
        (Some(GrowBy::Addresses(count)), _) => format!("create an ENI with {count} addresses"),
        (Some(GrowBy::Prefixes(count)), _) => format!("create an ENI with {count} prefixes"),
        (None, Some(eni)) => format!("change of {eni}"),
        (None, None) => "unknown".into(),
    }
}

/// The newest moment that records name.
fn latest(records: &[Record]) -> Time {
    let times = records.iter().filter_map(|record| match record {
        Record::Assigned { at, .. }
        | Record::Unassigned { at, .. }
        | Record::Allocated { at, .. }
        | Record::Released { at, .. }
        | Record::Tombstone { at, .. } => Some(*at),
        Record::Eni(_)
        | Record::EniGone { .. }
        | Record::Intent { .. }
        | Record::Settled { .. }
        | Record::OpsUsed { .. } => None,
    });
    times.max().unwrap_or_default()
}

/// Replaying needs a pool, and a pool needs settings; none of these changes what a snapshot says.
fn settings(instance: &InstanceId, boot: &BootId, cooldown: Option<Duration>) -> Settings {
    Settings {
        instance: instance.clone(),
        boot: boot.clone(),
        mode: Mode::SecondaryIp,
        warm: Warm::DemandDriven,
        limits: Limits { enis: 64, ipv4_per_eni: 64 },
        max_eni: None,
        max_pods: 1024,
        primary_excluded: false,
        manage_untagged: true,
        cooldown: cooldown.unwrap_or_default(),
        cluster: None,
        subnets: SubnetPolicy::default(),
        leaks: LeakPolicy::Ignore,
        leak_proof: LEAK_PROOF,
        share: Share::default(),
        gather: Duration::ZERO,
        seed: 0,
    }
}
