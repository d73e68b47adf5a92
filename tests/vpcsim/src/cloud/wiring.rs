//! From EC2's state to the wires: the only place that calls [`Wires`](crate::wires::Wires).
//!
//! A refusal of the wires is a fault of the simulator. EC2's state goes on as it would; the fault is logged and kept
//! for [`Stats::wire_faults`](super::Stats::wire_faults), where tests look.

use ipnetwork::IpNetwork;

use super::ids::EniId;
use super::place::Group;
use super::spec::IngressPeer;
use super::{Cloud, Eni};
use crate::wires::{GroupRule, Peer, Port};

/// Faults kept; more would only repeat.
const FAULTS_KEPT: usize = 1000;

impl Cloud {
    /// Makes the device appear and delivers to it all that is assigned.
    pub(super) fn plug(&mut self, id: &EniId) {
        let Some((port, routes)) = self.enis.get(id).and_then(|eni| Some((self.port(eni)?, eni.routes())))
        else {
            return;
        };
        let plugged = self.wires.plug(&port);
        self.note(&format!("plug {id}"), plugged);
        for net in routes {
            self.route(id, net);
        }
    }

    /// Makes the device vanish, if there is one.
    pub(super) fn unplug_if_plugged(&mut self, id: &EniId) {
        if self.enis.get(id).is_some_and(Eni::plugged) {
            let unplugged = self.wires.unplug(id.as_str());
            self.note(&format!("unplug {id}"), unplugged);
        }
    }

    /// Delivers this to the interface from now on.
    pub(super) fn route(&mut self, id: &EniId, net: IpNetwork) {
        let routed = self.wires.route(id.as_str(), net);
        self.note(&format!("route {net} to {id}"), routed);
    }

    /// Stops delivering, if the interface has a device.
    pub(super) fn unroute_if_plugged(&mut self, id: &EniId, net: IpNetwork) {
        if self.enis.get(id).is_some_and(Eni::plugged) {
            let unrouted = self.wires.unroute(id.as_str(), net);
            self.note(&format!("unroute {net} from {id}"), unrouted);
        }
    }

    /// Tells the wires the interface's groups, if it has a device.
    pub(super) fn regroup_if_plugged(&mut self, id: &EniId) {
        if let Some(eni) = self.enis.get(id).filter(|eni| eni.plugged()) {
            let groups: Vec<String> = eni.groups.iter().map(ToString::to_string).collect();
            let regrouped = self.wires.set_groups(id.as_str(), &groups);
            self.note(&format!("groups of {id}"), regrouped);
        }
    }

    /// Tells the wires every group's rules.
    pub(super) fn wire_groups(&mut self) {
        for group in self.groups.values() {
            if let Err(fault) = self.wires.set_group_rules(group.id.as_str(), &rules(group)) {
                self.wire_faults.push(format!("rules of {}: {fault:#}", group.id));
            }
        }
    }

    fn port(&self, eni: &Eni) -> Option<Port> {
        let to = eni.attachment.as_ref()?;
        Some(Port {
            eni: eni.id.to_string(),
            instance: to.instance.to_string(),
            mac: eni.mac,
            card: to.card,
            device: to.device,
            primary: eni.primary,
            subnet: self.subnets.get(&eni.subnet)?.cidr,
            groups: eni.groups.iter().map(ToString::to_string).collect(),
            source_dest_check: eni.source_dest_check,
        })
    }

    fn note(&mut self, what: &str, result: anyhow::Result<()>) {
        if let Err(fault) = result {
            tracing::error!(what, cause = format!("{fault:#}"), "the wires refused");
            if self.wire_faults.len() < FAULTS_KEPT {
                self.wire_faults.push(format!("{what}: {fault:#}"));
            }
        }
    }
}

fn rules(group: &Group) -> Vec<GroupRule> {
    let rule = |rule: &super::IngressSpec| GroupRule {
        protocol: rule.protocol,
        ports: rule.ports,
        peer: match &rule.from {
            IngressPeer::Cidr(range) => Peer::Cidr(*range),
            IngressPeer::Group(id) => Peer::Group(id.clone()),
        },
    };
    group.ingress.iter().map(rule).collect()
}
