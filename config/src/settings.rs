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
    /// Logs.
    pub observe: Observe,
    /// Files and directories.
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

/// Mistakes for names that start with `PODWIRE_` and are no knob: a misspelled setting is a setting not made. What kubelet
/// adds for a Service of such a name is not the operator's word and stays out.
pub fn unknown_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<Mistake> {
    let names: Vec<&str> = names.into_iter().collect();
    let services: Vec<&str> = names.iter().filter_map(|name| name.strip_suffix("_SERVICE_HOST")).collect();
    let of_service = |name: &str| services.iter().any(|s| name.strip_prefix(s).is_some_and(is_service_link));
    names
        .into_iter()
        .filter(|name| name.starts_with("PODWIRE_") && !knobs().any(|knob| knob.name == *name))
        .filter(|name| !of_service(name))
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

/// What follows a Service's name in the variables that kubelet sets for it in each container of its namespace.
/// *Source*: Kubernetes 1.34, pkg/kubelet/envvars/envvars.go, `FromServices` and `makeLinkVariables`.
fn is_service_link(rest: &str) -> bool {
    let port = |text: &str| {
        let (number, rest) = text.split_once('_').unwrap_or((text, ""));
        let (protocol, part) = rest.split_once('_').unwrap_or((rest, ""));
        number.parse::<u16>().is_ok()
            && ["TCP", "UDP", "SCTP"].contains(&protocol)
            && ["", "PROTO", "PORT", "ADDR"].contains(&part)
    };
    matches!(rest, "_SERVICE_HOST" | "_SERVICE_PORT" | "_PORT")
        || rest.starts_with("_SERVICE_PORT_")
        || rest.strip_prefix("_PORT_").is_some_and(port)
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
