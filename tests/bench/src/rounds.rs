//! Rounds in which everything that is compared takes its turn, so that the machine's moods hit all of it alike.

use crate::figures::{Figures, Must};

/// What was measured of several things, one number of each in every round.
#[derive(Debug)]
pub(crate) struct Rounds<const N: usize>(Vec<[f64; N]>);

/// A median of ratios, and how far from it half of them lie. *Unit* of the noise: percent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ratio {
    /// The median.
    pub(crate) median: f64,
    /// Half of the range between the quartiles, in percent of the median.
    pub(crate) noise: f64,
}

impl<const N: usize> Rounds<N> {
    /// Measures everything once in each round. Every other round goes backwards, since what comes after something dear
    /// finds other caches and clocks than what comes after something cheap.
    ///
    /// # Errors
    /// One measurement fails.
    pub(crate) fn take(
        rounds: usize,
        mut measure: impl FnMut(usize) -> anyhow::Result<f64>,
    ) -> anyhow::Result<Self> {
        let mut taken = Vec::with_capacity(rounds);
        for round in 0..rounds {
            let mut numbers = [f64::NAN; N];
            for turn in 0..N {
                let which = if round % 2 == 0 { turn } else { N - 1 - turn };
                numbers[which] = measure(which)?;
            }
            taken.push(numbers);
        }
        Ok(Self(taken))
    }

    /// The median of one thing's numbers.
    pub(crate) fn median(&self, which: usize) -> f64 {
        quartiles(self.0.iter().map(|round| round[which])).1
    }

    /// One thing over another, round by round.
    pub(crate) fn ratio(&self, above: usize, below: usize) -> Ratio {
        let (low, median, high) = quartiles(self.0.iter().map(|round| round[above] / round[below]));
        Ratio { median, noise: (high - low) / 2.0 / median * 100.0 }
    }

    /// Keeps a ratio that must reach something.
    pub(crate) fn judge(
        &self,
        figures: &mut Figures,
        id: &str,
        pair: (usize, usize),
        must: Must,
        remark: &str,
    ) {
        let Ratio { median, noise } = self.ratio(pair.0, pair.1);
        figures.judge(id, median, "×", must, &format!("± {noise:.1} %{remark}"));
    }

    /// Keeps a ratio for comparison.
    pub(crate) fn note(&self, figures: &mut Figures, id: &str, pair: (usize, usize), remark: &str) {
        let Ratio { median, noise } = self.ratio(pair.0, pair.1);
        figures.note(id, median, "×", &format!("± {noise:.1} %{remark}"));
    }
}

fn quartiles(numbers: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut sorted: Vec<f64> = numbers.collect();
    sorted.sort_by(f64::total_cmp);
    let at =
        |share: usize| sorted.get(sorted.len().saturating_sub(1) * share / 4).copied().unwrap_or(f64::NAN);
    (at(1), at(2), at(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_round_by_round() {
        // The second thing costs twice the first whatever the round's mood.
        let mut mood = 0.0;
        let rounds = Rounds::<2>::take(9, |which| {
            mood += 1.0;
            Ok(if which == 0 { 10.0 } else { 20.0 } + mood / 1000.0)
        });
        let rounds = rounds.expect("measured");
        let ratio = rounds.ratio(1, 0);
        assert!((ratio.median - 2.0).abs() < 0.01 && ratio.noise < 1.0, "{ratio:?}");
        assert!((rounds.median(0) - 10.0).abs() < 0.1);
    }
}
