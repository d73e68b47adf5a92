//! What an instance type can hold, from a table compiled in.
//!
//! The table is data (`limits/instance-limits.csv`, sources and commits in its header) and is scanned only when asked;
//! nothing is built at start. A type that is not listed is *unknown*, not unsupported: ask DescribeInstanceTypes.

/// The whole table.
const TABLE: &str = include_str!("../limits/instance-limits.csv");

/// Pods on a node whose limits nobody knows. *Source*: amazon-vpc-cni-k8s v1.23.1 (incumbent-testcases C02) and
/// kubelet's own default of `--max-pods`.
pub const FALLBACK_MAX_PODS: u32 = 110;

/// Addresses in a /28 prefix. *Source*: EC2 user guide, "Prefix delegation".
pub const ADDRESSES_PER_PREFIX: u32 = 16;

/// Pods that take no address of ours: aws-node and kube-proxy run on the host's network. A convention, not a bound.
/// *Source*: eni-max-pods.txt of amazon-vpc-cni-k8s v1.23.1.
const HOST_NETWORK_PODS: u32 = 2;

/// In prefix mode: most vCPUs with the small cap. *Source*: AWS's max-pods calculator (peers §3.2).
const SMALL_VCPUS: u32 = 30;
/// In prefix mode: cap of pods on small instances. *Source*: AWS's max-pods calculator (peers §3.2).
const SMALL_CAP: u32 = 110;
/// In prefix mode: cap of pods on large instances. *Source*: AWS's max-pods calculator (peers §3.2).
const LARGE_CAP: u32 = 250;

/// What runs below the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hypervisor {
    /// Nitro.
    Nitro,
    /// Xen.
    Xen,
    /// Not reported; mostly bare metal.
    Unknown,
}

/// Limits of one instance type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// ENIs on the default network card, primary included: the number that counts for pods.
    pub enis_default_card: u32,
    /// ENIs over all network cards.
    pub enis_total: u32,
    /// IPv4 addresses on each ENI, its own included; a prefix takes the place of one.
    pub ipv4_per_eni: u32,
    /// IPv6 addresses on each ENI; `None`: unknown.
    pub ipv6_per_eni: Option<u32>,
    /// Index of the default network card.
    pub default_card: u32,
    /// (index, most ENIs) of every network card.
    pub cards: Vec<(u32, u32)>,
    /// What runs below.
    pub hypervisor: Hypervisor,
    /// No hypervisor at all.
    pub bare_metal: bool,
    /// Takes prefixes: Nitro or bare metal.
    pub prefix_ok: bool,
    /// Branch interfaces on a trunk; `None`: unknown.
    pub branch_enis: Option<u32>,
    /// Can carry a trunk; `None`: unknown.
    pub trunking: Option<bool>,
    /// Default vCPUs; `None`: unknown.
    pub vcpus: Option<u32>,
    /// Pods with single addresses, not capped: ENIs × (addresses − 1) + 2.
    pub max_pods_secondary: u32,
}

impl Limits {
    /// The limits of an instance type such as `m5.large`; `None` when the table does not know it.
    #[must_use]
    pub fn of(instance_type: &str) -> Option<Self> {
        rows().find_map(|row| row.strip_prefix(instance_type)?.strip_prefix(',')).and_then(parse_row)
    }

    /// Addresses or prefixes one ENI can take beside its own address.
    #[must_use]
    pub const fn slots_per_eni(&self) -> u32 {
        self.ipv4_per_eni.saturating_sub(1)
    }

    /// Pod addresses one ENI can carry.
    #[must_use]
    pub const fn addresses_per_eni(&self, prefixes: bool) -> u32 {
        let each = if prefixes { ADDRESSES_PER_PREFIX } else { 1 };
        self.slots_per_eni().saturating_mul(each)
    }

    /// Prefixes one ENI can carry.
    #[must_use]
    pub const fn prefixes_per_eni(&self, prefixes: bool) -> u32 {
        if prefixes { self.slots_per_eni() } else { 0 }
    }

    /// ENIs podwire may use: `MAX_ENI` where it lies within 1 and the limit, else the limit.
    #[must_use]
    pub fn usable_enis(&self, max_eni: Option<u32>) -> u32 {
        max_eni.filter(|&max| max >= 1).map_or(self.enis_default_card, |max| max.min(self.enis_default_card))
    }

    /// Pods that kubelet may be told to run here: see [`max_pods`].
    #[must_use]
    pub fn max_pods(&self, prefixes: bool, max_eni: Option<u32>) -> u32 {
        let usable = self.usable_enis(max_eni);
        max_pods(self.enis_default_card, usable, self.ipv4_per_eni, prefixes, self.vcpus)
    }

    /// May carry a trunk as far as we know: unknown counts as yes (incumbent-testcases C04).
    #[must_use]
    pub fn may_trunk(&self) -> bool {
        self.trunking.unwrap_or(true)
    }
}

/// The largest of the numbers that AWS's programs tell kubelet (`--max-pods`), as far as the addresses of the `usable` of
/// `enis` ENIs reach. In prefix mode AL2's calculator caps by `vcpus`; nodeadm and Karpenter know neither prefixes nor
/// `MAX_ENI` there and say what single addresses on all ENIs would carry. *Why the largest*: a pod beyond our number is
/// refused for ever, while kubelet keeps to its own. *Source*: peers §3.2.
#[must_use]
pub fn max_pods(enis: u32, usable: u32, ipv4_per_eni: u32, prefixes: bool, vcpus: Option<u32>) -> u32 {
    let slots = ipv4_per_eni.saturating_sub(1);
    let carried = |enis: u32, each: u32| {
        enis.saturating_mul(slots).saturating_mul(each).saturating_add(HOST_NETWORK_PODS)
    };
    if !prefixes {
        return carried(usable, 1);
    }
    let cap = if vcpus.is_some_and(|vcpus| vcpus <= SMALL_VCPUS) { SMALL_CAP } else { LARGE_CAP };
    carried(usable, ADDRESSES_PER_PREFIX).min(cap.max(carried(enis, 1)))
}

/// The table's rows, without comments and header.
fn rows() -> impl Iterator<Item = &'static str> {
    TABLE.lines().filter(|line| !line.starts_with('#')).skip(1)
}

/// The columns after the instance type.
fn parse_row(row: &str) -> Option<Limits> {
    let mut columns = row.split(',');
    let mut next = || columns.next();
    let optional = |text: &str| if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) };
    Some(Limits {
        enis_default_card: next()?.parse().ok()?,
        enis_total: next()?.parse().ok()?,
        ipv4_per_eni: next()?.parse().ok()?,
        ipv6_per_eni: optional(next()?)?,
        default_card: next()?.parse().ok()?,
        cards: next()?.split(';').map(parse_card).collect::<Option<_>>()?,
        hypervisor: match next()? {
            "nitro" => Hypervisor::Nitro,
            "xen" => Hypervisor::Xen,
            "unknown" => Hypervisor::Unknown,
            _ => return None,
        },
        bare_metal: next()?.parse().ok()?,
        prefix_ok: next()?.parse().ok()?,
        branch_enis: optional(next()?)?,
        trunking: match next()? {
            "" => None,
            text => Some(text.parse().ok()?),
        },
        vcpus: optional(next()?)?,
        max_pods_secondary: next()?.parse().ok()?,
    })
}

/// `index:most`.
fn parse_card(text: &str) -> Option<(u32, u32)> {
    let (index, most) = text.split_once(':')?;
    Some((index.parse().ok()?, most.parse().ok()?))
}

#[cfg(test)]
mod tests;
