//! What parsing has to say to people: findings (the daemon goes on) and mistakes (it does not start).

use std::fmt;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Something does not do what its setting suggests.
    Warn,
    /// A value was not understood and its default is used instead.
    Error,
}

/// Something about the settings that people should know; the daemon works nevertheless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// The variable it is about.
    pub variable: &'static str,
    /// What is the matter.
    pub what: String,
    /// What to do.
    pub fix: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.variable, self.what, self.fix)
    }
}

/// Why a mistake stops the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MistakeKind {
    /// The incumbent exits with 1 on this too.
    Invalid,
    /// A `PODWIRE_*` variable is wrong.
    Podwire,
    /// Asked for, not supported, and not to be ignored quietly (design D24).
    Refused,
}

/// Something about the settings with which the daemon must not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Why it stops the daemon.
    pub kind: MistakeKind,
    /// The variable it is about.
    pub variable: String,
    /// What is the matter.
    pub what: String,
    /// What to do.
    pub fix: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.kind {
            MistakeKind::Invalid | MistakeKind::Podwire => "",
            MistakeKind::Refused => "refused: ",
        };
        write!(f, "{}: {word}{}; {}", self.variable, self.what, self.fix)
    }
}

/// All mistakes of one set of settings, with the findings made on the way. *Invariant*: at least one mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes {
    /// What stops the daemon.
    pub mistakes: Vec<Mistake>,
    /// What else was found.
    pub findings: Vec<Finding>,
}

impl Mistakes {
    /// The exit code: 1 where the incumbent exits with 1, else 2.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.mistakes.iter().all(|m| m.kind == MistakeKind::Invalid) { 1 } else { 2 }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot start with these settings:")?;
        for mistake in &self.mistakes {
            write!(f, "\n  {mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}
