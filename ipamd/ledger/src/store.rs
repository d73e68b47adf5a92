//! The ledger itself: opening, appending, compacting.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use podwire_pool::{BootId, InstanceId, Record};

use crate::aside::{self, Aside};
use crate::codec;
use crate::disk::Disk;
use crate::error::LedgerError;
use crate::frame::{self, BadHeader, Owner, Tail};

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

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// There was no ledger.
    Fresh,
    /// There was one of ours.
    Recovered(Recovered),
    /// There was one of another instance. It is set aside; a new one is begun.
    Foreign {
        /// Whose.
        instance: InstanceId,
        /// Where it is now.
        aside: Aside,
    },
    /// There was one of a later version. It is set aside; a new one is begun.
    Newer {
        /// Its format.
        format: u32,
        /// Where it is now.
        aside: Aside,
    },
    /// There was something unreadable. It is set aside; a new one is begun.
    Corrupt {
        /// Why.
        reason: Box<str>,
        /// Where it is now.
        aside: Aside,
    },
}

/// What a ledger of ours held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Every record of every good frame, oldest first.
    pub records: Vec<Record>,
    /// Written in this boot. If not: allocations are void, times mean nothing, and [`Ledger::compact`] comes first.
    pub same_boot: bool,
    /// The last frame was never completed: what a crash leaves. Nothing in it was ever reported durable.
    pub truncated_tail: bool,
    /// Bytes changed: durable frames may be lost. Rebuild what is missing from the kernel.
    pub damaged: bool,
    /// Where the bytes after the last good frame are kept, if there were any.
    pub aside: Option<Aside>,
}

/// An open ledger. *Invariant*: the file is a header and good frames up to `end`; after it nothing that could be
/// taken for a frame.
#[derive(Debug)]
pub struct Ledger {
    dir: PathBuf,
    file: Box<dyn Disk>,
    owner: Owner,
    /// Where the next frame goes.
    end: u64,
    /// Checksum of the last frame.
    chain: u32,
    /// Size after the last compaction.
    base: u64,
    /// Something may lie after `end`.
    dirty: bool,
    /// The header names another boot.
    other_boot: bool,
    /// The last rename may not be on disk.
    unsynced_dir: bool,
    /// Held until dropped.
    _lock: File,
}

impl Ledger {
    /// Opens the ledger in `dir`, making the directory and a new ledger where there is none. Holds a lock until dropped.
    ///
    /// # Errors
    /// Another process has it open, or the operating system refuses. What the file holds is never an error.
    pub fn open(dir: &Path, identity: &Identity) -> Result<(Self, Opened), LedgerError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| LedgerError::io("create", dir, error))?;
        let lock = lock(dir)?;
        remove_leftover(&dir.join(TEMPORARY))?;
        let owner =
            Owner { instance: identity.instance.as_str().into(), boot: identity.boot.as_str().into() };
        let path = dir.join(NAME);
        let found = match read(&path)? {
            None => Found::Begin(Opened::Fresh),
            Some(bytes) => judge(dir, &path, &bytes, &owner)?,
        };
        match found {
            Found::Begin(opened) => Ok((Self::begin(dir, owner, lock)?, opened)),
            Found::Use { recovered, end, chain } => {
                let ledger = Self::reuse(dir, owner, lock, &recovered, end, chain)?;
                Ok((ledger, Opened::Recovered(recovered)))
            }
        }
    }

    /// Makes records durable, all of them or none: they are on disk when this returns `Ok`.
    ///
    /// # Errors
    /// The disk refused, or the ledger is of another boot and not compacted yet. Nothing was added, and a later call
    /// works when its cause is gone.
    pub fn append(&mut self, records: &[Record]) -> Result<(), LedgerError> {
        if self.other_boot {
            return Err(LedgerError::OtherBoot);
        }
        if records.is_empty() {
            return Ok(());
        }
        self.clean()?;
        let lines = codec::encode(records);
        fits(&lines)?;
        let (bytes, chain) = frame::frame(self.chain, &lines);
        if let Err(source) = self.file.write_at(&bytes, self.end).and_then(|()| self.file.sync()) {
            self.dirty = true;
            // The next append tries again, and says so if it cannot; the error to report is the first one.
            self.clean().ok();
            return Err(LedgerError::io("append to", &self.dir.join(NAME), source));
        }
        self.end += bytes.len() as u64;
        self.chain = chain;
        Ok(())
    }

    /// Whether it is time for [`Self::compact`]. A matter of size alone; appending goes on working.
    #[must_use]
    pub fn needs_compaction(&self) -> bool {
        self.other_boot || self.end >= COMPACT_AT.max(self.base.saturating_mul(2))
    }

    /// Replaces everything by a snapshot, in a new file that takes the old one's place only when it is on disk.
    ///
    /// # Errors
    /// The disk refused. The ledger still holds everything it held.
    pub fn compact(&mut self, snapshot: &[Record]) -> Result<(), LedgerError> {
        let written = write_new(&self.dir, &self.owner, snapshot)?;
        self.file = written.file;
        self.end = written.end;
        self.base = written.end;
        self.chain = written.chain;
        self.dirty = false;
        self.other_boot = false;
        self.unsynced_dir = true;
        self.clean()
    }

    fn begin(dir: &Path, owner: Owner, lock: File) -> Result<Self, LedgerError> {
        let written = write_new(dir, &owner, &[])?;
        let mut ledger = Self {
            dir: dir.to_owned(),
            file: written.file,
            owner,
            end: written.end,
            chain: written.chain,
            base: written.end,
            dirty: false,
            other_boot: false,
            unsynced_dir: true,
            _lock: lock,
        };
        ledger.clean()?;
        Ok(ledger)
    }

    fn reuse(
        dir: &Path,
        owner: Owner,
        lock: File,
        recovered: &Recovered,
        end: u64,
        chain: u32,
    ) -> Result<Self, LedgerError> {
        let path = dir.join(NAME);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| LedgerError::io("open", &path, error))?;
        let mut ledger = Self {
            dir: dir.to_owned(),
            file: Box::new(file),
            owner,
            end,
            chain,
            base: end,
            dirty: recovered.aside.is_some(),
            other_boot: !recovered.same_boot,
            unsynced_dir: true,
            _lock: lock,
        };
        ledger.clean()?;
        Ok(ledger)
    }

    /// Cuts off what a failed append left and makes the last rename durable, where that is due.
    fn clean(&mut self) -> Result<(), LedgerError> {
        if self.dirty {
            let path = self.dir.join(NAME);
            self.file.truncate(self.end).map_err(|error| LedgerError::io("truncate", &path, error))?;
            self.dirty = false;
            // Reserving is a kindness to later appends, which say themselves when there is no room.
            self.file.reserve(RESERVED).ok();
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

/// What to do with the file that is there.
enum Found {
    Begin(Opened),
    Use { recovered: Recovered, end: u64, chain: u32 },
}

/// A new ledger in place.
struct Written {
    file: Box<dyn Disk>,
    end: u64,
    chain: u32,
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

/// Decides about the bytes found, and sets aside what cannot be used.
fn judge(dir: &Path, path: &Path, bytes: &[u8], owner: &Owner) -> Result<Found, LedgerError> {
    let aside = || aside::move_aside(dir, path);
    let (found, chain, start) = match frame::read_header(bytes) {
        Ok(header) => header,
        Err(BadHeader::Newer(format)) => {
            return Ok(Found::Begin(Opened::Newer { format, aside: aside()? }));
        }
        Err(BadHeader::Damaged(reason)) => {
            return Ok(Found::Begin(Opened::Corrupt { reason: reason.into(), aside: aside()? }));
        }
    };
    if found.instance != owner.instance {
        let instance = InstanceId::new(found.instance);
        return Ok(Found::Begin(Opened::Foreign { instance, aside: aside()? }));
    }
    let Scan { records, end, chain, tail } = scan(bytes, start, chain);
    let rest = match tail {
        Tail::Clean => None,
        Tail::Torn | Tail::Damaged => Some(aside::keep_aside(dir, frame::trimmed(&bytes[end..]))?),
    };
    let recovered = Recovered {
        records,
        same_boot: found.boot == owner.boot,
        truncated_tail: tail == Tail::Torn,
        damaged: tail == Tail::Damaged,
        aside: rest,
    };
    Ok(Found::Use { recovered, end: end as u64, chain })
}

/// The good frames of a file.
struct Scan {
    records: Vec<Record>,
    end: usize,
    chain: u32,
    tail: Tail,
}

fn scan(bytes: &[u8], start: usize, chain: u32) -> Scan {
    let mut scan = Scan { records: Vec::new(), end: start, chain, tail: Tail::Clean };
    while let Some((lines, chain, end)) = frame::read_frame(bytes, scan.end, scan.chain) {
        // A frame that checks out and cannot be read was written by another program under our format: not torn.
        let Ok(records) = codec::decode(lines) else {
            scan.tail = Tail::Damaged;
            return scan;
        };
        scan.records.extend(records);
        scan.chain = chain;
        scan.end = end;
    }
    scan.tail = frame::tail(bytes, scan.end);
    scan
}

fn fits(lines: &[u8]) -> Result<(), LedgerError> {
    if lines.len() <= frame::MAX_LINES {
        return Ok(());
    }
    Err(LedgerError::TooLarge { size: lines.len(), limit: frame::MAX_LINES })
}

/// Writes a whole ledger beside the present one and lets it take its place. The directory is not synced yet.
fn write_new(dir: &Path, owner: &Owner, snapshot: &[Record]) -> Result<Written, LedgerError> {
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
        Ok(file) => Ok(Written { file: Box::new(file), end: bytes.len() as u64, chain }),
        Err(error) => {
            // Tidying up after a failure; the failure is what counts.
            fs::remove_file(&temporary).ok();
            Err(LedgerError::io("write", &temporary, error))
        }
    }
}

#[cfg(test)]
mod tests;
