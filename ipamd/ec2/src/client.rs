//! Calls → SDK. One request for each mutating call; a deadline on every request.

use std::time::{Duration, SystemTime};

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ec2::Client;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::types::{
    Filter, InstanceType, NetworkInterface, NetworkInterfaceAttachmentChanges, ResourceType, Tag,
    TagSpecification,
};
use aws_smithy_http_client::Builder as HttpBuilder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use aws_smithy_types::retry::RetryConfig;
use ipnetwork::IpNetwork;
use podwire_pool::{
    AttachmentId, Ec2Answer, Ec2Call, Ec2Failure, EniId, FailureClass, GrowBy, InstanceId, ObservedEni, OpId,
};

use crate::classify::class_of;
use crate::describe::observed;
use crate::tags::{INSTANCE_TAG, TagSet};

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
}

/// Page size of describes. *Source*: EC2 API reference, DescribeNetworkInterfaces, MaxResults 5–1000.
pub(crate) const PAGE: i32 = 1000;

impl Ec2Client {
    /// Makes a client; sends nothing. Credentials come from the SDK's default chain when first needed.
    pub async fn new(options: Ec2Options) -> Self {
        let http = HttpBuilder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(options.timeout.min(Duration::from_secs(3)))
            .operation_timeout(options.timeout)
            .build();
        let shared: SdkConfig = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(options.region.clone()))
            .http_client(http)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .load()
            .await;
        let mut config = aws_sdk_ec2::config::Builder::from(&shared);
        if let Some(endpoint) = &options.endpoint {
            config = config.endpoint_url(endpoint);
        }
        Self { client: Client::from_conf(config.build()), options }
    }

    /// Makes one call.
    ///
    /// # Errors
    /// The failure, classified. `Unknown` means that it may have been done.
    pub async fn call(&self, op: OpId, call: &Ec2Call) -> Result<Ec2Answer, Ec2Failure> {
        match call {
            Ec2Call::Assign { eni, by } => self.assign(eni, *by).await,
            Ec2Call::Unassign { eni, nets } => self.unassign(eni, nets).await,
            Ec2Call::Create { .. } => self.create(op, call).await,
            Ec2Call::Attach { eni, card, device } => self.attach(eni, card.0, device.0).await,
            Ec2Call::DeleteOnTermination { eni, attachment } => {
                self.delete_on_termination(eni, attachment).await
            }
            Ec2Call::Detach { eni: _, attachment } => {
                let sent =
                    self.client.detach_network_interface().attachment_id(attachment.as_str()).send().await;
                sent.map(|_| Ec2Answer::Detached).map_err(|e| failure(&e))
            }
            Ec2Call::Delete { eni } => {
                let sent =
                    self.client.delete_network_interface().network_interface_id(eni.as_str()).send().await;
                sent.map(|_| Ec2Answer::Deleted).map_err(|e| failure(&e))
            }
            Ec2Call::Describe { also } => self.describe(also).await.map(Ec2Answer::Described),
            Ec2Call::SetGroups { eni, groups } => self.set_groups(eni, groups).await,
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
        let answer = self
            .client
            .describe_instance_types()
            .instance_types(InstanceType::from(instance_type))
            .send()
            .await
            .map_err(|e| failure(&e))?;
        let network = answer.instance_types().first().and_then(|t| t.network_info());
        let counts = network.and_then(|n| {
            let enis = n.network_cards().first().and_then(|c| c.maximum_network_interfaces());
            Some((enis.or_else(|| n.maximum_network_interfaces())?, n.ipv4_addresses_per_interface()?))
        });
        let (enis, addresses) = counts
            .ok_or_else(|| invalid("DescribeInstanceTypes", "the answer has no network information"))?;
        Ok((count_u32(enis)?, count_u32(addresses)?))
    }

    async fn assign(&self, eni: &EniId, by: GrowBy) -> Result<Ec2Answer, Ec2Failure> {
        let request = self.client.assign_private_ip_addresses().network_interface_id(eni.as_str());
        let request = match by {
            GrowBy::Addresses(n) => request.secondary_private_ip_address_count(count_i32(n)?),
            GrowBy::Prefixes(n) => request.ipv4_prefix_count(count_i32(n)?),
        };
        let answer = request.send().await.map_err(|e| failure(&e))?;
        let addresses = answer.assigned_private_ip_addresses().iter().filter_map(|a| a.private_ip_address());
        let prefixes = answer.assigned_ipv4_prefixes().iter().filter_map(|p| p.ipv4_prefix());
        // What cannot be parsed makes the outcome unknown: something is assigned that we cannot name.
        let nets: Result<Vec<IpNetwork>, _> = addresses.chain(prefixes).map(str::parse).collect();
        nets.map(Ec2Answer::Assigned).map_err(|_| unknown("unreadable-answer", "AssignPrivateIpAddresses"))
    }

    async fn unassign(&self, eni: &EniId, nets: &[IpNetwork]) -> Result<Ec2Answer, Ec2Failure> {
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
        request.send().await.map(|_| Ec2Answer::Unassigned).map_err(|e| failure(&e))
    }

    async fn create(&self, op: OpId, call: &Ec2Call) -> Result<Ec2Answer, Ec2Failure> {
        let Ec2Call::Create { subnet, groups, with } = call else {
            return Err(invalid("CreateNetworkInterface", "called for another action"));
        };
        let created_at = DateTime::from(SystemTime::now()).fmt(Format::DateTime).unwrap_or_default();
        let tags = self.options.tags.for_new_eni(op, &created_at);
        let tags = tags.into_iter().map(|(k, v)| Tag::builder().key(k).value(v).build()).collect();
        let request = self
            .client
            .create_network_interface()
            .subnet_id(subnet.as_str())
            .set_groups(Some(groups.iter().map(ToString::to_string).collect()))
            .description(self.options.tags.description())
            .client_token(format!("podwire-{}-{op}", self.options.token_salt))
            .tag_specifications(
                TagSpecification::builder()
                    .resource_type(ResourceType::NetworkInterface)
                    .set_tags(Some(tags))
                    .build(),
            );
        let request = match with {
            GrowBy::Addresses(0) | GrowBy::Prefixes(0) => request,
            GrowBy::Addresses(n) => request.secondary_private_ip_address_count(count_i32(*n)?),
            GrowBy::Prefixes(n) => request.ipv4_prefix_count(count_i32(*n)?),
        };
        let answer = request.send().await.map_err(|e| failure(&e))?;
        let eni =
            answer.network_interface().ok_or_else(|| unknown("empty-answer", "CreateNetworkInterface"))?;
        let eni = observed(eni).map_err(|e| unknown("unreadable-answer", &e.to_string()))?;
        Ok(Ec2Answer::Created(Box::new(eni)))
    }

    async fn attach(&self, eni: &EniId, card: u32, device: u32) -> Result<Ec2Answer, Ec2Failure> {
        let mut request = self
            .client
            .attach_network_interface()
            .network_interface_id(eni.as_str())
            .instance_id(self.options.instance.as_str())
            .device_index(count_i32(device)?);
        if card > 0 {
            request = request.network_card_index(count_i32(card)?);
        }
        let answer = request.send().await.map_err(|e| failure(&e))?;
        let id = answer.attachment_id().ok_or_else(|| unknown("empty-answer", "AttachNetworkInterface"))?;
        Ok(Ec2Answer::Attached(AttachmentId::new(id)))
    }

    async fn delete_on_termination(
        &self,
        eni: &EniId,
        attachment: &AttachmentId,
    ) -> Result<Ec2Answer, Ec2Failure> {
        let change = NetworkInterfaceAttachmentChanges::builder()
            .attachment_id(attachment.as_str())
            .delete_on_termination(true)
            .build();
        let request = self.client.modify_network_interface_attribute();
        let sent = request.network_interface_id(eni.as_str()).attachment(change).send().await;
        sent.map(|_| Ec2Answer::Modified).map_err(|e| failure(&e))
    }

    /// The ENIs of this instance; those made for it that hang in the air; and those asked for by id, wherever they are.
    async fn describe(&self, also: &[EniId]) -> Result<Vec<ObservedEni>, Ec2Failure> {
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

    pub(crate) async fn describe_by(&self, filters: Vec<Filter>) -> Result<Vec<ObservedEni>, Ec2Failure> {
        let request = self.client.describe_network_interfaces().set_filters(Some(filters)).max_results(PAGE);
        let mut pages = request.into_paginator().send();
        let mut enis = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|e| failure(&e))?;
            enis.extend(page.network_interfaces().iter().filter_map(understood));
        }
        Ok(enis)
    }
}

fn understood(eni: &NetworkInterface) -> Option<ObservedEni> {
    observed(eni).inspect_err(|error| tracing::warn!(%error, "EC2 described an ENI that cannot be used")).ok()
}

pub(crate) fn filter<'a>(name: &str, values: impl IntoIterator<Item = &'a str>) -> Filter {
    Filter::builder().name(name).set_values(Some(values.into_iter().map(str::to_owned).collect())).build()
}

fn count_i32(n: u32) -> Result<i32, Ec2Failure> {
    i32::try_from(n).map_err(|_| invalid("count", "too large for EC2"))
}

pub(crate) fn count_u32(n: i32) -> Result<u32, Ec2Failure> {
    u32::try_from(n).map_err(|_| invalid("count", "EC2 answered a negative count"))
}

fn invalid(code: &str, message: &str) -> Ec2Failure {
    Ec2Failure { class: FailureClass::Invalid, code: code.into(), message: message.into() }
}

fn unknown(code: &str, message: &str) -> Ec2Failure {
    Ec2Failure { class: FailureClass::Unknown, code: code.into(), message: message.into() }
}

/// Classifies what the SDK reports. A request that may have reached EC2 and got no answer is `Unknown`.
pub(crate) fn failure<E: ProvideErrorMetadata + std::fmt::Debug>(
    error: &SdkError<E, HttpResponse>,
) -> Ec2Failure {
    match error {
        SdkError::ServiceError(service) => {
            let meta = service.err().meta();
            let code = meta.code().unwrap_or("no-code");
            let class = class_of(code, Some(service.raw().status().as_u16()));
            Ec2Failure { class, code: code.into(), message: meta.message().unwrap_or_default().into() }
        }
        SdkError::ConstructionFailure(_) => Ec2Failure {
            class: FailureClass::Denied,
            code: "no-credentials".into(),
            message: "no request could be made: credentials or Region are missing".into(),
        },
        SdkError::TimeoutError(_) => unknown("timeout", "EC2 did not answer in time"),
        SdkError::DispatchFailure(dispatch) if dispatch.is_timeout() => {
            unknown("timeout", "EC2 did not answer in time")
        }
        SdkError::DispatchFailure(dispatch) => {
            let why =
                dispatch.as_connector_error().map_or_else(|| "no connection".to_owned(), ToString::to_string);
            unknown("connection", &why)
        }
        SdkError::ResponseError(response) => {
            let status = response.raw().status().as_u16();
            unknown("unreadable-answer", &format!("HTTP status {status}"))
        }
        _ => unknown("sdk", "the SDK reports an error of a new kind"),
    }
}
