//! What several tests begin with, and what they look at.

use std::net::IpAddr;

use podwire_pool::{Answer, Ec2Call, EniId, Input, ObservedEni, OpId, Snapshot, SnapshotSource};

use crate::bench::{Bench, settings};

/// A node that is up and has no pod.
pub(crate) fn booted() -> Bench {
    let mut bench = Bench::new(settings());
    bench.see_metadata();
    bench.run();
    bench
}

/// Four pods come one by one: the last of them has no room on the primary ENI.
pub(crate) fn grow(bench: &mut Bench) {
    bench.see_metadata();
    for n in 1..=4 {
        bench.add(n, &format!("pod-{n}"));
        bench.run();
    }
}

/// A node with four pods, the last of them on a second ENI.
pub(crate) fn grown() -> Bench {
    let mut bench = Bench::new(settings());
    grow(&mut bench);
    bench
}

/// The second ENI of such a node.
pub(crate) fn second() -> EniId {
    EniId::new("eni-1")
}

/// How often EC2 was asked what ENIs there are.
pub(crate) fn describes(bench: &Bench) -> usize {
    bench.all_calls.iter().filter(|call| matches!(call, Ec2Call::Describe { .. })).count()
}

/// The address that an ADD was answered.
pub(crate) fn address(bench: &Bench, request: u64) -> IpAddr {
    match bench.answer(request) {
        Some(Answer::Allocated { addresses, .. }) => addresses[0],
        other => panic!("no address for request {request}: {other:?}"),
    }
}

impl Bench {
    pub(crate) fn see_metadata(&mut self) {
        let enis =
            self.enis.values().map(|e| ObservedEni { tags: None, kind: None, attachment: None, ..e.clone() });
        let enis = enis.filter(|e| e.attached).collect();
        let (source, as_of) = (SnapshotSource::Metadata, OpId(u64::MAX));
        self.input(Input::Observed(Snapshot { source, as_of, enis }));
    }

    pub(crate) fn describe(&mut self) {
        let enis = self.enis.values().cloned().collect();
        let (source, as_of) = (SnapshotSource::Describe, OpId(u64::MAX));
        self.input(Input::Observed(Snapshot { source, as_of, enis }));
    }
}
