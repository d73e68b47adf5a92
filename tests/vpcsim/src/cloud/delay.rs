//! How long things take: distributions asked by quantile, so that one draw can be read under changing settings.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::random::Random;

/// A distribution of delays.
///
/// As JSON: `{"fixed": {"ms": 100}}`, `{"uniform": {"min_ms": 2000, "max_ms": 10000}}`,
/// `{"log_normal": {"p50_ms": 300, "p99_ms": 800}}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Delay {
    /// Always the same.
    Fixed {
        /// The delay.
        ms: u64,
    },
    /// Every value between the two is as likely.
    Uniform {
        /// Shortest.
        min_ms: u64,
        /// Longest.
        max_ms: u64,
    },
    /// Skewed, as latencies are: most near the median, a long tail. Cut at the 99.99th percentile.
    LogNormal {
        /// Median.
        p50_ms: u64,
        /// 99th percentile.
        p99_ms: u64,
    },
}

impl Default for Delay {
    fn default() -> Self {
        Self::NONE
    }
}

impl Delay {
    /// No delay.
    pub const NONE: Self = Self::Fixed { ms: 0 };

    /// The delay that the share `unit` (0..1) of all cases does not exceed.
    #[must_use]
    pub fn quantile(&self, unit: f64) -> Duration {
        match *self {
            Self::Fixed { ms } => Duration::from_millis(ms),
            Self::Uniform { min_ms, max_ms } => {
                let (min, max) = (min_ms.min(max_ms), min_ms.max(max_ms));
                Duration::from_millis(min) + Duration::from_millis(max - min).mul_f64(unit.clamp(0.0, 1.0))
            }
            Self::LogNormal { p50_ms, p99_ms } => {
                let (median, tail) = (p50_ms.max(1) as f64, p99_ms.max(p50_ms).max(1) as f64);
                let sigma = (tail / median).ln() / NORMAL_P99;
                let ms = median * (sigma * normal_quantile(unit.clamp(0.0001, 0.9999))).exp();
                Duration::try_from_secs_f64(ms / 1000.0).unwrap_or(Duration::MAX)
            }
        }
    }

    /// One draw.
    pub fn draw(&self, random: &mut Random) -> Duration {
        self.quantile(random.unit())
    }
}

/// The standard normal distribution's 99th percentile.
const NORMAL_P99: f64 = 2.326_347_874;

/// Inverse of the standard normal distribution, relative error below 1.2e-9.
///
/// Source: P. J. Acklam, "An algorithm for computing the inverse normal cumulative distribution function" (2003).
fn normal_quantile(p: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 5] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 4] =
        [7.784_695_709_041_462e-3, 3.224_671_290_700_398e-1, 2.445_134_137_142_996, 3.754_408_661_907_416];
    const LOW: f64 = 0.024_25;

    let horner = |coefficients: &[f64], x: f64| coefficients.iter().fold(0.0, |sum, c| sum * x + c);
    let tail = |q: f64| horner(&C, q) / (horner(&D, q) * q + 1.0);
    if p < LOW {
        tail((-2.0 * p.ln()).sqrt())
    } else if p > 1.0 - LOW {
        -tail((-2.0 * (1.0 - p).ln()).sqrt())
    } else {
        let (q, r) = (p - 0.5, (p - 0.5) * (p - 0.5));
        horner(&A, r) * q / (horner(&B, r) * r + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_normal_hits_its_percentiles() {
        let delay = Delay::LogNormal { p50_ms: 300, p99_ms: 800 };
        assert_eq!(delay.quantile(0.5).as_millis(), 300);
        assert_eq!(delay.quantile(0.99).as_millis(), 800);
        assert!(delay.quantile(0.01) < Duration::from_millis(120));
        assert!(delay.quantile(1.0) < Duration::from_secs(2), "the tail is cut");
    }

    #[test]
    fn uniform_covers_its_range_even_when_reversed() {
        let delay = Delay::Uniform { min_ms: 10, max_ms: 2 };
        assert_eq!((delay.quantile(0.0).as_millis(), delay.quantile(1.0).as_millis()), (2, 10));
    }
}
