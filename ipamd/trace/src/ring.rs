//! The ring: the latest inputs, as text already, and the state they began with.

use std::fmt::Write as _;

use podwire_pool::text::Text;
use podwire_pool::{Effect, Input, Pool, Time};

use crate::digest::digest;
use crate::{MAGIC, VERSION};

/// How much a ring keeps. Each half keeps so much; at least one half is always there in full, once it has been filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Text of each half. One input may go beyond it.
    pub bytes: usize,
    /// Inputs of each half.
    pub inputs: usize,
}

impl Default for Bounds {
    /// *Source*: our choice; with about 200 bytes for an input, several hundred lives of pods. Beside the text, each half
    /// keeps one copy of the pool, half a MiB with 700 pods.
    fn default() -> Self {
        Self { bytes: 1 << 20, inputs: 8_192 }
    }
}

/// One half: the state it began with and what came after.
#[derive(Debug, Clone)]
struct Half {
    start: Pool,
    lines: String,
    inputs: usize,
}

impl Half {
    fn of(pool: &Pool) -> Self {
        Self { start: pool.clone(), lines: String::new(), inputs: 0 }
    }
}

/// Keeps what happened lately.
#[derive(Debug, Clone)]
pub struct Ring {
    bounds: Bounds,
    older: Option<Half>,
    newer: Option<Half>,
}

/// What a ring held at some moment.
#[derive(Debug, Clone)]
pub struct Recording {
    start: Pool,
    lines: String,
    /// The state at the end; nobody knows it after a panic.
    end: Option<u64>,
}

impl Ring {
    /// An empty one.
    #[must_use]
    pub const fn new(bounds: Bounds) -> Self {
        Self { bounds, older: None, newer: None }
    }

    /// To be called before each [`Pool::handle`], with the pool as it is before it.
    pub fn before(&mut self, pool: &Pool, now: Time, input: &Input) {
        if self.newer.as_ref().is_some_and(|half| self.full(half)) {
            self.older = self.newer.take();
        }
        let half = self.newer.get_or_insert_with(|| Half::of(pool));
        half.inputs += 1;
        half.lines.push_str("at ");
        now.write(&mut half.lines);
        half.lines.push(' ');
        input.write(&mut half.lines);
        half.lines.push('\n');
    }

    /// To be called after it, with the effects it had.
    pub fn after(&mut self, effects: &[Effect]) {
        if let Some(half) = &mut self.newer {
            // Writing to a String cannot fail.
            let _: Result<(), std::fmt::Error> =
                writeln!(half.lines, "did {} {:016x}", effects.len(), digest(effects));
        }
    }

    fn full(&self, half: &Half) -> bool {
        half.lines.len() >= self.bounds.bytes || half.inputs >= self.bounds.inputs
    }

    /// What it holds now; `pool` as it is now, where it can still be believed. `None` before the first input.
    #[must_use]
    pub fn recording(&self, pool: Option<&Pool>) -> Option<Recording> {
        let newer = self.newer.as_ref()?;
        let first = self.older.as_ref().unwrap_or(newer);
        let mut lines = String::with_capacity(first.lines.len() + newer.lines.len());
        if let Some(older) = &self.older {
            lines.push_str(&older.lines);
        }
        lines.push_str(&newer.lines);
        Some(Recording { start: first.start.clone(), lines, end: pool.map(digest) })
    }

    /// How much it keeps.
    #[must_use]
    pub const fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Inputs it holds.
    #[must_use]
    pub fn inputs(&self) -> usize {
        [&self.older, &self.newer].into_iter().flatten().map(|half| half.inputs).sum()
    }

    /// Bytes of text it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        [&self.older, &self.newer].into_iter().flatten().map(|half| half.lines.len()).sum()
    }
}

impl Recording {
    /// The whole trace as text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{MAGIC} {VERSION}\npool ");
        self.start.write(&mut text);
        text.push('\n');
        text.push_str(&self.lines);
        if let Some(end) = self.end {
            let _: Result<(), std::fmt::Error> = writeln!(text, "end {end:016x}");
        }
        text
    }
}
