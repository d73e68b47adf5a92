//! What a file found at start is worth.

use podwire_pool::{InstanceId, Record};

use super::{NAME, Opened, Recovered};
use crate::aside::{Aside, Shelf};
use crate::codec::{self, Past};
use crate::frame::{self, BadHeader, Header, Tail};

/// What was found.
pub(super) struct Found {
    pub(super) opened: Opened,
    /// Where the next frame goes and the checksum of the last one, when appending may go on.
    pub(super) good: Option<(u64, u32)>,
}

impl Found {
    /// Whether what was found has to be kept before anything may take its place.
    pub(super) fn is_unkept(&self) -> bool {
        let aside = match &self.opened {
            Opened::Fresh => None,
            Opened::Recovered(found) => found.aside.as_ref(),
            Opened::Foreign { aside, .. } | Opened::Newer { aside, .. } | Opened::Corrupt { aside, .. } => {
                Some(aside)
            }
        };
        aside.is_some_and(Aside::is_in_place)
    }
}

/// Decides about the bytes found, and keeps aside what cannot be used. A disk that takes no copy of it is no reason not to
/// start: what a crash left unfinished was never durable, and everything else stays where it is until it is kept.
pub(super) fn judge(shelf: Shelf<'_>, bytes: &[u8], own: &Header) -> Found {
    let aside = || shelf.keep_file(NAME).unwrap_or_else(|_| shelf.in_place(NAME));
    let (found, chain, start) = match frame::read_header(bytes) {
        Ok(header) => header,
        Err(BadHeader::Newer(format)) => {
            return Found { opened: Opened::Newer { format, aside: aside() }, good: None };
        }
        Err(BadHeader::Damaged(reason)) => {
            return Found { opened: Opened::Corrupt { reason: reason.into(), aside: aside() }, good: None };
        }
    };
    if found.instance != own.instance {
        let instance = InstanceId::new(found.instance);
        return Found { opened: Opened::Foreign { instance, aside: aside() }, good: None };
    }
    let Scan { records, end, chain, tail, .. } = scan(bytes, start, chain, Past::Skip);
    let rest = || shelf.keep_bytes(frame::trimmed(&bytes[end..]));
    let rest = match tail {
        Tail::Clean => None,
        Tail::Torn => rest().ok(),
        // A second name needs no room for bytes.
        Tail::Damaged => Some(rest().unwrap_or_else(|_| aside())),
    };
    let recovered = Recovered {
        records,
        same_boot: found.boot == own.boot,
        adopted: found.adopted.filter(|_| found.boot == own.boot),
        lineage: found.lineage,
        truncated_tail: tail == Tail::Torn,
        damaged: tail == Tail::Damaged,
        aside: rest,
    };
    let good = (recovered.same_boot && !recovered.damaged).then_some((end as u64, chain));
    Found { opened: Opened::Recovered(recovered), good }
}

/// The good frames of a file.
pub(crate) struct Scan {
    /// What is to be replayed.
    pub(crate) records: Vec<Record>,
    /// What happened before the file began, where asked for.
    pub(crate) past: Vec<Record>,
    /// How many of `records` each frame held.
    pub(crate) counts: Vec<usize>,
    /// Where the good frames end.
    pub(crate) end: usize,
    /// The last one's checksum.
    pub(crate) chain: u32,
    /// What follows them.
    pub(crate) tail: Tail,
}

/// Reads frames for as long as they are good.
pub(crate) fn scan(bytes: &[u8], start: usize, chain: u32, past: Past) -> Scan {
    let (records, counts) = (Vec::new(), Vec::new());
    let mut scan = Scan { records, past: Vec::new(), counts, end: start, chain, tail: Tail::Clean };
    for (lines, chain, end) in frame::frames(bytes, start, chain) {
        // A frame that checks out and cannot be read was written by another program under our format: not torn.
        let Ok(decoded) = codec::decode(lines, past) else {
            scan.tail = Tail::Damaged;
            return scan;
        };
        scan.counts.push(decoded.records.len());
        scan.records.extend(decoded.records);
        scan.past.extend(decoded.past);
        scan.chain = chain;
        scan.end = end;
    }
    scan.tail = frame::tail(bytes, scan.end);
    scan
}
