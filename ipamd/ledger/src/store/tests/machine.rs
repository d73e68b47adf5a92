//! A machine that dies: files in memory of which only what was synced is certain (testing.md §3, A3 and A4).

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::disk::{Directory, Disk, Lies};

/// A change of a file's content that is not synced yet.
#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
    /// At least this long.
    Reserve(u64),
}

/// A change of the names that is not synced yet.
#[derive(Debug, Clone)]
enum Naming {
    Link(String, usize),
    Rename(String, String),
    Remove(String),
}

#[derive(Debug, Clone, Default)]
struct Inode {
    durable: Vec<u8>,
    pending: Vec<Change>,
}

/// What is on the machine's disk and what is only in its memory.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    inodes: Vec<Inode>,
    durable: BTreeMap<String, usize>,
    pending: Vec<Naming>,
    /// Steps made; each call of the operating system that changes something is one.
    pub(super) steps: usize,
    /// Power fails at this step: nothing happens from there on.
    pub(super) dies_at: Option<usize>,
    /// This step is refused, after this many bytes if it is a write.
    pub(super) refuses: Option<(usize, usize)>,
    /// What the disk has no more of.
    pub(super) full: Option<Full>,
}

/// How a disk is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// Files can be made, and nothing be written beyond so many bytes of each.
    Blocks(usize),
    /// No file can be made, and none gets a second name: a tmpfs counts names as inodes.
    Inodes,
}

/// The machine.
#[derive(Debug, Clone, Default)]
pub(super) struct Machine(Arc<Mutex<State>>);

#[derive(Debug)]
struct OpenFile(Machine, usize);

/// What of the unsynced survived: how many changes of names, and how many bytes of the writes to each file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Survived {
    pub(super) names: usize,
    pub(super) bytes: usize,
}

impl Machine {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody dies while holding it")
    }

    /// How much there is that may or may not survive.
    pub(super) fn unsynced(&self) -> Survived {
        let state = self.state();
        let bytes = state.inodes.iter().map(|inode| inode.pending.iter().map(size).sum()).max();
        Survived { names: state.pending.len(), bytes: bytes.unwrap_or(0) }
    }

    /// The machine after the power came back.
    pub(super) fn after_crash(&self, survived: Survived) -> Self {
        let mut state = self.state().clone();
        let names: Vec<Naming> = state.pending.drain(..).take(survived.names).collect();
        names.iter().for_each(|naming| rename(&mut state.durable, naming));
        for inode in &mut state.inodes {
            let mut left = survived.bytes;
            for change in std::mem::take(&mut inode.pending) {
                let cut = left < size(&change);
                apply(&mut inode.durable, &change, left);
                left = left.saturating_sub(size(&change));
                if cut {
                    break;
                }
            }
        }
        let restarted = State { steps: 0, dies_at: None, refuses: None, full: None, ..state };
        Self(Arc::new(Mutex::new(restarted)))
    }

    /// The content of a file as programs see it.
    pub(super) fn content(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        let inode = &state.inodes[*names(&state).get(name)?];
        let mut bytes = inode.durable.clone();
        inode.pending.iter().for_each(|change| apply(&mut bytes, change, usize::MAX));
        Some(bytes)
    }

    /// One step: whether it happens, and how much of it.
    fn step(&self) -> io::Result<(MutexGuard<'_, State>, usize)> {
        let mut state = self.state();
        let step = state.steps;
        if state.dies_at.is_some_and(|end| step >= end) {
            return Err(io::Error::other("the machine is dead"));
        }
        state.steps += 1;
        match state.refuses {
            Some((refused, bytes)) if refused == step => Ok((state, bytes)),
            _ => Ok((state, usize::MAX)),
        }
    }

    fn change(&self, inode: usize, change: Change) -> io::Result<()> {
        let (mut state, share) = self.step()?;
        match change {
            Change::Write(at, bytes) if share < usize::MAX => {
                let part = bytes[..share.min(bytes.len())].to_vec();
                state.inodes[inode].pending.push(Change::Write(at, part));
                Err(io::ErrorKind::StorageFull.into())
            }
            _ if share < usize::MAX => Err(io::Error::other("refused")),
            Change::Write(at, bytes) if beyond(state.full, at, &bytes) => {
                Err(io::ErrorKind::StorageFull.into())
            }
            change @ (Change::Write(..) | Change::Length(_) | Change::Reserve(_)) => {
                state.inodes[inode].pending.push(change);
                Ok(())
            }
        }
    }

    fn naming(&self, naming: Naming) -> io::Result<()> {
        let (mut state, share) = self.step()?;
        if share < usize::MAX {
            return Err(io::Error::other("refused"));
        }
        if state.full == Some(Full::Inodes) && matches!(naming, Naming::Link(..)) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.pending.push(naming);
        Ok(())
    }
}

fn beyond(full: Option<Full>, at: u64, bytes: &[u8]) -> bool {
    let end = usize::try_from(at).expect("small") + bytes.len();
    matches!(full, Some(Full::Blocks(room)) if end > room)
}

fn size(change: &Change) -> usize {
    match change {
        Change::Write(_, bytes) => bytes.len(),
        Change::Length(_) | Change::Reserve(_) => 1,
    }
}

/// Applies a change, of a write `share` bytes at most.
fn apply(bytes: &mut Vec<u8>, change: &Change, share: usize) {
    match change {
        Change::Write(at, new) => {
            let new = &new[..share.min(new.len())];
            let at = usize::try_from(*at).expect("small");
            bytes.resize(bytes.len().max(at + new.len()), 0);
            bytes[at..at + new.len()].copy_from_slice(new);
        }
        Change::Length(length) if share > 0 => bytes.resize(usize::try_from(*length).expect("small"), 0),
        // Four MiB for each of a million crashes would take days: that zeros follow is what counts.
        Change::Reserve(length) if share > 0 => {
            let length = usize::try_from(*length).expect("small").min(bytes.len() + 64);
            bytes.resize(bytes.len().max(length), 0);
        }
        Change::Length(_) | Change::Reserve(_) => {}
    }
}

fn rename(names: &mut BTreeMap<String, usize>, naming: &Naming) {
    match naming {
        Naming::Link(name, inode) => {
            names.insert(name.clone(), *inode);
        }
        Naming::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
        Naming::Remove(name) => {
            names.remove(name);
        }
    }
}

fn names(state: &State) -> BTreeMap<String, usize> {
    let mut names = state.durable.clone();
    state.pending.iter().for_each(|naming| rename(&mut names, naming));
    names
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for OpenFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.change(self.1, Change::Write(offset, bytes.to_vec()))
    }

    fn sync(&self) -> io::Result<()> {
        let (mut state, share) = self.0.step()?;
        if share < usize::MAX {
            return Err(io::Error::other("refused"));
        }
        let inode = &mut state.inodes[self.1];
        for change in std::mem::take(&mut inode.pending) {
            apply(&mut inode.durable, &change, usize::MAX);
        }
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.change(self.1, Change::Length(length))
    }

    fn reserve(&self, length: u64) -> io::Result<()> {
        self.0.change(self.1, Change::Reserve(length))
    }

    fn is_gone(&self) -> bool {
        false
    }
}

impl Directory for Machine {
    fn read(&self, name: &str, _unfit: u64, limit: u64) -> io::Result<Lies> {
        Ok(self.content(name).map_or(Lies::Missing, |mut bytes| {
            bytes.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            Lies::Bytes(bytes)
        }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Disk>> {
        let existing = names(&self.state()).get(name).copied();
        if let Some(inode) = existing {
            self.change(inode, Change::Length(0))?;
            return Ok(Box::new(OpenFile(self.clone(), inode)));
        }
        let inode = {
            let mut state = self.state();
            state.inodes.push(Inode::default());
            state.inodes.len() - 1
        };
        self.naming(Naming::Link(name.to_owned(), inode))?;
        Ok(Box::new(OpenFile(self.clone(), inode)))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Disk>> {
        let inode = names(&self.state()).get(name).copied().ok_or_else(missing)?;
        Ok(Box::new(OpenFile(self.clone(), inode)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.naming(Naming::Rename(from.to_owned(), to.to_owned()))
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let inode = names(&self.state()).get(from).copied().ok_or_else(missing)?;
        self.naming(Naming::Link(to.to_owned(), inode))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        if !names(&self.state()).contains_key(name) {
            return Err(missing());
        }
        self.naming(Naming::Remove(name.to_owned()))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(names(&self.state()).into_keys().collect())
    }

    fn same(&self, one: &str, other: &str) -> bool {
        let names = names(&self.state());
        names.get(one).is_some_and(|inode| names.get(other) == Some(inode))
    }

    fn sync(&self) -> io::Result<()> {
        let (mut state, share) = self.step()?;
        if share < usize::MAX {
            return Err(io::Error::other("refused"));
        }
        state.durable = names(&state);
        state.pending.clear();
        Ok(())
    }
}
