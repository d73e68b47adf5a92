//! What becomes of a call.

use std::time::Duration;

use super::bucket::Buckets;
use super::settings::{Inject, Policy, TroubleSettings};
use crate::cloud::{ApiError, Caller, CloudSpec, Delay, Millis, Random};

/// The verdict on a call that has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The request's id.
    pub request: String,
    /// Wait so long before the fate happens…
    pub before: Duration,
    /// …and so long between effect and answer.
    pub after: Duration,
    /// What happens.
    pub fate: Fate,
}

/// What happens to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is served.
    Serve,
    /// It is refused and has no effect.
    Refuse(ApiError),
    /// It has its effect and is refused all the same.
    ServeThenRefuse(ApiError),
    /// It has its effect; the connection closes without an answer.
    ServeThenHangUp,
    /// It has no effect; the connection closes without an answer.
    HangUp,
    /// It has no effect; the connection stays open without an answer.
    Silence,
}

/// Settings and what they must remember.
#[derive(Debug, Clone)]
pub(crate) struct Trouble {
    settings: TroubleSettings,
    random: Random,
    buckets: Buckets,
}

impl Trouble {
    pub(crate) fn new(seed: u64) -> Self {
        Self { settings: TroubleSettings::default(), random: Random::new(seed), buckets: Buckets::default() }
    }

    pub(crate) fn settings(&self) -> &TroubleSettings {
        &self.settings
    }

    /// From now on this. Buckets keep their levels unless a seed starts everything anew.
    pub(crate) fn set(&mut self, settings: TroubleSettings) {
        if let Some(seed) = settings.seed {
            self.random = Random::new(seed);
            self.buckets = Buckets::default();
        }
        self.settings = settings;
    }

    /// The verdict on this call. Order as in EC2: throttled before anything else is looked at.
    pub(crate) fn admit(&mut self, now: Millis, action: &str, mutating: bool, request: String) -> Admission {
        let delay = self.latency(action).draw(&mut self.random);
        let (before, after) = (delay / 2, delay - delay / 2);
        let fate = self.fate(now, action, mutating);
        // A throttled call is turned away at the door: it costs no more than the way there.
        let after = if matches!(fate, Fate::Refuse(_)) { Duration::ZERO } else { after };
        Admission { request, before, after, fate }
    }

    fn fate(&mut self, now: Millis, action: &str, mutating: bool) -> Fate {
        if self.settings.black_hole.iter().any(|pattern| matches(pattern, action)) {
            return Fate::Silence;
        }
        if !self.buckets.take(now, &self.settings.throttle, action, mutating) {
            return Fate::Refuse(ApiError::new("RequestLimitExceeded", "Request limit exceeded."));
        }
        let random = &mut self.random;
        let mut happens = |pattern: &str, probability: f64, count: &mut Option<u64>| {
            let hit = matches(pattern, action) && *count != Some(0) && random.chance(probability);
            if hit && let Some(count) = count {
                *count -= 1;
            }
            hit
        };
        for inject in &mut self.settings.inject {
            if happens(&inject.action, inject.probability, &mut inject.count) {
                let error = injected(inject);
                return if inject.done { Fate::ServeThenRefuse(error) } else { Fate::Refuse(error) };
            }
        }
        for lost in &mut self.settings.lost_replies {
            if happens(&lost.action, lost.probability, &mut lost.count) {
                return if lost.done { Fate::ServeThenHangUp } else { Fate::HangUp };
            }
        }
        Fate::Serve
    }

    /// Whether this caller may do this: an instance by its role and by trouble, anybody else by trouble alone.
    ///
    /// # Errors
    /// `UnauthorizedOperation`.
    pub(crate) fn authorize(&self, spec: &CloudSpec, caller: &Caller, action: &str) -> Result<(), ApiError> {
        let iam = &self.settings.iam;
        let own = caller.instance.as_ref().and_then(|instance| iam.callers.get(instance.as_str()));
        let policy = iam.callers.get(&caller.access_key).or(own).unwrap_or(&iam.policy);
        let by_role =
            caller.instance.is_none() || spec.role_actions.iter().any(|pattern| matches(pattern, action));
        if by_role && allows(policy, action) {
            return Ok(());
        }
        let who = match &caller.instance {
            Some(instance) => {
                format!("arn:aws:sts::{}:assumed-role/{}/{instance}", spec.account, crate::imds::ROLE)
            }
            None => format!("arn:aws:iam::{}:user/{}", spec.account, caller.access_key),
        };
        Err(ApiError::new(
            "UnauthorizedOperation",
            format!(
                "You are not authorized to perform this operation. User: {who} is not authorized to perform: \
                 ec2:{action} because no identity-based policy allows the ec2:{action} action"
            ),
        ))
    }

    /// The lag that this `Describe…` call meets.
    pub(crate) fn describe_lag(&mut self) -> Delay {
        let lag = self.settings.describe_lag;
        if lag.probability >= 1.0 || self.random.chance(lag.probability) { lag.delay } else { Delay::NONE }
    }

    fn latency(&self, action: &str) -> Delay {
        let matching = self.settings.latency.iter().filter(|(pattern, _)| matches(pattern, action));
        matching.max_by_key(|(pattern, _)| pattern.len()).map_or(Delay::NONE, |(_, delay)| *delay)
    }
}

fn injected(inject: &Inject) -> ApiError {
    let message = inject.message.clone().unwrap_or_else(|| format!("injected {}", inject.code));
    let mut error = ApiError::new(inject.code.clone(), message);
    error.status = inject.status.unwrap_or(error.status);
    error
}

fn allows(policy: &Policy, action: &str) -> bool {
    let listed = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, action));
    policy.allow.as_deref().is_none_or(listed) && !listed(&policy.deny)
}

/// Whether the action is one that the pattern means; `*` is any run, `ec2:` before it is allowed.
fn matches(pattern: &str, action: &str) -> bool {
    crate::cloud::wildcard(pattern.strip_prefix("ec2:").unwrap_or(pattern), action)
}

#[cfg(test)]
mod tests;
