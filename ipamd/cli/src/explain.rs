//! `podwire explain`: why the pool does not grow, why an ADD waits, what went wrong lately, and what to do about it.

use std::io::Write;
use std::path::Path;

use podwire_pool::Time;
use podwire_proto::v1::{Complaint, ExplainResponse, Pod, Waiter};
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::daemon;
use crate::failure::{Failure, Verdict};
use crate::output::{self, Table, plain};
use crate::pods::short;
use crate::status;

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
    writeln!(out, "growth    {}", status::growth(told, clock))?;
    match &told.failure {
        Some(failure) => writeln!(out, "problem   {}: {}", plain(&failure.cause), plain(&failure.message))?,
        None => writeln!(out, "problem   none")?,
    }
    if told.waiting.is_empty() {
        writeln!(out, "waiting   no pod waits for an address")?;
    } else {
        let mut table = Table::new(&["WAITING POD", "CONTAINER", "SINCE", "WHY"]);
        for waiter in &told.waiting {
            let since = Time::from_ms(waiter.since_boottime_ms);
            let why = waiter.cause.as_ref().map(|cause| plain(&cause.message)).unwrap_or_default();
            table.row(vec![plain(&pod_name(waiter)), plain(&container(waiter)), clock.distance(since), why]);
        }
        writeln!(out)?;
        table.write(out)?;
    }
    if !told.complaints.is_empty() {
        let mut table = Table::new(&["SINCE", "LAST", "TIMES", "CAUSE", "WHAT HAPPENED, AND WHAT TO DO"]);
        for complaint in &told.complaints {
            let cause = complaint.cause.clone().unwrap_or_default();
            table.row(vec![
                clock.tell(Time::from_ms(complaint.first_boottime_ms)),
                clock.distance(Time::from_ms(complaint.last_boottime_ms)),
                complaint.count.to_string(),
                plain(&cause.cause),
                plain(&cause.message),
            ]);
        }
        writeln!(out)?;
        table.write(out)?;
    }
    Ok(())
}

fn pod_name(waiter: &Waiter) -> String {
    let Pod { namespace, name, .. } = waiter.pod.clone().unwrap_or_default();
    if namespace.is_empty() { name } else { format!("{namespace}/{name}") }
}

fn container(waiter: &Waiter) -> String {
    waiter.sandbox.as_ref().map(|sandbox| short(&sandbox.container_id)).unwrap_or_default()
}

fn to_json(told: &ExplainResponse, clock: Clock) -> Value {
    let waiting: Vec<Value> = told
        .waiting
        .iter()
        .map(|waiter| {
            let pod = waiter.pod.clone().unwrap_or_default();
            json!({
                "pod_namespace": pod.namespace,
                "pod_name": pod.name,
                "container_id": waiter.sandbox.as_ref().map(|sandbox| &sandbox.container_id),
                "since": clock.tell(Time::from_ms(waiter.since_boottime_ms)),
                "why": status::cause(waiter.cause.as_ref()),
            })
        })
        .collect();
    let complaint = |complaint: &Complaint| {
        json!({
            "first": clock.tell(Time::from_ms(complaint.first_boottime_ms)),
            "last": clock.tell(Time::from_ms(complaint.last_boottime_ms)),
            "count": complaint.count,
            "what": status::cause(complaint.cause.as_ref()),
        })
    };
    let complaints: Vec<Value> = told.complaints.iter().map(complaint).collect();
    let mut document = status::to_json(told, clock);
    document["waiting"] = waiting.into();
    document["complaints"] = complaints.into();
    document
}
