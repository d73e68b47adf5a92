//! aws-node as far as a change of daemons concerns it: how it reads and writes its checkpoint, what it would hand out next,
//! how it wires a pod, and what it makes for the whole node. *Source*: incumbent-behaviour §2.6, §4.1, §4.4, §5.2, §6.1, §6.2
//! (amazon-vpc-cni-k8s v1.23.1).

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, bail};
use ipnetwork::Ipv4Network;
use serde_json::{Map, Value, json};
use sha1::{Digest, Sha1};
use vpcsim::node::{Node, PodNetns};

/// Where it keeps its checkpoint, in the node.
pub const CHECKPOINT: &str = "/var/run/aws-node/ipam.json";

/// One entry of its checkpoint, as its Go structs hold it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// `networkName`.
    pub network: String,
    /// `containerID`.
    pub container: String,
    /// `ifName`.
    pub ifname: String,
    /// `ipv4`.
    pub ipv4: Ipv4Addr,
    /// `allocationTimestamp`.
    pub timestamp: i64,
    /// `metadata.k8sPodNamespace` and `metadata.k8sPodName`.
    pub pod: (String, String),
    /// `metadata.interfacesCount`.
    pub interfaces: i64,
}

/// Its data store after a start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Store {
    /// What it believes to be in use.
    pub entries: Vec<Entry>,
    /// What it would hand out, sooner or later: everything else that EC2 assigned.
    pub free: BTreeSet<Ipv4Addr>,
    /// Entries it forgot: no link, or no such address on any ENI.
    pub dropped: Vec<Entry>,
}

/// The host veth's name for a pod.
#[must_use]
pub fn host_veth(namespace: &str, pod: &str) -> String {
    format!("eni{}", hash(namespace, pod, 0))
}

/// Eleven hex digits of SHA-1 over `<namespace>.<pod>`; further interfaces add `.<index>`.
fn hash(namespace: &str, pod: &str, index: i64) -> String {
    let name = if index == 0 { format!("{namespace}.{pod}") } else { format!("{namespace}.{pod}.{index}") };
    let digest: String = Sha1::digest(name).iter().map(|byte| format!("{byte:02x}")).collect();
    digest[..11].to_owned()
}

/// A field as Go's decoder finds it: by its name, upper and lower case alike, the last one of several; `null` is none.
fn field<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object
        .iter()
        .filter(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_null())
        .map(|(_, v)| v)
        .next_back()
}

fn text(object: &Map<String, Value>, name: &str) -> anyhow::Result<String> {
    match field(object, name) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => bail!("json: cannot unmarshal {other} into Go struct field {name} of type string"),
    }
}

fn number(object: &Map<String, Value>, name: &str) -> anyhow::Result<i64> {
    match field(object, name) {
        None => Ok(0),
        Some(value) => value.as_i64().with_context(|| format!("json: cannot unmarshal {value} into {name}")),
    }
}

fn entry(value: &Value) -> anyhow::Result<Entry> {
    let object = value.as_object().context("json: an allocation is no object")?;
    let none = Map::new();
    let metadata = match field(object, "metadata") {
        None => &none,
        Some(value) => value.as_object().context("json: metadata is no object")?,
    };
    Ok(Entry {
        network: text(object, "networkName")?,
        container: text(object, "containerID")?,
        ifname: text(object, "ifName")?,
        ipv4: text(object, "ipv4")?.parse().context("an entry without an IPv4 address")?,
        timestamp: number(object, "allocationTimestamp")?,
        pod: (text(metadata, "k8sPodNamespace")?, text(metadata, "k8sPodName")?),
        interfaces: number(metadata, "interfacesCount")?,
    })
}

/// Reads its checkpoint; a missing file is a fresh node.
///
/// # Errors
/// What makes it exit at start.
pub fn read(path: &Path) -> anyhow::Result<Vec<Entry>> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read?,
    };
    let file: Value = serde_json::from_slice(&bytes).context("json")?;
    let object = file.as_object().context("json: no object")?;
    let version = text(object, "version")?;
    if version != "vpc-cni-ipam/1" {
        bail!("datastore: unknown backing store version {version:?}");
    }
    let list = field(object, "allocations").map_or(Some(&[][..]), |list| list.as_array().map(Vec::as_slice));
    list.context("json: allocations is no array")?.iter().map(entry).collect()
}

/// Writes its checkpoint: keys it does not know are gone.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, entries: &[Entry]) -> anyhow::Result<()> {
    let one = |entry: &Entry| {
        let mut metadata = Map::new();
        for (key, value) in [("k8sPodNamespace", &entry.pod.0), ("k8sPodName", &entry.pod.1)] {
            if !value.is_empty() {
                metadata.insert(key.into(), value.as_str().into());
            }
        }
        if entry.interfaces != 0 {
            metadata.insert("interfacesCount".into(), entry.interfaces.into());
        }
        json!({"networkName": entry.network, "containerID": entry.container, "ifName": entry.ifname,
               "ipv4": entry.ipv4, "allocationTimestamp": entry.timestamp, "metadata": metadata})
    };
    let file =
        json!({"version": "vpc-cni-ipam/1", "allocations": entries.iter().map(one).collect::<Vec<_>>()});
    let temporary = path.with_extension("json.tmp123");
    std::fs::create_dir_all(path.parent().context("a path without a directory")?)?;
    std::fs::write(&temporary, file.to_string())?;
    Ok(std::fs::rename(temporary, path)?)
}

/// Starts: restores the checkpoint against the node's links and what EC2 assigned. `prefixes`: its mode.
///
/// # Errors
/// What makes it exit at start.
pub fn start(
    path: &Path,
    links: &[String],
    assigned: &[Ipv4Network],
    prefixes: bool,
) -> anyhow::Result<Store> {
    let mut store = Store::default();
    for net in assigned.iter().filter(|net| (net.prefix() < 32) == prefixes) {
        store.free.extend(net.iter());
    }
    let mut seen = BTreeMap::new();
    for entry in read(path)? {
        let named = !entry.pod.0.is_empty() || !entry.pod.1.is_empty();
        let has_link = |index| {
            let suffix = hash(&entry.pod.0, &entry.pod.1, index);
            links.iter().any(|link| link.ends_with(&suffix))
        };
        let lives = !named || (0..entry.interfaces.max(1)).all(has_link);
        if !lives || !assigned.iter().any(|net| net.contains(entry.ipv4)) {
            store.dropped.push(entry);
            continue;
        }
        if let Some(other) = seen.insert(entry.ipv4, entry.container.clone()) {
            bail!("datastore: IP {} is assigned to {other} and {}", entry.ipv4, entry.container);
        }
        store.free.remove(&entry.ipv4);
        store.entries.push(entry);
    }
    Ok(store)
}

/// A pod that it wired.
#[derive(Debug, Clone)]
pub struct OldPod {
    /// Its sandbox.
    pub netns: PodNetns,
    /// What its checkpoint says of it.
    pub entry: Entry,
}

/// Wires a pod on a node, as its plugin does; `table`: of the ENI that carries the address, none for the primary.
///
/// # Errors
/// A command fails.
pub fn wire(node: &Node, name: &str, address: Ipv4Addr, table: Option<u32>) -> anyhow::Result<OldPod> {
    let netns = node.add_netns(name)?;
    let veth = host_veth("default", name);
    let host = |script: &str| run(node.command("sh"), script);
    host(&format!(
        "ip link add {veth} mtu 9001 type veth peer name eth0 mtu 9001 netns {name} && ip link set {veth} up"
    ))?;
    let mac = host(&format!("ip -o link show {veth} | sed 's/.*link.ether \\([0-9a-f:]*\\) .*/\\1/'"))?;
    let inside = format!(
        "ip link set eth0 up && ip route replace 169.254.1.1/32 dev eth0 scope link && ip addr add {address}/32 dev eth0 && \
         ip route add default via 169.254.1.1 dev eth0 && \
         ip neigh add 169.254.1.1 lladdr {} dev eth0 nud permanent",
        mac.trim()
    );
    run(netns.command("sh")?, &inside)?;
    host(&format!(
        "ip route replace {address}/32 dev {veth} scope link && ip rule add to {address}/32 lookup main prio 512"
    ))?;
    if let Some(table) = table {
        host(&format!("ip rule add from {address}/32 lookup {table} prio 1536"))?;
    }
    Ok(OldPod { netns, entry: new_entry(name, address) })
}

/// Makes what it makes for the whole node, as on a node with `iptables-nft`: SNAT for what leaves these networks, marks.
///
/// # Errors
/// A command fails.
pub fn set_up(node: &Node, primary: Ipv4Addr, vpc: &str) -> anyhow::Result<()> {
    let rules = format!(
        "-t nat -N AWS-SNAT-CHAIN-0
         -t nat -A POSTROUTING -m comment --comment 'AWS SNAT CHAIN' -j AWS-SNAT-CHAIN-0
         -t nat -A AWS-SNAT-CHAIN-0 -d {vpc} -m comment --comment 'AWS SNAT CHAIN' -j RETURN
         -t nat -A AWS-SNAT-CHAIN-0 ! -o vlan+ -m comment --comment 'AWS, SNAT' -m addrtype ! --dst-type LOCAL -j SNAT --to-source {primary} --random-fully
         -t mangle -A PREROUTING -i eth0 -m comment --comment 'AWS, primary ENI' -m addrtype --dst-type LOCAL --limit-iface-in -j CONNMARK --set-mark 0x80/0x80
         -t mangle -A PREROUTING -i eni+ -m comment --comment 'AWS, primary ENI' -j CONNMARK --restore-mark --mask 0x80"
    );
    let marks = format!(
        "nft 'table ip aws-cni {{
           chain snat-mark {{ counter ip daddr {vpc} return; counter ct mark set ct mark | 0x80; }}
           chain nat-prerouting {{ type nat hook prerouting priority -90; policy accept;
             fib daddr type local return; iifname \"eni*\" counter jump snat-mark; counter meta mark set ct mark & 0x80; }}
         }}'"
    );
    let script: String = rules.lines().map(|rule| format!("iptables-nft -w {}\n", rule.trim())).collect();
    run(node.command("sh"), &format!("{script}ip rule add fwmark 0x80/0x80 lookup main prio 1024\n{marks}"))?;
    Ok(())
}

/// What its checkpoint says of a pod it just made.
#[must_use]
pub fn new_entry(pod: &str, address: Ipv4Addr) -> Entry {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Entry {
        network: "aws-cni".into(),
        container: format!("incumbents-{pod}-sandbox"),
        ifname: "eth0".into(),
        ipv4: address,
        timestamp: i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        pod: ("default".into(), pod.into()),
        interfaces: 1,
    }
}

/// Names of the node's links.
///
/// # Errors
/// They cannot be listed.
pub fn links(node: &Node) -> anyhow::Result<Vec<String>> {
    let list = run(node.command("sh"), "ip -o link show | cut -d: -f2 | cut -d@ -f1")?;
    Ok(list.split_whitespace().map(str::to_owned).collect())
}

/// The checkpoint's path as the test sees it.
#[must_use]
pub fn checkpoint(node: &Node) -> PathBuf {
    node.path(CHECKPOINT)
}

fn run(mut shell: std::process::Command, script: &str) -> anyhow::Result<String> {
    let output = shell.args(["-ec", script]).output().context("cannot execute sh")?;
    if !output.status.success() {
        bail!("{script}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// incumbent-testcases F08, F09, H01.
    #[test]
    fn reads_and_restores_as_documented() {
        assert_eq!(host_veth("kube-system", "coredns-57ff979f67-qqbdh"), "enib5faff8a083");
        let dir = std::env::temp_dir().join(format!("podwire-incumbent-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let path = dir.join("ipam.json");
        let entry = |pod: &str, address: [u8; 4]| Entry { timestamp: 1, ..new_entry(pod, address.into()) };
        let mut nameless = entry("c", [10, 0, 0, 3]);
        nameless.pod = (String::new(), String::new());
        let all =
            [entry("a", [10, 0, 0, 1]), entry("b", [10, 0, 0, 2]), nameless, entry("far", [10, 9, 0, 1])];
        write(&path, &all).expect("written");
        assert_eq!(read(&path).expect("read"), all);
        let links = [host_veth("default", "a"), host_veth("default", "far")];
        let nets = ["10.0.0.0/28".parse().expect("a network")];
        let store = start(&path, &links, &nets, true).expect("starts");
        assert_eq!(store.entries, [all[0].clone(), all[2].clone()]);
        assert_eq!(store.dropped, [all[1].clone(), all[3].clone()]);
        assert_eq!(store.free.len(), 14);
        write(&path, &[all[0].clone(), Entry { container: "other".into(), ..all[0].clone() }])
            .expect("written");
        assert!(start(&path, &links, &nets, true).is_err(), "a double address ends it");
        std::fs::write(&path, r#"{"version":"vpc-cni-ipam/2"}"#).expect("written");
        assert!(read(&path).is_err());
        std::fs::write(&path, r#"{"VERSION":"vpc-cni-ipam/1","podwireRevision":7,"allocations":null}"#)
            .expect("written");
        assert_eq!(read(&path).expect("read"), []);
        std::fs::remove_dir_all(&dir).expect("removed");
        assert_eq!(read(&path).expect("a fresh node"), []);
    }
}
