//! The ledger itself: opening, appending, compacting.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use podwire_pool::{BootId, InstanceId, Record};

use crate::aside::Aside;
use crate::codec;
use crate::disk::Disk;
use crate::error::LedgerError;
use crate::frame::{self, Owner};

mod found;

use found::Found;

/// Space reserved ahead, so that an ADD is not the one to find the disk full. *Source*: design §7.
const RESERVED: u64 = 4 << 20;

/// From here on a ledger wants compaction. *Source*: our choice; leaves a quarter of the reserve while one runs.
const COMPACT_AT: u64 = 3 << 20;

/// Larger files are no ledgers and are not read. *Source*: our choice; 64 times the reserve.
const READABLE: u64 = 256 << 20;

/// Records in one frame of a snapshot. *Source*: our choice; some 64 KiB.
const SNAPSHOT_CHUNK: usize = 256;

/// Whose ledger this is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// This instance: a ledger of another came with a cloned disk.
    pub instance: InstanceId,
    /// This boot: times of another count from another zero.
    pub boot: BootId,
}

/// What was found. Only a [`Opened::Recovered`] of this boot without damage can be appended to at once. In every other
/// case what is true must be put together first (from EC2, the kernel, the incumbent's checkpoint), and
/// [`Ledger::compact`] with it founds the new ledger; until then what was found stays in place, so that a crash on the
/// way finds it again and does not take an empty ledger for the truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// There was no ledger.
    Fresh,
    /// There was one of ours.
    Recovered(Recovered),
    /// There was one of another instance.
    Foreign {
        /// Whose.
        instance: InstanceId,
        /// Where it is kept.
        aside: Aside,
    },
    /// There was one of a later version.
    Newer {
        /// Its format.
        format: u32,
        /// Where it is kept.
        aside: Aside,
    },
    /// There was something unreadable.
    Corrupt {
        /// Why.
        reason: Box<str>,
        /// Where it is kept.
        aside: Aside,
    },
}

/// What a ledger of ours held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Every record of every good frame, oldest first.
    pub records: Vec<Record>,
    /// Written in this boot. If not, allocations are void and times mean nothing.
    pub same_boot: bool,
    /// The last frame was never completed: what a crash leaves. Nothing in it was ever reported durable.
    pub truncated_tail: bool,
    /// Bytes changed: durable frames may be lost. Rebuild what is missing from the kernel.
    pub damaged: bool,
    /// Where the bytes after the last good frame are kept, if there were any.
    pub aside: Option<Aside>,
}

/// An open ledger. *Invariant*: a ledger in place is whole for its boot: it began with a snapshot.
#[derive(Debug)]
pub struct Ledger {
    dir: PathBuf,
    owner: Owner,
    /// `None` until it is founded.
    current: Option<Current>,
    /// The last rename may not be on disk.
    unsynced_dir: bool,
    /// Held until dropped.
    _lock: File,
}

/// The file in place. *Invariant*: a header and good frames up to `end`; after it nothing that could be taken for a
/// frame, unless `dirty`.
#[derive(Debug)]
struct Current {
    file: Box<dyn Disk>,
    /// Where the next frame goes.
    end: u64,
    /// Checksum of the last frame.
    chain: u32,
    /// Size after the last compaction.
    base: u64,
    /// Something may lie after `end`.
    dirty: bool,
}

impl Ledger {
    /// Opens the ledger in `dir`, making the directory where there is none. Holds a lock until dropped.
    ///
    /// # Errors
    /// Another process has it open, or the operating system refuses. What the file holds is never an error.
    pub fn open(dir: &Path, identity: &Identity) -> Result<(Self, Opened), LedgerError> {
        make(dir).map_err(|error| LedgerError::io("create", dir, error))?;
        let lock = lock(dir)?;
        remove_leftover(&dir.join(TEMPORARY))?;
        let owner =
            Owner { instance: identity.instance.as_str().into(), boot: identity.boot.as_str().into() };
        let path = dir.join(NAME);
        let Found { opened, good } = match read(&path)? {
            None => Found { opened: Opened::Fresh, good: None },
            Some(bytes) => found::judge(dir, &path, &bytes, &owner)?,
        };
        let current = match good {
            None => None,
            Some((end, chain)) => {
                let file = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(&path)
                    .map_err(|error| LedgerError::io("open", &path, error))?;
                let torn = matches!(&opened, Opened::Recovered(recovered) if recovered.truncated_tail);
                Some(Current { file: Box::new(file), end, chain, base: end, dirty: torn })
            }
        };
        let mut ledger = Self { dir: dir.to_owned(), owner, current, unsynced_dir: true, _lock: lock };
        ledger.clean()?;
        Ok((ledger, opened))
    }

    /// Makes records durable, all of them or none: they are on disk when this returns `Ok`.
    ///
    /// # Errors
    /// The disk refused, or the ledger is not founded yet ([`Opened`]). Nothing was added, and a later call works when
    /// its cause is gone.
    pub fn append(&mut self, records: &[Record]) -> Result<(), LedgerError> {
        self.clean()?;
        let current = self.current.as_mut().ok_or(LedgerError::NotFounded)?;
        if records.is_empty() {
            return Ok(());
        }
        let lines = codec::encode(records);
        fits(&lines)?;
        let (bytes, chain) = frame::frame(current.chain, &lines);
        if let Err(source) = current.file.write_at(&bytes, current.end).and_then(|()| current.file.sync()) {
            current.dirty = true;
            // The next append tries again, and says so if it cannot; the error to report is the first one.
            self.clean().ok();
            return Err(LedgerError::io("append to", &self.dir.join(NAME), source));
        }
        current.end += bytes.len() as u64;
        current.chain = chain;
        Ok(())
    }

    /// Whether it is time for [`Self::compact`]: the ledger is not founded yet, or it has grown. In the latter case
    /// appending goes on working.
    #[must_use]
    pub fn needs_compaction(&self) -> bool {
        self.current
            .as_ref()
            .is_none_or(|current| current.end >= COMPACT_AT.max(current.base.saturating_mul(2)))
    }

    /// Replaces everything by a snapshot, in a new file that takes the old one's place only when it is on disk.
    ///
    /// # Errors
    /// The disk refused. The ledger still holds everything it held.
    pub fn compact(&mut self, snapshot: &[Record]) -> Result<(), LedgerError> {
        self.current = Some(write_new(&self.dir, &self.owner, snapshot)?);
        self.unsynced_dir = true;
        self.clean()
    }

    /// Cuts off what a failed append left and makes the last rename durable, where that is due.
    fn clean(&mut self) -> Result<(), LedgerError> {
        if let Some(current) = self.current.as_mut().filter(|current| current.dirty) {
            let path = self.dir.join(NAME);
            current.file.truncate(current.end).map_err(|error| LedgerError::io("truncate", &path, error))?;
            current.dirty = false;
            // Reserving is a kindness to later appends, which say themselves when there is no room.
            current.file.reserve(RESERVED).ok();
        }
        if self.unsynced_dir {
            File::open(&self.dir)
                .and_then(|dir| dir.sync_all())
                .map_err(|error| LedgerError::io("sync", &self.dir, error))?;
            self.unsynced_dir = false;
        }
        Ok(())
    }
}

/// Name of the ledger in its directory.
const NAME: &str = "ledger";
/// Name of a ledger being written; one that is found was never finished.
const TEMPORARY: &str = "ledger.new";
/// Name of the lock. *Why* a file of its own: compaction replaces the ledger, and a lock stays with the old file.
const LOCK: &str = "ledger.lock";

/// The directory, private; the ones above it as the system makes them.
fn make(dir: &Path) -> io::Result<()> {
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        made => made,
    }
}

fn lock(dir: &Path) -> Result<File, LedgerError> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| LedgerError::io("open", &path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(LedgerError::Locked { path }),
        Err(fs::TryLockError::Error(error)) => Err(LedgerError::io("lock", &path, error)),
    }
}

/// A temporary file found at start was never renamed: its content is in the ledger beside it.
fn remove_leftover(path: &Path) -> Result<(), LedgerError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(LedgerError::io("remove", path, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The file's bytes; `None`: there is no file. A file too large to be a ledger reads as nothing, hence as damaged.
fn read(path: &Path) -> Result<Option<Vec<u8>>, LedgerError> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LedgerError::io("look at", path, error)),
        Ok(metadata) if metadata.len() > READABLE || !metadata.is_file() => Ok(Some(Vec::new())),
        Ok(_) => fs::read(path).map(Some).map_err(|error| LedgerError::io("read", path, error)),
    }
}

fn fits(lines: &[u8]) -> Result<(), LedgerError> {
    if lines.len() <= frame::MAX_LINES {
        return Ok(());
    }
    Err(LedgerError::TooLarge { size: lines.len(), limit: frame::MAX_LINES })
}

/// Writes a whole ledger beside the present one and lets it take its place. The directory is not synced yet.
fn write_new(dir: &Path, owner: &Owner, snapshot: &[Record]) -> Result<Current, LedgerError> {
    let (temporary, path) = (dir.join(TEMPORARY), dir.join(NAME));
    let (mut bytes, mut chain) = frame::header(owner);
    for chunk in snapshot.chunks(SNAPSHOT_CHUNK) {
        let lines = codec::encode(chunk);
        fits(&lines)?;
        let (frame, next) = frame::frame(chain, &lines);
        bytes.extend(frame);
        chain = next;
    }
    let write = || -> io::Result<File> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(&bytes)?;
        // Reserving is a kindness to later appends, which say themselves when there is no room.
        file.reserve(RESERVED).ok();
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        Ok(file)
    };
    match write() {
        Ok(file) => {
            let end = bytes.len() as u64;
            Ok(Current { file: Box::new(file), end, chain, base: end, dirty: false })
        }
        Err(error) => {
            // Tidying up after a failure; the failure is what counts.
            fs::remove_file(&temporary).ok();
            Err(LedgerError::io("write", &temporary, error))
        }
    }
}

#[cfg(test)]
mod tests;
