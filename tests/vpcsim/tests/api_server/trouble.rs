//! Trouble on demand, as a client meets it.

use std::time::{Duration, Instant};

use vpcsim::cloud::EniId;
use vpcsim::trouble::TroubleSettings;

use crate::served::{Answer, NODE, SUBNET_A, Served, spec};

fn set(served: &Served, json: &str) {
    let settings: TroubleSettings = serde_json::from_str(json).unwrap();
    served.cloud().set_trouble(settings);
}

fn create(served: &Served) -> Answer {
    served.call("CreateNetworkInterface", &[("SubnetId", SUBNET_A)])
}

/// Whoever sees what a call did sees it counted, too: a test that waits for an effect may count at once.
#[test]
fn effects_are_never_seen_before_their_call() {
    let served = Served::start(&spec());
    let before = served.cloud().stats().enis;
    std::thread::scope(|scope| {
        let creates = || (0..25).for_each(|_| assert_eq!(create(&served).status, 200));
        let creators: Vec<_> = (0..8).map(|_| scope.spawn(creates)).collect();
        while !creators.iter().all(|creator| creator.is_finished()) {
            std::thread::sleep(Duration::from_micros(50));
            let stats = served.cloud().stats();
            let counted = stats.actions.get("CreateNetworkInterface").map_or(0, |count| count.calls);
            assert!(u64::try_from(stats.enis - before).unwrap() <= counted, "{stats:?}");
        }
    });
}

#[test]
fn throttled_calls_get_503_and_change_nothing() {
    let served = Served::start(&spec());
    set(
        &served,
        r#"{"throttle": {"enabled": true, "actions": {"CreateNetworkInterface": {"capacity": 2, "refill_per_s": 0.01}}}}"#,
    );
    let before = served.cloud().interfaces().count();
    let codes: Vec<(u16, String)> =
        (0..4).map(|_| create(&served)).map(|answer| (answer.status, answer.code().to_owned())).collect();
    let throttled = (503, "RequestLimitExceeded".to_owned());
    assert_eq!(codes, [(200, String::new()), (200, String::new()), throttled.clone(), throttled]);
    assert_eq!(served.cloud().interfaces().count(), before + 2);
    assert_eq!(served.call("DescribeVpcs", &[]).status, 200, "another action has its own bucket");
}

#[test]
fn callers_may_do_what_their_policy_allows() {
    let served = Served::start(&spec());
    let node = vpcsim::cloud::InstanceId::from(NODE);
    let key = served.cloud().credentials(vpcsim::api::wall_clock(), &node).unwrap().access_key;
    set(
        &served,
        &format!(
            r#"{{"iam": {{"callers": {{"{NODE}": {{"allow": ["ec2:Describe*", "ec2:CreateNetworkInterface"], "deny": ["DescribeTags"]}}}}}}}}"#
        ),
    );
    let mine = |action: &str, parameters: &[(&str, &str)]| {
        let answer = served.call_as(&key, action, parameters);
        (answer.status, answer.code().to_owned())
    };
    let denied = (403, "UnauthorizedOperation".to_owned());
    assert_eq!(mine("DescribeSubnets", &[]), (200, String::new()));
    assert_eq!(mine("DescribeTags", &[]), denied);
    assert_eq!(mine("DeleteNetworkInterface", &[("NetworkInterfaceId", "eni-0123456789abcdef0")]), denied);
    assert_eq!(mine("CreateNetworkInterface", &[("SubnetId", SUBNET_A)]), (200, String::new()));
    let tagged = [
        ("SubnetId", SUBNET_A),
        ("TagSpecification.1.ResourceType", "network-interface"),
        ("TagSpecification.1.Tag.1.Key", "a"),
    ];
    assert_eq!(mine("CreateNetworkInterface", &tagged), denied, "tags at creation need CreateTags");
    assert_eq!(served.call("DescribeTags", &[]).status, 200, "others are not concerned");
}

#[test]
fn lost_replies_are_done_or_not_as_asked() {
    let served = Served::start(&spec());
    let count = || served.cloud().interfaces().count();
    let before = count();
    set(&served, r#"{"lost_replies": [{"action": "CreateNetworkInterface", "done": true, "count": 1}]}"#);
    assert_eq!(create(&served).status, 0, "the connection closes");
    assert_eq!(count(), before + 1, "but it is done");
    assert_eq!(create(&served).status, 200, "only once");
    set(&served, r#"{"lost_replies": [{"action": "Create*", "done": false, "count": 1}]}"#);
    assert_eq!(create(&served).status, 0);
    assert_eq!(count(), before + 2, "not done");
}

#[test]
fn a_lost_creation_is_found_again_by_its_client_token() {
    let served = Served::start(&spec());
    set(&served, r#"{"lost_replies": [{"action": "CreateNetworkInterface", "done": true, "count": 1}]}"#);
    let parameters = [("SubnetId", SUBNET_A), ("ClientToken", "once")];
    assert_eq!(served.call("CreateNetworkInterface", &parameters).status, 0);
    let before = served.cloud().interfaces().count();
    let again = served.call("CreateNetworkInterface", &parameters);
    let id = EniId::from(again.text("networkInterfaceId").unwrap());
    let cloud = served.cloud();
    assert_eq!(cloud.interfaces().count(), before);
    assert!(cloud.interface(&id).is_some());
}

#[test]
fn injected_errors_come_so_often_and_then_no_more() {
    let served = Served::start(&spec());
    set(
        &served,
        r#"{"inject": [{"action": "DescribeVpcs", "code": "InternalError", "count": 2},
                       {"action": "CreateNetworkInterface", "code": "Unavailable", "status": 503, "done": true, "count": 1}]}"#,
    );
    let statuses: Vec<u16> = (0..3).map(|_| served.call("DescribeVpcs", &[]).status).collect();
    assert_eq!(statuses, [500, 500, 200]);
    let before = served.cloud().interfaces().count();
    assert_eq!(create(&served).status, 503);
    assert_eq!(served.cloud().interfaces().count(), before + 1, "done although refused");
    assert_eq!(served.cloud().trouble().inject[0].count, Some(0), "what is left can be seen");
}

#[test]
fn calls_take_as_long_as_set_and_go_on_without_their_client() {
    let served = Served::start(&spec());
    set(&served, r#"{"latency": {"*": {"fixed": {"ms": 0}}, "Create*": {"fixed": {"ms": 1000}}}}"#);
    let start = Instant::now();
    assert_eq!(create(&served).status, 200);
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    let start = Instant::now();
    served.call("DescribeVpcs", &[]);
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
    let before = served.cloud().interfaces().count();
    abandon(&served, "CreateNetworkInterface", &[("SubnetId", SUBNET_A)]);
    let deadline = Instant::now() + Duration::from_secs(10);
    while served.cloud().interfaces().count() == before {
        assert!(Instant::now() < deadline, "the call ended with its client");
        std::thread::yield_now();
    }
}

#[test]
fn a_black_hole_accepts_and_never_answers() {
    let served = Served::start(&spec());
    set(&served, r#"{"black_hole": ["DescribeSubnets"]}"#);
    let error = abandon(&served, "DescribeSubnets", &[]);
    assert!(matches!(error, std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut), "{error:?}");
    assert_eq!(served.call("DescribeVpcs", &[]).status, 200);
}

#[test]
fn describes_lag_behind_writes() {
    let served = Served::start(&spec());
    set(&served, r#"{"describe_lag": {"delay": {"fixed": {"ms": 60000}}}}"#);
    let made = create(&served);
    let id = made.text("networkInterfaceId").unwrap();
    let described = served.call("DescribeNetworkInterfaces", &[("NetworkInterfaceId.1", id)]);
    assert_eq!(described.code(), "InvalidNetworkInterfaceID.NotFound");
    set(&served, "{}");
    let described = served.call("DescribeNetworkInterfaces", &[("NetworkInterfaceId.1", id)]);
    assert_eq!(described.text("networkInterfaceId"), Some(id), "the truth was there all along");
}

#[test]
fn new_interfaces_are_unknown_for_a_while() {
    let served = Served::start(&spec());
    set(&served, r#"{"new_id_lag": {"fixed": {"ms": 60000}}}"#);
    let made = create(&served);
    let id = made.text("networkInterfaceId").unwrap();
    let tag = [("ResourceId.1", id), ("Tag.1.Key", "a")];
    assert_eq!(served.call("CreateTags", &tag).code(), "InvalidNetworkInterfaceID.NotFound");
    let attach = [("NetworkInterfaceId", id), ("InstanceId", NODE), ("DeviceIndex", "1")];
    assert_eq!(served.call("AttachNetworkInterface", &attach).code(), "InvalidNetworkInterfaceID.NotFound");
    set(&served, "{}");
    assert_eq!(served.call("CreateTags", &tag).status, 200);
}

#[test]
fn half_of_the_replicas_may_lag() {
    let served = Served::start(&spec());
    let made = create(&served);
    let id = made.text("networkInterfaceId").unwrap();
    set(&served, r#"{"seed": 1, "describe_lag": {"delay": {"fixed": {"ms": 60000}}, "probability": 0.5}}"#);
    let seen: Vec<bool> = (0..40)
        .map(|_| served.call("DescribeNetworkInterfaces", &[("NetworkInterfaceId.1", id)]).status == 200)
        .collect();
    assert!(seen.contains(&true) && seen.contains(&false), "{seen:?}");
}

/// Sends a request, waits half a second for an answer that must not come, and goes away.
fn abandon(served: &Served, action: &str, parameters: &[(&str, &str)]) -> std::io::ErrorKind {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(served.address).unwrap();
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("Action", action).append_pair("Version", "2016-11-15").extend_pairs(parameters);
    let body = form.finish();
    let request = format!(
        "POST / HTTP/1.1\r\nHost: ec2\r\nContent-Length: {}\r\nAuthorization: AWS4-HMAC-SHA256 \
         Credential=A/20260101/us-west-2/ec2/aws4_request, SignedHeaders=host, Signature=00\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let read = stream.read(&mut [0; 1]);
    read.expect_err("no answer within the time").kind()
}
