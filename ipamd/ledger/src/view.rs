//! Reading a ledger without touching it: for people and tools, while a daemon runs or after it died.

use std::path::Path;
use std::time::Duration;

use podwire_pool::{BootId, InstanceId, Record};

use crate::codec::Past;
use crate::disk::{Directory, Lies, RealDirectory};
use crate::error::LedgerError;
use crate::frame::{self, BadHeader, Tail};
use crate::store::{NAME, READABLE, found};

/// What a ledger's file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Whose it is.
    pub instance: InstanceId,
    /// The boot its times count from.
    pub boot: BootId,
    /// How long a released address rests, as the daemon that wrote it was told.
    pub cooldown: Option<Duration>,
    /// What a daemon would replay, oldest first.
    pub records: Vec<Record>,
    /// What happened to addresses, oldest first, at most 10,000 and what came since the last compaction.
    pub events: Vec<Record>,
    /// *Unit* bytes, without the space reserved ahead.
    pub used: usize,
    /// How the file ends.
    pub end: End,
}

/// How a ledger's file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With a whole commit.
    Whole,
    /// With a commit being written, or one that a crash cut off.
    Unfinished,
    /// With bytes that are none of ours: durable commits may be lost.
    Damaged,
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// There is no file.
    #[error("there is no ledger at {path}; has a daemon run on this node since its boot?")]
    Missing {
        /// Where it was looked for.
        path: String,
    },
    /// It is no ledger.
    #[error(
        "{path} cannot be read as a ledger: {reason}; the daemon would set it aside and start from EC2 and the kernel"
    )]
    Unreadable {
        /// Which file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] LedgerError),
}

/// Reads the ledger in a daemon's directory, or a file that was one.
///
/// # Errors
/// There is none, it cannot be read, or it is none.
pub fn view(path: &Path) -> Result<View, ViewError> {
    let in_dir = path.is_dir();
    let dir = if in_dir { path } else { path.parent().unwrap_or(path) };
    let name = if in_dir { NAME.into() } else { path.file_name().unwrap_or_default().to_string_lossy() };
    let path = dir.join(&*name);
    let shown = || path.display().to_string();
    let unreadable = |reason: String| ViewError::Unreadable { path: shown(), reason };
    let read = RealDirectory(dir.to_owned()).read(&name, READABLE, READABLE);
    let bytes = match read.map_err(|error| LedgerError::io("read", &path, error))? {
        Lies::Missing => return Err(ViewError::Missing { path: shown() }),
        Lies::Unfit => return Err(unreadable("it is no file, or too large to be one of ours".into())),
        Lies::Bytes(bytes) => bytes,
    };
    view_of(&bytes).map_err(unreadable)
}

/// What bytes say that were a ledger's; `Err`: why they are none.
///
/// # Errors
/// They do not begin like a ledger of a known format.
pub fn view_of(bytes: &[u8]) -> Result<View, String> {
    let (header, chain, start) = frame::read_header(bytes).map_err(|bad| match bad {
        BadHeader::Newer(format) => format!("it has format {format}, of a later version than this program"),
        BadHeader::Damaged(reason) => reason.to_owned(),
    })?;
    let scan = found::scan(bytes, start, chain, Past::Read);
    // Without that number nothing tells what happened from what only was so.
    let frames = header.snapshot_frames.and_then(|frames| usize::try_from(frames).ok());
    let state: usize = scan.counts.iter().take(frames.unwrap_or(usize::MAX)).sum();
    let mut events = scan.past;
    events.extend(scan.records[state..].iter().filter(|record| tells_of_an_address(record)).cloned());
    Ok(View {
        instance: InstanceId::new(header.instance),
        boot: BootId::new(header.boot),
        cooldown: header.cooldown_ms.map(Duration::from_millis),
        records: scan.records,
        events,
        used: scan.end,
        end: match scan.tail {
            Tail::Clean => End::Whole,
            Tail::Torn => End::Unfinished,
            Tail::Damaged => End::Damaged,
        },
    })
}

fn tells_of_an_address(record: &Record) -> bool {
    match record {
        Record::EniGone { .. }
        | Record::Assigned { .. }
        | Record::Unassigned { .. }
        | Record::Allocated { .. }
        | Record::Released { .. } => true,
        Record::Eni(_)
        | Record::Tombstone { .. }
        | Record::Intent { .. }
        | Record::Settled { .. }
        | Record::OpsUsed { .. } => false,
    }
}
