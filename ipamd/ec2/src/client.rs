//! Calls → SDK. One request for each mutating call; a deadline on every request.

use std::time::{Duration, SystemTime};

use aws_config::identity::IdentityCache;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{
    Filter, InstanceType, NetworkInterface, NetworkInterfaceAttachmentChanges, ResourceType, Tag,
    TagSpecification,
};
use aws_smithy_runtime_api::client::http::HttpClient;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use aws_smithy_types::retry::RetryConfig;
use ipnetwork::IpNetwork;
use podwire_pool::{
    AttachmentId, Ec2Answer, Ec2Call, Ec2Failure, EniId, GroupId, GrowBy, InstanceId, ObservedEni, OpId,
    SubnetId,
};

use crate::classify::Call;
use crate::credentials::InTime;
use crate::describe::observed;
use crate::failure::Failed;
use crate::http;
use crate::tags::{INSTANCE_TAG, TagSet};
use crate::tracking::{Primary, Timeouts};

/// What the client is told at start.
#[derive(Debug, Clone)]
pub struct Ec2Options {
    /// Region, from instance metadata.
    pub region: String,
    /// EC2 endpoint of the operator's choice (`AWS_EC2_ENDPOINT`); the SDK's own variables work as well.
    pub endpoint: Option<String>,
    /// Deadline of one request, connection included.
    pub timeout: Duration,
    /// This instance.
    pub instance: InstanceId,
    /// Availability Zone name of this instance.
    pub zone: String,
    /// VPC of this instance.
    pub vpc: String,
    /// Tags of new ENIs.
    pub tags: TagSet,
    /// Makes client tokens unique to this life of the daemon: operation ids begin anew when a ledger is lost, and an old
    /// token would answer with an old ENI.
    pub token_salt: String,
}

/// EC2 as the pool sees it.
#[derive(Debug, Clone)]
pub struct Ec2Client {
    pub(crate) client: Client,
    pub(crate) options: Ec2Options,
    primary: Primary,
}

/// Page size of describes. *Source*: EC2 API reference, DescribeNetworkInterfaces, MaxResults 5–1000.
pub(crate) const PAGE: i32 = 1000;

/// How long a Create waits for what EC2 says of the primary ENI. *Source*: our choice; an answer takes some 100 ms.
const TIMEOUTS_PATIENCE: Duration = Duration::from_secs(2);

/// Percent of a request's time that its credentials may take. *Source*: our choice; STS and the agents answer within a second,
/// an attempt to connect to them ends after three, and EC2 needs the rest.
const CREDENTIALS_SHARE: u32 = 60;

impl Ec2Client {
    /// Makes a client; sends nothing. Credentials come from the SDK's default chain when first needed.
    pub async fn new(options: Ec2Options) -> Self {
        Self::over(http::client(), options).await
    }

    /// The same over another HTTP client.
    pub async fn over(http: impl HttpClient + 'static, options: Ec2Options) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(options.timeout.min(Duration::from_secs(3)))
            .operation_timeout(options.timeout)
            .build();
        let shared: SdkConfig = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(options.region.clone()))
            .http_client(http)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            // Never before what asks for credentials gives up by itself, with an error that says so.
            .identity_cache(IdentityCache::lazy().load_timeout(options.timeout).build())
            .load()
            .await;
        let mut config = aws_sdk_ec2::config::Builder::from(&shared);
        if let Some(source) = shared.credentials_provider() {
            let patience = options.timeout.saturating_mul(CREDENTIALS_SHARE) / 100;
            config = config.credentials_provider(InTime::new(source, patience));
        }
        if let Some(endpoint) = &options.endpoint {
            config = config.endpoint_url(endpoint);
        }
        Self { client: Client::from_conf(config.build()), options, primary: Primary::default() }
    }

    /// Makes one call. A call whose signature EC2 refuses because this machine's clock is wrong is made once more, dated
    /// by EC2's clock: it was turned away at the door, and pods may wait.
    ///
    /// # Errors
    /// The failure, classified. `Unknown` means that it may have been done.
    pub async fn call(&self, op: OpId, call: &Ec2Call) -> Result<Ec2Answer, Ec2Failure> {
        match self.once(op, call).await {
            Err(failed) if failed.skewed => {
                tracing::warn!(%op, code = %failed.failure.code, "this machine's clock is wrong; signing by EC2's from now on");
                self.once(op, call).await.map_err(|failed| failed.failure)
            }
            outcome => outcome.map_err(|failed| failed.failure),
        }
    }

    async fn once(&self, op: OpId, call: &Ec2Call) -> Result<Ec2Answer, Failed> {
        match call {
            Ec2Call::Assign { eni, by } => self.assign(eni, *by).await,
            Ec2Call::Unassign { eni, nets } => self.unassign(eni, nets).await,
            Ec2Call::Create { subnet, groups, with } => self.create(op, subnet, groups, *with).await,
            Ec2Call::Attach { eni, card, device } => self.attach(eni, card.0, device.0).await,
            Ec2Call::DeleteOnTermination { eni, attachment } => {
                self.delete_on_termination(eni, attachment).await
            }
            Ec2Call::Detach { eni: _, attachment } => {
                let sent =
                    self.client.detach_network_interface().attachment_id(attachment.as_str()).send().await;
                sent.map(|_| Ec2Answer::Detached).map_err(|e| Failed::of(&e))
            }
            Ec2Call::Delete { eni } => {
                let sent =
                    self.client.delete_network_interface().network_interface_id(eni.as_str()).send().await;
                sent.map(|_| Ec2Answer::Deleted).map_err(|e| Failed::at(Some(Call::Delete), &e))
            }
            Ec2Call::Describe { also } => self.describe(also).await.map(Ec2Answer::Described),
            Ec2Call::SetGroups { eni, groups } => self.set_groups(eni, groups).await,
            Ec2Call::Tag { eni } => self.tag(eni).await,
            Ec2Call::DescribeSubnets { only } => self.subnets(only).await.map(Ec2Answer::Subnets),
            Ec2Call::FindDetached => self.find_detached().await.map(Ec2Answer::Described),
            Ec2Call::DescribeInstances { ids } => self.existing(ids).await.map(Ec2Answer::Instances),
        }
    }

    /// Limits of an instance type that our table does not know: ENIs on the default card, IPv4 addresses for each.
    ///
    /// # Errors
    /// The failure, classified; `Invalid` when EC2 does not know the type either.
    pub async fn instance_limits(&self, instance_type: &str) -> Result<(u32, u32), Ec2Failure> {
        self.limits(instance_type).await.map_err(|failed| failed.failure)
    }

    async fn limits(&self, instance_type: &str) -> Result<(u32, u32), Failed> {
        let answer = self
            .client
            .describe_instance_types()
            .instance_types(InstanceType::from(instance_type))
            .send()
            .await
            .map_err(|e| Failed::of(&e))?;
        let network = answer.instance_types().first().and_then(|t| t.network_info());
        let counts = network.and_then(|n| {
            let enis = n.network_cards().first().and_then(|c| c.maximum_network_interfaces());
            Some((enis.or_else(|| n.maximum_network_interfaces())?, n.ipv4_addresses_per_interface()?))
        });
        let (enis, addresses) = counts.ok_or_else(|| {
            Failed::invalid("DescribeInstanceTypes", "the answer has no network information")
        })?;
        Ok((count_u32(enis)?, count_u32(addresses)?))
    }

    async fn assign(&self, eni: &EniId, by: GrowBy) -> Result<Ec2Answer, Failed> {
        let request = self.client.assign_private_ip_addresses().network_interface_id(eni.as_str());
        let request = match by {
            GrowBy::Addresses(n) => request.secondary_private_ip_address_count(count_i32(n)?),
            GrowBy::Prefixes(n) => request.ipv4_prefix_count(count_i32(n)?),
        };
        let answer = request.send().await.map_err(|e| Failed::of(&e))?;
        let addresses = answer.assigned_private_ip_addresses().iter().filter_map(|a| a.private_ip_address());
        let prefixes = answer.assigned_ipv4_prefixes().iter().filter_map(|p| p.ipv4_prefix());
        // What cannot be parsed makes the outcome unknown: something is assigned that we cannot name.
        let nets: Result<Vec<IpNetwork>, _> = addresses.chain(prefixes).map(str::parse).collect();
        nets.map(Ec2Answer::Assigned)
            .map_err(|_| Failed::unknown("unreadable-answer", "AssignPrivateIpAddresses"))
    }

    async fn unassign(&self, eni: &EniId, nets: &[IpNetwork]) -> Result<Ec2Answer, Failed> {
        let single = |net: &&IpNetwork| net.prefix() == if net.is_ipv4() { 32 } else { 128 };
        let addresses: Vec<String> = nets.iter().filter(single).map(|n| n.ip().to_string()).collect();
        let prefixes: Vec<String> = nets.iter().filter(|n| !single(n)).map(ToString::to_string).collect();
        let mut request = self.client.unassign_private_ip_addresses().network_interface_id(eni.as_str());
        if !addresses.is_empty() {
            request = request.set_private_ip_addresses(Some(addresses));
        }
        if !prefixes.is_empty() {
            request = request.set_ipv4_prefixes(Some(prefixes));
        }
        let sent = request.send().await;
        sent.map(|_| Ec2Answer::Unassigned).map_err(|e| Failed::at(Some(Call::Unassign), &e))
    }

    async fn create(
        &self,
        op: OpId,
        subnet: &SubnetId,
        groups: &[GroupId],
        with: GrowBy,
    ) -> Result<Ec2Answer, Failed> {
        let tags = to_tags(self.options.tags.for_new_eni(op, &now()));
        let request = self
            .client
            .create_network_interface()
            .subnet_id(subnet.as_str())
            .set_groups(Some(groups.iter().map(ToString::to_string).collect()))
            .description(self.options.tags.description())
            .set_connection_tracking_specification(self.timeouts().await.request())
            .client_token(format!("podwire-{}-{op}", self.options.token_salt))
            .tag_specifications(
                TagSpecification::builder()
                    .resource_type(ResourceType::NetworkInterface)
                    .set_tags(Some(tags))
                    .build(),
            );
        let request = match with {
            GrowBy::Addresses(0) | GrowBy::Prefixes(0) => request,
            GrowBy::Addresses(n) => request.secondary_private_ip_address_count(count_i32(n)?),
            GrowBy::Prefixes(n) => request.ipv4_prefix_count(count_i32(n)?),
        };
        let answer = request.send().await.map_err(|e| Failed::of(&e))?;
        let eni = answer
            .network_interface()
            .ok_or_else(|| Failed::unknown("empty-answer", "CreateNetworkInterface"))?;
        let eni = observed(eni).map_err(|e| Failed::unknown("unreadable-answer", &e.to_string()))?;
        if !eni.primary.is_ipv4() {
            // It exists; what it is, a Describe tells.
            return Err(Failed::unknown("unreadable-answer", &format!("{} has no IPv4 address", eni.id)));
        }
        Ok(Ec2Answer::Created(Box::new(eni)))
    }

    /// The primary ENI's. Read once where no Describe has told them; a Create does not fail, or wait for long, for want of
    /// them.
    async fn timeouts(&self) -> Timeouts {
        if self.primary.timeouts().is_none() {
            let instance = [self.options.instance.as_str()];
            let filters =
                vec![filter("attachment.instance-id", instance), filter("attachment.device-index", ["0"])];
            match tokio::time::timeout(TIMEOUTS_PATIENCE, self.describe_by(filters)).await {
                Ok(Ok(_)) => {}
                Ok(Err(failed)) => tracing::warn!(
                    code = %failed.failure.code,
                    "the primary ENI's connection tracking timeouts cannot be read; a new ENI gets EC2's"
                ),
                Err(_) => tracing::warn!(
                    "the primary ENI's connection tracking timeouts do not come; a new ENI gets EC2's"
                ),
            }
        }
        self.primary.timeouts().unwrap_or_default()
    }

    /// Tags an ENI that others made without any. Its time of creation is not known: this moment stands for it.
    async fn tag(&self, eni: &EniId) -> Result<Ec2Answer, Failed> {
        let tags = self.options.tags.for_untagged_eni(&now());
        let request = self.client.create_tags().resources(eni.as_str()).set_tags(Some(to_tags(tags)));
        request.send().await.map(|_| Ec2Answer::Tagged).map_err(|e| Failed::of(&e))
    }

    async fn attach(&self, eni: &EniId, card: u32, device: u32) -> Result<Ec2Answer, Failed> {
        let mut request = self
            .client
            .attach_network_interface()
            .network_interface_id(eni.as_str())
            .instance_id(self.options.instance.as_str())
            .device_index(count_i32(device)?);
        if card > 0 {
            request = request.network_card_index(count_i32(card)?);
        }
        let answer = request.send().await.map_err(|e| Failed::at(Some(Call::Attach), &e))?;
        let id = answer
            .attachment_id()
            .ok_or_else(|| Failed::unknown("empty-answer", "AttachNetworkInterface"))?;
        Ok(Ec2Answer::Attached(AttachmentId::new(id)))
    }

    async fn delete_on_termination(
        &self,
        eni: &EniId,
        attachment: &AttachmentId,
    ) -> Result<Ec2Answer, Failed> {
        let change = NetworkInterfaceAttachmentChanges::builder()
            .attachment_id(attachment.as_str())
            .delete_on_termination(true)
            .build();
        let request = self.client.modify_network_interface_attribute();
        let sent = request.network_interface_id(eni.as_str()).attachment(change).send().await;
        sent.map(|_| Ec2Answer::Modified).map_err(|e| Failed::of(&e))
    }

    /// The ENIs of this instance; those made for it that hang in the air; and those asked for by id, wherever they are.
    async fn describe(&self, also: &[EniId]) -> Result<Vec<ObservedEni>, Failed> {
        let instance = self.options.instance.as_str();
        let mut enis = self.describe_by(vec![filter("attachment.instance-id", [instance])]).await?;
        let tag = format!("tag:{INSTANCE_TAG}");
        enis.extend(self.describe_by(vec![filter(&tag, [instance]), filter("status", ["available"])]).await?);
        let missing: Vec<&str> =
            also.iter().filter(|id| !enis.iter().any(|e| e.id == **id)).map(EniId::as_str).collect();
        if !missing.is_empty() {
            enis.extend(self.describe_by(vec![filter("network-interface-id", missing)]).await?);
        }
        enis.sort_by(|a, b| a.id.cmp(&b.id));
        enis.dedup_by(|a, b| a.id == b.id);
        Ok(enis)
    }

    pub(crate) async fn describe_by(&self, filters: Vec<Filter>) -> Result<Vec<ObservedEni>, Failed> {
        let request = self.client.describe_network_interfaces().set_filters(Some(filters)).max_results(PAGE);
        let mut pages = request.into_paginator().send();
        let mut enis = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|e| Failed::of(&e))?;
            page.network_interfaces()
                .iter()
                .for_each(|eni| self.primary.see(eni, self.options.instance.as_str()));
            enis.extend(page.network_interfaces().iter().filter_map(understood));
        }
        Ok(enis)
    }
}

/// Now, as the tag with the time of creation says it.
fn now() -> String {
    DateTime::from(SystemTime::now()).fmt(Format::DateTime).unwrap_or_default()
}

fn to_tags(tags: Vec<(String, String)>) -> Vec<Tag> {
    tags.into_iter().map(|(k, v)| Tag::builder().key(k).value(v).build()).collect()
}

fn understood(eni: &NetworkInterface) -> Option<ObservedEni> {
    observed(eni).inspect_err(|error| tracing::warn!(%error, "EC2 described an ENI that cannot be used")).ok()
}

pub(crate) fn filter<'a>(name: &str, values: impl IntoIterator<Item = &'a str>) -> Filter {
    Filter::builder().name(name).set_values(Some(values.into_iter().map(str::to_owned).collect())).build()
}

fn count_i32(n: u32) -> Result<i32, Failed> {
    i32::try_from(n).map_err(|_| Failed::invalid("count", "too large for EC2"))
}

pub(crate) fn count_u32(n: i32) -> Result<u32, Failed> {
    u32::try_from(n).map_err(|_| Failed::invalid("count", "EC2 answered a negative count"))
}
