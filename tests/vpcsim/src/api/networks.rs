//! `DescribeSubnets`, `DescribeVpcs`, `DescribeSecurityGroups`.

use super::filters::{Filters, Known};
use super::interface_xml::tags;
use super::pages::ORDINARY;
use super::params::{Param, Params, flag, number, text, well_formed};
use super::request::Call;
use super::xml::Xml;
use crate::cloud::{
    ApiError, Cloud, Group, GroupId, IngressPeer, IngressSpec, Subnet, SubnetId, Vpc, VpcId, no_such_group,
    no_vpc, refuse,
};

/// Parameters of `DescribeSubnets`.
pub(super) const SUBNETS: &[Param] = &[
    text("SubnetId.N"),
    text("Filter.N.Name"),
    text("Filter.N.Value.N"),
    number("MaxResults"),
    text("NextToken"),
    flag("DryRun"),
];

/// Source of the names, older spellings included: Amazon EC2 API Reference, `DescribeSubnets`.
const SUBNET_FILTERS: Known<Subnet> = Known {
    facts: &[
        ("availability-zone", |_, subnet| vec![subnet.az.clone()]),
        ("availabilityZone", |_, subnet| vec![subnet.az.clone()]),
        ("availability-zone-id", |_, subnet| vec![subnet.az_id.clone()]),
        ("availabilityZoneId", |_, subnet| vec![subnet.az_id.clone()]),
        ("available-ip-address-count", |_, subnet| vec![subnet.free.to_string()]),
        ("cidr-block", |_, subnet| vec![subnet.cidr.to_string()]),
        ("cidr", |_, subnet| vec![subnet.cidr.to_string()]),
        ("cidrBlock", |_, subnet| vec![subnet.cidr.to_string()]),
        ("default-for-az", |_, _| vec!["false".to_owned()]),
        ("defaultForAz", |_, _| vec!["false".to_owned()]),
        ("ipv6-cidr-block-association.ipv6-cidr-block", |_, subnet| {
            subnet.ipv6_cidr.iter().map(ToString::to_string).collect()
        }),
        ("ipv6-native", |_, _| vec!["false".to_owned()]),
        ("map-public-ip-on-launch", |_, _| vec!["false".to_owned()]),
        ("owner-id", |cloud, _| vec![cloud.spec().account.clone()]),
        ("state", |_, _| vec!["available".to_owned()]),
        ("subnet-arn", |cloud, subnet| vec![arn(cloud, "subnet", subnet.id.as_str())]),
        ("subnet-id", |_, subnet| vec![subnet.id.to_string()]),
        ("vpc-id", |cloud, _| vec![cloud.vpc().id.to_string()]),
    ],
    tags: Some(|subnet| &subnet.tags),
};

pub(super) fn subnets(cloud: &mut Cloud, call: &Call, params: &Params) -> Result<Xml, ApiError> {
    let filters = Filters::read(params, &SUBNET_FILTERS)?;
    let ids = params.list("SubnetId.N").into_iter().map(well_formed).collect::<Result<Vec<SubnetId>, _>>()?;
    let lag = cloud.describe_lag(call.now);
    let cloud = &*cloud;
    let seen: Vec<&Subnet> = cloud.subnets_seen(lag).collect();
    if let Some(unknown) = ids.iter().find(|id| !seen.iter().any(|subnet| subnet.id == **id)) {
        return Err(refuse::no_subnet(unknown));
    }
    let wanted = seen.into_iter().filter(|subnet| ids.is_empty() || ids.contains(&subnet.id));
    let found = wanted.filter(|it| filters.pass(cloud, it)).map(|it| (it.id.to_string(), it)).collect();
    let page = ORDINARY.page(params, &params.identity("DescribeSubnets"), found)?;
    Ok(page.write("subnetSet", |xml, subnet| write_subnet(xml, cloud, subnet)))
}

fn write_subnet(xml: &mut Xml, cloud: &Cloud, subnet: &Subnet) {
    xml.leaf("subnetId", &subnet.id)
        .leaf("subnetArn", arn(cloud, "subnet", subnet.id.as_str()))
        .leaf("state", "available")
        .leaf("ownerId", &cloud.spec().account)
        .leaf("vpcId", &cloud.vpc().id)
        .leaf("cidrBlock", subnet.cidr)
        .list("ipv6CidrBlockAssociationSet", subnet.ipv6_cidr, |xml, cidr| {
            xml.leaf("ipv6CidrBlock", cidr)
                .leaf("associationId", subnet.id.as_str().replace("subnet-", "subnet-cidr-assoc-"))
                .node("ipv6CidrBlockState", |xml| {
                    xml.leaf("state", "associated");
                });
        })
        .leaf("availableIpAddressCount", subnet.free)
        .leaf("availabilityZone", &subnet.az)
        .leaf("availabilityZoneId", &subnet.az_id)
        .leaf("defaultForAz", false)
        .leaf("mapPublicIpOnLaunch", false)
        .leaf("assignIpv6AddressOnCreation", false)
        .leaf("ipv6Native", false);
    tags(xml, &subnet.tags);
}

/// Parameters of `DescribeVpcs`.
pub(super) const VPCS: &[Param] = &[
    text("VpcId.N"),
    text("Filter.N.Name"),
    text("Filter.N.Value.N"),
    number("MaxResults"),
    text("NextToken"),
    flag("DryRun"),
];

/// Source of the names: Amazon EC2 API Reference, `DescribeVpcs`.
const VPC_FILTERS: Known<Vpc> = Known {
    facts: &[
        ("cidr", |_, vpc| vec![vpc.cidrs[0].to_string()]),
        ("cidr-block-association.cidr-block", |_, vpc| vpc.cidrs.iter().map(ToString::to_string).collect()),
        ("ipv6-cidr-block-association.ipv6-cidr-block", |_, vpc| {
            vpc.ipv6_cidrs.iter().map(ToString::to_string).collect()
        }),
        ("is-default", |_, _| vec!["false".to_owned()]),
        ("owner-id", |cloud, _| vec![cloud.spec().account.clone()]),
        ("state", |_, _| vec!["available".to_owned()]),
        ("vpc-id", |_, vpc| vec![vpc.id.to_string()]),
    ],
    tags: Some(|vpc| &vpc.tags),
};

pub(super) fn vpcs(cloud: &mut Cloud, call: &Call, params: &Params) -> Result<Xml, ApiError> {
    let filters = Filters::read(params, &VPC_FILTERS)?;
    let ids = params.list("VpcId.N").into_iter().map(well_formed).collect::<Result<Vec<VpcId>, _>>()?;
    cloud.tick(call.now);
    let cloud = &*cloud;
    let vpc = cloud.vpc();
    if let Some(unknown) = ids.iter().find(|id| **id != vpc.id) {
        return Err(no_vpc(unknown.as_str()));
    }
    let found = filters.pass(cloud, vpc).then(|| (vpc.id.to_string(), vpc)).into_iter().collect();
    let page = ORDINARY.page(params, &params.identity("DescribeVpcs"), found)?;
    Ok(page.write("vpcSet", |xml, vpc| write_vpc(xml, cloud, vpc)))
}

fn write_vpc(xml: &mut Xml, cloud: &Cloud, vpc: &Vpc) {
    let association = |at: usize| format!("{}-{at}", vpc.id.as_str().replace("vpc-", "vpc-cidr-assoc-"));
    xml.leaf("vpcId", &vpc.id)
        .leaf("ownerId", &cloud.spec().account)
        .leaf("state", "available")
        .some("cidrBlock", vpc.cidrs.first())
        .leaf("instanceTenancy", "default")
        .leaf("isDefault", false)
        .list("cidrBlockAssociationSet", vpc.cidrs.iter().enumerate(), |xml, (at, cidr)| {
            xml.leaf("associationId", association(at)).leaf("cidrBlock", cidr).node(
                "cidrBlockState",
                |xml| {
                    xml.leaf("state", "associated");
                },
            );
        })
        .list("ipv6CidrBlockAssociationSet", vpc.ipv6_cidrs.iter().enumerate(), |xml, (at, cidr)| {
            xml.leaf("associationId", association(at)).leaf("ipv6CidrBlock", cidr).node(
                "ipv6CidrBlockState",
                |xml| {
                    xml.leaf("state", "associated");
                },
            );
        });
    tags(xml, &vpc.tags);
}

/// Parameters of `DescribeSecurityGroups`.
pub(super) const GROUPS: &[Param] = &[
    text("GroupId.N"),
    text("GroupName.N"),
    text("Filter.N.Name"),
    text("Filter.N.Value.N"),
    number("MaxResults"),
    text("NextToken"),
    flag("DryRun"),
];

/// Source of the names: Amazon EC2 API Reference, `DescribeSecurityGroups`; those about rules are not served.
const GROUP_FILTERS: Known<Group> = Known {
    facts: &[
        ("description", |_, group| vec![group.description.clone()]),
        ("group-id", |_, group| vec![group.id.to_string()]),
        ("group-name", |_, group| vec![group.name.clone()]),
        ("owner-id", |cloud, _| vec![cloud.spec().account.clone()]),
        ("vpc-id", |cloud, _| vec![cloud.vpc().id.to_string()]),
    ],
    tags: Some(|group| &group.tags),
};

pub(super) fn groups(cloud: &mut Cloud, call: &Call, params: &Params) -> Result<Xml, ApiError> {
    let filters = Filters::read(params, &GROUP_FILTERS)?;
    let ids = params.list("GroupId.N").into_iter().map(well_formed).collect::<Result<Vec<GroupId>, _>>()?;
    let names = params.list("GroupName.N");
    cloud.tick(call.now);
    let cloud = &*cloud;
    if let Some(unknown) = ids.iter().find(|id| !cloud.groups().any(|group| group.id == **id)) {
        return Err(no_such_group(unknown));
    }
    if let Some(unknown) = names.iter().find(|name| !cloud.groups().any(|group| group.name == **name)) {
        return Err(no_such_group(&GroupId::from(*unknown)));
    }
    let named = |group: &&Group| {
        (ids.is_empty() || ids.contains(&group.id))
            && (names.is_empty() || names.contains(&group.name.as_str()))
    };
    let wanted = cloud.groups().filter(named).filter(|group| filters.pass(cloud, group));
    let found = wanted.map(|group| (group.id.to_string(), group)).collect();
    let page = ORDINARY.page(params, &params.identity("DescribeSecurityGroups"), found)?;
    Ok(page.write("securityGroupInfo", |xml, group| write_group(xml, cloud, group)))
}

fn write_group(xml: &mut Xml, cloud: &Cloud, group: &Group) {
    xml.leaf("ownerId", &cloud.spec().account)
        .leaf("groupId", &group.id)
        .leaf("securityGroupArn", arn(cloud, "security-group", group.id.as_str()))
        .leaf("groupName", &group.name)
        .leaf("groupDescription", &group.description)
        .leaf("vpcId", &cloud.vpc().id)
        .list("ipPermissions", &group.ingress, |xml, rule| write_rule(xml, cloud, rule))
        .list("ipPermissionsEgress", [()], |xml, ()| {
            xml.leaf("ipProtocol", "-1").list("groups", [(); 0], |_, ()| {}).list(
                "ipRanges",
                [()],
                |xml, ()| {
                    xml.leaf("cidrIp", "0.0.0.0/0");
                },
            );
        });
    tags(xml, &group.tags);
}

fn write_rule(xml: &mut Xml, cloud: &Cloud, rule: &IngressSpec) {
    let protocol = match rule.protocol {
        None => "-1".to_owned(),
        Some(6) => "tcp".to_owned(),
        Some(17) => "udp".to_owned(),
        Some(1) => "icmp".to_owned(),
        Some(other) => other.to_string(),
    };
    xml.leaf("ipProtocol", protocol)
        .some("fromPort", rule.ports.map(|(first, _)| first))
        .some("toPort", rule.ports.map(|(_, last)| last));
    let (mut peers, mut ranges, mut ranges6) = (None, None, None);
    match &rule.from {
        IngressPeer::Group(id) => peers = Some(id),
        IngressPeer::Cidr(range) if range.is_ipv4() => ranges = Some(range),
        IngressPeer::Cidr(range) => ranges6 = Some(range),
    }
    xml.list("groups", peers, |xml, id| {
        xml.leaf("groupId", id).leaf("userId", &cloud.spec().account);
    })
    .list("ipRanges", ranges, |xml, range| {
        xml.leaf("cidrIp", range);
    })
    .list("ipv6Ranges", ranges6, |xml, range| {
        xml.leaf("cidrIpv6", range);
    });
}

fn arn(cloud: &Cloud, kind: &str, id: &str) -> String {
    format!("arn:aws:ec2:{}:{}:{kind}/{id}", cloud.spec().region, cloud.spec().account)
}
