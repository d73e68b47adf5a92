//! What is going on → wire message. Pure.

use podwire_pool::{EniRow, GrowthNow, Stats, Waiting};
use podwire_proto::v1;

use crate::complaints::Complaint;
use crate::driver::Explanation;
use crate::rpc::answer;

/// The answer to an Explain.
#[must_use]
pub fn response(explanation: &Explanation) -> v1::ExplainResponse {
    let Explanation { now, stats, growth, waiting, enis, complaints } = explanation;
    v1::ExplainResponse {
        now_boottime_ms: now.as_ms(),
        version: env!("CARGO_PKG_VERSION").into(),
        ready: stats.ready,
        failure: stats.failure.as_ref().map(answer::failure),
        counts: Some(counts(stats)),
        growth: Some(growth_now(growth)),
        waiting: waiting.iter().map(waiter).collect(),
        enis: enis.iter().map(eni).collect(),
        complaints: complaints.iter().map(complaint).collect(),
    }
}

fn counts(stats: &Stats) -> v1::Counts {
    v1::Counts {
        capacity: stats.capacity,
        assigned: stats.assigned,
        allocated: stats.allocated,
        releasing: stats.releasing,
        cooling: stats.cooling,
        free: stats.free,
        prefixes: stats.prefixes,
        enis: stats.enis,
        max_enis: stats.max_enis,
        in_flight: stats.in_flight,
        hurried: stats.hurried,
        revision: stats.revision.0,
        durable: stats.durable.0,
    }
}

fn growth_now(growth: &GrowthNow) -> v1::Growth {
    let (cause, until) = match growth {
        GrowthNow::Waiting { until, cause } => (Some(answer::failure(cause)), until.as_ms()),
        GrowthNow::Gathering { until } => (None, until.as_ms()),
        GrowthNow::Blind
        | GrowthNow::Satisfied
        | GrowthNow::InFlight
        | GrowthNow::Full
        | GrowthNow::Halted => (None, 0),
    };
    v1::Growth { state: growth.name().into(), cause, until_boottime_ms: until }
}

fn waiter(waiting: &Waiting) -> v1::Waiter {
    let Waiting { sandbox, pod, since, cause } = waiting;
    v1::Waiter {
        sandbox: Some(v1::Sandbox {
            container_id: sandbox.container_id.to_string(),
            ifname: sandbox.ifname.to_string(),
            network: pod.network.to_string(),
        }),
        pod: Some(v1::Pod {
            namespace: pod.namespace.to_string(),
            name: pod.name.to_string(),
            uid: pod.uid.to_string(),
        }),
        since_boottime_ms: since.as_ms(),
        cause: Some(answer::failure(cause)),
    }
}

fn eni(row: &EniRow) -> v1::Eni {
    v1::Eni {
        id: row.id.to_string(),
        network_card: row.card.0,
        device_index: row.device.0,
        subnet: row.subnet.to_string(),
        role: row.role.into(),
        stage: row.stage.into(),
        doubted_since_boottime_ms: row.doubted_since.map_or(0, podwire_pool::Time::as_ms),
        prefixes: row.prefixes,
        held: row.held,
        cooling: row.cooling,
        free: row.free,
    }
}

fn complaint(complaint: &Complaint) -> v1::Complaint {
    v1::Complaint {
        cause: Some(answer::failure(&complaint.cause)),
        first_boottime_ms: complaint.first.as_ms(),
        last_boottime_ms: complaint.last.as_ms(),
        count: complaint.count,
    }
}
