//! `podwire leaks`: what dead nodes of this cluster left behind in EC2, and with what proof. The daemon looks and
//! judges: it has the evidence (what it saw before, and when) and this node's part of the account's EC2 budget.

use std::io::Write;
use std::path::Path;

use podwire_pool::Time;
use podwire_proto::v1::{Leak, LeaksResponse};
use serde_json::{Value, json};

use crate::clock::{Clock, span};
use crate::daemon;
use crate::failure::{Failure, Verdict};
use crate::output::{self, Table, or_dash, plain};
use crate::status;

/// Runs the command.
///
/// # Errors
/// The daemon does not tell, or the output is closed.
pub fn run(socket: &Path, delete: bool, as_json: bool, out: &mut dyn Write) -> Result<Verdict, Failure> {
    let told = daemon::leaks(socket, delete)?;
    if let Some(failure) = &told.failure {
        return Err(Failure::Cannot(failure.message.clone()));
    }
    let clock = Clock::this();
    if as_json {
        output::json(out, &to_json(&told, clock))?;
    } else {
        print(&told, delete, clock, out)?;
    }
    let left = told.leaks.iter().any(|leak| matches!(Fate::of(leak), Fate::Proven | Fate::Failed));
    Ok(if delete && left { Verdict::Trouble } else { Verdict::Well })
}

/// What became of an ENI, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Unknown,
    Suspected,
    Proven,
    Failed,
    Deleted,
}

impl Fate {
    fn of(leak: &Leak) -> Self {
        if leak.deleted {
            return Self::Deleted;
        }
        match leak.verdict.as_str() {
            "leaked" if leak.failure.is_some() => Self::Failed,
            "leaked" if leak.proven => Self::Proven,
            "leaked" => Self::Suspected,
            "" => Self::Unknown,
            _ => Self::Kept,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Unknown => "unknown",
            Self::Suspected => "suspected",
            Self::Proven => "proven",
            Self::Failed => "failed",
            Self::Deleted => "deleted",
        }
    }
}

fn count(leaks: &[Leak], fate: Fate) -> usize {
    leaks.iter().filter(|leak| Fate::of(leak) == fate).count()
}

fn print(told: &LeaksResponse, delete: bool, clock: Clock, out: &mut dyn Write) -> std::io::Result<()> {
    if told.cluster.is_empty() {
        writeln!(
            out,
            "cluster   not known: set CLUSTER_NAME; without it nobody can tell whose an ENI is, and none is deleted"
        )?;
    } else {
        writeln!(out, "cluster   {}", plain(&told.cluster))?;
    }
    writeln!(out, "daemon    {}", policy(&told.policy))?;
    let numbers: Vec<String> =
        [Fate::Deleted, Fate::Failed, Fate::Proven, Fate::Suspected, Fate::Unknown, Fate::Kept]
            .into_iter()
            .map(|fate| (count(&told.leaks, fate), fate))
            .filter(|(number, _)| *number > 0)
            .map(|(number, fate)| format!("{number} {}", fate.name()))
            .collect();
    let numbers = if numbers.is_empty() { "none".to_owned() } else { numbers.join(", ") };
    writeln!(out, "detached  {numbers}")?;
    if let Some(held_up) = &told.held_up {
        writeln!(out, "held up   {}", plain(&held_up.message))?;
    }
    if !told.leaks.is_empty() {
        writeln!(out)?;
        table(&told.leaks, clock).write(out)?;
    }
    if let Some(next) = advice(told, delete, clock) {
        writeln!(out, "\n{next}")?;
    }
    Ok(())
}

fn policy(policy: &str) -> String {
    match policy {
        "delete" => "looks once a day and deletes what is proven by itself".into(),
        "dry-run" => "looks once a day and only names what is proven (PODWIRE_LEAK_DRY_RUN)".into(),
        "ignore" => "does not look by itself (DISABLE_LEAKED_ENI_CLEANUP)".into(),
        other => plain(other),
    }
}

/// What to do next, where there is something to do.
fn advice(told: &LeaksResponse, delete: bool, clock: Clock) -> Option<String> {
    if count(&told.leaks, Fate::Proven) > 0 {
        let so =
            if delete { "Not all was deleted by this order; give it again" } else { "Delete what is proven" };
        return Some(format!("{so}: podwire leaks --delete"));
    }
    let suspected = told.leaks.iter().filter(|leak| Fate::of(leak) == Fate::Suspected);
    let first = suspected.map(|leak| leak.since_boottime_ms).min()?;
    let proof = std::time::Duration::from_secs(told.proof_s);
    let from = Time::from_ms(first).after(proof);
    let wait = clock.now().map_or(proof, |now| from.since(now));
    let then = match told.policy.as_str() {
        "delete" => "the daemon looks again then and deletes what is proven",
        _ => "ask again then",
    };
    Some(format!(
        "A suspect is proven when a look finds it again {} after the first; that is in {}: {then}.",
        span(proof),
        span(wait)
    ))
}

fn table(leaks: &[Leak], clock: Clock) -> Table {
    let mut table = Table::new(&["ENI", "SUBNET", "ADDRESS", "CREATED", "FATE", "OWNERLESS SINCE", "WHY"]);
    for leak in leaks {
        let since = match leak.since_boottime_ms {
            0 => "-".to_owned(),
            since => clock.distance(Time::from_ms(since)),
        };
        let why = match (&leak.failure, leak.message.as_str()) {
            (Some(failure), _) => plain(&failure.message),
            (None, "") => "EC2 has not told whether its owner exists".to_owned(),
            (None, message) => plain(message),
        };
        table.row(vec![
            plain(&leak.eni),
            plain(&leak.subnet),
            plain(&leak.address),
            or_dash(&leak.created_at),
            Fate::of(leak).name().into(),
            since,
            why,
        ]);
    }
    table
}

fn to_json(told: &LeaksResponse, clock: Clock) -> Value {
    let rows: Vec<Value> = told
        .leaks
        .iter()
        .map(|leak| {
            let since = Time::from_ms(leak.since_boottime_ms);
            let known = leak.since_boottime_ms > 0;
            let proof = std::time::Duration::from_secs(told.proof_s);
            json!({
                "eni": leak.eni, "subnet": leak.subnet, "address": leak.address,
                "created_at": or_null(&leak.created_at), "owner": or_null(&leak.owner),
                "fate": Fate::of(leak).name(), "verdict": or_null(&leak.verdict), "message": leak.message,
                "ownerless_since": known.then(|| clock.tell(since)),
                "proven": leak.proven,
                "proven_from": known.then(|| clock.tell(since.after(proof))),
                "deleted": leak.deleted,
                "failure": status::cause(leak.failure.as_ref()),
            })
        })
        .collect();
    json!({
        "cluster": or_null(&told.cluster),
        "policy": told.policy,
        "proof_seconds": told.proof_s,
        "enis": rows,
        "held_up": status::cause(told.held_up.as_ref()),
    })
}

fn or_null(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leak(eni: &str, verdict: &str) -> Leak {
        Leak { eni: eni.into(), verdict: verdict.into(), message: "why".into(), ..Leak::default() }
    }

    fn printed(told: &LeaksResponse, delete: bool) -> String {
        let mut out = Vec::new();
        print(told, delete, Clock::this(), &mut out).expect("a Vec takes all");
        String::from_utf8(out).expect("text")
    }

    /// Whatever EC2's tags hold, it steers no terminal; a node without leaks is told in one word.
    #[test]
    fn hostile_tags_are_escaped_and_nothing_found_is_told() {
        let hostile = Leak { created_at: "\u{1b}[2J".into(), ..leak("eni-1", "not-ours") };
        let told = LeaksResponse { cluster: "c\n".into(), leaks: vec![hostile], ..LeaksResponse::default() };
        let text = printed(&told, false);
        assert!(!text.contains('\u{1b}') && text.contains("1 kept"), "{text}");
        assert!(printed(&LeaksResponse::default(), false).contains("detached  none"));
    }

    /// Each state leads to the next step that a person can take.
    #[test]
    fn advice_follows_from_what_was_found() {
        let Clock::This { now, .. } = Clock::this() else { panic!("this machine has a clock") };
        let suspected = Leak { since_boottime_ms: now.as_ms(), ..leak("eni-1", "leaked") };
        let proven = Leak { proven: true, ..suspected.clone() };
        let deleted = Leak { deleted: true, ..proven.clone() };
        let told = |leaks: Vec<Leak>| LeaksResponse {
            cluster: "c".into(),
            policy: "dry-run".into(),
            proof_s: 600,
            leaks,
            ..LeaksResponse::default()
        };
        assert!(printed(&told(vec![suspected.clone()]), false).contains("ask again then"));
        assert!(printed(&told(vec![suspected, proven.clone()]), false).contains("podwire leaks --delete"));
        assert!(printed(&told(vec![proven]), true).contains("give it again"));
        let quiet = printed(&told(vec![deleted, leak("eni-2", "owner-exists")]), true);
        assert!(quiet.contains("1 deleted, 1 kept") && !quiet.contains("again"), "{quiet}");
    }
}
