//! The kernel floor: the product's own netlink work, in this process, without exec, RPC or daemon.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::Context;
use podwire_hostnet::pod::{PodNet, PodWiring, Teardown, delete_own};
use podwire_hostnet::{Attachment, Netns, host_ifname};

/// Wires a pod in this thread's (the node's) namespace and takes it down again. Returns how long the wiring took.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn add_and_del(netns: &str, number: u8) -> anyhow::Result<Duration> {
    let attachment = Attachment { container_id: format!("floor-{number}"), ifname: "eth0".to_owned() };
    let wiring = PodWiring {
        attachment: attachment.clone(),
        host_ifname: host_ifname("eni", "floor", &format!("floor-{number}"), &attachment),
        // An address of nobody: the floor must not meet the pool's.
        addresses: vec![IpAddr::V4(Ipv4Addr::new(10, 255, 255, number))],
        mtu: 9001,
        compat: None,
    };
    let began = Instant::now();
    let mut net = PodNet::open(Netns::open(netns).context("the pod's namespace")?)?;
    if net.has_interface("eth0")? {
        anyhow::bail!("{netns} has an eth0 already");
    }
    net.add(&wiring)?;
    let took = began.elapsed();
    let teardown = Teardown { attachment: &attachment, host_ifnames: &[wiring.host_ifname] };
    delete_own(&teardown)?.rules?;
    Ok(took)
}
