//! What the metadata service shows one instance, as paths and values. Pure.
//!
//! Source of names and formats: EC2 User Guide, "Instance metadata categories" and "Instance identity documents".

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use serde_json::json;

use crate::cloud::{Credentials, ImdsInterface, ImdsView, Millis};

/// Role of every simulated instance.
pub const ROLE: &str = "vpcsim-node";
/// Image of every simulated instance.
const IMAGE: &str = "ami-0a1b2c3d4e5f60718";

/// Leaves by path below `/latest/`, without a leading slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree(BTreeMap<String, String>);

impl Tree {
    /// All that this instance may read now.
    #[must_use]
    pub fn new(view: &ImdsView, credentials: &Credentials) -> Self {
        let mut leaves = BTreeMap::new();
        instance(&mut leaves, view);
        iam(&mut leaves, view, credentials);
        for interface in &view.interfaces {
            network(&mut leaves, interface);
        }
        let document = identity_document(view);
        leaves.insert("dynamic/instance-identity/document".to_owned(), document);
        Self(leaves)
    }

    /// The same with more leaves, by their path below `meta-data/`.
    #[must_use]
    pub fn with(mut self, leaves: &BTreeMap<String, String>) -> Self {
        let more = leaves.iter().map(|(path, value)| (format!("meta-data/{path}"), value.clone()));
        self.0.extend(more);
        self
    }

    /// A leaf's value or a directory's listing; `None` is 404. `path` is the request's, `/latest/…`.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<String> {
        // A slash at the end is as good as none: botocore asks for `placement/availability-zone/`.
        let below_latest =
            path.strip_prefix("/latest").filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
        let directory = below_latest.trim_matches('/');
        if let Some(value) = self.0.get(directory) {
            return Some(value.clone());
        }
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let below = self.0.range(prefix.clone()..).map_while(|(leaf, _)| leaf.strip_prefix(&prefix));
        let names: BTreeSet<_> = below.map(child).collect();
        // The two roots are listed without a slash; every other directory carries one.
        let names =
            names.into_iter().map(|name| if prefix.is_empty() { name.trim_end_matches('/') } else { name });
        let listing = names.collect::<Vec<_>>().join("\n");
        if listing.is_empty() { None } else { Some(listing) }
    }
}

/// The first step of a path, with its slash when more follows.
fn child(below: &str) -> &str {
    match below.find('/') {
        Some(slash) => &below[..=slash],
        None => below,
    }
}

fn instance(leaves: &mut BTreeMap<String, String>, view: &ImdsView) {
    let mut put = |name: &str, value: String| drop(leaves.insert(format!("meta-data/{name}"), value));
    put("ami-id", IMAGE.to_owned());
    put("ami-launch-index", "0".to_owned());
    put("ami-manifest-path", "(unknown)".to_owned());
    put("hostname", view.local_hostname.clone());
    put("instance-action", "none".to_owned());
    put("instance-id", view.instance.to_string());
    put("instance-life-cycle", "on-demand".to_owned());
    put("instance-type", view.instance_type.clone());
    put("local-hostname", view.local_hostname.clone());
    put("local-ipv4", view.local_ipv4.to_string());
    put("mac", mac(view.mac));
    put("placement/availability-zone", view.az.clone());
    put("placement/availability-zone-id", view.az_id.clone());
    put("placement/region", view.region.clone());
    put("profile", "default-hvm".to_owned());
    put("services/domain", "amazonaws.com".to_owned());
    put("services/partition", "aws".to_owned());
    put("system", "nitro".to_owned());
    if let Some(primary) = view.interfaces.first() {
        put("security-groups", lines(&primary.group_names));
        if let Some(address) = primary.ipv6s.first() {
            put("ipv6", address.to_string());
        }
    }
}

fn iam(leaves: &mut BTreeMap<String, String>, view: &ImdsView, credentials: &Credentials) {
    let updated = seconds(credentials.updated);
    let info = json!({
        "Code": "Success",
        "LastUpdated": updated,
        "InstanceProfileArn": format!("arn:aws:iam::{}:instance-profile/{ROLE}", view.account),
        "InstanceProfileId": "AIPAVPCSIMNODE0000000",
    });
    let keys = json!({
        "Code": "Success",
        "LastUpdated": updated,
        "Type": "AWS-HMAC",
        "AccessKeyId": credentials.access_key,
        "SecretAccessKey": credentials.secret_key,
        "Token": credentials.token,
        "Expiration": seconds(credentials.expires),
    });
    leaves.insert("meta-data/iam/info".to_owned(), format!("{info:#}"));
    leaves.insert(format!("meta-data/iam/security-credentials/{ROLE}"), format!("{keys:#}"));
}

fn network(leaves: &mut BTreeMap<String, String>, interface: &ImdsInterface) {
    let directory = format!("meta-data/network/interfaces/macs/{}", mac(interface.mac));
    let mut put = |name: &str, value: String| {
        // An empty list is a key that is not there.
        if !value.is_empty() && !interface.omitted.contains(name) {
            leaves.insert(format!("{directory}/{name}"), value);
        }
    };
    put("device-number", interface.device.to_string());
    put("interface-id", interface.eni.to_string());
    put("ipv4-prefix", lines(&interface.ipv4_prefixes));
    put("ipv6-prefix", lines(&interface.ipv6_prefixes));
    put("ipv6s", lines(&interface.ipv6s));
    put("local-hostname", interface.local_hostname.clone());
    put("local-ipv4s", lines(&interface.local_ipv4s));
    put("mac", mac(interface.mac));
    put("network-card", interface.card.to_string());
    put("owner-id", interface.owner.clone());
    put("security-group-ids", lines(&interface.group_ids));
    put("security-groups", lines(&interface.group_names));
    put("subnet-id", interface.subnet.to_string());
    put("subnet-ipv4-cidr-block", interface.subnet_cidr.to_string());
    put("subnet-ipv6-cidr-blocks", lines(&interface.subnet_ipv6_cidrs));
    put("vpc-id", interface.vpc.to_string());
    put("vpc-ipv4-cidr-block", interface.vpc_cidrs.first().map(ToString::to_string).unwrap_or_default());
    put("vpc-ipv4-cidr-blocks", lines(&interface.vpc_cidrs));
    put("vpc-ipv6-cidr-blocks", lines(&interface.vpc_ipv6_cidrs));
}

fn identity_document(view: &ImdsView) -> String {
    let document = json!({
        "accountId": view.account,
        "architecture": "x86_64",
        "availabilityZone": view.az,
        "billingProducts": null,
        "devpayProductCodes": null,
        "imageId": IMAGE,
        "instanceId": view.instance.to_string(),
        "instanceType": view.instance_type,
        "kernelId": null,
        "marketplaceProductCodes": null,
        "pendingTime": seconds(view.launched),
        "privateIp": view.local_ipv4.to_string(),
        "ramdiskId": null,
        "region": view.region,
        "version": "2017-09-30",
    });
    format!("{document:#}")
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

fn lines<T: Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The metadata service writes whole seconds: `2026-01-31T23:59:59Z`.
fn seconds(moment: Millis) -> String {
    let text = moment.to_string();
    match text.split_once('.') {
        Some((whole, _)) => format!("{whole}Z"),
        None => text,
    }
}
