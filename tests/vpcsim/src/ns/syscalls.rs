//! The only `unsafe` of this crate: `unshare` for one thread and a hook between fork and exec.
#![expect(unsafe_code, reason = "unshare and pre_exec have no safe form in rustix and std")]

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Own root and working directory for the calling thread, which `setns` to a mount namespace demands.
pub(super) fn unshare_filesystem_state() -> io::Result<()> {
    // SAFETY: only `UnshareFlags::FILES` endangers descriptors seen by other threads; it is not set.
    Ok(unsafe { unshare_unsafe(UnshareFlags::FS) }?)
}

/// A new network namespace for the calling thread.
pub(super) fn unshare_network() -> io::Result<()> {
    // SAFETY: as above, `UnshareFlags::FILES` is not set.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?)
}

/// New network, mount and UTS namespaces for the calling thread.
pub(super) fn unshare_machine() -> io::Result<()> {
    let flags = UnshareFlags::NEWNS | UnshareFlags::NEWNET | UnshareFlags::NEWUTS;
    // SAFETY: as above, `UnshareFlags::FILES` is not set.
    Ok(unsafe { unshare_unsafe(flags) }?)
}

/// Runs `hook` in the child between fork and exec.
pub(super) fn before_exec(
    command: &mut Command,
    hook: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    // SAFETY: the hooks of this crate make only `setns` calls on descriptors that they own: no allocation, no lock, no
    // other thread's state (signal-safety(7)).
    unsafe { command.pre_exec(hook) };
}
