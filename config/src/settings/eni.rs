//! ENIs and EC2.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::finding::{MistakeKind, Severity};
use crate::knob::{Kind, Knob};
use crate::reader::Reader;
use crate::settings::{millis, seconds};

/// `ENABLE_PREFIX_DELEGATION`.
pub const ENABLE_PREFIX_DELEGATION: Knob = Knob::lenient(
    "ENABLE_PREFIX_DELEGATION",
    "false",
    Kind::Flag,
    "assign /28 prefixes to ENIs instead of single addresses; single addresses where the instance takes no prefixes",
);
/// `MAX_ENI`.
pub const MAX_ENI: Knob = Knob::lenient(
    "MAX_ENI",
    "-1",
    Kind::Number { min: -1, max: i64::MAX, unit: "ENIs" },
    "most ENIs to use, primary included; -1, 0 and more than the instance takes mean the instance's limit",
);
/// `IP_COOLDOWN_PERIOD`.
pub const IP_COOLDOWN_PERIOD: Knob = Knob::exiting(
    "IP_COOLDOWN_PERIOD",
    "30",
    Kind::Number { min: 0, max: i64::MAX, unit: "seconds" },
    "how long a released address rests before its next use",
);
/// `MANAGE_UNTAGGED_ENI`.
pub const MANAGE_UNTAGGED_ENI: Knob = Knob::lenient(
    "MANAGE_UNTAGGED_ENI",
    "true",
    Kind::Flag,
    "secondary ENIs of this instance without our tag are ours too (tagged before the first change)",
);
/// `ADDITIONAL_ENI_TAGS`.
pub const ADDITIONAL_ENI_TAGS: Knob =
    Knob::lenient("ADDITIONAL_ENI_TAGS", "", Kind::Tags, "more tags for every ENI of ours, as a JSON object");
/// `CLUSTER_NAME`.
pub const CLUSTER_NAME: Knob = Knob::lenient(
    "CLUSTER_NAME",
    "",
    Kind::Text,
    "tags ENIs with the cluster and chooses subnets by cluster tag; without it ENIs of dead nodes are not collected",
);
/// `ENABLE_SUBNET_DISCOVERY`.
pub const ENABLE_SUBNET_DISCOVERY: Knob = Knob::lenient(
    "ENABLE_SUBNET_DISCOVERY",
    "true",
    Kind::Flag,
    "new ENIs may use other subnets of the zone that are tagged kubernetes.io/role/cni",
);
/// `DISABLE_LEAKED_ENI_CLEANUP`.
pub const DISABLE_LEAKED_ENI_CLEANUP: Knob = Knob::lenient(
    "DISABLE_LEAKED_ENI_CLEANUP",
    "false",
    Kind::Flag,
    "never look for ENIs left behind, nor delete them, unless `podwire leaks` asks for it",
);
/// `AWS_EC2_ENDPOINT`. *Why* here: the incumbent documents it but hands it to its IMDS client only.
pub const AWS_EC2_ENDPOINT: Knob =
    Knob::lenient("AWS_EC2_ENDPOINT", "", Kind::Text, "URL of the EC2 API instead of the Region's own");
/// `HTTP_TIMEOUT`.
pub const HTTP_TIMEOUT: Knob = Knob::lenient(
    "HTTP_TIMEOUT",
    "10",
    Kind::Number { min: 10, max: 3_600, unit: "seconds" },
    "time of one try of an AWS call; less than 10 is ignored, as the incumbent does",
);
/// `PODWIRE_EC2_TIMEOUT_MS`.
pub const PODWIRE_EC2_TIMEOUT_MS: Knob = Knob::strict(
    "PODWIRE_EC2_TIMEOUT_MS",
    "",
    Kind::Number { min: 100, max: 3_600_000, unit: "milliseconds" },
    "time of one try of an EC2 call; HTTP_TIMEOUT, 10 seconds by default, when not set",
);
/// `PODWIRE_SUBNET_FLOOR`. *Source* of the default: our choice, design §7.
pub const PODWIRE_SUBNET_FLOOR: Knob = Knob::strict(
    "PODWIRE_SUBNET_FLOOR",
    "16",
    Kind::Number { min: 0, max: 65_536, unit: "addresses" },
    "addresses of each subnet left for what is not ours: new nodes, control-plane ENIs, load balancers",
);
/// `PODWIRE_EC2_NODES`. *Why* no default: spreading costs waiting pods time, and most nodes start alone.
pub const PODWIRE_EC2_NODES: Knob = Knob::strict(
    "PODWIRE_EC2_NODES",
    "",
    Kind::Number { min: 1, max: 100_000, unit: "nodes" },
    "nodes that start or restart together: their first EC2 calls are spread so that the account's budget lasts for all",
);
/// `PODWIRE_EC2_SHARE`. *Source* of the default: our choice; the rest belongs to whoever else calls EC2 in the account.
pub const PODWIRE_EC2_SHARE: Knob = Knob::strict(
    "PODWIRE_EC2_SHARE",
    "100",
    Kind::Number { min: 1, max: 100, unit: "percent" },
    "part of the account's EC2 budget that all nodes of this cluster may use together",
);
/// `PODWIRE_LEAK_DRY_RUN`.
pub const PODWIRE_LEAK_DRY_RUN: Knob = Knob::strict(
    "PODWIRE_LEAK_DRY_RUN",
    "false",
    Kind::Flag,
    "ENIs that dead nodes left behind are named, not deleted, unless `podwire leaks --delete` orders it",
);
/// `PODWIRE_LEAK_PROOF_S`. *Source* of the default: our choice, design §7; EC2's describes agree within seconds.
pub const PODWIRE_LEAK_PROOF_S: Knob = Knob::strict(
    "PODWIRE_LEAK_PROOF_S",
    "600",
    Kind::Number { min: 10, max: 86_400, unit: "seconds" },
    "how long an ENI must be known to have no living owner until a second look proves that it was left behind",
);
/// `PODWIRE_MAX_PODS`.
pub const PODWIRE_MAX_PODS: Knob = Knob::strict(
    "PODWIRE_MAX_PODS",
    "",
    Kind::Number { min: 1, max: 65_536, unit: "pods" },
    "kubelet's --max-pods, where it differs from what the instance type suggests; a pod that waits beyond it is served all the same",
);

/// `ENABLE_IMDS_ONLY_MODE`.
pub const ENABLE_IMDS_ONLY_MODE: Knob =
    Knob::lenient("ENABLE_IMDS_ONLY_MODE", "false", Kind::Flag, "never call EC2");
/// `DISABLE_NETWORK_RESOURCE_PROVISIONING`.
pub const DISABLE_NETWORK_RESOURCE_PROVISIONING: Knob = Knob::lenient(
    "DISABLE_NETWORK_RESOURCE_PROVISIONING",
    "false",
    Kind::Flag,
    "use the ENIs and addresses that are there, never change them",
);

/// The knobs of this group.
pub const KNOBS: &[&Knob] = &[
    &ENABLE_PREFIX_DELEGATION,
    &MAX_ENI,
    &IP_COOLDOWN_PERIOD,
    &MANAGE_UNTAGGED_ENI,
    &ADDITIONAL_ENI_TAGS,
    &CLUSTER_NAME,
    &ENABLE_SUBNET_DISCOVERY,
    &DISABLE_LEAKED_ENI_CLEANUP,
    &AWS_EC2_ENDPOINT,
    &HTTP_TIMEOUT,
    &PODWIRE_EC2_TIMEOUT_MS,
    &PODWIRE_SUBNET_FLOOR,
    &PODWIRE_EC2_NODES,
    &PODWIRE_EC2_SHARE,
    &PODWIRE_LEAK_DRY_RUN,
    &PODWIRE_LEAK_PROOF_S,
    &PODWIRE_MAX_PODS,
    &ENABLE_IMDS_ONLY_MODE,
    &DISABLE_NETWORK_RESOURCE_PROVISIONING,
];

/// Tag keys with this in them are the controllers' own. *Source*: incumbent-behaviour §1.2, ADDITIONAL_ENI_TAGS.
const RESERVED_IN_TAG_KEYS: &str = "k8s.amazonaws.com";

/// ENIs and EC2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eni {
    /// Prefixes are wished for; `lint::against_limits` says whether the instance takes them.
    pub prefix_delegation: bool,
    /// Most ENIs to use, primary included; `None`: the instance's limit.
    pub max_eni: Option<u32>,
    /// How long a released address rests.
    pub cooldown: Duration,
    /// Untagged secondary ENIs are ours too.
    pub manage_untagged: bool,
    /// More tags for ENIs of ours; no reserved keys.
    pub additional_tags: BTreeMap<String, String>,
    /// The cluster.
    pub cluster_name: Option<String>,
    /// Other tagged subnets may be used.
    pub subnet_discovery: bool,
    /// ENIs left behind are deleted.
    pub leak_cleanup: bool,
    /// ENIs and addresses are created and given back.
    pub provisioning: bool,
    /// URL of the EC2 API instead of the Region's own.
    pub ec2_endpoint: Option<String>,
    /// Time of one try of an EC2 call.
    pub ec2_timeout: Duration,
    /// Addresses of each subnet left for what is not ours.
    pub subnet_floor: u32,
    /// Nodes that start or restart together, where the operator told it.
    pub ec2_nodes: Option<u32>,
    /// Part of the account's EC2 budget for this cluster's nodes. *Unit*: percent.
    pub ec2_share: u32,
    /// ENIs left behind are named, not deleted.
    pub leak_dry_run: bool,
    /// How long apart the two looks are that prove an ENI left behind.
    pub leak_proof: Duration,
    /// kubelet's `--max-pods` where the operator told it.
    pub max_pods: Option<u32>,
}

impl Eni {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Self {
        let imds_only = reader.flag(&ENABLE_IMDS_ONLY_MODE);
        let frozen = reader.flag(&DISABLE_NETWORK_RESOURCE_PROVISIONING) || imds_only;
        let provisioning = !frozen;
        if frozen {
            refuse_frozen(reader, imds_only);
        }
        Self {
            prefix_delegation: reader.flag(&ENABLE_PREFIX_DELEGATION),
            max_eni: Some(reader.count(&MAX_ENI)).filter(|&max| max >= 1),
            cooldown: seconds(reader.count(&IP_COOLDOWN_PERIOD)),
            manage_untagged: reader.flag(&MANAGE_UNTAGGED_ENI),
            additional_tags: additional_tags(reader),
            cluster_name: reader.text(&CLUSTER_NAME),
            subnet_discovery: reader.flag(&ENABLE_SUBNET_DISCOVERY),
            leak_cleanup: !reader.flag(&DISABLE_LEAKED_ENI_CLEANUP) && provisioning,
            provisioning,
            ec2_endpoint: endpoint(reader),
            ec2_timeout: ec2_timeout(reader),
            subnet_floor: reader.count(&PODWIRE_SUBNET_FLOOR),
            ec2_nodes: Some(reader.count(&PODWIRE_EC2_NODES)).filter(|&nodes| nodes >= 1),
            ec2_share: reader.count(&PODWIRE_EC2_SHARE),
            leak_dry_run: reader.flag(&PODWIRE_LEAK_DRY_RUN),
            leak_proof: seconds(reader.count(&PODWIRE_LEAK_PROOF_S)),
            max_pods: Some(reader.count(&PODWIRE_MAX_PODS)).filter(|&max| max >= 1),
        }
    }
}

/// *Why* refused: to create ENIs although the operator forbade it is worse than not to start.
fn refuse_frozen(reader: &mut Reader<'_>, imds_only: bool) {
    let knob = if imds_only { &ENABLE_IMDS_ONLY_MODE } else { &DISABLE_NETWORK_RESOURCE_PROVISIONING };
    reader.refuse(
        MistakeKind::Refused,
        knob,
        "running without changes in EC2 is not supported yet, and podwire would make them".to_owned(),
        "remove it, or keep aws-node on these nodes",
    );
}

fn additional_tags(reader: &mut Reader<'_>) -> BTreeMap<String, String> {
    let mut tags = reader.tags(&ADDITIONAL_ENI_TAGS);
    let reserved: Vec<String> =
        tags.keys().filter(|key| key.contains(RESERVED_IN_TAG_KEYS)).cloned().collect();
    for key in reserved {
        tags.remove(&key);
        let what = format!("tag key {key:?} is reserved and left out");
        reader.find(Severity::Error, &ADDITIONAL_ENI_TAGS, what, "use a key without k8s.amazonaws.com");
    }
    tags
}

/// A URL with a scheme; anything else is ignored loudly.
fn endpoint(reader: &mut Reader<'_>) -> Option<String> {
    let url = reader.text(&AWS_EC2_ENDPOINT)?;
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    if host.is_some_and(|host| !host.is_empty() && !host.starts_with('/')) {
        return Some(url);
    }
    let what = format!("{url:?} is no http or https URL and is ignored: the Region's own endpoint is used");
    reader.find(Severity::Error, &AWS_EC2_ENDPOINT, what, "write it as https://host[:port]");
    None
}

fn ec2_timeout(reader: &mut Reader<'_>) -> Duration {
    let general = seconds(reader.count(&HTTP_TIMEOUT));
    match reader.count(&PODWIRE_EC2_TIMEOUT_MS) {
        0 => general,
        own => millis(own),
    }
}
