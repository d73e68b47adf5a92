//! The socket by which another process speaks to a running lab: JSON, one request and one answer per line.
//!
//! It is `/run/vpcsim/<name>/control.sock`, root's only, as its directory is.

mod server;
mod status;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::lab::{NodeSpec, directory_of};
use crate::trouble::TroubleSettings;

pub use server::serve;
pub use status::{EniStatus, NodeStatus, Status, status};

/// How long an answer may take: booting a node on a busy machine is the longest. Our choice.
const PATIENCE: Duration = Duration::from_secs(60);

/// What may be asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// [`Status`].
    Status,
    /// Boots a node; answers its [`NodeStatus`].
    AddNode(NodeSpec),
    /// Ends everything on a node and boots it again.
    RebootNode(String),
    /// Terminates a node's instance and ends the node.
    RemoveNode(String),
    /// The trouble that is set, a [`TroubleSettings`].
    Trouble,
    /// From now on this trouble and no other.
    SetTrouble(Box<TroubleSettings>),
    /// EC2 calls so far by action, a [`crate::cloud::Stats`].
    Calls,
    /// Forgets the calls so far.
    ForgetCalls,
    /// The last EC2 calls, oldest first, at most so many: [`crate::cloud::CallRecord`]s.
    LastCalls(usize),
    /// Takes the lab down.
    Down,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is done; what was asked for, or null.
    Done(Value),
    /// It is refused, and why.
    Refused(String),
}

/// Where a lab listens.
#[must_use]
pub fn socket(lab: &str) -> PathBuf {
    directory_of(lab).join("control.sock")
}

/// Asks the lab of this name.
///
/// # Errors
/// No lab of that name listens, it refuses, or it does not answer.
pub fn ask<T: DeserializeOwned>(lab: &str, request: &Request) -> anyhow::Result<T> {
    let path = socket(lab);
    let mut stream = UnixStream::connect(&path).with_context(|| {
        format!("no lab {lab} listens at {}; bring one up with `vpcsim up`", path.display())
    })?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes()).context("cannot ask the lab")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).context("the lab does not answer")?;
    match serde_json::from_str(&answer).with_context(|| format!("lab {lab} gives no answer"))? {
        Answer::Done(value) => serde_json::from_value(value).context("the lab is of another version"),
        Answer::Refused(why) => bail!(why),
    }
}
