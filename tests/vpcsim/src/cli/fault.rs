//! `vpcsim fault`: trouble on demand.

use std::fs;
use std::io::Read as _;

use anyhow::Context as _;
use serde_json::Value;
use vpcsim::control::{Request, ask};
use vpcsim::trouble::TroubleSettings;

use super::Fault;
use super::print::say_json;

pub(super) fn fault(fault: &Fault) -> anyhow::Result<()> {
    match fault {
        Fault::Set { lab, settings } => set(&lab.name, serde_json::from_value(read(settings)?)?),
        Fault::Patch { lab, settings } => {
            let current: TroubleSettings = ask(&lab.name, &Request::Trouble)?;
            let mut whole = serde_json::to_value(current)?;
            merge(&mut whole, read(settings)?);
            set(&lab.name, serde_json::from_value(whole)?)
        }
        Fault::Ordinary { lab } => set(&lab.name, TroubleSettings::ordinary()),
        Fault::Clear { lab } => set(&lab.name, TroubleSettings::default()),
        Fault::Show { lab } => say_json(&ask::<TroubleSettings>(&lab.name, &Request::Trouble)?),
    }
}

fn set(lab: &str, settings: TroubleSettings) -> anyhow::Result<()> {
    ask(lab, &Request::SetTrouble(Box::new(settings)))
}

/// JSON text, `@FILE`, or `-`.
fn read(from: &str) -> anyhow::Result<Value> {
    let text = match from.strip_prefix('@') {
        Some(file) => fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?,
        None if from == "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            text
        }
        None => from.to_owned(),
    };
    serde_json::from_str(&text).context("trouble settings are not JSON")
}

/// Source: RFC 7396, section 2: objects merge, null removes, anything else replaces.
fn merge(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    target.remove(&key);
                } else {
                    merge(target.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (target, Value::Object(patch)) => {
            *target = Value::Object(serde_json::Map::new());
            merge(target, Value::Object(patch));
        }
        (target, patch) => *target = patch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Examples of RFC 7396, appendix A.
    #[test]
    fn merge_follows_the_rfc() {
        for (target, patch, result) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"["a","b"]"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r"{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            let parse = |text| serde_json::from_str::<Value>(text).unwrap();
            let mut target = parse(target);
            merge(&mut target, parse(patch));
            assert_eq!(target, parse(result));
        }
    }
}
