//! Plays a trace through the pool and compares.

use std::panic::{AssertUnwindSafe, catch_unwind};

use podwire_pool::{Effect, Pool};

use crate::digest::digest;
use crate::parse::Trace;

/// What came of playing a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Inputs played, the last one included.
    pub inputs: usize,
    /// The pool as it was left; after a panic it is not to be believed.
    pub pool: Pool,
    /// How it went.
    pub outcome: Outcome,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every effect was as recorded, and the state at the end, where it was recorded.
    Same,
    /// An input had other effects than recorded: another release, or something in the pool that depends on more than its
    /// inputs.
    OtherEffects {
        /// The input's line in the trace.
        line: usize,
        /// Its effects now.
        effects: Vec<Effect>,
    },
    /// All effects were as recorded, but the state is another one.
    OtherState,
    /// An input broke an invariant: the pool panicked.
    Panicked {
        /// The input's line in the trace.
        line: usize,
        /// What the panic said.
        message: String,
        /// It had panicked when it was recorded, too.
        as_recorded: bool,
    },
    /// The last input had ended in a panic when it was recorded, and does not now.
    NoPanic {
        /// Its line in the trace.
        line: usize,
        /// Its effects now.
        effects: Vec<Effect>,
    },
}

impl Trace {
    /// Plays it. A pool that panics is caught; the panic's own message goes to standard error as always.
    #[must_use]
    pub fn replay(&self) -> Replay {
        let mut pool = self.start.clone();
        let mut inputs = 0;
        for event in &self.events {
            inputs += 1;
            let line = event.line;
            let mut effects = Vec::new();
            let handled =
                catch_unwind(AssertUnwindSafe(|| pool.handle(event.at, event.input.clone(), &mut effects)));
            let outcome = match (handled, event.did) {
                (Ok(()), Some(did)) if did == (effects.len(), digest(effects.as_slice())) => continue,
                (Ok(()), Some(_)) => Outcome::OtherEffects { line, effects },
                (Ok(()), None) => Outcome::NoPanic { line, effects },
                (Err(panic), did) => Outcome::Panicked {
                    line,
                    message: message_of(panic.as_ref()),
                    as_recorded: did.is_none(),
                },
            };
            return Replay { inputs, pool, outcome };
        }
        let same = self.end.is_none_or(|end| end == digest(&pool));
        Replay { inputs, pool, outcome: if same { Outcome::Same } else { Outcome::OtherState } }
    }
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
}
