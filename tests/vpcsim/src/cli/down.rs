//! `vpcsim down`: asks the server to end, or clears away what a dead one left.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use vpcsim::control::{Request, ask, socket};
use vpcsim::lab::{clear, names, owner};

use super::Down;
use super::print::{complain, say};

/// How long a server may take to end all its nodes. Our choice.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn down(arguments: &Down) -> anyhow::Result<()> {
    if !arguments.all {
        return one(&arguments.lab.name, arguments.force);
    }
    let mut failed = 0;
    for name in names()? {
        // A test's or a demo's lab is its own affair.
        if owner(&name).is_some() && !socket(&name).exists() && !arguments.force {
            say(&format!("{name}: left alone, a running program owns it"))?;
        } else if let Err(error) = one(&name, arguments.force) {
            complain(&format!("{name}: {error:#}"));
            failed += 1;
        }
    }
    if failed > 0 {
        bail!("{failed} could not be taken down");
    }
    Ok(())
}

fn one(name: &str, force: bool) -> anyhow::Result<()> {
    if let Some(pid) = owner(name) {
        match ask::<()>(name, &Request::Down) {
            Ok(()) => {}
            Err(_) if force => kill(pid)?,
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("process {pid} owns {name} and cannot be asked to end it; --force kills it")
                });
            }
        }
        wait_for_end(name)?;
    }
    if !clear(name)? {
        bail!("{name} was brought up again meanwhile");
    }
    Ok(say(&format!("{name}: down"))?)
}

fn wait_for_end(name: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while let Some(pid) = owner(name) {
        if Instant::now() > deadline {
            bail!("process {pid} does not end {name}; --force kills it");
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// The owner holds the lab's lock, so the number is its own and of nobody else.
fn kill(pid: u32) -> anyhow::Result<()> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process id")?;
    let pinned = pidfd_open(raw, PidfdFlags::empty())?;
    pidfd_send_signal(&pinned, Signal::KILL).with_context(|| format!("cannot kill process {pid}"))
}
