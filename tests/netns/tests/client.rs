//! The plugin's client against tonic's server.

use aws_cni::daemon::{Daemon, DaemonError};
use podwire_netns::ipamd::FakeIpamd;
use podwire_netns::stage::on_stage;
use podwire_proto::v1::{AllocateRequest, CollectRequest, Sandbox};
use std::time::{Duration, Instant};
use tonic::Code;

const PATIENCE: Duration = Duration::from_secs(20);

fn sandbox(number: usize) -> Sandbox {
    Sandbox { container_id: format!("{number:064}"), ifname: "eth0".into(), network: "aws-cni".into() }
}

fn allocate(daemon: &mut Daemon, number: usize) -> Result<Vec<String>, DaemonError> {
    let request = AllocateRequest { sandbox: Some(sandbox(number)), ..AllocateRequest::default() };
    daemon.allocate(&request, PATIENCE).map(|allocation| allocation.addresses)
}

fn connect() -> Daemon {
    Daemon::connect(Duration::ZERO).expect("it listens")
}

#[test]
fn calls_share_a_connection() {
    on_stage(|_stage| {
        let _ipamd = FakeIpamd::start(&["10.0.0.5", "10.0.0.6"]);
        let mut daemon = connect();
        for (number, address) in ["10.0.0.5", "10.0.0.6"].into_iter().enumerate() {
            assert_eq!(allocate(&mut daemon, number).expect("allocated"), [address]);
        }
        let held = daemon.inspect(sandbox(1), PATIENCE).expect("answered").allocation.expect("held");
        assert_eq!(held.addresses, ["10.0.0.6"]);
        assert!(daemon.status(PATIENCE).expect("answered").ready);
    });
}

/// Both directions far beyond a frame and HTTP/2's first windows.
#[test]
fn large_requests_and_answers_pass() {
    on_stage(|_stage| {
        let ipamd = FakeIpamd::start(&[]);
        for number in 0..4000 {
            let Sandbox { network, container_id, ifname } = sandbox(number);
            ipamd.state().held.insert((network, container_id, ifname), [10, 0, 0, 1].into());
        }
        let mut daemon = connect();
        let valid: Vec<Sandbox> = (0..4000).map(sandbox).collect();
        let all = CollectRequest {
            network: "aws-cni".into(),
            valid,
            started_boottime_ms: 1,
            ..CollectRequest::default()
        };
        assert_eq!(daemon.collect(&all, PATIENCE).expect("answered").collected, []);
        let none = CollectRequest { valid: Vec::new(), ..all };
        assert_eq!(daemon.collect(&none, PATIENCE).expect("answered").collected.len(), 4000);
    });
}

#[test]
fn errors_arrive_with_their_words_and_leave_the_connection_usable() {
    on_stage(|_stage| {
        let ipamd = FakeIpamd::start(&["10.0.0.5"]);
        ipamd.state().lose_reply = true;
        let mut daemon = connect();
        let failed = allocate(&mut daemon, 0).expect_err("refused");
        assert!(matches!(&failed, DaemonError::Call(s) if s.message() == "connection lost"), "{failed:?}");
        let failed = daemon.allocate(&AllocateRequest::default(), PATIENCE).expect_err("refused");
        assert!(matches!(&failed, DaemonError::Call(s) if s.code() == Code::InvalidArgument), "{failed:?}");
        ipamd.state().lose_reply = false;
        assert_eq!(allocate(&mut daemon, 0).expect("allocated"), ["10.0.0.5"]);
    });
}

#[test]
fn answer_that_does_not_come_is_late() {
    on_stage(|_stage| {
        let ipamd = FakeIpamd::start(&["10.0.0.5"]);
        ipamd.state().delay = Duration::from_secs(30);
        let request = AllocateRequest { sandbox: Some(sandbox(0)), ..AllocateRequest::default() };
        let began = Instant::now();
        let failed = connect().allocate(&request, Duration::from_millis(100)).expect_err("late");
        assert!(matches!(failed, DaemonError::Late(_)), "{failed:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    });
}

#[test]
fn daemon_killed_during_a_call_is_lost_and_away() {
    on_stage(|_stage| {
        let mut ipamd = FakeIpamd::start(&["10.0.0.5"]);
        ipamd.state().delay = Duration::from_secs(30);
        let failed = std::thread::scope(|scope| {
            let call = scope.spawn(|| allocate(&mut connect(), 0).expect_err("lost"));
            let until = Instant::now() + PATIENCE;
            while ipamd.state().asked == 0 && Instant::now() < until {
                std::thread::yield_now();
            }
            ipamd.stop();
            call.join().expect("no panic")
        });
        assert!(matches!(failed, DaemonError::Lost(_)) && failed.is_away(), "{failed:?}");
        assert!(matches!(Daemon::connect(Duration::ZERO), Err(DaemonError::Absent(_))));
    });
}
