//! The modelled world's durations and budgets. *Source*, where nothing else is said: design §7, "EC2 model".

use std::time::Duration;

use crate::chance::Chance;

/// How long things take and how often EC2 may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// AssignPrivateIpAddresses, and UnassignPrivateIpAddresses, which is not said to differ.
    pub assign: Spread,
    /// CreateNetworkInterface.
    pub create: Spread,
    /// AttachNetworkInterface until its answer. *Source*: our choice; the answer says `attaching`.
    pub attach: Spread,
    /// From that answer until the device is in the kernel.
    pub device: Spread,
    /// DetachNetworkInterface, ModifyNetworkInterfaceAttribute, DeleteNetworkInterface and DescribeNetworkInterfaces.
    /// *Source*: our choice, as an assignment.
    pub other: Spread,
    /// From a detach until the ENI can be deleted.
    pub detached: Spread,
    /// A refusal for want of budget. *Source*: our choice.
    pub throttled: Spread,
    /// Table, rule and sources of a new ENI, once its device is there. *Source*: our choice, far above what is measured.
    pub configure: Spread,
    /// Any smaller change of the host. *Source*: our choice; the clock counts milliseconds.
    pub host: Spread,
    /// Append and fdatasync of a revision. *Source*: our choice; the clock counts milliseconds.
    pub disk: Spread,
    /// From a pod's binding to this node until its ADD. *Source*: our choice; kubelet's watch, volumes and the sandbox
    /// come first.
    pub wiring: Spread,
    /// From a refused ADD until the next one for the same pod. *Source*: our choice; kubelet's back-off begins at 10 s.
    pub retry: Duration,
    /// When an ADD is due. *Source*: design §7 (deadlines).
    pub add_deadline: Duration,
    /// Budget of each action that changes something.
    pub changing: Budget,
    /// Budget of each action that reads.
    pub reading: Budget,
}

impl Default for Model {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            assign: Spread { least: ms(150), p50: ms(300), p99: ms(800), most: ms(1_000) },
            create: Spread { least: ms(300), p50: ms(500), p99: ms(800), most: ms(1_000) },
            attach: Spread { least: ms(300), p50: ms(500), p99: ms(800), most: ms(1_000) },
            device: Spread::even(ms(2_000), ms(10_000)),
            other: Spread { least: ms(150), p50: ms(300), p99: ms(800), most: ms(1_000) },
            detached: Spread::even(ms(2_000), ms(3_000)),
            throttled: Spread::even(ms(50), ms(150)),
            configure: Spread::even(ms(5), ms(20)),
            host: Spread::even(ms(1), ms(2)),
            disk: Spread::even(ms(1), ms(1)),
            wiring: Spread::even(ms(500), ms(1_500)),
            retry: ms(10_000),
            add_deadline: ms(75_000),
            changing: Budget { burst: 50, per_second: 5 },
            reading: Budget { burst: 100, per_second: 20 },
        }
    }
}

/// How long something takes: its quantiles, straight lines in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    /// Never shorter.
    pub least: Duration,
    /// Half are shorter.
    pub p50: Duration,
    /// 99 of 100 are shorter.
    pub p99: Duration,
    /// Never longer.
    pub most: Duration,
}

impl Spread {
    /// Every duration in between is as likely as any other.
    #[must_use]
    pub fn even(least: Duration, most: Duration) -> Self {
        let wide = most.saturating_sub(least);
        Self { least, p50: least + wide / 2, p99: least + wide / 100 * 99, most }
    }

    /// One of them.
    #[must_use]
    pub fn draw(&self, chance: &mut Chance) -> Duration {
        let at = chance.between(0, 999);
        let (from, to, low, high) = match at {
            0..500 => (0, 500, self.least, self.p50),
            500..990 => (500, 990, self.p50, self.p99),
            _ => (990, 1_000, self.p99, self.most),
        };
        let share = u32::try_from(at - from).unwrap_or(0);
        let of = u32::try_from(to - from).unwrap_or(1);
        low + high.saturating_sub(low) * share / of
    }
}

/// A token bucket: so many calls at once, so many more each second. EC2 keeps one for each action, account and Region;
/// the modelled node has it to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Calls at once.
    pub burst: u32,
    /// Calls more each second.
    pub per_second: u32,
}

/// A bucket of a budget, as it is at some moment. *Unit* of what is left: thousandths of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    budget: Budget,
    left: u64,
    at: u64,
}

impl Bucket {
    /// A full one.
    pub(crate) fn full(budget: Budget) -> Self {
        Self { budget, left: u64::from(budget.burst) * 1_000, at: 0 }
    }

    /// Takes one call out; false when none is left.
    pub(crate) fn take(&mut self, now: u64) -> bool {
        let gained = now.saturating_sub(self.at).saturating_mul(u64::from(self.budget.per_second));
        self.left = self.left.saturating_add(gained).min(u64::from(self.budget.burst) * 1_000);
        self.at = now;
        let enough = self.left >= 1_000;
        if enough {
            self.left -= 1_000;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_has_the_quantiles_it_says() {
        let spread = Model::default().assign;
        let mut chance = Chance::new(1);
        let mut drawn: Vec<Duration> = (0..10_000).map(|_| spread.draw(&mut chance)).collect();
        drawn.sort_unstable();
        let at = |share: usize| drawn[share * drawn.len() / 100].as_millis();
        assert!((285..=315).contains(&at(50)), "{}", at(50));
        assert!((740..=860).contains(&at(99)), "{}", at(99));
        assert!(drawn[0] >= spread.least && drawn[9_999] <= spread.most);
    }

    #[test]
    fn bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::full(Budget { burst: 3, per_second: 5 });
        assert_eq!((0..5).filter(|_| bucket.take(10_000)).count(), 3);
        assert!(!bucket.take(10_199));
        assert!(bucket.take(10_200));
        assert_eq!((0..9).filter(|_| bucket.take(99_000)).count(), 3);
    }
}
