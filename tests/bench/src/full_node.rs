//! A node as large as they come, whose ENIs and addresses are all there already: 15 ENIs with 49 pod addresses each.
//! EC2 and the host say yes to everything.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use podwire_pool::settings::{LEAK_PROOF, LeakPolicy, Limits, Mode, Settings, Share, SubnetPolicy, Warm};
use podwire_pool::{
    AttachmentId, BootId, DeviceIndex, Ec2Answer, Ec2Call, EniId, GroupId, Input, InstanceId, Mac,
    NetworkCard, ObservedEni, OpId, PodRef, RequestId, SandboxKey, Snapshot, SnapshotSource, SubnetId, Time,
};

/// ENIs of a p3dn.24xlarge. *Source*: EC2 user guide, "IP addresses per network interface".
const ENIS: u8 = 15;
/// Addresses on each, its own included. *Source*: as above.
const ADDRESSES: u8 = 50;

/// Everything is to be kept, so that nothing but pods makes the pool move.
pub(crate) fn settings(cooldown: Duration) -> Settings {
    let all = u32::from(ENIS) * u32::from(ADDRESSES - 1);
    Settings {
        instance: InstanceId::new("i-bench"),
        boot: BootId::new("boot-1"),
        mode: Mode::SecondaryIp,
        warm: Warm::Targets { ip: 0, minimum: all, eni: 0, prefix: 0 },
        limits: Limits { enis: u32::from(ENIS), ipv4_per_eni: u32::from(ADDRESSES) },
        max_eni: None,
        max_pods: all + 2,
        primary_excluded: false,
        manage_untagged: false,
        cooldown,
        cluster: None,
        subnets: SubnetPolicy { discovery: false, floor: 0 },
        leaks: LeakPolicy::Ignore,
        leak_proof: LEAK_PROOF,
        share: Share::default(),
        gather: Duration::ZERO,
        seed: 1,
    }
}

fn enis() -> Vec<ObservedEni> {
    let address = |eni: u8, n: u8| IpAddr::V4(Ipv4Addr::new(10, 0, eni, n));
    let one = |n: u8| ObservedEni {
        id: EniId::new(format!("eni-{n}")),
        mac: Mac([2, 0, 0, 0, 0, n]),
        attachment: Some(AttachmentId::new(format!("attach-{n}"))),
        instance: Some(InstanceId::new("i-bench")),
        card: NetworkCard(0),
        device: DeviceIndex(u32::from(n)),
        subnet: SubnetId::new("subnet-1"),
        subnet_cidr: "10.0.0.0/16".parse().ok(),
        groups: vec![GroupId::new("sg-1")],
        primary: address(n, 250),
        addresses: (1..ADDRESSES).map(|a| address(n, a)).collect(),
        prefixes: Vec::new(),
        kind: Some("interface".into()),
        tags: Some(vec![("node.k8s.amazonaws.com/instance_id".into(), "i-bench".into())]),
        attached: true,
    };
    (0..ENIS).map(one).collect()
}

/// What a Describe shows.
pub(crate) fn seen() -> Input {
    let as_of = OpId(u64::MAX);
    Input::Observed(Snapshot { source: SnapshotSource::Describe, as_of, enis: enis() })
}

/// EC2's answer, where the pool asks for anything; it has no reason to ask for more or less.
pub(crate) fn answer(op: OpId, call: &Ec2Call) -> anyhow::Result<Input> {
    let outcome = match call {
        Ec2Call::DeleteOnTermination { .. } => Ok(Ec2Answer::Modified),
        Ec2Call::Describe { .. } => Ok(Ec2Answer::Described(enis())),
        Ec2Call::DescribeSubnets { .. } => Ok(Ec2Answer::Subnets(Vec::new())),
        other @ (Ec2Call::Assign { .. }
        | Ec2Call::Unassign { .. }
        | Ec2Call::Create { .. }
        | Ec2Call::Attach { .. }
        | Ec2Call::Detach { .. }
        | Ec2Call::Delete { .. }
        | Ec2Call::SetGroups { .. }
        | Ec2Call::Tag { .. }
        | Ec2Call::FindDetached
        | Ec2Call::DescribeInstances { .. }) => {
            anyhow::bail!("the pool of a full node asked EC2 for {other:?}")
        }
    };
    Ok(Input::Ec2 { op, outcome })
}

/// Names as containerd and Kubernetes give them.
pub(crate) fn sandbox(pod: usize, life: usize) -> SandboxKey {
    SandboxKey::new(format!("{pod:032x}{life:032x}"), "eth0")
}

/// An ADD.
pub(crate) fn add(request: u64, sandbox: SandboxKey, now: Time) -> Input {
    let pod = PodRef {
        namespace: "default".into(),
        name: format!("web-6b7f4c9d8-{request}").into(),
        uid: "0f8fad5b-d9cb-469f-a165-70867728950e".into(),
        network: "aws-cni".into(),
    };
    let deadline = now.after(Duration::from_secs(75));
    Input::Allocate { request: RequestId(request), sandbox, pod, started: now, deadline }
}

/// A DEL.
pub(crate) fn del(request: u64, sandbox: SandboxKey, now: Time) -> Input {
    Input::Release { request: RequestId(request), sandbox, started: now }
}
