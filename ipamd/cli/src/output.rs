//! What reaches the terminal: tables, JSON, and nothing that could steer the terminal.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde_json::Value;

/// A text from outside made harmless: what is no printable ASCII is shown as an escape, and so is a backslash.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\\' {
            safe.push_str("\\\\");
        } else if c.is_ascii_graphic() || c == ' ' {
            safe.push(c);
        } else {
            safe.extend(c.escape_unicode());
        }
    }
    safe
}

/// A text, or a dash for none.
#[must_use]
pub fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".into() } else { plain(text) }
}

/// One JSON document, indented, in ASCII: whatever a name holds, no terminal takes it for a command.
///
/// # Errors
/// The output is closed.
pub fn json(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_graphic() || c == ' ' || c == '\n' {
            safe.push(c);
            continue;
        }
        // Only inside texts, where JSON allows an escape for anything.
        for unit in c.encode_utf16(&mut [0; 2]) {
            write!(safe, "\\u{unit:04x}").map_err(io::Error::other)?;
        }
    }
    writeln!(out, "{safe}")
}

/// A table: a row of names and rows of cells, made harmless already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    #[must_use]
    pub fn new(names: &[&str]) -> Self {
        Self { rows: vec![names.iter().map(|name| (*name).to_owned()).collect()] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Whether it has no row but the names.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// Writes it, its columns aligned; the last one is not filled up.
    ///
    /// # Errors
    /// The output is closed.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, &width) in row.iter().zip(&widths) {
                write!(line, "{cell:width$}  ").map_err(io::Error::other)?;
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_cannot_steer_a_terminal() {
        assert_eq!(plain("web-0"), "web-0");
        assert_eq!(plain("\u{1b}[2J\u{202e}\n\\"), "\\u{1b}[2J\\u{202e}\\u{a}\\\\");
        assert_eq!(or_dash(""), "-");
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_out_is_printable(text: String) {
            let printable = |c: char| c.is_ascii_graphic() || c == ' ';
            proptest::prop_assert!(plain(&text).chars().all(printable));
            let mut out = Vec::new();
            json(&mut out, &serde_json::json!({"name": text})).expect("a Vec takes all");
            let written = String::from_utf8(out).expect("text");
            proptest::prop_assert!(written.chars().all(|c| printable(c) || c == '\n'));
            let back: Value = serde_json::from_str(&written).expect("JSON");
            proptest::prop_assert_eq!(back["name"].as_str(), Some(text.as_str()));
        }
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["A", "LONG"]);
        table.row(vec!["wide".into(), "x".into()]);
        let mut out = Vec::new();
        table.write(&mut out).expect("a Vec takes all");
        assert_eq!(String::from_utf8(out).expect("text"), "A     LONG\nwide  x\n");
    }
}
