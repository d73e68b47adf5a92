//! Sums up what is seen once each second.

use std::collections::VecDeque;

use podwire_pool::settings::Mode;

use crate::report::{Held, Sample};

/// How far back the peak of the bound looks. *Unit*: samples, one each second. *Source*: our choice.
const WINDOW: usize = 600;
/// Addresses of a prefix. *Source*: EC2 user guide, "Prefix delegation".
pub(crate) const PREFIX_SIZE: u32 = 16;

/// Takes samples in.
#[derive(Debug)]
pub(crate) struct Meter {
    mode: Mode,
    held: Held,
    /// (sample number, pods and cooling), falling: the first is the peak of the window.
    peaks: VecDeque<(usize, u32)>,
}

impl Meter {
    /// Nothing seen yet.
    pub(crate) fn new(mode: Mode) -> Self {
        Self { mode, held: Held::default(), peaks: VecDeque::new() }
    }

    /// One more second.
    pub(crate) fn take(&mut self, sample: Sample) {
        let number = self.held.samples.len();
        let busy = sample.pods + sample.waiting + sample.cooling;
        while self.peaks.pop_back_if(|(_, lower)| *lower <= busy).is_some() {}
        self.peaks.push_back((number, busy));
        while self.peaks.pop_front_if(|(old, _)| *old + WINDOW <= number).is_some() {}
        let peak = self.peaks.front().map_or(busy, |(_, peak)| *peak);
        self.held.allowed += u64::from(allowed(self.mode, peak));
        self.held.held += u64::from(sample.held);
        self.held.pods += u64::from(sample.pods);
        self.held.cooling += u64::from(sample.cooling);
        self.held.samples.push(sample);
    }

    /// All of it.
    pub(crate) fn finish(self) -> Held {
        self.held
    }
}

/// What the bound allows at a peak: a tenth more addresses and at least two, or one prefix more. *Source*: our choice; the
/// reserve with prefixes is the pool's own, a twentieth and at least one.
fn allowed(mode: Mode, peak: u32) -> u32 {
    match mode {
        Mode::SecondaryIp => peak + (peak / 10).max(2),
        Mode::Prefix => ((peak + (peak / 20).max(1)).div_ceil(PREFIX_SIZE) + 1) * PREFIX_SIZE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peak_is_remembered_for_ten_minutes_and_no_longer() {
        let mut meter = Meter::new(Mode::SecondaryIp);
        meter.take(Sample { pods: 30, ..Sample::default() });
        for _ in 1..WINDOW {
            meter.take(Sample::default());
        }
        assert_eq!(meter.held.allowed, 33 * 600);
        meter.take(Sample::default());
        assert_eq!(meter.held.allowed, 33 * 600 + 2);
        assert_eq!(allowed(Mode::Prefix, 15), 32);
        assert_eq!(allowed(Mode::Prefix, 16), 48);
    }
}
