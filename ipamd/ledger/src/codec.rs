//! Records ↔ the text inside a frame: one line of JSON each, so that `strings ledger` shows a person what happened.
//!
//! A line that happened before the snapshot a file began with is kept as `{"past":…}`: for people, never replayed.

use podwire_pool::Record;

use crate::wire::Line;

/// How a line of the past begins.
const PAST: &[u8] = b"{\"past\":";

/// How the lines begin that tell of an address's life.
const EVENTS: [&[u8]; 5] =
    [b"{\"assigned\":", b"{\"unassigned\":", b"{\"allocated\":", b"{\"released\":", b"{\"eni_gone\":"];

/// What a frame holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Decoded {
    /// What is to be replayed.
    pub(crate) records: Vec<Record>,
    /// What happened earlier.
    pub(crate) past: Vec<Record>,
}

/// Whether somebody wants to know the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Past {
    /// Only what is to be replayed.
    Skip,
    /// Both.
    Read,
}

/// One line of JSON for each record, each ended by a newline.
pub(crate) fn encode(records: &[Record]) -> Vec<u8> {
    let mut text = Vec::new();
    for record in records {
        serde_json::to_writer(&mut text, &Line::from(record))
            .expect("a line has text keys only and a Vec takes every write");
        text.push(b'\n');
    }
    text
}

/// The records of a text; `Err` says why it is none of ours.
pub(crate) fn decode(text: &[u8], past: Past) -> Result<Decoded, String> {
    let mut decoded = Decoded::default();
    for line in lines(text)? {
        match line.strip_prefix(PAST).and_then(|line| line.strip_suffix(b"}")) {
            None => decoded.records.push(record(line)?),
            Some(line) if past == Past::Read => decoded.past.push(record(line)?),
            Some(_) => {}
        }
    }
    Ok(decoded)
}

/// The lines of a text that tell of addresses' lives, as lines of the past without their newline.
pub(crate) fn past_of(text: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let lines = lines(text).into_iter().flatten();
    lines.filter_map(|line| {
        if line.starts_with(PAST) {
            return Some(line.to_vec());
        }
        EVENTS.iter().any(|event| line.starts_with(event)).then(|| [PAST, line, b"}"].concat())
    })
}

fn lines(text: &[u8]) -> Result<impl Iterator<Item = &[u8]>, String> {
    let body = text.strip_suffix(b"\n").ok_or("the last line is not ended")?;
    Ok(body.split(|&byte| byte == b'\n'))
}

fn record(line: &[u8]) -> Result<Record, String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    Record::try_from(line).map_err(str::to_owned)
}
