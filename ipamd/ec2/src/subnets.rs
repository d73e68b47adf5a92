//! Subnets of this instance's zone, and security groups of an ENI.

use aws_sdk_ec2::types::Subnet;
use podwire_pool::{Ec2Answer, EniId, GroupId, ObservedSubnet, SubnetId};

use crate::client::{Ec2Client, PAGE, count_u32, filter};
use crate::failure::Failed;

impl Ec2Client {
    /// The subnets asked for by id, or all of this instance's VPC and zone (incumbent-behaviour §5.8).
    pub(crate) async fn subnets(&self, only: &[SubnetId]) -> Result<Vec<ObservedSubnet>, Failed> {
        let filters = if only.is_empty() {
            vec![
                filter("vpc-id", [self.options.vpc.as_str()]),
                filter("availability-zone", [self.options.zone.as_str()]),
            ]
        } else {
            vec![filter("subnet-id", only.iter().map(SubnetId::as_str))]
        };
        let request = self.client.describe_subnets().set_filters(Some(filters)).max_results(PAGE);
        let mut pages = request.into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|e| Failed::of(&e))?;
            found.extend(page.subnets().iter().filter_map(observed));
        }
        Ok(found)
    }

    /// Sets an ENI's security groups.
    pub(crate) async fn set_groups(&self, eni: &EniId, groups: &[GroupId]) -> Result<Ec2Answer, Failed> {
        let request = self
            .client
            .modify_network_interface_attribute()
            .network_interface_id(eni.as_str())
            .set_groups(Some(groups.iter().map(ToString::to_string).collect()));
        request.send().await.map(|_| Ec2Answer::Modified).map_err(|e| Failed::of(&e))
    }
}

/// A subnet in the pool's words; one without id or count cannot be used and is left out.
fn observed(subnet: &Subnet) -> Option<ObservedSubnet> {
    let tags = subnet.tags().iter();
    Some(ObservedSubnet {
        id: SubnetId::new(subnet.subnet_id()?),
        cidr: subnet.cidr_block().and_then(|cidr| cidr.parse().ok()),
        free: count_u32(subnet.available_ip_address_count()?).ok()?,
        tags: tags.filter_map(|t| Some((t.key()?.into(), t.value().unwrap_or("").into()))).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_ec2::types::Tag;

    #[test]
    fn described_subnet_keeps_its_tags_and_count() {
        let subnet = Subnet::builder()
            .subnet_id("subnet-1")
            .cidr_block("10.0.0.0/24")
            .available_ip_address_count(200)
            .tags(Tag::builder().key("kubernetes.io/role/cni").value("1").build())
            .build();
        let seen = observed(&subnet).expect("complete");
        assert_eq!((seen.free, seen.cidr), (200, "10.0.0.0/24".parse().ok()));
        assert_eq!(seen.tags, [("kubernetes.io/role/cni".into(), "1".into())]);
        assert_eq!(observed(&Subnet::builder().subnet_id("subnet-1").build()), None);
    }
}
