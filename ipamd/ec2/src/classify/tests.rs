use super::*;

use FailureClass::{
    Busy, Denied, Invalid, LimitExceeded, NotFound, QuotaExceeded, SubnetExhausted, SubnetFragmented,
    Throttled, Unknown,
};

/// "Common client error codes": every action may answer these. *Source*: EC2 API reference, "Error codes for the Amazon
/// EC2 API", checked 2026-11-27; the whole section.
const COMMON: &[(&str, FailureClass)] = &[
    ("AuthFailure", Denied),
    ("Blocked", Denied),
    ("DryRunOperation", Invalid),
    ("IdempotentParameterMismatch", Invalid),
    ("IncompleteSignature", Denied),
    ("InvalidAction", Invalid),
    ("InvalidCharacter", Invalid),
    ("InvalidClientTokenId", Denied),
    ("InvalidPaginationToken", Invalid),
    ("InvalidParameter", Invalid),
    ("InvalidParameterCombination", Invalid),
    ("InvalidParameterDependency", Invalid),
    ("InvalidParameterValue", Invalid),
    ("InvalidQueryParameter", Invalid),
    ("MalformedQueryString", Invalid),
    ("MissingAction", Invalid),
    ("MissingAuthenticationToken", Denied),
    ("MissingParameter", Invalid),
    ("OptInRequired", Denied),
    ("PendingVerification", Denied),
    ("RequestExpired", Denied),
    ("TagPolicyViolation", Denied),
    ("UnauthorizedOperation", Denied),
    ("UnknownParameter", Invalid),
    ("UnsupportedInstanceAttribute", Invalid),
    ("UnsupportedOperation", Invalid),
    ("UnsupportedProtocol", Invalid),
    ("ValidationError", Invalid),
];

/// "Client error codes for specific actions": those that our actions can answer, by what they speak of (network
/// interfaces and attachments, addresses, subnets, groups, tags, instances and their types, states, limits, form). The
/// rest of the section speaks of images, volumes, gateways, VPNs, Spot requests and so on. *Source*: as above.
const SPECIFIC: &[(&str, FailureClass)] = &[
    ("AccountDisabled", Denied),
    ("AttachmentLimitExceeded", LimitExceeded),
    ("ClientInvalidParameterValue", Invalid),
    ("ConcurrentTagAccess", Busy),
    ("DependencyViolation", Busy),
    ("FilterLimitExceeded", Invalid),
    ("IncorrectInstanceState", Busy),
    ("IncorrectState", Busy),
    ("InsufficientFreeAddressesInSubnet", SubnetExhausted),
    ("InvalidAddress.Malformed", Invalid),
    ("InvalidAttachmentID.NotFound", NotFound),
    ("InvalidClientToken", Invalid),
    ("InvalidFilter", Invalid),
    ("InvalidGroup.NotFound", NotFound),
    ("InvalidGroupId.Malformed", Invalid),
    ("InvalidID", Invalid),
    ("InvalidInput", Invalid),
    ("InvalidInstanceID", Invalid),
    ("InvalidInstanceID.Malformed", Invalid),
    ("InvalidInstanceID.NotFound", NotFound),
    ("InvalidInstanceState", Busy),
    ("InvalidInstanceType", Invalid),
    ("InvalidInterface.IpAddressLimitExceeded", LimitExceeded),
    ("InvalidIPAddress.InUse", Invalid),
    ("InvalidMaxResults", Invalid),
    ("InvalidNetworkInterface.InUse", Busy),
    ("InvalidNetworkInterface.NotFound", NotFound),
    ("InvalidNetworkInterfaceAttachmentId.Malformed", Invalid),
    ("InvalidNetworkInterfaceID.NotFound", NotFound),
    ("InvalidNetworkInterfaceId.Malformed", Invalid),
    ("InvalidNextToken", Invalid),
    ("InvalidRegion", Invalid),
    ("InvalidRequest", Invalid),
    ("InvalidSecurity.RequestHasExpired", Denied),
    ("InvalidSecurityGroupID.NotFound", NotFound),
    ("InvalidSecurityGroupId.Malformed", Invalid),
    ("InvalidState", Busy),
    ("InvalidSubnet", NotFound),
    ("InvalidSubnetID.Malformed", Invalid),
    ("InvalidSubnetID.NotFound", NotFound),
    ("InvalidSubnetId.NotFound", NotFound),
    ("InvalidTagKey.Malformed", Invalid),
    ("InvalidVpcID.Malformed", Invalid),
    ("InvalidVpcID.NotFound", NotFound),
    ("MissingInput", Invalid),
    ("NetworkInterfaceLimitExceeded", QuotaExceeded),
    ("NetworkInterfaceNotSupported", Invalid),
    ("NoSuchVersion", Invalid),
    ("OperationNotPermitted", Invalid),
    ("PrivateIpAddressLimitExceeded", LimitExceeded),
    ("Resource.AlreadyAssigned", Busy),
    ("Resource.AlreadyAssociated", Busy),
    ("ResourceCountExceeded", QuotaExceeded),
    ("ResourceCountLimitExceeded", QuotaExceeded),
    ("ResourceLimitExceeded", QuotaExceeded),
    ("RetryableError", Unknown),
    ("SecurityGroupLimitExceeded", Invalid),
    ("SecurityGroupsPerInstanceLimitExceeded", Invalid),
    ("SecurityGroupsPerInterfaceLimitExceeded", Invalid),
    ("SignatureDoesNotMatch", Denied),
    ("TagLimitExceeded", Invalid),
    ("Unsupported", Invalid),
];

/// "Server error codes", without those of imports, hosts, volumes and reservations. *Source*: as above.
const SERVER: &[(&str, FailureClass)] = &[
    ("BandwidthLimitExceeded", Throttled),
    ("InsufficientAddressCapacity", SubnetExhausted),
    ("InsufficientCapacity", Unknown),
    ("InternalError", Unknown),
    ("InternalFailure", Unknown),
    ("RequestLimitExceeded", Throttled),
    ("ServerInternal", Unknown),
    ("ServiceUnavailable", Unknown),
    ("Unavailable", Unknown),
];

/// Codes that the page lacks and that are met all the same. *Source*: EKS best practices, "Prefix mode"
/// (`InsufficientCidrBlocks`); VPC user guide, "Network Address Usage"; AWS SDK for Rust, its clock-skew codes.
const UNLISTED_BUT_MET: &[(&str, FailureClass)] = &[
    ("InsufficientCidrBlocks", SubnetFragmented),
    ("NetworkAddressUsageLimitExceeded", QuotaExceeded),
    ("RequestTimeTooSkewed", Denied),
    ("InvalidSignatureException", Denied),
    ("ExpiredToken", Denied),
    ("UnrecognizedClientException", Denied),
];

#[test]
fn every_documented_code_has_its_class_and_a_fix_of_its_own() {
    // The status that would mislead the most: what the table says must not come from it.
    for (codes, status) in [(COMMON, 500), (SPECIFIC, 500), (SERVER, 400), (UNLISTED_BUT_MET, 500)] {
        for (code, class) in codes {
            let meaning = meaning_of(code, Some(status));
            assert_eq!(meaning.class, *class, "{code}");
            assert_ne!(meaning.fix, UNLISTED, "{code} has no row");
        }
    }
}

/// EC2 has one code for a parameter that is wrong and for a state that does not fit: which it is follows from the call.
#[test]
fn invalid_parameter_value_means_what_fits_the_call() {
    for code in ["InvalidParameterValue", "Client.InvalidParameterValue"] {
        let meaning = |call| meaning_at(call, code, Some(400));
        assert_eq!(meaning(Some(Call::Delete)).class, Busy, "it is still being detached");
        assert_eq!(meaning(Some(Call::Attach)).class, Invalid, "the device index is taken");
        assert_eq!(meaning(Some(Call::Unassign)).class, Invalid, "the addresses are gone");
        assert_eq!(meaning(None), meaning_of(code, Some(400)));
        for call in [Call::Delete, Call::Attach, Call::Unassign] {
            assert_ne!(meaning(Some(call)).fix, OURS, "{call:?}: nobody's mistake");
        }
    }
    let other = meaning_at(Some(Call::Delete), "UnauthorizedOperation", Some(403));
    assert_eq!(other, meaning_of("UnauthorizedOperation", Some(403)));
}

/// An attach that meets the limit of addresses teaches no limit of ENIs.
#[test]
fn too_many_addresses_at_an_attach_are_no_limit_of_enis() {
    for code in ["PrivateIpAddressLimitExceeded", "InvalidInterface.IpAddressLimitExceeded"] {
        assert_eq!(meaning_at(Some(Call::Attach), code, Some(400)).class, Invalid, "{code}");
        assert_eq!(meaning_at(None, code, Some(400)).class, LimitExceeded, "{code}");
    }
    let enis = meaning_at(Some(Call::Attach), "AttachmentLimitExceeded", Some(400));
    assert_eq!(enis.class, LimitExceeded);
}

/// A15: which codes say that a subnet has too little left, and which that an ENI is full.
#[test]
fn codes_of_exhaustion_are_told_from_others() {
    for (code, insufficient) in [
        ("InsufficientCidrBlocks", true),
        ("InsufficientFreeAddressesInSubnet", true),
        ("SomeOtherError", false),
    ] {
        let class = meaning_of(code, Some(400)).class;
        assert_eq!(matches!(class, SubnetExhausted | SubnetFragmented), insufficient, "{code}: {class:?}");
    }
    assert_eq!(meaning_of("PrivateIpAddressLimitExceeded", Some(400)).class, LimitExceeded);
}

/// What an ENI or an instance can hold is learned from codes that speak of these, and not from quotas of the account or the
/// VPC. *Source*: EC2 API reference, "Error codes", client errors for actions; VPC user guide, "Network Address Usage".
#[test]
fn limits_are_told_from_quotas() {
    for code in [
        "PrivateIpAddressLimitExceeded",
        "InvalidInterface.IpAddressLimitExceeded",
        "AttachmentLimitExceeded",
    ] {
        assert_eq!(meaning_of(code, Some(400)).class, LimitExceeded, "{code}");
    }
    let limits = TABLE.iter().filter(|row| row.class == LimitExceeded);
    assert_eq!(limits.map(|row| row.codes.len()).sum::<usize>(), 3, "no other");
    for code in ["NetworkAddressUsageLimitExceeded", "ResourceLimitExceeded", "NetworkInterfaceLimitExceeded"]
    {
        assert_eq!(meaning_of(code, Some(400)).class, QuotaExceeded, "{code}");
    }
}

#[test]
fn no_code_stands_twice() {
    let mut codes: Vec<&str> = TABLE.iter().flat_map(|row| row.codes.iter().copied()).collect();
    codes.sort_unstable();
    let twice: Vec<_> = codes.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[test]
fn side_at_fault_before_the_code_changes_nothing() {
    assert_eq!(meaning_of("Client.RequestLimitExceeded", Some(503)).class, Throttled);
    assert_eq!(meaning_of("Client.InvalidAttachmentID.NotFound", Some(400)).class, NotFound);
    assert_eq!(meaning_of("Server.InternalError", Some(500)).class, Unknown);
}

#[test]
fn unknown_client_error_did_nothing_unknown_server_error_may_have() {
    assert_eq!(meaning_of("BrandNewClientError", Some(400)).class, Invalid);
    assert_eq!(meaning_of("InvalidBrandNewID.NotFound", Some(400)).class, NotFound);
    assert_eq!(meaning_of("BrandNewServerError", Some(500)).class, Unknown);
    assert_eq!(meaning_of("whatever", None).class, Unknown);
}

/// Only what was refused before EC2 looked at it may be sent once more with a corrected date.
#[test]
fn only_refused_signatures_are_marked_as_such() {
    for code in ["RequestExpired", "AuthFailure", "SignatureDoesNotMatch", "RequestTimeTooSkewed"] {
        assert!(meaning_of(code, Some(400)).signature, "{code}");
    }
    for code in ["UnauthorizedOperation", "RequestLimitExceeded", "InternalError", "Blocked", "NoSuchCode"] {
        assert!(!meaning_of(code, Some(400)).signature, "{code}");
    }
}
