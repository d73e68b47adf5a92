//! EC2's own errors: code, HTTP status, message.
//!
//! Source of codes and of most messages: Amazon EC2 API Reference, "Error codes for the Amazon EC2 API"; the wording
//! where EC2's documentation has none is that of answers quoted in public bug reports.

use std::borrow::Cow;

use thiserror::Error;

/// A refusal as EC2 words it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// EC2's code, for example `InvalidSubnetID.NotFound`.
    pub code: Cow<'static, str>,
    /// For people.
    pub message: String,
}

impl ApiError {
    /// A client error (HTTP 400) of this code.
    #[must_use]
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        let code = code.into();
        Self { status: status_of(&code), code, message: message.into() }
    }

    /// The value of a parameter is wrong.
    #[must_use]
    pub fn value(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterValue", message)
    }

    /// Parameters that do not go together.
    #[must_use]
    pub fn combination(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterCombination", message)
    }

    /// A required parameter is missing; named as EC2 does, in lower camel case.
    #[must_use]
    pub fn missing(parameter: &str) -> Self {
        Self::new(
            "MissingParameter",
            format!("The request must contain the parameter {}", lower_camel(parameter)),
        )
    }

    /// The simulator itself failed; clients see a server error.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new("InternalError", message)
    }
}

/// `PrivateIpAddress` → `privateIpAddress`.
pub(crate) fn lower_camel(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// The HTTP status that EC2 answers this code with.
///
/// Source: Amazon EC2 API Reference, "Error codes": server errors are 5xx, `AuthFailure` 401, `UnauthorizedOperation`
/// 403, `DryRunOperation` 412; all other client errors 400.
#[must_use]
pub fn status_of(code: &str) -> u16 {
    match code {
        "AuthFailure" => 401,
        "UnauthorizedOperation" | "PendingVerification" | "OptInRequired" | "Blocked" => 403,
        "DryRunOperation" => 412,
        "InternalError" | "InternalFailure" => 500,
        "RequestLimitExceeded" | "ServiceUnavailable" | "Unavailable" => 503,
        _ => 400,
    }
}

/// The refusals that more than one operation gives.
pub(crate) mod refuse {
    use std::fmt::Display;

    use super::super::ids::{AttachmentId, EniId, GroupId, InstanceId, SubnetId};
    use super::ApiError;

    pub(crate) fn no_eni(id: &EniId) -> ApiError {
        ApiError::new(
            "InvalidNetworkInterfaceID.NotFound",
            format!("The networkInterface ID '{id}' does not exist"),
        )
    }

    pub(crate) fn no_enis(ids: &[&EniId]) -> ApiError {
        if let [one] = ids {
            return no_eni(one);
        }
        let list = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        ApiError::new(
            "InvalidNetworkInterfaceID.NotFound",
            format!("The networkInterface IDs '{list}' do not exist"),
        )
    }

    pub(crate) fn no_subnet(id: &SubnetId) -> ApiError {
        ApiError::new("InvalidSubnetID.NotFound", format!("The subnet ID '{id}' does not exist"))
    }

    pub(crate) fn no_instance(id: &InstanceId) -> ApiError {
        ApiError::new("InvalidInstanceID.NotFound", format!("The instance ID '{id}' does not exist"))
    }

    pub(crate) fn no_group(id: &GroupId) -> ApiError {
        ApiError::new(
            "InvalidSecurityGroupID.NotFound",
            format!("The securityGroup ID '{id}' does not exist"),
        )
    }

    pub(crate) fn no_attachment(id: &AttachmentId) -> ApiError {
        ApiError::new(
            "InvalidAttachmentID.NotFound",
            format!("The networkInterfaceAttachment ID '{id}' does not exist"),
        )
    }

    pub(crate) fn managed(id: &EniId) -> ApiError {
        ApiError::new("OperationNotPermitted", format!("You are not allowed to manage the interface '{id}'"))
    }

    pub(crate) fn no_addresses() -> ApiError {
        ApiError::new(
            "InsufficientFreeAddressesInSubnet",
            "The specified subnet does not have enough free addresses to satisfy the request.",
        )
    }

    pub(crate) fn no_blocks() -> ApiError {
        ApiError::new(
            "InsufficientCidrBlocks",
            "The specified subnet does not have enough free cidr blocks to satisfy the request.",
        )
    }

    pub(crate) fn address_limit() -> ApiError {
        ApiError::new("PrivateIpAddressLimitExceeded", "Number of private addresses will exceed limit.")
    }

    /// The wording is EC2's, which programs are known to look for; it does not name the addresses.
    pub(crate) fn not_assigned(id: &EniId, unknown: &[String]) -> ApiError {
        tracing::debug!(eni = %id, ?unknown, "addresses are not assigned");
        ApiError::value(format!("Some of the specified addresses are not assigned to interface {id}"))
    }

    pub(crate) fn outside(address: impl Display) -> ApiError {
        ApiError::value(format!("Address {address} does not fall within the subnet's address range"))
    }

    pub(crate) fn reserved(address: impl Display) -> ApiError {
        ApiError::value(format!("Address {address} is in subnet's reserved address range"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_ec2s() {
        for (code, status) in [
            ("RequestLimitExceeded", 503),
            ("UnauthorizedOperation", 403),
            ("AuthFailure", 401),
            ("DryRunOperation", 412),
            ("InternalError", 500),
            ("InvalidSubnetID.NotFound", 400),
        ] {
            assert_eq!(ApiError::new(code, "").status, status, "{code}");
        }
    }

    #[test]
    fn missing_parameters_are_named_as_ec2_names_them() {
        assert_eq!(
            ApiError::missing("NetworkInterfaceId").message,
            "The request must contain the parameter networkInterfaceId"
        );
    }
}
