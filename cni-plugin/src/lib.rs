//! `aws-cni`, the plugin a container runtime executes for every pod.
//!
//! One process, one verb, one thread. It asks `ipamd` for an address over a Unix socket and wires the pod through
//! `podwire-hostnet`. Its only words on stdout are the CNI result or the CNI error object; everything else goes to a log
//! file. It keeps no state but one file for each release that no daemon was there to take.

pub mod attach;
pub mod clock;
pub mod cni;
pub mod daemon;
pub mod heartbeat;
mod log;
pub mod pending_release;
mod start;
mod verbs;

use cni::env::{Asked, Environment, Invocation, Verb};
use cni::error::CniError;
use cni::{netconf, output, version};
use start::{FAILURE, SUCCESS};
use std::ffi::c_int;
use std::io::Read as _;

/// Largest configuration read from stdin. *Source*: our choice; a result with its whole chain is a few KiB.
const STDIN_MAX: u64 = 4 << 20;

/// Runs the plugin: environment and stdin in, stdout and exit code out. Libc calls this as `main`, before any thread.
#[must_use]
pub fn main() -> c_int {
    if !start::prepare() {
        return FAILURE;
    }
    match cni::env::asked(&Environment::of_process()) {
        Ok(Asked::Introduction) => {
            output::introduction();
            SUCCESS
        }
        Ok(Asked::Verb(Verb::Version, _)) => print(version::reply(&read_stdin().unwrap_or_default())),
        Ok(Asked::Verb(verb, invocation)) => run(verb, &invocation),
        Err(error) => fail(&error, version::NEWEST),
    }
}

fn run(verb: Verb, invocation: &Invocation) -> c_int {
    let started = clock::Started::now();
    let stdin = match read_stdin() {
        Ok(stdin) => stdin,
        Err(error) => return fail(&error, version::NEWEST),
    };
    let conf = match netconf::parse(&stdin, verb) {
        Ok(conf) => conf,
        Err(refused) => return fail(&refused.error, &refused.version),
    };
    let mut log = log::Log::open(&conf, verb, invocation);
    let outcome = verbs::run(verb, &verbs::Call { invocation, conf: &conf, started }, &mut log);
    match outcome {
        Ok(verbs::Done::Silent) => SUCCESS,
        Ok(verbs::Done::Wired(wired)) => match output::write(&wired.result) {
            Ok(()) => SUCCESS,
            // Nobody received the result, so nobody knows of the pod's interface.
            Err(source) => {
                wired.undo(&mut log);
                log.error("cannot print the result", &[("error", &source.to_string())]);
                fail(&CniError::io("cannot print the result").because(&source), &conf.version)
            }
        },
        Err(error) => {
            log.error("failed", &[("code", &error.code.to_string()), ("error", &error.to_string())]);
            fail(&error, &conf.version)
        }
    }
}

fn read_stdin() -> Result<Vec<u8>, CniError> {
    let mut stdin = Vec::new();
    match std::io::stdin().lock().take(STDIN_MAX + 1).read_to_end(&mut stdin) {
        Ok(_) if u64::try_from(stdin.len()).is_ok_and(|len| len > STDIN_MAX) => {
            Err(CniError::io("the configuration on stdin is longer than 4 MiB"))
        }
        Ok(_) => Ok(stdin),
        Err(source) => Err(CniError::io("cannot read the configuration from stdin").because(&source)),
    }
}

fn print(text: String) -> c_int {
    match output::write(&text) {
        Ok(()) => SUCCESS,
        Err(_) => FAILURE,
    }
}

fn fail(error: &CniError, version: &str) -> c_int {
    // A closed stdout takes no words; the exit code still says it.
    let _ = output::write(&error.to_json(version));
    FAILURE
}
