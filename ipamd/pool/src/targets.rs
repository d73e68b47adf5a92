//! How many addresses are wanted: pure arithmetic over settings and counts (design D7, incumbent-behaviour §5.3).

use crate::ops::unit;
use crate::settings::{Mode, Settings, Warm};
use crate::tuning::PREFIX_SIZE;

/// What the arithmetic looks at. *Unit*: addresses, unless named otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Census {
    /// Allocating or allocated.
    pub(crate) held: u32,
    /// Releasing or cooling: nobody's, but of no use yet.
    pub(crate) resting: u32,
    /// Free now, or as soon as the host or a Describe answers.
    pub(crate) free: u32,
    /// On their way with calls in flight.
    pub(crate) coming: u32,
    /// All on ENIs that stay.
    pub(crate) total: u32,
    /// Prefixes.
    pub(crate) prefixes: u32,
    /// Prefixes of which nothing is in use.
    pub(crate) idle_prefixes: u32,
    /// Sandboxes that wait for an address.
    pub(crate) waiting: u32,
    /// Pods that should have an address here, when known.
    pub(crate) bound: Option<u32>,
    /// Pods that arrived within the window.
    pub(crate) arrivals: u32,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Verdict {
    /// Addresses to add.
    pub(crate) short: u32,
    /// Addresses to ask for beside those, where they cost neither another call nor another ENI.
    pub(crate) ahead: u32,
    /// Whatever ENI is asked is filled (`WARM_ENI_TARGET` counts whole ENIs).
    pub(crate) fill: bool,
    /// Single addresses that may go.
    pub(crate) over: u32,
    /// Whole prefixes that may go.
    pub(crate) over_prefixes: u32,
    /// Addresses that may go together with an ENI.
    pub(crate) over_eni: u32,
}

/// Addresses the node may hold at once: what pods can use, and a quarter more while as much is resting, so that a
/// quarter of the pods can be replaced within one cooldown. A pod that waits proves that kubelet runs it, whatever we were
/// told of max-pods. *Source*: the quarter is our choice; pain-points E60 (20 pods must not hold 240 addresses).
pub(crate) fn ceiling(settings: &Settings, census: &Census) -> u32 {
    let pods = settings.max_pods.max(census.held.saturating_add(census.waiting));
    pods.saturating_add(census.resting.min(pods.div_ceil(4)))
}

/// Compares what is with what should be.
pub(crate) fn verdict(settings: &Settings, census: &Census) -> Verdict {
    match settings.warm {
        Warm::DemandDriven => demand_driven(settings, census),
        Warm::Targets { ip, minimum, eni, prefix } => {
            if ip != 0 || minimum != 0 {
                by_addresses(settings, census, ip, minimum)
            } else {
                match settings.mode {
                    Mode::SecondaryIp => by_enis(settings, census, eni),
                    Mode::Prefix => by_prefixes(settings, census, prefix),
                }
            }
        }
    }
}

/// A small reserve that follows arrivals. *Source*: our choice; reserve and slack together stay within
/// max(2, 10 %) of what pods hold.
fn reserve(census: &Census) -> u32 {
    let twentieth = census.held / 20;
    (census.arrivals / 4).min(twentieth).max(1)
}

/// Between what is asked for when the reserve is touched and what is given back lies this band: one call fills it, and
/// pods that come and go within it cost none.
fn slack(census: &Census) -> u32 {
    (census.held / 20).max(1)
}

/// How many more to bring while pods come faster than addresses, where it is not known who else will come: as many as
/// wait already are likely to come before EC2 has answered. A node all of whose pods came within the window is being
/// filled; there even the first pods count for several. A prefix brings more than that anyway. *Source*: our choice, by the
/// what-if's drain.
fn surge(settings: &Settings, census: &Census) -> u32 {
    match (settings.mode, census.bound) {
        (Mode::SecondaryIp, None) => {
            let came = census.held.saturating_add(census.waiting);
            let filling = came > 0 && came <= census.arrivals;
            let first = if filling { FIRST_PODS.max(came) } else { 0 };
            census.waiting.min(census.arrivals).max(first)
        }
        (Mode::SecondaryIp, Some(_)) | (Mode::Prefix, _) => 0,
    }
}

/// Pods that are likely to follow the first one of a node within one EC2 call. *Source*: our choice; a drain brings ten a
/// second.
const FIRST_PODS: u32 = 4;

fn demand_driven(settings: &Settings, census: &Census) -> Verdict {
    let expected = census.held.saturating_add(census.waiting);
    let unwired = census.bound.map_or(0, |bound| bound.min(settings.max_pods).saturating_sub(expected));
    let room = settings.max_pods.saturating_sub(expected).saturating_sub(unwired);
    let demand = census.waiting.saturating_add(unwired);
    let wanted_free = demand.saturating_add(reserve(census).min(room));
    // A node without a pod keeps no more than its reserve.
    let band = if expected == 0 { 0 } else { slack(census) };
    let full = demand.saturating_add(reserve(census).saturating_add(band).min(room));
    let have = census.free.saturating_add(census.coming);
    let below = below_ceiling(settings, census);
    // A whole prefix is not worth a reserve of one or two: sixteen idle addresses, and a call that every node of its kind
    // makes at the same count of pods. Only the first one is, which makes the node ready.
    let reserve_only = demand <= have && census.total.saturating_add(census.coming) > 0;
    let enough = have >= wanted_free || (settings.mode == Mode::Prefix && reserve_only);
    let short = if enough { 0 } else { (full - have).min(below) };
    if short > 0 || census.coming > 0 || census.waiting > 0 {
        let ahead = surge(settings, census).min(room).min(below - short);
        return Verdict { short, ahead, ..Verdict::default() };
    }
    let over = census.free.saturating_sub(wanted_free.saturating_add(slack(census)));
    let over_prefixes = census.idle_prefixes.min(over / PREFIX_SIZE);
    Verdict { over: over - over_prefixes * PREFIX_SIZE, over_prefixes, over_eni: over, ..Verdict::default() }
}

/// How many more the ceiling allows.
fn below_ceiling(settings: &Settings, census: &Census) -> u32 {
    ceiling(settings, census).saturating_sub(census.total).saturating_sub(census.coming)
}

/// What waits beyond what is or will be free: wanted whatever the targets and max-pods say (design D9), unless what rests
/// will serve it.
fn starved(settings: &Settings, census: &Census) -> u32 {
    let have = census.free.saturating_add(census.coming);
    census.waiting.saturating_sub(have).min(below_ceiling(settings, census))
}

fn by_addresses(settings: &Settings, census: &Census, warm: u32, minimum: u32) -> Verdict {
    let total = census.total.saturating_add(census.coming);
    let available = total.saturating_sub(census.held);
    let mut short = warm.saturating_sub(available).max(minimum.saturating_sub(total));
    if total >= settings.max_pods {
        short = 0;
    }
    let short = short.max(starved(settings, census));
    if short > 0 || census.coming > 0 || census.waiting > 0 {
        return Verdict { short, ..Verdict::default() };
    }
    let over = available.saturating_sub(warm).min(total.saturating_sub(minimum)).min(census.free);
    match settings.mode {
        Mode::SecondaryIp => {
            let over_prefixes = census.idle_prefixes.min(over / PREFIX_SIZE);
            Verdict {
                over: over - over_prefixes * PREFIX_SIZE,
                over_prefixes,
                over_eni: over,
                ..Verdict::default()
            }
        }
        Mode::Prefix => {
            let needed = census.held.saturating_add(warm).div_ceil(PREFIX_SIZE);
            let spare = census.idle_prefixes.min(census.prefixes.saturating_sub(needed));
            let spare = spare.min(census.prefixes.saturating_sub(minimum.div_ceil(PREFIX_SIZE)));
            let over_prefixes = if over > 0 { spare } else { 0 };
            let singles = over.saturating_sub(over_prefixes * PREFIX_SIZE);
            Verdict {
                over: singles,
                over_prefixes,
                over_eni: over_prefixes * PREFIX_SIZE,
                ..Verdict::default()
            }
        }
    }
}

fn by_enis(settings: &Settings, census: &Census, target: u32) -> Verdict {
    let per_eni = settings.limits.ipv4_per_eni.saturating_sub(1).saturating_mul(unit(settings.mode));
    let total = census.total.saturating_add(census.coming);
    let available = total.saturating_sub(census.held);
    let wanted = per_eni.saturating_mul(target);
    let mut short = wanted.saturating_sub(available);
    if target == 0 && available == 0 {
        short = 1;
    }
    if total >= settings.max_pods {
        short = 0;
    }
    let short = short.max(starved(settings, census));
    if short > 0 || census.coming > 0 || census.waiting > 0 {
        return Verdict { short, fill: true, ..Verdict::default() };
    }
    let enough = wanted.saturating_add(per_eni);
    let over_eni = if available >= enough { available - wanted } else { 0 };
    Verdict { over_eni, ..Verdict::default() }
}

fn by_prefixes(settings: &Settings, census: &Census, target: u32) -> Verdict {
    let total = census.total.saturating_add(census.coming);
    let available = total.saturating_sub(census.held);
    let low = available < PREFIX_SIZE.saturating_mul(target) || (target == 0 && available == 0);
    let mut short = if low {
        let idle = census.idle_prefixes.saturating_add(census.coming / PREFIX_SIZE);
        target.saturating_sub(idle).max(1).saturating_mul(PREFIX_SIZE)
    } else {
        0
    };
    if total >= settings.max_pods {
        short = 0;
    }
    let short = short.max(starved(settings, census));
    if short > 0 || census.coming > 0 || census.waiting > 0 {
        return Verdict { short, ..Verdict::default() };
    }
    // A target of none still leaves one free address (it is `low` otherwise): do not give back the last of them.
    let last = target == 0 && available <= census.idle_prefixes.saturating_mul(PREFIX_SIZE);
    let over_prefixes = census.idle_prefixes.saturating_sub(target.max(u32::from(last)));
    Verdict { over_prefixes, over_eni: over_prefixes * PREFIX_SIZE, ..Verdict::default() }
}

#[cfg(test)]
mod tests;
