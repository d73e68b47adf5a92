//! The one table from EC2's error codes to what they mean for the pool, and to what a person can do.
//!
//! *Source*: EC2 API reference, "Error codes for the Amazon EC2 API", common, action-specific and server codes, checked
//! 2026-11-27; classes as in design D3 and D12. Only codes are looked at, never message texts: texts change.

use podwire_pool::FailureClass;

/// What a code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    /// For the pool.
    pub class: FailureClass,
    /// What to do, for people.
    pub fix: &'static str,
    /// The signature was refused: credentials or clock. Nothing was looked at, nothing done.
    pub signature: bool,
}

/// Calls whose codes mean something of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// AttachNetworkInterface.
    Attach,
    /// UnassignPrivateIpAddresses.
    Unassign,
    /// DeleteNetworkInterface.
    Delete,
}

/// What an EC2 error code means as an answer to this call; otherwise as [`meaning_of`].
#[must_use]
pub fn meaning_at(call: Option<Call>, code: &str, http_status: Option<u16>) -> Meaning {
    let bare = bare(code);
    let row = SPECIAL.iter().find(|(of, row)| call == Some(*of) && row.codes.contains(&bare));
    row.map_or_else(|| meaning_of(code, http_status), |(_, row)| row.meaning())
}

/// What an EC2 error code means. Codes that are not in the table: a client error did nothing (EC2 validates before it
/// acts), anything else may have been done.
#[must_use]
pub fn meaning_of(code: &str, http_status: Option<u16>) -> Meaning {
    let bare = bare(code);
    if let Some(row) = TABLE.iter().find(|row| row.codes.contains(&bare)) {
        return row.meaning();
    }
    let class = match http_status {
        Some(400..=499) if bare.ends_with(".NotFound") => FailureClass::NotFound,
        Some(429) => FailureClass::Throttled,
        Some(400..=499) => FailureClass::Invalid,
        _ => FailureClass::Unknown,
    };
    Meaning { class, fix: UNLISTED, signature: false }
}

/// Some tools and older endpoints show the side at fault before the code.
fn bare(code: &str) -> &str {
    code.strip_prefix("Client.").or_else(|| code.strip_prefix("Server.")).unwrap_or(code)
}

struct Row {
    class: FailureClass,
    fix: &'static str,
    signature: bool,
    codes: &'static [&'static str],
}

impl Row {
    const fn meaning(&self) -> Meaning {
        Meaning { class: self.class, fix: self.fix, signature: self.signature }
    }
}

const fn row(class: FailureClass, fix: &'static str, codes: &'static [&'static str]) -> Row {
    Row { class, fix, signature: false, codes }
}

const fn signature(fix: &'static str, codes: &'static [&'static str]) -> Row {
    Row { class: FailureClass::Denied, fix, signature: true, codes }
}

const UNLISTED: &str = "look the code up in the EC2 API reference, \"Error codes\"";
const OURS: &str = "this is podwire's mistake or an EC2 endpoint that is none; report it with the log";

/// What common codes say where the request itself is right: EC2 has one word for a wrong parameter and for a state that does
/// not fit it. *Source*: messages of EC2 that others met ("Network interface 'eni-…' is currently in use", "Instance … already
/// has an interface attached at device index …", "Some of the specified addresses are not assigned to interface …").
const SPECIAL: &[(Call, Row)] = &[
    (
        Call::Delete,
        row(
            FailureClass::Busy,
            "EC2 is still detaching it; it is tried again shortly",
            &["InvalidParameterValue"],
        ),
    ),
    (
        Call::Attach,
        row(
            FailureClass::Invalid,
            "another network interface may be at that device index; the next one is tried",
            &["InvalidParameterValue"],
        ),
    ),
    // It says nothing of how many ENIs the instance takes.
    (
        Call::Attach,
        row(
            FailureClass::Invalid,
            "the new network interface carries more addresses than the instance type takes; its limits in podwire are wrong",
            &["PrivateIpAddressLimitExceeded", "InvalidInterface.IpAddressLimitExceeded"],
        ),
    ),
    (
        Call::Unassign,
        row(
            FailureClass::Invalid,
            "somebody else may have taken the addresses off it; EC2 is asked what there is",
            &["InvalidParameterValue"],
        ),
    ),
];

/// Codes that every action may answer, and those that actions on network interfaces, subnets, groups, instance types and
/// tags may.
const TABLE: &[Row] = &[
    row(
        FailureClass::Throttled,
        "it is tried again with back-off; if it lasts, have the account's API request rate raised",
        &[
            "RequestLimitExceeded",
            "Throttling",
            "ThrottlingException",
            "RequestThrottled",
            "RequestThrottledException",
            "EC2ThrottledException",
            "TooManyRequestsException",
            "SlowDown",
            "BandwidthLimitExceeded",
        ],
    ),
    row(
        FailureClass::SubnetExhausted,
        "add a subnet tagged kubernetes.io/role/cni=1 or a larger CIDR",
        &["InsufficientFreeAddressesInSubnet", "InsufficientAddressCapacity"],
    ),
    // *Source*: EKS best practices, "Prefix mode": the error page does not list it.
    row(
        FailureClass::SubnetFragmented,
        "add a prefix CIDR reservation or use a new subnet",
        &["InsufficientCidrBlocks"],
    ),
    row(
        FailureClass::LimitExceeded,
        "what the instance type allows is used up; if fewer are in use, its limits in podwire are wrong",
        &[
            "PrivateIpAddressLimitExceeded",
            "InvalidInterface.IpAddressLimitExceeded",
            "AttachmentLimitExceeded",
        ],
    ),
    row(
        FailureClass::QuotaExceeded,
        "have the quota \"Network interfaces per Region\" (L-DF5E4CA3) raised, or delete unused ones",
        &["NetworkInterfaceLimitExceeded"],
    ),
    // *Source*: VPC user guide, "Network Address Usage for your VPC".
    row(
        FailureClass::QuotaExceeded,
        "have the VPC's quota \"Network Address Usage\" (L-BB24F6E5) raised, or enable prefix delegation",
        &["NetworkAddressUsageLimitExceeded"],
    ),
    row(
        FailureClass::QuotaExceeded,
        "have the quota that EC2 names raised",
        &["ResourceLimitExceeded", "ResourceCountExceeded", "ResourceCountLimitExceeded"],
    ),
    row(
        FailureClass::Denied,
        "add the action to the policy of the node's role; AmazonEKS_CNI_Policy has all that is needed",
        &["UnauthorizedOperation", "AccessDenied", "AccessDeniedException"],
    ),
    row(
        FailureClass::Denied,
        "make ADDITIONAL_ENI_TAGS comply with the account's tag policy",
        &["TagPolicyViolation"],
    ),
    row(
        FailureClass::Denied,
        "the account may not use EC2 now; ask AWS support",
        &["Blocked", "OptInRequired", "PendingVerification", "AccountDisabled"],
    ),
    signature(
        "check the instance profile, or the role of the pod's service account",
        &[
            "AuthFailure",
            "InvalidClientTokenId",
            "UnrecognizedClientException",
            "MissingAuthenticationToken",
            "IncompleteSignature",
            "InvalidCredentials",
            "InvalidAccessKeyId",
        ],
    ),
    signature(
        "check the node's clock, and that its credentials are renewed",
        &[
            "SignatureDoesNotMatch",
            "InvalidSignatureException",
            "RequestExpired",
            "InvalidSecurity.RequestHasExpired",
            "RequestTimeTooSkewed",
            "ExpiredToken",
            "ExpiredTokenException",
        ],
    ),
    row(
        FailureClass::NotFound,
        "EC2 knows a new one only after seconds; if it lasts, somebody deleted it",
        &[
            "InvalidNetworkInterfaceID.NotFound",
            "InvalidNetworkInterface.NotFound",
            "InvalidAttachmentID.NotFound",
            "InvalidAttachment.NotFound",
            "InvalidNetworkInterfaceAttachmentId.NotFound",
            "InvalidInstanceID.NotFound",
        ],
    ),
    row(
        FailureClass::NotFound,
        "check the subnet and security groups of the primary network interface, and ENIConfig",
        &[
            "InvalidSubnetID.NotFound",
            "InvalidSubnetId.NotFound",
            "InvalidSubnet",
            "InvalidGroup.NotFound",
            "InvalidSecurityGroupID.NotFound",
            "InvalidSecurityGroupId.NotFound",
            "InvalidVpcID.NotFound",
        ],
    ),
    row(
        FailureClass::Busy,
        "it is tried again shortly",
        &[
            "InvalidNetworkInterface.InUse",
            "IncorrectState",
            "IncorrectStateException",
            "IncorrectInstanceState",
            "InvalidInstanceState",
            "InvalidState",
            "DependencyViolation",
            "ConcurrentTagAccess",
            "Resource.AlreadyAssociated",
            "Resource.AlreadyAssigned",
        ],
    ),
    row(
        FailureClass::Unknown,
        "it may have been done; EC2 is asked what there is, then it is tried again",
        &[
            "InternalError",
            "InternalFailure",
            "ServerInternal",
            "ServiceUnavailable",
            "Unavailable",
            "RetryableError",
            "RequestTimeout",
            "RequestTimeoutException",
            "InsufficientCapacity",
        ],
    ),
    row(
        FailureClass::Invalid,
        "remove tags from ADDITIONAL_ENI_TAGS (EC2 allows 50 on an ENI)",
        &["TagLimitExceeded", "InvalidTagKey.Malformed"],
    ),
    row(
        FailureClass::Invalid,
        "use fewer security groups on the primary network interface or in ENIConfig",
        &[
            "SecurityGroupsPerInterfaceLimitExceeded",
            "SecurityGroupsPerInstanceLimitExceeded",
            "SecurityGroupLimitExceeded",
        ],
    ),
    row(
        FailureClass::Invalid,
        "check the Region, and the instance type's support for what was asked",
        &[
            "InvalidRegion",
            "InvalidInstanceType",
            "InvalidInstanceID",
            "Unsupported",
            "UnsupportedOperation",
            "UnsupportedInstanceAttribute",
            "NetworkInterfaceNotSupported",
            "OperationNotPermitted",
            "InvalidIPAddress.InUse",
        ],
    ),
    row(
        FailureClass::Invalid,
        OURS,
        &[
            "ClientInvalidParameterValue",
            "DryRunOperation",
            "FilterLimitExceeded",
            "IdempotentParameterMismatch",
            "InvalidAction",
            "InvalidAddress.Malformed",
            "InvalidCharacter",
            "InvalidClientToken",
            "InvalidFilter",
            "InvalidGroupId.Malformed",
            "InvalidID",
            "InvalidInput",
            "InvalidInstanceID.Malformed",
            "InvalidMaxResults",
            "InvalidNetworkInterfaceAttachmentID.Malformed",
            "InvalidNetworkInterfaceAttachmentId.Malformed",
            "InvalidNetworkInterfaceId.Malformed",
            "InvalidNextToken",
            "InvalidPaginationToken",
            "InvalidParameter",
            "InvalidParameterCombination",
            "InvalidParameterDependency",
            "InvalidParameterValue",
            "InvalidQueryParameter",
            "InvalidRequest",
            "InvalidSecurityGroupId.Malformed",
            "InvalidSubnetID.Malformed",
            "InvalidVpcID.Malformed",
            "MalformedQueryString",
            "MissingAction",
            "MissingInput",
            "MissingParameter",
            "NoSuchVersion",
            "UnknownParameter",
            "UnsupportedProtocol",
            "ValidationError",
        ],
    ),
];

#[cfg(test)]
mod tests;
