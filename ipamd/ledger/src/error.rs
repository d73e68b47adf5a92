//! Why the ledger cannot be opened or written.

use std::io;
use std::path::{Path, PathBuf};

/// An error of the ledger. The file itself is consistent after any of them.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another process has this ledger open.
    #[error("another ipamd holds the ledger lock {}; stop it first", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
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
    /// A rewritten ledger is in its place, and the operating system does not say that it stays there.
    #[error("cannot sync {}", path.display())]
    Unsynced {
        /// The directory.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// There is no ledger to append to yet: it begins with a snapshot.
    #[error("the ledger is not founded yet; compact it with what is true before the first append")]
    NotFounded,
    /// More was to be written at once than a reader accepts.
    #[error("{size} bytes at once are too many for the ledger, {limit} are the most; append less at once")]
    TooLarge {
        /// *Unit* bytes.
        size: usize,
        /// *Unit* bytes.
        limit: usize,
    },
}

impl LedgerError {
    pub(crate) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { doing, path: path.to_owned(), source }
    }

    /// Whether the disk is full: freeing space helps.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io { source, .. } | Self::Unsynced { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Locked { .. } | Self::NotFounded | Self::TooLarge { .. } => false,
        }
    }
}
