//! The tape engine: a list of numbers picks among what may happen. Any list is a run, so proptest can shrink it.

use crate::exhaustive::{Budget, Finding, enabled};
use crate::world::World;

/// Plays a tape.
///
/// # Errors
/// The violation it leads to.
pub fn play(mut world: World, mut budget: Budget, tape: &[u16]) -> Result<World, Box<Finding>> {
    let mut path = Vec::new();
    for entry in tape {
        let actions = enabled(&world, budget);
        if actions.is_empty() {
            break;
        }
        let Some((action, left)) = actions.get(usize::from(*entry) % actions.len()).cloned() else { break };
        budget = left;
        path.push(action.clone());
        if let Err(violation) = world.step(&action) {
            return Err(Box::new(Finding { violation, path }));
        }
    }
    Ok(world)
}
