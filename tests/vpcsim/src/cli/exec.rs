//! `vpcsim exec`: becomes the command, inside.

use std::os::unix::process::CommandExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use vpcsim::ns::{Namespaces, keepers};

use super::Exec;

/// Returns only if the command cannot be executed.
pub(super) fn exec(arguments: &Exec) -> anyhow::Result<()> {
    let (lab, host) = (&arguments.lab.name, &arguments.node);
    let found = keepers()?.into_iter().find(|keeper| keeper.lab == *lab && keeper.host == *host);
    let keeper = found.with_context(|| format!("lab {lab} has no node {host} that runs"))?;
    let mut inside = Namespaces::of_process(keeper.pid)?;
    if let Some(name) = &arguments.netns {
        let path = Path::new(&format!("/proc/{}/root/run/netns", keeper.pid)).join(name);
        inside =
            inside.with_network(&path).with_context(|| format!("node {host} has no namespace {name}"))?;
    }
    let Some((program, rest)) = arguments.command.split_first() else { bail!("no command") };
    let error = inside.command(program).args(rest).exec();
    Err(error).with_context(|| format!("cannot execute {} in {host}", program.display()))
}
