//! `podwire history`: what happened to an address or a pod since the node booted, as far back as the ledger remembers.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;

use ipnetwork::IpNetwork;
use podwire_ledger::View;
use podwire_pool::{EniId, PodRef, Record, SandboxKey, Time};
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::failure::{Failure, Verdict};
use crate::output::{self, Table, or_dash, plain};
use crate::pods;

/// One event in an address's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When; an allocation's is when its ADD began. `None`: the ledger does not say.
    pub at: Option<Time>,
    /// What it happened to.
    pub address: IpAddr,
    /// What happened: `assigned`, `allocated`, `released`, `cooled`, `unassigned` or `eni-gone`.
    pub what: &'static str,
    /// The ENI, where one is concerned.
    pub eni: Option<EniId>,
    /// The sandbox and its pod, where one is concerned.
    pub holder: Option<(SandboxKey, PodRef)>,
}

/// Runs the command.
///
/// # Errors
/// The ledger cannot be read, nothing is known of what was asked, or the output is closed.
pub fn run(path: &Path, of: &str, as_json: bool, out: &mut dyn Write) -> Result<Verdict, Failure> {
    let view = podwire_ledger::view(path)?;
    let clock = Clock::of(&view.boot);
    let events = events(&view, clock.now(), of);
    if events.is_empty() {
        return Err(Failure::Unknown(plain(of)));
    }
    if as_json {
        let events: Vec<Value> = events.iter().map(|event| to_json(event, clock)).collect();
        output::json(out, &json!({"of": of, "events": events}))?;
        return Ok(Verdict::Well);
    }
    let mut table = Table::new(&["WHEN", "ADDRESS", "WHAT", "POD", "CONTAINER", "ENI"]);
    for event in &events {
        let (container, pod) = event.holder.as_ref().map_or_else(Default::default, |(sandbox, pod)| {
            (pods::short(&sandbox.container_id), pods::pod_name(pod))
        });
        let when =
            event.at.map_or_else(|| "-".into(), |at| format!("{} {}", clock.tell(at), clock.distance(at)));
        let eni = event.eni.as_ref().map(EniId::to_string).unwrap_or_default();
        table.row(vec![
            when.trim_end().to_owned(),
            event.address.to_string(),
            event.what.into(),
            or_dash(&pod),
            or_dash(&container),
            or_dash(&eni),
        ]);
    }
    table.write(out)?;
    Ok(Verdict::Well)
}

fn to_json(event: &Event, clock: Clock) -> Value {
    let (sandbox, pod) = event.holder.as_ref().map_or((None, None), |(s, p)| (Some(s), Some(p)));
    json!({
        "at": event.at.map(|at| clock.tell(at)),
        "at_boottime_ms": event.at.map(Time::as_ms),
        "address": event.address,
        "event": event.what,
        "eni": event.eni.as_ref().map(EniId::as_str),
        "container_id": sandbox.map(|sandbox| &*sandbox.container_id),
        "ifname": sandbox.map(|sandbox| &*sandbox.ifname),
        "pod_namespace": pod.map(|pod| &*pod.namespace),
        "pod_name": pod.map(|pod| &*pod.name),
    })
}

/// The events of an address, or of every address a pod had while it had it; oldest first.
#[must_use]
pub fn events(view: &View, now: Option<Time>, of: &str) -> Vec<Event> {
    if let Ok(address) = of.parse::<IpAddr>() {
        return of_address(view, now, address);
    }
    let addresses: BTreeSet<IpAddr> = view
        .events
        .iter()
        .chain(&view.records)
        .filter_map(|record| match record {
            Record::Allocated { sandbox, pod, addresses, .. } if matches(sandbox, pod, of) => Some(addresses),
            Record::Allocated { .. }
            | Record::Eni(_)
            | Record::EniGone { .. }
            | Record::Assigned { .. }
            | Record::Unassigned { .. }
            | Record::Released { .. }
            | Record::Tombstone { .. }
            | Record::Intent { .. }
            | Record::Settled { .. }
            | Record::OpsUsed { .. } => None,
        })
        .flatten()
        .copied()
        .collect();
    let all = addresses.into_iter().flat_map(|address| of_address(view, now, address));
    let mut of_pod: Vec<Event> = all
        .filter(|event| event.holder.as_ref().is_some_and(|(sandbox, pod)| matches(sandbox, pod, of)))
        .collect();
    of_pod.sort_by_key(|event| event.at);
    of_pod
}

/// Whether a sandbox is what was asked for: by `namespace/name`, by name, or by the beginning of its container id.
fn matches(sandbox: &SandboxKey, pod: &PodRef, of: &str) -> bool {
    let named = match of.split_once('/') {
        Some((namespace, name)) => *pod.namespace == *namespace && *pod.name == *name,
        None => *pod.name == *of,
    };
    // Shorter beginnings mean too many.
    named || (of.len() >= 4 && sandbox.container_id.starts_with(of))
}

/// An address's release that has not been followed by anything yet.
struct Resting {
    until: Option<Time>,
    holder: (SandboxKey, PodRef),
}

fn of_address(view: &View, now: Option<Time>, address: IpAddr) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    let mut eni: Option<EniId> = None;
    let mut holder: Option<(SandboxKey, PodRef)> = None;
    let mut resting: Option<Resting> = None;
    let on_it = |net: &IpNetwork| net.contains(address);
    let event = |at, what, eni: &Option<EniId>, holder| Event { at, address, what, eni: eni.clone(), holder };
    for record in &view.events {
        match record {
            Record::Assigned { eni: to, net, at } if on_it(net) => {
                rested(&mut events, &mut resting, Some(*at), address, &eni);
                eni = Some(to.clone());
                events.push(event(Some(*at), "assigned", &eni, None));
            }
            Record::Unassigned { eni: from, net, at } if on_it(net) => {
                rested(&mut events, &mut resting, Some(*at), address, &eni);
                events.push(event(Some(*at), "unassigned", &Some(from.clone()), None));
                eni = None;
            }
            Record::EniGone { eni: gone } if eni.as_ref() == Some(gone) => {
                rested(&mut events, &mut resting, now, address, &eni);
                events.push(event(None, "eni-gone", &eni, None));
                eni = None;
            }
            Record::Allocated { sandbox, pod, addresses, at } if addresses.contains(&address) => {
                rested(&mut events, &mut resting, Some(*at), address, &eni);
                holder = Some((sandbox.clone(), pod.clone()));
                events.push(event(Some(*at), "allocated", &eni, holder.clone()));
            }
            Record::Released { sandbox, addresses, at, .. } if addresses.contains(&address) => {
                let known = holder.take().filter(|(holder, _)| holder == sandbox);
                let whose = known.unwrap_or_else(|| (sandbox.clone(), PodRef::default()));
                events.push(event(Some(*at), "released", &eni, Some(whose.clone())));
                resting = Some(Resting { until: view.cooldown.map(|span| at.after(span)), holder: whose });
            }
            Record::Assigned { .. }
            | Record::Unassigned { .. }
            | Record::EniGone { .. }
            | Record::Allocated { .. }
            | Record::Released { .. }
            | Record::Eni(_)
            | Record::Tombstone { .. }
            | Record::Intent { .. }
            | Record::Settled { .. }
            | Record::OpsUsed { .. } => {}
        }
    }
    rested(&mut events, &mut resting, now, address, &eni);
    if holder.is_none() {
        events.extend(still_held(view, address, &events));
    }
    events
}

/// The end of a rest, when it came before what happened next. *Why* here: an address cools by the passing of time alone,
/// so nothing is written then.
fn rested(
    events: &mut Vec<Event>,
    resting: &mut Option<Resting>,
    next: Option<Time>,
    address: IpAddr,
    eni: &Option<EniId>,
) {
    let Some(Resting { until: Some(until), holder }) = resting.take() else { return };
    if next.is_some_and(|next| until <= next) {
        let (at, eni, holder) = (Some(until), eni.clone(), Some(holder));
        events.push(Event { at, address, what: "cooled", eni, holder });
    }
}

/// An allocation that is so, and whose beginning history no longer holds (or which was taken over).
fn still_held(view: &View, address: IpAddr, events: &[Event]) -> Option<Event> {
    let state = crate::state::State::of(view, Clock::Other);
    let held = state.held.iter().find(|held| held.addresses.contains(&address))?;
    let told = |event: &Event| event.holder.as_ref().is_some_and(|(sandbox, _)| *sandbox == held.sandbox);
    if events.iter().any(told) {
        return None;
    }
    let eni = state.carrier(address).map(|eni| eni.record.id.clone());
    let holder = Some((held.sandbox.clone(), held.pod.clone()));
    Some(Event { at: Some(held.since), address, what: "allocated", eni, holder })
}
