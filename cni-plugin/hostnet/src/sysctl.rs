//! Kernel settings under /proc/sys, only those that netlink cannot reach.

use crate::error::HostError;
use std::fs;
use std::io;

/// Makes a setting hold `value`; `Ok(true)` when it had to be changed.
///
/// # Errors
/// The setting differs and cannot be written.
pub(crate) fn ensure(path: &str, value: &'static str) -> Result<bool, HostError> {
    if fs::read_to_string(path).is_ok_and(|present| present.trim() == value) {
        return Ok(false);
    }
    write(path, value).map(|()| true)
}

/// Writes a setting where the kernel has it.
///
/// # Errors
/// The setting exists and cannot be written.
pub(crate) fn write_if_present(path: &str, value: &'static str) -> Result<(), HostError> {
    match fs::write(path, value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done.map_err(|source| HostError::Sysctl { path: path.to_owned(), value, source }),
    }
}

fn write(path: &str, value: &'static str) -> Result<(), HostError> {
    fs::write(path, value).map_err(|source| HostError::Sysctl { path: path.to_owned(), value, source })
}
