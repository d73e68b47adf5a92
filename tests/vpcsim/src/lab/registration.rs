//! A lab's name on this machine: one owner at a time, leftovers of a dead owner cleared away.
//!
//! `/run/vpcsim/<name>/lock` is locked as long as its owner lives; the kernel unlocks it however that ends. Namespaces
//! end by themselves then ([`crate::ns::Keeper`]); what is cleared here is what a killed keeper could not.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::ns::{LABEL, end_strays, keepers};

/// Where every lab of this machine has its directory.
const ROOT: &str = "/run/vpcsim";
/// How long ended keepers may take to disappear. Our choice.
const PATIENCE: Duration = Duration::from_secs(10);

/// The right to a name. Given up when dropped.
#[derive(Debug)]
pub struct Registration {
    name: String,
    directory: PathBuf,
    /// Held for its lock.
    _lock: File,
}

impl Registration {
    /// Takes the name.
    ///
    /// # Errors
    /// It is not a name, or a running process has it.
    pub fn take(name: &str) -> anyhow::Result<Self> {
        if !is_name(name) {
            bail!("{name:?} cannot name a lab: letters, digits, '-' and '.', at most 40");
        }
        refuse_inside_a_node()?;
        let directory = directory_of(name);
        loop {
            fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
            let Some(mut lock) = try_lock(&directory)? else {
                let owner =
                    owner(name).map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
                bail!("lab {name} is up already, owned by {owner}; choose another name or take it down");
            };
            clear_keepers(name)?;
            // A dying keeper, or the former owner, may have removed the directory under the lock.
            if is_current(&lock, &directory) {
                lock.set_len(0)?;
                write!(lock, "{}", std::process::id())?;
                return Ok(Self { name: name.to_owned(), directory, _lock: lock });
            }
        }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The lab's directory: it vanishes with the lab.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        remove(&self.directory);
    }
}

/// Clears a lab away whose owner is dead. `false`: its owner lives, nothing was touched.
///
/// # Errors
/// A process may not be ended.
pub fn clear(name: &str) -> anyhow::Result<bool> {
    refuse_inside_a_node()?;
    let directory = directory_of(name);
    if directory.is_dir() {
        let Some(_lock) = try_lock(&directory)? else { return Ok(false) };
        clear_keepers(name)?;
        remove(&directory);
    } else {
        clear_keepers(name)?;
    }
    Ok(true)
}

/// Every lab of this machine, alive or left over.
///
/// # Errors
/// `/run` or `/proc` cannot be read.
pub fn names() -> anyhow::Result<Vec<String>> {
    let mut names: Vec<String> = keepers()?.into_iter().map(|keeper| keeper.lab).collect();
    match fs::read_dir(ROOT) {
        Ok(entries) => {
            for entry in entries {
                names.extend(entry?.file_name().into_string().ok().filter(|name| is_name(name)));
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {ROOT}")),
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// The process that owns the lab, if one does.
#[must_use]
pub fn owner(name: &str) -> Option<u32> {
    let directory = directory_of(name);
    match try_lock(&directory) {
        Ok(None) => fs::read_to_string(directory.join("lock")).ok()?.trim().parse().ok(),
        Ok(Some(_)) | Err(_) => None,
    }
}

/// Where the lab has its directory.
#[must_use]
pub fn directory_of(name: &str) -> PathBuf {
    Path::new(ROOT).join(name)
}

/// A node's `/run` is its own but its processes are the machine's: a lab there would take living keepers of a lab of
/// the same name for leftovers.
fn refuse_inside_a_node() -> anyhow::Result<()> {
    match fs::read_to_string(LABEL) {
        Ok(label) => bail!("this is node {} of a lab; labs are managed from outside", label.trim_end()),
        Err(_) => Ok(()),
    }
}

/// A name is part of a path and of a keeper's label.
fn is_name(name: &str) -> bool {
    let fits = (1..=40).contains(&name.len()) && !name.starts_with(['.', '-']);
    fits && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
}

fn try_lock(directory: &Path) -> anyhow::Result<Option<File>> {
    let path = directory.join("lock");
    let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let lock = opened.with_context(|| format!("cannot open {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

fn is_current(lock: &File, directory: &Path) -> bool {
    let held = lock.metadata().map(|metadata| metadata.ino());
    let named = fs::metadata(directory.join("lock")).map(|metadata| metadata.ino());
    matches!((held, named), (Ok(held), Ok(named)) if held == named)
}

fn clear_keepers(name: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left: Vec<_> = keepers()?.into_iter().filter(|keeper| keeper.lab == name).collect();
        if left.is_empty() && end_strays(name)? == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("processes of lab {name} do not end; keepers left: {left:?}");
        }
        for keeper in left {
            keeper.end().with_context(|| format!("cannot end {keeper:?}"))?;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The directory of all labs goes with the last of them.
fn remove(directory: &Path) {
    if let Err(error) = fs::remove_dir_all(directory)
        && error.kind() != ErrorKind::NotFound
    {
        tracing::warn!(%error, directory = %directory.display(), "cannot remove a lab's directory");
    }
    // Not empty: another lab is there.
    if fs::remove_dir(ROOT).is_ok() {
        tracing::debug!("removed the last lab's directory");
    }
}
