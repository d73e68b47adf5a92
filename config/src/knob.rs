//! A knob: everything there is to say about one setting, as data.

/// One environment variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Knob {
    /// Name of the variable.
    pub name: &'static str,
    /// Value when it is not set, written as it would be in the environment; empty for none.
    pub default: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What happens to a value it does not take.
    pub on_mistake: OnMistake,
    /// What it does.
    pub doc: &'static str,
}

/// What a knob takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `1 t T TRUE true True 0 f F FALSE false False`, nothing else. *Source*: Go strconv.ParseBool.
    Flag,
    /// A decimal number with optional sign. *Source*: Go strconv.Atoi.
    Number {
        /// Least.
        min: i64,
        /// Most.
        max: i64,
        /// Unit.
        unit: &'static str,
    },
    /// One of these words.
    Word {
        /// The words.
        words: &'static [&'static str],
        /// Upper case is taken too.
        any_case: bool,
    },
    /// Anything; empty counts as not set.
    Text,
    /// An absolute path; empty counts as not set.
    Path,
    /// IPv4 CIDRs joined by commas; wrong ones are left out one by one.
    Cidrs,
    /// A JSON object of texts.
    Tags,
}

/// What happens to a value a knob does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMistake {
    /// The default is used, with a finding.
    Default,
    /// The daemon exits with 1, as the incumbent does.
    Exit,
    /// All such mistakes are listed and the daemon exits with 2. Set-but-empty counts as not set.
    Strict,
}

impl Knob {
    /// A variable of the incumbent whose mistakes become the default.
    #[must_use]
    pub const fn lenient(name: &'static str, default: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { name, default, kind, on_mistake: OnMistake::Default, doc }
    }

    /// A variable of the incumbent whose mistakes make it exit with 1.
    #[must_use]
    pub const fn exiting(name: &'static str, default: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { name, default, kind, on_mistake: OnMistake::Exit, doc }
    }

    /// A variable of podwire.
    #[must_use]
    pub const fn strict(name: &'static str, default: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { name, default, kind, on_mistake: OnMistake::Strict, doc }
    }
}
