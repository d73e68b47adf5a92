//! `podwire ledger`: what the ledger's file says, while a daemon runs or after it died.

use std::io::Write;
use std::path::Path;

use podwire_ledger::{End, View};
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::failure::{Failure, Verdict};
use crate::output::{self, Table, plain};
use crate::pods;
use crate::state::{Eni, State};

/// Runs the command.
///
/// # Errors
/// The ledger cannot be read, or the output is closed.
pub fn run(path: &Path, as_json: bool, out: &mut dyn Write) -> Result<Verdict, Failure> {
    let view = podwire_ledger::view(path)?;
    let clock = Clock::of(&view.boot);
    let state = State::of(&view, clock);
    let doubts = doubts(&view, &state, clock);
    if as_json {
        output::json(out, &to_json(&view, &state, &doubts, clock))?;
    } else {
        print(&view, &state, &doubts, clock, out)?;
    }
    Ok(if view.end == End::Damaged { Verdict::Trouble } else { Verdict::Well })
}

/// What the ledger cannot answer for, in words.
fn doubts(view: &View, state: &State, clock: Clock) -> Vec<String> {
    let mut doubts = Vec::new();
    match view.end {
        End::Whole => {}
        End::Unfinished => doubts.push("the last commit is unfinished: it is being written now, or a crash cut it off; nobody was told of it".into()),
        End::Damaged => doubts.push("bytes after the last good commit are damaged, commits may be lost; at its next start the daemon keeps a copy and completes the ledger from the kernel and EC2".into()),
    }
    if clock == Clock::Other {
        doubts.push(
            "it is of another boot: its pods are gone, and all addresses cool before they are used".into(),
        );
    }
    for open in &state.open {
        doubts.push(format!(
            "operation {} ({}) has no known outcome yet; a Describe decides",
            open.op, open.what
        ));
    }
    for eni in state.enis.values().filter(|eni| eni.stage() != "attached") {
        doubts.push(format!("{} is {}, not in use", eni.record.id, eni.stage()));
    }
    for held in &state.held {
        for address in held.addresses.iter().filter(|address| state.carrier(**address).is_none()) {
            let whose = pods::pod_name(&held.pod);
            doubts.push(format!("{address}, held by {whose}, is on no known ENI; it stays reserved"));
        }
    }
    doubts
}

fn print(
    view: &View,
    state: &State,
    doubts: &[String],
    clock: Clock,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let assigned: u32 = state.enis.values().map(Eni::addresses).sum();
    writeln!(out, "instance  {}", plain(view.instance.as_str()))?;
    let own = if clock == Clock::Other { "another boot" } else { "this boot" };
    writeln!(out, "boot      {} ({own})", plain(view.boot.as_str()))?;
    writeln!(
        out,
        "file      {} bytes, {} records, {} events of history",
        view.used,
        view.records.len(),
        view.events.len()
    )?;
    writeln!(
        out,
        "addresses {assigned} assigned, {} allocated, {} cooling; {} DELs remembered",
        state.held.iter().map(|held| held.addresses.len()).sum::<usize>(),
        state.cooling.len(),
        state.tombstones
    )?;
    let mut enis =
        Table::new(&["ENI", "CARD", "DEVICE", "STAGE", "PRIMARY", "SUBNET", "PREFIXES", "ADDRESSES"]);
    for (id, eni) in &state.enis {
        enis.row(vec![
            plain(id.as_str()),
            eni.record.card.to_string(),
            eni.record.device.to_string(),
            eni.stage().into(),
            eni.record.primary.to_string(),
            plain(eni.record.subnet.as_str()),
            eni.prefixes().to_string(),
            eni.addresses().to_string(),
        ]);
    }
    writeln!(out)?;
    enis.write(out)?;
    writeln!(out)?;
    pods::table(state, clock).write(out)?;
    if !state.cooling.is_empty() {
        let mut cooling = Table::new(&["COOLING", "SINCE"]);
        for (address, since) in &state.cooling {
            cooling
                .row(vec![address.to_string(), format!("{} {}", clock.tell(*since), clock.distance(*since))]);
        }
        writeln!(out)?;
        cooling.write(out)?;
    }
    if !doubts.is_empty() {
        writeln!(out, "\ndoubts")?;
        for doubt in doubts {
            writeln!(out, "  {}", plain(doubt))?;
        }
    }
    Ok(())
}

fn to_json(view: &View, state: &State, doubts: &[String], clock: Clock) -> Value {
    let enis: Vec<Value> = state
        .enis
        .iter()
        .map(|(id, eni)| {
            let nets: Vec<Value> = eni
                .nets
                .iter()
                .map(|(net, since)| json!({"net": net, "since": clock.tell(*since)}))
                .collect();
            json!({
                "id": id.as_str(),
                "mac": eni.record.mac.to_string(),
                "network_card": eni.record.card.0,
                "device_index": eni.record.device.0,
                "subnet": eni.record.subnet.as_str(),
                "primary": eni.record.primary,
                "stage": eni.stage(),
                "assigned": nets,
            })
        })
        .collect();
    let cooling: Vec<Value> = state
        .cooling
        .iter()
        .map(|(address, since)| json!({"address": address, "since": clock.tell(*since)}))
        .collect();
    json!({
        "instance": view.instance.as_str(),
        "boot": view.boot.as_str(),
        "this_boot": clock != Clock::Other,
        "end": match view.end {
            End::Whole => "whole",
            End::Unfinished => "unfinished",
            End::Damaged => "damaged",
        },
        "bytes": view.used,
        "records": view.records.len(),
        "events": view.events.len(),
        "enis": enis,
        "pods": pods::to_json(state, clock),
        "cooling": cooling,
        "tombstones": state.tombstones,
        "doubts": doubts,
    })
}
