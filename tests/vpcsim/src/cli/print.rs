//! The only place that writes to stdout and stderr.

use std::io::{self, Write as _};

use serde::Serialize;

/// One line to stdout.
pub(super) fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}

/// JSON to stdout, for people and programs.
pub(super) fn say_json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(say(&serde_json::to_string_pretty(value)?)?)
}

/// One line to stderr. A closed stderr leaves nowhere to complain to.
pub(crate) fn complain(line: &str) {
    if writeln!(io::stderr().lock(), "{line}").is_err() {
        tracing::debug!(line, "stderr is closed");
    }
}

/// Columns as wide as their widest cell.
pub(super) fn say_table(rows: &[Vec<String>]) -> io::Result<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        say(cells.join("  ").trim_end())?;
    }
    Ok(())
}
