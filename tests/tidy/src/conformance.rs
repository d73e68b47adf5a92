//! Every requirement of CNI 1.1 that podwire knows of has a test that says so in its doc comment, by its id.
//!
//! The list of requirements is not in the sources, only how many each section has: P process and input, V VERSION, A ADD,
//! D DEL, K CHECK, G GC, T STATUS, R result. Ids are never used again, so a number is enough.

use std::collections::{BTreeMap, BTreeSet};

use crate::workspace::{Problem, SourceFile};

/// Each section's letter and its last number. *Source*: the conformance list, at CNI SPEC 1.1.0.
const SECTIONS: [(char, u32); 8] =
    [('P', 21), ('V', 5), ('A', 13), ('D', 13), ('K', 11), ('G', 12), ('T', 10), ('R', 10)];

/// Requirements without a test, and ids in tests' docs that are none.
#[must_use]
pub fn check(files: &[SourceFile]) -> Vec<Problem> {
    let cited = cited(files);
    let known: BTreeSet<String> = SECTIONS
        .iter()
        .flat_map(|(letter, last)| (1..=*last).map(move |n| format!("{letter}-{n:02}")))
        .collect();
    let missing = known.iter().filter(|id| !cited.contains_key(*id)).map(|id| Problem {
        path: "tests/netns/tests/conformance.rs".to_owned(),
        line: 0,
        rule: format!("no test's doc comment names requirement {id}"),
        fix: "write the test, or name the id in the doc comment of the one that has it".to_owned(),
    });
    let unknown = cited.iter().filter(|(id, _)| !known.contains(*id)).map(|(id, (path, line))| Problem {
        path: path.clone(),
        line: *line,
        rule: format!("there is no requirement {id}"),
        fix: "correct the id, or the number of its section in tests/tidy/src/conformance.rs".to_owned(),
    });
    missing.chain(unknown).collect()
}

/// Ids in the doc comments of tests, each with one place.
fn cited(files: &[SourceFile]) -> BTreeMap<String, (String, usize)> {
    let mut cited = BTreeMap::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let mut above: Vec<(String, usize)> = Vec::new();
        for (index, line) in file.text.lines().map(str::trim_start).enumerate() {
            if let Some(doc) = line.strip_prefix("///") {
                above.extend(ids(doc).map(|id| (id, index + 1)));
            } else if line.starts_with("#[test]") {
                cited.extend(above.drain(..).map(|(id, line)| (id, (file.path.clone(), line))));
            } else if !line.starts_with("#[") {
                above.clear();
            }
        }
    }
    cited
}

/// `P-04`: a section's letter, a dash, two digits, and nothing that would make it another word.
fn ids(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    words.filter(|word| is_id(word)).map(str::to_owned)
}

fn is_id(word: &str) -> bool {
    let mut chars = word.chars();
    let section = chars.next().is_some_and(|c| SECTIONS.iter().any(|(letter, _)| *letter == c));
    section && chars.next() == Some('-') && word.len() == 4 && chars.all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let file = SourceFile { path: "tests/x.rs".to_owned(), text: text.to_owned() };
        cited(&[file]).into_keys().collect()
    }

    #[test]
    fn ids_count_in_the_docs_of_tests_only() {
        assert_eq!(found("/// P-01, V-02 (see D15): x-A-01.\n#[test]\nfn f() {}"), ["P-01", "V-02"]);
        assert_eq!(found("/// P-01.\n/// And G-12.\n#[allow(x)]\n#[test]\nfn f() {}"), ["G-12", "P-01"]);
        for not_a_test in
            ["/// P-01.\nfn f() {}\n#[test]\nfn g() {}", "// P-01\n#[test]", "//! P-01\n#[test]"]
        {
            assert_eq!(found(not_a_test), Vec::<String>::new(), "{not_a_test}");
        }
    }

    #[test]
    fn a_missing_and_an_unknown_id_are_told() {
        let file = |text: &str| SourceFile { path: "tests/x.rs".to_owned(), text: text.to_owned() };
        let all: String = SECTIONS
            .iter()
            .flat_map(|(letter, last)| (1..=*last).map(move |n| format!("/// {letter}-{n:02}\n")))
            .collect();
        let whole = format!("{all}#[test]\n");
        assert_eq!(check(&[file(&whole)]), []);
        let rules =
            |text: &str| -> Vec<String> { check(&[file(text)]).into_iter().map(|p| p.rule).collect() };
        assert_eq!(rules(&whole.replace("/// K-07\n", "")), ["no test's doc comment names requirement K-07"]);
        assert_eq!(rules(&whole.replace("/// K-07\n", "/// K-07 K-12\n")), ["there is no requirement K-12"]);
    }
}
