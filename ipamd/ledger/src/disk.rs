//! The few things a ledger does to its directory and its files, so that tests can let each of them fail, or let the
//! machine die at it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

/// An open file of a ledger.
pub(crate) trait Disk: std::fmt::Debug + Send {
    /// Writes all bytes at an offset.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Returns when what was written is on disk.
    fn sync(&self) -> io::Result<()>;
    /// Cuts the file off.
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// Makes the file at least this long, with zeros, and reserves the space.
    fn reserve(&self, length: u64) -> io::Result<()>;
    /// Whether the file has no name any more: what is written into it ends with this process.
    fn is_gone(&self) -> bool;
}

impl Disk for File {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn reserve(&self, length: u64) -> io::Result<()> {
        Ok(fallocate(self, FallocateFlags::empty(), 0, length)?)
    }

    fn is_gone(&self) -> bool {
        self.metadata().is_ok_and(|file| file.nlink() == 0)
    }
}

/// What lies under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lies {
    /// Nothing.
    Missing,
    /// Something that cannot be a ledger: no file, or one too large.
    Unfit,
    /// A file with these bytes.
    Bytes(Vec<u8>),
}

/// A ledger's directory. Names are plain file names.
pub(crate) trait Directory: std::fmt::Debug + Send {
    /// Reads the first `limit` bytes at most of what lies under a name; `unfit` beyond that size.
    fn read(&self, name: &str, unfit: u64, limit: u64) -> io::Result<Lies>;
    /// Makes an empty, private file, or empties the one that is there.
    fn create(&self, name: &str) -> io::Result<Box<dyn Disk>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Box<dyn Disk>>;
    /// Gives a file another name; what had that name is gone.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Gives a file a second name. A directory, which takes no second name, is renamed.
    fn link(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file, or a directory with everything in it. One that is not there is an error.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// All names.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Whether two names lead to the same file.
    fn same(&self, one: &str, other: &str) -> bool;
    /// Returns when all names are on disk.
    fn sync(&self) -> io::Result<()>;
}

/// A directory of the operating system.
#[derive(Debug)]
pub(crate) struct RealDirectory(pub(crate) PathBuf);

/// Makes the directory, private; the ones above it as the system makes them.
pub(crate) fn make(dir: &Path) -> io::Result<()> {
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        made => made,
    }
}

impl Directory for RealDirectory {
    fn read(&self, name: &str, unfit: u64, limit: u64) -> io::Result<Lies> {
        let path = self.0.join(name);
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Lies::Missing),
            Err(error) => Err(error),
            Ok(metadata) if metadata.len() > unfit || !metadata.is_file() => Ok(Lies::Unfit),
            Ok(_) => {
                let mut bytes = Vec::new();
                File::open(&path)?.take(limit).read_to_end(&mut bytes)?;
                Ok(Lies::Bytes(bytes))
            }
        }
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Disk>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = match options.open(self.0.join(name)) {
            // Somebody removed the directory.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(&self.0)?;
                options.open(self.0.join(name))?
            }
            opened => opened?,
        };
        Ok(Box::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Disk>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).open(self.0.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.0.join(from), self.0.join(to));
        if fs::metadata(&from)?.is_dir() { fs::rename(from, to) } else { fs::hard_link(from, to) }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.0.join(name);
        if fs::symlink_metadata(&path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
    }

    fn names(&self) -> io::Result<Vec<String>> {
        // A name that is no text is none of ours.
        fs::read_dir(&self.0)?
            .filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose())
            .collect()
    }

    fn same(&self, one: &str, other: &str) -> bool {
        let file = |name: &str| fs::metadata(self.0.join(name)).map(|file| (file.dev(), file.ino()));
        matches!((file(one), file(other)), (Ok(one), Ok(other)) if one == other)
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}
