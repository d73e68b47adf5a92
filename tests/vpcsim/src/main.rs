//! `vpcsim`: brings simulated VPCs up and down, and speaks to those that run.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(code) => code,
        Err(error) => {
            // Logs go to stderr as well, but this is the program's answer.
            cli::complain(&format!("vpcsim: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
