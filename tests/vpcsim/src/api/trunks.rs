//! `AssociateTrunkInterface`, `DisassociateTrunkInterface`, `DescribeTrunkInterfaceAssociations`.

use super::filters::{Filters, Known};
use super::interface_xml::tags;
use super::pages::Paging;
use super::params::{Param, Params, flag, must, number, text, well_formed};
use super::request::Call;
use super::xml::Xml;
use crate::cloud::{ApiError, Cloud, Protocol, TrunkAssociation, TrunkAssociationId, no_association};

/// Parameters of `AssociateTrunkInterface`.
pub(super) const ASSOCIATE: &[Param] = &[
    must("BranchInterfaceId"),
    must("TrunkInterfaceId"),
    number("VlanId"),
    number("GreKey"),
    text("ClientToken"),
    flag("DryRun"),
];

pub(super) fn associate(cloud: &mut Cloud, call: &Call, params: &Params) -> Result<Xml, ApiError> {
    let (branch, trunk) = (params.id("BranchInterfaceId")?, params.id("TrunkInterfaceId")?);
    let protocol = Protocol::of(params.number("VlanId"), params.number("GreKey"))?;
    let token = params.text("ClientToken");
    let tie = cloud.associate_trunk_interface(call.now, &branch, &trunk, protocol, token)?;
    let mut xml = Xml::new();
    xml.node("interfaceAssociation", |xml| write(xml, &tie)).some("clientToken", token);
    Ok(xml)
}

/// Parameters of `DisassociateTrunkInterface`.
pub(super) const DISASSOCIATE: &[Param] = &[must("AssociationId"), text("ClientToken"), flag("DryRun")];

pub(super) fn disassociate(cloud: &mut Cloud, call: &Call, params: &Params) -> Result<Xml, ApiError> {
    cloud.disassociate_trunk_interface(call.now, &params.id("AssociationId")?)?;
    let mut xml = Xml::done();
    xml.some("clientToken", params.text("ClientToken"));
    Ok(xml)
}

/// Parameters of `DescribeTrunkInterfaceAssociations`.
pub(super) const DESCRIBE: &[Param] = &[
    text("AssociationId.N"),
    text("Filter.N.Name"),
    text("Filter.N.Value.N"),
    number("MaxResults"),
    text("NextToken"),
    flag("DryRun"),
];

/// Source: Amazon EC2 API Reference, `DescribeTrunkInterfaceAssociations`: 5 to 255.
const PAGING: Paging = Paging { least: 5, most: 255, not_with: None };

/// Source of the names: as above.
const FILTERS: Known<TrunkAssociation> = Known {
    facts: &[
        ("gre-key", |_, tie| match tie.protocol {
            Protocol::Gre(key) => vec![key.to_string()],
            Protocol::Vlan(_) => Vec::new(),
        }),
        ("interface-protocol", |_, tie| vec![protocol_name(tie.protocol).to_owned()]),
    ],
    tags: Some(|tie| &tie.tags),
};

pub(super) fn describe(cloud: &mut Cloud, call: &Call, params: &Params) -> Result<Xml, ApiError> {
    let filters = Filters::read(params, &FILTERS)?;
    let ids = params.list("AssociationId.N").into_iter().map(well_formed);
    let ids = ids.collect::<Result<Vec<TrunkAssociationId>, _>>()?;
    let lag = cloud.describe_lag(call.now);
    let cloud = &*cloud;
    let seen: Vec<&TrunkAssociation> = cloud.trunks_seen(lag).collect();
    if let Some(unknown) = ids.iter().find(|id| !seen.iter().any(|tie| tie.id == **id)) {
        return Err(no_association(unknown));
    }
    let wanted = seen.into_iter().filter(|tie| ids.is_empty() || ids.contains(&tie.id));
    let found = wanted.filter(|tie| filters.pass(cloud, tie)).map(|tie| (tie.id.to_string(), tie)).collect();
    let page = PAGING.page(params, &params.identity("DescribeTrunkInterfaceAssociations"), found)?;
    Ok(page.write("interfaceAssociationSet", write))
}

fn write(xml: &mut Xml, tie: &TrunkAssociation) {
    let (vlan, gre) = match tie.protocol {
        Protocol::Vlan(id) => (Some(id), None),
        Protocol::Gre(key) => (None, Some(key)),
    };
    xml.leaf("associationId", &tie.id)
        .leaf("branchInterfaceId", &tie.branch)
        .leaf("trunkInterfaceId", &tie.trunk)
        .leaf("interfaceProtocol", protocol_name(tie.protocol))
        .some("vlanId", vlan)
        .some("greKey", gre);
    tags(xml, &tie.tags);
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Vlan(_) => "VLAN",
        Protocol::Gre(_) => "GRE",
    }
}
