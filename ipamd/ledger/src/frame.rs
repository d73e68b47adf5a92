//! Frames: how bytes lie in the file. Pure; the file itself is `ledger`'s business.
//!
//! ```text
//! header  magic "podwire\n" · format u32 · length u32 · crc u32 · {"instance":…,"boot":…,…}
//! frame   length u32 · crc u32 · lines                      (numbers little-endian)
//! end     zeros, or the end of the file
//! ```
//! A frame's checksum covers the checksum before it, the length and the lines. *Why* chained: a frame left over from
//! an earlier, longer file can then never be taken for a successor.

use serde::{Deserialize, Serialize};

/// First bytes of every ledger of any format.
const MAGIC: [u8; 8] = *b"podwire\n";

/// Format written, and newest format read; all earlier ones are read too. 1: no history. 2: history, and more in the
/// header. 3: borrowed ENIs.
pub(crate) const FORMAT: u32 = 3;

/// Most bytes of lines in a frame. *Source*: our choice; a commit of 10,000 records, and a bound for a reader of junk.
pub(crate) const MAX_LINES: usize = 4 << 20;

/// Length and checksum.
const FRAME_HEAD: usize = 8;

/// Magic, format, length, checksum.
const HEADER_HEAD: usize = 20;

/// Whose ledger it is, and how to read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) instance: Box<str>,
    pub(crate) boot: Box<str>,
    /// How many frames the snapshot it began with takes; what follows them happened. Format 1 does not say.
    #[serde(default)]
    pub(crate) snapshot_frames: Option<u64>,
    /// How long a released address rested under the daemon that wrote this.
    #[serde(default)]
    pub(crate) cooldown_ms: Option<u64>,
    /// Which checkpoint, whoever wrote it, stood beside the ledger when this file was founded; it is contained.
    #[serde(default)]
    pub(crate) adopted: Option<Box<str>>,
    /// Which ledger this is of all the node had.
    #[serde(default)]
    pub(crate) lineage: Option<Box<str>>,
}

/// A header that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BadHeader {
    /// Written by a later version.
    Newer(u32),
    /// No header of ours.
    Damaged(&'static str),
}

/// What follows the last good frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Zeros or nothing.
    Clean,
    /// One frame that was never completed, then zeros or nothing: what a crash leaves.
    Torn,
    /// Something else: a frame that does not check out, with more behind it.
    Damaged,
}

/// A header's bytes and its checksum, the first of the chain.
pub(crate) fn header(header: &Header) -> (Vec<u8>, u32) {
    let body = serde_json::to_vec(header).expect("texts and numbers are always JSON");
    let length = u32::try_from(body.len()).expect("ids are short");
    let crc = checksum(FORMAT, length, &body);
    let mut bytes = MAGIC.to_vec();
    for number in [FORMAT, length, crc] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(body);
    (bytes, crc)
}

/// The header, the checksum that starts the chain, and where the first frame begins.
pub(crate) fn read_header(bytes: &[u8]) -> Result<(Header, u32, usize), BadHeader> {
    use BadHeader::Damaged;
    let rest = bytes.strip_prefix(&MAGIC).ok_or(Damaged("it does not begin like a ledger"))?;
    let format = number(rest, 0).ok_or(Damaged("it ends within its header"))?;
    if format > FORMAT {
        return Err(BadHeader::Newer(format));
    }
    let length = number(rest, 4).ok_or(Damaged("it ends within its header"))?;
    let crc = number(rest, 8).ok_or(Damaged("it ends within its header"))?;
    let end = usize::try_from(length).ok().and_then(|length| HEADER_HEAD.checked_add(length));
    let end = end.ok_or(Damaged("its header is too long"))?;
    let body = bytes.get(HEADER_HEAD..end).ok_or(Damaged("it ends within its header"))?;
    if checksum(format, length, body) != crc {
        return Err(Damaged("its header's checksum is wrong"));
    }
    let header = serde_json::from_slice(body).map_err(|_| Damaged("its header names no owner"))?;
    Ok((header, crc, end))
}

/// A frame's bytes and its checksum, the next of the chain. *Invariant*: at most [`MAX_LINES`] bytes of lines, not none.
pub(crate) fn frame(previous: u32, lines: &[u8]) -> (Vec<u8>, u32) {
    debug_assert!(!lines.is_empty() && lines.len() <= MAX_LINES, "checked by the caller");
    let length = u32::try_from(lines.len()).unwrap_or(u32::MAX);
    let crc = checksum(previous, length, lines);
    let mut bytes = Vec::with_capacity(FRAME_HEAD + lines.len());
    bytes.extend(length.to_le_bytes());
    bytes.extend(crc.to_le_bytes());
    bytes.extend(lines);
    (bytes, crc)
}

/// The lines of the frame at `start`, its checksum, and where the next one begins; `None`: no good frame there.
fn read_frame(bytes: &[u8], start: usize, previous: u32) -> Option<(&[u8], u32, usize)> {
    let (_, end) = extent(bytes, start)?;
    let length = number(bytes, start)?;
    let lines = bytes.get(start + FRAME_HEAD..end)?;
    let crc = number(bytes, start + 4)?;
    (checksum(previous, length, lines) == crc).then_some((lines, crc, end))
}

/// Every good frame from `start` on: its lines, its checksum and where it ends.
pub(crate) fn frames(bytes: &[u8], start: usize, chain: u32) -> impl Iterator<Item = (&[u8], u32, usize)> {
    let mut next = (start, chain);
    std::iter::from_fn(move || {
        let (lines, chain, end) = read_frame(bytes, next.0, next.1)?;
        next = (end, chain);
        Some((lines, chain, end))
    })
}

/// What lies at `start`, where no good frame begins.
///
/// *Why* so strict about "torn": taking a damaged durable frame for one that was never completed could give an address
/// twice. A torn frame is text that stops short of its length, within a line, with nothing behind it; lines hold no NUL
/// and every later frame's length does.
pub(crate) fn tail(bytes: &[u8], start: usize) -> Tail {
    let rest = trimmed(bytes.get(start..).unwrap_or_default());
    let lines = rest.get(FRAME_HEAD..).unwrap_or_default();
    if rest.is_empty() {
        Tail::Clean
    } else if lines.is_empty()
        || (stops_short(bytes, start, lines.len()) && !lines.contains(&0) && !lines.ends_with(b"\n"))
    {
        Tail::Torn
    } else {
        Tail::Damaged
    }
}

/// Without the zeros at the end. By blocks: nearly all of a ledger is reserve.
pub(crate) fn trimmed(bytes: &[u8]) -> &[u8] {
    const BLOCK: [u8; 4_096] = [0; 4_096];
    let mut used = bytes;
    while let Some((rest, _)) = used.split_last_chunk::<4_096>().filter(|(_, block)| **block == BLOCK) {
        used = rest;
    }
    let end = used.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    &used[..end]
}

fn stops_short(bytes: &[u8], start: usize, present: usize) -> bool {
    extent(bytes, start).is_some_and(|(size, _)| present < size)
}

/// The length a frame at `start` claims, and where it would end; `None`: no such length.
fn extent(bytes: &[u8], start: usize) -> Option<(usize, usize)> {
    let length = number(bytes, start)?;
    let size = usize::try_from(length).ok().filter(|size| (1..=MAX_LINES).contains(size))?;
    Some((size, start.checked_add(FRAME_HEAD)?.checked_add(size)?))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    four.try_into().ok().map(u32::from_le_bytes)
}

fn checksum(previous: u32, length: u32, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&previous.to_le_bytes());
    hasher.update(&length.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}
