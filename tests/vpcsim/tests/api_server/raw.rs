//! Requests as bytes: what no SDK would send, and the form of what comes back.

use crate::served::{GROUP, NODE, SUBNET_A, Served, send, spec};

const NO_ENI: &str = "eni-0123456789abcdef0";

const GOOD: &str =
    "AWS4-HMAC-SHA256 Credential=AKIA/20260101/us-west-2/ec2/aws4_request, SignedHeaders=host, Signature=0";
const OTHER_REGION: &str =
    "AWS4-HMAC-SHA256 Credential=AKIA/20260101/eu-west-1/ec2/aws4_request, SignedHeaders=host, Signature=0";
const OTHER_SERVICE: &str =
    "AWS4-HMAC-SHA256 Credential=AKIA/20260101/us-west-2/sqs/aws4_request, SignedHeaders=host, Signature=0";
const ASK: &str = "Action=DescribeVpcs&Version=2016-11-15";

/// Authorization header, body, status, code.
const MALFORMED: &[(&str, &str, u16, &str)] = &[
    (GOOD, "Version=2016-11-15", 400, "MissingAction"),
    (GOOD, "", 400, "MissingAction"),
    (GOOD, "%", 400, "MissingAction"),
    (GOOD, "Action=DescribeVpcs", 400, "MissingParameter"),
    (GOOD, "Action=DescribeVpcs&Version=2009-01-01", 400, "NoSuchVersion"),
    (GOOD, "Action=BuyMoon&Version=2016-11-15", 400, "InvalidAction"),
    (GOOD, "Action=describeVpcs&Version=2016-11-15", 400, "InvalidAction"),
    (GOOD, "Action=DescribeVpcs&Version=2016-11-15&DryRun=true&DryRun=true", 400, "MalformedQueryString"),
    (GOOD, "Action=DescribeVpcs&Version=2016-11-15&Colour=red", 400, "UnknownParameter"),
    (GOOD, "Action=DescribeVpcs&Version=2016-11-15&DryRun=true", 412, "DryRunOperation"),
    ("", ASK, 400, "MissingAuthenticationToken"),
    ("Basic eDp5", ASK, 400, "IncompleteSignature"),
    ("AWS4-HMAC-SHA256 Credential=a/b", ASK, 400, "IncompleteSignature"),
    ("AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=0", ASK, 400, "IncompleteSignature"),
    ("AWS4-HMAC-SHA256 SignedHeaders=host, Signature=0", ASK, 400, "IncompleteSignature"),
    (OTHER_REGION, ASK, 401, "AuthFailure"),
    (OTHER_SERVICE, ASK, 401, "AuthFailure"),
    (GOOD, ASK, 200, ""),
];

#[test]
fn malformed_requests_get_ec2s_own_codes() {
    let served = Served::start(&spec());
    for (authorization, body, status, code) in MALFORMED {
        let headers = [("Authorization", *authorization)];
        let headers = if authorization.is_empty() { &headers[..0] } else { &headers[..] };
        let answer = send(served.address, "POST / HTTP/1.1", headers, body);
        assert_eq!(
            (answer.status, answer.code()),
            (*status, *code),
            "{authorization} {body}: {}",
            answer.body
        );
        if *status != 200 {
            assert_eq!(answer.text("RequestID").unwrap().len(), 36, "{}", answer.body);
            assert!(!answer.text("Message").unwrap().is_empty(), "{}", answer.body);
        }
    }
}

/// An action, its parameters, and the code that EC2 answers with.
type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);

const WRONG: &[Case] = &[
    ("CreateNetworkInterface", &[], "MissingParameter"),
    ("CreateNetworkInterface", &[("SubnetId", "subnet-1")], "InvalidSubnetID.Malformed"),
    (
        "CreateNetworkInterface",
        &[("SubnetId", SUBNET_A), ("Ipv4PrefixCount", "many")],
        "InvalidParameterValue",
    ),
    (
        "CreateNetworkInterface",
        &[("SubnetId", SUBNET_A), ("SecondaryPrivateIpAddressCount", "-1")],
        "InvalidParameterValue",
    ),
    (
        "CreateNetworkInterface",
        &[("SubnetId", SUBNET_A), ("PrivateIpAddress", "10.0.1.300")],
        "InvalidParameterValue",
    ),
    (
        "CreateNetworkInterface",
        &[("SubnetId", SUBNET_A), ("PrivateIpAddress", "10.0.1.255")],
        "InvalidParameterValue",
    ),
    (
        "CreateNetworkInterface",
        &[("SubnetId", SUBNET_A), ("PrivateIpAddress", "10.0.9.1")],
        "InvalidParameterValue",
    ),
    (
        "CreateNetworkInterface",
        &[("SubnetId", SUBNET_A), ("SecondaryPrivateIpAddressCount", "64")],
        "PrivateIpAddressLimitExceeded",
    ),
    (
        "CreateNetworkInterface",
        &[("SubnetId", SUBNET_A), ("Ipv4Prefix.1", "10.0.1.16/28")],
        "UnknownParameter",
    ),
    (
        "CreateNetworkInterface",
        &[("SubnetId", SUBNET_A), ("Ipv4Prefix.1.Ipv4Prefix", "10.0.1.0/28")],
        "InvalidParameterValue",
    ),
    (
        "CreateNetworkInterface",
        &[("SubnetId", SUBNET_A), ("Ipv4Prefix.1.Ipv4Prefix", "10.0.1.17/28")],
        "InvalidParameterValue",
    ),
    (
        "CreateNetworkInterface",
        &[
            ("SubnetId", SUBNET_A),
            ("ClientToken", "0123456789012345678901234567890123456789012345678901234567890123456789"),
        ],
        "InvalidClientToken",
    ),
    (
        "CreateNetworkInterface",
        &[
            ("SubnetId", SUBNET_A),
            ("TagSpecification.1.ResourceType", "instance"),
            ("TagSpecification.1.Tag.1.Key", "a"),
        ],
        "InvalidParameterValue",
    ),
    (
        "CreateNetworkInterface",
        &[
            ("SubnetId", SUBNET_A),
            ("TagSpecification.1.ResourceType", "network-interface"),
            ("TagSpecification.1.Tag.1.Key", "a"),
            ("TagSpecification.1.Tag.2.Key", "a"),
        ],
        "InvalidParameterValue",
    ),
    (
        "CreateNetworkInterface",
        &[("SubnetId", SUBNET_A), ("PrivateIpAddresses.1.Primary", "true")],
        "MissingParameter",
    ),
    (
        "CreateNetworkInterface",
        &[
            ("SubnetId", SUBNET_A),
            ("PrivateIpAddress", "10.0.1.9"),
            ("PrivateIpAddresses.1.PrivateIpAddress", "10.0.1.8"),
            ("PrivateIpAddresses.1.Primary", "true"),
        ],
        "InvalidParameterCombination",
    ),
    ("AttachNetworkInterface", &[("NetworkInterfaceId", NO_ENI), ("InstanceId", NODE)], "MissingParameter"),
    (
        "AttachNetworkInterface",
        &[("NetworkInterfaceId", NO_ENI), ("InstanceId", NODE), ("DeviceIndex", "1")],
        "InvalidNetworkInterfaceID.NotFound",
    ),
    (
        "AttachNetworkInterface",
        &[("NetworkInterfaceId", NO_ENI), ("InstanceId", "i-x"), ("DeviceIndex", "1")],
        "InvalidInstanceID.Malformed",
    ),
    (
        "DetachNetworkInterface",
        &[("AttachmentId", "eni-attach-x")],
        "InvalidNetworkInterfaceAttachmentId.Malformed",
    ),
    ("DetachNetworkInterface", &[("NetworkInterfaceId", NO_ENI)], "UnknownParameter"),
    (
        "AssignPrivateIpAddresses",
        &[("NetworkInterfaceId", NO_ENI), ("SecondaryPrivateIpAddressCount", "1")],
        "InvalidNetworkInterfaceID.NotFound",
    ),
    ("AssignPrivateIpAddresses", &[("NetworkInterfaceId", NO_ENI), ("DryRun", "true")], "UnknownParameter"),
    ("UnassignPrivateIpAddresses", &[("NetworkInterfaceId", NO_ENI)], "InvalidNetworkInterfaceID.NotFound"),
    ("ModifyNetworkInterfaceAttribute", &[("NetworkInterfaceId", NO_ENI)], "MissingParameter"),
    ("CreateTags", &[("ResourceId.1", NODE)], "MissingParameter"),
    ("CreateTags", &[("Tag.1.Key", "a")], "MissingParameter"),
    ("DescribeNetworkInterfaces", &[("Filter.1.Name", "status")], "InvalidParameterValue"),
    ("DescribeNetworkInterfaces", &[("Filter.1.Value.1", "x")], "MissingParameter"),
    (
        "DescribeNetworkInterfaces",
        &[("Filter.1.Name", "Status"), ("Filter.1.Value.1", "x")],
        "InvalidParameterValue",
    ),
    ("DescribeTags", &[("MaxResults", "4")], "InvalidParameterValue"),
    ("DescribeSecurityGroups", &[("GroupId.1", "pods")], "InvalidGroupId.Malformed"),
    (
        "AssociateTrunkInterface",
        &[("BranchInterfaceId", NO_ENI), ("TrunkInterfaceId", NO_ENI)],
        "MissingParameter",
    ),
    (
        "AssociateTrunkInterface",
        &[("BranchInterfaceId", NO_ENI), ("TrunkInterfaceId", NO_ENI), ("VlanId", "4095")],
        "InvalidParameterValue",
    ),
    (
        "CreateNetworkInterfacePermission",
        &[("NetworkInterfaceId", NO_ENI), ("Permission", "ALL"), ("AwsAccountId", "1")],
        "InvalidParameterValue",
    ),
];

#[test]
fn wrong_parameters_get_ec2s_own_codes() {
    let served = Served::start(&spec());
    for (action, parameters, code) in WRONG {
        let answer = served.call(action, parameters);
        assert_eq!(answer.code(), *code, "{action} {parameters:?}: {}", answer.body);
    }
}

#[test]
fn answers_have_ec2s_form() {
    let served = Served::start(&spec());
    let answer = served.call(
        "CreateNetworkInterface",
        &[("SubnetId", SUBNET_A), ("SecurityGroupId.1", GROUP), ("Description", "a<b>&\"c\"")],
    );
    assert_eq!(answer.status, 200);
    assert!(
        answer.body.contains(
            "<CreateNetworkInterfaceResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>"
        ),
        "{}",
        answer.body
    );
    assert!(answer.body.ends_with("</CreateNetworkInterfaceResponse>"));
    assert_eq!(answer.text("description"), Some("a&lt;b&gt;&amp;&quot;c&quot;"));
    let id = answer.text("networkInterfaceId").unwrap();
    assert_eq!(
        served.call("DeleteNetworkInterface", &[("NetworkInterfaceId", id)]).text("return"),
        Some("true")
    );
}

#[test]
fn get_and_a_second_listener_reach_the_same_cloud() {
    let served = Served::start(&spec());
    let line = "GET /?Action=DescribeVpcs&Version=2016-11-15&X-Amz-Credential=AKIA%2F20260101%2Fus-west-2%2Fec2%2Faws4_request HTTP/1.1";
    let (one, two) = (send(served.address, line, &[], ""), send(served.second, line, &[], ""));
    assert_eq!((one.status, two.status), (200, 200));
    assert!(one.text("vpcId").is_some() && one.text("vpcId") == two.text("vpcId"));
    assert_eq!(send(served.address, "PUT / HTTP/1.1", &[], "").status, 405);
    assert_eq!(send(served.address, "POST / HTTP/1.1", &[], &"a".repeat((1 << 20) + 1)).status, 413);
}

#[test]
fn calls_are_counted_with_caller_and_outcome() {
    let served = Served::start(&spec());
    let node = vpcsim::cloud::InstanceId::from(NODE);
    let key = served.cloud().credentials(vpcsim::api::wall_clock(), &node).unwrap().access_key;
    assert_eq!(served.call_as(&key, "DescribeSubnets", &[]).status, 200);
    assert_eq!(served.call_as(&key, "CreateNetworkInterface", &[]).code(), "MissingParameter");
    assert_eq!(served.call("DescribeSubnets", &[]).status, 200);
    let cloud = served.cloud();
    let stats = cloud.stats();
    assert_eq!((stats.reading_calls, stats.mutating_calls), (2, 1));
    assert_eq!(stats.actions["CreateNetworkInterface"].refused["MissingParameter"], 1);
    let callers: Vec<_> = cloud.calls().map(|call| call.caller.instance.clone()).collect();
    assert_eq!(callers, [Some(node.clone()), Some(node), None]);
}

#[test]
fn a_wrong_clock_cannot_sign() {
    let served = Served::start(&spec());
    let ask = |date: &str| {
        let headers = [("Authorization", GOOD), ("X-Amz-Date", date)];
        send(served.address, "POST / HTTP/1.1", &headers, ASK).code().to_owned()
    };
    let stamp = |offset: i64| {
        let now = vpcsim::api::wall_clock().0.checked_add_signed(offset * 1000).unwrap();
        vpcsim::cloud::Millis(now - now % 1000).to_string().replace(['-', ':'], "").replace(".000", "")
    };
    assert_eq!([ask(&stamp(0)), ask(&stamp(-800)), ask(&stamp(800))], ["", "", ""]);
    assert_eq!([ask(&stamp(-960)), ask(&stamp(960))], ["RequestExpired", "RequestExpired"]);
    assert_eq!(ask("yesterday"), "IncompleteSignature");
}

#[test]
fn outsiders_may_be_listed() {
    let served =
        Served::start(&vpcsim::cloud::CloudSpec { access_keys: vec!["AKIAGOOD".to_owned()], ..spec() });
    assert_eq!(served.call_as("AKIAGOOD", "DescribeVpcs", &[]).status, 200);
    let refused = served.call_as("AKIABAD", "DescribeVpcs", &[]);
    assert_eq!((refused.status, refused.code()), (401, "AuthFailure"));
}
