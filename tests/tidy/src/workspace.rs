//! What is checked: the workspace's packages and text files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// A rule that is broken somewhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where, from the workspace's root.
    pub path: String,
    /// Line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// Which rule.
    pub rule: String,
    /// What to do.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {}; {}", self.rule, self.fix)
    }
}

/// One package of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its directory, from the workspace's root.
    pub dir: String,
    /// Names of its dependencies, development ones left out.
    pub dependencies: BTreeSet<String>,
}

/// One text file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// From the workspace's root, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
}

impl SourceFile {
    /// Rust.
    #[must_use]
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Rust that is built into what users run: not under `tests/`, not a `tests.rs`, not in a `tests` directory, and
    /// not a build script, which cargo talks to by environment.
    #[must_use]
    pub fn is_product(&self) -> bool {
        self.is_rust()
            && !self.path.split('/').any(|part| matches!(part, "tests" | "tests.rs" | "benches" | "build.rs"))
    }
}

/// The workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// Its root.
    pub root: PathBuf,
    /// Its packages.
    pub packages: Vec<Package>,
    /// Its text files, by path.
    pub files: Vec<SourceFile>,
}

impl Workspace {
    /// Reads the workspace that this crate was built from.
    ///
    /// # Errors
    /// Cargo or the file system refuses.
    pub fn here() -> Result<Self, Box<dyn std::error::Error>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
        let metadata = MetadataCommand::new().manifest_path(root.join("Cargo.toml")).no_deps().exec()?;
        let packages = metadata
            .packages
            .iter()
            .map(|package| Package {
                name: package.name.to_string(),
                dir: package
                    .manifest_path
                    .parent()
                    .and_then(|dir| dir.as_std_path().strip_prefix(&root).ok())
                    .map(|dir| dir.display().to_string())
                    .unwrap_or_default(),
                dependencies: package
                    .dependencies
                    .iter()
                    .filter(|dependency| dependency.kind != DependencyKind::Development)
                    .map(|dependency| dependency.name.clone())
                    .collect(),
            })
            .collect();
        let mut files = Vec::new();
        collect(&root, &root, &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { root, packages, files })
    }
}

/// Files and directories that hold nothing of ours. (In a second working tree `.git` is a file.)
const SKIPPED: [&str; 3] = ["target", ".git", "node_modules"];

/// Longer files are data, not text that people write. *Unit* bytes. *Source*: our choice.
const TEXT_MAX: u64 = 1 << 20;

fn collect(root: &Path, dir: &Path, files: &mut Vec<SourceFile>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let kind = entry.file_type()?;
        if SKIPPED.iter().any(|skipped| name == *skipped) || entry.path().join("CACHEDIR.TAG").exists() {
            continue;
        }
        if kind.is_dir() {
            collect(root, &entry.path(), files)?;
        } else if kind.is_file() && entry.metadata()?.len() <= TEXT_MAX {
            // What is no UTF-8 is no text.
            let Ok(text) = String::from_utf8(fs::read(entry.path())?) else { continue };
            let path = entry.path();
            let path = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            files.push(SourceFile { path, text });
        }
    }
    Ok(())
}
