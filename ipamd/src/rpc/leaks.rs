//! What dead nodes left behind → wire message. Pure.

use podwire_pool::settings::LeakPolicy;
use podwire_pool::{Answer, LeakReport, LeakRow, LeakVerdict, Time};
use podwire_proto::v1;

use crate::rpc::answer;

/// The answer to a Leaks.
#[must_use]
pub fn response(answer: &Answer) -> v1::LeaksResponse {
    let failure = |failure| v1::LeaksResponse { failure: Some(failure), ..v1::LeaksResponse::default() };
    match answer {
        Answer::Leaks(report) => told(report),
        Answer::Refused(cause) => failure(answer::failure(cause)),
        Answer::Allocated { .. } | Answer::Released(_) | Answer::Collected(_) => failure(answer::mismatch()),
    }
}

fn told(report: &LeakReport) -> v1::LeaksResponse {
    let LeakReport { rows, cluster, policy, proof, held_up } = report;
    v1::LeaksResponse {
        failure: None,
        cluster: cluster.as_deref().unwrap_or_default().into(),
        policy: match policy {
            LeakPolicy::Ignore => "ignore",
            LeakPolicy::DryRun => "dry-run",
            LeakPolicy::Delete => "delete",
        }
        .into(),
        proof_s: proof.as_secs(),
        leaks: rows.iter().map(leak).collect(),
        held_up: held_up.as_ref().map(answer::failure),
    }
}

fn leak(row: &LeakRow) -> v1::Leak {
    let LeakRow { eni, subnet, address, created_at, verdict, since, proven, deleted, failure } = row;
    let owner = verdict.as_ref().and_then(LeakVerdict::owner);
    v1::Leak {
        eni: eni.to_string(),
        subnet: subnet.to_string(),
        address: address.to_string(),
        created_at: created_at.as_deref().unwrap_or_default().into(),
        owner: owner.map(ToString::to_string).unwrap_or_default(),
        verdict: verdict.as_ref().map_or("", LeakVerdict::name).into(),
        message: verdict.as_ref().map(ToString::to_string).unwrap_or_default(),
        since_boottime_ms: since.map_or(0, Time::as_ms),
        proven: *proven,
        deleted: *deleted,
        failure: failure.as_ref().map(answer::failure),
    }
}
