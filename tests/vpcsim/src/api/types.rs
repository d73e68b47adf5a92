//! `DescribeInstanceTypes`.

use super::filters::{Filters, Known};
use super::pages::Paging;
use super::params::{Param, Params, flag, number, text};
use super::request::Call;
use super::xml::Xml;
use crate::cloud::limits::{self, TypeLimits};
use crate::cloud::{ApiError, Cloud};

/// Parameters of `DescribeInstanceTypes`.
pub(super) const DESCRIBE: &[Param] = &[
    text("InstanceType.N"),
    text("Filter.N.Name"),
    text("Filter.N.Value.N"),
    number("MaxResults"),
    text("NextToken"),
    flag("IncludeUnsupportedInRegion"),
    flag("DryRun"),
];

/// Source: Amazon EC2 API Reference, `DescribeInstanceTypes`: 5 to 100.
const PAGING: Paging = Paging { least: 5, most: 100, not_with: None };

/// Most types that can be named.
///
/// Source: as above.
const NAMED_MAX: usize = 100;

/// Source of the names: as above; those about what is not simulated are not served.
const FILTERS: Known<TypeLimits> = Known {
    facts: &[
        ("bare-metal", |_, it| vec![it.bare_metal.to_string()]),
        ("hypervisor", |_, it| it.hypervisor.map(str::to_owned).into_iter().collect()),
        ("instance-type", |_, it| vec![it.name.to_owned()]),
        ("network-info.ipv4-addresses-per-interface", |_, it| vec![it.ipv4_per_eni.to_string()]),
        ("network-info.ipv6-addresses-per-interface", |_, it| vec![it.ipv6_per_eni.to_string()]),
        ("network-info.ipv6-supported", |_, it| vec![(it.ipv6_per_eni > 0).to_string()]),
        ("network-info.maximum-network-cards", |_, it| vec![it.cards.len().to_string()]),
        ("network-info.maximum-network-interfaces", |_, it| vec![it.enis.to_string()]),
        ("vcpu-info.default-vcpus", |_, it| it.vcpus.map(|count| count.to_string()).into_iter().collect()),
    ],
    tags: None,
};

pub(super) fn describe(cloud: &mut Cloud, call: &Call, params: &Params) -> Result<Xml, ApiError> {
    let filters = Filters::read(params, &FILTERS)?;
    let names = params.list("InstanceType.N");
    if names.len() > NAMED_MAX {
        return Err(ApiError::value(format!("At most {NAMED_MAX} instance types can be specified")));
    }
    let unknown: Vec<&str> = names.iter().copied().filter(|name| limits::of(name).is_none()).collect();
    if !unknown.is_empty() {
        return Err(ApiError::new(
            "InvalidInstanceType",
            format!("The following supplied instance types do not exist: [{}]", unknown.join(", ")),
        ));
    }
    cloud.tick(call.now);
    let wanted = limits::all().filter(|it| names.is_empty() || names.contains(&it.name));
    let found = wanted.filter(|it| filters.pass(cloud, it)).map(|it| (it.name.to_owned(), it)).collect();
    let page = PAGING.page(params, &params.identity("DescribeInstanceTypes"), found)?;
    Ok(page.write("instanceTypeSet", write))
}

fn write(xml: &mut Xml, limits: &TypeLimits) {
    xml.leaf("instanceType", limits.name)
        .leaf("bareMetal", limits.bare_metal)
        .some("hypervisor", limits.hypervisor);
    if let Some(count) = limits.vcpus {
        xml.node("vCpuInfo", |xml| {
            xml.leaf("defaultVCpus", count);
        });
    }
    xml.node("networkInfo", |xml| {
        xml.leaf("maximumNetworkInterfaces", limits.enis)
            .leaf("maximumNetworkCards", limits.cards.len())
            .leaf("defaultNetworkCardIndex", limits.default_card)
            .list("networkCards", &limits.cards, |xml, (index, enis)| {
                xml.leaf("networkCardIndex", index).leaf("maximumNetworkInterfaces", enis);
            })
            .leaf("ipv4AddressesPerInterface", limits.ipv4_per_eni)
            .leaf("ipv6AddressesPerInterface", limits.ipv6_per_eni)
            .leaf("ipv6Supported", limits.ipv6_per_eni > 0)
            .leaf("enaSupport", if limits.prefixes { "required" } else { "unsupported" });
    });
}
