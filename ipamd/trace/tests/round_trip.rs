//! Whatever may come into the pool survives the way into a trace and back; whatever is no trace is refused with a line.
#![allow(clippy::unwrap_used, reason = "a test that finds what it did not expect has to stop")]

use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use podwire_pool::settings::{LEAK_PROOF, LeakPolicy, Limits, Mode, Settings, Share, SubnetPolicy, Warm};
use podwire_pool::{
    AttachmentId, BootId, DeviceIndex, Ec2Answer, Ec2Failure, EniConfig, EniId, FailureClass, GroupId, Input,
    InstanceId, Mac, NetworkCard, ObservedEni, ObservedSubnet, OpId, PodRef, Pool, RequestId, Revision,
    SandboxKey, Snapshot, SnapshotSource, SubnetId, Time, text,
};
use podwire_trace::{Bounds, Outcome, Ring, Trace, TraceError};
use proptest::prelude::*;

fn word() -> impl Strategy<Value = Box<str>> {
    prop_oneof!["[a-z0-9-]{0,12}", ".{0,8}"].prop_map(Into::into)
}

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
}

fn net() -> impl Strategy<Value = IpNetwork> {
    (ip(), 0u8..=32).prop_map(|(ip, prefix)| IpNetwork::new(ip, prefix).unwrap())
}

fn key() -> impl Strategy<Value = SandboxKey> {
    (word(), word()).prop_map(|(id, ifname)| SandboxKey::new(id, ifname))
}

fn pod() -> impl Strategy<Value = PodRef> {
    (word(), word(), word(), word()).prop_map(|(namespace, name, uid, network)| PodRef {
        namespace,
        name,
        uid,
        network,
    })
}

fn time() -> impl Strategy<Value = Time> {
    any::<u64>().prop_map(Time::from_ms)
}

fn eni() -> impl Strategy<Value = ObservedEni> {
    let names = (word(), any::<[u8; 6]>(), prop::option::of(word()), prop::option::of(word()), word());
    let place = (any::<u32>(), any::<u32>(), prop::option::of(net()), any::<bool>());
    let nets = (ip(), prop::collection::vec(ip(), 0..3), prop::collection::vec(net(), 0..3));
    let rest = (
        prop::collection::vec(word().prop_map(GroupId::new), 0..3),
        prop::option::of(word()),
        prop::option::of(prop::collection::vec((word(), word()), 0..3)),
    );
    (names, place, nets, rest).prop_map(
        |(
            (id, mac, attachment, instance, subnet),
            (card, device, subnet_cidr, attached),
            (primary, addresses, prefixes),
            (groups, kind, tags),
        )| ObservedEni {
            id: EniId::new(id),
            mac: Mac(mac),
            attachment: attachment.map(AttachmentId::new),
            instance: instance.map(InstanceId::new),
            card: NetworkCard(card),
            device: DeviceIndex(device),
            subnet: SubnetId::new(subnet),
            subnet_cidr,
            groups,
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
    let tags = prop::collection::vec((word(), word()), 0..3);
    (word(), prop::option::of(net()), any::<u32>(), tags).prop_map(|(id, cidr, free, tags)| ObservedSubnet {
        id: SubnetId::new(id),
        cidr,
        free,
        tags,
    })
}

fn failure() -> impl Strategy<Value = Ec2Failure> {
    let class = prop_oneof![
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
    ];
    (class, word(), word()).prop_map(|(class, code, message)| Ec2Failure { class, code, message })
}

fn answer() -> impl Strategy<Value = Ec2Answer> {
    prop_oneof![
        prop::collection::vec(net(), 0..3).prop_map(Ec2Answer::Assigned),
        Just(Ec2Answer::Unassigned),
        eni().prop_map(|e| Ec2Answer::Created(Box::new(e))),
        word().prop_map(|w| Ec2Answer::Attached(AttachmentId::new(w))),
        Just(Ec2Answer::Modified),
        Just(Ec2Answer::Tagged),
        Just(Ec2Answer::Detached),
        Just(Ec2Answer::Deleted),
        prop::collection::vec(eni(), 0..3).prop_map(Ec2Answer::Described),
        prop::collection::vec(subnet(), 0..3).prop_map(Ec2Answer::Subnets),
        prop::collection::vec(word().prop_map(InstanceId::new), 0..3).prop_map(Ec2Answer::Instances),
    ]
}

fn input() -> impl Strategy<Value = Input> {
    let op = || any::<u64>().prop_map(OpId);
    let request = || any::<u64>().prop_map(RequestId);
    let revision = || any::<u64>().prop_map(Revision);
    let source = prop_oneof![Just(SnapshotSource::Metadata), Just(SnapshotSource::Describe)];
    prop_oneof![
        (request(), key(), pod(), time(), time()).prop_map(|(request, sandbox, pod, started, deadline)| {
            Input::Allocate { request, sandbox, pod, started, deadline }
        }),
        request().prop_map(|request| Input::Abandon { request }),
        (request(), key(), time()).prop_map(|(request, sandbox, started)| Input::Release {
            request,
            sandbox,
            started
        }),
        (request(), word(), prop::collection::vec(key(), 0..3), time()).prop_map(
            |(request, network, valid, started)| Input::Collect { request, network, valid, started }
        ),
        revision().prop_map(|revision| Input::Persisted { revision }),
        (revision(), word()).prop_map(|(revision, reason)| Input::PersistFailed { revision, reason }),
        (op(), answer()).prop_map(|(op, answer)| Input::Ec2 { op, outcome: Ok(answer) }),
        (op(), failure()).prop_map(|(op, failure)| Input::Ec2 { op, outcome: Err(failure) }),
        op().prop_map(|op| Input::Host { op, outcome: Ok(()) }),
        (op(), word()).prop_map(|(op, error)| Input::Host { op, outcome: Err(error) }),
        (source, op(), prop::collection::vec(eni(), 0..3))
            .prop_map(|(source, as_of, enis)| Input::Observed(Snapshot { source, as_of, enis })),
        prop::option::of(any::<u32>()).prop_map(|bound| Input::Demand { bound }),
        prop::option::of((word(), prop::collection::vec(word().prop_map(GroupId::new), 0..3))).prop_map(
            |c| {
                Input::EniConfig(
                    c.map(|(subnet, groups)| EniConfig { subnet: SubnetId::new(subnet), groups }),
                )
            }
        ),
        any::<bool>().prop_map(Input::Cordoned),
        (any::<u64>(), any::<bool>())
            .prop_map(|(request, delete)| Input::Leaks { request: RequestId(request), delete }),
        Just(Input::Timer),
        Just(Input::Stop),
    ]
}

fn settings() -> Settings {
    Settings {
        instance: InstanceId::new("i-1"),
        boot: BootId::new("b-1"),
        mode: Mode::SecondaryIp,
        warm: Warm::DemandDriven,
        limits: Limits { enis: 3, ipv4_per_eni: 4 },
        max_eni: None,
        max_pods: 11,
        primary_excluded: false,
        manage_untagged: false,
        cooldown: Duration::from_secs(30),
        cluster: None,
        subnets: SubnetPolicy { discovery: false, floor: 0 },
        leaks: LeakPolicy::Ignore,
        leak_proof: LEAK_PROOF,
        share: Share::default(),
        gather: Duration::from_millis(20),
        seed: 7,
    }
}

fn record(inputs: Vec<(u64, Input)>, bounds: Bounds) -> (Ring, Pool) {
    let mut pool = Pool::new(settings());
    let mut ring = Ring::new(bounds);
    for (ms, input) in inputs {
        let mut effects = Vec::new();
        ring.before(&pool, Time::from_ms(ms), &input);
        pool.handle(Time::from_ms(ms), input, &mut effects);
        ring.after(&effects);
    }
    (ring, pool)
}

fn sample() -> String {
    let steps = (0..40u64).map(|n| {
        let sandbox = SandboxKey::new(format!("c{n}"), "eth0");
        let (request, started) = (RequestId(n), Time::from_ms(n));
        let deadline = Time::from_ms(n + 75_000);
        (n, Input::Allocate { request, sandbox, pod: PodRef::default(), started, deadline })
    });
    let (ring, pool) = record(steps.collect(), Bounds::default());
    ring.recording(Some(&pool)).unwrap().to_text()
}

proptest! {
    #[test]
    fn every_input_comes_back(input in input()) {
        let line = text::write(&input);
        prop_assert!(!line.contains('\n'));
        prop_assert_eq!(text::read::<Input>(&line), Ok(input));
    }

    /// Whatever comes in, in whatever order: the trace replays with equal effects to an equal state, though the ring has
    /// forgotten how it began.
    #[test]
    fn any_history_replays(inputs in prop::collection::vec((0u64..200_000, input()), 1..60), most in 1usize..20) {
        let (ring, pool) = record(inputs, Bounds { bytes: 1 << 20, inputs: most });
        let recorded = ring.recording(Some(&pool)).unwrap().to_text();
        let trace = Trace::parse(&recorded).unwrap();
        prop_assert_eq!(trace.events.len(), ring.inputs());
        let replay = trace.replay();
        prop_assert_eq!(replay.outcome, Outcome::Same);
        prop_assert_eq!(replay.pool, pool);
    }

    #[test]
    fn any_text_is_a_trace_or_is_refused(text in "(podwire-trace 1\npool )?(.|\n){0,300}") {
        prop_assert!(Trace::parse(&text).is_err(), "no such text holds a whole pool");
    }

    /// One changed byte anywhere: refused with a line, or a trace that plays to some end. Never a panic of the reader.
    #[test]
    fn one_changed_byte_is_refused_or_plays(at in 0usize..20_000, byte in 32u8..127) {
        let mut bytes = sample().into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(trace) = Trace::parse(std::str::from_utf8(&bytes).unwrap()) {
            prop_assert!(trace.replay().inputs <= trace.events.len());
        }
    }
}

#[test]
fn ring_stays_within_its_bounds() {
    let timers = (0..10_000u64).map(|n| (n, Input::Timer)).collect();
    let (ring, _) = record(timers, Bounds { bytes: 4_000, inputs: 1_000_000 });
    assert!((4_000..8_200).contains(&ring.bytes()), "{} bytes", ring.bytes());
    let timers = (0..10_000u64).map(|n| (n, Input::Timer)).collect();
    let (ring, _) = record(timers, Bounds { bytes: 1 << 30, inputs: 300 });
    assert!((300..=600).contains(&ring.inputs()), "{} inputs", ring.inputs());
}

#[test]
fn damaged_traces_name_the_line() {
    let good = sample();
    assert_eq!(Trace::parse(&good).unwrap().replay().outcome, Outcome::Same);
    let lines: Vec<&str> = good.lines().collect();
    let with = |n: usize, line: &str| {
        let mut lines = lines.clone();
        lines[n - 1] = line;
        Trace::parse(&lines.join("\n")).map(|t| t.events.len())
    };
    assert_eq!(with(1, "something else"), Err(TraceError::NotATrace));
    assert_eq!(with(1, "podwire-trace 2"), Err(TraceError::Version { found: 2 }));
    assert!(matches!(with(2, "pool {}"), Err(TraceError::Value { line: 2, .. })));
    assert!(matches!(with(2, "at 1 Timer"), Err(TraceError::Line { line: 2, .. })));
    assert!(matches!(with(3, "at 1 Teatime"), Err(TraceError::Value { line: 3, .. })));
    assert!(matches!(with(4, "did 1 xyz"), Err(TraceError::Line { line: 4, .. })));
    assert!(matches!(with(4, "at 1 Timer"), Err(TraceError::Line { line: 4, .. })));
    assert!(matches!(with(3, "did 0 0000000000000000"), Err(TraceError::Line { line: 3, .. })));
    assert!(matches!(with(3, "end 0000000000000000"), Err(TraceError::Line { line: 4, .. })));
    let error = Trace::parse("podwire-trace 1\npool {settings:{instance:7}}").unwrap_err();
    assert_eq!(error.to_string(), "line 2: cannot be read; the trace is damaged or of another release");
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "at byte 20: expected \"");
}

#[test]
fn other_effects_and_other_states_are_seen() {
    let good = sample();
    let did = good.lines().nth(3).unwrap();
    let wrong = good.replacen(did, "did 7 0123456789abcdef", 1);
    assert!(matches!(Trace::parse(&wrong).unwrap().replay().outcome, Outcome::OtherEffects { line: 3, .. }));
    let last = good.lines().last().unwrap();
    let wrong = good.replace(last, "end 0123456789abcdef");
    assert_eq!(Trace::parse(&wrong).unwrap().replay().outcome, Outcome::OtherState);
}

/// A panic's trace ends with the input that made it; one that does not panic in the replay is told from one that does.
#[test]
fn trace_of_a_panic_ends_with_its_input() {
    let good = sample();
    let mut lines: Vec<&str> = good.lines().collect();
    lines.truncate(lines.len() - 2);
    let trace = Trace::parse(&lines.join("\n")).unwrap();
    assert!(trace.events.last().unwrap().did.is_none());
    assert!(matches!(trace.replay().outcome, Outcome::NoPanic { .. }));
}
