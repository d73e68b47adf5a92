//! The one table from EC2's error codes to what they mean for the pool.
//!
//! *Source*: EC2 API reference, "Error codes for the Amazon EC2 API", checked 2026-11-20; classes as in design D3 and D12.
//! Only codes are looked at, never message texts: texts change.

use podwire_pool::FailureClass;

/// What an EC2 error code means. Codes that are not in the table: a client error did nothing (EC2 validates before it
/// acts), anything else may have been done.
#[must_use]
pub fn class_of(code: &str, http_status: Option<u16>) -> FailureClass {
    if let Some(class) = known(code) {
        return class;
    }
    match http_status {
        Some(400..=499) => FailureClass::Invalid,
        _ => FailureClass::Unknown,
    }
}

fn known(code: &str) -> Option<FailureClass> {
    TABLE.iter().find(|(_, codes)| codes.contains(&code)).map(|(class, _)| *class)
}

/// Classes with their codes. `Invalid` holds codes that the HTTP status would classify the same; named because people
/// meet them.
const TABLE: &[(FailureClass, &[&str])] = &[
    (
        FailureClass::Throttled,
        &[
            "RequestLimitExceeded",
            "Client.RequestLimitExceeded",
            "Throttling",
            "ThrottlingException",
            "RequestThrottled",
            "EC2ThrottledException",
            "SlowDown",
            "BandwidthLimitExceeded",
        ],
    ),
    (FailureClass::SubnetExhausted, &["InsufficientFreeAddressesInSubnet", "InsufficientAddressCapacity"]),
    (FailureClass::SubnetFragmented, &["InsufficientCidrBlocks"]),
    (
        FailureClass::LimitExceeded,
        &[
            "PrivateIpAddressLimitExceeded",
            "AttachmentLimitExceeded",
            "NetworkInterfaceLimitExceeded",
            "InterfaceInUseLimitExceeded",
            "ResourceLimitExceeded",
            "InsufficientNetworkInterfaceCapacity",
        ],
    ),
    (
        FailureClass::Denied,
        &[
            "UnauthorizedOperation",
            "AuthFailure",
            "AccessDenied",
            "AccessDeniedException",
            "OptInRequired",
            "Blocked",
            "PendingVerification",
            "InvalidClientTokenId",
            "UnrecognizedClientException",
            "SignatureDoesNotMatch",
            "RequestExpired",
            "ExpiredToken",
            "ExpiredTokenException",
            "InvalidCredentials",
            "MissingAuthenticationToken",
        ],
    ),
    (
        FailureClass::NotFound,
        &[
            "InvalidNetworkInterfaceID.NotFound",
            "InvalidAttachmentID.NotFound",
            "InvalidNetworkInterfaceAttachmentId.NotFound",
            "InvalidSubnetID.NotFound",
            "InvalidInstanceID.NotFound",
            "InvalidGroup.NotFound",
            "InvalidSecurityGroupID.NotFound",
            "InvalidVpcID.NotFound",
        ],
    ),
    (
        FailureClass::Busy,
        &[
            "InvalidNetworkInterface.InUse",
            "IncorrectState",
            "IncorrectInstanceState",
            "ResourceNotReady",
            "ResourceAlreadyAssociated",
            "DependencyViolation",
            "OperationNotPermitted.InUse",
            "ConcurrentModification",
        ],
    ),
    (
        FailureClass::Unknown,
        &[
            "InternalError",
            "InternalFailure",
            "ServerInternal",
            "ServiceUnavailable",
            "Unavailable",
            "RequestTimeout",
            "RequestTimeoutException",
        ],
    ),
    (
        FailureClass::Invalid,
        &[
            "InvalidParameterValue",
            "InvalidParameterCombination",
            "InvalidParameter",
            "MissingParameter",
            "UnknownParameter",
            "InvalidAction",
            "MissingAction",
            "UnsupportedOperation",
            "Unsupported",
            "OperationNotPermitted",
            "InvalidAddress.InUse",
            "InvalidIPAddress.InUse",
            "IdempotentParameterMismatch",
            "DryRunOperation",
            "TagLimitExceeded",
            "MaxNetworkInterfacePermissionLimitExceeded",
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes EC2 documents for the actions we call, with what each must mean.
    #[test]
    fn documented_codes_have_their_class() {
        let table = [
            ("RequestLimitExceeded", 503, FailureClass::Throttled),
            ("InsufficientCidrBlocks", 400, FailureClass::SubnetFragmented),
            ("InsufficientFreeAddressesInSubnet", 400, FailureClass::SubnetExhausted),
            ("PrivateIpAddressLimitExceeded", 400, FailureClass::LimitExceeded),
            ("AttachmentLimitExceeded", 400, FailureClass::LimitExceeded),
            ("UnauthorizedOperation", 403, FailureClass::Denied),
            ("InvalidNetworkInterfaceID.NotFound", 400, FailureClass::NotFound),
            ("InvalidAttachmentID.NotFound", 400, FailureClass::NotFound),
            ("InvalidNetworkInterface.InUse", 400, FailureClass::Busy),
            ("IncorrectState", 400, FailureClass::Busy),
            ("InvalidParameterValue", 400, FailureClass::Invalid),
            ("InternalError", 500, FailureClass::Unknown),
        ];
        for (code, status, class) in table {
            assert_eq!(class_of(code, Some(status)), class, "{code}");
        }
    }

    #[test]
    fn unknown_client_error_did_nothing_unknown_server_error_may_have() {
        assert_eq!(class_of("BrandNewClientError", Some(400)), FailureClass::Invalid);
        assert_eq!(class_of("BrandNewServerError", Some(500)), FailureClass::Unknown);
        assert_eq!(class_of("whatever", None), FailureClass::Unknown);
    }
}
