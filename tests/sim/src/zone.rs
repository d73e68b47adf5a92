//! The zone around the node: other subnets with their tags and floors, ENIs of other nodes, a cordon, security groups.

use podwire_pool::settings::{LeakPolicy, SubnetPolicy};
use podwire_pool::{Ec2Call, EniConfig, GroupId, Input, InstanceId, SubnetId};

use crate::ec2::Subnet;
use crate::oracle::Violation;
use crate::world::World;
use crate::{Choose, Seeded};

/// Tag by which subnets are allowed or forbidden.
const ROLE: &str = "kubernetes.io/role/cni";

/// What happens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The node is cordoned, or no longer.
    Cordon(bool),
    /// A detached ENI of another node appears: 0 of a dead node of this cluster, 1 of a living one, 2 of a dead node of
    /// another cluster, 3 of a dead node of nobody's cluster, 4 as 0 but not to be managed.
    LeftBehind(u8),
    /// An operator asks what dead nodes left behind; orders its collection, or not.
    LeaksAsked(bool),
    /// The primary ENI gets this security group.
    Regroup(u8),
    /// Another subnet has so many free addresses.
    Subnet(usize, u32, bool),
}

/// Furnishes the zone of a seed.
pub fn furnish(seed: &mut Seeded, world: &mut World) {
    world.settings.cluster = seed.once_in(2).then(|| "ours".into());
    world.settings.subnets = SubnetPolicy { discovery: seed.once_in(2), floor: [0, 0, 3, 16][seed.pick(4)] };
    world.settings.share.nodes = seed.once_in(4).then_some(200);
    world.settings.leaks = [LeakPolicy::Delete, LeakPolicy::Delete, LeakPolicy::DryRun][seed.pick(3)];
    // Not drawn by itself: what follows from a seed stays as it was.
    let lends = world.settings.share.nodes.is_none() && world.settings.subnets.floor == 3;
    world.settings.manage_untagged = lends;
    world.ec2.lends_untagged = lends;
    world.ec2.cluster.clone_from(&world.settings.cluster);
    world.ec2.others.insert(InstanceId::new("i-alive"));
    if seed.once_in(8) {
        world.ec2.home().tags.push((ROLE.into(), ["0", "1"][seed.pick(2)].into()));
    }
    for number in 1..=u8::try_from(seed.pick(3)).unwrap_or(0) {
        let free = [1_000, 40, 4][seed.pick(3)];
        let mut subnet = Subnet::new(number, free).tagged(ROLE, ["1", "1", "0", ""][seed.pick(4)]);
        subnet.fragmented = seed.once_in(3);
        if seed.once_in(4) {
            let name = ["ours", "theirs"][seed.pick(2)];
            subnet = subnet.tagged(&format!("cni.networking.k8s.aws/cluster/{name}"), "shared");
        }
        world.ec2.subnets.push(subnet);
    }
    world.begin_anew();
}

/// What happens out of the blue, once in a while.
pub fn weather(seed: &mut Seeded) -> Option<Event> {
    if !seed.once_in(60) {
        return None;
    }
    let n = u8::try_from(seed.pick(5)).unwrap_or(0);
    Some(match seed.pick(5) {
        0 if n == 4 => Event::LeaksAsked(seed.once_in(2)),
        0 => Event::Cordon(seed.once_in(2)),
        1 | 2 => Event::LeftBehind(n),
        3 => Event::Regroup(n),
        _ => Event::Subnet(seed.pick(3), [0, 4, 40, 1_000][seed.pick(4)], seed.once_in(3)),
    })
}

impl World {
    /// The first life of the pool with the settings as they are by now.
    pub fn begin_anew(&mut self) {
        self.pool = podwire_pool::Pool::new(self.settings.clone());
        #[cfg(feature = "planted")]
        if let Some(bug) = self.bug {
            self.pool.plant(bug);
        }
    }

    /// What a daemon is told when it begins.
    pub(crate) fn introduce(&mut self) -> Result<(), Violation> {
        if self.settings.primary_excluded {
            let subnet = SubnetId::new(format!("subnet-{}", self.ec2.subnets.len()));
            self.input(Input::EniConfig(Some(EniConfig { subnet, groups: Vec::new() })))?;
        }
        self.input(Input::Cordoned(self.told.cordoned))
    }

    pub(crate) fn zone(&mut self, event: Event) -> Result<(), Violation> {
        self.ec2.remember(self.now);
        match event {
            Event::Cordon(cordoned) => {
                self.told.cordoned = cordoned;
                self.marks.sometimes("cordoned", cordoned);
                return self.input(Input::Cordoned(cordoned));
            }
            Event::LeaksAsked(delete) => self.ask_for_leaks(delete),
            Event::LeftBehind(kind) => {
                let owner = InstanceId::new(if kind == 1 { "i-alive" } else { "i-dead" });
                let ours = self.ec2.cluster.clone();
                let cluster = match kind {
                    2 => Some("theirs"),
                    3 => None,
                    _ => ours.as_deref(),
                };
                let id = self.ec2.leave_behind(&owner, cluster);
                if kind == 4
                    && let Some(eni) = self.ec2.enis.get_mut(&id)
                {
                    eni.seen.tags.push(("node.k8s.amazonaws.com/no_manage".into(), "true".into()));
                }
            }
            Event::Regroup(number) => {
                let first = |e: &&mut crate::ec2::TrueEni| {
                    e.seen.place.as_ref().is_some_and(|(_, device)| device.0 == 0)
                };
                if let Some(eni) = self.ec2.enis.values_mut().find(first) {
                    eni.seen.groups = vec![GroupId::new(format!("sg-{number}"))];
                }
            }
            Event::Subnet(which, free, fragmented) => {
                if let Some(subnet) = self.ec2.subnets.get_mut(which) {
                    subnet.free = free;
                    subnet.fragmented = fragmented;
                }
            }
        }
        Ok(())
    }

    /// Rare calls.
    pub(crate) fn mark_zone(&mut self, call: &Ec2Call) {
        let home = self.ec2.home().id.clone();
        let elsewhere = matches!(call, Ec2Call::Create { subnet, .. } if *subnet != home);
        let leak = matches!(call, Ec2Call::Delete { eni } if self.ec2.enis.get(eni).is_some_and(|e| !e.ours));
        self.marks.sometimes("ENI in another subnet", elsewhere);
        self.marks.sometimes("leak deleted", leak);
    }

    /// Whether a subnet's tags keep pods out, as far as the pool looks at them.
    pub(crate) fn kept_out(&self, subnet: &SubnetId) -> bool {
        let cluster = self.settings.cluster.as_deref();
        !self.settings.primary_excluded
            && self.ec2.subnets.iter().any(|s| s.id == *subnet && s.keeps_out(cluster))
    }

    /// Whether new ENIs have somewhere to go.
    pub(crate) fn has_subnet(&self) -> bool {
        let cluster = self.settings.cluster.as_deref();
        let most = if self.settings.subnets.discovery { self.ec2.subnets.len() } else { 1 };
        let mut places = self.ec2.subnets.iter().enumerate().take(most);
        self.settings.primary_excluded || places.any(|(n, s)| s.takes_enis(cluster, n == 0))
    }
}
