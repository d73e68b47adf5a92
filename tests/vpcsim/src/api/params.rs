//! Parameters of a request, checked against the table of the action: unknown ones, ill-typed ones and missing ones are
//! refused here, so that actions read only what is well-formed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnetwork::{Ipv4Network, Ipv6Network};

use crate::cloud::{ApiError, Id, lower_camel};

/// One row of an action's table. `N` in the path stands for a number: `Filter.N.Value.N`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Param {
    path: &'static str,
    kind: Kind,
    required: bool,
}

/// What a value must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Flag,
    Ipv4,
    Ipv6,
    Net4,
    Net6,
    /// EC2 knows it; we refuse it, saying so, rather than do as if.
    NotSimulated,
}

/// Any text, optional.
pub(super) const fn text(path: &'static str) -> Param {
    Param { path, kind: Kind::Text, required: false }
}

/// Any text; for a list: at least one.
pub(super) const fn must(path: &'static str) -> Param {
    Param { path, kind: Kind::Text, required: true }
}

/// A whole number from 0, optional.
pub(super) const fn number(path: &'static str) -> Param {
    Param { path, kind: Kind::Number, required: false }
}

/// A whole number from 0.
pub(super) const fn must_number(path: &'static str) -> Param {
    Param { path, kind: Kind::Number, required: true }
}

/// `true` or `false`, optional.
pub(super) const fn flag(path: &'static str) -> Param {
    Param { path, kind: Kind::Flag, required: false }
}

/// An IPv4 address, optional.
pub(super) const fn ipv4(path: &'static str) -> Param {
    Param { path, kind: Kind::Ipv4, required: false }
}

/// An IPv6 address, optional.
pub(super) const fn ipv6(path: &'static str) -> Param {
    Param { path, kind: Kind::Ipv6, required: false }
}

/// An IPv4 range, optional.
pub(super) const fn net4(path: &'static str) -> Param {
    Param { path, kind: Kind::Net4, required: false }
}

/// An IPv6 range, optional.
pub(super) const fn net6(path: &'static str) -> Param {
    Param { path, kind: Kind::Net6, required: false }
}

/// A parameter that EC2 knows and that is not simulated: refused when it is sent.
pub(super) const fn not_simulated(path: &'static str) -> Param {
    Param { path, kind: Kind::NotSimulated, required: false }
}

/// Parameters that every action knows: the call itself and the signature in its older and newer forms.
///
/// Source: Amazon EC2 API Reference, "Common query parameters".
const COMMON: &[&str] = &[
    "Action",
    "Version",
    "AWSAccessKeyId",
    "Expires",
    "SecurityToken",
    "Signature",
    "SignatureMethod",
    "SignatureVersion",
    "Timestamp",
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Amz-SignedHeaders",
];

/// The parameters of a request.
#[derive(Debug, Clone, Default)]
pub(super) struct Params {
    values: BTreeMap<(&'static str, Vec<u32>), String>,
}

impl Params {
    /// Checks what was sent against the table.
    ///
    /// # Errors
    /// `UnknownParameter`, `InvalidParameterValue`, `MissingParameter`.
    pub(super) fn read(sent: &[(String, String)], table: &'static [Param]) -> Result<Self, ApiError> {
        let mut params = Self::default();
        for (name, value) in sent.iter().filter(|(name, _)| !COMMON.contains(&name.as_str())) {
            let Some((param, numbers)) =
                table.iter().find_map(|param| Some((param, place(param.path, name)?)))
            else {
                if value.is_empty() && table.iter().any(|param| is_list(param.path, name)) {
                    continue;
                }
                return Err(ApiError::new(
                    "UnknownParameter",
                    format!("The parameter {name} is not recognized"),
                ));
            };
            param.kind.check(name, value)?;
            params.values.insert((param.path, numbers), value.clone());
        }
        match table.iter().find(|param| param.required && !params.any(param.path)) {
            Some(missing) => {
                let name = missing.path.split('.').next().unwrap_or(missing.path);
                Err(ApiError::missing(name))
            }
            None => Ok(params),
        }
    }

    /// The value, if it was sent.
    pub(super) fn text(&self, path: &'static str) -> Option<&str> {
        self.at(path, &[])
    }

    /// The value at these places of the path's `N`s.
    pub(super) fn at(&self, path: &'static str, numbers: &[u32]) -> Option<&str> {
        self.values.get(&(path, numbers.to_vec())).map(String::as_str)
    }

    /// The values of a list below these places, in order of their numbers.
    pub(super) fn list_at(&self, path: &'static str, numbers: &[u32]) -> Vec<&str> {
        let below = |key: &&(&'static str, Vec<u32>)| key.0 == path && key.1.starts_with(numbers);
        self.values.iter().filter(|(key, _)| below(key)).map(|(_, value)| value.as_str()).collect()
    }

    /// The values of a list, in order of their numbers.
    pub(super) fn list(&self, path: &'static str) -> Vec<&str> {
        self.list_at(path, &[])
    }

    /// The values of a list, read as this type.
    pub(super) fn all<T: FromStr>(&self, path: &'static str) -> Vec<T> {
        // What does not parse was refused by `Kind::check`.
        self.list(path).into_iter().filter_map(|value| value.parse().ok()).collect()
    }

    /// The numbers in first place of all parameters that begin with this.
    pub(super) fn numbers(&self, begin: &str) -> BTreeSet<u32> {
        let begins = |path: &str| path.strip_prefix(begin).is_some_and(|rest| rest.starts_with(".N"));
        self.values
            .keys()
            .filter(|(path, _)| begins(path))
            .filter_map(|(_, at)| at.first().copied())
            .collect()
    }

    /// The numbers in second place of all parameters that begin with this and have `first` in first place.
    pub(super) fn second_numbers(&self, begin: &str, first: u32) -> BTreeSet<u32> {
        let begins = |path: &str| path.strip_prefix(begin).is_some_and(|rest| rest.starts_with(".N"));
        let matching = self.values.keys().filter(|(path, at)| begins(path) && at.first() == Some(&first));
        matching.filter_map(|(_, at)| at.get(1).copied()).collect()
    }

    /// What distinguishes this request from others of its action: all but the page that it asks for.
    pub(super) fn identity(&self, action: &str) -> String {
        let paging = ["MaxResults", "NextToken"];
        let rest = self.values.iter().filter(|((path, _), _)| !paging.contains(path));
        rest.fold(action.to_owned(), |all, ((path, at), value)| format!("{all} {path}{at:?}={value:?}"))
    }

    /// Whether anything was sent whose path is this or begins with it.
    pub(super) fn any(&self, begin: &str) -> bool {
        let begins = |path: &str| {
            path.strip_prefix(begin).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.values.keys().any(|(path, _)| begins(path))
    }

    /// The value as a number.
    pub(super) fn number(&self, path: &'static str) -> Option<u32> {
        self.parsed(path)
    }

    /// The value as a count.
    pub(super) fn count(&self, path: &'static str) -> usize {
        self.parsed(path).unwrap_or(0)
    }

    /// The value as truth.
    pub(super) fn flag(&self, path: &'static str) -> Option<bool> {
        self.parsed(path)
    }

    /// The value as this type.
    pub(super) fn parsed<T: FromStr>(&self, path: &'static str) -> Option<T> {
        self.text(path).and_then(|value| value.parse().ok())
    }

    /// The value as an id.
    ///
    /// # Errors
    /// It has not the shape of such an id.
    pub(super) fn id<T: Id>(&self, path: &'static str) -> Result<T, ApiError> {
        well_formed(self.text(path).unwrap_or_default())
    }
}

/// The text as an id.
///
/// # Errors
/// It has not the shape of such an id.
pub(super) fn well_formed<T: Id>(text: &str) -> Result<T, ApiError> {
    if T::well_formed(text) {
        return Ok(T::from_text(text.to_owned()));
    }
    // Source of the codes: Amazon EC2 API Reference, "Error codes"; the capitals are as they are there.
    let code = match T::PREFIX {
        "eni-" => "InvalidNetworkInterfaceId.Malformed",
        "i-" => "InvalidInstanceID.Malformed",
        "eni-attach-" => "InvalidNetworkInterfaceAttachmentId.Malformed",
        "sg-" => "InvalidGroupId.Malformed",
        "subnet-" => "InvalidSubnetID.Malformed",
        "vpc-" => "InvalidVpcID.Malformed",
        _ => "InvalidParameterValue",
    };
    Err(ApiError::new(code, format!("Invalid id: \"{text}\" (expecting \"{}...\")", T::PREFIX)))
}

impl Kind {
    fn check(self, name: &str, value: &str) -> Result<(), ApiError> {
        let (fits, expected) = match self {
            Self::NotSimulated => {
                let message = format!("The parameter {name} is not simulated");
                return Err(ApiError::new("UnsupportedOperation", message));
            }
            Self::Text => (true, ""),
            Self::Number => {
                (value.parse::<u32>().is_ok_and(|n| n <= i32::MAX.unsigned_abs()), "an integer from 0")
            }
            Self::Flag => (value.parse::<bool>().is_ok(), "true or false"),
            Self::Ipv4 => (value.parse::<Ipv4Addr>().is_ok(), "an IPv4 address"),
            Self::Ipv6 => (value.parse::<Ipv6Addr>().is_ok(), "an IPv6 address"),
            Self::Net4 => (value.contains('/') && value.parse::<Ipv4Network>().is_ok(), "an IPv4 CIDR block"),
            Self::Net6 => (value.contains('/') && value.parse::<Ipv6Network>().is_ok(), "an IPv6 CIDR block"),
        };
        if fits {
            return Ok(());
        }
        let name = lower_camel(name);
        Err(ApiError::value(format!(
            "Value ({value}) for parameter {name} is invalid. Expecting {expected}."
        )))
    }
}

/// The numbers at the `N`s if the name fits the path.
fn place(path: &str, name: &str) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    let mut parts = name.split('.');
    for step in path.split('.') {
        let part = parts.next()?;
        if step == "N" {
            let plain = part.len() <= 6 && part.bytes().all(|b| b.is_ascii_digit()) && !part.starts_with('0');
            numbers.push(part.parse().ok().filter(|_| plain)?);
        } else if step != part {
            return None;
        }
    }
    parts.next().is_none().then_some(numbers)
}

/// Whether the name is a list's without a number: that is how some clients send an empty list.
fn is_list(path: &str, name: &str) -> bool {
    path.strip_prefix(name).is_some_and(|rest| rest.starts_with(".N"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::EniId;

    const TABLE: &[Param] = &[
        must("SubnetId"),
        number("Count"),
        flag("DryRun"),
        text("Group.N"),
        ipv4("Address.N.Ip"),
        flag("Address.N.Primary"),
        text("Filter.N.Name"),
        text("Filter.N.Value.N"),
    ];

    fn read(sent: &[(&str, &str)]) -> Result<Params, ApiError> {
        let sent: Vec<_> =
            sent.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Params::read(&sent, TABLE)
    }

    #[test]
    fn what_is_not_in_the_table_is_refused() {
        for (sent, code) in [
            (vec![("SubnetId", "s"), ("Colour", "red")], "UnknownParameter"),
            (vec![("SubnetId", "s"), ("Group.0", "g")], "UnknownParameter"),
            (vec![("SubnetId", "s"), ("Group.01", "g")], "UnknownParameter"),
            (vec![("SubnetId", "s"), ("Group.1.x", "g")], "UnknownParameter"),
            (vec![("SubnetId", "s"), ("Group", "g")], "UnknownParameter"),
            (vec![("SubnetId", "s"), ("Address.1", "g")], "UnknownParameter"),
            (vec![("subnetId", "s")], "UnknownParameter"),
            (vec![], "MissingParameter"),
            (vec![("SubnetId", "s"), ("Count", "-1")], "InvalidParameterValue"),
            (vec![("SubnetId", "s"), ("Count", "two")], "InvalidParameterValue"),
            (vec![("SubnetId", "s"), ("Count", "4294967295")], "InvalidParameterValue"),
            (vec![("SubnetId", "s"), ("DryRun", "yes")], "InvalidParameterValue"),
            (vec![("SubnetId", "s"), ("Address.1.Ip", "10.0.0.256")], "InvalidParameterValue"),
        ] {
            assert_eq!(read(&sent).unwrap_err().code, code, "{sent:?}");
        }
    }

    #[test]
    fn lists_are_read_in_order_of_their_numbers() {
        let params = read(&[
            ("Action", "X"),
            ("SubnetId", "s"),
            ("Group.10", "b"),
            ("Group.2", "a"),
            ("Address.3.Ip", "10.0.0.1"),
            ("Address.7.Primary", "true"),
            ("Filter.2.Value.1", "v"),
            ("Filter.2.Value.12", "w"),
            ("Filter.1.Value.1", "u"),
        ])
        .unwrap();
        assert_eq!(params.list("Group.N"), ["a", "b"]);
        assert_eq!(params.numbers("Address").into_iter().collect::<Vec<_>>(), [3, 7]);
        assert_eq!(params.list_at("Filter.N.Value.N", &[2]), ["v", "w"]);
        assert!(read(&[("SubnetId", "s"), ("Group", "")]).unwrap().list("Group.N").is_empty());
    }

    #[test]
    fn ids_must_look_like_ids() {
        assert!(well_formed::<EniId>("eni-0123456789abcdef0").is_ok());
        let error = well_formed::<EniId>("i-0123456789abcdef0").unwrap_err();
        assert_eq!(error.code, "InvalidNetworkInterfaceId.Malformed");
    }
}
