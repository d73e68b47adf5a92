//! Numbers that could have been others say where they come from.
//!
//! Asked of constants in product code that are spans of time, or counts whose name says that somebody chose them
//! (`…_MAX`, `BATCH`, `TRIES_…`). The comment above names a source or says "our choice"; one comment serves a run of
//! constants, and a module whose doc names a source needs no more. Files named `uapi.rs` are transcripts of kernel
//! headers: nobody chose what is in them.

use crate::blank::{code_only, product_lines};
use crate::workspace::{Problem, SourceFile};

/// Parts of names of numbers somebody chose.
const CHOSEN: [&str; 22] = [
    "MAX", "MIN", "MOST", "LEAST", "LIMIT", "CAP", "MS", "SECS", "TIMEOUT", "DEADLINE", "PATIENCE", "GRACE",
    "INTERVAL", "PERIOD", "COOLDOWN", "BACKOFF", "TRIES", "RETRIES", "ATTEMPTS", "BATCH", "RESERVE", "QUEUE",
];

/// Words, lower case, by which a comment cites.
const CITES: [&str; 5] = ["source", "our choice", "design ", "linux/", "rfc "];

/// Types of numbers.
const NUMBERS: [&str; 12] =
    ["u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "f32", "f64"];

/// Constants without a citation.
#[must_use]
pub fn check(files: &[SourceFile]) -> Vec<Problem> {
    files
        .iter()
        .filter(|file| file.is_product() && !file.path.ends_with("/uapi.rs"))
        .flat_map(in_file)
        .collect()
}

fn in_file(file: &SourceFile) -> Vec<Problem> {
    let lines: Vec<&str> = file.text.lines().collect();
    let module_doc = lines.iter().take_while(|line| line.starts_with("//!"));
    if module_doc.into_iter().any(|line| cites(line)) {
        return Vec::new();
    }
    let blanked = code_only(&file.text);
    product_lines(&blanked)
        .filter_map(|(line, text)| Some((line, chosen(text)?)))
        .filter(|(line, _)| !comment_above(&lines, line - 1).any(cites))
        .map(|(line, name)| Problem {
            path: file.path.clone(),
            line,
            rule: format!("{name} does not say where its value comes from"),
            fix: "add \"*Source*: …\" or \"our choice\" to the comment above it".to_owned(),
        })
        .collect()
}

/// The name, when the line declares a constant that is a number somebody chose.
fn chosen(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = line
        .strip_prefix("pub ")
        .or_else(|| line.split_once(") ").filter(|(v, _)| v.starts_with("pub(")).map(|(_, rest)| rest))
        .unwrap_or(line);
    let (name, rest) = line.strip_prefix("const ")?.split_once(": ")?;
    let kind = rest.split([' ', ';', '=']).next()?;
    // A value without a digit is computed from other constants, which answer for themselves.
    let literal = rest.split_once('=').is_none_or(|(_, value)| value.chars().any(|c| c.is_ascii_digit()));
    let named = || name.split('_').any(|part| CHOSEN.contains(&part));
    let asked = kind.ends_with("Duration") || (NUMBERS.contains(&kind) && named());
    (asked && literal).then_some(name)
}

/// The comment that speaks for a line: right above it, or above the run of constants it belongs to.
fn comment_above<'a>(lines: &'a [&'a str], index: usize) -> impl Iterator<Item = &'a str> {
    let speaks = |line: &&&str| {
        line.trim_start().starts_with("//") || line.contains("const ") || line.trim_start().starts_with("#[")
    };
    lines[..index].iter().rev().take_while(move |line| speaks(line)).copied()
}

fn cites(line: &str) -> bool {
    let line = line.to_lowercase();
    line.trim_start().starts_with("//") && CITES.iter().any(|word| line.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_numbers_without_a_citation_are_found() {
        for (text, lines) in [
            ("const QUEUE_MAX: usize = 4;", vec![1]),
            ("/// Long enough.\npub const WAIT: Duration = Duration::from_secs(1);", vec![2]),
            ("/// Long enough. Our choice.\npub const WAIT: Duration = Duration::from_secs(1);", vec![]),
            (
                "/// *Source*: tcp(7).\nconst A_MAX: u32 = 1;\nconst B_MAX: u32 = 2;\n\nconst C_MAX: u32 = 3;",
                vec![5],
            ),
            ("//! Numbers of design §7. Source: there.\n\nconst A_MAX: u32 = 1;", vec![]),
            (
                "const HEADER_LEN: usize = 4;\nconst NAME_MAX: &str = \"x\";\nconst ALL_MAX: usize = A + B;",
                vec![],
            ),
            ("pub(crate) const TRIES: u32 = 3;", vec![1]),
            ("#[cfg(test)]\nmod tests {\nconst TRIES: u32 = 3;\n}", vec![]),
        ] {
            let file = SourceFile { path: "ipamd/src/x.rs".to_owned(), text: text.to_owned() };
            let found: Vec<usize> = check(&[file]).into_iter().map(|problem| problem.line).collect();
            assert_eq!(found, lines, "{text}");
        }
    }
}
