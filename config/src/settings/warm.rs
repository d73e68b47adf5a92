//! How many addresses are kept ready (incumbent-behaviour §5.3, design D7).

use crate::finding::MistakeKind;
use crate::knob::{Kind, Knob};
use crate::reader::Reader;
use crate::settings::eni;

const COUNT: Kind = Kind::Number { min: 0, max: i64::MAX, unit: "" };

/// `WARM_ENI_TARGET`.
pub const WARM_ENI_TARGET: Knob = Knob::lenient(
    "WARM_ENI_TARGET",
    "1",
    COUNT,
    "ENIs whose addresses are kept free; counts only without WARM_IP_TARGET and MINIMUM_IP_TARGET",
);
/// `WARM_IP_TARGET`.
pub const WARM_IP_TARGET: Knob =
    Knob::lenient("WARM_IP_TARGET", "0", COUNT, "free addresses to keep; 0 is not set");
/// `MINIMUM_IP_TARGET`.
pub const MINIMUM_IP_TARGET: Knob =
    Knob::lenient("MINIMUM_IP_TARGET", "0", COUNT, "least addresses to hold in all; 0 is not set");
/// `WARM_PREFIX_TARGET`. *Source*: 0 in the incumbent's code, 1 in its manifest.
pub const WARM_PREFIX_TARGET: Knob =
    Knob::lenient("WARM_PREFIX_TARGET", "0", COUNT, "free /28 prefixes to keep with prefix delegation");

/// The knobs of this group.
pub const KNOBS: &[&Knob] = &[&WARM_ENI_TARGET, &WARM_IP_TARGET, &MINIMUM_IP_TARGET, &WARM_PREFIX_TARGET];

/// How many addresses are kept ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warm {
    /// None of the four variables is set: pods here, pods bound to this node and a small reserve.
    DemandDriven,
    /// At least one is set: the incumbent's meaning, with its defaults for the others. Zero in `ip` and `minimum`
    /// is "not set"; while either is not zero, `eni` and `prefix` do not count.
    Targets {
        /// `WARM_IP_TARGET`. *Unit* addresses.
        ip: u32,
        /// `MINIMUM_IP_TARGET`. *Unit* addresses.
        minimum: u32,
        /// `WARM_ENI_TARGET`. *Unit* ENIs.
        eni: u32,
        /// `WARM_PREFIX_TARGET`. *Unit* /28 prefixes.
        prefix: u32,
    },
}

impl Warm {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Self {
        let eni = reader.count(&WARM_ENI_TARGET);
        let ip = reader.count(&WARM_IP_TARGET);
        let minimum = reader.count(&MINIMUM_IP_TARGET);
        let prefix = reader.count(&WARM_PREFIX_TARGET);
        if !KNOBS.iter().any(|knob| reader.is_given(knob)) {
            return Self::DemandDriven;
        }
        if reader.flag(&eni::ENABLE_PREFIX_DELEGATION) && nothing_to_keep(reader, ip, minimum, prefix) {
            reader.refuse(
                MistakeKind::Invalid,
                &WARM_PREFIX_TARGET,
                "ENABLE_PREFIX_DELEGATION is on but WARM_PREFIX_TARGET, WARM_IP_TARGET and MINIMUM_IP_TARGET are \
                 all 0 or not set"
                    .to_owned(),
                "set one of the three above 0, or set none of the WARM_ and MINIMUM_ targets and let demand decide",
            );
        }
        Self::Targets { ip, minimum, eni, prefix }
    }
}

/// Whether the incumbent exits over these. It compares the *texts* with "0" (weak point W17), so that `abc` passes
/// there and becomes 0 later; we exit where the numbers are 0 and the incumbent exits too.
fn nothing_to_keep(reader: &Reader<'_>, ip: u32, minimum: u32, prefix: u32) -> bool {
    let passes_as_text = |knob: &Knob| reader.raw(knob).is_some_and(|text| text.as_str() > "0");
    ip == 0
        && minimum == 0
        && prefix == 0
        && ![&WARM_IP_TARGET, &MINIMUM_IP_TARGET, &WARM_PREFIX_TARGET].into_iter().any(passes_as_text)
}

#[cfg(test)]
mod tests;
