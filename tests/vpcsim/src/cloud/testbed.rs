//! A small cloud for unit tests, and wires that remember what they were told.

use std::sync::{Arc, Mutex};

use ipnetwork::IpNetwork;

use super::{
    ApiError, Cloud, CloudSpec, CreateInterface, Delay, Eni, InstanceId, InstanceSpec, Millis, SubnetId,
    SubnetSpec, Timings,
};
use crate::wires::{GroupRule, Port, Wires};

pub(crate) const SUBNET: &str = "subnet-0aaaaaaaaaaaaaaaa";
pub(crate) const FAR_SUBNET: &str = "subnet-0bbbbbbbbbbbbbbbb";
pub(crate) const NODE: &str = "i-0aaaaaaaaaaaaaaaa";

/// What the wires were told, one line each.
pub(crate) type Log = Arc<Mutex<Vec<String>>>;

#[derive(Debug, Default)]
struct Remembering(Log);

impl Remembering {
    fn note(&mut self, line: String) {
        self.0.lock().unwrap().push(line);
    }
}

impl Wires for Remembering {
    fn plug(&mut self, port: &Port) -> anyhow::Result<()> {
        self.note(format!("plug {} {}/{} {}", port.instance, port.card, port.device, port.primary));
        Ok(())
    }

    fn unplug(&mut self, eni: &str) -> anyhow::Result<()> {
        self.note(format!("unplug {eni}"));
        Ok(())
    }

    fn route(&mut self, _eni: &str, net: IpNetwork) -> anyhow::Result<()> {
        self.note(format!("route {net}"));
        Ok(())
    }

    fn unroute(&mut self, _eni: &str, net: IpNetwork) -> anyhow::Result<()> {
        self.note(format!("unroute {net}"));
        Ok(())
    }

    fn set_groups(&mut self, _eni: &str, groups: &[String]) -> anyhow::Result<()> {
        self.note(format!("groups {}", groups.len()));
        Ok(())
    }

    fn set_group_rules(&mut self, _group: &str, ingress: &[GroupRule]) -> anyhow::Result<()> {
        self.note(format!("rules {}", ingress.len()));
        Ok(())
    }
}

/// Delays of a second for everything, so that tests can stand between cause and effect.
pub(crate) fn spec() -> CloudSpec {
    let second = Delay::Fixed { ms: 1000 };
    let subnet = |id: &str, cidr: &str, az: &str| SubnetSpec {
        id: Some(id.to_owned()),
        cidr: cidr.parse().unwrap(),
        az: az.to_owned(),
        ..SubnetSpec::default()
    };
    CloudSpec {
        vpc_ipv6_cidrs: vec!["2600:1f14::/56".parse().unwrap()],
        subnets: vec![
            SubnetSpec {
                ipv6_cidr: Some("2600:1f14::/64".parse().unwrap()),
                ..subnet(SUBNET, "10.0.1.0/24", "us-west-2a")
            },
            subnet(FAR_SUBNET, "10.0.2.0/24", "us-west-2b"),
        ],
        timings: Timings {
            available: second,
            attach: second,
            detach: second,
            route: Delay::NONE,
            terminate: second,
        },
        ..CloudSpec::default()
    }
}

/// The cloud and its wires' log.
pub(crate) fn cloud() -> (Cloud, Log) {
    cloud_of(&spec())
}

pub(crate) fn cloud_of(spec: &CloudSpec) -> (Cloud, Log) {
    let log = Log::default();
    let cloud = Cloud::new(spec, Box::new(Remembering(Arc::clone(&log)))).unwrap();
    log.lock().unwrap().clear();
    (cloud, log)
}

/// With one node of this type that runs since time 0.
pub(crate) fn cloud_with(instance_type: &str) -> (Cloud, Log) {
    let (mut cloud, log) = cloud();
    run(&mut cloud, NODE, instance_type).unwrap();
    log.lock().unwrap().clear();
    (cloud, log)
}

pub(crate) fn run(cloud: &mut Cloud, id: &str, instance_type: &str) -> Result<InstanceId, ApiError> {
    let spec = InstanceSpec {
        id: Some(id.to_owned()),
        instance_type: instance_type.to_owned(),
        subnet: SUBNET.to_owned(),
        ..InstanceSpec::default()
    };
    cloud.run_instance(Millis(0), &spec).map(|launched| launched.instance)
}

/// An interface in the near subnet.
pub(crate) fn new_eni(cloud: &mut Cloud, now: u64) -> Eni {
    cloud.create_network_interface(Millis(now), &ask()).unwrap()
}

/// The request for an ordinary interface in the near subnet.
pub(crate) fn ask() -> CreateInterface {
    CreateInterface::new(&SubnetId::from(SUBNET))
}

/// What the wires were told since the last time.
pub(crate) fn told(log: &Log) -> Vec<String> {
    std::mem::take(&mut *log.lock().unwrap())
}
