//! The verbs, one file each: the order of steps, and what happens when one fails.

mod add;
mod check;
mod del;
mod gc;
mod status;

pub(crate) use add::Wired;

use crate::clock::Started;
use crate::cni::env::{Invocation, Verb};
use crate::cni::error::{CniError, DATAPATH, ENVIRONMENT, NETNS, TRY_AGAIN};
use crate::cni::netconf::NetConf;
use crate::log::Log;
use podwire_hostnet::HostError;

/// What a verb works on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) invocation: &'a Invocation,
    pub(crate) conf: &'a NetConf,
    pub(crate) started: Started,
}

/// How a verb ended well.
#[derive(Debug)]
pub(crate) enum Done {
    /// Nothing is printed.
    Silent,
    /// A pod was wired; its result is to be printed.
    Wired(Box<Wired>),
}

/// Carries a verb out.
pub(crate) fn run(verb: Verb, call: &Call<'_>, log: &mut Log) -> Result<Done, CniError> {
    match verb {
        Verb::Add => add::run(call, log).map(|wired| Done::Wired(Box::new(wired))),
        Verb::Del => del::run(call, log).map(|()| Done::Silent),
        Verb::Check => check::run(call, log).map(|()| Done::Silent),
        Verb::Gc => gc::run(call, log).map(|()| Done::Silent),
        Verb::Status => status::run(call, log).map(|()| Done::Silent),
        // Answered before anything was read.
        Verb::Version => Ok(Done::Silent),
    }
}

/// The code for a failure of host networking.
fn host_failed(msg: &str, error: &HostError) -> CniError {
    let code = match error {
        HostError::Netns { .. } => NETNS,
        HostError::InterfaceTaken { .. } => ENVIRONMENT,
        HostError::Kernel { .. }
        | HostError::NoDevice { .. }
        | HostError::Slot(_)
        | HostError::UnknownEni(_)
        | HostError::Foreign { .. }
        | HostError::Sysctl { .. }
        | HostError::Family(_)
        | HostError::Setting(_)
        | HostError::Undecided(_)
        | HostError::LinkStays { .. }
        | HostError::Several(_) => {
            if error.is_transient() {
                TRY_AGAIN
            } else {
                DATAPATH
            }
        }
    };
    CniError::new(code, msg).because(error)
}
