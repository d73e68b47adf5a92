//! EC2's state and rules, for one VPC: no sockets, no clock, no kernel.
//!
//! Time comes in as [`Millis`], randomness from the seed in [`CloudSpec`], and whatever must happen to packets goes out
//! through [`Wires`]. Every public method first lets the time pass that has gone by, so that the order of calls and
//! the times they carry decide everything: same spec, same calls, same times, same result.
//!
//! Methods by role: *life* ([`Cloud::new`], [`Cloud::run_instance`], [`Cloud::terminate_instance`], [`Cloud::tick`],
//! [`Cloud::next_event`]); *EC2 actions* (one method each, in `create`, `attach`, `assign`, `modify`, `tagging`,
//! `trunk`); *views* for the metadata service and for tests (`oracle`); *trouble* ([`Cloud::set_trouble`],
//! [`Cloud::admit`]).

mod agenda;
mod assign;
mod assign6;
mod attach;
mod build;
mod create;
mod delay;
mod eni;
mod error;
mod foreign;
mod history;
mod ids;
mod launch;
pub mod limits;
mod modify;
mod oracle;
mod place;
mod quota;
mod random;
mod space;
mod space6;
mod spec;
mod store;
mod tagging;
#[cfg(test)]
mod testbed;
mod time;
mod trunk;
mod view;
mod wildcard;
mod wiring;

use std::collections::BTreeMap;

pub use agenda::Event;
pub use assign::{Assigned, Wanted};
pub use assign6::{Assigned6, Wanted6};
pub use attach::AttachInterface;
pub use build::SpecError;
pub use create::CreateInterface;
pub use delay::Delay;
pub use eni::{Attachment, AttachmentStatus, Eni, InterfaceType, Tracking};
pub use error::{ApiError, status_of};
pub use history::{ActionCount, CallRecord, Caller, Outcome};
pub use ids::{
    AttachmentId, EniId, GroupId, InstanceId, PermissionId, SubnetId, TrunkAssociationId, VpcId, mac_text,
};
pub use modify::{AttachmentChange, Attribute, Permission};
pub use place::{Group, Instance, InstanceState, Subnet, Vpc};
pub use random::Random;
pub use space::{PREFIX_LEN, PREFIX_SIZE, Space, Taken};
pub use space6::{PREFIX6_LEN, Space6};
pub use spec::{
    CloudSpec, EKS_CNI_POLICY, GroupSpec, IngressPeer, IngressSpec, InstanceSpec, Placement, Quotas,
    ReservationKind, ReservationSpec, SubnetSpec, Tags, Timings,
};
pub use tagging::TagChange;
pub use time::{Millis, NotATime};
pub use trunk::{Protocol, TrunkAssociation};
pub use view::{Credentials, Holder, ImdsInterface, ImdsView, Launched, Stats};
pub use wildcard::wildcard;

pub(crate) use build::private_dns;
pub(crate) use error::{lower_camel, refuse};
pub(crate) use ids::Id;
use random::steady_unit;
pub(crate) use tagging::{no_such_group, no_vpc};
pub(crate) use trunk::no_association;

use crate::trouble::{Admission, Trouble, TroubleSettings};
use crate::wires::Wires;
use agenda::Agenda;
use create::Token;
use history::History;
use ids::Mint;
use launch::Key;
use store::{Reader, Store};

/// The simulated EC2 of one account in one Region, with one VPC.
pub struct Cloud {
    spec: CloudSpec,
    now: Millis,
    random: Random,
    mint: Mint,
    wires: Box<dyn Wires>,
    wire_faults: Vec<String>,
    vpc: Vpc,
    subnets: Store<SubnetId, Subnet>,
    spaces: BTreeMap<SubnetId, Spaces>,
    groups: BTreeMap<GroupId, Group>,
    default_group: GroupId,
    instances: Store<InstanceId, Instance>,
    enis: Store<EniId, Eni>,
    trunks: Store<TrunkAssociationId, TrunkAssociation>,
    permissions: BTreeMap<PermissionId, Permission>,
    tokens: BTreeMap<String, Token>,
    keys: BTreeMap<String, Key>,
    agenda: Agenda,
    trouble: Trouble,
    history: History,
}

impl std::fmt::Debug for Cloud {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cloud")
            .field("vpc", &self.vpc.id)
            .field("now", &self.now)
            .field("enis", &self.enis.len())
            .field("instances", &self.instances.len())
            .finish_non_exhaustive()
    }
}

/// A subnet's addresses of both families.
#[derive(Debug, Clone)]
struct Spaces {
    v4: Space,
    v6: Option<Space6>,
}

impl Cloud {
    /// Lets time pass: what is due happens, in the order in which it is due. Time never goes back.
    pub fn tick(&mut self, now: Millis) {
        while let Some((due, event)) = self.agenda.next_due(now) {
            self.now = self.now.max(due);
            self.happen(event);
            self.commit();
        }
        self.now = self.now.max(now);
    }

    /// When the next thing is due, if anything is: [`Self::tick`] then.
    #[must_use]
    pub fn next_event(&self) -> Option<Millis> {
        self.agenda.next()
    }

    /// The latest time the cloud has heard of.
    #[must_use]
    pub fn now(&self) -> Millis {
        self.now
    }

    /// What the cloud was made of.
    #[must_use]
    pub fn spec(&self) -> &CloudSpec {
        &self.spec
    }

    /// From now on this trouble, replacing what was set before.
    pub fn set_trouble(&mut self, settings: TroubleSettings) {
        self.trouble.set(settings);
    }

    /// The trouble that is set; counted faults show what is left of them.
    #[must_use]
    pub fn trouble(&self) -> &TroubleSettings {
        self.trouble.settings()
    }

    /// A call has arrived: what becomes of it. The server carries the verdict out.
    pub fn admit(&mut self, now: Millis, action: &str, mutating: bool) -> Admission {
        self.tick(now);
        let request = self.mint.uuid();
        self.trouble.admit(self.now, action, mutating, request)
    }

    /// A new request id, for answers to what was never let in.
    pub fn request_id(&mut self) -> String {
        self.mint.uuid()
    }

    /// Whether this caller may do this.
    ///
    /// # Errors
    /// `UnauthorizedOperation`.
    pub fn authorize(&self, caller: &Caller, action: &str) -> Result<(), ApiError> {
        self.trouble.authorize(&self.spec, caller, action)
    }

    /// What the API's own clock shows at this moment.
    #[must_use]
    pub fn endpoint_clock(&self, now: Millis) -> Millis {
        let seconds = self.trouble().clock_ahead_s;
        let off = seconds.unsigned_abs().saturating_mul(1_000);
        Millis(if seconds >= 0 { now.0.saturating_add(off) } else { now.0.saturating_sub(off) })
    }

    /// Remembers how a call ended.
    pub fn record(&mut self, call: CallRecord) {
        self.history.add(call);
    }

    /// Runs one action: time passes first; what it changed becomes visible to lagging readers from now on.
    fn act<T>(
        &mut self,
        now: Millis,
        action: impl FnOnce(&mut Self) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        self.tick(now);
        let result = action(self);
        self.commit();
        result
    }

    fn commit(&mut self) {
        for (id, spaces) in &self.spaces {
            let free = spaces.v4.free();
            if self.subnets.get(id).is_some_and(|subnet| subnet.free != free)
                && let Some(subnet) = self.subnets.get_mut(id)
            {
                subnet.free = free;
            }
        }
        self.subnets.commit(self.now, &mut self.random);
        self.instances.commit(self.now, &mut self.random);
        self.enis.commit(self.now, &mut self.random);
        self.trunks.commit(self.now, &mut self.random);
    }

    fn eni(&self, id: &EniId) -> Result<&Eni, ApiError> {
        self.enis.get(id).ok_or_else(|| refuse::no_eni(id))
    }

    /// The interface, if users may change it.
    fn own(&self, id: &EniId) -> Result<&Eni, ApiError> {
        let eni = self.eni(id)?;
        // An interface that an instance was launched with is known from the start.
        let unknown_for = self.trouble().new_id_lag.quantile(steady_unit(&[b"new", id.as_str().as_bytes()]));
        if eni.created.plus(unknown_for) > self.now && !eni.is_primary() {
            return Err(refuse::no_eni(id));
        }
        if eni.managed { Err(refuse::managed(id)) } else { Ok(eni) }
    }

    fn eni_mut(&mut self, id: &EniId) -> Result<&mut Eni, ApiError> {
        self.enis.get_mut(id).ok_or_else(|| refuse::no_eni(id))
    }

    fn spaces_mut(&mut self, id: &SubnetId) -> Result<&mut Spaces, ApiError> {
        self.spaces.get_mut(id).ok_or_else(|| refuse::no_subnet(id))
    }
}

/// What `Describe…` calls see: possibly an older state.
impl Cloud {
    /// The lag that one `Describe…` call meets; pass it to the `…_seen` methods.
    pub fn describe_lag(&mut self, now: Millis) -> Delay {
        self.tick(now);
        self.trouble.describe_lag()
    }

    /// The VPC.
    #[must_use]
    pub fn vpc(&self) -> &Vpc {
        &self.vpc
    }

    /// A subnet's availability zone and its id.
    #[must_use]
    pub fn zone_of(&self, subnet: &SubnetId) -> Option<(&str, &str)> {
        self.subnets.get(subnet).map(|subnet| (subnet.az.as_str(), subnet.az_id.as_str()))
    }

    /// Security groups, by id.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    /// Subnets as seen with this lag, by id.
    pub fn subnets_seen(&self, lag: Delay) -> impl Iterator<Item = &Subnet> {
        self.subnets.seen(Reader::Describe, lag, self.now)
    }

    /// Interfaces as seen with this lag, by id.
    pub fn enis_seen(&self, lag: Delay) -> impl Iterator<Item = &Eni> {
        self.enis.seen(Reader::Describe, lag, self.now)
    }

    /// Instances as seen with this lag, by id.
    pub fn instances_seen(&self, lag: Delay) -> impl Iterator<Item = &Instance> {
        self.instances.seen(Reader::Describe, lag, self.now)
    }

    /// Trunk associations as seen with this lag, by id.
    pub fn trunks_seen(&self, lag: Delay) -> impl Iterator<Item = &TrunkAssociation> {
        self.trunks.seen(Reader::Describe, lag, self.now)
    }
}
