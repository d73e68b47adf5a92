//! Running `ip` and `nft` in a namespace: one process for a whole batch.
//!
//! The simulator may execute them, the product may not.

use std::io::{ErrorKind, Write as _};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, bail};

/// Feeds `batch` to `ip -batch -` in the calling thread's namespaces.
pub(crate) fn ip(batch: &str) -> anyhow::Result<()> {
    feed("ip", "iproute2", &["-batch", "-"], batch).map(drop)
}

/// Feeds `ruleset` to `nft -f -`: one transaction, all or nothing.
pub(crate) fn nft(ruleset: &str) -> anyhow::Result<()> {
    feed("nft", "nftables", &["-f", "-"], ruleset).map(drop)
}

/// Runs `nft -j` and gives what it prints.
pub(crate) fn nft_list(words: &[&str]) -> anyhow::Result<serde_json::Value> {
    let words: Vec<&str> = std::iter::once("-j").chain(words.iter().copied()).collect();
    let output = feed("nft", "nftables", &words, "")?;
    serde_json::from_slice(&output.stdout).context("nft printed no JSON")
}

fn feed(program: &str, package: &str, words: &[&str], input: &str) -> anyhow::Result<Output> {
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}; install {package}"))?;
    let mut stdin = child.stdin.take().context("no pipe to a child")?;
    match stdin.write_all(input.as_bytes()) {
        // It gave up early; its own words say why.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        other => other.with_context(|| format!("cannot feed {program}"))?,
    }
    drop(stdin);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {} refused: {}; given:\n{input}", words.join(" "), why.trim());
    }
    Ok(output)
}
