//! A wrong clock on the node (pain-points C35): signed by EC2's clock, without the SDK's retries.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;

use crate::process::child;
use crate::server::{Answer, NOTHING, Request, Server};

/// How far EC2's clock is ahead of this machine's.
const AHEAD: Duration = Duration::from_secs(3_600);

fn ahead() -> SystemTime {
    SystemTime::now() + AHEAD
}

fn http_date(at: SystemTime) -> String {
    DateTime::from(at).fmt(Format::HttpDate).unwrap()
}

/// Whether the request is dated by this clock, give or take a minute.
fn dated_by(request: &Request, clock: SystemTime) -> bool {
    let stamp = request.header("x-amz-date").unwrap_or_default();
    let minutes = |at: SystemTime| {
        DateTime::from(at).fmt(Format::DateTime).unwrap().replace(['-', ':'], "")[..13].to_owned()
    };
    let near = [clock - Duration::from_secs(60), clock, clock + Duration::from_secs(60)];
    near.iter().any(|at| stamp.starts_with(&minutes(*at)))
}

fn refusal(code: &str) -> String {
    format!(
        "<Response><Errors><Error><Code>{code}</Code><Message>Request has expired.</Message></Error></Errors><RequestID>r</RequestID></Response>"
    )
}

const KEYS: [(&str, &str); 3] =
    [("AWS_ACCESS_KEY_ID", "AKIAENV"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_EC2_METADATA_DISABLED", "true")];

fn run(server: &Server) -> Vec<String> {
    let url = server.url();
    let all: Vec<(&str, &str)> = [("AWS_ENDPOINT_URL_EC2", url.as_str())].into_iter().chain(KEYS).collect();
    child("2", &all)
}

#[test]
fn refused_for_its_date_the_same_call_succeeds_by_ec2s_clock() {
    for code in ["RequestExpired", "RequestTimeTooSkewed", "AuthFailure", "SignatureDoesNotMatch"] {
        let ec2 = Server::start(move |request| {
            let answer = if dated_by(request, ahead()) {
                Answer::ok(NOTHING)
            } else {
                Answer { status: 400, ..Answer::ok(refusal(code)) }
            };
            Some(answer.with("date", http_date(ahead())))
        });
        let said = run(&ec2);
        assert!(said.iter().all(|line| line.starts_with("Ok(")), "{code}: {said:?}");
        let (refused, served): (Vec<_>, Vec<_>) = ec2.seen().into_iter().partition(|r| !dated_by(r, ahead()));
        assert_eq!(refused.len(), 1, "{code}: only the first request is dated by our clock");
        assert!(served.len() >= 2, "{code}");
    }
}

/// The same codes from an EC2 whose clock agrees mean bad credentials: asking again would only cost calls.
#[test]
fn refusal_with_a_right_clock_is_not_repeated() {
    let count = std::sync::Arc::new(AtomicU32::new(0));
    let counter = count.clone();
    let ec2 = Server::start(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        let answer = Answer { status: 401, ..Answer::ok(refusal("AuthFailure")) };
        Some(answer.with("date", http_date(SystemTime::now())))
    });
    let said = run(&ec2);
    assert!(
        said.iter().all(|line| line.contains("class: Denied") && line.contains("instance profile")),
        "{said:?}"
    );
    assert_eq!(count.load(Ordering::Relaxed), 2, "one request for each of two calls");
}
