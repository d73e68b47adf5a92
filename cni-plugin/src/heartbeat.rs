//! The daemon's sign of life, for the moments in which it does not answer.
//!
//! File: [`ALIVE_PATH`], written by `ipamd` every 5 s by writing a temporary file beside it and renaming it over. Content: the
//! decimal number of milliseconds of CLOCK_BOOTTIME at that moment, with or without a line end. A number from another boot
//! counts as none where it lies in the future; /run is empty after a boot on stock nodes.
//!
//! *Why*: a failing STATUS makes the node NotReady, and that withdraws the endpoints of healthy pods (cni-conformance
//! T-10). A daemon that was there within the grace period is being restarted, not gone.

use crate::clock;
use podwire_proto::ALIVE_PATH;
use std::fs;
use std::time::Duration;

/// Whether the last sign of life is at most this old.
#[must_use]
pub fn within(grace: Duration) -> bool {
    fs::read_to_string(ALIVE_PATH).is_ok_and(|text| is_fresh(&text, clock::boottime_ms(), grace))
}

fn is_fresh(text: &str, now_ms: u64, grace: Duration) -> bool {
    let Ok(beat) = text.trim().parse::<u64>() else { return false };
    now_ms.checked_sub(beat).is_some_and(|age| Duration::from_millis(age) <= grace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_within_grace_only() {
        let grace = Duration::from_secs(60);
        assert!(is_fresh("100000\n", 160_000, grace));
        assert!(!is_fresh("100000", 160_001, grace));
        assert!(!is_fresh("100000", 99_999, grace));
        for odd in ["", "x", "-1", "1e5"] {
            assert!(!is_fresh(odd, 160_000, grace), "{odd:?}");
        }
    }
}
