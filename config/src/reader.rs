//! Reads knobs from a source and collects what there is to say about them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use ipnetwork::Ipv4Network;

use crate::finding::{Finding, Mistake, MistakeKind, Mistakes, Severity};
use crate::knob::{Kind, Knob, OnMistake};
use crate::strings::Strings;

/// One pass over a source.
pub(crate) struct Reader<'a> {
    source: &'a dyn Strings,
    given: BTreeSet<&'static str>,
    findings: Vec<Finding>,
    mistakes: Vec<Mistake>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(source: &'a dyn Strings) -> Self {
        Self { source, given: BTreeSet::new(), findings: Vec::new(), mistakes: Vec::new() }
    }

    /// The text as it is set, whatever it is.
    pub(crate) fn raw(&self, knob: &Knob) -> Option<String> {
        self.source.get(knob.name)
    }

    /// Whether a non-empty value was read for this knob so far.
    pub(crate) fn is_given(&self, knob: &Knob) -> bool {
        self.given.contains(knob.name)
    }

    pub(crate) fn flag(&mut self, knob: &Knob) -> bool {
        self.typed(knob, |text| go_bool(text).ok_or_else(|| "is neither true nor false".to_owned()))
            .unwrap_or_default()
    }

    pub(crate) fn number(&mut self, knob: &Knob) -> i64 {
        let (least, most, unit) = match knob.kind {
            Kind::Number { min, max, unit } => (min, max, unit),
            Kind::Flag | Kind::Word { .. } | Kind::Text | Kind::Path | Kind::Cidrs | Kind::Tags => {
                (i64::MIN, i64::MAX, "")
            }
        };
        let range = if most == i64::MAX { format!("{least} or more") } else { format!("{least} to {most}") };
        self.typed(knob, |text| match text.parse::<i64>() {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            Ok(_) => Err(format!("is not within {range} {unit}").trim_end().to_owned()),
            Err(_) => Err("is no whole number".to_owned()),
        })
        .unwrap_or_default()
    }

    /// The number as a count; beyond `u32` it saturates.
    pub(crate) fn count(&mut self, knob: &Knob) -> u32 {
        u32::try_from(self.number(knob).max(0)).unwrap_or(u32::MAX)
    }

    /// One of the knob's words, as the knob spells it.
    pub(crate) fn word(&mut self, knob: &Knob) -> &'static str {
        let (words, any_case): (&[&'static str], bool) = match knob.kind {
            Kind::Word { words, any_case } => (words, any_case),
            Kind::Flag | Kind::Number { .. } | Kind::Text | Kind::Path | Kind::Cidrs | Kind::Tags => {
                (&[], false)
            }
        };
        self.typed(knob, |text| {
            words
                .iter()
                .find(|word| if any_case { word.eq_ignore_ascii_case(text) } else { **word == text })
                .copied()
                .ok_or_else(|| format!("is none of {}", words.join(", ")))
        })
        .unwrap_or_default()
    }

    pub(crate) fn text(&mut self, knob: &Knob) -> Option<String> {
        self.typed(knob, |text| Ok(text.to_owned()))
    }

    pub(crate) fn path(&mut self, knob: &Knob) -> PathBuf {
        self.typed(knob, |text| {
            let path = PathBuf::from(text);
            if path.is_absolute() { Ok(path) } else { Err("is no absolute path".to_owned()) }
        })
        .unwrap_or_default()
    }

    /// IPv4 CIDRs in network form. Wrong items are left out, each with a finding (incumbent-testcases I12).
    pub(crate) fn cidrs(&mut self, knob: &Knob) -> Vec<Ipv4Network> {
        let Some(text) = self.text(knob) else { return Vec::new() };
        let mut cidrs = Vec::new();
        for item in text.split(',').map(str::trim) {
            match ipv4_cidr(item) {
                Some(cidr) => cidrs.push(cidr),
                None => self.find(
                    Severity::Error,
                    knob,
                    format!("{item:?} is no IPv4 CIDR and is left out"),
                    "write it as 10.0.0.0/8",
                ),
            }
        }
        cidrs
    }

    /// A JSON object of texts; anything else is ignored as a whole, with a finding.
    pub(crate) fn tags(&mut self, knob: &Knob) -> BTreeMap<String, String> {
        self.typed(knob, |text| {
            serde_json::from_str::<Option<BTreeMap<String, Option<String>>>>(text)
                .map(|map| {
                    map.unwrap_or_default().into_iter().map(|(k, v)| (k, v.unwrap_or_default())).collect()
                })
                .map_err(|error| format!("is no JSON object of texts ({error})"))
        })
        .unwrap_or_default()
    }

    /// Tells people something, once: several groups may read one knob.
    pub(crate) fn find(&mut self, severity: Severity, knob: &Knob, what: String, fix: &str) {
        let finding = Finding { severity, variable: knob.name, what, fix: fix.to_owned() };
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    /// Keeps the daemon from starting.
    pub(crate) fn refuse(&mut self, kind: MistakeKind, knob: &Knob, what: String, fix: &str) {
        let mistake = Mistake { kind, variable: knob.name.to_owned(), what, fix: fix.to_owned() };
        if !self.mistakes.contains(&mistake) {
            self.mistakes.push(mistake);
        }
    }

    /// The findings, when there is no mistake.
    pub(crate) fn finish(self) -> Result<Vec<Finding>, Mistakes> {
        if self.mistakes.is_empty() {
            Ok(self.findings)
        } else {
            Err(Mistakes { mistakes: self.mistakes, findings: self.findings })
        }
    }

    /// The value set, when it parses; else the default; `None` when there is none.
    fn typed<T>(&mut self, knob: &Knob, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let default = || if knob.default.is_empty() { None } else { parse(knob.default).ok() };
        let Some(text) = self.source.get(knob.name) else { return default() };
        if text.is_empty() && self.empty_is_unset(knob) {
            return default();
        }
        self.given.insert(knob.name);
        match parse(&text) {
            Ok(value) => Some(value),
            Err(why) => {
                self.mistaken(knob, &text, &why);
                default()
            }
        }
    }

    /// Numbers and flags of the incumbent take an empty text for a mistake; texts, words and ours for "not set".
    /// Where a mistake only means the default there is nothing to tell apart, so empty is quietly unset there too.
    fn empty_is_unset(&self, knob: &Knob) -> bool {
        match knob.on_mistake {
            OnMistake::Default | OnMistake::Strict => true,
            OnMistake::Exit => matches!(knob.kind, Kind::Text | Kind::Path | Kind::Word { .. }),
        }
    }

    fn mistaken(&mut self, knob: &Knob, text: &str, why: &str) {
        let what = format!("{text:?} {why}");
        match knob.on_mistake {
            OnMistake::Default => {
                let what = match knob.default {
                    "" => format!("{what} and is ignored"),
                    default => format!("{what}, the default {default} is used"),
                };
                self.find(Severity::Error, knob, what, "correct or remove it");
            }
            OnMistake::Exit => self.refuse(MistakeKind::Invalid, knob, what, "correct or remove it"),
            OnMistake::Strict => self.refuse(MistakeKind::Podwire, knob, what, "correct or remove it"),
        }
    }
}

/// *Source*: Go strconv.ParseBool (incumbent-behaviour §1.1).
fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// *Source*: Go net.ParseCIDR: the prefix length is a must, host bits are dropped.
fn ipv4_cidr(text: &str) -> Option<Ipv4Network> {
    let (address, length) = text.split_once('/')?;
    let length: u8 = length.bytes().all(|b| b.is_ascii_digit()).then(|| length.parse().ok()).flatten()?;
    let cidr = Ipv4Network::new(address.parse().ok()?, length).ok()?;
    Ipv4Network::new(cidr.network(), length).ok()
}

#[cfg(test)]
mod tests;
