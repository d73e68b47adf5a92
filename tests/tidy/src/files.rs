//! Rules about files as such: which must be there, how long they may be, what every manifest says.

use std::path::Path;

use crate::workspace::{Problem, SourceFile};

/// Lines of a Rust file at most. *Source*: our choice; about 400 is the aim.
const LINES_MAX: usize = 450;

/// What a stranger looks for first.
const REQUIRED: [&str; 10] = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "LICENSE",
    "Cargo.lock",
    "clippy.toml",
    "deny.toml",
    "rustfmt.toml",
    "scripts/lib.sh",
    "tests/tidy/Cargo.toml",
];

/// What a stranger runs.
const EXECUTABLE: [&str; 9] = [
    ".ci/run",
    "scripts/bench",
    "scripts/build",
    "scripts/demo",
    "scripts/fuzz",
    "scripts/kernel-matrix",
    "scripts/mutants",
    "scripts/sim",
    "scripts/test",
];

/// Files that must be there, and be executable where they are programs.
#[must_use]
pub fn required(root: &Path) -> Vec<Problem> {
    use std::os::unix::fs::PermissionsExt;
    let missing = |path: &str, rule: &str, fix: &str| Problem {
        path: path.to_owned(),
        line: 0,
        rule: rule.to_owned(),
        fix: fix.to_owned(),
    };
    let mut problems = Vec::new();
    for path in REQUIRED.iter().chain(&EXECUTABLE) {
        match root.join(path).metadata() {
            Err(_) => problems.push(missing(path, "this file must be there", "write it")),
            Ok(found) if EXECUTABLE.contains(path) && found.permissions().mode() & 0o111 != 0o111 => {
                problems.push(missing(path, "this file must be executable", "chmod +x it"));
            }
            Ok(_) => {}
        }
    }
    problems
}

/// Every package's manifest inherits the workspace's lints and is not published.
#[must_use]
pub fn manifests(files: &[SourceFile]) -> Vec<Problem> {
    const LINES: [(&str, &str); 4] = [
        ("[lints]\nworkspace = true", "the workspace's lints hold everywhere"),
        ("license.workspace = true", "every package carries the licence"),
        ("publish.workspace = true", "no package is published by accident"),
        ("rust-version.workspace = true", "every package names the oldest Rust it builds with"),
    ];
    let mut problems = Vec::new();
    for file in
        files.iter().filter(|file| file.path.ends_with("/Cargo.toml") && file.text.contains("[package]"))
    {
        for (wanted, rule) in LINES.iter().filter(|(wanted, _)| !file.text.contains(wanted)) {
            problems.push(Problem {
                path: file.path.clone(),
                line: 0,
                rule: (*rule).to_owned(),
                fix: format!("add {wanted:?}"),
            });
        }
    }
    problems
}

/// Long files, longest first, and files named `mod.rs`.
#[must_use]
pub fn sizes(files: &[SourceFile]) -> Vec<Problem> {
    let mut long: Vec<(usize, &SourceFile)> = files
        .iter()
        .filter(|file| file.is_rust())
        .map(|file| (file.text.lines().count(), file))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .collect();
    long.sort_by_key(|(lines, _)| std::cmp::Reverse(*lines));
    let long = long.into_iter().map(|(lines, file)| Problem {
        path: file.path.clone(),
        line: 0,
        rule: format!("{lines} lines, {LINES_MAX} are the most"),
        fix: "split it so that each file has one reason to change".to_owned(),
    });
    let named = files.iter().filter(|file| file.path.ends_with("/mod.rs")).map(|file| Problem {
        path: file.path.clone(),
        line: 0,
        rule: "no file is called mod.rs".to_owned(),
        fix: "call it after its module, beside the directory".to_owned(),
    });
    long.chain(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn long_files_and_mod_files_are_found_longest_first() {
        let files = [
            file("a.rs", &"x\n".repeat(LINES_MAX)),
            file("b.rs", &"x\n".repeat(LINES_MAX + 1)),
            file("c.rs", &"x\n".repeat(LINES_MAX + 2)),
            file("d.md", &"x\n".repeat(LINES_MAX + 1)),
            file("e/mod.rs", ""),
        ];
        let paths: Vec<String> = sizes(&files).into_iter().map(|problem| problem.path).collect();
        assert_eq!(paths, ["c.rs", "b.rs", "e/mod.rs"]);
    }

    #[test]
    fn missing_files_are_found() {
        let nowhere = Path::new("/nonexistent");
        assert_eq!(required(nowhere).len(), REQUIRED.len() + EXECUTABLE.len());
    }

    #[test]
    fn manifests_without_the_shared_lines_are_found() {
        let full = "[package]\nlicense.workspace = true\npublish.workspace = true\n\
                    rust-version.workspace = true\n[lints]\nworkspace = true\n";
        assert_eq!(manifests(&[file("a/Cargo.toml", full)]), []);
        assert_eq!(manifests(&[file("a/Cargo.toml", "[package]\n")]).len(), 4);
        assert_eq!(manifests(&[file("Cargo.toml", "[workspace]\n")]), []);
    }
}
