//! Words that may not stand in the source, and why. `clippy.toml` bans the same by type where it can; this scan also
//! sees what is behind a `cfg` and what a macro hides.

use crate::blank::{code_only, product_lines};
use crate::workspace::{Problem, SourceFile};

/// Where a ban holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    /// Product code but for these files.
    ProductBut(&'static [&'static str]),
    /// Product code of the pool.
    Pool,
    /// All Rust.
    Everywhere,
}

/// One ban: the words as code, where, why, what instead.
struct Ban {
    words: &'static [&'static str],
    place: Where,
    rule: &'static str,
    fix: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        words: &["process::Command", "Command::new("],
        place: Where::ProductBut(&[]),
        rule: "the product runs no programs",
        fix: "use netlink, nf_tables or a library",
    },
    Ban {
        words: &["env::var", "env::set_var", "env::remove_var", "env::temp_dir", "env::home_dir"],
        place: Where::ProductBut(&["config/src/strings.rs", "cni-plugin/src/cni/env.rs"]),
        rule: "the environment is read in one place for each program",
        fix: "take it from podwire_config::Strings, or from cni/env.rs in the plugin",
    },
    Ban {
        words: &["HashMap", "HashSet", "RandomState"],
        place: Where::Pool,
        rule: "the pool is deterministic, and these are ordered by chance",
        fix: "use BTreeMap, BTreeSet or Vec",
    },
    Ban {
        words: &[
            "Instant",
            "SystemTime",
            "std::fs",
            "std::env",
            "std::thread",
            "std::process",
            "std::net::Tcp",
        ],
        place: Where::Pool,
        rule: "the pool touches nothing outside it",
        fix: "let it come in as an input or go out as an effect",
    },
    Ban {
        words: &["todo!", "unimplemented!", "dbg!"],
        place: Where::Everywhere,
        rule: "nothing is left for later unsaid",
        fix: "build it, or answer with an error that says what is missing",
    },
    Ban {
        words: &["#[ignore"],
        place: Where::Everywhere,
        rule: "no test is switched off",
        fix: "make it pass, or delete it with a reason in the commit",
    },
];

/// Where people keep their files, in halves so that this file does not hold them; beside these, where the workspace lies.
const HOMES: [(&str, &str); 3] = [("/ho", "me/"), ("/ro", "ot/"), ("/Us", "ers/")];

/// Banned words in code, and paths of one machine anywhere.
#[must_use]
pub fn check(files: &[SourceFile]) -> Vec<Problem> {
    let banned = files.iter().filter(|file| file.is_rust()).flat_map(in_code);
    banned.chain(files.iter().flat_map(machine_paths)).collect()
}

fn in_code(file: &SourceFile) -> Vec<Problem> {
    let blanked = code_only(&file.text);
    let product: Vec<(usize, &str)> =
        if file.is_product() { product_lines(&blanked).collect() } else { Vec::new() };
    let mut problems = Vec::new();
    for ban in BANS {
        let holds = match ban.place {
            Where::ProductBut(exempt) => !exempt.contains(&file.path.as_str()),
            Where::Pool => file.path.starts_with("ipamd/pool/"),
            Where::Everywhere => true,
        };
        if !holds {
            continue;
        }
        let every: Vec<(usize, &str)>;
        let lines = if ban.place == Where::Everywhere {
            every = blanked.lines().enumerate().map(|(index, line)| (index + 1, line)).collect();
            &every
        } else {
            &product
        };
        for (line, text) in lines {
            if let Some(word) = ban.words.iter().find(|word| stands_in(text, word)) {
                problems.push(problem(file, *line, format!("`{word}`: {}", ban.rule), ban.fix));
            }
        }
    }
    problems
}

/// Whether the word stands there, not as the end of a longer name.
fn stands_in(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|before| before.is_alphanumeric() || before == '_')
    })
}

fn machine_paths(file: &SourceFile) -> Vec<Problem> {
    let own = env!("CARGO_MANIFEST_DIR").strip_suffix("/tests/tidy").map(|root| format!("{root}/"));
    let paths: Vec<String> =
        HOMES.iter().map(|(first, second)| format!("{first}{second}")).chain(own).collect();
    let mut problems = Vec::new();
    for (index, text) in file.text.lines().enumerate() {
        for path in &paths {
            let begins = |at: usize| {
                !text[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || "-_./}".contains(c))
            };
            if text.match_indices(path.as_str()).any(|(at, _)| begins(at)) {
                let rule = format!("`{path}` is a path of one machine");
                problems.push(problem(
                    file,
                    index + 1,
                    rule,
                    "derive it from the workspace or the environment",
                ));
            }
        }
    }
    problems
}

fn problem(file: &SourceFile, line: usize, rule: String, fix: &str) -> Problem {
    Problem { path: file.path.clone(), line, rule, fix: fix.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<usize> {
        let file = SourceFile { path: path.to_owned(), text: text.to_owned() };
        check(&[file]).into_iter().map(|problem| problem.line).collect()
    }

    #[test]
    fn banned_words_are_found_in_code_alone() {
        for (path, text, lines) in [
            ("ipamd/src/main.rs", "a\nlet x = std::env::var(\"X\");", vec![2]),
            ("ipamd/src/main.rs", "// std::env::var\nlet x = \"std::env::var\";", vec![]),
            ("config/src/strings.rs", "std::env::var_os(name)", vec![]),
            ("config/src/reader.rs", "std::env::var_os(name)", vec![1]),
            ("tests/e2e/src/lib.rs", "std::env::var_os(name); Command::new(x)", vec![]),
            ("ipamd/src/x/tests.rs", "std::env::var_os(name)", vec![]),
            ("ipamd/src/x.rs", "#[cfg(test)]\nmod tests {\nstd::env::var(x)\n}", vec![]),
            ("ipamd/src/x.rs", "use std::process::Command;", vec![1]),
            ("ipamd/src/x.rs", "let a = MyCommand::new(x);", vec![]),
            ("ipamd/src/x.rs", "use std::collections::HashMap;", vec![]),
            ("ipamd/pool/src/x.rs", "use std::collections::HashMap;", vec![1]),
            ("ipamd/pool/src/x.rs", "std::time::Instant::now()", vec![1]),
            ("tests/sim/src/x.rs", "fn f() { todo!() }", vec![1]),
            ("tests/sim/src/tests.rs", "#[test]\n#[ignore = \"slow\"]\nfn f() {}", vec![2]),
        ] {
            assert_eq!(found(path, text), lines, "{path}: {text}");
        }
    }

    #[test]
    fn paths_of_one_machine_are_found_anywhere() {
        let (home, root) = (["/ho", "me/x"].concat(), ["/ro", "ot/.cargo"].concat());
        assert_eq!(found("README.md", &format!("see `{home}`")), [1]);
        assert_eq!(found("scripts/x", &format!("cd {root}")), [1]);
        assert_eq!(found("scripts/x", concat!("cd ", env!("CARGO_MANIFEST_DIR"))), [1]);
        assert_eq!(found("README.md", &format!("https://example.org{home} and a/b{root}")), [0usize; 0]);
    }
}
