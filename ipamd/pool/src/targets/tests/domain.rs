//! Complete small domains: every value of every knob from 0 to 8, against the incumbent's arithmetic as
//! incumbent-behaviour §5.3 states it, and against what must hold of any target.

use super::settings;
use crate::settings::{Mode, Settings, Warm};
use crate::targets::{Census, ceiling, verdict};

/// Greatest value of each knob.
const MOST: u32 = 8;

fn singles(total: u32, held: u32) -> Census {
    Census { total, held, free: total - held, ..Census::default() }
}

/// W, M, maxPods, T and A over their whole domain: short and over are those of `datastoreTargetState`, but for one
/// thing: what is short is not given back at the same time (the incumbent's tick does the first and skips the second).
#[test]
fn single_addresses_equal_the_incumbents_arithmetic_everywhere() {
    let mut cases = 0;
    for w in 0..=MOST {
        for m in 0..=MOST {
            if (w, m) == (0, 0) {
                continue;
            }
            for max_pods in 0..=MOST {
                let warm = Warm::Targets { ip: w, minimum: m, eni: 1, prefix: 1 };
                let settings = Settings { max_pods, ..settings(Mode::SecondaryIp, warm) };
                for total in 0..=MOST {
                    for held in 0..=total {
                        let available = total - held;
                        let short = w.saturating_sub(available).max(m.saturating_sub(total));
                        let short = if total >= max_pods { 0 } else { short };
                        let over = available.saturating_sub(w).min(total.saturating_sub(m));
                        let over = if short > 0 { 0 } else { over };
                        let is = verdict(&settings, &singles(total, held));
                        let case = format!("W={w} M={m} max={max_pods} T={total} A={held}: {is:?}");
                        assert_eq!((is.short, is.over, is.fill), (short, over, false), "{case}");
                        cases += 1;
                    }
                }
            }
        }
    }
    assert_eq!(cases, 80 * 9 * 45);
}

/// The same with prefixes: W, M, maxPods, prefixes and the pods in each.
#[test]
fn prefixes_equal_the_incumbents_arithmetic_everywhere() {
    for w in [0, 1, 5, 15, 16, 17, 33] {
        for m in [0, 1, 15, 16, 17, 32, 40] {
            if (w, m) == (0, 0) {
                continue;
            }
            for max_pods in [0, 16, 47, 110] {
                let warm = Warm::Targets { ip: w, minimum: m, eni: 1, prefix: 1 };
                let settings = Settings { max_pods, ..settings(Mode::Prefix, warm) };
                for prefixes in 0..=4u32 {
                    for held in 0..=prefixes * 16 {
                        for used in held.div_ceil(16)..=held.min(prefixes) {
                            let (total, idle_prefixes) = (prefixes * 16, prefixes - used);
                            let census = Census { prefixes, idle_prefixes, ..singles(total, held) };
                            let is = verdict(&settings, &census);
                            let available = total - held;
                            let short = w.saturating_sub(available).max(m.saturating_sub(total));
                            let short = if total >= max_pods { 0 } else { short };
                            let over = available.saturating_sub(w).min(total.saturating_sub(m));
                            let over = idle_prefixes
                                .min(prefixes.saturating_sub((held + w).div_ceil(16)))
                                .min(prefixes.saturating_sub(m.div_ceil(16)))
                                .min(if over > 0 { u32::MAX } else { 0 });
                            let over = if short > 0 { 0 } else { over };
                            let case = format!("W={w} M={m} max={max_pods} {census:?}: {is:?}");
                            assert_eq!(
                                (is.short.div_ceil(16), is.over_prefixes),
                                (short.div_ceil(16), over),
                                "{case}"
                            );
                        }
                    }
                }
            }
        }
    }
}

/// `WARM_ENI_TARGET` and `WARM_PREFIX_TARGET` alone: too low and removable exactly where the incumbent says so.
#[test]
fn whole_enis_and_prefixes_equal_the_incumbents_arithmetic_everywhere() {
    for target in 0..=MOST {
        let warm = Warm::Targets { ip: 0, minimum: 0, eni: target, prefix: target };
        for max_pods in 0..=MOST {
            let settings = Settings { max_pods: max_pods * 7, ..settings(Mode::SecondaryIp, warm) };
            for total in 0..=60 {
                for held in 0..=total {
                    let available = total - held;
                    let low = available < 14 * target || (target == 0 && available == 0);
                    let low = low && total < max_pods * 7;
                    let removable = available >= 14 * (target + 1);
                    let is = verdict(&settings, &singles(total, held));
                    let case = format!("E={target} max={} T={total} A={held}: {is:?}", max_pods * 7);
                    assert_eq!((is.short > 0, is.over), (low, 0), "{case}");
                    assert_eq!(is.over_eni >= 14, removable && !low, "{case}");
                }
            }
            let settings = Settings { mode: Mode::Prefix, max_pods: max_pods * 16, ..settings };
            for prefixes in 0..=MOST {
                for held in 0..=prefixes * 16 {
                    let idle_prefixes = prefixes - held.div_ceil(16);
                    let (total, available) = (prefixes * 16, prefixes * 16 - held);
                    let low = available < 16 * target || (target == 0 && available == 0);
                    let low = low && total < max_pods * 16;
                    let is = verdict(&settings, &Census { prefixes, idle_prefixes, ..singles(total, held) });
                    let case =
                        format!("P={target} max={} prefixes={prefixes} A={held}: {is:?}", max_pods * 16);
                    assert_eq!(is.short > 0, low, "{case}");
                    // Beyond the incumbent: with a target of none the last free address is not given back, which the next
                    // tick would fetch again.
                    let last = target == 0 && available <= idle_prefixes * 16;
                    let over = idle_prefixes.saturating_sub(target.max(u32::from(last)));
                    assert_eq!(is.over_prefixes, if low { 0 } else { over }, "{case}");
                }
            }
        }
    }
}

fn everything() -> Vec<Settings> {
    let mut all = Vec::new();
    for mode in [Mode::SecondaryIp, Mode::Prefix] {
        for max_pods in 0..=MOST {
            all.push(Settings { max_pods, ..settings(mode, Warm::DemandDriven) });
            for ip in 0..=3 {
                for minimum in [0, 1, 4, MOST] {
                    for eni in 0..=1 {
                        let warm = Warm::Targets { ip, minimum, eni, prefix: eni };
                        all.push(Settings { max_pods, ..settings(mode, warm) });
                    }
                }
            }
        }
    }
    all
}

/// All six numbers of the census that demand is made of: what waits is asked for whenever there is quota, nothing is asked
/// for beyond what pods could use, and more free addresses never make more short.
#[test]
fn demand_is_met_within_quota_and_never_beyond_it() {
    for settings in everything() {
        for held in 0..=MOST {
            for waiting in 0..=4 {
                for resting in 0..=3 {
                    for bound in [None, Some(3), Some(12)] {
                        for arrivals in [0, 4] {
                            let mut before = u32::MAX;
                            for free in 0..=MOST {
                                let total = held + free + resting;
                                let census = Census {
                                    held,
                                    waiting,
                                    resting,
                                    bound,
                                    arrivals,
                                    free,
                                    total,
                                    ..Census::default()
                                };
                                let is = verdict(&settings, &census);
                                let case = format!("{settings:?} {census:?}: {is:?}");
                                let room = ceiling(&settings, &census).saturating_sub(total);
                                let unmet = waiting.saturating_sub(free);
                                let starves = waiting > free + resting;
                                assert!(is.short > 0 || !starves, "kubelet runs more than max-pods: {case}");
                                assert!(is.short >= unmet.min(room), "demand is unmet: {case}");
                                if settings.warm == Warm::DemandDriven {
                                    assert!(is.short + is.ahead <= room, "beyond the ceiling: {case}");
                                } else {
                                    let starving = unmet.min(room) > 0;
                                    assert!(is.short == 0 || total < settings.max_pods || starving, "{case}");
                                }
                                assert!(is.short <= before, "more free, more short: {case}");
                                before = is.short;
                            }
                        }
                    }
                }
            }
        }
    }
}
