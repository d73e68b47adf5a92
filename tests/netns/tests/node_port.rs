//! NodePort connections for pods on either ENI; kube-proxy is played by a rule or two at its own hooks. The fabric drops every
//! source that is not assigned to the ENI it comes from, so whatever arrives has taken the right way.

use podwire_netns::node::{ready_node, set, wired_pod};
use podwire_netns::tcp::{Client, Server, seen_as};
use podwire_netns::{Stage, on_stage};
use std::time::{Duration, Instant};

/// AWS_VPC_CNI_NODE_PORT_SUPPORT: a NodePort connection is answered by the ENI it came in by, whatever ENI the pod is on,
/// and also where the pod is on another node (masqueraded). kube-proxy is played by two rules at its own hooks.
#[test]
fn node_port_answers_by_the_eni_of_arrival() {
    on_stage(|stage| {
        let (fabric, _node) = ready_node(stage);
        let (first, second) =
            (wired_pod(stage, "first", "10.0.0.101"), wired_pod(stage, "second", "10.0.1.101"));
        stage.run(
            "nft -f - <<'E'
table ip kube {
  chain pre { type nat hook prerouting priority dstnat;
    fib daddr type local tcp dport 30001 dnat to 10.0.0.101:80
    fib daddr type local tcp dport 30002 dnat to 10.0.1.101:80
    fib daddr type local tcp dport 30003 meta mark set mark | 0x4000 dnat to 10.0.9.9:80
  }
  chain post { type nat hook postrouting priority srcnat; mark & 0x4000 != 0 masquerade; }
}
E",
        );
        let _servers = [
            Server::start(&first, "10.0.0.101:80"),
            Server::start(&second, "10.0.1.101:80"),
            Server::start(&fabric.peer, "10.0.9.9:80"),
        ];
        for node in ["10.0.0.11", "10.0.1.12"] {
            for port in [30001, 30002] {
                let seen = seen_as(&fabric.internet, &format!("{node}:{port}"));
                assert_eq!(seen.unwrap_or_else(|e| panic!("{node}:{port}: {e}")), "198.51.100.10");
            }
            let remote = seen_as(&fabric.internet, &format!("{node}:30003"));
            assert_eq!(remote.unwrap_or_else(|e| panic!("{node}: {e}")), "10.0.0.11");
        }
        assert_eq!(fabric.spoofed(), 0, "spoofed packets left the node");
    });
}

/// Plays kube-proxy for one NodePort.
fn forward(stage: &Stage, port: u16, to: &str) {
    stage.run(&format!(
        "nft 'add table ip kube; add chain ip kube pre {{ type nat hook prerouting priority dstnat; }}; \
              add rule ip kube pre fib daddr type local tcp dport {port} dnat to {to}'"
    ));
}

/// A connection that is made while our table is away, by the primary ENI where `main` leads the answers, goes on there once
/// the table is back, though its pod is on another ENI.
#[test]
fn a_node_port_connection_made_without_the_table_goes_on_where_it_came_in() {
    on_stage(|stage| {
        let (fabric, mut node) = ready_node(stage);
        let second = wired_pod(stage, "second", "10.0.1.101");
        forward(stage, 30002, "10.0.1.101:80");
        let _server = Server::start(&second, "10.0.1.101:80");
        stage.run("nft delete table ip podwire");
        let mut client = Client::connect(&fabric.internet, "10.0.0.11:30002").expect("by the primary ENI");
        assert_eq!(client.ask().expect("an answer"), "198.51.100.10");
        set(&mut node, |_| {});
        assert_eq!(client.ask().expect("still there"), "198.51.100.10");
        assert_eq!(fabric.spoofed(), 0, "spoofed packets left the node");
    });
}

/// A connection that begins while our table is away, and is answered the wrong way, comes about once the table is back.
#[test]
fn a_node_port_connection_begun_without_the_table_is_remembered_later() {
    on_stage(|stage| {
        let (fabric, mut node) = ready_node(stage);
        let first = wired_pod(stage, "first", "10.0.0.101");
        forward(stage, 30001, "10.0.0.101:80");
        let _server = Server::start(&first, "10.0.0.101:80");
        stage.run("nft delete table ip podwire");
        let seen = std::thread::scope(|scope| {
            let client = scope.spawn(|| seen_as(&fabric.internet, "10.0.1.12:30001"));
            let deadline = Instant::now() + Duration::from_secs(5);
            while fabric.spoofed() == 0 {
                assert!(Instant::now() < deadline, "no answer left by the wrong ENI");
                std::thread::sleep(Duration::from_millis(10));
            }
            set(&mut node, |_| {});
            client.join().expect("the client ends")
        });
        assert_eq!(seen.expect("a repeated packet is answered by the ENI of arrival"), "198.51.100.10");
    });
}
