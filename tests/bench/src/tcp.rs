//! TCP from a pod on one node to a pod on another: throughput, and single bytes to and fro, beside the same pods on plain
//! routes and beside the nodes themselves.
//!
//! ```text
//!   pod ── node 1 ── eth1 ──┐ router ┌── eth1 ── node 2 ── pod     podwire
//!   pod ── node 3 ── eth1 ──┤        ├── eth1 ── node 4 ── pod     bare: routes alone, and node to node
//!   pod ── node 5 ── eth1 ──┘        └── eth1 ── node 6 ── pod     bare, with connections tracked
//! ```
//! The client runs on one processor and the server on the other, as two machines would.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Context;
use podwire_e2e::report::say;
use podwire_netns::{Ns, Stage, on_stage};

use crate::figures::{Figures, Must};
use crate::forward::pin;
use crate::node::{Node, Routing};
use crate::rounds::Rounds;

/// Places in a round: pods with podwire, pods on plain routes, nodes, pods on plain routes with connections tracked.
const OURS: usize = 0;
const BARE: usize = 1;
const NODES: usize = 2;
const TRACKED: usize = 3;
const PLACES: usize = 4;
/// How long one measurement lasts.
const SPAN: Duration = Duration::from_millis(250);
/// Longest silence of the other end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Measures.
///
/// # Errors
/// The kernel refuses the nodes, or a connection fails.
pub(crate) fn run(figures: &mut Figures) -> anyhow::Result<()> {
    let rounds = if figures.quick() { 7 } else { 25 };
    let (result, taken) = std::sync::mpsc::channel();
    on_stage(move |stage| {
        // The other end waits for exactly this.
        let _ = result.send(measure(stage, rounds));
    });
    let (stream, rr) = taken.recv().context("the stage ended without a result")??;
    figures.note("tcp_stream_gbit_s", stream.median(OURS), "Gbit/s", "pod to pod across nodes");
    stream.judge(
        figures,
        "tcp_stream_over_bare",
        (OURS, BARE),
        Must::AtLeast(0.97),
        ", pods on plain routes",
    );
    stream.judge(figures, "tcp_stream_over_node", (OURS, NODES), Must::AtLeast(0.80), ", node to node");
    figures.note("tcp_rr_per_s", rr.median(OURS), "/s", "pod to pod across nodes");
    rr.judge(figures, "tcp_rr_over_bare", (OURS, BARE), Must::AtLeast(0.97), ", pods on plain routes");
    rr.judge(figures, "tcp_rr_over_node", (OURS, NODES), Must::AtLeast(0.70), ", node to node");
    for (name, rounds) in [("stream", &stream), ("rr", &rr)] {
        let remark = ", plain routes where connections are tracked, as kube-proxy needs";
        rounds.note(figures, &format!("tcp_{name}_over_tracked"), (OURS, TRACKED), remark);
        rounds.note(
            figures,
            &format!("tcp_{name}_tracked_over_bare"),
            (TRACKED, BARE),
            ", what tracking costs",
        );
    }
    Ok(())
}

fn measure(stage: &Stage, rounds: usize) -> anyhow::Result<(Rounds<PLACES>, Rounds<PLACES>)> {
    let router = stage.netns("router");
    router.run(
        "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0",
    );
    let mut nodes = Vec::new();
    let pairs = [Routing::Podwire, Routing::Bare, Routing::Tracked];
    for (number, routing) in (1..).zip(pairs.into_iter().flat_map(|routing| [routing; 2])) {
        let node = Node::build(stage, &router, number, routing, 2)?;
        for index in 0..2 {
            let (pod, via) = (node.pod_address(index), node.address());
            router.run(&format!("ip route add {pod}/32 via {via} dev w{number} onlink"));
        }
        nodes.push(node);
    }
    let pods = |from: usize, to: usize| (&nodes[from].a, &nodes[to].b, nodes[to].pod_address(1));
    let places: [(&Ns, &Ns, Ipv4Addr); PLACES] =
        [pods(0, 1), pods(2, 3), (&nodes[2].ns, &nodes[3].ns, nodes[3].address()), pods(4, 5)];
    say(&format!("  {rounds} rounds of {} ms in each of {PLACES} places", SPAN.as_millis()));
    let stream = Rounds::take(rounds, |which| between(places[which], streamed))?;
    let rr = Rounds::take(rounds, |which| between(places[which], exchanged))?;
    Ok((stream, rr))
}

/// Connects two namespaces and has both ends work. Returns what the client's work says.
fn between(
    (from, to, address): (&Ns, &Ns, Ipv4Addr),
    work: fn(TcpStream, bool) -> anyhow::Result<f64>,
) -> anyhow::Result<f64> {
    let listener = to.within(|| TcpListener::bind((address, 0)))?;
    let at: SocketAddr = listener.local_addr()?;
    // The kernel completes a connection before anybody accepts it.
    let client = from.within(|| TcpStream::connect_timeout(&at, PATIENCE));
    let client = client.with_context(|| format!("cannot connect to {at}"))?;
    let (server, _) = listener.accept()?;
    std::thread::scope(|scope| {
        let server = scope.spawn(move || {
            pin(1)?;
            work(server, false)
        });
        let client = scope.spawn(move || {
            pin(0)?;
            work(client, true)
        });
        let died = |_| anyhow::anyhow!("a thread died");
        let said = client.join().map_err(died)?.with_context(|| format!("to {at}"))?;
        server.join().map_err(died)?.with_context(|| format!("at {at}"))?;
        Ok(said)
    })
}

/// The client sends as fast as it can, the server takes it. *Unit* Gbit/s that the server has read, as it tells the client.
fn streamed(mut stream: TcpStream, client: bool) -> anyhow::Result<f64> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = vec![0; 256 * 1024];
    let began = Instant::now();
    if client {
        while began.elapsed() < SPAN {
            stream.write_all(&buffer)?;
        }
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut taken = [0; 8];
        stream.read_exact(&mut taken)?;
        return Ok(f64::from_le_bytes(taken));
    }
    let mut bits = 0.0;
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            length => bits += f64::from(u32::try_from(length)?) * 8.0,
        }
    }
    let gbit = bits / 1e9 / began.elapsed().as_secs_f64();
    stream.write_all(&gbit.to_le_bytes())?;
    Ok(gbit)
}

/// One byte to and fro. *Unit* exchanges in a second.
fn exchanged(mut stream: TcpStream, client: bool) -> anyhow::Result<f64> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut byte = [0];
    if !client {
        while stream.read(&mut byte)? == 1 {
            stream.write_all(&byte)?;
        }
        return Ok(0.0);
    }
    let began = Instant::now();
    let mut exchanges = 0_u32;
    while began.elapsed() < SPAN {
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        exchanges += 1;
    }
    Ok(f64::from(exchanges) / began.elapsed().as_secs_f64())
}
