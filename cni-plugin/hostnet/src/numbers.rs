//! Every number podwire writes into the kernel's routing and filter state, each with its source. Pure.
//!
//! An ENI is known to the kernel by two numbers that follow from its network card and device index alone, so that they
//! survive restarts of the daemon and of the node: a route table and a value in the low seven bits of the packet mark.

/// Where an ENI sits on its instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EniSlot {
    /// Network card index.
    pub card: u32,
    /// Device index on that card.
    pub device: u32,
}

impl EniSlot {
    /// The instance's first ENI. Its routes live in `main`; it needs neither table nor mark.
    pub const PRIMARY: Self = Self { card: 0, device: 0 };

    /// Whether this is the instance's first ENI.
    #[must_use]
    pub fn is_primary(self) -> bool {
        self == Self::PRIMARY
    }

    /// The ENI's route table. *Source*: incumbent-behaviour §4.2; the same numbers, so that tools that look for them find
    /// them: `device + 1` on card 0 (main for the primary), `10000 + 100 × card + device` on the others.
    #[must_use]
    pub fn table(self) -> u32 {
        match (self.card, self.device) {
            (0, 0) => TABLE_MAIN,
            (0, device) => device.saturating_add(1),
            (card, device) => card.saturating_mul(100).saturating_add(device).saturating_add(10_000),
        }
    }

    /// The ENI's number N in the packet mark, 1..=0x7f; `None` for a slot no known instance type has.
    ///
    /// *Why a table*: seven bits hold 127 numbers, fewer than cards × devices. The blocks cover every shape in the
    /// instance-limits table (24 on one card, 4 × 15, 32 × 2) except the devices past the second on the fifth and further
    /// cards of trn1, p6 and their like.
    #[must_use]
    pub fn mark(self) -> Option<u32> {
        let mut first = 1;
        for block in MARK_BLOCKS {
            if (block.first_card..=block.last_card).contains(&self.card) {
                let number = first + (self.card - block.first_card) * block.devices + self.device;
                return (self.device < block.devices).then_some(number);
            }
            first += (block.last_card - block.first_card + 1) * block.devices;
        }
        None
    }

    /// The slot whose [`Self::mark`] this is.
    #[must_use]
    pub fn of_mark(mark: u32) -> Option<Self> {
        let mut first = 1;
        for block in MARK_BLOCKS {
            let cards = block.last_card - block.first_card + 1;
            let within = mark.checked_sub(first)?;
            if within < cards * block.devices {
                let (card, device) = (within / block.devices, within % block.devices);
                return Some(Self { card: block.first_card + card, device });
            }
            first += cards * block.devices;
        }
        None
    }
}

struct MarkBlock {
    first_card: u32,
    last_card: u32,
    devices: u32,
}

const MARK_BLOCKS: [MarkBlock; 3] = [
    MarkBlock { first_card: 0, last_card: 0, devices: 24 },
    MarkBlock { first_card: 1, last_card: 3, devices: 15 },
    MarkBlock { first_card: 4, last_card: 31, devices: 2 },
];

/// The kernel's table `main`. *Source*: linux/rtnetlink.h, `RT_TABLE_MAIN`.
pub const TABLE_MAIN: u32 = 254;
/// Table of pod host routes. *Source*: our choice; clear of ENI tables (2..=25, 10000 and up) and of the incumbent's
/// branch ENI tables (100 + VLAN id, so 101..=4194).
pub const TABLE_PODS: u32 = 5120;

/// Rule priority of the one rule that finds pods. *Source*: incumbent-behaviour §4.1, where each pod has one there.
pub const PRIORITY_PODS: u32 = 512;
/// Rule priority of `fwmark 0x80/0x80 lookup main`. *Source*: incumbent-behaviour §4.1.
pub const PRIORITY_PRIMARY_MARK: u32 = 1024;
/// Rule priority of `to <external service> lookup main`. *Source*: incumbent-behaviour §4.1.
pub const PRIORITY_EXTERNAL_SERVICE: u32 = 1535;
/// Rule priority of the ENI mark rules. *Source*: incumbent-behaviour §4.1, the priority of its `from <pod>` rules.
pub const PRIORITY_ENI_MARK: u32 = 1536;
/// Rule priority of `from <ENI primary address>`. *Source*: incumbent-behaviour §4.1.
pub const PRIORITY_ENI_SOURCE: u32 = 32_765;

/// Rule priority of the kernel's own look into `main`. *Source*: ip-rule(8).
pub const PRIORITY_MAIN: u32 = 32_766;

/// Bits of the packet and connection mark that carry an ENI's number. *Source*: design D15.
pub const MARK_ENI: u32 = 0x7f;
/// Bit that sends a packet to the primary ENI. *Source*: incumbent-behaviour §4.4; kept, so that connections made under
/// the incumbent go on.
pub const MARK_PRIMARY: u32 = 0x80;

/// Bit added to what IPVS sends on, so that the kernel looks its route up again. *Source*: our choice; outside 0x7f and of
/// the bits 0x80, 0x0f00 (Cilium), 0x2000 (portmap), 0x4000 and 0x8000 (kube-proxy) and the upper half (Calico).
pub const MARK_REROUTE: u32 = 0x1000;

/// Link group of the host veths being deleted; only [`crate::NodeNet`] uses it. *Source*: our choice ("pw" and a number).
pub const GROUP_BATCH: u32 = 0x7077_0002;
/// Most links deleted by one request, since the request holds the kernel's rtnl lock throughout. *Source*: design D18.
pub const GROUP_BATCH_MAX: usize = 64;

/// Protocol number on routes and rules of ours. *Source*: our choice; not in iproute2's `rt_protos`.
pub const PROTOCOL: u8 = 80;

/// Loose reverse-path filter. *Source*: Linux `Documentation/networking/ip-sysctl.rst`, rp_filter.
pub const RP_FILTER_LOOSE: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn marks_of_all_slots_distinct_and_in_seven_bits() {
        let mut seen = BTreeSet::new();
        for card in 0..40 {
            for device in 0..40 {
                if let Some(mark) = (EniSlot { card, device }).mark() {
                    assert!((1..=MARK_ENI).contains(&mark), "{card}/{device}: {mark}");
                    assert!(seen.insert(mark), "{card}/{device}: {mark} twice");
                    assert_eq!(EniSlot::of_mark(mark), Some(EniSlot { card, device }));
                }
            }
        }
        assert_eq!(seen.len(), 125);
        assert_eq!(EniSlot::of_mark(0), None);
        assert_eq!(EniSlot::of_mark(126), None);
    }

    #[test]
    fn marks_are_frozen() {
        let mark = |card, device| (EniSlot { card, device }).mark();
        assert_eq!(mark(0, 0), Some(1));
        assert_eq!(mark(0, 23), Some(24));
        assert_eq!(mark(0, 24), None);
        assert_eq!(mark(1, 0), Some(25));
        assert_eq!(mark(3, 14), Some(69));
        assert_eq!(mark(4, 0), Some(70));
        assert_eq!(mark(31, 1), Some(125));
        assert_eq!(mark(32, 0), None);
    }

    #[test]
    fn tables_as_the_incumbents() {
        let table = |card, device| (EniSlot { card, device }).table();
        assert_eq!(table(0, 0), 254);
        assert_eq!(table(0, 1), 2);
        assert_eq!(table(0, 14), 15);
        assert_eq!(table(1, 1), 10_101);
    }
}
