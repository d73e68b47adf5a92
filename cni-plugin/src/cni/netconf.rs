//! The configuration on stdin.
//!
//! Fields and defaults are the incumbent's (incumbent-behaviour §2.2); keys that are not ours are left alone (P-14).

use super::env::Verb;
use super::error::{CONFIG, CniError, DECODE};
use super::version::{self, Version};
use podwire_hostnet::check_prefix;
use podwire_proto::convert;
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// MTU where none, or none that can be used, is given. *Source*: incumbent-behaviour §1.2, `POD_MTU`.
const MTU_DEFAULT: u32 = 9001;
/// Smallest MTU taken. *Source*: incumbent-behaviour §1.2.
const MTU_MIN: u32 = 576;
/// Start of host veth names where none is given.
const VETH_PREFIX_DEFAULT: &str = "eni";
/// Log file where none is given. *Source*: incumbent-behaviour §1.2, `AWS_VPC_K8S_PLUGIN_LOG_FILE`.
const LOG_FILE_DEFAULT: &str = "/var/log/aws-routed-eni/plugin.log";

/// How long each thing may take. *Source*: design §7.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// A whole ADD.
    pub add: Duration,
    /// A whole DEL.
    pub del: Duration,
    /// Waiting for a daemon that is being restarted, within an ADD.
    pub connect: Duration,
    /// A whole STATUS, CHECK or GC's wait for the daemon.
    pub status: Duration,
    /// How old the daemon's last sign of life may be while it does not answer.
    pub grace: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            add: Duration::from_secs(75),
            del: Duration::from_secs(20),
            connect: Duration::from_secs(60),
            status: Duration::from_secs(1),
            grace: Duration::from_secs(60),
        }
    }
}

/// One attachment the runtime still knows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ValidAttachment {
    /// The container.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// The interface.
    pub ifname: String,
}

/// The configuration, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct NetConf {
    /// Version of the specification the runtime speaks.
    pub version: String,
    /// The same as numbers.
    pub spoken: Version,
    /// The network.
    pub name: String,
    /// The result of the plugin before, or of ADD; `None` where there is none, or none that can be read.
    pub prev_result: Option<Value>,
    /// A `prevResult` was there but is no object.
    pub prev_result_malformed: bool,
    /// Start of host veth names.
    pub veth_prefix: String,
    /// MTU of pod interfaces.
    pub mtu: u32,
    /// Where the log goes.
    pub log_file: String,
    /// How much is logged.
    pub log_level: String,
    /// What is still alive; `None` where the runtime does not say (G-07).
    pub valid_attachments: Option<Vec<ValidAttachment>>,
    /// How long each thing may take.
    pub deadlines: Deadlines,
}

/// Why a configuration was refused, and the version the error is to carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The error.
    pub error: CniError,
    /// The configuration's version where it could be read.
    pub version: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    cni_version: Option<String>,
    name: Option<String>,
    prev_result: Option<Value>,
    veth_prefix: Option<String>,
    mtu: Option<Value>,
    plugin_log_file: Option<String>,
    plugin_log_level: Option<String>,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid: Option<Value>,
    #[serde(rename = "cni.dev/attachments")]
    valid_old_name: Option<Value>,
    podwire_add_timeout_ms: Option<u64>,
    podwire_del_timeout_ms: Option<u64>,
    podwire_connect_timeout_ms: Option<u64>,
    podwire_status_timeout_ms: Option<u64>,
    podwire_status_grace_ms: Option<u64>,
}

/// Reads the configuration for a verb.
///
/// # Errors
/// Code 6 where it cannot be read, 1 where its version is not ours or lacks the verb, 7 where a value cannot be used.
pub fn parse(stdin: &[u8], verb: Verb) -> Result<NetConf, Refused> {
    let as_newest = |error| Refused { error, version: version::NEWEST.to_owned() };
    let raw: Raw = serde_json::from_slice(stdin).map_err(|source| {
        as_newest(CniError::new(DECODE, "the configuration on stdin cannot be read").because(&source))
    })?;
    let (text, spoken) = version::supported(raw.cni_version.as_deref()).map_err(as_newest)?;
    check_verb(verb, text, spoken)
        .and_then(|()| checked(raw, verb, text, spoken))
        .map_err(|error| Refused { error, version: text.to_owned() })
}

/// K-01, and the same for GC and STATUS.
fn check_verb(verb: Verb, text: &str, spoken: Version) -> Result<(), CniError> {
    let since = match verb {
        Verb::Check => version::WITH_CHECK,
        Verb::Gc | Verb::Status => version::WITH_GC,
        Verb::Add | Verb::Del | Verb::Version => return Ok(()),
    };
    if spoken >= since {
        return Ok(());
    }
    Err(version::incompatible(&format!("{} is not part of cniVersion {text}", verb.name()), text))
}

fn checked(raw: Raw, verb: Verb, text: &str, spoken: Version) -> Result<NetConf, CniError> {
    let name = raw.name.unwrap_or_default();
    // The name's grammar is that of a container id (P-11).
    if convert::container_id(&name).is_err() {
        return Err(CniError::new(CONFIG, "the configuration's name is missing or invalid"));
    }
    let veth_prefix = veth_prefix(raw.veth_prefix)?;
    let valid_attachments = valid_attachments(verb, raw.valid.or(raw.valid_old_name))?;
    let previous = raw.prev_result.filter(|p| !p.is_null());
    let prev_result_malformed = previous.as_ref().is_some_and(|p| !p.is_object());
    let usual = Deadlines::default();
    let or = |given: Option<u64>, usual| given.map_or(usual, Duration::from_millis);
    Ok(NetConf {
        version: text.to_owned(),
        spoken,
        name,
        prev_result: previous.filter(Value::is_object),
        prev_result_malformed,
        veth_prefix,
        mtu: mtu(raw.mtu.as_ref()),
        log_file: raw
            .plugin_log_file
            .filter(|f| !f.is_empty())
            .unwrap_or_else(|| LOG_FILE_DEFAULT.to_owned()),
        log_level: raw.plugin_log_level.unwrap_or_default(),
        valid_attachments,
        deadlines: Deadlines {
            add: or(raw.podwire_add_timeout_ms, usual.add),
            del: or(raw.podwire_del_timeout_ms, usual.del),
            connect: or(raw.podwire_connect_timeout_ms, usual.connect),
            status: or(raw.podwire_status_timeout_ms, usual.status),
            grace: or(raw.podwire_status_grace_ms, usual.grace),
        },
    })
}

/// GC's list. In the configuration of another verb such a key is not the runtime's word, and nobody reads it (P-15).
fn valid_attachments(verb: Verb, given: Option<Value>) -> Result<Option<Vec<ValidAttachment>>, CniError> {
    let Some(list) = given.filter(|list| verb == Verb::Gc && !list.is_null()) else { return Ok(None) };
    serde_json::from_value(list)
        .map(Some)
        .map_err(|source| CniError::new(DECODE, "cni.dev/valid-attachments cannot be read").because(&source))
}

fn veth_prefix(given: Option<String>) -> Result<String, CniError> {
    let prefix = given.filter(|p| !p.is_empty()).unwrap_or_else(|| VETH_PREFIX_DEFAULT.to_owned());
    check_prefix(&prefix).map_err(|why| CniError::new(CONFIG, format!("vethPrefix {prefix:?} {why}")))?;
    Ok(prefix)
}

/// A number, or text with one, in range; anything else is the default, as with the incumbent.
fn mtu(given: Option<&Value>) -> u32 {
    let number = given.and_then(|v| v.as_str().map_or_else(|| v.as_u64(), |text| text.trim().parse().ok()));
    let number = number.and_then(|n| u32::try_from(n).ok());
    number.filter(|n| (MTU_MIN..=MTU_DEFAULT).contains(n)).unwrap_or(MTU_DEFAULT)
}

#[cfg(test)]
mod tests;
