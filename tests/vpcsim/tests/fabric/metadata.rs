//! The metadata service, asked over the wire.

use std::net::SocketAddr;

use vpcsim::lab::{Lab, LabSpec, NodeSpec};
use vpcsim::ns::Namespaces;
use vpcsim::trouble::{ImdsTrouble, Omission, OmissionKind, TroubleSettings};
use vpcsim::wires::Wires as _;

use crate::bench::{exchange, name, wire_pod};

/// Status and body; `None`: no answer.
fn http(from: &Namespaces, method: &str, path: &str, headers: &[(&str, &str)]) -> Option<(u16, String)> {
    let to = SocketAddr::from((vpcsim::fabric::IMDS, 80));
    from.enter(|| exchange(to, method, path, headers, "")).unwrap().ok()
}

pub(crate) fn token(from: &Namespaces) -> Option<String> {
    let life = [("X-aws-ec2-metadata-token-ttl-seconds", "60")];
    http(from, "PUT", "/latest/api/token", &life).map(|(status, body)| {
        assert_eq!(status, 200, "{body}");
        body
    })
}

pub(crate) fn get(from: &Namespaces, token: &str, path: &str) -> (u16, String) {
    let path = format!("/latest/{path}");
    http(from, "GET", &path, &[("X-aws-ec2-metadata-token", token)]).expect("an answer")
}

fn lab(name: &str) -> Lab {
    let mut one = NodeSpec::new("one");
    one.instance.secondary_addresses = 2;
    Lab::start(LabSpec::instant(name).with_node(one).with_node(NodeSpec::new("two").with_launch_prefixes(1)))
        .unwrap()
}

#[test]
fn each_node_reads_its_own_tree() {
    let lab = lab(name("imds"));
    let (one, two) = (lab.node("one").unwrap(), lab.node("two").unwrap());
    let from = one.namespaces();
    let held = token(from).unwrap();
    let ok = |path: &str| match get(from, &held, path) {
        (200, body) => body,
        other => panic!("{path}: {other:?}"),
    };
    assert_eq!(ok("meta-data/instance-id"), one.instance_id());
    assert_eq!(ok("meta-data/instance-type"), "m5.large");
    assert_eq!(ok("meta-data/placement/region"), "us-west-2");
    assert_eq!(ok("meta-data/placement/availability-zone/"), "us-west-2a", "botocore asks with a slash");
    let mac = ok("meta-data/mac");
    assert_eq!(ok("meta-data/network/interfaces/macs"), format!("{mac}/"));
    assert_eq!(ok("meta-data/network/interfaces/macs/"), format!("{mac}/"));
    let addresses = ok(&format!("meta-data/network/interfaces/macs/{mac}/local-ipv4s"));
    assert_eq!(addresses.lines().count(), 3);
    assert_eq!(addresses.lines().next().unwrap(), one.primary().unwrap().address.to_string());
    assert_eq!(ok(&format!("meta-data/network/interfaces/macs/{mac}/subnet-ipv4-cidr-block")), "10.0.0.0/24");
    let listing = ok(&format!("meta-data/network/interfaces/macs/{mac}/"));
    assert!(listing.lines().any(|line| line == "vpc-ipv4-cidr-blocks"), "{listing}");
    assert!(!listing.contains("ipv4-prefix"), "nothing to list, no key: {listing}");
    assert_eq!(get(from, &held, &format!("meta-data/network/interfaces/macs/{mac}/ipv4-prefix")).0, 404);
    assert_eq!(ok("meta-data/").lines().filter(|line| *line == "network/").count(), 1);
    assert_eq!(ok(""), "dynamic\nmeta-data");
    let document: serde_json::Value =
        serde_json::from_str(&ok("dynamic/instance-identity/document")).unwrap();
    assert_eq!(document["instanceId"], one.instance_id());
    assert_eq!(document["region"], "us-west-2");
    assert!(document["pendingTime"].as_str().unwrap().ends_with('Z'));
    let role = ok("meta-data/iam/security-credentials/");
    let keys = ok(&format!("meta-data/iam/security-credentials/{role}"));
    let keys: serde_json::Value = serde_json::from_str(&keys).unwrap();
    assert_eq!(keys["Code"], "Success");
    assert!(keys["AccessKeyId"].as_str().unwrap().starts_with("ASIA"));
    for missing in [
        "meta-data/spot/instance-action",
        "meta-data/events/maintenance/scheduled",
        "meta-data/x",
        "user-data",
    ] {
        assert_eq!(get(from, &held, missing).0, 404, "{missing}");
    }

    let from_two = two.namespaces();
    assert_eq!(get(from_two, &held, "meta-data/instance-id").0, 401, "another instance's token");
    let held = token(from_two).unwrap();
    assert_eq!(get(from_two, &held, "meta-data/instance-id").1, two.instance_id());
    let mac = get(from_two, &held, "meta-data/mac").1;
    let prefix = get(from_two, &held, &format!("meta-data/network/interfaces/macs/{mac}/ipv4-prefix")).1;
    assert!(prefix.ends_with("/28"), "{prefix}");
}

#[test]
fn version_one_and_bad_token_requests_are_refused() {
    let lab = lab(name("imdsv2"));
    let node = lab.node("one").unwrap();
    let from = node.namespaces();
    let status = |method, path, headers: &[(&str, &str)]| http(from, method, path, headers).unwrap().0;
    assert_eq!(status("GET", "/latest/meta-data/instance-id", &[]), 401, "IMDSv1");
    assert_eq!(get(from, "nonsense", "meta-data/instance-id").0, 401);
    assert_eq!(status("PUT", "/latest/api/token", &[]), 400, "no life");
    let life = ("X-aws-ec2-metadata-token-ttl-seconds", "21600");
    assert_eq!(status("PUT", "/latest/api/token", &[(life.0, "21601")]), 400, "too long a life");
    assert_eq!(status("PUT", "/latest/api/token", &[life, ("X-Forwarded-For", "1.2.3.4")]), 403);
    assert_eq!(status("GET", "/latest/api/token", &[]), 405);
    assert_eq!(status("PUT", "/latest/meta-data", &[life]), 405);
    assert!(http(lab.internet().namespaces(), "GET", "/", &[]).is_none(), "not for the world");
}

#[test]
fn a_pod_behind_the_node_gets_no_token_at_hop_limit_one() {
    for (name, hop_limit) in [(name("hop1"), 1), (name("hop2"), 2)] {
        let mut one = NodeSpec::new("one");
        one.instance.secondary_addresses = 1;
        let spec = LabSpec { imds_hop_limit: hop_limit, ..LabSpec::instant(name).with_node(one) };
        let lab = Lab::start(spec).unwrap();
        let node = lab.node("one").unwrap();
        let address = lab.with_cloud(|cloud| {
            let instance = node.instance_id().into();
            cloud.true_view(&instance).unwrap().interfaces[0].local_ipv4s[1]
        });
        let pod = wire_pod(&node, "p1", address, 254).namespaces().unwrap();
        assert!(token(node.namespaces()).is_some(), "the node itself");
        assert_eq!(token(&pod).is_some(), hop_limit == 2, "the pod at hop limit {hop_limit}");
        // It is the token that does not arrive, nothing else.
        assert_eq!(http(&pod, "GET", "/latest/meta-data/mac", &[]).unwrap().0, 401);
    }
}

#[test]
fn only_primary_enis_reach_the_service() {
    let lab = lab(name("imds-primary"));
    let node = lab.node("one").unwrap();
    let port = vpcsim::wires::Port {
        eni: "eni-second".to_owned(),
        instance: node.instance_id().to_owned(),
        mac: [2, 0, 0, 0, 9, 9],
        card: 0,
        device: 1,
        primary: [10, 0, 0, 200].into(),
        subnet: "10.0.0.0/24".parse().unwrap(),
        groups: Vec::new(),
        source_dest_check: false,
    };
    lab.fabric().clone().plug(&port).unwrap();
    crate::bench::set_up_secondary(&node, &port);
    crate::bench::ip(node.namespaces(), "rule add to 169.254.169.254 lookup 2 pref 100\n");
    assert!(http(node.namespaces(), "GET", "/", &[]).is_none());
    assert!(lab.fabric().drops().unwrap().imds_denied > 0);
}

#[test]
fn trouble_shows() {
    let lab = lab(name("imds-trouble"));
    let node = lab.node("one").unwrap();
    let from = node.namespaces();
    let held = token(from).unwrap();
    let mac = get(from, &held, "meta-data/mac").1;
    let trouble = |imds: ImdsTrouble| lab.trouble(TroubleSettings { imds, ..TroubleSettings::default() });
    let omission = |what| Omission { instance: None, eni: None, what, probability: 1.0 };

    let key = OmissionKind::Key("subnet-id".to_owned());
    let omissions = vec![omission(key), omission(OmissionKind::Addresses(1))];
    trouble(ImdsTrouble { omissions, ..ImdsTrouble::default() });
    let directory = format!("meta-data/network/interfaces/macs/{mac}");
    assert_eq!(get(from, &held, &format!("{directory}/subnet-id")).0, 404);
    assert_eq!(get(from, &held, &format!("{directory}/local-ipv4s")).1.lines().count(), 2);

    trouble(ImdsTrouble { errors: 1.0, ..ImdsTrouble::default() });
    assert_eq!(get(from, &held, "meta-data/mac").0, 500);
    trouble(ImdsTrouble { errors: 1.0, status: Some(429), ..ImdsTrouble::default() });
    assert_eq!(get(from, &held, "meta-data/mac").0, 429);
    trouble(ImdsTrouble { black_hole: true, ..ImdsTrouble::default() });
    assert!(http(from, "GET", "/latest/meta-data/mac", &[]).is_none());
    trouble(ImdsTrouble::default());
    assert_eq!(get(from, &held, "meta-data/mac"), (200, mac));
}
