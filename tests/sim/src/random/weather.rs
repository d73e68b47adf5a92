//! What happens out of the blue, as often as the seed's mix of faults says.

use super::Engine;
use crate::Choose;
use crate::oracle::Violation;
use crate::world::{Action, Blur, Tampering};

impl Engine {
    /// What happens out of the blue.
    pub(super) fn weather(&mut self) -> Result<(), Violation> {
        if self.zone.once_in(500) {
            self.throttled_until = self.world.now + self.zone.below(900_000);
        }
        if let Some(event) = crate::zone::weather(&mut self.zone) {
            self.act(Action::Zone(event))?;
        }
        if self.hits(self.swarm.crash) {
            self.crash()?;
        }
        if self.hits(self.swarm.reboot) {
            let keep = self.seed.once_in(2);
            self.act(Action::Reboot(keep))?;
        }
        if self.hits(self.swarm.lost_ledger) {
            self.act(Action::LoseLedger)?;
        }
        if self.hits(self.swarm.restart) {
            let other = self.seed.once_in(2);
            let settings = other.then(|| Box::new(self.swarm.settings(&mut self.seed, &self.world.settings)));
            self.act(Action::Restart(settings))?;
        }
        if self.hits(self.swarm.pause) {
            let span = 1_000 << self.seed.pick(10);
            self.act(Action::Pause(span))?;
        }
        if self.hits(self.swarm.repeat) {
            let pod = self.seed.pick(self.swarm.pods);
            self.act(Action::Repeat(pod))?;
        }
        self.weather_outside()
    }

    /// What happens around the daemon.
    fn weather_outside(&mut self) -> Result<(), Violation> {
        if self.hits(self.swarm.metadata) {
            let age = self.seed.below(self.swarm.metadata_age + 1);
            let omit = 1 + self.seed.pick(3);
            let blur = match self.seed.pick(12) {
                0 => Blur::Enis(omit),
                1 => Blur::Blocks(omit),
                2 => Blur::Leaves,
                _ => Blur::Clear,
            };
            self.act(Action::Metadata(age, blur))?;
        }
        if self.hits(self.swarm.compact) {
            self.act(Action::Compact)?;
        }
        if self.hits(self.swarm.gc) {
            self.act(Action::Gc)?;
        }
        if self.hits(self.swarm.foreign) {
            self.act(Action::Foreign)?;
        }
        if self.hits(self.swarm.tamper) {
            let which = self.seed.pick(16);
            let how = [Tampering::Detach, Tampering::Unassign, Tampering::Assign, Tampering::Move];
            let how = how[self.seed.pick(4)];
            self.act(Action::Tamper(which, how))?;
        }
        if self.hits(self.swarm.subnet) {
            let more = [-1_000, -10, 5, 1_000][self.seed.pick(4)];
            let fragmented = self.seed.once_in(2);
            self.act(Action::Subnet(more, fragmented))?;
        }
        if self.swarm.demand && self.seed.once_in(5) {
            let known = self.calm || !self.seed.once_in(20);
            self.act(Action::Demand(known))?;
        }
        Ok(())
    }

    /// The daemon dies at some effect, and sometimes once more while it recovers.
    fn crash(&mut self) -> Result<(), Violation> {
        loop {
            let after = if self.seed.once_in(2) { self.seed.pick(3) } else { self.seed.pick(16) };
            let keep = self.seed.pick(4);
            self.act(Action::Crash(after, keep))?;
            if !self.seed.once_in(4) {
                return Ok(());
            }
        }
    }
}
