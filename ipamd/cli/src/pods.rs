//! `podwire pods`: which pod holds which address.

use std::io::Write;
use std::path::Path;

use podwire_pool::PodRef;
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::failure::{Failure, Verdict};
use crate::output::{self, Table, or_dash, plain};
use crate::state::{Held, State};

/// Runs the command.
///
/// # Errors
/// The ledger cannot be read, or the output is closed.
pub fn run(path: &Path, as_json: bool, out: &mut dyn Write) -> Result<Verdict, Failure> {
    let view = podwire_ledger::view(path)?;
    let clock = Clock::of(&view.boot);
    let state = State::of(&view, clock);
    if as_json {
        output::json(out, &json!({"pods": to_json(&state, clock)}))?;
    } else {
        table(&state, clock).write(out)?;
    }
    Ok(Verdict::Well)
}

/// Namespace and name; empty where the runtime did not tell.
#[must_use]
pub fn pod_name(pod: &PodRef) -> String {
    if pod.namespace.is_empty() { pod.name.to_string() } else { format!("{}/{}", pod.namespace, pod.name) }
}

/// A container id as people know it.
#[must_use]
pub fn short(container_id: &str) -> String {
    const LENGTH: usize = 13;
    container_id.chars().take(LENGTH).collect()
}

/// Pods by address.
fn sorted(state: &State) -> Vec<&Held> {
    let mut held: Vec<&Held> = state.held.iter().collect();
    held.sort_by(|a, b| a.addresses.cmp(&b.addresses));
    held
}

pub(crate) fn table(state: &State, clock: Clock) -> Table {
    let mut table = Table::new(&["ADDRESS", "POD", "CONTAINER", "IFNAME", "ENI", "SINCE"]);
    for held in sorted(state) {
        let addresses: Vec<String> = held.addresses.iter().map(ToString::to_string).collect();
        let eni = held.addresses.first().and_then(|ip| state.carrier(*ip));
        table.row(vec![
            addresses.join(","),
            or_dash(&pod_name(&held.pod)),
            plain(&short(&held.sandbox.container_id)),
            plain(&held.sandbox.ifname),
            or_dash(eni.map(|eni| eni.record.id.as_str()).unwrap_or_default()),
            format!("{} {}", clock.tell(held.since), clock.distance(held.since)),
        ]);
    }
    table
}

pub(crate) fn to_json(state: &State, clock: Clock) -> Vec<Value> {
    let pod = |held: &&Held| {
        let eni = held.addresses.first().and_then(|ip| state.carrier(*ip));
        json!({
            "addresses": held.addresses,
            "pod_namespace": &*held.pod.namespace,
            "pod_name": &*held.pod.name,
            "pod_uid": &*held.pod.uid,
            "network": &*held.pod.network,
            "container_id": &*held.sandbox.container_id,
            "ifname": &*held.sandbox.ifname,
            "eni": eni.map(|eni| eni.record.id.as_str()),
            "since": clock.tell(held.since),
            "since_boottime_ms": held.since.as_ms(),
        })
    };
    sorted(state).iter().map(pod).collect()
}
