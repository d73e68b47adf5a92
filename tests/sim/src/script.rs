//! A world that obeys, for named scenarios: what happens is written down, everything else takes its usual time.

use std::net::IpAddr;

use podwire_pool::settings::{LEAK_PROOF, LeakPolicy, Limits, Mode, Share, SubnetPolicy, Warm};
use podwire_pool::{BootId, Ec2Call, InstanceId, OpId, Settings};

use crate::ec2::Ec2;
use crate::oracle::{Violation, broken};
use crate::runtime::Life;
use crate::world::{Action, Blur, Fate, Open, World, ms};

/// What things take. *Unit*: ms. *Source*: design §7 (EC2 model).
const EC2_TAKES: u64 = 300;
const HOST_TAKES: u64 = 5;

/// A scenario being played.
#[derive(Debug)]
pub struct Script {
    /// The world.
    pub world: World,
    /// What becomes of each EC2 call from now on.
    pub fate: Fate,
    /// What becomes of some calls instead; the number counts all calls so far.
    pub fate_of: fn(&Ec2Call, u64) -> Option<Fate>,
    calls: u64,
    /// EC2 does not answer at all.
    pub silent: bool,
    /// The host's changes fail.
    pub host_works: bool,
    due: Vec<(u64, OpId)>,
}

impl Script {
    /// A node of this size, booted and observed.
    ///
    /// # Errors
    /// A violation on the way.
    pub fn boot(settings: Settings, pods: usize) -> Result<Self, Violation> {
        Self::boot_in(settings, pods, |_| {})
    }

    /// The same in a zone of one's own.
    ///
    /// # Errors
    /// A violation on the way.
    pub fn boot_in(
        settings: Settings,
        pods: usize,
        furnish: impl FnOnce(&mut Ec2),
    ) -> Result<Self, Violation> {
        let limits = settings.limits;
        let slots = usize::try_from(limits.ipv4_per_eni).unwrap_or(1) - 1;
        let mut ec2 = Ec2::new(usize::try_from(limits.enis).unwrap_or(1), slots, 10_000);
        ec2.cluster.clone_from(&settings.cluster);
        furnish(&mut ec2);
        let mut world = World::new(settings, ec2, pods);
        world.introduce()?;
        let mut script = Self {
            world,
            fate: Fate::Plain,
            fate_of: |_, _| None,
            calls: 0,
            silent: false,
            host_works: true,
            due: Vec::new(),
        };
        script.world.step(&Action::Metadata(0, Blur::Clear))?;
        Ok(script)
    }

    /// An action of the scenario.
    ///
    /// # Errors
    /// The invariant it breaks.
    pub fn act(&mut self, action: Action) -> Result<(), Violation> {
        self.world.step(&action)
    }

    /// The daemon is told something.
    ///
    /// # Errors
    /// The invariant it breaks.
    pub fn input(&mut self, input: podwire_pool::Input) -> Result<(), Violation> {
        self.world.input(input)
    }

    /// Pods start at once.
    ///
    /// # Errors
    /// The invariant it breaks.
    pub fn start(&mut self, pods: std::ops::Range<usize>) -> Result<(), Violation> {
        pods.into_iter().try_for_each(|pod| self.act(Action::Start(pod, false)))
    }

    /// Pods are torn down at once.
    ///
    /// # Errors
    /// The invariant it breaks.
    pub fn stop(&mut self, pods: std::ops::Range<usize>) -> Result<(), Violation> {
        pods.into_iter().try_for_each(|pod| self.act(Action::Stop(pod)))
    }

    /// So many milliseconds pass.
    ///
    /// # Errors
    /// The invariant broken meanwhile.
    pub fn pass(&mut self, later: u64) -> Result<(), Violation> {
        let end = self.world.now + later;
        for _ in 0..200_000 {
            self.at_once()?;
            let next = self.due.iter().map(|(at, _)| *at).min().unwrap_or(u64::MAX).min(end);
            let deadline = self.world.pool_deadline().unwrap_or(u64::MAX);
            if next.min(deadline) > self.world.now {
                self.act(Action::Wait(next.min(deadline)))?;
            }
            if self.world.now >= end && self.due.iter().all(|(at, _)| *at > end) {
                return self.at_once();
            }
            self.answer_due()?;
        }
        broken("L5", "the pool never comes to rest".to_owned())
    }

    /// What takes no time: messages, the disk, pods that are forgotten.
    fn at_once(&mut self) -> Result<(), Violation> {
        loop {
            let message = self.world.runtime.messages.iter().find(|(_, m)| !m.arrived).map(|(r, _)| *r);
            if let Some(request) = message {
                self.act(Action::Arrive(request))?;
            } else if !self.world.disk.unsynced.is_empty() {
                self.act(Action::Fsync)?;
            } else if let Some(pod) = self.world.runtime.pods.iter().position(|p| p.life == Life::Deleted) {
                self.act(Action::Forget(pod))?;
            } else {
                break;
            }
        }
        for (op, open) in &self.world.open {
            if self.due.iter().any(|(_, known)| known == op) {
                continue;
            }
            let takes = match open {
                Open::Ec2(..) if self.silent => continue,
                Open::Ec2(..) => EC2_TAKES,
                Open::Host(_) => HOST_TAKES,
            };
            self.due.push((self.world.now + takes, *op));
        }
        Ok(())
    }

    fn answer_due(&mut self) -> Result<(), Violation> {
        let now = self.world.now;
        let ready: Vec<OpId> = self.due.iter().filter(|(at, _)| *at <= now).map(|(_, op)| *op).collect();
        self.due.retain(|(at, _)| *at > now);
        for op in ready {
            match self.world.open.get(&op) {
                Some(Open::Ec2(call, _)) => {
                    self.calls += 1;
                    let fate = (self.fate_of)(call, self.calls).unwrap_or(self.fate);
                    self.act(Action::Exec(op, fate, 0))?;
                    self.act(Action::Reply(op))?;
                }
                Some(Open::Host(_)) => self.act(Action::Host(op, self.host_works))?,
                None => {}
            }
        }
        Ok(())
    }

    /// The runtime loses a sandbox without a word: no DEL will come (testing.md A1, broken).
    pub fn vanish(&mut self, pod: usize) {
        if let Some(slot) = self.world.runtime.pods.get_mut(pod) {
            if let Life::Live(ip) = slot.life {
                self.world.oracle.rests.insert(ip, self.world.now);
            }
            slot.life = Life::Idle;
        }
    }

    /// The API server tells of so many pods, or cannot be reached.
    ///
    /// # Errors
    /// The invariant it breaks.
    pub fn demand(&mut self, bound: Option<u32>) -> Result<(), Violation> {
        self.world.tell_demand(bound)
    }

    /// Pods that live on an address that does not work: black holes.
    #[must_use]
    pub fn black_holes(&self) -> Vec<IpAddr> {
        let living = (0..self.world.runtime.pods.len()).filter_map(|pod| self.address(pod));
        living.filter(|ip| !self.world.works(*ip)).collect()
    }

    /// The address a pod lives on.
    #[must_use]
    pub fn address(&self, pod: usize) -> Option<IpAddr> {
        match self.world.runtime.pods.get(pod)?.life {
            Life::Live(ip) => Some(ip),
            Life::Idle | Life::Adding(_) | Life::Failed | Life::Deleting(_) | Life::Deleted => None,
        }
    }

    /// How many pods live.
    #[must_use]
    pub fn living(&self) -> usize {
        (0..self.world.runtime.pods.len()).filter(|n| self.address(*n).is_some()).count()
    }

    /// Pod addresses or prefixes on ENIs of ours, in truth.
    #[must_use]
    pub fn held(&self) -> usize {
        let ours = self.world.ec2.enis.values().filter(|e| e.ours);
        ours.map(|e| e.seen.singles.len() + e.seen.prefixes.len()).sum()
    }

    /// ENIs attached to the instance, in truth.
    #[must_use]
    pub fn enis(&self) -> usize {
        self.world.ec2.enis.values().filter(|e| e.seen.place.is_some()).count()
    }
}

/// An m5.xlarge with default settings: 4 ENIs with 15 addresses each.
#[must_use]
pub fn settings() -> Settings {
    Settings {
        instance: InstanceId::new("i-1"),
        boot: BootId::new("boot-0"),
        mode: Mode::SecondaryIp,
        warm: Warm::DemandDriven,
        limits: Limits { enis: 4, ipv4_per_eni: 15 },
        max_eni: None,
        max_pods: 58,
        primary_excluded: false,
        manage_untagged: false,
        cooldown: ms(30_000),
        cluster: None,
        subnets: SubnetPolicy { discovery: false, floor: 0 },
        leaks: LeakPolicy::Ignore,
        leak_proof: LEAK_PROOF,
        share: Share::default(),
        gather: ms(20),
        seed: 7,
    }
}
