//! What went wrong lately, each thing once, with since when and how often: what the pool said ([`podwire_pool::Effect::Explain`]).

use podwire_pool::{Cause, Time};

/// Different complaints remembered. *Source*: our choice; more are not read.
const KEPT: usize = 32;

/// One complaint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// What.
    pub cause: Cause,
    /// When it was first heard.
    pub first: Time,
    /// When it was last heard.
    pub last: Time,
    /// How often.
    pub count: u64,
}

/// The complaints of this life of the daemon, the longest silent first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Complaints(Vec<Complaint>);

impl Complaints {
    /// Hears one.
    pub fn hear(&mut self, cause: &Cause, now: Time) {
        let known = self.0.iter().position(|complaint| complaint.cause == *cause);
        let mut complaint = match known {
            Some(at) => self.0.remove(at),
            None => Complaint { cause: cause.clone(), first: now, last: now, count: 0 },
        };
        complaint.last = now;
        complaint.count = complaint.count.saturating_add(1);
        if self.0.len() >= KEPT {
            self.0.remove(0);
        }
        self.0.push(complaint);
    }

    /// All of them, the latest first.
    pub fn latest_first(&self) -> impl Iterator<Item = &Complaint> {
        self.0.iter().rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(action: &'static str) -> Cause {
        Cause::Denied { action, message: "".into() }
    }

    #[test]
    fn repeated_complaint_is_kept_once_and_comes_first() {
        let mut complaints = Complaints::default();
        for (ms, action) in [(1, "Assign"), (2, "Create"), (3, "Assign")] {
            complaints.hear(&denied(action), Time::from_ms(ms));
        }
        let all: Vec<_> =
            complaints.latest_first().map(|c| (c.first.as_ms(), c.last.as_ms(), c.count)).collect();
        assert_eq!(all, [(1, 3, 2), (2, 2, 1)]);
    }

    #[test]
    fn only_the_latest_are_kept() {
        let mut complaints = Complaints::default();
        for n in 0..100 {
            complaints.hear(&Cause::NodeFull { held: n, capacity: 0 }, Time::from_ms(n.into()));
        }
        assert_eq!(complaints.latest_first().count(), KEPT);
        assert_eq!(complaints.latest_first().next().map(|c| c.last.as_ms()), Some(99));
    }
}
