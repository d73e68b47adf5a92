//! Every source of credentials that a node daemon meets signs its requests.

use std::path::Path;

use crate::process::child;
use crate::server::{Answer, Request, Server, ec2};

const LATER: &str = "2099-01-01T00:00:00Z";

/// Runs the child; the access key that signed every request of it.
fn signer(environment: &[(&str, &str)]) -> String {
    let ec2 = ec2();
    let url = ec2.url();
    let all: Vec<(&str, &str)> =
        environment.iter().copied().chain([("AWS_ENDPOINT_URL_EC2", url.as_str())]).collect();
    let said = child("1", &all);
    let seen = ec2.seen();
    assert!(said.iter().all(|line| line.starts_with("Ok(")), "{said:?}");
    let key = seen.first().and_then(Request::access_key).unwrap_or_default().to_owned();
    assert!(seen.iter().all(|r| r.access_key() == Some(&key)), "{seen:?}");
    let signed = seen[0].header("authorization").unwrap();
    assert!(signed.contains("/eu-west-1/ec2/aws4_request"), "{signed}");
    assert!(signed.contains("host"), "the host is signed: {signed}");
    key
}

/// No metadata service: the chain must not need one.
const NO_METADATA: (&str, &str) = ("AWS_EC2_METADATA_DISABLED", "true");

#[test]
fn environment_signs() {
    let key = signer(&[("AWS_ACCESS_KEY_ID", "AKIAENV"), ("AWS_SECRET_ACCESS_KEY", "s"), NO_METADATA]);
    assert_eq!(key, "AKIAENV");
}

#[test]
fn profile_signs() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("credentials");
    let text = "[default]\naws_access_key_id = AKIADEFAULT\naws_secret_access_key = s\n\
                [cni]\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = s\n";
    std::fs::write(&file, text).unwrap();
    let path = file.to_str().unwrap();
    let key = signer(&[("AWS_SHARED_CREDENTIALS_FILE", path), ("AWS_PROFILE", "cni"), NO_METADATA]);
    assert_eq!(key, "AKIAPROFILE");
}

/// IRSA: the token of the pod's service account is exchanged at STS, here at a private endpoint.
#[test]
fn web_identity_is_exchanged_at_the_private_sts_endpoint_and_signs() {
    let sts = Server::start(|request| {
        let wanted = ["Action=AssumeRoleWithWebIdentity", "WebIdentityToken=the-token", "RoleArn="];
        if !wanted.iter().all(|part| request.body.contains(part)) {
            return Some(Answer::status(400));
        }
        Some(Answer::ok(format!(
            "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIAIRSA</AccessKeyId>\
             <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>{LATER}</Expiration>\
             </Credentials><AssumedRoleUser><AssumedRoleId>A:s</AssumedRoleId><Arn>arn:aws:sts::1:assumed-role/cni/s</Arn>\
             </AssumedRoleUser></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
        )))
    });
    let directory = tempfile::tempdir().unwrap();
    let token = write(directory.path(), "the-token");
    let url = sts.url();
    let key = signer(&[
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &token),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/cni"),
        ("AWS_ENDPOINT_URL_STS", &url),
        NO_METADATA,
    ]);
    assert_eq!(key, "ASIAIRSA");
    assert_eq!(sts.seen().len(), 1, "one exchange serves every request");
}

/// EKS Pod Identity: the agent on the node is asked with the pod's token.
#[test]
fn pod_identity_agent_is_asked_with_the_pods_token_and_signs() {
    let agent = Server::start(|request| {
        if request.path != "/v1/credentials" || request.header("authorization") != Some("pod-token") {
            return Some(Answer::status(403));
        }
        Some(Answer::ok(keys("ASIAPOD")).with("content-type", "application/json"))
    });
    let directory = tempfile::tempdir().unwrap();
    let token = write(directory.path(), "pod-token");
    let url = format!("{}/v1/credentials", agent.url());
    let key = signer(&[
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token),
        NO_METADATA,
    ]);
    assert_eq!(key, "ASIAPOD");
}

/// The instance's role through IMDSv2, when nothing else is given.
#[test]
fn instance_role_signs_when_nothing_else_is_given() {
    let imds = Server::start(|request| {
        let token = request.header("x-aws-ec2-metadata-token");
        Some(match (request.method.as_str(), request.path.as_str(), token) {
            ("PUT", "/latest/api/token", _) => {
                Answer::ok("tok").with("x-aws-ec2-metadata-token-ttl-seconds", "21600")
            }
            ("GET", _, None) => Answer::status(401),
            ("GET", path, Some("tok")) if path.trim_end_matches('/').ends_with("security-credentials") => {
                Answer::ok("node-role")
            }
            ("GET", path, Some("tok")) if path.ends_with("/node-role") => Answer::ok(keys("ASIANODE")),
            _ => Answer::status(404),
        })
    });
    let key = signer(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &imds.url())]);
    assert_eq!(key, "ASIANODE");
}

/// Nothing was sent, so nothing is doubtful, and the message says where credentials come from.
#[test]
fn without_credentials_nothing_is_sent_and_the_failure_says_so() {
    let ec2 = ec2();
    let said = child("1", &[("AWS_ENDPOINT_URL_EC2", &ec2.url()), NO_METADATA]);
    assert_eq!(ec2.seen().len(), 0);
    let text = said.join("\n");
    assert!(text.contains("class: Busy") && text.contains("no-credentials"), "{text}");
    assert!(text.contains("check the instance profile"), "{text}");
}

/// What gives credentials takes the request and never answers: still nothing was sent to EC2, and it is said within the time
/// a request has.
#[test]
fn credentials_that_never_come_are_missing_ones() {
    let silent = Server::start(|_| {
        std::thread::sleep(std::time::Duration::from_secs(60));
        None
    });
    let directory = tempfile::tempdir().unwrap();
    let token = write(directory.path(), "the-token");
    let (ec2, url) = (ec2(), silent.url());
    let ec2_url = ec2.url();
    let agent = format!("{url}/v1/credentials");
    let sts = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.as_str()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/cni"),
        ("AWS_ENDPOINT_URL_STS", url.as_str()),
    ];
    let pod_identity = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.as_str()),
    ];
    for environment in [&sts[..], &pod_identity[..]] {
        let asked = silent.seen().len();
        let all: Vec<(&str, &str)> = environment
            .iter()
            .copied()
            .chain([("AWS_ENDPOINT_URL_EC2", ec2_url.as_str()), NO_METADATA])
            .collect();
        let text = child("1", &all).join("\n");
        assert!(silent.seen().len() > asked, "{environment:?}: nobody was asked for credentials");
        assert_eq!(ec2.seen().len(), 0);
        assert!(text.contains("class: Busy") && text.contains("no-credentials"), "{text}");
    }
}

fn keys(key: &str) -> String {
    format!(
        "{{\"Code\":\"Success\",\"LastUpdated\":\"2026-01-01T00:00:00Z\",\"Type\":\"AWS-HMAC\",\"AccessKeyId\":\"{key}\",\
         \"SecretAccessKey\":\"s\",\"Token\":\"t\",\"Expiration\":\"{LATER}\"}}"
    )
}

fn write(directory: &Path, text: &str) -> String {
    let path = directory.join("token");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}
