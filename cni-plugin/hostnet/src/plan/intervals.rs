//! Networks as disjoint ranges of IPv4 addresses, the form in which nftables keeps them. Pure.

use ipnetwork::{IpNetwork, Ipv4Network};

/// A range of addresses; `end` is the first one behind it, absent where the range reaches the last address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Range {
    pub(crate) start: u32,
    pub(crate) end: Option<u32>,
}

/// The range of one network.
pub(crate) fn range(net: Ipv4Network) -> Range {
    let last = u32::from(net.broadcast());
    Range { start: u32::from(net.network()), end: last.checked_add(1) }
}

/// The range of one network of either family; `None` for IPv6.
pub(crate) fn range_v4(net: IpNetwork) -> Option<Range> {
    match net {
        IpNetwork::V4(v4) => Some(range(v4)),
        IpNetwork::V6(_) => None,
    }
}

/// The ranges of several networks, sorted, with overlapping and touching ones made one.
pub(crate) fn merged(nets: impl IntoIterator<Item = IpNetwork>) -> Vec<Range> {
    let mut ranges: Vec<Range> = nets.into_iter().filter_map(range_v4).collect();
    ranges.sort_unstable();
    let mut merged: Vec<Range> = Vec::new();
    for next in ranges {
        match merged.last_mut() {
            Some(last) if last.end.is_none_or(|end| next.start <= end) => {
                last.end = last.end.and_then(|end| next.end.map(|e| e.max(end)));
            }
            _ => merged.push(next),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn net(text: &str) -> IpNetwork {
        text.parse().expect("a network")
    }

    #[test]
    fn merged_overlaps_and_neighbours() {
        let nets = ["10.1.0.0/16", "10.0.0.0/16", "10.0.3.0/24", "172.16.0.0/12"].map(net);
        let ip = |text: &str| u32::from(text.parse::<Ipv4Addr>().expect("an address"));
        assert_eq!(
            merged(nets),
            [
                Range { start: ip("10.0.0.0"), end: Some(ip("10.2.0.0")) },
                Range { start: ip("172.16.0.0"), end: Some(ip("172.32.0.0")) },
            ]
        );
        assert_eq!(merged(["0.0.0.0/0", "10.0.0.0/8"].map(net)), [Range { start: 0, end: None }]);
        assert_eq!(merged(["255.255.255.0/24"].map(net)), [Range { start: 0xffff_ff00, end: None }]);
        assert_eq!(merged(["fd00::/8"].map(net)), []);
    }

    proptest! {
        #[test]
        fn merged_holds_the_same_addresses(
            nets in proptest::collection::vec((any::<u32>(), 1u8..=32), 0..12),
            probes in proptest::collection::vec(any::<u32>(), 50),
        ) {
            let nets: Vec<Ipv4Network> =
                nets.into_iter().map(|(a, p)| Ipv4Network::new(a.into(), p).expect("prefix is at most 32")).collect();
            let ranges = merged(nets.iter().copied().map(IpNetwork::V4));
            let borders = nets.iter().flat_map(|n| [u32::from(n.network()), u32::from(n.broadcast())]);
            for probe in probes.into_iter().chain(borders.flat_map(|b| [b.wrapping_sub(1), b, b.wrapping_add(1)])) {
                let inside = ranges.iter().filter(|r| r.start <= probe && r.end.is_none_or(|e| probe < e)).count();
                let wanted = nets.iter().any(|n| n.contains(probe.into()));
                prop_assert_eq!(inside, usize::from(wanted));
            }
            prop_assert!(ranges.windows(2).all(|w| w[0].end.is_some_and(|e| e < w[1].start)));
        }
    }
}
