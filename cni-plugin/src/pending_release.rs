//! Pending releases: what a DEL leaves behind when no daemon takes its release.
//!
//! Directory: [`podwire_proto::RELEASED_DIR`]. One file for each attachment, named by the first 40 hex digits of SHA-1 over
//! `<network> NUL <container id> NUL <ifname>`, with the ending `.json`; names that end otherwise are being written and are
//! not to be read. Content: one JSON object,
//!
//! ```json
//! {"version":1,"network":"aws-cni","container_id":"…","ifname":"eth0",
//!  "pod_namespace":"default","pod_name":"web-0","pod_uid":"…","started_boottime_ms":123456,"boot_id":"…"}
//! ```
//!
//! `started_boottime_ms` is CLOCK_BOOTTIME when the DEL started, as in `podwire.v1.ReleaseRequest`; an attachment that was
//! made later is a new life and stays. Another boot's time says nothing: a file with another `boot_id` is void, where the directory
//! outlives a boot; so is one without it that is older than the boot. The file appears whole (written beside, synced, renamed). The pod's kernel state has
//! been removed before. The daemon applies it as a Release without host interface and then removes the file; a second DEL
//! writes the same file again.

use podwire_proto::v1::{Pod, Sandbox};
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// One pending release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingRelease {
    /// Version of this format.
    pub version: u32,
    /// The network.
    pub network: String,
    /// The container.
    pub container_id: String,
    /// The interface.
    pub ifname: String,
    /// The pod's namespace; empty where unknown.
    pub pod_namespace: String,
    /// The pod's name; empty where unknown.
    pub pod_name: String,
    /// The pod's uid; empty where unknown.
    pub pod_uid: String,
    /// When the DEL started.
    pub started_boottime_ms: u64,
    /// The boot it started in; empty where unknown.
    #[serde(default)]
    pub boot_id: String,
}

impl PendingRelease {
    /// The release of a sandbox.
    #[must_use]
    pub fn new(sandbox: &Sandbox, pod: &Pod, started_boottime_ms: u64) -> Self {
        Self {
            version: 1,
            network: sandbox.network.clone(),
            container_id: sandbox.container_id.clone(),
            ifname: sandbox.ifname.clone(),
            pod_namespace: pod.namespace.clone(),
            pod_name: pod.name.clone(),
            pod_uid: pod.uid.clone(),
            started_boottime_ms,
            boot_id: boot_id(),
        }
    }

    /// The file's name.
    #[must_use]
    pub fn file_name(&self) -> String {
        let mut name = String::with_capacity(45);
        for byte in Sha1::digest(format!("{}\0{}\0{}", self.network, self.container_id, self.ifname)) {
            write!(name, "{byte:02x}").expect("writing to a String cannot fail");
        }
        name.push_str(".json");
        name
    }

    /// Writes the file below `dir`, whole or not at all. One of a DEL that started later stays: it ends this life, too.
    ///
    /// # Errors
    /// The directory cannot be made, or the file not written.
    pub fn write(&self, dir: &Path) -> io::Result<PathBuf> {
        fs::create_dir_all(dir)?;
        let path = dir.join(self.file_name());
        if self.is_outdone_by(&path) {
            return Ok(path);
        }
        // Two DELs of one attachment at once each write their own and rename over the other's.
        let beside = path.with_extension(format!("{}.tmp", std::process::id()));
        let written = self.write_beside(&beside).and_then(|()| fs::rename(&beside, &path));
        if written.is_err() {
            // What is left of a failed write is nobody's: names of this kind are never read.
            let _ = fs::remove_file(&beside);
        }
        written?;
        File::open(dir)?.sync_all()?;
        Ok(path)
    }

    fn is_outdone_by(&self, path: &Path) -> bool {
        let text = fs::read(path).unwrap_or_default();
        let there: Option<Self> = serde_json::from_slice(&text).ok();
        there.is_some_and(|other| {
            other.boot_id == self.boot_id && other.started_boottime_ms > self.started_boottime_ms
        })
    }

    fn write_beside(&self, path: &Path) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(&serde_json::to_vec(self).map_err(io::Error::other)?)?;
        file.sync_all()
    }
}

/// *Source*: proc(5), /proc/sys/kernel/random.
fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    text.map(|text| text.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(container_id: &str) -> PendingRelease {
        let sandbox =
            Sandbox { container_id: container_id.into(), ifname: "eth0".into(), network: "aws-cni".into() };
        PendingRelease::new(&sandbox, &Pod { namespace: "default".into(), ..Pod::default() }, 7)
    }

    #[test]
    fn write_reads_back_and_leaves_nothing_else() {
        let dir = Path::new("/tmp").join(format!("podwire-released-{}", std::process::id()));
        for _ in 0..2 {
            let path = release("c1").write(&dir).expect("written");
            let read: PendingRelease =
                serde_json::from_slice(&fs::read(&path).expect("a file")).expect("JSON");
            assert_eq!(read, release("c1"));
        }
        assert_eq!(fs::read_dir(&dir).expect("a directory").count(), 1);
        fs::remove_dir_all(&dir).expect("removed");
    }

    /// A plugin whose runtime gave it up writes late: the release of the DEL that came after must not shrink.
    #[test]
    fn write_keeps_the_later_of_two_dels() {
        let dir = tempfile::tempdir().expect("a directory");
        let started = |ms| PendingRelease { started_boottime_ms: ms, ..release("c1") };
        for (ms, kept) in [(7, 7), (5, 7), (9, 9), (8, 9)] {
            let path = started(ms).write(dir.path()).expect("written");
            let read = serde_json::from_slice(&fs::read(&path).expect("a file")).expect("JSON");
            assert_eq!(started(kept), read);
        }
        let of_another_boot = PendingRelease { boot_id: "another".into(), ..started(1) };
        let path = of_another_boot.write(dir.path()).expect("written");
        let read: PendingRelease = serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON");
        assert_eq!(read, of_another_boot, "times of two boots do not compare");
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 1);
    }

    #[test]
    fn file_name_is_a_hash_whatever_the_id() {
        for id in ["c1", "../../etc/passwd", "", "a\0b"] {
            let name = release(id).file_name();
            assert_eq!(name.len(), 45);
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.'), "{name}");
        }
        assert_ne!(release("a").file_name(), release("b").file_name());
    }
}
