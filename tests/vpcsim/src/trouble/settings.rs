//! The settings, as JSON: every field may be absent, unknown ones are refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cloud::Delay;

/// All trouble there is. The default is none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TroubleSettings {
    /// Starts the random choices of trouble anew from this seed.
    pub seed: Option<u64>,
    /// How long calls take, by action pattern; the longest pattern that matches decides. `*` matches any run.
    pub latency: BTreeMap<String, Delay>,
    /// Token buckets.
    pub throttle: Throttle,
    /// Who may call what.
    pub iam: Iam,
    /// How far `Describe…` answers are behind.
    pub describe_lag: Lag,
    /// How long a new interface stays unknown to calls that name it: they get `InvalidNetworkInterfaceID.NotFound`, as
    /// happens in EC2 right after a creation.
    pub new_id_lag: Delay,
    /// What the metadata service gets wrong.
    pub imds: ImdsTrouble,
    /// Calls whose answer never arrives because the connection closes.
    pub lost_replies: Vec<LostReply>,
    /// Action patterns whose calls are accepted and never answered. `["*"]`: a black hole of an endpoint.
    pub black_hole: Vec<String>,
    /// Errors to give.
    pub inject: Vec<Inject>,
    /// How far the endpoint's clock is ahead of the machine's, in seconds. A request is judged by it, and every answer's
    /// `Date` carries it: to a client of this machine, its own clock is wrong.
    pub clock_ahead_s: i64,
}

impl TroubleSettings {
    /// EC2 as it is on an ordinary day: its latencies and its token buckets, nothing wrong.
    ///
    /// Source: measured medians of the product's EC2 model (Assign p50 0.3 s, p99 0.8 s; create 0.5 s); buckets of the
    /// EC2 Developer Guide, "Request throttling": 50 + 5/s mutating, 100 + 20/s reading.
    #[must_use]
    pub fn ordinary() -> Self {
        let log_normal = |p50_ms, p99_ms| Delay::LogNormal { p50_ms, p99_ms };
        let latency = [
            ("*", log_normal(250, 800)),
            ("Describe*", log_normal(120, 500)),
            ("Assign*", log_normal(300, 800)),
            ("Unassign*", log_normal(300, 800)),
            ("CreateNetworkInterface", log_normal(500, 1500)),
            ("AttachNetworkInterface", log_normal(700, 2000)),
        ];
        Self {
            latency: latency.into_iter().map(|(action, delay)| (action.to_owned(), delay)).collect(),
            throttle: Throttle { enabled: true, ..Throttle::default() },
            ..Self::default()
        }
    }
}

/// Request throttling: one token bucket per action, for the whole account in its Region.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Throttle {
    /// Whether calls are throttled at all.
    pub enabled: bool,
    /// Bucket of each mutating action that is not named below.
    pub mutating: Bucket,
    /// Bucket of each reading action that is not named below.
    pub reading: Bucket,
    /// Buckets of single actions.
    pub actions: BTreeMap<String, Bucket>,
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            enabled: false,
            mutating: Bucket { capacity: 50.0, refill_per_s: 5.0 },
            reading: Bucket { capacity: 100.0, refill_per_s: 20.0 },
            actions: BTreeMap::from([
                ("CreateNetworkInterface".to_owned(), Bucket { capacity: 100.0, refill_per_s: 5.0 }),
                ("DescribeSecurityGroups".to_owned(), Bucket { capacity: 120.0, refill_per_s: 20.0 }),
            ]),
        }
    }
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// Tokens that it holds when full; it starts full.
    pub capacity: f64,
    /// Tokens added each second.
    pub refill_per_s: f64,
}

/// Permissions by action.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Iam {
    /// For every caller that has no policy of its own.
    pub policy: Policy,
    /// By access key or instance id.
    pub callers: BTreeMap<String, Policy>,
}

/// What a caller may do. A denial outweighs an allowance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Action patterns, with or without `ec2:`; absent: everything.
    pub allow: Option<Vec<String>>,
    /// Action patterns.
    pub deny: Vec<String>,
}

/// How far readers are behind.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lag {
    /// How long a change stays unseen; at most ten minutes count.
    pub delay: Delay,
    /// Share of reads that are answered by a lagging replica; the others see the truth, so that successive answers
    /// may go back and forth.
    pub probability: f64,
}

impl Default for Lag {
    fn default() -> Self {
        Self { delay: Delay::NONE, probability: 1.0 }
    }
}

/// What the metadata service gets wrong. Lag and omissions are applied in the view; the rest is for its server.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImdsTrouble {
    /// How far behind it is.
    pub lag: Lag,
    /// What it leaves out.
    pub omissions: Vec<Omission>,
    /// How long each answer takes.
    pub latency: Delay,
    /// Share of requests answered with an error.
    pub errors: f64,
    /// HTTP status of those errors; absent: 500. Seen as well: 401 (clients fetch a new token), 404, 429, 503.
    pub status: Option<u16>,
    /// Accept requests and never answer.
    pub black_hole: bool,
    /// Leaves that are there besides, by their path below `/latest/meta-data/`: `spot/instance-action` and the like.
    pub leaves: BTreeMap<String, String>,
    /// Tokens die so many milliseconds after they were issued, whatever was promised.
    pub token_life_ms: Option<u64>,
}

/// Something that the metadata service leaves out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Omission {
    /// Of this instance only.
    #[serde(default)]
    pub instance: Option<String>,
    /// Of this interface only.
    #[serde(default)]
    pub eni: Option<String>,
    /// What.
    pub what: OmissionKind,
    /// How often; drawn anew for each request.
    #[serde(default = "always")]
    pub probability: f64,
}

fn always() -> f64 {
    1.0
}

/// What is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OmissionKind {
    /// The whole interface; never the primary one.
    Interface,
    /// A key below the interface, for example `subnet-ipv4-cidr-block`: it answers 404.
    Key(String),
    /// The newest so many secondary addresses.
    Addresses(usize),
    /// The newest so many IPv4 prefixes.
    Prefixes(usize),
}

/// A call whose connection closes instead of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LostReply {
    /// Action pattern.
    pub action: String,
    /// Whether the call takes effect before its answer is lost.
    pub done: bool,
    /// Share of calls that it happens to.
    #[serde(default = "always")]
    pub probability: f64,
    /// To so many calls, then no more; absent: for ever.
    #[serde(default)]
    pub count: Option<u64>,
}

/// An error to give.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inject {
    /// Action pattern.
    pub action: String,
    /// EC2's code, for example `InternalError`.
    pub code: String,
    /// Message; absent: one that says it was injected.
    #[serde(default)]
    pub message: Option<String>,
    /// HTTP status; absent: the one that EC2 gives with that code.
    #[serde(default)]
    pub status: Option<u16>,
    /// Whether the call takes effect although it is refused, as server errors sometimes do.
    #[serde(default)]
    pub done: bool,
    /// Share of calls that it happens to.
    #[serde(default = "always")]
    pub probability: f64,
    /// To so many calls, then no more; absent: for ever.
    #[serde(default)]
    pub count: Option<u64>,
}
