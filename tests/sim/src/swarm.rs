//! What kind of world a seed gets: sizes, settings, and a mix of faults of which many are off (testing.md §5).

use podwire_pool::settings::{LEAK_PROOF, LeakPolicy, Limits, Mode, Share, SubnetPolicy, Warm};
use podwire_pool::{BootId, InstanceId, Settings};

use crate::ec2::Ec2;
use crate::world::{World, ms};
use crate::{Choose, Seeded};

/// How long something takes. *Unit*: ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    /// Usually between these.
    pub usual: (u64, u64),
    /// Once in so many times, up to this; zero: never.
    pub tail: (u64, u64),
}

impl Delay {
    /// One delay.
    pub fn draw(&self, seed: &mut Seeded) -> u64 {
        let (every, longest) = self.tail;
        if every > 0 && seed.below(every) == 0 {
            // Heavy tail: as likely to be among the seconds as among the minutes.
            let bits = 64 - longest.leading_zeros();
            let scale = seed.below(u64::from(bits.max(1)));
            return seed.below(longest.max(1) >> scale.min(63)).max(self.usual.0);
        }
        self.usual.0 + seed.below(self.usual.1.saturating_sub(self.usual.0) + 1)
    }
}

/// One in so many; zero: never.
pub type Odds = u64;

/// The world of a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swarm {
    /// Pod slots.
    pub pods: usize,
    /// What an fsync takes.
    pub disk: Delay,
    /// What EC2 takes until it does something, and until it says so.
    pub ec2: Delay,
    /// What the host takes.
    pub host: Delay,
    /// What a message to the daemon takes.
    pub wire: Delay,
    /// How long a pod lives, and how long its slot stays empty.
    pub life: Delay,
    /// Calls refused as throttled.
    pub throttle: Odds,
    /// Calls with an unknown outcome.
    pub lost: Odds,
    /// Partial grants.
    pub partial: Odds,
    /// Other refusals.
    pub refuse: Odds,
    /// Host changes that fail.
    pub host_fails: Odds,
    /// fsyncs that fail.
    pub disk_fails: Odds,
    /// Crashes, for each step.
    pub crash: Odds,
    /// Reboots, for each step.
    pub reboot: Odds,
    /// Ledgers lost, for each step.
    pub lost_ledger: Odds,
    /// Orderly restarts, for each step.
    pub restart: Odds,
    /// Times in which the daemon stands still, for each step.
    pub pause: Odds,
    /// Repeated ADDs, for each step.
    pub repeat: Odds,
    /// Plugins killed.
    pub kill: Odds,
    /// Metadata read, for each step.
    pub metadata: Odds,
    /// How old metadata may be.
    pub metadata_age: u64,
    /// How old a Describe may be.
    pub lag: u64,
    /// Compactions, for each step.
    pub compact: Odds,
    /// GC, for each step.
    pub gc: Odds,
    /// ENIs of others, for each step.
    pub foreign: Odds,
    /// Tampering by others, for each step.
    pub tamper: Odds,
    /// Changes of the subnet, for each step.
    pub subnet: Odds,
    /// Whether the API server tells about bound pods.
    pub demand: bool,
    /// Keys come back.
    pub reuse: bool,
}

impl Swarm {
    /// Draws a seed's world.
    pub fn draw(seed: &mut Seeded) -> (Self, World) {
        let mut maybe = |odds: &[Odds]| {
            let n = seed.pick(odds.len() + 1);
            odds.get(n).copied().unwrap_or(0)
        };
        let mut swarm = Self {
            pods: 3,
            disk: Delay { usual: (0, 5), tail: (0, 0) },
            ec2: Delay { usual: (100, 800), tail: (0, 0) },
            host: Delay { usual: (1, 20), tail: (0, 0) },
            wire: Delay { usual: (0, 3), tail: (0, 0) },
            life: Delay { usual: (100, 60_000), tail: (0, 0) },
            throttle: maybe(&[3, 10, 50]),
            lost: maybe(&[3, 10, 50]),
            partial: maybe(&[3, 10]),
            refuse: maybe(&[5, 20, 100]),
            host_fails: maybe(&[3, 10, 50]),
            disk_fails: maybe(&[5, 50]),
            crash: maybe(&[30, 100, 300]),
            reboot: maybe(&[500]),
            lost_ledger: maybe(&[200, 500]),
            restart: maybe(&[100, 300]),
            pause: maybe(&[100, 500]),
            repeat: maybe(&[30]),
            kill: maybe(&[3, 10]),
            metadata: maybe(&[10, 50]),
            metadata_age: 0,
            lag: 0,
            compact: maybe(&[50]),
            gc: maybe(&[50]),
            foreign: maybe(&[300]),
            tamper: maybe(&[200]),
            subnet: maybe(&[50]),
            demand: maybe(&[1]) == 1,
            reuse: maybe(&[1]) == 1,
        };
        swarm.pods = [2, 3, 6, 12, 30][seed.pick(5)];
        swarm.metadata_age = [0, 5_000, 60_000, 3_600_000][seed.pick(4)];
        swarm.lag = [0, 1_000, crate::ec2::LAG_MS][seed.pick(3)];
        swarm.disk.tail = [(0, 0), (10, 1_000), (5, 60_000), (3, 120_000)][seed.pick(4)];
        swarm.ec2.tail = [(0, 0), (10, 10_000), (4, 100_000)][seed.pick(3)];
        swarm.host.tail = [(0, 0), (10, 10_000), (10, 60_000)][seed.pick(3)];
        swarm.wire.tail = [(0, 0), (10, 1_000), (5, 60_000)][seed.pick(3)];
        swarm.life.usual = [(10, 1_000), (100, 60_000), (30_000, 600_000)][seed.pick(3)];
        swarm.life.tail = [(0, 0), (5, 1_000_000)][seed.pick(2)];
        let mut world = Self::world(seed, swarm.pods);
        world.ec2.moves_take = [0, 0, 3_000, 10_000][seed.pick(4)];
        world.ec2.memory = world.ec2.memory.max(swarm.metadata_age);
        (swarm, world)
    }

    /// Other settings for the same node, as an operator might change them.
    #[must_use]
    pub fn settings(&self, seed: &mut Seeded, now: &Settings) -> Settings {
        Settings {
            mode: if seed.once_in(2) { Mode::Prefix } else { Mode::SecondaryIp },
            warm: Self::warm(seed),
            max_eni: [None, Some(1), Some(2)][seed.pick(3)],
            seed: seed.next_u64(),
            ..now.clone()
        }
    }

    fn warm(seed: &mut Seeded) -> Warm {
        match seed.pick(6) {
            0 => Warm::Targets { ip: 0, minimum: 0, eni: 1, prefix: 1 },
            1 => Warm::Targets { ip: 2, minimum: 5, eni: 1, prefix: 1 },
            2 => Warm::Targets { ip: 1, minimum: 0, eni: 0, prefix: 0 },
            _ => Warm::DemandDriven,
        }
    }

    fn world(seed: &mut Seeded, pods: usize) -> World {
        let (enis, per_eni) = [(1, 3), (2, 3), (3, 4), (4, 5), (3, 10)][seed.pick(5)];
        let warm = Self::warm(seed);
        let settings = Settings {
            instance: InstanceId::new("i-1"),
            boot: BootId::new("boot-0"),
            mode: if seed.once_in(3) { Mode::Prefix } else { Mode::SecondaryIp },
            warm,
            limits: Limits { enis, ipv4_per_eni: per_eni },
            max_eni: None,
            max_pods: [110, 5][seed.pick(2)],
            primary_excluded: seed.once_in(6),
            manage_untagged: false,
            cooldown: ms([30_000, 10_000, 6_000][seed.pick(3)]),
            cluster: None,
            subnets: SubnetPolicy { discovery: false, floor: 0 },
            leaks: LeakPolicy::Ignore,
            leak_proof: LEAK_PROOF,
            share: Share::default(),
            // Not drawn: recorded seeds keep their meaning.
            gather: ms(if enis > 1 { 20 } else { 0 }),
            seed: seed.next_u64(),
        };
        let free = [1_000, 100, 20, 4][seed.pick(4)];
        let slots = usize::try_from(per_eni).unwrap_or(1) - 1;
        let mut ec2 = Ec2::new(usize::try_from(enis).unwrap_or(1), slots, free);
        ec2.recycle = seed.once_in(2);
        World::new(settings, ec2, pods)
    }
}
