//! A cloud without kernel, served on loopback for the length of a test.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::MutexGuard;
use std::time::Duration;

use vpcsim::api::{self, Standalone};
use vpcsim::cloud::{
    Cloud, CloudSpec, GroupSpec, InstanceSpec, ReservationKind, ReservationSpec, SubnetSpec, Timings,
};
use vpcsim::wires::NoWires;

pub(crate) const SUBNET_A: &str = "subnet-0aaaaaaaaaaaaaaaa";
pub(crate) const SUBNET_B: &str = "subnet-0bbbbbbbbbbbbbbbb";
pub(crate) const SUBNET_TINY: &str = "subnet-0cccccccccccccccc";
pub(crate) const SUBNET_KEPT: &str = "subnet-0dddddddddddddddd";
pub(crate) const SUBNET_SIX: &str = "subnet-0eeeeeeeeeeeeeeee";
pub(crate) const GROUP: &str = "sg-0aaaaaaaaaaaaaaaa";
pub(crate) const NODE: &str = "i-0aaaaaaaaaaaaaaaa";
pub(crate) const OLD_NODE: &str = "i-0bbbbbbbbbbbbbbbb";
pub(crate) const BIG_NODE: &str = "i-0cccccccccccccccc";

/// The VPC that all tests here use: see the constants.
pub(crate) fn spec() -> CloudSpec {
    let subnet = |id: &str, cidr: &str, az: &str| SubnetSpec {
        id: Some(id.to_owned()),
        cidr: cidr.parse().unwrap(),
        az: az.to_owned(),
        ..SubnetSpec::default()
    };
    let tagged = SubnetSpec {
        tags: [("kubernetes.io/role/cni".to_owned(), "1".to_owned())].into(),
        ..subnet(SUBNET_B, "10.0.2.0/24", "us-west-2b")
    };
    let kept = SubnetSpec {
        reservations: vec![
            ReservationSpec { cidr: "10.0.4.64/26".parse().unwrap(), kind: ReservationKind::Prefix },
            ReservationSpec { cidr: "10.0.4.128/26".parse().unwrap(), kind: ReservationKind::Explicit },
        ],
        ..subnet(SUBNET_KEPT, "10.0.4.0/24", "us-west-2a")
    };
    let six = SubnetSpec {
        ipv6_cidr: Some("2600:1f14:0:1::/64".parse().unwrap()),
        ..subnet(SUBNET_SIX, "10.0.5.0/24", "us-west-2a")
    };
    CloudSpec {
        seed: 7,
        vpc_ipv6_cidrs: vec!["2600:1f14::/56".parse().unwrap()],
        subnets: vec![
            subnet(SUBNET_A, "10.0.1.0/24", "us-west-2a"),
            tagged,
            subnet(SUBNET_TINY, "10.0.3.0/28", "us-west-2a"),
            kept,
            six,
        ],
        groups: vec![GroupSpec {
            id: Some(GROUP.to_owned()),
            name: "pods".to_owned(),
            ..GroupSpec::default()
        }],
        timings: Timings::instant(),
        ..CloudSpec::default()
    }
}

/// A server that ends with the test.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) second: SocketAddr,
    server: Standalone,
}

impl Served {
    pub(crate) fn start(spec: &CloudSpec) -> Self {
        let mut cloud = Cloud::new(spec, Box::new(NoWires)).unwrap();
        for (id, instance_type, subnet) in [
            (NODE, "m5.large", SUBNET_A),
            (OLD_NODE, "t2.micro", SUBNET_A),
            (BIG_NODE, "p5.48xlarge", SUBNET_SIX),
        ] {
            let instance = InstanceSpec {
                id: Some(id.to_owned()),
                instance_type: instance_type.to_owned(),
                subnet: subnet.to_owned(),
                tags: [("Name".to_owned(), id.to_owned())].into(),
                ..InstanceSpec::default()
            };
            cloud.run_instance(api::wall_clock(), &instance).unwrap();
        }
        let [one, two] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let (address, second) = (one.local_addr().unwrap(), two.local_addr().unwrap());
        Self { address, second, server: Standalone::start_on(cloud, vec![one, two]).unwrap() }
    }

    pub(crate) fn cloud(&self) -> MutexGuard<'_, Cloud> {
        self.server.cloud()
    }

    /// Calls an action, signed by `key`.
    pub(crate) fn call_as(&self, key: &str, action: &str, parameters: &[(&str, &str)]) -> Answer {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("Action", action).append_pair("Version", "2016-11-15").extend_pairs(parameters);
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={key}/20260101/us-west-2/ec2/aws4_request, SignedHeaders=host, Signature=00"
        );
        send(self.address, "POST / HTTP/1.1", &[("Authorization", &authorization)], &form.finish())
    }

    /// Calls an action.
    pub(crate) fn call(&self, action: &str, parameters: &[(&str, &str)]) -> Answer {
        self.call_as("AKIATEST", action, parameters)
    }
}

/// What came back. Status 0: the connection closed without an answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    /// The text of the first element of this name.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let from = self.body.find(&open)? + open.len();
        Some(&self.body[from..from + self.body[from..].find(&close)?])
    }

    /// EC2's error code; empty for a success.
    pub(crate) fn code(&self) -> &str {
        if self.status == 200 { "" } else { self.text("Code").unwrap_or("no code") }
    }
}

/// One request on a connection of its own.
pub(crate) fn send(address: SocketAddr, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut request =
        format!("{line}\r\nHost: ec2\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    request.push_str(body);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).map_or(0, |status| status.parse().unwrap());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
    Answer { status, body }
}
