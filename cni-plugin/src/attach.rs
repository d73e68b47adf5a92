//! Reply and configuration → what hostnet is to make. Pure.

use crate::cni::env::Invocation;
use crate::cni::error::{CniError, PROTOCOL};
use crate::cni::netconf::NetConf;
use crate::cni::result::{Hidden, Interface, Made};
use podwire_hostnet::pod::{PodWiring, Way, Wired};
use podwire_hostnet::{Attachment, EniSlot, Layout, host_ifname, link_suffix, mac_text};
use podwire_proto::convert;
use podwire_proto::v1::{self, Allocation, Pod, Sandbox};
use std::net::IpAddr;

/// Start of the name of the interface that only the incumbent's result knows. *Source*: incumbent-behaviour §2.3.
const DUMMY: &str = "dummy";

/// The attachment of an invocation.
#[must_use]
pub fn attachment(invocation: &Invocation) -> Attachment {
    Attachment { container_id: invocation.container_id.clone(), ifname: invocation.ifname.clone() }
}

/// The attachment as the daemon knows it.
#[must_use]
pub fn sandbox(invocation: &Invocation, conf: &NetConf) -> Sandbox {
    Sandbox {
        container_id: invocation.container_id.clone(),
        ifname: invocation.ifname.clone(),
        network: conf.name.clone(),
    }
}

/// The pod as the daemon knows it.
#[must_use]
pub fn pod(invocation: &Invocation) -> Pod {
    let args = &invocation.pod;
    Pod { namespace: args.namespace.clone(), name: args.name.clone(), uid: args.uid.clone() }
}

/// The host veth's name for this invocation.
#[must_use]
pub fn host_name(invocation: &Invocation, conf: &NetConf) -> String {
    let args = &invocation.pod;
    host_ifname(&conf.veth_prefix, &args.namespace, &args.name, &attachment(invocation))
}

/// The addresses of an allocation.
///
/// # Errors
/// The daemon's answer makes no sense to this plugin.
pub fn addresses(allocation: &Allocation) -> Result<Vec<IpAddr>, CniError> {
    let refused = |why: String| CniError::new(PROTOCOL, "ipamd's answer cannot be used").details(why);
    let addresses = convert::addresses(&allocation.addresses).map_err(|e| refused(e.to_string()))?;
    if addresses.is_empty() {
        return Err(refused("it holds no address".into()));
    }
    Ok(addresses)
}

/// By which ENI what an allocation's addresses send leaves, and how it finds it.
#[must_use]
pub fn way(allocation: &Allocation) -> Way {
    Way {
        slot: EniSlot { card: allocation.network_card, device: allocation.device_index },
        layout: match allocation.layout() {
            v1::Layout::Constant | v1::Layout::Unspecified => Layout::Constant,
            v1::Layout::Compat => Layout::Compat,
        },
    }
}

/// What hostnet is to make of an allocation.
///
/// # Errors
/// The daemon's answer makes no sense to this plugin.
pub fn wiring(
    invocation: &Invocation,
    conf: &NetConf,
    allocation: &Allocation,
) -> Result<PodWiring, CniError> {
    let Way { slot, layout } = way(allocation);
    Ok(PodWiring {
        attachment: attachment(invocation),
        host_ifname: host_name(invocation, conf),
        addresses: addresses(allocation)?,
        mtu: conf.mtu,
        compat: match layout {
            Layout::Constant => None,
            Layout::Compat => Some(slot),
        },
    })
}

/// What goes into the result.
#[must_use]
pub fn made(wiring: &PodWiring, wired: &Wired, netns: &str) -> Made {
    let end = |name: &str, mac: &[u8; 6], sandbox: &str| Interface {
        name: name.to_owned(),
        mac: mac_text(mac),
        mtu: wiring.mtu,
        sandbox: sandbox.to_owned(),
    };
    Made {
        host: end(&wiring.host_ifname, &wired.host_mac, ""),
        pod: end(&wiring.attachment.ifname, &wired.pod_mac, netns),
        addresses: wiring.addresses.clone(),
        hidden: wiring.compat.map(|slot| Hidden {
            table: slot.table(),
            device: slot.device,
            name: format!("{DUMMY}{}", link_suffix(&wiring.host_ifname)),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::env::{PodArgs, Verb};
    use crate::cni::netconf;
    use podwire_proto::v1::Layout;

    fn parts() -> (Invocation, NetConf) {
        let invocation = Invocation {
            container_id: "c1".into(),
            ifname: "eth0".into(),
            pod: PodArgs { namespace: "default".into(), name: "sample-pod".into(), uid: String::new() },
            ..Invocation::default()
        };
        let conf = br#"{"cniVersion":"1.0.0","name":"aws-cni","mtu":"1500"}"#;
        (invocation, netconf::parse(conf, Verb::Add).expect("accepted"))
    }

    fn allocation(address: &str, layout: Layout) -> Allocation {
        Allocation { addresses: vec![address.into()], layout: layout.into(), ..Allocation::default() }
    }

    #[test]
    fn wiring_of_a_good_answer() {
        let (invocation, conf) = parts();
        let wiring = wiring(&invocation, &conf, &allocation("10.0.0.5", Layout::Constant)).expect("usable");
        assert_eq!((wiring.host_ifname.as_str(), wiring.mtu), ("enicc21c2d7785", 1500));
        assert_eq!(wiring.addresses, [IpAddr::from([10, 0, 0, 5])]);
    }

    /// Layout compat: the incumbent's rules and the fields its DEL reads.
    #[test]
    fn compat_wires_and_answers_as_the_incumbent() {
        let (invocation, conf) = parts();
        let of = |device_index, network_card| {
            let base = allocation("10.0.0.5", Layout::Compat);
            let allocation = Allocation { device_index, network_card, ..base };
            let wiring = wiring(&invocation, &conf, &allocation).expect("usable");
            let wired = Wired { host_mac: [2; 6], pod_mac: [4; 6], replaced: false };
            made(&wiring, &wired, "/run/netns/p").hidden.expect("hidden fields")
        };
        let second = of(2, 0);
        assert_eq!((second.table, second.device, second.name.as_str()), (3, 2, "dummycc21c2d7785"));
        assert_eq!((of(0, 0).table, of(1, 1).table), (254, 10_101));
    }

    #[test]
    fn wiring_of_a_bad_answer_refused() {
        let (invocation, conf) = parts();
        for bad in [
            allocation("10.0.0.5/32", Layout::Constant),
            allocation("", Layout::Constant),
            Allocation::default(),
        ] {
            assert_eq!(wiring(&invocation, &conf, &bad).map_err(|e| e.code), Err(PROTOCOL), "{bad:?}");
        }
    }
}
