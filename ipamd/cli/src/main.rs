//! `podwire`: hands arguments and streams over. Everything else, exit codes too, is the library's.

use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut out = io::BufWriter::new(io::stdout().lock());
    ExitCode::from(podwire_cli::run(std::env::args_os(), &mut out, &mut io::stderr().lock()))
}
