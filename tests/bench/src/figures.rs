//! Figures: named numbers, each beside what it must reach, printed for people and written for programs.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

/// What a figure must reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Must {
    /// Not more than this.
    AtMost(f64),
    /// Not less than this.
    AtLeast(f64),
}

impl Must {
    fn holds(self, number: f64) -> bool {
        match self {
            Self::AtMost(limit) => number <= limit,
            Self::AtLeast(limit) => number >= limit,
        }
    }

    fn words(self) -> String {
        match self {
            Self::AtMost(limit) => format!("≤ {limit}"),
            Self::AtLeast(limit) => format!("≥ {limit}"),
        }
    }
}

/// One line of the table.
#[derive(Debug)]
struct Told {
    id: String,
    value: String,
    target: String,
    verdict: &'static str,
    remark: String,
}

/// Figure id → number.
#[derive(Debug)]
pub(crate) struct Figures {
    quick: bool,
    numbers: BTreeMap<String, f64>,
    told: Vec<Told>,
}

impl Figures {
    /// No figure yet.
    pub(crate) fn new(quick: bool) -> Self {
        Self { quick, numbers: BTreeMap::new(), told: Vec::new() }
    }

    /// Whether sections are to be short.
    pub(crate) fn quick(&self) -> bool {
        self.quick
    }

    /// Keeps a figure and what people read of it.
    pub(crate) fn note(&mut self, id: &str, number: f64, unit: &str, remark: &str) {
        self.keep(id, number, unit, None, remark);
    }

    /// Keeps a figure that must reach something.
    pub(crate) fn judge(&mut self, id: &str, number: f64, unit: &str, must: Must, remark: &str) {
        self.keep(id, number, unit, Some(must), remark);
    }

    fn keep(&mut self, id: &str, number: f64, unit: &str, must: Option<Must>, remark: &str) {
        self.numbers.insert(id.to_owned(), number);
        self.told.push(Told {
            id: id.to_owned(),
            value: format!("{number:10.3} {unit}"),
            target: must.map(Must::words).unwrap_or_default(),
            verdict: match must.map(|m| m.holds(number)) {
                None => "",
                Some(true) => "ok",
                Some(false) => "MISSED",
            },
            remark: remark.to_owned(),
        });
    }

    /// The table.
    pub(crate) fn table(&self) -> String {
        let widest = |column: fn(&Told) -> &str| {
            self.told.iter().map(|told| column(told).chars().count()).max().unwrap_or(0)
        };
        let (id, value, target) = (widest(|t| &t.id), widest(|t| &t.value), widest(|t| &t.target));
        let line = |told: &Told| {
            let Told { id: name, value: number, target: must, verdict, remark } = told;
            let line = format!("  {name:<id$} {number:<value$}  {must:<target$}  {verdict:<6}  {remark}");
            format!("{}\n", line.trim_end())
        };
        self.told.iter().map(line).collect()
    }

    /// How many targets were reached.
    pub(crate) fn count(&self) -> String {
        let with = |verdict: &str| self.told.iter().filter(|told| told.verdict == verdict).count();
        format!("{} targets reached, {} missed", with("ok"), with("MISSED"))
    }

    /// One flat object.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(&self.numbers)?;
        std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Measured durations, sorted.
#[derive(Debug, Clone)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    /// Takes them.
    pub(crate) fn new(mut taken: Vec<Duration>) -> Self {
        taken.sort_unstable();
        Self(taken)
    }

    /// The value below which `share` of a hundred lie. *Unit* milliseconds.
    pub(crate) fn percentile(&self, share: usize) -> f64 {
        self.per_mille(share * 10)
    }

    /// The value below which `share` of a thousand lie. *Unit* milliseconds.
    pub(crate) fn per_mille(&self, share: usize) -> f64 {
        let at = (self.0.len().saturating_sub(1)) * share / 1000;
        self.0.get(at).map_or(f64::NAN, |d| d.as_secs_f64() * 1000.0)
    }

    /// The median. *Unit* milliseconds.
    pub(crate) fn p50(&self) -> f64 {
        self.percentile(50)
    }

    /// How much the medians of the thirds of the run differ, in percent: the machine's noise.
    pub(crate) fn noise(in_order: &[Duration]) -> f64 {
        // By their ends, so that no third is a rest of one or two.
        let end = |third: usize| in_order.len() * third / 3;
        let thirds = (0..3).map(|third| &in_order[end(third)..end(third + 1)]);
        let medians: Vec<f64> =
            thirds.filter(|part| !part.is_empty()).map(|part| Self::new(part.to_vec()).p50()).collect();
        let (low, high) = medians.iter().fold((f64::MAX, 0.0f64), |(l, h), m| (l.min(*m), h.max(*m)));
        (high / low - 1.0) * 100.0
    }
}

/// *Precision*: good to a part in 2⁵³, far finer than what is measured.
#[allow(clippy::cast_precision_loss, reason = "sizes of files and processes are far below 2^53")]
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_known_samples() {
        let samples = Samples::new((1..=100).rev().map(Duration::from_millis).collect());
        assert!((samples.p50() - 50.0).abs() < 1e-9);
        assert!((samples.percentile(99) - 99.0).abs() < 1e-9);
    }

    #[test]
    fn noise_is_of_thirds_whatever_the_number_of_samples() {
        for count in 1..=40 {
            let mut taken = vec![Duration::from_millis(10); count];
            assert!(Samples::noise(&taken).abs() < 1e-9, "{count} equal samples");
            // A single slow one moves no median of three or more.
            taken[count - 1] = Duration::from_millis(100);
            assert!(count < 9 || Samples::noise(&taken).abs() < 1e-9, "{count}: {}", Samples::noise(&taken));
        }
        let slower: Vec<Duration> =
            [10, 20, 30].iter().flat_map(|ms| [Duration::from_millis(*ms); 5]).collect();
        assert!((Samples::noise(&slower) - 200.0).abs() < 1e-9);
    }

    #[test]
    fn verdicts_beside_targets() {
        let mut figures = Figures::new(true);
        figures.judge("low", 3.5, "×", Must::AtMost(3.5), "");
        figures.judge("high", 0.9, "×", Must::AtLeast(0.97), "so");
        figures.note("plain", 1.0, "ms", "");
        let table = figures.table();
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].ends_with("≤ 3.5   ok"), "{table}");
        assert!(lines[1].ends_with("≥ 0.97  MISSED  so"), "{table}");
        assert!(lines[2].ends_with("ms"), "{table}");
        assert_eq!(figures.count(), "1 targets reached, 1 missed");
    }
}
