//! All settings as plain data, and the one function that makes them.

use std::time::Duration;

use crate::finding::{Finding, Mistake, MistakeKind, Mistakes};
use crate::knob::Knob;
use crate::lint;
use crate::reader::Reader;
use crate::strings::Strings;

pub mod deadlines;
pub mod eni;
pub mod network;
pub mod observe;
pub mod paths;
pub mod unbuilt;
pub mod warm;

pub use deadlines::Deadlines;
pub use eni::Eni;
pub use network::Network;
pub use observe::Observe;
pub use paths::Paths;
pub use warm::Warm;

/// Everything an operator can choose, read once at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How many addresses are kept ready.
    pub warm: Warm,
    /// ENIs and EC2.
    pub eni: Eni,
    /// The node's networking and the pods'.
    pub network: Network,
    /// Logs, metrics, introspection.
    pub observe: Observe,
    /// Files, directories and sockets.
    pub paths: Paths,
    /// How long things may take.
    pub deadlines: Deadlines,
}

/// Settings with what there is to say about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The settings.
    pub settings: Settings,
    /// To be logged loudly by the daemon, in this order.
    pub findings: Vec<Finding>,
}

impl Settings {
    /// Reads every variable, then reports: either settings with findings, or all mistakes at once.
    ///
    /// # Errors
    /// A value the incumbent exits on, a wrong `PODWIRE_*` value, or a wish that is refused.
    pub fn parse(source: &dyn Strings) -> Result<Parsed, Mistakes> {
        let mut reader = Reader::new(source);
        let settings = Self {
            eni: Eni::read(&mut reader),
            warm: Warm::read(&mut reader),
            network: Network::read(&mut reader),
            observe: Observe::read(&mut reader),
            paths: Paths::read(&mut reader),
            deadlines: Deadlines::read(&mut reader),
        };
        unbuilt::read(&mut reader);
        lint::contradictions(&settings, &mut reader);
        let findings = reader.finish()?;
        Ok(Parsed { settings, findings })
    }
}

/// Every knob there is, group by group.
pub fn knobs() -> impl Iterator<Item = &'static Knob> {
    [warm::KNOBS, eni::KNOBS, network::KNOBS, observe::KNOBS, paths::KNOBS, deadlines::KNOBS, unbuilt::KNOBS]
        .into_iter()
        .flatten()
        .copied()
}

/// Mistakes for names that start with `PODWIRE_` and are no knob: a misspelled setting is a setting not made.
pub fn unknown_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<Mistake> {
    names
        .into_iter()
        .filter(|name| name.starts_with("PODWIRE_") && !knobs().any(|knob| knob.name == *name))
        .map(|name| Mistake {
            kind: MistakeKind::Podwire,
            variable: name.to_owned(),
            what: "there is no such setting".to_owned(),
            fix: match nearest(name) {
                Some(known) => format!("did you mean {known}?"),
                None => "remove it".to_owned(),
            },
        })
        .collect()
}

/// The known name with the longest common start, when that is longer than the bare `PODWIRE_`.
fn nearest(name: &str) -> Option<&'static str> {
    let common = |known: &str| known.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
    knobs()
        .map(|knob| knob.name)
        .filter(|known| known.starts_with("PODWIRE_") && common(known) > "PODWIRE_".len())
        .max_by_key(|known| common(known))
}

/// A count of milliseconds as a span.
fn millis(count: u32) -> Duration {
    Duration::from_millis(u64::from(count))
}

/// A count of seconds as a span.
fn seconds(count: u32) -> Duration {
    Duration::from_secs(u64::from(count))
}

#[cfg(test)]
mod tests;
