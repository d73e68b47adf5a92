//! Metadata that misbehaves (pain-points C33).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use podwire_ec2::Imds;
use podwire_ec2::imds::Listing;

use crate::server::{Answer, Request, Server};

const MACS: &str = "/latest/meta-data/network/interfaces/macs/";
const FIRST: &str = "02:00:00:00:00:01";
const SECOND: &str = "02:00:00:00:00:02";

/// The leaves of an instance with two ENIs.
fn leaves() -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([
        (MACS.to_owned(), format!("{FIRST}/\n{SECOND}/")),
        ("/latest/meta-data/mac".into(), FIRST.into()),
        ("/latest/meta-data/local-ipv4".into(), "10.0.0.4".into()),
    ]);
    for (number, mac) in [(0, FIRST), (1, SECOND)] {
        for (leaf, value) in [
            ("device-number", number.to_string()),
            ("interface-id", format!("eni-{number}")),
            ("subnet-id", "subnet-1".to_owned()),
            ("subnet-ipv4-cidr-block", "10.0.0.0/24".to_owned()),
            ("local-ipv4s", format!("10.0.0.{}\n10.0.0.{}", 4 + number, 14 + number)),
            ("ipv4-prefix", format!("10.0.1.{}/28", 16 * number)),
            ("security-group-ids", "sg-1\nsg-2".to_owned()),
            ("vpc-ipv4-cidr-blocks", "10.0.0.0/16".to_owned()),
        ] {
            all.insert(format!("{MACS}{mac}/{leaf}"), value);
        }
    }
    all
}

/// A metadata service whose tokens are what `issue` gives and which first asks `trouble`.
fn service(
    leaves: BTreeMap<String, String>,
    trouble: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static,
) -> Server {
    let tokens = AtomicU32::new(0);
    Server::start(move |request| {
        if let Some(answer) = trouble(request) {
            return Some(answer);
        }
        if request.method == "PUT" {
            let token = tokens.fetch_add(1, Ordering::Relaxed).to_string();
            return Some(Answer::ok(token).with("x-aws-ec2-metadata-token-ttl-seconds", "21600"));
        }
        if request.header("x-aws-ec2-metadata-token").is_none() {
            return Some(Answer::status(401));
        }
        Some(leaves.get(&request.path).map_or_else(|| Answer::status(404), Answer::ok))
    })
}

fn enis(server: &Server) -> Listing {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Imds::at(&server.url()).enis()).unwrap()
}

fn ids(listing: &Listing) -> Vec<&str> {
    listing.enis.iter().map(|eni| eni.id.as_str()).collect()
}

fn tokens(server: &Server) -> usize {
    server.seen().iter().filter(|r| r.method == "PUT").count()
}

#[test]
fn two_enis_are_read_whole_with_one_token() {
    let server = service(leaves(), |_| None);
    let seen = enis(&server);
    assert_eq!(ids(&seen), ["eni-0", "eni-1"]);
    assert!(seen.unreadable.is_empty());
    let first = &seen.enis[0];
    assert_eq!(first.primary.to_string(), "10.0.0.4");
    assert_eq!(first.addresses.len(), 1);
    assert_eq!(first.prefixes[0].to_string(), "10.0.1.0/28");
    assert_eq!(first.groups.len(), 2);
    assert_eq!(tokens(&server), 1, "one token for everything");
}

/// Each leaf in turn answers 404 on one ENI: the other one is always read.
#[test]
fn bad_eni_does_not_hide_the_others() {
    let whole = leaves();
    for leaf in ["device-number", "interface-id", "subnet-id", "security-group-ids"] {
        let mut partial = whole.clone();
        partial.remove(&format!("{MACS}{SECOND}/{leaf}"));
        let seen = enis(&service(partial, |_| None));
        assert_eq!(ids(&seen), ["eni-0"], "{leaf}");
        assert_eq!(seen.unreadable, [SECOND.parse().unwrap()], "{leaf}");
    }
    for leaf in ["subnet-ipv4-cidr-block", "ipv4-prefix"] {
        let mut partial = whole.clone();
        partial.remove(&format!("{MACS}{SECOND}/{leaf}"));
        let seen = enis(&service(partial, |_| None));
        assert_eq!(ids(&seen), ["eni-0", "eni-1"], "{leaf} may be missing");
    }
}

/// An EFA-only ENI has no addresses, in metadata as well; the instance's first one always has, and a list without any is
/// nonsense.
#[test]
fn eni_without_ipv4_is_seen_at_its_place() {
    let mut efa = leaves();
    efa.remove(&format!("{MACS}{SECOND}/local-ipv4s"));
    efa.remove(&format!("{MACS}{SECOND}/ipv4-prefix"));
    let seen = enis(&service(efa, |_| None));
    assert_eq!(ids(&seen), ["eni-0", "eni-1"]);
    assert_eq!(seen.unreadable, []);
    let second = &seen.enis[1];
    assert_eq!((second.device.0, second.primary.to_string().as_str()), (1, "::"));
    assert!(second.addresses.is_empty() && second.prefixes.is_empty());

    let mut first = leaves();
    first.remove(&format!("{MACS}{FIRST}/local-ipv4s"));
    let mut empty = leaves();
    empty.insert(format!("{MACS}{FIRST}/local-ipv4s"), "\n".into());
    for bad in [first, empty] {
        let seen = enis(&service(bad, |_| None));
        assert_eq!(ids(&seen), ["eni-1"]);
        assert_eq!(seen.unreadable, [FIRST.parse().unwrap()]);
    }
}

#[test]
fn card_of_an_eni_is_read() {
    let mut cards = leaves();
    cards.insert(format!("{MACS}{SECOND}/network-card"), "1".into());
    let seen = enis(&service(cards, |_| None));
    assert_eq!(seen.enis.iter().map(|eni| eni.card.0).collect::<Vec<_>>(), [0, 1]);
}

/// Without the VPC's CIDRs pods would reach their neighbours under the node's address: a list that is empty, or not
/// understood to its end, is not taken.
#[test]
fn cidrs_of_the_vpc_are_all_understood_or_none() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let read = |cidrs: &str| {
        let mut all = leaves();
        all.insert(format!("{MACS}{FIRST}/vpc-ipv4-cidr-blocks"), cidrs.to_owned());
        all.insert(format!("{MACS}{FIRST}/vpc-id"), "vpc-1".into());
        let server = service(all, |_| None);
        let imds = Imds::at(&server.url());
        let facts = runtime.block_on(imds.node_facts()).map(|facts| facts.vpc_cidrs);
        let again = runtime.block_on(imds.vpc_cidrs(FIRST.parse().unwrap()));
        assert_eq!(facts.as_ref().ok(), again.as_ref().ok());
        facts
    };
    let two: Vec<ipnetwork::IpNetwork> =
        vec!["10.0.0.0/16".parse().unwrap(), "100.64.0.0/16".parse().unwrap()];
    assert_eq!(read("10.0.0.0/16\n100.64.0.0/16\n").unwrap(), two);
    for bad in ["", "\n", "<html>", "10.0.0.0/16\n100.64.0.0/33"] {
        let error = read(bad).unwrap_err().to_string();
        assert!(error.contains("which is not a list of CIDRs"), "{bad}: {error}");
    }
}

/// 429, 500 and 503 pass; so does a connection that closes without an answer.
#[test]
fn service_that_asks_for_patience_gets_it() {
    for status in [429, 500, 503] {
        let tries: Arc<Mutex<BTreeMap<String, u32>>> = Arc::default();
        let server = service(leaves(), move |request| {
            let mut tries = tries.lock().unwrap();
            let count = tries.entry(format!("{} {}", request.method, request.path)).or_default();
            *count += 1;
            (*count <= 1).then(|| Answer::status(status))
        });
        let seen = enis(&server);
        assert_eq!(ids(&seen), ["eni-0", "eni-1"], "{status}");
    }
}

/// A token that is refused before its time (a clock that jumped, a service that forgot): a new one, once for all readers.
#[test]
fn refused_token_is_replaced_once() {
    let dead: Arc<Mutex<Vec<String>>> = Arc::default();
    let graveyard = Arc::clone(&dead);
    let server = service(leaves(), move |request| {
        let token = request.header("x-aws-ec2-metadata-token")?;
        graveyard.lock().unwrap().iter().any(|t| t == token).then(|| Answer::status(401))
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let imds = Imds::at(&server.url());
    runtime.block_on(imds.enis()).unwrap();
    dead.lock().unwrap().push("0".into());
    let seen = runtime.block_on(imds.enis()).unwrap();
    assert_eq!(ids(&seen), ["eni-0", "eni-1"]);
    assert_eq!(tokens(&server), 2, "sixteen refused readers share one new token");
}

/// Metadata switched off stays so: it is said at once, not after a minute.
#[test]
fn refusal_is_final() {
    let server = service(leaves(), |request| (request.method == "GET").then(|| Answer::status(403)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(Imds::at(&server.url()).enis()).unwrap_err();
    assert!(error.to_string().contains("check that IMDS is enabled"), "{error}");
    assert_eq!(server.seen().iter().filter(|r| r.method == "GET").count(), 1);
}

/// No more than a few requests are open at once, however many ENIs there are.
#[test]
fn requests_at_once_are_bounded() {
    let open = Arc::new(AtomicU32::new(0));
    let most = Arc::new(AtomicU32::new(0));
    let (now, peak) = (Arc::clone(&open), Arc::clone(&most));
    let mut many = leaves();
    let macs: Vec<String> = (0..15).map(|n| format!("02:00:00:00:01:{n:02x}")).collect();
    many.insert(MACS.into(), macs.iter().map(|mac| format!("{mac}/\n")).collect());
    let server = service(many, move |_| {
        let at_once = now.fetch_add(1, Ordering::SeqCst) + 1;
        peak.fetch_max(at_once, Ordering::SeqCst);
        // Long enough that the others would be here too.
        std::thread::sleep(std::time::Duration::from_millis(2));
        now.fetch_sub(1, Ordering::SeqCst);
        None
    });
    assert_eq!(enis(&server).unreadable.len(), 15);
    let most = most.load(Ordering::SeqCst);
    assert!((2..=8).contains(&most), "{most} at once");
}

/// Spot interruptions and scale-ins are told; their absence is not an error.
#[test]
fn end_of_the_instance_is_read_where_it_is_announced() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ending = |leaf: Option<(&str, &str)>| {
        let mut all = leaves();
        all.extend(leaf.map(|(path, value)| (format!("/latest/meta-data/{path}"), value.to_owned())));
        let server = service(all, |_| None);
        runtime.block_on(Imds::at(&server.url()).ending()).unwrap()
    };
    assert_eq!(ending(None), None);
    assert_eq!(ending(Some(("autoscaling/target-lifecycle-state", "InService"))), None);
    assert!(ending(Some(("autoscaling/target-lifecycle-state", "Terminated"))).is_some());
    let notice = r#"{"action": "terminate", "time": "2026-11-27T08:22:00Z"}"#;
    assert_eq!(ending(Some(("spot/instance-action", notice))).as_deref(), Some(notice));
}
