//! The operator's command `podwire`: what podwire does on this node, and why.
//!
//! It reads the ledger's file without touching it, or asks the running daemon over its socket; it decides nothing and
//! changes nothing itself: what is to be changed it orders from the daemon, which has the evidence and EC2's budget. Every command prints a table for people or, with `--json`, one JSON document for programs. Texts
//! that come from outside (pod names above all) are escaped before they reach a terminal.

pub mod args;
pub mod clock;
pub mod daemon;
pub mod explain;
pub mod failure;
pub mod history;
pub mod leaks;
pub mod ledger;
pub mod output;
pub mod pods;
pub mod state;
pub mod status;

use std::ffi::OsString;
use std::io::{self, Write};

use clap::Parser;

use crate::args::{Cli, Command};
use crate::failure::{Failure, Verdict};

/// Runs a command line; returns the exit code. See [`args`] for what the codes mean.
pub fn run(args: impl IntoIterator<Item = OsString>, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let text = error.render();
            // Help goes to the output, mistakes to the errors. When that stream is closed, nobody is there to be told.
            let written = if error.use_stderr() { write!(err, "{text}") } else { write!(out, "{text}") };
            written.and_then(|()| out.flush()).ok();
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    let told = answer(&cli, out).and_then(|verdict| out.flush().map(|()| verdict).map_err(Failure::from));
    match told {
        Ok(verdict) => verdict.code(),
        // The reader has seen enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(failure) => {
            let text = format!("{:#}", anyhow::Error::new(failure));
            // With the errors closed too, the exit code has to do.
            writeln!(err, "podwire: {}", output::plain(&text)).ok();
            1
        }
    }
}

fn answer(cli: &Cli, out: &mut dyn Write) -> Result<Verdict, Failure> {
    match &cli.command {
        Command::Status(socket) => status::run(&socket.socket, cli.json, out),
        Command::Explain(socket) => explain::run(&socket.socket, cli.json, out),
        Command::Leaks(asked) => leaks::run(&asked.socket.socket, asked.delete, cli.json, out),
        Command::Ledger(file) => ledger::run(file.path(), cli.json, out),
        Command::Pods(file) => pods::run(file.path(), cli.json, out),
        Command::History(asked) => history::run(asked.file.path(), &asked.of, cli.json, out),
    }
}
