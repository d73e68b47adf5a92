//! The result of ADD in the shape of each version, and what DEL and CHECK read out of an earlier one.

use super::version::{self, Version};
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// One interface that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its MAC.
    pub mac: String,
    /// Its MTU; only versions from 1.1.0 on carry it.
    pub mtu: u32,
    /// The namespace it is in; empty for the host's.
    pub sandbox: String,
}

/// What an ADD made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The host's end.
    pub host: Interface,
    /// The pod's end.
    pub pod: Interface,
    /// The pod's addresses, primary family first.
    pub addresses: Vec<IpAddr>,
    /// In layout compat, what the incumbent's DEL reads out of an earlier result.
    pub hidden: Option<Hidden>,
}

/// What the incumbent hides in the fields of its result, for its own DEL when its daemon is away.
/// *Source*: incumbent-behaviour §2.4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hidden {
    /// Route table of the ENI that carries the addresses: in place of the pod interface's MAC.
    pub table: u32,
    /// Device index of that ENI: in place of a last interface's namespace.
    pub device: u32,
    /// Name of that last interface, which does not exist.
    pub name: String,
}

/// The result for stdout: what came in, with what was made behind it. Keys it does not know stay.
#[must_use]
pub fn render(made: &Made, spoken: Version, text: &str, previous: Option<&Value>) -> String {
    let mut result = previous.and_then(Value::as_object).cloned().unwrap_or_default();
    result.insert("cniVersion".into(), text.into());
    let interfaces = list(&mut result, "interfaces");
    interfaces.push(interface(&made.host, spoken));
    let index = interfaces.len();
    interfaces.push(interface(&made.pod, spoken));
    if let Some(hidden) = &made.hidden {
        interfaces[index]["mac"] = hidden.table.to_string().into();
        interfaces.push(json!({ "name": hidden.name, "mac": "0", "sandbox": hidden.device.to_string() }));
    }
    let ips = list(&mut result, "ips");
    ips.extend(made.addresses.iter().map(|address| ip(*address, index, spoken)));
    Value::Object(result).to_string()
}

/// The list under a key, made where it is missing or something else.
fn list<'a>(result: &'a mut Map<String, Value>, key: &str) -> &'a mut Vec<Value> {
    let entry = result.entry(key).or_insert(Value::Null);
    if !entry.is_array() {
        *entry = Value::Array(Vec::new());
    }
    entry.as_array_mut().expect("made an array just now")
}

fn interface(interface: &Interface, spoken: Version) -> Value {
    let mut object = json!({ "name": interface.name, "mac": interface.mac });
    if !interface.sandbox.is_empty() {
        object["sandbox"] = interface.sandbox.clone().into();
    }
    if spoken >= version::WITH_GC {
        object["mtu"] = interface.mtu.into();
    }
    object
}

fn ip(address: IpAddr, interface: usize, spoken: Version) -> Value {
    let (family, bits) = match address {
        IpAddr::V4(_) => ("4", 32),
        IpAddr::V6(_) => ("6", 128),
    };
    let mut object = json!({ "address": format!("{address}/{bits}"), "interface": interface });
    if spoken < version::WITHOUT_IP_VERSION {
        object["version"] = family.into();
    }
    object
}

/// What an earlier result says of one attachment. Read without trust: whatever is malformed is as if absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Earlier {
    /// Interfaces without a sandbox.
    pub hosts: Vec<Named>,
    /// The pod's interface, where it is listed.
    pub pod: Option<Named>,
    /// The namespace it is in.
    pub sandbox: String,
    /// The addresses on the pod's interface that stand for themselves: ours do, and what others add comes with its subnet.
    pub addresses: Vec<IpAddr>,
}

/// An interface that an earlier result names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its MAC, where one is given; a number in its place is the incumbent's ([`Hidden`]).
    pub mac: Option<String>,
}

/// Reads an earlier result.
#[must_use]
pub fn earlier(previous: &Value, ifname: &str) -> Earlier {
    let text = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let interfaces = previous.get("interfaces").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let in_sandbox = |i: &Value| !text(i, "sandbox").is_empty();
    let named = |i: &Value| Named {
        name: text(i, "name"),
        mac: Some(text(i, "mac")).filter(|mac| mac.contains(':')),
    };
    let pod = interfaces.iter().position(|i| in_sandbox(i) && text(i, "name") == ifname);
    let ips = previous.get("ips").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let on_pod = |v: &&Value| match v.get("interface").and_then(Value::as_u64) {
        Some(index) => pod.is_some_and(|p| u64::try_from(p).is_ok_and(|p| p == index)),
        None => true,
    };
    Earlier {
        hosts: interfaces.iter().filter(|i| !in_sandbox(i)).map(named).collect(),
        pod: pod.map(|p| named(&interfaces[p])),
        sandbox: pod.map(|p| text(&interfaces[p], "sandbox")).unwrap_or_default(),
        addresses: ips.iter().filter(on_pod).filter_map(|ip| single(&text(ip, "address"))).collect(),
    }
}

/// An address with the whole of its length behind it.
fn single(text: &str) -> Option<IpAddr> {
    let (address, bits) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    (bits == if address.is_ipv4() { "32" } else { "128" }).then_some(address)
}

#[cfg(test)]
mod tests;
