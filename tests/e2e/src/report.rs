//! What people read: progress while it works, proofs as they are made, tables at the end.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::time::{Duration, Instant};

/// One claim and whether it held.
#[derive(Debug, Clone)]
pub struct Proof {
    /// What is claimed.
    pub claim: String,
    /// `Ok` with a detail, or what went wrong.
    pub outcome: Result<String, String>,
}

/// Collects proofs and tells progress.
#[derive(Debug)]
pub struct Report {
    began: Instant,
    proofs: Vec<Proof>,
    colour: bool,
}

impl Default for Report {
    fn default() -> Self {
        Self::new()
    }
}

impl Report {
    /// An empty report; the clock starts.
    #[must_use]
    pub fn new() -> Self {
        Self { began: Instant::now(), proofs: Vec::new(), colour: std::io::stdout().is_terminal() }
    }

    /// Tells what is being done.
    pub fn step(&self, text: &str) {
        say(&format!("[{:6.1} s] {text}", self.began.elapsed().as_secs_f64()));
    }

    /// Makes a proof, tells and keeps its outcome. Returns whether it held.
    pub fn prove(&mut self, claim: &str, proof: impl FnOnce() -> anyhow::Result<String>) -> bool {
        let outcome = proof().map_err(|error| format!("{error:#}"));
        let held = outcome.is_ok();
        let (word, detail) = match &outcome {
            Ok(detail) => (self.paint("PASS", 32), detail.clone()),
            Err(reason) => (self.paint("FAIL", 31), reason.clone()),
        };
        let dash = if detail.is_empty() { "" } else { " — " };
        self.step(&format!("{word} {claim}{dash}{detail}"));
        self.proofs.push(Proof { claim: claim.to_owned(), outcome });
        held
    }

    /// How many proofs held, and how many did not.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let held = self.proofs.iter().filter(|p| p.outcome.is_ok()).count();
        (held, self.proofs.len() - held)
    }

    /// The proofs, one line each, and the count.
    pub fn summary(&self) {
        say("");
        for proof in &self.proofs {
            match &proof.outcome {
                Ok(_) => say(&format!("  {} {}", self.paint("PASS", 32), proof.claim)),
                Err(reason) => say(&format!("  {} {}\n       {reason}", self.paint("FAIL", 31), proof.claim)),
            }
        }
        let (held, failed) = self.count();
        say(&format!("\n{held} passed, {failed} failed"));
    }

    fn paint(&self, word: &str, colour: u8) -> String {
        if self.colour { format!("\x1b[{colour}m{word}\x1b[0m") } else { word.to_owned() }
    }
}

/// A table: a header and rows, columns as wide as needed.
#[must_use]
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let header: Vec<String> = header.iter().map(|&h| h.to_owned()).collect();
    for row in std::iter::once(&header).chain(rows) {
        let line: Vec<String> =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        // Writing to a String cannot fail.
        writeln!(text, "  {}", line.join("  ").trim_end()).unwrap_or_default();
    }
    text
}

/// Milliseconds with one decimal.
#[must_use]
pub fn ms(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1000.0)
}

/// Prints a line at once. A closed standard output ends nothing: cleaning up comes first.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        eprintln!("{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_columns_line_up() {
        let text = table(
            &["pod", "address"],
            &[vec!["a-long-name".into(), "10.0.0.1".into()], vec!["b".into(), "10.0.0.2".into()]],
        );
        assert_eq!(text, "  pod          address\n  a-long-name  10.0.0.1\n  b            10.0.0.2\n");
    }

    #[test]
    fn failed_proof_is_counted_and_kept() {
        let mut report = Report::new();
        assert!(report.prove("true", || Ok(String::new())));
        assert!(!report.prove("false", || anyhow::bail!("why")));
        assert_eq!(report.count(), (1, 1));
    }
}
