//! What a file found at start is worth.

use std::path::Path;

use podwire_pool::{InstanceId, Record};

use super::{Opened, Recovered};
use crate::aside;
use crate::codec;
use crate::error::LedgerError;
use crate::frame::{self, BadHeader, Owner, Tail};

/// What was found.
pub(super) struct Found {
    pub(super) opened: Opened,
    /// Where the next frame goes and the checksum of the last one, when appending may go on.
    pub(super) good: Option<(u64, u32)>,
}

/// Decides about the bytes found, and keeps aside what cannot be used.
pub(super) fn judge(dir: &Path, path: &Path, bytes: &[u8], owner: &Owner) -> Result<Found, LedgerError> {
    let aside = || aside::keep_file(dir, path);
    let (found, chain, start) = match frame::read_header(bytes) {
        Ok(header) => header,
        Err(BadHeader::Newer(format)) => {
            return Ok(Found { opened: Opened::Newer { format, aside: aside()? }, good: None });
        }
        Err(BadHeader::Damaged(reason)) => {
            return Ok(Found {
                opened: Opened::Corrupt { reason: reason.into(), aside: aside()? },
                good: None,
            });
        }
    };
    if found.instance != owner.instance {
        let instance = InstanceId::new(found.instance);
        return Ok(Found { opened: Opened::Foreign { instance, aside: aside()? }, good: None });
    }
    let Scan { records, end, chain, tail } = scan(bytes, start, chain);
    let rest = match tail {
        Tail::Clean => None,
        Tail::Torn | Tail::Damaged => Some(aside::keep_bytes(dir, frame::trimmed(&bytes[end..]))?),
    };
    let recovered = Recovered {
        records,
        same_boot: found.boot == owner.boot,
        truncated_tail: tail == Tail::Torn,
        damaged: tail == Tail::Damaged,
        aside: rest,
    };
    let good = (recovered.same_boot && !recovered.damaged).then_some((end as u64, chain));
    Ok(Found { opened: Opened::Recovered(recovered), good })
}

/// The good frames of a file.
struct Scan {
    records: Vec<Record>,
    end: usize,
    chain: u32,
    tail: Tail,
}

fn scan(bytes: &[u8], start: usize, chain: u32) -> Scan {
    let mut scan = Scan { records: Vec::new(), end: start, chain, tail: Tail::Clean };
    while let Some((lines, chain, end)) = frame::read_frame(bytes, scan.end, scan.chain) {
        // A frame that checks out and cannot be read was written by another program under our format: not torn.
        let Ok(records) = codec::decode(lines) else {
            scan.tail = Tail::Damaged;
            return scan;
        };
        scan.records.extend(records);
        scan.chain = chain;
        scan.end = end;
    }
    scan.tail = frame::tail(bytes, scan.end);
    scan
}
