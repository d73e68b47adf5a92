//! `podwire status`: how the node is, as the running daemon says.

use std::io::Write;
use std::path::Path;

use podwire_pool::Time;
use podwire_proto::v1::{Counts, Eni, ExplainResponse, Failure as Cause};
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::daemon;
use crate::failure::{Failure, Verdict};
use crate::output::{self, Table, plain};

/// Runs the command.
///
/// # Errors
/// The daemon does not tell, or the output is closed.
pub fn run(socket: &Path, as_json: bool, out: &mut dyn Write) -> Result<Verdict, Failure> {
    let told = daemon::explain(socket)?;
    let clock = Clock::this();
    if as_json {
        output::json(out, &to_json(&told, clock))?;
    } else {
        print(&told, clock, out)?;
    }
    Ok(if told.ready { Verdict::Well } else { Verdict::Trouble })
}

fn print(told: &ExplainResponse, clock: Clock, out: &mut dyn Write) -> std::io::Result<()> {
    let counts = told.counts.unwrap_or_default();
    let state = if told.ready { "ready" } else { "not ready" };
    writeln!(out, "ipamd     {state}, version {}", plain(&told.version))?;
    writeln!(out, "growth    {}", growth(told, clock))?;
    writeln!(
        out,
        "addresses {} of {} assigned ({} prefixes): {} allocated, {} free, {} cooling, {} being released",
        counts.assigned,
        counts.capacity,
        counts.prefixes,
        counts.allocated,
        counts.free,
        counts.cooling,
        counts.releasing
    )?;
    writeln!(
        out,
        "enis      {} of {}; {} operations in flight; {} pods wait",
        counts.enis,
        counts.max_enis,
        counts.in_flight,
        told.waiting.len()
    )?;
    if counts.durable < counts.revision {
        writeln!(out, "ledger    {} commits are not on disk yet", counts.revision - counts.durable)?;
    }
    if counts.hurried > 0 {
        writeln!(
            out,
            "hurried   {} addresses were used before their cooldown had ended: nothing else was left",
            counts.hurried
        )?;
    }
    if let Some(failure) = &told.failure {
        writeln!(out, "problem   {}", plain(&failure.message))?;
    }
    if !told.enis.is_empty() {
        writeln!(out)?;
        enis(&told.enis, clock).write(out)?;
    }
    Ok(())
}

/// How growth stands, in words.
pub(crate) fn growth(told: &ExplainResponse, clock: Clock) -> String {
    let growth = told.growth.clone().unwrap_or_default();
    let words = match growth.state.as_str() {
        "blind" => "not yet: the instance's ENIs have not been seen",
        "satisfied" => "nothing is wanted",
        "gathering" => "begins in a moment, with what is asked for until then",
        "in-flight" => "under way",
        "full" => "the node can hold no more",
        "halted" => "halted: the ledger cannot be written, or the daemon is stopping",
        "waiting" => "",
        other => return plain(other),
    };
    let Some(cause) = growth.cause else { return words.to_owned() };
    let until = Time::from_ms(growth.until_boottime_ms);
    format!("waits until {} ({}): {}", clock.tell(until), clock.distance(until), plain(&cause.message))
}

fn enis(enis: &[Eni], clock: Clock) -> Table {
    let names = [
        "ENI", "CARD", "DEVICE", "ROLE", "STAGE", "SUBNET", "PREFIXES", "HELD", "FREE", "COOLING", "DOUBTED",
    ];
    let mut table = Table::new(&names);
    for eni in enis {
        let doubted = match eni.doubted_since_boottime_ms {
            0 => "-".to_owned(),
            since => clock.distance(Time::from_ms(since)),
        };
        table.row(vec![
            plain(&eni.id),
            eni.network_card.to_string(),
            eni.device_index.to_string(),
            plain(&eni.role),
            plain(&eni.stage),
            plain(&eni.subnet),
            eni.prefixes.to_string(),
            eni.held.to_string(),
            eni.free.to_string(),
            eni.cooling.to_string(),
            doubted,
        ]);
    }
    table
}

/// A cause, for programs.
pub(crate) fn cause(cause: Option<&Cause>) -> Value {
    let of = |cause: &Cause| json!({"cause": cause.cause, "message": cause.message, "retry": cause.retry});
    cause.map_or(Value::Null, of)
}

pub(crate) fn to_json(told: &ExplainResponse, clock: Clock) -> Value {
    let Counts {
        capacity,
        assigned,
        allocated,
        releasing,
        cooling,
        free,
        prefixes,
        enis,
        max_enis,
        in_flight,
        hurried,
        revision,
        durable,
    } = told.counts.unwrap_or_default();
    let eni_rows: Vec<Value> = told
        .enis
        .iter()
        .map(|eni| {
            json!({
                "id": eni.id, "network_card": eni.network_card, "device_index": eni.device_index,
                "subnet": eni.subnet, "role": eni.role, "stage": eni.stage, "prefixes": eni.prefixes,
                "held": eni.held, "free": eni.free, "cooling": eni.cooling,
                "doubted_since": (eni.doubted_since_boottime_ms > 0)
                    .then(|| clock.tell(Time::from_ms(eni.doubted_since_boottime_ms))),
            })
        })
        .collect();
    let growth = told.growth.clone().unwrap_or_default();
    json!({
        "ready": told.ready,
        "version": told.version,
        "problem": cause(told.failure.as_ref()),
        "growth": {
            "state": growth.state,
            "cause": cause(growth.cause.as_ref()),
            "until": (growth.until_boottime_ms > 0).then(|| clock.tell(Time::from_ms(growth.until_boottime_ms))),
        },
        "addresses": {
            "capacity": capacity, "assigned": assigned, "allocated": allocated, "releasing": releasing,
            "cooling": cooling, "free": free, "prefixes": prefixes, "hurried": hurried,
        },
        "enis": {"count": enis, "max": max_enis, "list": eni_rows},
        "in_flight": in_flight,
        "waiting": told.waiting.len(),
        "ledger": {"revision": revision, "durable": durable},
    })
}
