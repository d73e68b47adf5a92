//! `CreateTags`, `DeleteTags`, `DescribeTags`, and the tags that come with a creation.

use super::filters::{Filters, Known};
use super::pages::ORDINARY;
use super::params::{Param, Params, flag, must, number, text};
use super::request::Call;
use super::xml::Xml;
use crate::cloud::{ApiError, Cloud, TagChange, Tags};

/// Longest key and value.
///
/// Source: Amazon EC2 User Guide, "Tag restrictions".
const KEY_MAX: usize = 127;
const VALUE_MAX: usize = 255;

/// Parameters of `CreateTags`.
pub(super) const CREATE: &[Param] =
    &[must("ResourceId.N"), must("Tag.N.Key"), text("Tag.N.Value"), flag("DryRun")];

/// Parameters of `DeleteTags`.
pub(super) const DELETE: &[Param] =
    &[must("ResourceId.N"), text("Tag.N.Key"), text("Tag.N.Value"), flag("DryRun")];

pub(super) fn create(cloud: &mut Cloud, call: &Call, params: &Params) -> Result<Xml, ApiError> {
    let pairs = params
        .numbers("Tag")
        .into_iter()
        .map(|number| (params.at("Tag.N.Key", &[number]), params.at("Tag.N.Value", &[number])));
    let tags = distinct(pairs)?;
    cloud.change_tags(call.now, &resources(params), &TagChange::Set(tags))?;
    Ok(Xml::done())
}

pub(super) fn delete(cloud: &mut Cloud, call: &Call, params: &Params) -> Result<Xml, ApiError> {
    let mut keys = Vec::new();
    for number in params.numbers("Tag") {
        let key = params.at("Tag.N.Key", &[number]).ok_or_else(|| ApiError::missing("Tag.Key"))?;
        check_key(key)?;
        keys.push((key.to_owned(), params.at("Tag.N.Value", &[number]).map(str::to_owned)));
    }
    let change = if keys.is_empty() { TagChange::Clear } else { TagChange::Remove(keys) };
    cloud.change_tags(call.now, &resources(params), &change)?;
    Ok(Xml::done())
}

fn resources(params: &Params) -> Vec<String> {
    params.list("ResourceId.N").into_iter().map(str::to_owned).collect()
}

/// The tags of the `TagSpecification`s, all of which must be for this type of resource.
///
/// # Errors
/// Another type, or no type.
pub(super) fn spec_tags(params: &Params, resource_type: &str) -> Result<Vec<(String, String)>, ApiError> {
    let mut tags = Vec::new();
    for number in params.numbers("TagSpecification") {
        match params.at("TagSpecification.N.ResourceType", &[number]) {
            Some(named) if named == resource_type => {}
            Some(other) => {
                return Err(ApiError::value(format!(
                    "'{other}' is not a valid taggable resource type for this operation."
                )));
            }
            None => return Err(ApiError::missing("TagSpecification.ResourceType")),
        }
        let keys = params.list_at("TagSpecification.N.Tag.N.Key", &[number]);
        for at in params.second_numbers("TagSpecification.N.Tag", number) {
            let key = params.at("TagSpecification.N.Tag.N.Key", &[number, at]);
            let key = key.ok_or_else(|| ApiError::missing("TagSpecification.Tag.Key"))?;
            let value = params.at("TagSpecification.N.Tag.N.Value", &[number, at]).unwrap_or_default();
            tags.push((key.to_owned(), value.to_owned()));
        }
        if keys.is_empty() {
            return Err(ApiError::value("Tag specification must have at least one tag"));
        }
    }
    Ok(tags)
}

/// Tags that come with a creation.
///
/// # Errors
/// A key is there twice, or a key or value is not allowed.
pub(super) fn at_creation(tags: Vec<(String, String)>) -> Result<Tags, ApiError> {
    distinct(tags.iter().map(|(key, value)| (Some(key.as_str()), Some(value.as_str()))))
}

fn distinct<'a>(pairs: impl Iterator<Item = (Option<&'a str>, Option<&'a str>)>) -> Result<Tags, ApiError> {
    let mut tags = Tags::new();
    for (key, value) in pairs {
        let key = key.ok_or_else(|| ApiError::missing("Tag.Key"))?;
        let value = value.unwrap_or_default();
        check_key(key)?;
        if value.chars().count() > VALUE_MAX {
            return Err(ApiError::value(format!(
                "Tag value exceeds the maximum length of {VALUE_MAX} characters"
            )));
        }
        if tags.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(ApiError::value(format!("Duplicate tag key '{key}' specified.")));
        }
    }
    Ok(tags)
}

fn check_key(key: &str) -> Result<(), ApiError> {
    if key.is_empty() {
        return Err(ApiError::value("Tag key cannot be empty"));
    }
    if key.chars().count() > KEY_MAX {
        return Err(ApiError::value(format!("Tag key exceeds the maximum length of {KEY_MAX} characters")));
    }
    if key.to_ascii_lowercase().starts_with("aws:") {
        return Err(ApiError::value("Tag keys starting with 'aws:' are reserved for internal use"));
    }
    Ok(())
}

/// Parameters of `DescribeTags`.
pub(super) const DESCRIBE: &[Param] = &[
    text("Filter.N.Name"),
    text("Filter.N.Value.N"),
    number("MaxResults"),
    text("NextToken"),
    flag("DryRun"),
];

/// One tag of one resource.
pub(super) struct Tag {
    resource: String,
    kind: &'static str,
    pair: Tags,
}

/// Source of the names: Amazon EC2 API Reference, `DescribeTags`.
const FILTERS: Known<Tag> = Known {
    facts: &[
        ("key", |_, tag| tag.pair.keys().cloned().collect()),
        ("value", |_, tag| tag.pair.values().cloned().collect()),
        ("resource-id", |_, tag| vec![tag.resource.clone()]),
        ("resource-type", |_, tag| vec![tag.kind.to_owned()]),
    ],
    tags: Some(|tag| &tag.pair),
};

pub(super) fn describe(cloud: &mut Cloud, call: &Call, params: &Params) -> Result<Xml, ApiError> {
    let filters = Filters::read(params, &FILTERS)?;
    let lag = cloud.describe_lag(call.now);
    let cloud = &*cloud;
    let mut all = Vec::new();
    let mut add = |resource: &str, kind: &'static str, tags: &Tags| {
        all.extend(tags.iter().map(|(key, value)| Tag {
            resource: resource.to_owned(),
            kind,
            pair: Tags::from([(key.clone(), value.clone())]),
        }));
    };
    cloud.enis_seen(lag).for_each(|eni| add(eni.id.as_str(), "network-interface", &eni.tags));
    cloud.instances_seen(lag).for_each(|instance| add(instance.id.as_str(), "instance", &instance.tags));
    cloud.subnets_seen(lag).for_each(|subnet| add(subnet.id.as_str(), "subnet", &subnet.tags));
    cloud.groups().for_each(|group| add(group.id.as_str(), "security-group", &group.tags));
    add(cloud.vpc().id.as_str(), "vpc", &cloud.vpc().tags);
    let key = |tag: &Tag| format!("{} {}", tag.resource, tag.pair.keys().next().map_or("", String::as_str));
    let found = all.into_iter().filter(|tag| filters.pass(cloud, tag)).map(|tag| (key(&tag), tag)).collect();
    let page = ORDINARY.page(params, &params.identity("DescribeTags"), found)?;
    Ok(page.write("tagSet", |xml, tag| {
        xml.leaf("resourceId", &tag.resource).leaf("resourceType", tag.kind);
        for (key, value) in &tag.pair {
            xml.leaf("key", key).leaf("value", value);
        }
    }))
}
