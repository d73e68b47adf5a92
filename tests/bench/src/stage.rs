//! The node on which the verbs are measured: its daemon runs and holds more addresses than any section asks for.

use std::time::Duration;

use ipnetwork::Ipv4Network;
use podwire_e2e::binaries::Binaries;
use podwire_e2e::report::say;
use podwire_e2e::runtime::netconf;
use podwire_e2e::scene::{Mode, Worker};
use vpcsim::lab::{Lab, LabSpec, NodeSpec};

/// A node with its daemon; gone when dropped, in the order of the fields.
pub(crate) struct Stage {
    /// The node.
    pub(crate) worker: Worker,
    /// The plugin's standard input.
    pub(crate) conf: Vec<u8>,
    _lab: Lab,
}

impl Stage {
    /// Brings it up with `namespaces` pod namespaces, `bench-0` and on. `name` tells labs apart.
    ///
    /// # Errors
    /// The programs are missing, or the node does not become ready.
    pub(crate) fn start(name: &str, namespaces: usize) -> anyhow::Result<Self> {
        say("  bringing up a node with a pool of 272 addresses (17 launch prefixes, no EC2 call)");
        let binaries = Binaries::find()?;
        let lab = Lab::start(lab_spec(name)?)?;
        let spec = NodeSpec::new(name).of_type("m5.4xlarge").with_launch_prefixes(17);
        let settings =
            [("MINIMUM_IP_TARGET", "272"), ("PODWIRE_MAX_PODS", "272"), ("IP_COOLDOWN_PERIOD", "0")];
        let worker = Worker::start(&lab, &binaries, spec, Mode::Prefix, &settings)?;
        let conf = netconf(&worker.node, "1.0.0", None)?.to_string().into_bytes();
        for number in 0..namespaces {
            worker.node.add_netns(&format!("bench-{number}"))?;
        }
        Ok(Self { worker, conf, _lab: lab })
    }

    /// Ends it.
    ///
    /// # Errors
    /// The daemon does not end as asked.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.worker.daemon.stop(Duration::from_secs(15))?;
        Ok(())
    }
}

/// Subnets large enough for 250 pods and more.
fn lab_spec(name: &str) -> anyhow::Result<LabSpec> {
    let mut spec = LabSpec::named(&format!("bench-{name}-{}", std::process::id()));
    for (third, subnet) in [0u8, 64].into_iter().zip(&mut spec.cloud.subnets) {
        subnet.cidr = Ipv4Network::new([10, 0, third, 0].into(), 18)?;
    }
    Ok(spec)
}
