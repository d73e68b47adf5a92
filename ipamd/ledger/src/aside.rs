//! Setting files aside: nothing that was once a ledger is zeroed or quietly deleted.

use std::path::{Path, PathBuf};

use crate::disk::{Directory, Lies};
use crate::error::LedgerError;

/// Files kept aside at most. *Source*: our choice; enough to see a pattern, at most 32 MiB of a tmpfs.
const KEPT: usize = 8;

/// Start of the names of files set aside; a number follows.
const PREFIX: &str = "ledger.corrupt-";

/// Where something was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// Where it lies now. The ledger's own name: the disk takes no second one for now, and nothing takes the file's place
    /// before it has one.
    pub path: PathBuf,
    /// Older files that had to go to make room. Tell people.
    pub removed: Vec<PathBuf>,
}

impl Aside {
    /// Whether it still lies where it was found.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        self.path.ends_with(crate::store::NAME)
    }
}

/// The shelf of a ledger's directory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shelf<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) files: &'a dyn Directory,
}

impl Shelf<'_> {
    /// Keeps a file under a second name. *Why* not a rename: until a new ledger takes its place, the old one must be
    /// found again; the same file is kept only once.
    pub(crate) fn keep_file(self, name: &str) -> Result<Aside, LedgerError> {
        if let Some(kept) = self.newest()?.filter(|kept| self.files.same(kept, name)) {
            return Ok(self.put(&kept, Vec::new()));
        }
        let (kept, excess) = self.next()?;
        self.files.link(name, &kept).map_err(|error| self.failed("set aside", name, error))?;
        Ok(self.put(&kept, excess))
    }

    /// What could not be kept and lies where it was.
    pub(crate) fn in_place(self, name: &str) -> Aside {
        self.put(name, Vec::new())
    }

    /// Keeps a copy of bytes; the same bytes in a row only once.
    pub(crate) fn keep_bytes(self, bytes: &[u8]) -> Result<Aside, LedgerError> {
        let same = |kept: &String| {
            let all = self.files.read(kept, u64::MAX, u64::MAX);
            all.is_ok_and(|lies| matches!(lies, Lies::Bytes(kept) if kept == bytes))
        };
        if let Some(kept) = self.newest()?.filter(same) {
            return Ok(self.put(&kept, Vec::new()));
        }
        let (kept, excess) = self.next()?;
        let written = self.files.create(&kept).and_then(|file| {
            file.write_at(bytes, 0)?;
            file.sync()
        });
        if let Err(error) = written {
            // Half a copy would pass for a whole one; the original is still there. The first error counts.
            self.files.remove(&kept).ok();
            return Err(self.failed("keep a copy of damaged bytes in", &kept, error));
        }
        Ok(self.put(&kept, excess))
    }

    /// Only now that the new file is there the oldest ones go; one that cannot goes the next time.
    fn put(self, kept: &str, excess: Vec<String>) -> Aside {
        let removed = excess.into_iter().filter(|name| self.files.remove(name).is_ok());
        Aside { path: self.dir.join(kept), removed: removed.map(|name| self.dir.join(name)).collect() }
    }

    fn failed(self, doing: &'static str, name: &str, error: std::io::Error) -> LedgerError {
        LedgerError::io(doing, &self.dir.join(name), error)
    }

    /// What was kept last.
    fn newest(self) -> Result<Option<String>, LedgerError> {
        Ok(self.numbers()?.last().map(|number| format!("{PREFIX}{number}")))
    }

    /// The next free name, and the oldest files beyond the bound.
    fn next(self) -> Result<(String, Vec<String>), LedgerError> {
        let numbers = self.numbers()?;
        let after = numbers.last().map_or(Some(1), |last| last.checked_add(1));
        let next = after.or_else(|| (1..).find(|number| !numbers.contains(number))).unwrap_or(u64::MAX);
        let excess = (numbers.len() + 1).saturating_sub(KEPT);
        let oldest = numbers.iter().take(excess).map(|number| format!("{PREFIX}{number}")).collect();
        Ok((format!("{PREFIX}{next}"), oldest))
    }

    /// Numbers in use, ascending.
    fn numbers(self) -> Result<Vec<u64>, LedgerError> {
        let names = self.files.names().map_err(|error| LedgerError::io("list", self.dir, error))?;
        let mut numbers: Vec<u64> =
            names.iter().filter_map(|name| name.strip_prefix(PREFIX)?.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }
}
