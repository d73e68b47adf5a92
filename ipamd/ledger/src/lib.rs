//! The pool's records on disk.
//!
//! A ledger is one file of frames, appended to and never changed in place; a frame holds what one commit made durable,
//! and is there entirely or not at all. The file belongs to one instance and says which boot its times count from.
//! Whatever lies on disk, opening it never panics, never zeroes and never deletes quietly: what is not understood is
//! set aside under another name, and the caller is told.
//!
//! [`Ledger`] blocks: who calls it decides on which thread. [`ipam_json`] is the incumbent's checkpoint, read once
//! and kept as a mirror. This crate must **not** decide anything about addresses; that is the pool's business.

pub mod ipam_json;

mod aside;
mod codec;
mod disk;
mod error;
mod frame;
mod store;
mod view;
mod wire;

pub use aside::Aside;
pub use error::LedgerError;
pub use store::{Identity, Ledger, Opened, Recovered};
pub use view::{End, View, ViewError, view, view_of};
