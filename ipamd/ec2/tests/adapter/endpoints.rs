//! Where requests go: private endpoints, and the Region's plain, dual-stack and FIPS ones.

use std::sync::{Arc, Mutex};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;

use crate::process::child;
use crate::server::{Answer, NOTHING, Server, ec2};

/// Answers every request itself and remembers where it was to go; for endpoints that only exist in AWS.
#[derive(Debug, Clone, Default)]
pub(crate) struct Capture {
    asked: Arc<Mutex<Vec<String>>>,
}

impl Capture {
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl HttpConnector for Capture {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        self.asked.lock().unwrap().push(request.uri().to_owned());
        let response = HttpResponse::new(200.try_into().unwrap(), SdkBody::from(NOTHING));
        HttpConnectorFuture::ready(Ok(response))
    }
}

impl HttpClient for Capture {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

const KEYS: [(&str, &str); 3] =
    [("AWS_ACCESS_KEY_ID", "AKIAENV"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_EC2_METADATA_DISABLED", "true")];

fn asked(environment: &[(&str, &str)]) -> String {
    let all: Vec<(&str, &str)> = environment.iter().copied().chain(KEYS).collect();
    child("where", &all).join(" ")
}

#[test]
fn region_decides_the_endpoint_and_flags_choose_its_kind() {
    for (environment, host) in [
        (vec![], "https://ec2.eu-west-1.amazonaws.com/"),
        (vec![("AWS_USE_FIPS_ENDPOINT", "true")], "https://ec2-fips.eu-west-1.amazonaws.com/"),
        (vec![("AWS_USE_DUALSTACK_ENDPOINT", "true")], "https://ec2.eu-west-1.api.aws/"),
        (
            vec![("AWS_USE_DUALSTACK_ENDPOINT", "true"), ("AWS_USE_FIPS_ENDPOINT", "true")],
            "https://ec2-fips.eu-west-1.api.aws/",
        ),
        (vec![("AWS_ENDPOINT_URL", "https://vpce-1.example/")], "https://vpce-1.example/"),
        (vec![("AWS_ENDPOINT_URL_EC2", "https://vpce-2.example/")], "https://vpce-2.example/"),
        (vec![("AWS_EC2_ENDPOINT", "https://vpce-3.example/")], "https://vpce-3.example/"),
    ] {
        let said = asked(&environment);
        assert!(said.starts_with(host) && said.contains("Ok("), "{environment:?}: {said}");
    }
}

/// The incumbent's variable is the more specific wish: it wins, and the request really goes there.
#[test]
fn incumbents_endpoint_variable_wins_over_the_sdks() {
    let (mine, other) = (ec2(), ec2());
    let environment = [("AWS_EC2_ENDPOINT", mine.url()), ("AWS_ENDPOINT_URL_EC2", other.url())];
    let all: Vec<(&str, &str)> = environment.iter().map(|(k, v)| (*k, v.as_str())).chain(KEYS).collect();
    let said = child("1", &all);
    assert!(said[0].starts_with("Ok("), "{said:?}");
    assert!(!mine.seen().is_empty() && other.seen().is_empty());
    let host = mine.seen()[0].header("host").map(str::to_owned);
    assert_eq!(host.map(|h| format!("http://{h}")), Some(mine.url()));
}

/// What does not even take a connection got nothing, and is named as the thing to check.
#[test]
fn endpoint_that_takes_no_connection_got_nothing() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{closed}");
    let all: Vec<(&str, &str)> = [("AWS_ENDPOINT_URL_EC2", url.as_str())].into_iter().chain(KEYS).collect();
    let said = child("1", &all).join("");
    assert!(said.contains("class: Busy") && said.contains("no-connection"), "{said}");
    assert!(said.contains("EC2 cannot be reached") && said.contains("AWS_ENDPOINT_URL_EC2"), "{said}");
}

/// What takes the request and hangs up, or never answers, may have done it: an unknown outcome.
#[test]
fn endpoint_that_takes_a_request_and_says_nothing_is_doubtful() {
    let hangs_up = Server::start(|_| None);
    let silent = Server::start(|_| {
        std::thread::sleep(std::time::Duration::from_secs(60));
        None
    });
    for server in [hangs_up, silent] {
        let url = server.url();
        let all: Vec<(&str, &str)> =
            [("AWS_ENDPOINT_URL_EC2", url.as_str())].into_iter().chain(KEYS).collect();
        let said = child("1", &all).join("");
        assert_eq!(server.seen().len(), 1);
        assert!(said.contains("class: Unknown") && said.contains("AWS_ENDPOINT_URL_EC2"), "{said}");
    }
}

/// A name that only the proxy can look up. *Source*: RFC 6761, section 6.4.
const BEHIND_THE_PROXY: (&str, &str) = ("AWS_ENDPOINT_URL_EC2", "http://ec2.invalid/");

fn said_with(environment: &[(&str, &str)]) -> String {
    let all: Vec<(&str, &str)> = environment.iter().copied().chain(KEYS).collect();
    child("1", &all).join("")
}

#[test]
fn requests_go_through_the_proxy_that_the_environment_names() {
    let proxy = ec2();
    for name in ["HTTP_PROXY", "http_proxy"] {
        let said = said_with(&[BEHIND_THE_PROXY, (name, &proxy.url())]);
        assert!(said.starts_with("Ok("), "{name}: {said}");
        assert!(
            proxy.seen().iter().all(|request| request.path == "http://ec2.invalid/"),
            "{:?}",
            proxy.seen()
        );
    }
    assert!(!proxy.seen().is_empty());
    let tunnels = Server::start(|_| Some(Answer::status(403)));
    let said = said_with(&[("HTTPS_PROXY", &tunnels.url())]);
    let asked = tunnels.seen().iter().map(|r| format!("{} {}", r.method, r.path)).collect::<Vec<_>>();
    assert_eq!(asked.first().map(String::as_str), Some("CONNECT ec2.eu-west-1.amazonaws.com:443"));
    assert!(said.contains("class: Busy"), "a tunnel that is refused carried nothing: {said}");
}

/// What NO_PROXY names, and what lies on the node itself: the agent that gives credentials, and this endpoint.
#[test]
fn requests_past_the_proxy_never_reach_it() {
    let (proxy, endpoint) = (ec2(), ec2());
    let through = ("HTTP_PROXY", proxy.url());
    let exempt =
        said_with(&[BEHIND_THE_PROXY, (through.0, &through.1), ("NO_PROXY", "example.org,.invalid")]);
    assert!(exempt.contains("no-connection"), "{exempt}");
    let near = said_with(&[("AWS_ENDPOINT_URL_EC2", &endpoint.url()), (through.0, &through.1)]);
    assert!(near.starts_with("Ok("), "{near}");
    assert_eq!((proxy.seen().len(), endpoint.seen().is_empty()), (0, false));
}
