//! Total: any input in any state is taken without a panic, and the bookkeeping stays sound.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use podwire_pool::settings::{LeakPolicy, Mode, SubnetPolicy};
use podwire_pool::{
    AttachmentId, DeviceIndex, Ec2Answer, Ec2Failure, Effect, EniConfig, EniId, FailureClass, Input,
    InstanceId, Mac, NetworkCard, ObservedEni, ObservedSubnet, OpId, Pool, RequestId, Revision, Snapshot,
    SnapshotSource, SubnetId, Time,
};
use proptest::prelude::*;

use crate::bench::{key, pod, settings};

/// What a generator of nonsense says; operation ids and revisions are taken relative to real ones.
#[derive(Debug, Clone)]
enum Nonsense {
    Allocate(u64, u8, u64),
    Abandon(u64),
    Release(u64, u8, u64),
    Collect(u64, Vec<u8>),
    Persisted(u64),
    PersistFailed(u64),
    Ec2(usize, Result<Ec2Answer, FailureClass>),
    Host(usize, bool),
    Observed(bool, u64, Vec<ObservedEni>),
    Demand(Option<u32>),
    EniConfig(bool),
    Cordoned(bool),
    Timer,
    Stop,
    Restart(bool, bool),
}

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        8 => (0u8..6).prop_map(|n| IpAddr::V4(Ipv4Addr::new(10, 0, 0, n))),
        1 => (0u8..3).prop_map(|n| IpAddr::V4(Ipv4Addr::new(10, 0, 255, n))),
        1 => Just(IpAddr::V4(Ipv4Addr::new(192, 168, 0, 1))),
        1 => Just(IpAddr::V6(Ipv6Addr::LOCALHOST)),
    ]
}

fn net() -> impl Strategy<Value = IpNetwork> {
    (ip(), prop_oneof![Just(32u8), Just(28), Just(27), Just(0)])
        .prop_map(|(ip, prefix)| IpNetwork::new(ip, prefix.min(32)).unwrap())
}

fn eni() -> impl Strategy<Value = ObservedEni> {
    let place = (0u8..4, any::<bool>(), 0u32..2, 0u32..3, any::<bool>());
    let nets = (prop::collection::vec(ip(), 0..4), prop::collection::vec(net(), 0..2), ip());
    let tags = prop_oneof![
        Just(None),
        Just(Some(vec![])),
        Just(Some(vec![("node.k8s.amazonaws.com/instance_id".into(), "i-1".into())])),
        Just(Some(vec![("node.k8s.amazonaws.com/no_manage".into(), "true".into())])),
        Just(Some(vec![
            ("node.k8s.amazonaws.com/instance_id".into(), "i-dead".into()),
            ("cluster.k8s.amazonaws.com/name".into(), "ours".into())
        ])),
        (0u64..9).prop_map(|n| Some(vec![
            ("node.k8s.amazonaws.com/instance_id".into(), "i-1".into()),
            ("podwire.io/op".into(), n.to_string().into_boxed_str())
        ])),
    ];
    let kind = prop_oneof![Just(None), Just(Some("interface".into())), Just(Some("trunk".into()))];
    (place, nets, tags, kind).prop_map(
        |((id, here, card, device, attached), (addresses, prefixes, primary), tags, kind)| ObservedEni {
            id: EniId::new(format!("eni-{id}")),
            mac: Mac([2, 0, 0, 0, 0, id]),
            attachment: attached.then(|| AttachmentId::new(format!("attach-{id}"))),
            instance: Some(InstanceId::new(if here { "i-1" } else { "i-2" })),
            card: NetworkCard(card),
            device: DeviceIndex(device),
            subnet: SubnetId::new("subnet-1"),
            subnet_cidr: Some("10.0.0.0/16".parse().unwrap()),
            groups: vec![],
            primary,
            addresses,
            prefixes,
            kind,
            tags,
            attached,
        },
    )
}

fn subnet() -> impl Strategy<Value = ObservedSubnet> {
    let tags = prop_oneof![
        Just(vec![]),
        Just(vec![("kubernetes.io/role/cni".into(), "1".into())]),
        Just(vec![("kubernetes.io/role/cni".into(), "0".into())]),
    ];
    (1u8..4, 0u32..40, tags).prop_map(|(id, free, tags)| ObservedSubnet {
        id: SubnetId::new(format!("subnet-{id}")),
        cidr: Some("10.0.0.0/16".parse().unwrap()),
        free,
        tags,
    })
}

fn outcome() -> impl Strategy<Value = Result<Ec2Answer, FailureClass>> {
    prop_oneof![
        prop::collection::vec(net(), 0..3).prop_map(|n| Ok(Ec2Answer::Assigned(n))),
        Just(Ok(Ec2Answer::Unassigned)),
        eni().prop_map(|e| Ok(Ec2Answer::Created(Box::new(e)))),
        Just(Ok(Ec2Answer::Attached(AttachmentId::new("attach-x")))),
        Just(Ok(Ec2Answer::Modified)),
        Just(Ok(Ec2Answer::Tagged)),
        Just(Ok(Ec2Answer::Detached)),
        Just(Ok(Ec2Answer::Deleted)),
        prop::collection::vec(eni(), 0..4).prop_map(|e| Ok(Ec2Answer::Described(e))),
        prop::collection::vec(subnet(), 0..4).prop_map(|s| Ok(Ec2Answer::Subnets(s))),
        any::<bool>().prop_map(|alive| Ok(Ec2Answer::Instances(if alive {
            vec![InstanceId::new("i-dead")]
        } else {
            vec![]
        }))),
        prop_oneof![
            Just(FailureClass::Throttled),
            Just(FailureClass::SubnetExhausted),
            Just(FailureClass::SubnetFragmented),
            Just(FailureClass::LimitExceeded),
            Just(FailureClass::QuotaExceeded),
            Just(FailureClass::Denied),
            Just(FailureClass::NotFound),
            Just(FailureClass::Busy),
            Just(FailureClass::Invalid),
            Just(FailureClass::Unknown),
        ]
        .prop_map(Err),
    ]
}

fn nonsense() -> impl Strategy<Value = Nonsense> {
    prop_oneof![
        4 => (0u64..20, 0u8..5, 0u64..100_000).prop_map(|(r, k, t)| Nonsense::Allocate(r, k, t)),
        1 => (0u64..20).prop_map(Nonsense::Abandon),
        3 => (0u64..20, 0u8..5, 0u64..100_000).prop_map(|(r, k, t)| Nonsense::Release(r, k, t)),
        1 => (0u64..20, prop::collection::vec(0u8..5, 0..3)).prop_map(|(r, k)| Nonsense::Collect(r, k)),
        6 => (0u64..3).prop_map(Nonsense::Persisted),
        1 => (0u64..3).prop_map(Nonsense::PersistFailed),
        6 => (0usize..6, outcome()).prop_map(|(op, o)| Nonsense::Ec2(op, o)),
        6 => (0usize..6, prop::bool::weighted(0.9)).prop_map(|(op, ok)| Nonsense::Host(op, ok)),
        3 => (any::<bool>(), 0u64..3, prop::collection::vec(eni(), 0..4))
            .prop_map(|(m, a, e)| Nonsense::Observed(m, a, e)),
        1 => prop::option::of(0u32..9).prop_map(Nonsense::Demand),
        1 => any::<bool>().prop_map(Nonsense::EniConfig),
        1 => any::<bool>().prop_map(Nonsense::Cordoned),
        3 => Just(Nonsense::Timer),
        1 => prop::bool::weighted(0.05).prop_map(|stop| if stop { Nonsense::Stop } else { Nonsense::Timer }),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(b, s)| Nonsense::Restart(b, s)),
    ]
}

struct Victim {
    pool: Pool,
    mode: Mode,
    now: Time,
    ops: Vec<OpId>,
    revision: u64,
    log: Vec<podwire_pool::Record>,
}

impl Victim {
    fn suffer(&mut self, step: Nonsense) {
        let at = |n: u64| Revision(self.revision.saturating_sub(n));
        let time = Time::from_ms;
        let nth = |n: usize| self.ops.iter().rev().nth(n).copied().unwrap_or(OpId(77));
        let input = match step {
            Nonsense::Allocate(request, who, started) => Input::Allocate {
                request: RequestId(request),
                sandbox: key(&who.to_string()),
                pod: pod("p"),
                started: time(started),
                deadline: time(started * 2),
            },
            Nonsense::Abandon(request) => Input::Abandon { request: RequestId(request) },
            Nonsense::Release(request, who, started) => Input::Release {
                request: RequestId(request),
                sandbox: key(&who.to_string()),
                started: time(started),
            },
            Nonsense::Collect(request, valid) => Input::Collect {
                request: RequestId(request),
                network: "aws-cni".into(),
                valid: valid.iter().map(|k| key(&k.to_string())).collect(),
                started: self.now,
            },
            Nonsense::Persisted(n) => Input::Persisted { revision: at(n) },
            Nonsense::PersistFailed(n) => Input::PersistFailed { revision: at(n), reason: "full".into() },
            Nonsense::Ec2(op, outcome) => Input::Ec2 {
                op: nth(op),
                outcome: outcome.map_err(|class| Ec2Failure { class, code: "c".into(), message: "m".into() }),
            },
            Nonsense::Host(op, ok) => {
                Input::Host { op: nth(op), outcome: if ok { Ok(()) } else { Err("no".into()) } }
            }
            Nonsense::Observed(metadata, as_of, enis) => Input::Observed(Snapshot {
                source: if metadata { SnapshotSource::Metadata } else { SnapshotSource::Describe },
                as_of: if as_of == 0 { OpId(u64::MAX) } else { OpId(as_of) },
                enis,
            }),
            Nonsense::Demand(bound) => Input::Demand { bound },
            Nonsense::EniConfig(there) => Input::EniConfig(
                there.then(|| EniConfig { subnet: SubnetId::new("subnet-2"), groups: vec![] }),
            ),
            Nonsense::Cordoned(cordoned) => Input::Cordoned(cordoned),
            Nonsense::Timer => {
                self.now = self.pool.next_deadline().unwrap_or(self.now);
                Input::Timer
            }
            Nonsense::Stop => Input::Stop,
            Nonsense::Restart(same_boot, from_snapshot) => {
                let records = if from_snapshot { self.pool.snapshot() } else { self.log.clone() };
                let mut settings = settings();
                settings.mode = self.mode;
                self.pool = Pool::recover(settings, same_boot, records, self.now);
                self.log = self.pool.snapshot();
                self.ops.clear();
                self.revision = 0;
                Input::Timer
            }
        };
        self.handle(input);
    }

    fn handle(&mut self, input: Input) {
        let mut effects = Vec::new();
        let told = format!("{input:?}");
        self.pool.handle(self.now, input, &mut effects);
        if let Err(violation) = self.pool.check() {
            panic!("{violation} after {told}");
        }
        if let Some(at) = self.pool.next_deadline() {
            assert!(at > self.now, "a deadline that is not ahead after {told}");
        }
        for effect in effects {
            match effect {
                Effect::Ec2 { op, .. } | Effect::Host { op, .. } => self.ops.push(op),
                Effect::Persist { revision, records } => {
                    self.revision = revision.0;
                    self.log.extend(records);
                }
                Effect::Reply { .. } | Effect::Explain(_) => {}
            }
        }
    }
}

// The number of cases: PROPTEST_CASES, 256 when unset.
proptest! {
    #[test]
    fn any_input_in_any_state_is_taken(
        prefixes in any::<bool>(),
        custom in prop::bool::weighted(0.2),
        floor in prop_oneof![Just(0u32), Just(16)],
        nodes in prop_oneof![Just(None), Just(Some(200u32))],
        steps in prop::collection::vec(nonsense(), 1..120),
    ) {
        let mode = if prefixes { Mode::Prefix } else { Mode::SecondaryIp };
        let mut settings = settings();
        settings.mode = mode;
        settings.cluster = Some("ours".into());
        settings.primary_excluded = custom;
        settings.subnets = SubnetPolicy { discovery: true, floor };
        settings.leaks = LeakPolicy::Delete;
        settings.share.nodes = nodes;
        let pool = Pool::new(settings);
        let now = Time::from_ms(50_000);
        let mut victim = Victim { pool, mode, now, ops: Vec::new(), revision: 0, log: Vec::new() };
        for step in steps {
            victim.suffer(step);
        }
    }
}
