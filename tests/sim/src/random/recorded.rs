//! A run with what the daemon's recorder would keep of it.

use podwire_trace::{Bounds, Ring};

use super::{Failure, Report, run_world};
use crate::Seeded;
use crate::swarm::Swarm;

/// As [`super::run`], with a recorder of these bounds beside the pool.
///
/// # Errors
/// The first invariant broken, with what led to it.
pub fn run_recorded(seed: u64, steps: u64, bounds: Bounds) -> Result<Report, Box<Failure>> {
    let mut stream = Seeded::new(seed);
    let (swarm, mut world) = Swarm::draw(&mut stream);
    world.ring = Some(Ring::new(bounds));
    run_world(seed, stream, swarm, world, steps)
}
