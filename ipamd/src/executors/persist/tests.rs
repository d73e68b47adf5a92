//! The disk refuses new files while the ledger's directory has another name; what is open is written all the same.

use std::fs;
use std::path::PathBuf;

use podwire_ledger::{Identity, Opened};
use podwire_pool::{BootId, InstanceId, SandboxKey};
use tokio::sync::mpsc;

use super::*;

/// A ledger, its writer, and the driver's inbox.
struct Scene {
    _dir: tempfile::TempDir,
    home: PathBuf,
    persist: PersistExecutor,
    writer: JoinHandle<()>,
    inbox: mpsc::Receiver<Message>,
}

fn identity() -> Identity {
    let (instance, boot) = (InstanceId::new("i-1"), BootId::new("b-1"));
    Identity { instance, boot, cooldown: Duration::from_secs(30), lineage: "l-1".into() }
}

fn buried(container: &str) -> Record {
    Record::Tombstone {
        sandbox: SandboxKey::new(container, "eth0"),
        started: Time::from_ms(0),
        at: Time::from_ms(1),
    }
}

impl Scene {
    /// A ledger that was founded before, or none yet.
    fn of(in_memory: bool, founded: bool) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let home = dir.path().join("ledger");
        if founded {
            let (mut ledger, _) = Ledger::open(&home, &identity()).expect("opens");
            ledger.compact(&[buried("old")]).expect("founded");
        }
        let (ledger, _) = Ledger::open(&home, &identity()).expect("opens");
        assert_eq!(ledger.is_founded(), founded);
        let (driver, inbox) = Handle::channel();
        let (persist, writer) =
            PersistExecutor::start_with(ledger, in_memory, driver, Duration::ZERO).expect("a thread");
        Self { _dir: dir, home, persist, writer, inbox }
    }

    fn refuse_new_files(&self) {
        fs::rename(&self.home, self.home.with_extension("away")).expect("moved away");
        // Or a directory would be made.
        fs::write(&self.home, "in the way").expect("written");
    }

    fn take_new_files(&self) {
        fs::remove_file(&self.home).expect("removed");
        fs::rename(self.home.with_extension("away"), &self.home).expect("moved back");
    }

    fn next(&mut self) -> Message {
        let (inbox, give_up) = (&mut self.inbox, clock::now().after(Duration::from_secs(20)));
        loop {
            if let Ok(message) = inbox.try_recv() {
                return message;
            }
            assert!(clock::now() < give_up, "nothing is reported");
            std::thread::yield_now();
        }
    }

    /// The next revisions reported durable, up to this one.
    fn durable_up_to(&mut self, last: u64) -> Vec<u64> {
        let mut reported = Vec::new();
        while reported.last() != Some(&last) {
            let message = self.next();
            if let Message::Happened(Input::Persisted { revision }) = message {
                reported.push(revision.0);
            } else {
                assert!(matches!(message, Message::Compact), "{message:?} after {reported:?}");
            }
        }
        reported
    }

    /// What the next life finds.
    fn end(self) -> Vec<Record> {
        self.persist.close();
        self.writer.join().expect("it ends");
        drop(self.persist);
        match Ledger::open(&self.home, &identity()).expect("opens") {
            (_, Opened::Recovered(found)) => found.records,
            (_, other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn refused_rewrite_of_a_founded_ledger_leaves_appending_at_once() {
    let mut scene = Scene::of(true, true);
    scene.refuse_new_files();
    scene.persist.compact(vec![buried("snapshot")]);
    for number in 1..4 {
        let done = scene.persist.append(Revision(number), vec![buried(&format!("c{number}"))]);
        assert_eq!(done, Some(Input::Persisted { revision: Revision(number) }));
    }
    assert!(matches!(scene.next(), Message::Compact), "another snapshot is asked for after the pause");
    assert!(scene.inbox.try_recv().is_err(), "once");
    scene.take_new_files();
    scene.persist.compact(vec![buried("later")]);
    assert!(scene.persist.append(Revision(4), vec![buried("c4")]).is_some());
    assert_eq!(scene.end(), [buried("later"), buried("c4")]);
}

#[test]
fn refused_rewrite_on_the_thread_keeps_what_was_queued_before_it() {
    let mut scene = Scene::of(false, true);
    scene.refuse_new_files();
    assert_eq!(scene.persist.append(Revision(1), vec![buried("c1")]), None);
    scene.persist.compact(vec![buried("snapshot")]);
    scene.persist.append(Revision(2), vec![buried("c2")]);
    scene.durable_up_to(2);
    while !matches!(scene.next(), Message::Compact) {}
    scene.take_new_files();
    assert_eq!(scene.end(), [buried("old"), buried("c1"), buried("c2")]);
}

/// Before there is a ledger nothing becomes visible; once there is one, it is written at once again.
#[test]
fn ledger_that_cannot_be_founded_takes_nothing_until_it_can() {
    let mut scene = Scene::of(true, false);
    scene.refuse_new_files();
    scene.persist.compact(vec![buried("snapshot")]);
    assert_eq!(scene.persist.append(Revision(1), vec![buried("c1")]), None);
    let Message::Happened(Input::PersistFailed { revision: Revision(1), .. }) = scene.next() else {
        panic!("who waits is told")
    };
    scene.take_new_files();
    scene.durable_up_to(1);
    let give_up = clock::now().after(Duration::from_secs(20));
    let mut number = 2;
    while scene.persist.append(Revision(number), vec![buried("more")]).is_none() {
        assert!(clock::now() < give_up, "at once again");
        scene.durable_up_to(number);
        number += 1;
    }
    assert_eq!(scene.end()[..2], [buried("snapshot"), buried("c1")]);
}

/// What piles up while the disk takes nothing may be more than one append takes: it is written in pieces of whole revisions.
#[test]
fn more_than_one_append_takes_is_written_in_pieces() {
    let mut scene = Scene::of(false, false);
    scene.refuse_new_files();
    scene.persist.compact(vec![buried("snapshot")]);
    scene.persist.append(Revision(1), vec![buried("first")]);
    let wait_for_failure_of = |scene: &mut Scene, number: u64| loop {
        if let Message::Happened(Input::PersistFailed { revision, .. }) = scene.next()
            && revision == Revision(number)
        {
            break;
        }
    };
    wait_for_failure_of(&mut scene, 1);
    // 6 MB in all, 4 MiB are the most at once.
    let long = "x".repeat(1_000);
    for number in 2..=21 {
        let records = (0..300).map(|n| buried(&format!("{number}-{n}-{long}"))).collect();
        scene.persist.append(Revision(number), records);
    }
    wait_for_failure_of(&mut scene, 21);
    scene.take_new_files();
    let reported = scene.durable_up_to(21);
    assert!(reported.len() > 2 && reported.is_sorted(), "{reported:?}");
    assert_eq!(scene.end().len(), 2 + 20 * 300);
}
