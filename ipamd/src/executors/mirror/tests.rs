use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU8, Ordering};

use podwire_pool::{PodRef, SandboxKey, Time};
use tokio::sync::mpsc::Receiver;

use super::*;

fn holding(container: &str, ifname: &str, pod: &str, address: &str) -> Holding {
    let pod =
        PodRef { namespace: "default".into(), name: pod.into(), uid: "u".into(), network: "net".into() };
    let addresses = vec![address.parse().expect("an address")];
    Holding { sandbox: SandboxKey::new(container, ifname), pod, addresses, started: Time::from_ms(1_500) }
}

fn read(path: &Path) -> Option<Vec<String>> {
    let file = ipam_json::read(path).expect("readable")?;
    assert!(file.revision.is_some(), "our key is there");
    Some(file.allocations.iter().map(|a| a.sandbox.container_id.to_string()).collect())
}

/// Answers the mirror's next question with this; panics when it asks nothing.
async fn answer(inbox: &mut Receiver<Message>, holdings: Vec<Holding>) {
    match inbox.recv().await {
        Some(Message::Holdings { reply }) => reply.send((Revision(1), holdings)).expect("it waits"),
        other => panic!("{other:?}"),
    }
}

/// Waits, in virtual time, for what happens on threads of the outside.
async fn until(mut done: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        std::thread::yield_now();
    }
    panic!("it never came true");
}

fn start(dir: &Path) -> (MirrorExecutor, JoinHandle<anyhow::Result<()>>, Receiver<Message>, PathBuf) {
    let (driver, inbox) = Handle::channel();
    let path = dir.join("ipam.json");
    let (mirror, task) = MirrorExecutor::start(path.clone(), driver, 1_000_000_000, "l-1".into(), None);
    (mirror, task, inbox, path)
}

/// Written at once, after changes, never when nothing changed, and at the end.
#[tokio::test(start_paused = true)]
async fn mirror_follows_and_writes_only_what_changed() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mirror, task, mut inbox, path) = start(dir.path());
    answer(&mut inbox, Vec::new()).await;
    until(|| read(&path).is_some()).await;
    let one = vec![holding("c1", "eth0", "web", "10.0.0.1")];
    mirror.changed();
    mirror.changed();
    answer(&mut inbox, one.clone()).await;
    until(|| read(&path).is_some_and(|held| held == ["c1"])).await;
    let inode = |path: &Path| MetadataExt::ino(&std::fs::metadata(path).expect("there"));
    let before = inode(&path);
    mirror.changed();
    answer(&mut inbox, one.clone()).await;
    mirror.changed();
    answer(&mut inbox, one).await;
    assert_eq!(inode(&path), before, "the same is not written again");
    assert!(inbox.try_recv().is_err(), "nothing is asked while nothing changes");
    mirror.close((Revision(9), vec![holding("c2", "eth0", "web", "10.0.0.2")]));
    task.await.expect("it ends").expect("by itself");
    assert_eq!(read(&path), Some(vec!["c2".to_owned()]));
}

/// A disk that refuses is tried again, without anybody asking.
#[tokio::test(start_paused = true)]
async fn refused_write_is_repeated_until_it_works() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_mirror, _task, mut inbox, path) = start(dir.path());
    std::fs::create_dir(dir.path().join("ipam.json.tmp-podwire")).expect("in the way");
    for _ in 0..3 {
        answer(&mut inbox, vec![holding("c1", "eth0", "web", "10.0.0.1")]).await;
    }
    assert_eq!(read(&path), None);
    std::fs::remove_dir(dir.path().join("ipam.json.tmp-podwire")).expect("out of the way");
    until(|| {
        if let Ok(Message::Holdings { reply }) = inbox.try_recv() {
            reply.send((Revision(1), vec![holding("c1", "eth0", "web", "10.0.0.1")])).ok();
        }
        read(&path).is_some()
    })
    .await;
}

static TROUBLE: AtomicU8 = AtomicU8::new(0);

/// Writes, or dies before, or fails when everything is written but for the directory, as [`TROUBLE`] says.
fn troubled(path: &Path, allocations: &[Allocation], of: Mirrored<'_>) -> Result<Box<str>, IpamJsonError> {
    let trouble = TROUBLE.load(Ordering::SeqCst);
    assert_ne!(trouble, 1, "the write dies");
    let mark = ipam_json::write(path, allocations, of)?;
    if trouble == 2 {
        let source = std::io::Error::other("refused");
        return Err(IpamJsonError::Io { doing: "sync the directory of", path: path.to_owned(), source });
    }
    Ok(mark)
}

/// A write that dies, or fails after it has changed the file, is none: who waits hears so, and it is repeated, also when by
/// then the pods are those of the last good write.
#[tokio::test(start_paused = true)]
async fn write_that_dies_or_half_fails_is_repeated() {
    let dir = tempfile::tempdir().expect("a directory");
    let (driver, mut inbox) = Handle::channel();
    let path = dir.path().join("ipam.json");
    let (mirror, _task) =
        MirrorExecutor::start_with(troubled, path.clone(), driver, 1_000_000_000, "l-1".into(), None);
    let one = || vec![holding("c1", "eth0", "web", "10.0.0.1")];
    answer(&mut inbox, one()).await;
    until(|| read(&path).is_some()).await;
    for trouble in [1, 2] {
        TROUBLE.store(trouble, Ordering::SeqCst);
        let up_to_date = mirror.up_to_date();
        let waits = tokio::spawn(async move { up_to_date.wait().await });
        answer(&mut inbox, vec![holding("c2", "eth0", "web", "10.0.0.2")]).await;
        assert!(!waits.await.expect("a task"), "trouble {trouble}");
        TROUBLE.store(0, Ordering::SeqCst);
        // Without anybody asking.
        answer(&mut inbox, one()).await;
        until(|| read(&path).is_some_and(|held| held == ["c1"])).await;
    }
}

/// Layout compat: who waits hears of it only once the file says so, callers at the same time share a write, and a file that
/// cannot be written is told at once.
#[tokio::test(start_paused = true)]
async fn who_waits_hears_after_the_file_or_of_its_failure() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mirror, task, mut inbox, path) = start(dir.path());
    answer(&mut inbox, Vec::new()).await;
    until(|| read(&path).is_some()).await;
    let up_to_date = mirror.up_to_date();
    let ask = || {
        let up_to_date = up_to_date.clone();
        tokio::spawn(async move { up_to_date.wait().await })
    };
    let callers = [ask(), ask(), ask()];
    answer(&mut inbox, vec![holding("c1", "eth0", "web", "10.0.0.1")]).await;
    for caller in callers {
        assert!(caller.await.expect("a task"));
        assert_eq!(read(&path), Some(vec!["c1".to_owned()]));
    }
    assert!(inbox.try_recv().is_err(), "one write was enough");
    std::fs::create_dir(dir.path().join("ipam.json.tmp-podwire")).expect("in the way");
    let refused = ask();
    answer(&mut inbox, vec![holding("c2", "eth0", "web", "10.0.0.2")]).await;
    assert!(!refused.await.expect("a task"));
    assert_eq!(read(&path), Some(vec!["c1".to_owned()]));
    std::fs::remove_dir(dir.path().join("ipam.json.tmp-podwire")).expect("out of the way");
    let last = ask();
    mirror.close((Revision(9), vec![holding("c3", "eth0", "web", "10.0.0.3")]));
    task.await.expect("it ends").expect("by itself");
    assert_eq!(read(&path), Some(vec!["c3".to_owned()]));
    drop((last, up_to_date));
}

/// Waits for the task's end; the driver goes on answering meanwhile.
async fn end_of(
    mut task: JoinHandle<anyhow::Result<()>>,
    inbox: &mut Receiver<Message>,
) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            ended = &mut task => return ended.expect("it ends"),
            message = inbox.recv() => {
                if let Some(Message::Holdings { reply }) = message {
                    // The task may have ended meanwhile.
                    reply.send((Revision(1), Vec::new())).ok();
                }
            }
        }
    }
}

/// As another program does, by renaming: the kernel's clock for files is too coarse to tell two writes of one file apart.
fn put(path: &Path, theirs: &str) {
    let beside = path.with_extension("theirs");
    std::fs::write(&beside, theirs).expect("written");
    std::fs::rename(&beside, path).expect("renamed");
}

/// A file that was removed, or put back from an older copy, is written again; another program's ends the task and is left as
/// it is, also by the last write.
#[tokio::test(start_paused = true)]
async fn file_of_another_program_is_never_replaced() {
    let one = || vec![holding("c1", "eth0", "web", "10.0.0.1")];
    for theirs in
        [r#"{"version":"vpc-cni-ipam/1","allocations":[]}"#, r#"{"version":"vpc-cni-ipam/2"}"#, "junk"]
    {
        for closing in [false, true] {
            let dir = tempfile::tempdir().expect("a directory");
            let (mirror, task, mut inbox, path) = start(dir.path());
            answer(&mut inbox, one()).await;
            until(|| read(&path).is_some()).await;
            std::fs::remove_file(&path).expect("removed");
            answer(&mut inbox, one()).await;
            until(|| read(&path).is_some()).await;
            let copy = std::fs::read(&path).expect("read");
            put(&path, std::str::from_utf8(&copy).expect("text"));
            let mark = || ipam_json::mark(&path).expect("there");
            let put_back = mark();
            answer(&mut inbox, one()).await;
            until(|| mark() != put_back).await;
            put(&path, theirs);
            if closing {
                mirror.close((Revision(9), Vec::new()));
            }
            let ended = end_of(task, &mut inbox).await.expect_err("not by itself");
            assert!(ended.to_string().contains("delete one of the two DaemonSets"), "{ended}");
            assert_eq!(std::fs::read_to_string(&path).expect("there"), theirs);
        }
    }
}

/// A disk that takes nothing for a while, and another program that is faster once it does: that one's file stays.
#[tokio::test(start_paused = true)]
async fn failed_write_forgets_no_file_of_another_program() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mirror, task, mut inbox, path) = start(dir.path());
    answer(&mut inbox, Vec::new()).await;
    until(|| read(&path).is_some()).await;
    std::fs::create_dir(dir.path().join("ipam.json.tmp-podwire")).expect("in the way");
    mirror.changed();
    answer(&mut inbox, vec![holding("c1", "eth0", "web", "10.0.0.1")]).await;
    let theirs = r#"{"version":"vpc-cni-ipam/1","allocations":[]}"#;
    put(&path, theirs);
    std::fs::remove_dir(dir.path().join("ipam.json.tmp-podwire")).expect("out of the way");
    mirror.changed();
    mirror.close((Revision(9), Vec::new()));
    end_of(task, &mut inbox).await.expect_err("not by itself");
    assert_eq!(std::fs::read_to_string(&path).expect("there"), theirs);
}

/// The incumbent believes an entry with a pod's name only when a link has that pod's hash; ours has it for eth0 alone.
#[test]
fn entry_names_its_pod_only_where_the_link_does() {
    let named = &entries(&holding("c1", "eth0", "web", "10.0.0.1"), 2_000_000_000)[0];
    assert_eq!((&*named.pod_namespace, &*named.pod_name, named.interfaces), ("default", "web", 1));
    assert_eq!((&*named.network, named.allocated_unix_ns), ("net", 3_500_000_000));
    let mut nameless = holding("c1", "eth0", "", "10.0.0.1");
    nameless.pod.network = "".into();
    for other in [holding("c1", "net1", "web", "10.0.0.1"), nameless] {
        let entry = &entries(&other, 0)[0];
        assert_eq!((&*entry.pod_namespace, &*entry.pod_name, entry.interfaces), ("", "", 0));
        assert_eq!(entry.ipv4, Some([10, 0, 0, 1].into()));
    }
    let mut without = holding("c1", "eth0", "web", "10.0.0.1");
    without.pod.network = "".into();
    assert_eq!(&*entries(&without, 0)[0].network, "aws-cni");
}
