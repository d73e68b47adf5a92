//! What each instance type may hold, read once from the table that the product ships too.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Source: `config/limits/instance-limits.csv`, whose head names where each column is from.
const TABLE: &str = include_str!("../../../../config/limits/instance-limits.csv");

/// A type that EC2 offers and no table of the product's knows yet: 2 ENIs with 4 addresses each.
const NEWER: &str = "zz9.large,2,2,4,4,0,0:2,nitro,false,true,0,false,2,8,";

static TYPES: LazyLock<BTreeMap<&'static str, TypeLimits>> =
    LazyLock::new(|| parse(TABLE).chain(parse(NEWER)).map(|limits| (limits.name, limits)).collect());

/// Limits of one instance type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeLimits {
    /// `m5.large`.
    pub name: &'static str,
    /// ENIs over all network cards.
    pub enis: usize,
    /// Private IPv4 slots per ENI: its primary address, secondary addresses and prefixes take one each.
    pub ipv4_per_eni: usize,
    /// IPv6 slots per ENI: addresses and prefixes take one each.
    pub ipv6_per_eni: usize,
    /// The card that interfaces go to when none is named.
    pub default_card: u32,
    /// ENIs of each card, by its index.
    pub cards: Vec<(u32, usize)>,
    /// `nitro` or `xen`; bare metal has none.
    pub hypervisor: Option<&'static str>,
    /// Whether it is bare metal.
    pub bare_metal: bool,
    /// Whether it takes prefixes: Nitro or bare metal.
    pub prefixes: bool,
    /// Branch interfaces it can carry; 0: no trunk (unknown types count as 0).
    pub branches: usize,
    /// Virtual processors; `None`: unknown.
    pub vcpus: Option<u32>,
}

impl TypeLimits {
    /// ENIs that this card takes; `None`: no such card.
    #[must_use]
    pub fn on_card(&self, card: u32) -> Option<usize> {
        self.cards.iter().find(|(index, _)| *index == card).map(|(_, enis)| *enis)
    }
}

/// The limits of this type.
#[must_use]
pub fn of(instance_type: &str) -> Option<&'static TypeLimits> {
    TYPES.get(instance_type)
}

/// Every type, by name.
pub fn all() -> impl Iterator<Item = &'static TypeLimits> {
    TYPES.values()
}

/// The most IPv4 slots that any type has: the bound for an interface that is attached to nothing yet.
#[must_use]
pub fn widest_ipv4() -> usize {
    all().map(|limits| limits.ipv4_per_eni).max().unwrap_or(1)
}

/// The most IPv6 slots that any type has.
#[must_use]
pub fn widest_ipv6() -> usize {
    all().map(|limits| limits.ipv6_per_eni).max().unwrap_or(1)
}

fn parse(table: &'static str) -> impl Iterator<Item = TypeLimits> {
    table.lines().filter(|line| !line.starts_with('#') && !line.starts_with("instance_type,")).filter_map(row)
}

/// A row whose numbers do not read as numbers is left out; a test holds that there is none.
fn row(line: &'static str) -> Option<TypeLimits> {
    let fields: Vec<&'static str> = line.split(',').collect();
    let field = |index: usize| fields.get(index).copied().unwrap_or("");
    let ipv4_per_eni: usize = field(3).parse().ok()?;
    let bare_metal = field(8) == "true";
    let hypervisor = Some(field(7)).filter(|name| matches!(*name, "nitro" | "xen"));
    let cards = field(6).split(';').map(card).collect::<Option<Vec<_>>>()?;
    Some(TypeLimits {
        name: field(0),
        enis: field(2).parse().ok()?,
        ipv4_per_eni,
        // Absent from the source: new types, all of which take as many IPv6 as IPv4 addresses.
        ipv6_per_eni: if field(4).is_empty() { ipv4_per_eni } else { field(4).parse().ok()? },
        default_card: field(5).parse().ok()?,
        cards,
        hypervisor,
        bare_metal,
        prefixes: field(9) == "true",
        branches: if field(11) == "true" { field(10).parse().unwrap_or(0) } else { 0 },
        vcpus: field(12).parse().ok(),
    })
}

fn card(text: &str) -> Option<(u32, usize)> {
    let (index, enis) = text.split_once(':')?;
    Some((index.parse().ok()?, enis.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_is_read() {
        let rows = TABLE.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).count() - 1;
        assert_eq!(all().count(), rows + 1, "and the newer one");
        assert!(rows > 1300, "{rows}");
        assert!(all().all(|limits| limits.enis == limits.cards.iter().map(|(_, enis)| enis).sum::<usize>()));
    }

    #[test]
    fn known_types_have_their_known_limits() {
        let large = of("m5.large").unwrap();
        assert_eq!((large.enis, large.ipv4_per_eni, large.branches, large.prefixes), (3, 10, 9, true));
        let small = of("t2.micro").unwrap();
        assert_eq!((small.enis, small.ipv4_per_eni, small.branches, small.prefixes), (2, 2, 0, false));
        let many = of("p5.48xlarge").unwrap();
        assert_eq!(
            (many.enis, many.cards.len(), many.on_card(31), many.on_card(32)),
            (64, 32, Some(2), None)
        );
        assert!(of("m5.gigantic").is_none());
    }
}
