//! What the node spends on a packet of a pod, with few pods and with many, beside the incumbent's rules for each pod.
//!
//! One thread on one processor sends small UDP datagrams in batches. A veth hands its packets on within the call that sends
//! them, so the time of the call is the whole way: out of the pod, through the node, into the other pod or onto the wire.

use std::io::IoSlice;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use podwire_e2e::report::say;
use podwire_netns::{Ns, Stage, on_stage};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::figures::{Figures, Must};
use crate::node::{Node, Routing, received};
use crate::rounds::Rounds;

/// Pods on the nodes that are compared. *Source*: EKS's recommended largest max-pods, and the most a node can have.
const SIZES: [u16; 3] = [1, 250, 737];
/// Nodes that are compared: both layouts, each in every size.
const NODES: usize = 2 * SIZES.len();
/// Packets in one round and in one system call.
const PACKETS: usize = 20_000;
const BATCH: usize = 64;
/// Share of the packets that must arrive for a round to count, in percent.
const ARRIVING: u64 = 99;

/// Measures.
///
/// # Errors
/// The kernel refuses the nodes, or packets do not arrive.
pub(crate) fn run(figures: &mut Figures) -> anyhow::Result<()> {
    let rounds = if figures.quick() { 5 } else { 15 };
    let (result, taken) = std::sync::mpsc::channel();
    on_stage(move |stage| {
        // The other end waits for exactly this.
        let _ = result.send(measure(stage, rounds));
    });
    let (to_pod, to_wire) = taken.recv().context("the stage ended without a result")??;
    keep(figures, "forward", "pod to pod", &to_pod);
    keep(figures, "forward_eni", "pod to ENI", &to_wire);
    Ok(())
}

fn keep(figures: &mut Figures, name: &str, way: &str, rounds: &Rounds<NODES>) {
    figures.note(&format!("{name}_1_ns"), rounds.median(0), "ns", &format!("a packet, {way}, 1 pod"));
    for (at, pods) in SIZES.iter().enumerate().skip(1) {
        let id = format!("{name}_{pods}_over_1");
        rounds.judge(figures, &id, (at, 0), Must::AtMost(1.05), &format!(", {way}"));
        let (many, one) = (SIZES.len() + at, SIZES.len());
        let remark = format!(", {way} with a rule to and from each pod");
        rounds.note(figures, &format!("{name}_rules_{pods}_over_1"), (many, one), &remark);
    }
}

fn measure(stage: &Stage, rounds: usize) -> anyhow::Result<(Rounds<NODES>, Rounds<NODES>)> {
    pin(0)?;
    let wire = stage.netns("wire");
    wire.run(
        "sysctl -qw net.ipv4.ip_forward=0 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0",
    );
    let mut nodes = Vec::with_capacity(NODES);
    for (number, (routing, pods)) in
        (1..).zip([Routing::Podwire, Routing::RulePerPod].into_iter().flat_map(|r| SIZES.map(|s| (r, s))))
    {
        nodes.push(Node::build(stage, &wire, number, routing, pods)?);
    }
    say(&format!("  {NODES} nodes, {rounds} rounds of {PACKETS} packets each way"));
    let to_pod = Rounds::take(rounds, |which| {
        let node: &Node = &nodes[which];
        // Without a socket there the pod would answer with ICMP errors, and they would be measured too.
        let _sink = node.b.within(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 9)))?;
        let count = || node.b.within(|| received("eth0"));
        flood(&node.a, node.pod_address(1), count)
    })?;
    let to_wire = Rounds::take(rounds, |which| {
        let device = format!("w{}", which + 1);
        flood(&nodes[which].a, Ipv4Addr::new(10, 250, 0, 1), || wire.within(|| received(&device)))
    })?;
    Ok((to_pod, to_wire))
}

/// Sends from inside `from`. Returns nanoseconds for each packet that arrived, from the first call until then.
///
/// # Errors
/// Too few arrive.
fn flood(from: &Ns, to: Ipv4Addr, arrived: impl Fn() -> anyhow::Result<u64>) -> anyhow::Result<f64> {
    let socket = from.within(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 9)))?;
    socket.connect((to, 9))?;
    send(&socket, BATCH)?;
    let before = arrived()?;
    let began = Instant::now();
    send(&socket, PACKETS)?;
    // What was left to another context is waited for, and counted. A look is no part of the packets' way.
    let wanted = u64::try_from(PACKETS)? * ARRIVING / 100;
    loop {
        let took = began.elapsed();
        let there = arrived()? - before;
        if there >= wanted {
            return Ok(took.as_secs_f64() * 1e9 / f64::from(u32::try_from(there)?));
        }
        if took > Duration::from_secs(5) {
            bail!("of {PACKETS} packets to {to} only {there} arrived");
        }
    }
}

fn send(socket: &UdpSocket, packets: usize) -> anyhow::Result<()> {
    let payload = [IoSlice::new(&[0; 18])];
    let mut left = packets;
    while left > 0 {
        let mut controls: Vec<SendAncillaryBuffer<'_, '_, '_>> = Vec::new();
        controls.resize_with(left.min(BATCH), SendAncillaryBuffer::default);
        let mut batch: Vec<MMsgHdr<'_>> = controls.iter_mut().map(|c| MMsgHdr::new(&payload, c)).collect();
        match sendmmsg(socket, &mut batch, SendFlags::empty()) {
            Ok(sent) => left -= sent,
            Err(errno) => return Err(errno).context("cannot send"),
        }
    }
    Ok(())
}

/// Keeps the calling thread on one processor.
///
/// # Errors
/// There is no such processor.
pub(crate) fn pin(processor: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(processor);
    sched_setaffinity(None, &set).with_context(|| format!("cannot stay on processor {processor}"))
}
