//! Filters of `Describe…` calls: each resource has a table of the filters it knows; others are refused.
//!
//! Values of one filter are alternatives, filters must all hold, `*` and `?` are wildcards.
//!
//! Source: Amazon EC2 User Guide, "Filter API results".

use super::params::Params;
use crate::cloud::{ApiError, Cloud, Tags, wildcard};

/// Most values in all filters of a request together.
///
/// Source: Amazon EC2 User Guide, "Filter API results": 200 values in a single request; `FilterLimitExceeded`.
const VALUES_MAX: usize = 200;

/// What a filter looks at: any of these must fit.
pub(super) type Facts<T> = fn(&Cloud, &T) -> Vec<String>;

/// The filters that a resource knows.
pub(super) struct Known<T: 'static> {
    /// Name → what it looks at.
    pub(super) facts: &'static [(&'static str, Facts<T>)],
    /// For `tag:…`, `tag-key` and `tag-value`; `None`: the resource has no such filters.
    pub(super) tags: Option<fn(&T) -> &Tags>,
}

/// A request's filters, checked against the names that are known.
pub(super) struct Filters<T: 'static> {
    tests: Vec<(Test<T>, Vec<String>)>,
}

enum Test<T: 'static> {
    Facts(Facts<T>),
    Tag(String, fn(&T) -> &Tags),
    TagKey(fn(&T) -> &Tags),
    TagValue(fn(&T) -> &Tags),
}

impl<T: 'static> Filters<T> {
    /// # Errors
    /// A filter without name or values, one that the resource does not know, too many values.
    pub(super) fn read(params: &Params, known: &Known<T>) -> Result<Self, ApiError> {
        let mut tests = Vec::new();
        let mut count = 0;
        for number in params.numbers("Filter") {
            let Some(name) = params.at("Filter.N.Name", &[number]) else {
                return Err(ApiError::missing("Filter.Name"));
            };
            let values: Vec<String> =
                params.list_at("Filter.N.Value.N", &[number]).into_iter().map(str::to_owned).collect();
            if values.is_empty() {
                return Err(ApiError::value(format!("The filter '{name}' has no values")));
            }
            count += values.len();
            if count > VALUES_MAX {
                return Err(ApiError::new(
                    "FilterLimitExceeded",
                    format!("The maximum number of filter values specified on a single call is {VALUES_MAX}"),
                ));
            }
            let test = test(name, known)
                .ok_or_else(|| ApiError::value(format!("The filter '{name}' is invalid")))?;
            tests.push((test, values));
        }
        Ok(Self { tests })
    }

    /// Whether the record passes all filters.
    pub(super) fn pass(&self, cloud: &Cloud, record: &T) -> bool {
        self.tests.iter().all(|(test, values)| {
            let facts = test.facts(cloud, record);
            facts.iter().any(|fact| values.iter().any(|value| wildcard(value, fact)))
        })
    }
}

impl<T> Test<T> {
    fn facts(&self, cloud: &Cloud, record: &T) -> Vec<String> {
        match self {
            Self::Facts(facts) => facts(cloud, record),
            Self::Tag(key, tags) => tags(record).get(key).cloned().into_iter().collect(),
            Self::TagKey(tags) => tags(record).keys().cloned().collect(),
            Self::TagValue(tags) => tags(record).values().cloned().collect(),
        }
    }
}

fn test<T: 'static>(name: &str, known: &Known<T>) -> Option<Test<T>> {
    if let Some((_, facts)) = known.facts.iter().find(|(other, _)| *other == name) {
        return Some(Test::Facts(*facts));
    }
    let tags = known.tags?;
    match name {
        "tag-key" => Some(Test::TagKey(tags)),
        "tag-value" => Some(Test::TagValue(tags)),
        _ => name.strip_prefix("tag:").map(|key| Test::Tag(key.to_owned(), tags)),
    }
}
