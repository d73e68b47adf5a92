//! The incumbent's checkpoint, `ipam.json`: read when it wrote last, kept as a mirror so that it can take the node back
//! (design §4, incumbent-behaviour §6.1).
//!
//! Ours carries two more keys, `podwireRevision` and `podwireLedger`. The incumbent ignores them and drops them with its
//! next write: where they are missing, the incumbent wrote last and is to be believed. Where they name another ledger than
//! the one that was found, that one is the older.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use podwire_pool::{Revision, SandboxKey};
use serde::{Deserialize, Serialize};

/// The only version there is. *Source*: amazon-vpc-cni-k8s v1.23.1, incumbent-behaviour §6.1.
const VERSION: &str = "vpc-cni-ipam/1";

/// Larger files are cut off, hence unreadable. *Unit* bytes. *Source*: our choice; a thousand pods take 300 KiB.
const READABLE: u64 = 64 << 20;

/// One attachment and its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// The CNI network's name.
    pub network: Box<str>,
    /// The attachment.
    pub sandbox: SandboxKey,
    /// Its IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// *Unit* nanoseconds since 1970.
    pub allocated_unix_ns: i64,
    /// The pod's namespace; empty where the incumbent did not know it.
    pub pod_namespace: Box<str>,
    /// The pod's name; empty where the incumbent did not know it.
    pub pod_name: Box<str>,
    /// Interfaces the pod has; 0 where the incumbent did not say.
    pub interfaces: u32,
}

impl Allocation {
    /// Its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.ipv4.map(IpAddr::V4).into_iter().chain(self.ipv6.map(IpAddr::V6))
    }
}

/// What a checkpoint holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The allocations, in the file's order; no address twice.
    pub allocations: Vec<Allocation>,
    /// Our revision it mirrors; `None`: the incumbent wrote last.
    pub revision: Option<Revision>,
    /// The ledger it mirrors; `None`: the incumbent wrote last, or an earlier version of ours.
    pub lineage: Option<Box<str>>,
    /// What tells this file from every other one written in its place: every writer renames a new file over the old one.
    pub mark: Box<str>,
    /// When it was written. *Unit* nanoseconds since 1970.
    pub written_unix_ns: i128,
    /// Allocations left out because a younger one holds the same address. Tell people. *Why* not an error, as it is to
    /// the incumbent: a node that cannot start helps nobody, and the younger one is the one that runs.
    pub superseded: Vec<Allocation>,
}

/// Why a checkpoint cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IpamJsonError {
    /// The operating system refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// It is no checkpoint.
    #[error("{} is no checkpoint of aws-node; move it away to start without it", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// It is of a version nobody knows here.
    #[error("{} has version {version:?}, only {VERSION:?} is known; move it away to start without it", path.display())]
    Version {
        /// Which file.
        path: PathBuf,
        /// Its version.
        version: String,
    },
}

/// What only our checkpoints say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mirrored<'a> {
    /// The ledger's name ([`crate::Identity::lineage`]).
    pub lineage: &'a str,
    /// Its revision.
    pub revision: Revision,
}

/// Writes a checkpoint as a whole: readers see the old one or the new one. Returns its mark ([`Checkpoint::mark`]).
///
/// # Errors
/// The operating system refused; the old checkpoint is still there.
pub fn write(path: &Path, allocations: &[Allocation], of: Mirrored<'_>) -> Result<Box<str>, IpamJsonError> {
    let io = |doing| move |source| IpamJsonError::Io { doing, path: path.to_owned(), source };
    let body = FileBody {
        version: VERSION.into(),
        allocations: Some(allocations.iter().map(Entry::from).collect()),
        revision: Some(of.revision.0),
        lineage: Some(of.lineage.into()),
    };
    let mut bytes = serde_json::to_vec(&body).expect("texts and numbers are always JSON");
    bytes.push(b'\n');
    let directory =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp-podwire");
    let temporary = directory.join(name);
    let replace = || -> io::Result<Box<str>> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        // Of this very file: a moment later another program's may lie there.
        let mark = mark_of(&file.metadata()?);
        fs::rename(&temporary, path)?;
        Ok(mark)
    };
    let mark = replace().map_err(|error| {
        // Tidying up after a failure; the failure is what counts.
        fs::remove_file(&temporary).ok();
        io("write")(error)
    })?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io("sync the directory of"))?;
    Ok(mark)
}

/// The mark of the file that lies there ([`Checkpoint::mark`]).
///
/// # Errors
/// There is none, or it cannot be looked at.
pub fn mark(path: &Path) -> io::Result<Box<str>> {
    Ok(mark_of(&fs::metadata(path)?))
}

fn mark_of(file: &fs::Metadata) -> Box<str> {
    format!("{}-{}-{}", file.dev(), file.ino(), written_unix_ns(file)).into()
}

fn written_unix_ns(file: &fs::Metadata) -> i128 {
    i128::from(file.mtime()) * 1_000_000_000 + i128::from(file.mtime_nsec())
}

/// Reads a checkpoint; `None`: there is none.
///
/// # Errors
/// It cannot be read or understood. It is left as it is.
pub fn read(path: &Path) -> Result<Option<Checkpoint>, IpamJsonError> {
    let (bytes, metadata) = match read_with_metadata(path) {
        Ok(read) => read,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(IpamJsonError::Io { doing: "read", path: path.to_owned(), source }),
    };
    let unreadable = |source| IpamJsonError::Unreadable { path: path.to_owned(), source };
    let VersionOnly { version } = serde_json::from_slice(&bytes).map_err(unreadable)?;
    if version != VERSION {
        return Err(IpamJsonError::Version { path: path.to_owned(), version });
    }
    let body: FileBody = serde_json::from_slice(&bytes).map_err(unreadable)?;
    let all = body.allocations.unwrap_or_default().into_iter().map(Allocation::from).collect();
    let (allocations, superseded) = youngest(all);
    Ok(Some(Checkpoint {
        allocations,
        revision: body.revision.map(Revision),
        lineage: body.lineage,
        mark: mark_of(&metadata),
        written_unix_ns: written_unix_ns(&metadata),
        superseded,
    }))
}

/// Keeps a checkpoint that cannot be understood under another name, as evidence; a writer may then take its place.
///
/// # Errors
/// The operating system refuses; the file is where it was.
pub fn set_aside(path: &Path) -> Result<PathBuf, IpamJsonError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".unreadable");
    let aside = PathBuf::from(name);
    let moved = fs::rename(path, &aside);
    moved.map_err(|source| IpamJsonError::Io { doing: "set aside", path: path.to_owned(), source })?;
    Ok(aside)
}

/// The bytes and the metadata of one and the same file.
fn read_with_metadata(path: &Path) -> io::Result<(Vec<u8>, fs::Metadata)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let mut bytes = Vec::new();
    file.take(READABLE).read_to_end(&mut bytes)?;
    Ok((bytes, metadata))
}

/// Of several allocations with one address, the youngest; of equally old ones, the last.
fn youngest(all: Vec<Allocation>) -> (Vec<Allocation>, Vec<Allocation>) {
    let mut holder: BTreeMap<IpAddr, (i64, usize)> = BTreeMap::new();
    for (index, allocation) in all.iter().enumerate() {
        for address in allocation.addresses() {
            let claim = (allocation.allocated_unix_ns, index);
            holder.entry(address).and_modify(|best| *best = claim.max(*best)).or_insert(claim);
        }
    }
    let mut index = 0..;
    all.into_iter().partition(|allocation| {
        let own = index.next();
        allocation.addresses().all(|address| holder.get(&address).map(|&(_, index)| index) == own)
    })
}

#[derive(Deserialize)]
struct VersionOnly {
    version: String,
}

#[derive(Serialize, Deserialize)]
struct FileBody {
    version: Box<str>,
    /// `null` is what Go writes for none.
    allocations: Option<Vec<Entry>>,
    #[serde(rename = "podwireRevision", default, skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(rename = "podwireLedger", default, skip_serializing_if = "Option::is_none")]
    lineage: Option<Box<str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    network_name: Box<str>,
    #[serde(rename = "containerID")]
    container_id: Box<str>,
    if_name: Box<str>,
    #[serde(default, with = "empty_is_none", skip_serializing_if = "Option::is_none")]
    ipv4: Option<Ipv4Addr>,
    #[serde(default, with = "empty_is_none", skip_serializing_if = "Option::is_none")]
    ipv6: Option<Ipv6Addr>,
    #[serde(default)]
    allocation_timestamp: i64,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    #[serde(rename = "k8sPodNamespace", skip_serializing_if = "str::is_empty")]
    namespace: Box<str>,
    #[serde(rename = "k8sPodName", skip_serializing_if = "str::is_empty")]
    name: Box<str>,
    #[serde(skip_serializing_if = "is_zero")]
    interfaces_count: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// The incumbent leaves empty addresses out; an empty text means the same.
mod empty_is_none {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(T::to_string).serialize(to)
    }

    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        match Option::<Box<str>>::deserialize(from)?.as_deref() {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(de::Error::custom),
        }
    }
}

impl From<&Allocation> for Entry {
    fn from(allocation: &Allocation) -> Self {
        Self {
            network_name: allocation.network.clone(),
            container_id: allocation.sandbox.container_id.clone(),
            if_name: allocation.sandbox.ifname.clone(),
            ipv4: allocation.ipv4,
            ipv6: allocation.ipv6,
            allocation_timestamp: allocation.allocated_unix_ns,
            metadata: Metadata {
                namespace: allocation.pod_namespace.clone(),
                name: allocation.pod_name.clone(),
                interfaces_count: allocation.interfaces,
            },
        }
    }
}

impl From<Entry> for Allocation {
    fn from(entry: Entry) -> Self {
        Self {
            network: entry.network_name,
            sandbox: SandboxKey::new(entry.container_id, entry.if_name),
            ipv4: entry.ipv4,
            ipv6: entry.ipv6,
            allocated_unix_ns: entry.allocation_timestamp,
            pod_namespace: entry.metadata.namespace,
            pod_name: entry.metadata.name,
            interfaces: entry.metadata.interfaces_count,
        }
    }
}

#[cfg(test)]
mod tests;
