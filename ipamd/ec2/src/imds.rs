//! Instance metadata: who this instance is, and which ENIs it may have. Version 2 only; one reader for the whole daemon.
//!
//! Metadata is a hint (design D1): a leaf that is missing is reported as missing, never made up, and an ENI whose leaves
//! cannot be read is left out with a warning.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aws_config::imds::client::error::ImdsError as SdkImdsError;
use aws_smithy_types::error::display::DisplayErrorContext;
use ipnetwork::IpNetwork;
use podwire_pool::{DeviceIndex, EniId, GroupId, InstanceId, Mac, NetworkCard, ObservedEni, SubnetId};
use tokio::task::JoinSet;

use reader::Reader;

mod reader;

/// Why metadata could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ImdsError {
    /// The service did not answer, or answered with an error, for a path that must exist.
    #[error(
        "instance metadata {path} cannot be read; check that IMDS is enabled and IMDSv2 reachable from the host network"
    )]
    Unreadable {
        /// Which path.
        path: String,
        /// What the client said.
        #[source]
        source: Box<SdkImdsError>,
    },
    /// Metadata answers that there is no such path, although there must be.
    #[error("instance metadata has no {path} although it must have; it appears late on new ENIs")]
    Absent {
        /// Which path.
        path: String,
    },
    /// The answer is not what the path promises.
    #[error("instance metadata {path} says {value:?}, which is not {expected}")]
    Nonsense {
        /// Which path.
        path: String,
        /// What it said, shortened.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
}

impl ImdsError {
    /// What happened, with all that led to it.
    #[must_use]
    pub fn chain(&self) -> String {
        DisplayErrorContext(self).to_string()
    }
}

/// Who this instance is: the instance identity document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `i-…`.
    pub instance: InstanceId,
    /// For example `m5.large`.
    pub instance_type: String,
    /// For example `eu-west-1`.
    pub region: String,
    /// Availability Zone name.
    pub zone: String,
    /// When the instance was launched, RFC 3339 as EC2 wrote it; empty where the document lacks it.
    pub pending_time: String,
}

/// The node's primary ENI and VPC, as node networking needs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// MAC of the primary ENI.
    pub primary_mac: Mac,
    /// Primary address of the primary ENI.
    pub primary_ip: Ipv4Addr,
    /// The VPC's id.
    pub vpc: String,
    /// All IPv4 CIDRs of the VPC.
    pub vpc_cidrs: Vec<IpNetwork>,
}

/// Reader of instance metadata.
#[derive(Debug, Clone)]
pub struct Imds {
    reader: Reader,
}

/// The ENIs that metadata shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// Those that could be read, by card and device index.
    pub enis: Vec<ObservedEni>,
    /// MACs of those that are listed and could not be read, or not wholly: they exist, and that is all that is known.
    pub unreadable: Vec<Mac>,
}

const MACS: &str = "/latest/meta-data/network/interfaces/macs/";

impl Imds {
    /// A reader at the SDK's endpoint (169.254.169.254, or `AWS_EC2_METADATA_SERVICE_ENDPOINT`).
    #[must_use]
    pub fn new() -> Self {
        Self { reader: Reader::new(None) }
    }

    /// A reader at another endpoint.
    #[must_use]
    pub fn at(endpoint: &str) -> Self {
        Self { reader: Reader::new(Some(endpoint.to_owned())) }
    }

    /// Reads the instance identity document.
    ///
    /// # Errors
    /// It cannot be read, or lacks the instance id, type or Region.
    pub async fn identity(&self) -> Result<Identity, ImdsError> {
        let path = "/latest/dynamic/instance-identity/document";
        let text = self.required(path).await?;
        let nonsense = |expected| ImdsError::Nonsense { path: path.into(), value: shorten(&text), expected };
        let document: serde_json::Value = serde_json::from_str(&text).map_err(|_| nonsense("JSON"))?;
        let field = |name: &str| document.get(name).and_then(|v| v.as_str()).map(str::to_owned);
        Ok(Identity {
            instance: InstanceId::new(
                field("instanceId").ok_or_else(|| nonsense("a document with instanceId"))?,
            ),
            instance_type: field("instanceType").ok_or_else(|| nonsense("a document with instanceType"))?,
            region: field("region").ok_or_else(|| nonsense("a document with region"))?,
            zone: field("availabilityZone").unwrap_or_default(),
            pending_time: field("pendingTime").unwrap_or_default(),
        })
    }

    /// Reads what node networking needs.
    ///
    /// # Errors
    /// The primary ENI's MAC, address or the VPC's id or CIDRs cannot be read, or there are no CIDRs.
    pub async fn node_facts(&self) -> Result<NodeFacts, ImdsError> {
        let primary_mac: Mac = self.parsed("/latest/meta-data/mac", "a MAC address").await?;
        let cidrs_path = format!("{MACS}{primary_mac}/vpc-ipv4-cidr-blocks");
        let vpc_path = format!("{MACS}{primary_mac}/vpc-id");
        let (primary_ip, vpc, cidrs) = tokio::join!(
            self.parsed("/latest/meta-data/local-ipv4", "an IPv4 address"),
            self.required(&vpc_path),
            self.required(&cidrs_path)
        );
        let vpc = vpc?.trim().to_owned();
        let vpc_cidrs = cidrs_of(cidrs_path, &cidrs?)?;
        Ok(NodeFacts { primary_mac, primary_ip: primary_ip?, vpc, vpc_cidrs })
    }

    /// Reads the VPC's IPv4 CIDRs; they may grow while the node runs.
    ///
    /// # Errors
    /// They cannot be read, there are none, or one of them is none.
    pub async fn vpc_cidrs(&self, primary: Mac) -> Result<Vec<IpNetwork>, ImdsError> {
        let path = format!("{MACS}{primary}/vpc-ipv4-cidr-blocks");
        let text = self.required(&path).await?;
        cidrs_of(path, &text)
    }

    /// Reads the IPv4 CIDR of the subnet an ENI is in.
    ///
    /// # Errors
    /// It cannot be read; a new ENI appears in metadata seconds after its attachment.
    pub async fn subnet_cidr(&self, mac: Mac) -> Result<IpNetwork, ImdsError> {
        self.parsed(&format!("{MACS}{mac}/subnet-ipv4-cidr-block"), "a CIDR").await
    }

    /// Whether metadata says that this instance is about to end, in its words.
    ///
    /// # Errors
    /// Neither notice can be read.
    pub async fn ending(&self) -> Result<Option<String>, ImdsError> {
        // *Source*: EC2 user guide, "Spot Instance interruption notices"; EC2 Auto Scaling user guide, "Retrieve the target
        // lifecycle state through instance metadata". Both are 404 on any other instance.
        let (spot, scaling) = tokio::join!(
            self.optional("/latest/meta-data/spot/instance-action"),
            self.optional("/latest/meta-data/autoscaling/target-lifecycle-state")
        );
        if let Ok(Some(action)) = &spot {
            return Ok(Some(shorten(action)));
        }
        if let Ok(Some(state)) = &scaling
            && state.trim() == "Terminated"
        {
            return Ok(Some("the Auto Scaling group terminates this instance".to_owned()));
        }
        spot.and(scaling).map(|_| None)
    }

    /// Reads all ENIs that metadata knows. One that cannot be read keeps no other from being read.
    ///
    /// # Errors
    /// The list of MACs cannot be read.
    pub async fn enis(&self) -> Result<Listing, ImdsError> {
        let listing = self.required(MACS).await?;
        let macs: Vec<Mac> = listing.lines().filter_map(|l| l.trim_end_matches('/').parse().ok()).collect();
        let mut reads = JoinSet::new();
        for mac in &macs {
            let (reader, mac) = (self.clone(), *mac);
            reads.spawn(async move { (mac, reader.eni(mac).await) });
        }
        let mut found = Listing::default();
        while let Some(read) = reads.join_next().await {
            match read {
                Ok((_, Ok(eni))) => found.enis.push(eni),
                Ok((mac, Err(error))) => {
                    let error = error.chain();
                    tracing::warn!(%mac, error, "instance metadata of an ENI is incomplete; it is left out");
                }
                Err(error) => tracing::warn!(%error, "reading instance metadata of an ENI was cut short"),
            }
        }
        let known = |mac: &Mac| found.enis.iter().any(|eni| eni.mac == *mac);
        found.unreadable = macs.into_iter().filter(|mac| !known(mac)).collect();
        found.enis.sort_by(|a, b| (a.card, a.device, &a.id).cmp(&(b.card, b.device, &b.id)));
        Ok(found)
    }

    async fn eni(&self, mac: Mac) -> Result<ObservedEni, ImdsError> {
        let leaf = |name: &str| format!("{MACS}{mac}/{name}");
        let (device, id, subnet, cidr, locals, prefixes, groups, card) = tokio::join!(
            self.parsed_at(leaf("device-number"), "a device index"),
            self.required_at(leaf("interface-id")),
            self.required_at(leaf("subnet-id")),
            self.optional_at(leaf("subnet-ipv4-cidr-block")),
            self.optional_at(leaf("local-ipv4s")),
            self.optional_at(leaf("ipv4-prefix")),
            // Without them new ENIs would get the VPC's default group: better none of this ENI than half of it.
            self.required_at(leaf("security-group-ids")),
            self.optional_at(leaf("network-card")),
        );
        let (device, card) = (device?, card?.and_then(|c| c.trim().parse().ok()).unwrap_or(0));
        let (primary, addresses) = match (locals?, card, device) {
            // EFA-only and IPv6-only ENIs have no IPv4 address; the instance's first ENI always has one.
            (None, 0, 0) => return Err(ImdsError::Absent { path: leaf("local-ipv4s") }),
            (None, _, _) => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), Vec::new()),
            (Some(locals), _, _) => own_and_others(leaf("local-ipv4s"), &locals)?,
        };
        Ok(ObservedEni {
            id: EniId::new(id?.trim()),
            mac,
            attachment: None,
            instance: None,
            card: NetworkCard(card),
            device: DeviceIndex(device),
            subnet: SubnetId::new(subnet?.trim()),
            subnet_cidr: cidr?.and_then(|c| c.trim().parse().ok()),
            groups: groups?.lines().map(|g| GroupId::new(g.trim())).collect(),
            primary,
            addresses,
            prefixes: prefixes?.map(|p| parse_lines(&p)).unwrap_or_default(),
            kind: None,
            tags: None,
            attached: true,
        })
    }

    async fn required(&self, path: &str) -> Result<String, ImdsError> {
        self.optional(path).await?.ok_or_else(|| ImdsError::Absent { path: path.into() })
    }

    /// `None` where metadata answers 404: the leaf does not apply.
    async fn optional(&self, path: &str) -> Result<Option<String>, ImdsError> {
        let read = self.reader.get(path).await;
        read.map_err(|source| ImdsError::Unreadable { path: path.into(), source: Box::new(source) })
    }

    async fn optional_at(&self, path: String) -> Result<Option<String>, ImdsError> {
        self.optional(&path).await
    }

    async fn required_at(&self, path: String) -> Result<String, ImdsError> {
        self.required(&path).await
    }

    async fn parsed<T: std::str::FromStr>(&self, path: &str, expected: &'static str) -> Result<T, ImdsError> {
        let text = self.required(path).await?;
        let nonsense = || ImdsError::Nonsense { path: path.into(), value: shorten(&text), expected };
        text.trim().parse().map_err(|_| nonsense())
    }

    async fn parsed_at<T: std::str::FromStr>(
        &self,
        path: String,
        expected: &'static str,
    ) -> Result<T, ImdsError> {
        self.parsed(&path, expected).await
    }
}

impl Default for Imds {
    fn default() -> Self {
        Self::new()
    }
}

/// The ENI's own address comes first. *Source*: EC2 user guide, "Instance metadata categories", local-ipv4s.
fn own_and_others(path: String, locals: &str) -> Result<(IpAddr, Vec<IpAddr>), ImdsError> {
    let mut addresses = locals.lines().filter_map(|l| l.trim().parse().ok());
    let nonsense = || ImdsError::Nonsense { path, value: shorten(locals), expected: "a list of addresses" };
    Ok((addresses.next().ok_or_else(nonsense)?, addresses.collect()))
}

/// A VPC has a CIDR at least, and pods reach what is in none of them under the node's address: a list that is not
/// understood to its end is no list.
fn cidrs_of(path: String, text: &str) -> Result<Vec<IpNetwork>, ImdsError> {
    let cidrs: Result<Vec<IpNetwork>, _> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::parse).collect();
    let nonsense = || ImdsError::Nonsense { path, value: shorten(text), expected: "a list of CIDRs" };
    cidrs.ok().filter(|cidrs| !cidrs.is_empty()).ok_or_else(nonsense)
}

fn parse_lines<T: std::str::FromStr>(text: &str) -> Vec<T> {
    text.lines().filter_map(|line| line.trim().parse().ok()).collect()
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}
