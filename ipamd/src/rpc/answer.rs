//! The pool's answers and causes → wire messages. Pure.

use podwire_pool::{Answer, Cause, SandboxKey};
use podwire_proto::v1;

/// A cause as the plugin gets it.
#[must_use]
pub fn failure(cause: &Cause) -> v1::Failure {
    v1::Failure { cause: cause.name().into(), message: cause.to_string(), retry: cause.retry() }
}

/// A failure that is no pool cause: the daemon is ending, or the request makes no sense.
#[must_use]
pub fn refusal(name: &str, message: String, retry: bool) -> v1::Failure {
    v1::Failure { cause: name.into(), message, retry }
}

/// An allocation, when the answer is one.
#[must_use]
pub fn allocation(answer: &Answer, layout: v1::Layout) -> Option<v1::Allocation> {
    let Answer::Allocated { addresses, is_new, eni, card, device } = answer else { return None };
    Some(v1::Allocation {
        addresses: addresses.iter().map(ToString::to_string).collect(),
        is_new: *is_new,
        device_index: device.0,
        network_card: card.0,
        eni: eni.to_string(),
        layout: layout.into(),
    })
}

/// The answer to an Allocate.
#[must_use]
pub fn to_allocate(answer: &Answer, layout: v1::Layout) -> v1::AllocateResponse {
    use v1::allocate_response::Outcome;
    let outcome = match (allocation(answer, layout), answer) {
        (Some(allocation), _) => Outcome::Allocation(allocation),
        (None, Answer::Refused(cause)) => Outcome::Failure(failure(cause)),
        (None, _) => Outcome::Failure(mismatch()),
    };
    v1::AllocateResponse { outcome: Some(outcome) }
}

/// The answer to a Release.
#[must_use]
pub fn to_release(answer: &Answer, host_interface: String) -> v1::ReleaseResponse {
    use v1::release_response::Outcome;
    let outcome = match answer {
        Answer::Released(addresses) => {
            let addresses = addresses.iter().map(ToString::to_string).collect();
            Outcome::Released(v1::Released { addresses, host_interface })
        }
        Answer::Refused(cause) => Outcome::Failure(failure(cause)),
        Answer::Allocated { .. } | Answer::Collected(_) | Answer::Leaks(_) => Outcome::Failure(mismatch()),
    };
    v1::ReleaseResponse { outcome: Some(outcome) }
}

/// The answer to a Collect.
#[must_use]
pub fn to_collect(answer: &Answer, network: &str) -> v1::CollectResponse {
    let sandbox = |key: &SandboxKey| v1::Sandbox {
        container_id: key.container_id.to_string(),
        ifname: key.ifname.to_string(),
        network: network.to_owned(),
    };
    match answer {
        Answer::Collected(keys) => {
            v1::CollectResponse { collected: keys.iter().map(sandbox).collect(), failure: None, held: 0 }
        }
        Answer::Refused(cause) => {
            v1::CollectResponse { collected: Vec::new(), failure: Some(failure(cause)), held: 0 }
        }
        Answer::Allocated { .. } | Answer::Released(_) | Answer::Leaks(_) => {
            v1::CollectResponse { collected: Vec::new(), failure: Some(mismatch()), held: 0 }
        }
    }
}

/// The pool answered a question nobody asked: a defect, reported instead of hidden.
pub(super) fn mismatch() -> v1::Failure {
    refusal("internal", "ipamd answered another question than was asked; please report this".into(), true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use podwire_pool::{DeviceIndex, EniId, NetworkCard};

    #[test]
    fn allocation_carries_addresses_and_eni() {
        let answer = Answer::Allocated {
            addresses: vec!["10.0.0.9".parse().expect("address")],
            is_new: true,
            eni: EniId::new("eni-1"),
            card: NetworkCard(0),
            device: DeviceIndex(2),
        };
        let wire = allocation(&answer, v1::Layout::Compat).expect("an allocation");
        assert_eq!((wire.addresses.as_slice(), wire.device_index), (&["10.0.0.9".to_owned()][..], 2));
        assert_eq!(wire.layout(), v1::Layout::Compat);
    }

    #[test]
    fn refusal_keeps_cause_name_and_retry() {
        let sandbox = SandboxKey::new("c1", "eth0");
        let wire = to_allocate(&Answer::Refused(Cause::SandboxDeleted { sandbox }), v1::Layout::Constant);
        let Some(v1::allocate_response::Outcome::Failure(failure)) = wire.outcome else {
            panic!("a failure")
        };
        assert_eq!((failure.cause.as_str(), failure.retry), ("sandbox-deleted", false));
    }
}
