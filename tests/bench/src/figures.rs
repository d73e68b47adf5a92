//! Figures: named numbers, printed for people and written for programs.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

/// Figure id → number.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    numbers: BTreeMap<String, f64>,
    told: Vec<(String, String)>,
}

impl Figures {
    /// Keeps a figure and what people read of it.
    pub(crate) fn note(&mut self, id: &str, number: f64, unit: &str, remark: &str) {
        self.numbers.insert(id.to_owned(), number);
        let remark = if remark.is_empty() { String::new() } else { format!("   {remark}") };
        self.told.push((id.to_owned(), format!("{number:9.3} {unit}{remark}")));
    }

    /// The table.
    pub(crate) fn table(&self) -> String {
        let width = self.told.iter().map(|(id, _)| id.len()).max().unwrap_or(0);
        self.told.iter().map(|(id, text)| format!("  {id:<width$} {text}\n")).collect()
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
        let at = (self.0.len().saturating_sub(1)) * share / 100;
        self.0.get(at).map_or(f64::NAN, |d| d.as_secs_f64() * 1000.0)
    }

    /// The median. *Unit* milliseconds.
    pub(crate) fn p50(&self) -> f64 {
        self.percentile(50)
    }

    /// How much the medians of the thirds of the run differ, in percent: the machine's noise.
    pub(crate) fn noise(in_order: &[Duration]) -> f64 {
        let third = (in_order.len() / 3).max(1);
        let medians: Vec<f64> = in_order.chunks(third).map(|part| Self::new(part.to_vec()).p50()).collect();
        let (low, high) = medians.iter().fold((f64::MAX, 0.0f64), |(l, h), m| (l.min(*m), h.max(*m)));
        (high / low - 1.0) * 100.0
    }
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
}
