//! How long things may take (design §7). Tests set them short. The plugin has the same defaults; the daemon writes the rest
//! into the conflist.

use std::time::Duration;

use crate::knob::{Kind, Knob};
use crate::reader::Reader;
use crate::settings::millis;

/// One millisecond to one hour: our choice; longer than any runtime waits.
const SPAN: Kind = Kind::Number { min: 1, max: 3_600_000, unit: "milliseconds" };

/// `PODWIRE_ADD_DEADLINE_MS`. *Source* of the default: our choice, design §7.
pub const PODWIRE_ADD_DEADLINE_MS: Knob =
    Knob::strict("PODWIRE_ADD_DEADLINE_MS", "75000", SPAN, "longest an ADD may take in all");
/// `PODWIRE_DEL_DEADLINE_MS`. *Source* of the default: our choice, design §7.
pub const PODWIRE_DEL_DEADLINE_MS: Knob =
    Knob::strict("PODWIRE_DEL_DEADLINE_MS", "20000", SPAN, "longest a DEL may take in all");
/// `PODWIRE_CONNECT_RETRY_MS`. *Source* of the default: our choice, design §7.
pub const PODWIRE_CONNECT_RETRY_MS: Knob = Knob::strict(
    "PODWIRE_CONNECT_RETRY_MS",
    "60000",
    SPAN,
    "how long the plugin goes on looking for a daemon that restarts",
);
/// `PODWIRE_STATUS_GRACE_MS`. *Source* of the default: our choice, design §7.
pub const PODWIRE_STATUS_GRACE_MS: Knob = Knob::strict(
    "PODWIRE_STATUS_GRACE_MS",
    "60000",
    SPAN,
    "how long STATUS stays good while the daemon restarts",
);

/// The knobs of this group.
pub const KNOBS: &[&Knob] = &[
    &PODWIRE_ADD_DEADLINE_MS,
    &PODWIRE_DEL_DEADLINE_MS,
    &PODWIRE_CONNECT_RETRY_MS,
    &PODWIRE_STATUS_GRACE_MS,
];

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// An ADD in all.
    pub add: Duration,
    /// A DEL in all.
    pub del: Duration,
    /// Looking for a daemon that restarts.
    pub connect_retry: Duration,
    /// STATUS stays good while the daemon restarts.
    pub status_grace: Duration,
}

impl Deadlines {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            add: millis(reader.count(&PODWIRE_ADD_DEADLINE_MS)),
            del: millis(reader.count(&PODWIRE_DEL_DEADLINE_MS)),
            connect_retry: millis(reader.count(&PODWIRE_CONNECT_RETRY_MS)),
            status_grace: millis(reader.count(&PODWIRE_STATUS_GRACE_MS)),
        }
    }
}
