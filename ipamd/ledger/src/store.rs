//! The ledger itself: opening, appending, compacting.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use podwire_pool::{BootId, InstanceId, Record};

use crate::aside::{Aside, Shelf};
use crate::codec;
use crate::disk::{Directory, Disk, Lies, RealDirectory, make};
use crate::error::LedgerError;
use crate::frame::{self, Header};

pub(crate) mod found;

use found::Found;

/// Space reserved ahead, so that an ADD is not the one to find the disk full. *Source*: design §7.
const RESERVED: u64 = 4 << 20;

/// From here on a ledger wants compaction. *Source*: our choice; leaves a quarter of the reserve while one runs.
const COMPACT_AT: u64 = 3 << 20;

/// What a ledger grows by at least between two compactions. *Source*: our choice; some 2,000 pods.
const GROWTH: u64 = 1 << 20;

/// Larger files are no ledgers and are not read. *Source*: our choice; 64 times the reserve.
pub(crate) const READABLE: u64 = 256 << 20;

/// Lines in one frame of a snapshot. *Source*: our choice; some 64 KiB.
const SNAPSHOT_CHUNK: usize = 256;

/// Events of the past kept at most. *Source*: design §7.
const HISTORY_MAX: usize = 10_000;

/// Bytes they may take. *Source*: our choice; with it and a snapshot a new file has room to grow within the reserve.
const HISTORY_BYTES: usize = 5 << 19;

/// Whose ledger this is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// This instance: a ledger of another came with a cloned disk.
    pub instance: InstanceId,
    /// This boot: times of another count from another zero.
    pub boot: BootId,
    /// How long a released address rests. Only noted, so that a reader of the file can tell when an address had cooled.
    pub cooldown: Duration,
    /// Name of a ledger that is founded now. No other ledger may ever have it.
    pub lineage: Box<str>,
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
    /// The mark of the checkpoint that this ledger contains ([`Ledger::contains`]), in this boot.
    pub adopted: Option<Box<str>>,
    /// Its name ([`Identity::lineage`]); `None` in ledgers of earlier versions.
    pub lineage: Option<Box<str>>,
    /// The last frame was never completed: what a crash leaves. Nothing in it was ever reported durable.
    pub truncated_tail: bool,
    /// Bytes changed: durable frames may be lost. Rebuild what is missing from the kernel.
    pub damaged: bool,
    /// Where the bytes after the last good frame are kept, if there were any. Those of a truncated tail are given up where
    /// the disk takes no copy.
    pub aside: Option<Aside>,
}

/// An open ledger. *Invariant*: a ledger in place is whole for its boot: it began with a snapshot.
#[derive(Debug)]
pub struct Ledger {
    dir: PathBuf,
    files: Box<dyn Directory>,
    header: Header,
    /// Name of the ledger, should it have to be founded anew.
    newborn: Box<str>,
    /// `None` until it is founded.
    current: Option<Current>,
    /// The last rename may not be on disk.
    unsynced_dir: bool,
    /// What was found must be kept under another name before it is replaced.
    unkept: bool,
    /// Held until dropped.
    _lock: Option<File>,
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
        Self::open_in(dir, Box::new(RealDirectory(dir.to_owned())), identity, Some(lock))
    }

    fn open_in(
        dir: &Path,
        files: Box<dyn Directory>,
        identity: &Identity,
        lock: Option<File>,
    ) -> Result<(Self, Opened), LedgerError> {
        let failed = |doing, name: &str, error| LedgerError::io(doing, &dir.join(name), error);
        // A temporary file found at start was never renamed: its content is in the ledger beside it.
        match files.remove(TEMPORARY) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", TEMPORARY, error));
            }
            Ok(()) | Err(_) => {}
        }
        let header = Header {
            instance: identity.instance.as_str().into(),
            boot: identity.boot.as_str().into(),
            snapshot_frames: Some(0),
            cooldown_ms: u64::try_from(identity.cooldown.as_millis()).ok(),
            adopted: None,
            lineage: Some(identity.lineage.clone()),
        };
        let read = files.read(NAME, READABLE, READABLE);
        let bytes = match read.map_err(|error| failed("read", NAME, error))? {
            Lies::Missing => None,
            // What cannot be a ledger reads as nothing, hence as damaged.
            Lies::Unfit => Some(Vec::new()),
            Lies::Bytes(bytes) => Some(bytes),
        };
        let found = match bytes {
            None => Found { opened: Opened::Fresh, good: None },
            Some(bytes) => found::judge(Shelf { dir, files: &*files }, &bytes, &header),
        };
        let unkept = found.is_unkept();
        let Found { opened, good } = found;
        let current = match good {
            None => None,
            Some((end, chain)) => {
                let file = files.open(NAME).map_err(|error| failed("open", NAME, error))?;
                let torn = matches!(&opened, Opened::Recovered(recovered) if recovered.truncated_tail);
                Some(Current { file, end, chain, base: end, dirty: torn })
            }
        };
        let mut header = header;
        if let (Some(_), Opened::Recovered(Recovered { lineage: Some(lineage), .. })) = (&current, &opened) {
            header.lineage = Some(lineage.clone());
        }
        let (dir, newborn) = (dir.to_owned(), identity.lineage.clone());
        let mut ledger =
            Self { dir, files, header, newborn, current, unsynced_dir: true, unkept, _lock: lock };
        ledger.clean()?;
        Ok((ledger, opened))
    }

    /// From the next compaction on, the ledger says that it contains this checkpoint.
    pub fn contains(&mut self, checkpoint: Option<&str>) {
        self.header.adopted = checkpoint.map(Into::into);
    }

    /// The mark of that checkpoint.
    #[must_use]
    pub fn adopted(&self) -> Option<&str> {
        self.header.adopted.as_deref()
    }

    /// Declares what is in place history: nothing is appended to it, and the next compaction founds another ledger.
    pub fn disown(&mut self) {
        self.current = None;
        self.header.lineage = Some(self.newborn.clone());
    }

    /// The ledger's name, or the one it will be founded with.
    #[must_use]
    pub fn lineage(&self) -> &str {
        self.header.lineage.as_deref().unwrap_or(&self.newborn)
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

    /// Whether a ledger of this boot is in place, so that appending works, also where [`Self::compact`] does not.
    #[must_use]
    pub const fn is_founded(&self) -> bool {
        self.current.is_some()
    }

    /// Whether it is time for [`Self::compact`]: the ledger is not founded yet, it has grown, or its file is gone. In the
    /// latter cases appending goes on working.
    #[must_use]
    pub fn needs_compaction(&self) -> bool {
        self.current.as_ref().is_none_or(|current| {
            current.file.is_gone() || current.end >= COMPACT_AT.max(current.base.saturating_add(GROWTH))
        })
    }

    /// Whether somebody removed the file, or put another one in its place: the next start would not find what it holds.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.file.is_gone())
    }

    /// Replaces everything by a snapshot, in a new file that takes the old one's place only when it is on disk. What
    /// happened to addresses lately goes over into the new file as history, where there is room for it.
    ///
    /// # Errors
    /// The disk refused. The ledger still holds everything it held; [`LedgerError::Unsynced`]: the snapshot has taken the
    /// old one's place, and a crash may bring back the old one until the next append or compaction worked.
    pub fn compact(&mut self, snapshot: &[Record]) -> Result<(), LedgerError> {
        if self.unkept {
            Shelf { dir: &self.dir, files: &*self.files }.keep_file(NAME)?;
            self.unkept = false;
        }
        let past = self.past();
        let written = match self.write_new(snapshot, &past) {
            Err(error) if error.is_full() && !past.is_empty() => self.write_new(snapshot, &[]),
            written => written,
        };
        self.current = Some(written?);
        self.unsynced_dir = true;
        self.files.sync().map_err(|source| LedgerError::Unsynced { path: self.dir.clone(), source })?;
        self.unsynced_dir = false;
        Ok(())
    }

    /// What happened, oldest first, as lines of the past. What cannot be read is forgotten: history is for people, and
    /// must not keep the ledger from being written.
    fn past(&self) -> Vec<Vec<u8>> {
        let Some(current) = &self.current else { return Vec::new() };
        let Ok(Lies::Bytes(bytes)) = self.files.read(NAME, READABLE, current.end) else { return Vec::new() };
        let Ok((header, chain, start)) = frame::read_header(&bytes) else { return Vec::new() };
        let snapshot = header.snapshot_frames.and_then(|frames| usize::try_from(frames).ok());
        let frames = frame::frames(&bytes, start, chain).skip(snapshot.unwrap_or(usize::MAX));
        let mut past: Vec<Vec<u8>> = frames.flat_map(|(lines, _, _)| codec::past_of(lines)).collect();
        let mut room = HISTORY_BYTES;
        let fits = past.iter().rev().take(HISTORY_MAX).take_while(|line| {
            room = room.saturating_sub(line.len() + 1);
            room > 0
        });
        let fits = fits.count();
        past.drain(..past.len() - fits);
        past
    }

    /// Writes a whole ledger beside the present one and lets it take its place. The directory is not synced yet.
    fn write_new(&self, snapshot: &[Record], past: &[Vec<u8>]) -> Result<Current, LedgerError> {
        let mut frames: Vec<Vec<u8>> = snapshot.chunks(SNAPSHOT_CHUNK).map(codec::encode).collect();
        let header = Header { snapshot_frames: Some(frames.len() as u64), ..self.header.clone() };
        frames.extend(past.chunks(SNAPSHOT_CHUNK).map(|lines| {
            let mut text = lines.join(&b'\n');
            text.push(b'\n');
            text
        }));
        let (mut bytes, mut chain) = frame::header(&header);
        for lines in frames {
            fits(&lines)?;
            let (frame, next) = frame::frame(chain, &lines);
            bytes.extend(frame);
            chain = next;
        }
        let end = bytes.len() as u64;
        let write = || -> io::Result<Box<dyn Disk>> {
            let file = self.files.create(TEMPORARY)?;
            file.write_at(&bytes, 0)?;
            // Reserving is a kindness to later appends, which say themselves when there is no room.
            file.reserve(RESERVED.max(end + GROWTH + GROWTH / 4)).ok();
            file.sync()?;
            self.files.rename(TEMPORARY, NAME)?;
            Ok(file)
        };
        match write() {
            Ok(file) => Ok(Current { file, end, chain, base: end, dirty: false }),
            Err(error) => {
                // Tidying up after a failure; the failure is what counts.
                self.files.remove(TEMPORARY).ok();
                Err(LedgerError::io("write", &self.dir.join(TEMPORARY), error))
            }
        }
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
            self.files.sync().map_err(|error| LedgerError::io("sync", &self.dir, error))?;
            self.unsynced_dir = false;
        }
        Ok(())
    }
}

/// Name of the ledger in its directory.
pub(crate) const NAME: &str = "ledger";
/// Name of a ledger being written; one that is found was never finished.
const TEMPORARY: &str = "ledger.new";
/// Name of the lock. *Why* a file of its own: compaction replaces the ledger, and a lock stays with the old file.
const LOCK: &str = "ledger.lock";

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

fn fits(lines: &[u8]) -> Result<(), LedgerError> {
    if lines.len() <= frame::MAX_LINES {
        return Ok(());
    }
    Err(LedgerError::TooLarge { size: lines.len(), limit: frame::MAX_LINES })
}

#[cfg(test)]
mod tests;
