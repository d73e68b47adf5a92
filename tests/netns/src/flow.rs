//! What `ping` tells of a flow of packets, each answer on a line of its own.

use std::collections::BTreeSet;

/// Answers, and what is missing among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// How many requests were answered.
    pub answered: usize,
    /// Requests without an answer before the last one that has one. Those after it say nothing: a ping that is ended, or has
    /// sent its last packet, leaves before it reads what is still on its way.
    pub lost: Vec<u32>,
}

impl Flow {
    /// Reads what `ping`, without `-q`, has printed.
    #[must_use]
    pub fn of(text: &str) -> Self {
        // Errors that others report name a sequence number, too.
        let number = |line: &str| {
            line.split_once(" bytes from ")?.1.split_once("icmp_seq=")?.1.split(' ').next()?.parse().ok()
        };
        let answered: BTreeSet<u32> = text.lines().filter_map(number).collect();
        let last = answered.last().copied().unwrap_or(0);
        Self { answered: answered.len(), lost: (1..last).filter(|n| !answered.contains(n)).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded: the way back was gone for a moment, and ping was ended while two requests were on their way.
    const GAP_AND_TAIL: &str = "\
PING 10.9.0.2 (10.9.0.2) 56(84) bytes of data.
64 bytes from 10.9.0.2: icmp_seq=1 ttl=64 time=0.032 ms
64 bytes from 10.9.0.2: icmp_seq=2 ttl=64 time=0.052 ms
64 bytes from 10.9.0.2: icmp_seq=3 ttl=64 time=0.051 ms
64 bytes from 10.9.0.2: icmp_seq=4 ttl=64 time=0.052 ms
64 bytes from 10.9.0.2: icmp_seq=9 ttl=64 time=0.068 ms
64 bytes from 10.9.0.2: icmp_seq=10 ttl=64 time=0.050 ms
64 bytes from 10.9.0.2: icmp_seq=11 ttl=64 time=0.050 ms
64 bytes from 10.9.0.2: icmp_seq=12 ttl=64 time=0.050 ms

--- 10.9.0.2 ping statistics ---
14 packets transmitted, 8 received, 42.8571% packet loss, time 878ms
rtt min/avg/max/mdev = 0.032/0.050/0.068/0.009 ms
";

    /// Recorded: a router that for a moment had no route.
    const ERRORS: &str = "\
PING 10.10.0.1 (10.10.0.1) 56(84) bytes of data.
64 bytes from 10.10.0.1: icmp_seq=1 ttl=64 time=0.066 ms
64 bytes from 10.10.0.1: icmp_seq=2 ttl=64 time=0.050 ms
64 bytes from 10.10.0.1: icmp_seq=3 ttl=64 time=0.053 ms
64 bytes from 10.10.0.1: icmp_seq=4 ttl=64 time=0.051 ms
From 10.9.0.2 icmp_seq=5 Destination Host Unreachable
From 10.9.0.2 icmp_seq=6 Destination Host Unreachable
64 bytes from 10.10.0.1: icmp_seq=8 ttl=64 time=0.052 ms

--- 10.10.0.1 ping statistics ---
8 packets transmitted, 5 received, +2 errors, 37.5% packet loss, time 456ms
rtt min/avg/max/mdev = 0.050/0.054/0.066/0.005 ms
";

    #[test]
    fn requests_before_the_last_answer_are_lost_those_after_it_are_not() {
        assert_eq!(Flow::of(GAP_AND_TAIL), Flow { answered: 8, lost: vec![5, 6, 7, 8] });
        assert_eq!(Flow::of(ERRORS), Flow { answered: 5, lost: vec![5, 6, 7] }, "an error is no answer");
    }

    #[test]
    fn order_and_doubles_are_no_loss_and_nothing_is_nothing() {
        let lines = |seqs: &[u32]| -> String {
            seqs.iter().map(|n| format!("64 bytes from 10.0.0.1: icmp_seq={n} ttl=64 time=1 ms\n")).collect()
        };
        assert_eq!(Flow::of(&lines(&[2, 1, 3, 3])), Flow { answered: 3, lost: vec![] });
        assert_eq!(Flow::of(&lines(&[3])), Flow { answered: 1, lost: vec![1, 2] });
        let silence = "PING 10.0.0.1 (10.0.0.1) 56(84) bytes of data.\n\n3 packets transmitted, 0 received\n";
        assert_eq!(Flow::of(silence), Flow { answered: 0, lost: vec![] });
    }
}
