//! From text to a trace. Total: any text is a trace or is refused with the number of a line.

use podwire_pool::text::{self, Reader, Text, Unreadable};
use podwire_pool::{Input, Pool, Time};

use crate::{MAGIC, VERSION};

/// A trace, ready to be played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The pool before the first input.
    pub start: Pool,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// Digest of the state that was left.
    pub end: Option<u64>,
}

/// One input and what followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its line in the text, from 1.
    pub line: usize,
    /// When.
    pub at: Time,
    /// What.
    pub input: Input,
    /// How many effects it had and their digest; `None` when it ended in a panic.
    pub did: Option<(usize, u64)>,
}

/// A text that is no trace of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// It does not begin as one.
    #[error("line 1: not a podwire trace: it does not begin with \"podwire-trace\" and a version")]
    NotATrace,
    /// Another version of the lines.
    #[error(
        "line 1: trace of version {found}, this release reads version {VERSION}; use the release that wrote it"
    )]
    Version {
        /// Its version.
        found: u32,
    },
    /// A line that says something else than it should.
    #[error("line {line}: expected {wanted}; the trace is damaged or of another release")]
    Line {
        /// Which, from 1.
        line: usize,
        /// What should stand there.
        wanted: &'static str,
    },
    /// A line whose value cannot be read.
    #[error("line {line}: cannot be read; the trace is damaged or of another release")]
    Value {
        /// Which, from 1.
        line: usize,
        /// Where in the value, and what should stand there.
        #[source]
        source: Unreadable,
    },
}

impl Trace {
    /// Reads a trace. The state it begins with is not judged: a trace of an outage may begin when the damage was done.
    ///
    /// # Errors
    /// The text is none; the error names the line.
    pub fn parse(text: &str) -> Result<Self, TraceError> {
        let mut lines = text.lines().enumerate().map(|(n, line)| (n + 1, line));
        let version = lines.next().and_then(|(_, first)| first.strip_prefix(MAGIC));
        let found = version.and_then(|v| v.trim().parse().ok()).ok_or(TraceError::NotATrace)?;
        if found != VERSION {
            return Err(TraceError::Version { found });
        }
        let Some(state) = lines.next().and_then(|(_, second)| second.strip_prefix("pool ")) else {
            return Err(TraceError::Line { line: 2, wanted: "`pool` and its state" });
        };
        let start: Pool = text::read(state).map_err(|source| TraceError::Value { line: 2, source })?;
        let mut trace = Self { start, events: Vec::new(), end: None };
        for (line, text) in lines {
            trace.take(line, text)?;
        }
        Ok(trace)
    }

    fn take(&mut self, line: usize, text: &str) -> Result<(), TraceError> {
        if self.end.is_some() {
            return Err(TraceError::Line { line, wanted: "nothing after `end`" });
        }
        let open = self.events.last_mut().filter(|event| event.did.is_none());
        if let Some(input) = text.strip_prefix("at ") {
            if open.is_some() {
                return Err(TraceError::Line { line, wanted: "`did` and the effects of the input before" });
            }
            let (at, input) = event(input).map_err(|source| TraceError::Value { line, source })?;
            self.events.push(Event { line, at, input, did: None });
        } else if let Some(effects) = text.strip_prefix("did ") {
            let wanted = "`at` and an input, or `did`, a number and a digest after one";
            let event = open.ok_or(TraceError::Line { line, wanted })?;
            let (count, digest) = effects.split_once(' ').ok_or(TraceError::Line { line, wanted })?;
            let read = count.parse().ok().zip(hex(digest));
            event.did = Some(read.ok_or(TraceError::Line { line, wanted })?);
        } else if let Some(state) = text.strip_prefix("end ") {
            let wanted = "`end` and a digest";
            self.end = Some(hex(state).ok_or(TraceError::Line { line, wanted })?);
        } else {
            return Err(TraceError::Line { line, wanted: "`at`, `did` or `end`" });
        }
        Ok(())
    }
}

fn event(text: &str) -> Result<(Time, Input), Unreadable> {
    let mut from = Reader::new(text);
    let event = (Time::read(&mut from)?, Input::read(&mut from)?);
    from.end()?;
    Ok(event)
}

fn hex(text: &str) -> Option<u64> {
    let plain = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    u64::from_str_radix(text, 16).ok().filter(|_| plain)
}
