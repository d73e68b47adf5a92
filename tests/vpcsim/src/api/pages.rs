//! Pages of `Describe…` answers.
//!
//! A token says after which record the next page begins, so records that come and go between pages shift nothing. It is
//! bound to the request that it continues.

use std::fmt::Write;

use super::params::Params;
use super::xml::Xml;
use crate::cloud::ApiError;

/// How an action pages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paging {
    /// The least `MaxResults`.
    pub(super) least: usize,
    /// The most, and what is given without.
    pub(super) most: usize,
    /// The list of ids that `MaxResults` cannot go with, if there is one.
    pub(super) not_with: Option<&'static str>,
}

/// What most actions have.
pub(super) const ORDINARY: Paging = Paging { least: 5, most: 1000, not_with: None };

/// One page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page<T> {
    /// Its records.
    pub(super) records: Vec<T>,
    /// Where the next one begins.
    pub(super) next: Option<String>,
}

impl Paging {
    /// The page that the request asks for, out of all records in the order of their keys.
    ///
    /// # Errors
    /// `MaxResults` out of range or beside ids, or a token of another request.
    pub(super) fn page<T>(
        &self,
        params: &Params,
        request: &str,
        mut records: Vec<(String, T)>,
    ) -> Result<Page<T>, ApiError> {
        let size = self.size(params)?;
        let mark = mark(request);
        records.sort_by(|one, other| one.0.cmp(&other.0));
        if let Some(token) = params.text("NextToken") {
            let after = decode(token, mark).ok_or_else(|| {
                ApiError::new("InvalidNextToken", format!("The token '{token}' is invalid or expired"))
            })?;
            records.retain(|(key, _)| *key > after);
        }
        let more = records.len() > size;
        records.truncate(size);
        let next = records.last().filter(|_| more).map(|(last, _)| encode(last, mark));
        Ok(Page { records: records.into_iter().map(|(_, record)| record).collect(), next })
    }

    fn size(&self, params: &Params) -> Result<usize, ApiError> {
        let Some(asked) = params.parsed::<usize>("MaxResults") else { return Ok(self.most) };
        if let Some(ids) = self.not_with.filter(|ids| params.any(ids)) {
            return Err(ApiError::combination(format!(
                "The parameter {ids} cannot be used with the parameter MaxResults"
            )));
        }
        let (bound, word) = if asked < self.least { (self.least, "greater") } else { (self.most, "less") };
        if (self.least..=self.most).contains(&asked) {
            return Ok(asked);
        }
        Err(ApiError::value(format!(
            "Value ( {asked} ) for parameter maxResults is invalid. Expecting a value {word} than or equal to {bound}."
        )))
    }
}

impl<T> Page<T> {
    /// `<name><item>…` and `<nextToken>`, if there is one.
    pub(super) fn write(self, name: &str, inside: impl FnMut(&mut Xml, T)) -> Xml {
        let mut xml = Xml::new();
        xml.list(name, self.records, inside).some("nextToken", self.next);
        xml
    }
}

fn mark(request: &str) -> u64 {
    request.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn encode(key: &str, mark: u64) -> String {
    let mut token = format!("{mark:016x}");
    for byte in key.bytes() {
        token.write_fmt(format_args!("{byte:02x}")).unwrap_or_default();
    }
    token
}

fn decode(token: &str, wanted: u64) -> Option<String> {
    let (mark, rest) = token.split_at_checked(16)?;
    if u64::from_str_radix(mark, 16).ok()? != wanted || rest.len() % 2 != 0 || !rest.is_ascii() {
        return None;
    }
    let byte = |at| u8::from_str_radix(rest.get(at..at + 2)?, 16).ok();
    String::from_utf8((0..rest.len()).step_by(2).map(byte).collect::<Option<_>>()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::params::{number, text};

    const TABLE: &[crate::api::params::Param] = &[number("MaxResults"), text("NextToken"), text("Id.N")];
    const PAGING: Paging = Paging { least: 2, most: 4, not_with: Some("Id") };

    fn params(sent: &[(&str, &str)]) -> Params {
        let sent: Vec<_> =
            sent.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Params::read(&sent, TABLE).unwrap()
    }

    fn records(names: &[&str]) -> Vec<(String, String)> {
        names.iter().map(|name| ((*name).to_owned(), (*name).to_owned())).collect()
    }

    #[test]
    fn pages_follow_one_another_although_records_come_and_go() {
        let first =
            PAGING.page(&params(&[("MaxResults", "2")]), "x", records(&["a", "c", "e", "g"])).unwrap();
        assert_eq!(first.records, ["a", "c"]);
        let token = first.next.unwrap();
        let rest =
            PAGING.page(&params(&[("NextToken", &token)]), "x", records(&["b", "e", "g", "h"])).unwrap();
        assert_eq!(
            (rest.records.as_slice(), &rest.next),
            (["e", "g", "h"].map(String::from).as_slice(), &None)
        );
        let other = PAGING.page(&params(&[("NextToken", &token)]), "y", records(&["e"]));
        assert_eq!(other.unwrap_err().code, "InvalidNextToken");
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        for (sent, code) in [
            (vec![("MaxResults", "1")], "InvalidParameterValue"),
            (vec![("MaxResults", "5")], "InvalidParameterValue"),
            (vec![("MaxResults", "2"), ("Id.1", "a")], "InvalidParameterCombination"),
            (vec![("NextToken", "zz")], "InvalidNextToken"),
            (vec![("NextToken", "ü")], "InvalidNextToken"),
        ] {
            assert_eq!(PAGING.page(&params(&sent), "x", records(&["a"])).unwrap_err().code, code, "{sent:?}");
        }
        let all = PAGING.page(&params(&[]), "x", records(&["a", "b", "c", "d", "e"])).unwrap();
        assert_eq!(
            (all.records.len(), all.next.is_some()),
            (4, true),
            "a page is never larger than the most"
        );
    }
}
