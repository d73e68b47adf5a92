//! What others hold in a subnet: interfaces of load balancers and the like, which fill and fragment it.

use std::net::Ipv4Addr;

use super::create::CreateInterface;
use super::ids::{EniId, SubnetId};
use super::limits::widest_ipv4;
use super::space::PREFIX_SIZE;
use super::{ApiError, Cloud, Millis, Wanted, refuse};

/// Who the interfaces are of.
const REQUESTER: &str = "amazon-elb";

impl Cloud {
    /// Has an AWS service hold these addresses, in as many interfaces as that takes. Users cannot change them.
    ///
    /// # Errors
    /// One of them is outside of the subnet, reserved or held; those before it are held then.
    pub fn occupy(
        &mut self,
        now: Millis,
        subnet: &SubnetId,
        addresses: &[Ipv4Addr],
    ) -> Result<Vec<EniId>, ApiError> {
        self.act(now, |cloud| {
            let mut made = Vec::new();
            for chunk in addresses.chunks(widest_ipv4()) {
                let [primary, secondaries @ ..] = chunk else { continue };
                let request = CreateInterface {
                    description: "ELB app/foreign/0123456789abcdef".to_owned(),
                    primary: Some(*primary),
                    wanted: Wanted { addresses: secondaries.to_vec(), ..Wanted::default() },
                    requester: REQUESTER.to_owned(),
                    ..CreateInterface::new(subnet)
                };
                let id = cloud.make_interface(&request)?.id;
                let eni = cloud.eni_mut(&id)?;
                (eni.managed, eni.pending) = (true, false);
                made.push(id);
            }
            Ok(made)
        })
    }

    /// Has an AWS service hold one address in every /28 that is free as a whole, so that no prefix is to be had though
    /// most addresses are free.
    ///
    /// # Errors
    /// There is no such subnet.
    pub fn fragment(&mut self, now: Millis, subnet: &SubnetId) -> Result<Vec<EniId>, ApiError> {
        self.tick(now);
        let space = &self.spaces.get(subnet).ok_or_else(|| refuse::no_subnet(subnet))?.v4;
        let free = |address: &Ipv4Addr| space.check(*address).is_ok();
        let hosts: Vec<Ipv4Addr> = space.cidr().iter().collect();
        let blocks = hosts.chunks(PREFIX_SIZE).filter(|block| block.iter().all(free));
        let addresses: Vec<Ipv4Addr> =
            blocks.filter_map(|block| block.get(PREFIX_SIZE / 2).copied()).collect();
        self.occupy(now, subnet, &addresses)
    }

    /// Somebody adds a range to the VPC (AssociateVpcCidrBlock); metadata tells it at once.
    pub fn widen_vpc(&mut self, now: Millis, cidr: ipnetwork::Ipv4Network) {
        self.tick(now);
        self.vpc.cidrs.push(cidr);
        self.commit();
    }

    /// Has AWS services give up all that they hold in the subnet.
    pub fn vacate(&mut self, now: Millis, subnet: &SubnetId) {
        self.tick(now);
        let foreign = self.enis.values().filter(|eni| eni.managed && eni.subnet == *subnet);
        for id in foreign.map(|eni| eni.id.clone()).collect::<Vec<_>>() {
            self.destroy(&id);
        }
        self.commit();
    }
}

#[cfg(test)]
mod tests {
    use super::super::testbed::{SUBNET, ask, cloud};
    use super::*;

    #[test]
    fn a_fragmented_subnet_has_addresses_but_no_prefix() {
        let (mut cloud, _) = cloud();
        let subnet = SubnetId::from(SUBNET);
        let foreign = cloud.fragment(Millis(0), &subnet).unwrap();
        let space = cloud.space(&subnet).unwrap();
        assert_eq!((space.free(), space.free_blocks(), foreign.len()), (251 - 14, 0, 1));
        let prefix = CreateInterface { wanted: Wanted { prefix_count: 1, ..Wanted::default() }, ..ask() };
        let refused = cloud.create_network_interface(Millis(0), &prefix).unwrap_err();
        assert_eq!(refused.code, "InsufficientCidrBlocks");
        let refused = cloud.delete_network_interface(Millis(0), &foreign[0]).unwrap_err();
        assert_eq!(refused.code, "OperationNotPermitted");
        cloud.vacate(Millis(1), &subnet);
        cloud.create_network_interface(Millis(2), &prefix).unwrap();
    }

    #[test]
    fn many_addresses_take_several_interfaces() {
        let (mut cloud, _) = cloud();
        let addresses: Vec<Ipv4Addr> = (4..255).map(|last| Ipv4Addr::new(10, 0, 1, last)).collect();
        let foreign = cloud.occupy(Millis(0), &SubnetId::from(SUBNET), &addresses).unwrap();
        assert_eq!((foreign.len(), cloud.space(&SubnetId::from(SUBNET)).unwrap().free()), (4, 0));
        let refused = cloud.create_network_interface(Millis(0), &ask()).unwrap_err();
        assert_eq!(refused.code, "InsufficientFreeAddressesInSubnet");
    }
}
