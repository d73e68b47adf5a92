//! Pending releases: what DELs left behind while no daemon answered (design §7, "Two words").
//!
//! The plugin writes one JSON file for each into `released/`; here each becomes a release, and the file goes when the
//! release is durable.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use podwire_pool::{Answer, BootId, Input, SandboxKey, Time};
use podwire_proto::convert::{container_id, ifname};
use serde::Deserialize;

use crate::clock;
use crate::rpc::server::IpamService;

/// Pause between looks at the directory. *Source*: our choice: a DEL without a daemon is rare and nobody waits for it.
const PAUSE: Duration = Duration::from_secs(5);
/// How often it is told that something cannot be read. *Source*: our choice.
const TELL_EVERY: Duration = Duration::from_secs(600);
/// How old a half-written file must be, that no plugin writes it any more. *Source*: our choice, above the 20 s of a DEL.
const GIVEN_UP: Duration = Duration::from_secs(60);

/// One file as the plugin writes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct PendingRelease {
    container_id: String,
    ifname: String,
    started_boottime_ms: u64,
    /// Absent in the format's first form.
    #[serde(default)]
    boot_id: String,
}

/// What is to be released, and the file that says so.
type Pending = (PathBuf, (SandboxKey, Time));

/// Why a file was not taken in.
enum Unread {
    /// It may be read later.
    NotNow(io::Error),
    /// It makes no sense.
    Nonsense(String),
    /// It is of another boot, whose allocations are void: what holds its sandbox's name now is something else.
    OfAnotherBoot,
}

/// Takes pending releases in until the daemon ends.
pub async fn watch(dir: PathBuf, boot: BootId, service: IpamService) {
    let mut told = Told::default();
    loop {
        for (path, pending) in look(&dir, &boot, &mut told) {
            if release(pending.clone(), &service).await {
                done(&path, &pending, &boot);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Reads what is there now, and clears away what plugins that were killed half-way left.
fn look(dir: &Path, boot: &BootId, told: &mut Told) -> Vec<Pending> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => {
            told.tell(dir, &error);
            return Vec::new();
        }
    };
    let mut found = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|e| e == "tmp") {
            clear_away(&path);
        }
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        match read(&path, boot) {
            Ok(pending) => found.push((path, pending)),
            Err(Unread::NotNow(error)) => told.tell(&path, &error),
            Err(Unread::Nonsense(reason)) => set_aside(&path, &reason),
            Err(Unread::OfAnotherBoot) => {
                tracing::info!(path = %path.display(), "a pending release of another boot is void");
                remove(&path);
            }
        }
    }
    found
}

fn read(path: &Path, boot: &BootId) -> Result<(SandboxKey, Time), Unread> {
    let text = std::fs::read(path).map_err(Unread::NotNow)?;
    let pending: PendingRelease =
        serde_json::from_slice(&text).map_err(|e| Unread::Nonsense(e.to_string()))?;
    if !is_of(boot, &pending.boot_id, path) {
        return Err(Unread::OfAnotherBoot);
    }
    let id = container_id(&pending.container_id).map_err(|e| Unread::Nonsense(e.to_string()))?;
    let name = ifname(&pending.ifname).map_err(|e| Unread::Nonsense(e.to_string()))?;
    Ok((SandboxKey::new(id, name), Time::from_ms(pending.started_boottime_ms)))
}

/// A file that does not name its boot is of this one unless it is older.
fn is_of(boot: &BootId, named: &str, path: &Path) -> bool {
    if !named.is_empty() {
        return named == boot.as_str();
    }
    let booted = u64::try_from(clock::booted_at()).unwrap_or(0);
    let written = path.metadata().and_then(|metadata| metadata.modified());
    written.is_ok_and(|written| written >= SystemTime::UNIX_EPOCH + Duration::from_secs(booted))
}

/// What has been told of, and when.
#[derive(Debug, Default)]
struct Told(BTreeMap<PathBuf, Instant>);

impl Told {
    fn tell(&mut self, path: &Path, error: &io::Error) {
        // A directory that no plugin has needed yet; a file that somebody has taken away.
        if error.kind() == io::ErrorKind::NotFound {
            return;
        }
        let now = Instant::now();
        self.0.retain(|_, at| now.duration_since(*at) < TELL_EVERY);
        if !self.0.contains_key(path) {
            self.0.insert(path.to_owned(), now);
            tracing::error!(path = %path.display(), %error, "pending releases cannot be read now; it is tried again");
        }
    }
}

fn clear_away(path: &Path) {
    let written = path.metadata().and_then(|metadata| metadata.modified());
    let age = written.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    if age.is_some_and(|age| age > GIVEN_UP) {
        remove(path);
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "the file of a pending release cannot be removed; it is tried again");
    }
}

/// Returns whether the release is durable.
async fn release((sandbox, started): (SandboxKey, Time), service: &IpamService) -> bool {
    let key = sandbox.clone();
    match service.ask(|request| Input::Release { request, sandbox, started }).await {
        Ok(Answer::Released(addresses)) => {
            tracing::info!(sandbox = %key.container_id, ifname = %key.ifname, ?addresses, "pending release taken in");
            return true;
        }
        Ok(other) => tracing::warn!(sandbox = %key.container_id, ?other, "a pending release stays pending"),
        Err(_) => tracing::debug!("stopping; pending releases stay for the next start"),
    }
    false
}

/// Removes the file of a release that was taken in. While that waited for the disk, a later DEL of the same attachment may have
/// put its own in the same place: that one is taken in next.
fn done(path: &Path, taken_in: &(SandboxKey, Time), boot: &BootId) {
    if read(path, boot).is_ok_and(|now| now == *taken_in) {
        remove(path);
    }
}

/// A file that makes no sense is kept as evidence under another name.
fn set_aside(path: &Path, reason: &str) {
    tracing::error!(path = %path.display(), reason, "a pending release cannot be read; it is set aside as *.unreadable");
    if let Err(error) = std::fs::rename(path, path.with_extension("unreadable")) {
        tracing::error!(path = %path.display(), %error, "a pending release that cannot be read cannot be renamed either");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot() -> BootId {
        BootId::new("b1")
    }

    #[test]
    fn look_leaves_what_cannot_be_read_now_and_sets_nonsense_aside() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        let good = r#"{"version":1,"container_id":"c1","ifname":"eth0","started_boottime_ms":7}"#;
        std::fs::write(at("good.json"), good).expect("written");
        std::fs::write(at("torn.json"), &good[..20]).expect("written");
        std::fs::write(at("bad.json"), good.replace("c1", "../c1")).expect("written");
        // What root cannot read, either.
        std::fs::create_dir(at("later.json")).expect("made");
        let mut told = Told::default();
        for _ in 0..2 {
            let expected = (at("good.json"), (SandboxKey::new("c1", "eth0"), Time::from_ms(7)));
            assert_eq!(look(dir.path(), &boot(), &mut told), [expected]);
        }
        assert_eq!(told.0.len(), 1, "told once");
        let there = ["good.json", "torn.json", "torn.unreadable", "bad.unreadable", "later.json"];
        assert_eq!(there.map(|name| at(name).exists()), [true, false, true, true, true]);
        assert_eq!(look(&at("none"), &boot(), &mut told), []);
    }

    /// The attachment's next life may end while the first release waits for the disk.
    #[test]
    fn later_release_in_the_same_place_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("c1.json");
        let write = |started: u64| {
            let text = format!(
                r#"{{"container_id":"c1","ifname":"eth0","started_boottime_ms":{started},"boot_id":"b1"}}"#
            );
            std::fs::write(&path, text).expect("written");
        };
        write(7);
        let (_, taken_in) = look(dir.path(), &boot(), &mut Told::default()).remove(0);
        write(9);
        done(&path, &taken_in, &boot());
        let (_, later) = look(dir.path(), &boot(), &mut Told::default()).remove(0);
        assert_eq!(later.1, Time::from_ms(9));
        done(&path, &later, &boot());
        assert!(!path.exists());
    }

    #[test]
    fn look_ends_nothing_for_another_boot() {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name: &str, boot: &str, age: Duration| {
            let text = format!(
                r#"{{"container_id":"{name}","ifname":"eth0","started_boottime_ms":7,"boot_id":"{boot}"}}"#
            );
            let path = dir.path().join(format!("{name}.json"));
            std::fs::write(&path, text).expect("written");
            let file = std::fs::File::options().append(true).open(path).expect("opened");
            file.set_modified(SystemTime::now() - age).expect("dated");
        };
        let long = Duration::from_millis(clock::now().as_ms()) + Duration::from_secs(60);
        write("this", "b1", Duration::ZERO);
        write("other", "b0", Duration::ZERO);
        write("unnamed", "", Duration::ZERO);
        write("unnamed-old", "", long);
        let found = look(dir.path(), &boot(), &mut Told::default());
        let mut found: Vec<_> = found.into_iter().map(|(_, (key, _))| key.container_id.to_string()).collect();
        found.sort();
        assert_eq!(found, ["this", "unnamed"]);
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 2, "the others are gone");
    }

    #[test]
    fn look_clears_away_what_a_killed_plugin_left() {
        let dir = tempfile::tempdir().expect("a directory");
        let make = |name: &str, age: Duration| {
            let file = std::fs::File::create(dir.path().join(name)).expect("made");
            file.set_modified(SystemTime::now() - age).expect("dated");
        };
        make("old.17.tmp", GIVEN_UP * 2);
        make("new.18.tmp", Duration::ZERO);
        look(dir.path(), &boot(), &mut Told::default());
        let left: Vec<_> = std::fs::read_dir(dir.path()).expect("listed").flatten().collect();
        assert_eq!(left.iter().map(std::fs::DirEntry::file_name).collect::<Vec<_>>(), ["new.18.tmp"]);
    }
}
