//! Logs.

use std::path::PathBuf;

use crate::finding::MistakeKind;
use crate::knob::{Kind, Knob};
use crate::reader::Reader;

const LEVEL: Kind = Kind::Word { words: &["debug", "info", "warn", "error", "fatal"], any_case: true };

/// `AWS_VPC_K8S_CNI_LOGLEVEL`.
pub const LOG_LEVEL: Knob =
    Knob::lenient("AWS_VPC_K8S_CNI_LOGLEVEL", "debug", LEVEL, "least level the daemon logs");
/// `AWS_VPC_K8S_CNI_LOG_FILE`.
pub const LOG_FILE: Knob = Knob::lenient(
    "AWS_VPC_K8S_CNI_LOG_FILE",
    "/host/var/log/aws-routed-eni/ipamd.log",
    Kind::Text,
    "where the daemon logs: stdout, stderr or a file",
);
/// `AWS_VPC_K8S_PLUGIN_LOG_LEVEL`.
pub const PLUGIN_LOG_LEVEL: Knob =
    Knob::lenient("AWS_VPC_K8S_PLUGIN_LOG_LEVEL", "debug", LEVEL, "least level the plugin logs");
/// `AWS_VPC_K8S_PLUGIN_LOG_FILE`.
pub const PLUGIN_LOG_FILE: Knob = Knob::exiting(
    "AWS_VPC_K8S_PLUGIN_LOG_FILE",
    "/var/log/aws-routed-eni/plugin.log",
    Kind::Text,
    "where the plugin logs: stderr (also when empty) or a file; never stdout, which carries its result",
);

/// The knobs of this group.
pub const KNOBS: &[&Knob] = &[&LOG_LEVEL, &LOG_FILE, &PLUGIN_LOG_LEVEL, &PLUGIN_LOG_FILE];

/// Least level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// Everything but the wire.
    Debug,
    /// One line for each pod operation.
    Info,
    /// What is degraded.
    Warn,
    /// What someone must act on.
    Error,
    /// Only what ends the program.
    Fatal,
}

impl LogLevel {
    /// The incumbent's word, lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }
}

/// Where logs go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogTarget {
    /// Standard output; never for the plugin.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file.
    File(PathBuf),
}

impl LogTarget {
    /// The word or path as the incumbent writes it, for the conflist.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Self::Stdout => "stdout".to_owned(),
            Self::Stderr => "stderr".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

/// Logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observe {
    /// Least level the daemon logs.
    pub log_level: LogLevel,
    /// Where the daemon logs.
    pub log: LogTarget,
    /// Least level the plugin logs.
    pub plugin_log_level: LogLevel,
    /// Where the plugin logs; never stdout.
    pub plugin_log: LogTarget,
}

impl Observe {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            log_level: level(reader, &LOG_LEVEL),
            log: target(reader, &LOG_FILE),
            plugin_log_level: level(reader, &PLUGIN_LOG_LEVEL),
            plugin_log: plugin_log(reader),
        }
    }
}

fn level(reader: &mut Reader<'_>, knob: &Knob) -> LogLevel {
    match reader.word(knob) {
        "info" => LogLevel::Info,
        "warn" => LogLevel::Warn,
        "error" => LogLevel::Error,
        "fatal" => LogLevel::Fatal,
        _ => LogLevel::Debug,
    }
}

fn target(reader: &mut Reader<'_>, knob: &Knob) -> LogTarget {
    match reader.text(knob).unwrap_or_default().as_str() {
        "stdout" => LogTarget::Stdout,
        "stderr" => LogTarget::Stderr,
        path => LogTarget::File(path.into()),
    }
}

/// Unlike the daemon's, an empty text means stderr here (incumbent-behaviour §1.2).
fn plugin_log(reader: &mut Reader<'_>) -> LogTarget {
    if reader.raw(&PLUGIN_LOG_FILE).is_some_and(|text| text.is_empty()) {
        return LogTarget::Stderr;
    }
    let target = target(reader, &PLUGIN_LOG_FILE);
    if target == LogTarget::Stdout {
        reader.refuse(
            MistakeKind::Invalid,
            &PLUGIN_LOG_FILE,
            "stdout carries the plugin's result".to_owned(),
            "use stderr or a file",
        );
    }
    target
}
