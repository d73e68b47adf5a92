//! Setting files aside: nothing that was once a ledger is zeroed or quietly deleted.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::LedgerError;

/// Files kept aside at most. *Source*: our choice; enough to see a pattern, at most 32 MiB of a tmpfs.
const KEPT: usize = 8;

/// Start of the names of files set aside; a number follows.
const PREFIX: &str = "ledger.corrupt-";

/// Where something was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// Where it lies now.
    pub path: PathBuf,
    /// Older files that had to go to make room. Tell people.
    pub removed: Vec<PathBuf>,
}

/// Keeps a file under a second name. *Why* not a rename: until a new ledger takes its place, the old one must be found
/// again; the same file is kept only once.
pub(crate) fn keep_file(dir: &Path, file: &Path) -> Result<Aside, LedgerError> {
    let io = |error| LedgerError::io("set aside", file, error);
    let metadata = fs::metadata(file).map_err(io)?;
    let same = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|kept| (kept.dev(), kept.ino()) == (metadata.dev(), metadata.ino()))
    };
    if let Some(path) = newest(dir)?.filter(same) {
        return Ok(Aside { path, removed: Vec::new() });
    }
    let (path, removed) = make_room(dir)?;
    // A directory takes no second name, and no file can take its place.
    if metadata.is_dir() { fs::rename(file, &path) } else { fs::hard_link(file, &path) }.map_err(io)?;
    Ok(Aside { path, removed })
}

/// Keeps a copy of bytes; the same bytes in a row only once.
pub(crate) fn keep_bytes(dir: &Path, bytes: &[u8]) -> Result<Aside, LedgerError> {
    let same = |path: &PathBuf| fs::read(path).is_ok_and(|kept| kept == bytes);
    if let Some(path) = newest(dir)?.filter(same) {
        return Ok(Aside { path, removed: Vec::new() });
    }
    let (path, removed) = make_room(dir)?;
    let write = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(bytes)?;
        file.sync_data()
    };
    match write() {
        Ok(()) => Ok(Aside { path, removed }),
        Err(error) => {
            // Half a copy would pass for a whole one; the original is still there. The first error counts.
            fs::remove_file(&path).ok();
            Err(LedgerError::io("keep a copy of damaged bytes in", &path, error))
        }
    }
}

/// What was kept last.
fn newest(dir: &Path) -> Result<Option<PathBuf>, LedgerError> {
    let numbers = numbers(dir).map_err(|error| LedgerError::io("list", dir, error))?;
    Ok(numbers.last().map(|number| dir.join(format!("{PREFIX}{number}"))))
}

/// The next free name, after the oldest files beyond the bound are removed.
fn make_room(dir: &Path) -> Result<(PathBuf, Vec<PathBuf>), LedgerError> {
    let numbers = numbers(dir).map_err(|error| LedgerError::io("list", dir, error))?;
    let next = numbers.last().map_or(Some(1), |last| last.checked_add(1)).unwrap_or(u64::MAX);
    let excess = (numbers.len() + 1).saturating_sub(KEPT);
    let mut removed = Vec::new();
    for number in numbers.iter().take(excess) {
        let path = dir.join(format!("{PREFIX}{number}"));
        let remove = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        remove.map_err(|error| LedgerError::io("remove", &path, error))?;
        removed.push(path);
    }
    Ok((dir.join(format!("{PREFIX}{next}")), removed))
}

/// Numbers in use, ascending.
fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number: Option<u64> =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|n| n.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}
