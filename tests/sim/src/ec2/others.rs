//! What others do in the account (testing.md A8).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use ipnetwork::IpNetwork;
use podwire_pool::{
    AttachmentId, DeviceIndex, Ec2Answer, EniId, FailureClass, GroupId, GrowBy, InstanceId, NetworkCard,
};

use super::{Ec2, TrueEni};
use crate::world::Tampering;

impl Ec2 {
    /// Somebody else attaches an ENI of theirs to this instance.
    pub fn attach_foreign(&mut self) -> Option<EniId> {
        let device = self.lowest_device()?;
        let own = |instance: &str| ("node.k8s.amazonaws.com/instance_id".into(), instance.into());
        let number = self.next_eni;
        let (tags, kind, card) = match number % 5 {
            0 | 3 if self.lends_untagged => (Vec::new(), "interface", 0),
            0 => (vec![("node.k8s.amazonaws.com/no_manage".into(), "true".into())], "interface", 0),
            1 => (Vec::new(), "trunk", 0),
            2 => (vec![own("i-1")], "efa-only", 0),
            3 => (vec![own("i-2")], "interface", 0),
            _ => (Vec::new(), "interface", 1),
        };
        let id = self.make(0, vec![GroupId::new("sg-theirs")], tags, false);
        if let Some(eni) = self.enis.get_mut(&id) {
            eni.seen.kind = kind;
            eni.seen.card = NetworkCard(card);
            eni.seen.place = Some((AttachmentId::new(format!("attach-{id}")), device));
            if kind == "efa-only" {
                // It has no address at all.
                eni.seen.primary = IpAddr::from(Ipv6Addr::UNSPECIFIED);
            } else {
                let own = match number.to_be_bytes() {
                    [0, low] => [10, 0, 254, low],
                    [high, low] => [100, 65, high, low],
                };
                eni.seen.singles.insert(IpAddr::from(own));
            }
        }
        Some(id)
    }

    fn lowest_device(&self) -> Option<DeviceIndex> {
        if self.attached() >= self.most_enis {
            return None;
        }
        let taken: BTreeSet<u32> =
            self.enis.values().filter_map(|e| e.shown_place(self.clock).map(|(_, d)| d.0)).collect();
        (1..).find(|d| !taken.contains(d)).map(DeviceIndex)
    }

    /// Whether an ENI is somebody else's and ours to use until it is tagged as ours.
    #[must_use]
    pub fn lends(&self, eni: &TrueEni) -> bool {
        let plain = eni.seen.kind == "interface" && eni.seen.card == NetworkCard(0);
        self.lends_untagged && !eni.ours && plain && eni.seen.tags.is_empty() && eni.seen.place.is_some()
    }

    /// CreateTags. What was lent is ours from then on.
    pub(super) fn tag(&mut self, id: &EniId) -> Result<Ec2Answer, FailureClass> {
        let lent = self.enis.get(id).is_some_and(|eni| self.lends(eni));
        let owner = ("node.k8s.amazonaws.com/instance_id".into(), self.instance.as_str().into());
        let eni = self.enis.get_mut(id).ok_or(FailureClass::NotFound)?;
        eni.ours |= lent;
        eni.seen.tags.retain(|(key, _)| *key != owner.0);
        eni.seen.tags.push(owner);
        Ok(Ec2Answer::Tagged)
    }

    /// An ENI without attachment appears, made for another instance.
    pub fn leave_behind(&mut self, owner: &InstanceId, cluster: Option<&str>) -> EniId {
        let mut tags: Vec<(Box<str>, Box<str>)> =
            vec![("node.k8s.amazonaws.com/instance_id".into(), owner.as_str().into())];
        tags.extend(cluster.map(|name| ("cluster.k8s.amazonaws.com/name".into(), name.into())));
        self.make(0, vec![GroupId::new("sg-1")], tags, false)
    }

    /// Somebody does something to an ENI of ours; gives the addresses concerned.
    pub fn tamper(&mut self, which: usize, how: Tampering) -> Option<Vec<IpAddr>> {
        let whole = how == Tampering::Detach;
        let ours: Vec<EniId> = self
            .enis
            .values()
            .filter(|e| e.ours && e.seen.place.as_ref().is_some_and(|(_, d)| !whole || d.0 > 0))
            .map(|e| e.seen.id.clone())
            .collect();
        let chosen = ours.get(which % ours.len().max(1))?;
        match how {
            Tampering::Detach => {
                let victim = self.enis.get_mut(chosen)?;
                victim.seen.place = None;
                let nets = victim.seen.prefixes.iter().flat_map(IpNetwork::iter);
                Some(victim.seen.singles.iter().copied().chain(nets).collect())
            }
            Tampering::Unassign => {
                let victim = self.enis.get_mut(chosen)?;
                let ip = victim.seen.singles.pop_first()?;
                let subnet = victim.seen.subnet.clone();
                self.put_back(&subnet, &[IpNetwork::from(ip)]);
                Some(vec![ip])
            }
            Tampering::Assign => {
                if self.enis.get(chosen)?.slots() >= self.slots_per_eni {
                    return None;
                }
                let subnet = self.enis.get(chosen)?.seen.subnet.clone();
                let nets = self.grant(&subnet, GrowBy::Addresses(1), false).ok()?;
                self.enter(chosen, &nets);
                Some(Vec::new())
            }
            Tampering::Move => {
                let subnet = self.enis.get(chosen)?.seen.subnet.clone();
                let same = |id: &&EniId| {
                    *id != chosen && self.enis.get(*id).is_some_and(|e| e.seen.subnet == subnet)
                };
                let other = ours.iter().find(same)?;
                if self.enis.get(other)?.slots() >= self.slots_per_eni {
                    return None;
                }
                let ip = self.enis.get_mut(chosen)?.seen.singles.pop_first()?;
                self.enis.get_mut(other)?.seen.singles.insert(ip);
                Some(vec![ip])
            }
        }
    }

    /// Whether an ENI was left behind by a dead node of this cluster, and may be deleted.
    #[must_use]
    pub fn is_leak(&self, eni: &TrueEni) -> bool {
        let value = |key: &str| eni.seen.tags.iter().find(|(k, _)| &**k == key).map(|(_, v)| &**v);
        let dead = value("node.k8s.amazonaws.com/instance_id").is_some_and(|owner| {
            owner != self.instance.as_str() && !self.others.contains(&InstanceId::new(owner))
        });
        let managed = value("node.k8s.amazonaws.com/no_manage").is_none();
        let ours =
            self.cluster.is_some() && value("cluster.k8s.amazonaws.com/name") == self.cluster.as_deref();
        dead && managed && ours && eni.seen.place.is_none() && !eni.ours
    }
}
