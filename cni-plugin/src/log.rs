//! The plugin's log: one JSON line for each event, appended to a file. Never stdout.
//!
//! A log that cannot be written fails nothing: wiring a pod matters more than telling of it.

use crate::clock;
use crate::cni::env::{Invocation, Verb};
use crate::cni::netconf::NetConf;
use serde_json::{Map, Value};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

/// Size at which the file is set aside; one older file is kept. *Source*: incumbent-behaviour §2.8, 100 MB.
const SIZE_MAX: u64 = 100 << 20;

/// How important an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    /// *Source*: incumbent-behaviour §2.8; anything unknown logs as it does by default.
    fn from_name(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "info" => Self::Info,
            "warn" | "warning" => Self::Warn,
            "error" | "fatal" | "panic" => Self::Error,
            _ => Self::Debug,
        }
    }
}

/// Where lines go.
#[derive(Debug)]
enum Target {
    File(File),
    Stderr,
    Nowhere,
}

/// An open log with the fields every line of this invocation carries.
#[derive(Debug)]
pub(crate) struct Log {
    target: Target,
    threshold: Level,
    fields: Map<String, Value>,
}

impl Log {
    /// Opens the log the configuration names.
    pub(crate) fn open(conf: &NetConf, verb: Verb, invocation: &Invocation) -> Self {
        let mut fields = Map::new();
        let known = [
            ("op", verb.name()),
            ("sandbox", &invocation.container_id),
            ("ifname", &invocation.ifname),
            ("pod_namespace", &invocation.pod.namespace),
            ("pod_name", &invocation.pod.name),
        ];
        fields
            .extend(known.iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| ((*k).to_owned(), (*v).into())));
        Self { target: target(&conf.log_file), threshold: Level::from_name(&conf.log_level), fields }
    }

    /// What only a developer wants to know.
    pub(crate) fn debug(&mut self, message: &str, fields: &[(&str, &str)]) {
        self.line(Level::Debug, message, fields);
    }

    /// One line for each pod operation.
    pub(crate) fn info(&mut self, message: &str, fields: &[(&str, &str)]) {
        self.line(Level::Info, message, fields);
    }

    /// Degraded; heals itself.
    pub(crate) fn warn(&mut self, message: &str, fields: &[(&str, &str)]) {
        self.line(Level::Warn, message, fields);
    }

    /// The verb fails.
    pub(crate) fn error(&mut self, message: &str, fields: &[(&str, &str)]) {
        self.line(Level::Error, message, fields);
    }

    fn line(&mut self, level: Level, message: &str, fields: &[(&str, &str)]) {
        if level < self.threshold {
            return;
        }
        let mut object = Map::new();
        object.insert("level".into(), level.name().into());
        object.insert("ts".into(), clock::timestamp().into());
        object.insert("msg".into(), message.into());
        object.extend(self.fields.clone());
        object.extend(fields.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())));
        // One write, so that lines of plugins running at once do not mix.
        let line = format!("{}\n", Value::Object(object));
        let written = match &mut self.target {
            Target::File(file) => file.write_all(line.as_bytes()),
            Target::Stderr => io::stderr().lock().write_all(line.as_bytes()),
            Target::Nowhere => Ok(()),
        };
        if written.is_err() {
            self.target = Target::Nowhere;
        }
    }
}

fn target(path: &str) -> Target {
    match path {
        // stdout belongs to the result (P-02).
        "stderr" | "stdout" => Target::Stderr,
        _ => open(Path::new(path)).map_or(Target::Nowhere, Target::File),
    }
}

fn open(path: &Path) -> io::Result<File> {
    if fs::metadata(path).is_ok_and(|m| m.len() > SIZE_MAX) {
        let mut aside = path.as_os_str().to_owned();
        aside.push(".1");
        // Another plugin may just have done so.
        let _ = fs::rename(path, aside);
    }
    let options = || OpenOptions::new().create(true).append(true).open(path);
    options().or_else(|_| {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        options()
    })
}
