//! Names and hardware addresses of pod links. Pure.

use sha1::{Digest, Sha1};

/// A (container id, interface name) pair: what a host veth belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attachment {
    /// The runtime's container id.
    pub container_id: String,
    /// The interface's name inside the pod.
    pub ifname: String,
}

/// What every alias of ours starts with.
const ALIAS_PREFIX: &str = "podwire:";
/// First octets of a host veth's MAC: locally administered, unicast. *Source*: our choice (`pw` behind 0xee).
const HOST_MAC_PREFIX: [u8; 3] = [0xee, 0x70, 0x77];

impl Attachment {
    /// The text that marks the host veth as this attachment's, `podwire:<container id>/<ifname>`.
    #[must_use]
    pub fn alias(&self) -> String {
        format!("{ALIAS_PREFIX}{}/{}", self.container_id, self.ifname)
    }

    /// Reads an alias back; `None` when it is not one of ours.
    #[must_use]
    pub fn from_alias(alias: &str) -> Option<Self> {
        let (container_id, ifname) = alias.strip_prefix(ALIAS_PREFIX)?.split_once('/')?;
        (!container_id.is_empty() && !ifname.is_empty())
            .then(|| Self { container_id: container_id.to_owned(), ifname: ifname.to_owned() })
    }

    /// The host end's MAC. *Why derived*: the kernel takes a MAC with the request that makes the link, an alias only
    /// after. A plugin killed between the two leaves a link that its MAC still names.
    #[must_use]
    pub fn host_mac(&self) -> [u8; 6] {
        let hash = self.hash("host");
        let [a, b, c] = HOST_MAC_PREFIX;
        [a, b, c, hash[0], hash[1], hash[2]]
    }

    /// The pod end's MAC: locally administered, unicast.
    #[must_use]
    pub fn pod_mac(&self) -> [u8; 6] {
        let hash = self.hash("pod");
        [(hash[0] & 0xfc) | 0x02, hash[1], hash[2], hash[3], hash[4], hash[5]]
    }

    fn hash(&self, end: &str) -> [u8; 20] {
        Sha1::digest(format!("{end}\0{}\0{}", self.container_id, self.ifname)).into()
    }
}

/// Whether a MAC is one that [`Attachment::host_mac`] makes.
#[must_use]
pub fn is_host_mac(mac: [u8; 6]) -> bool {
    mac.starts_with(&HOST_MAC_PREFIX)
}

/// The host veth's name: `prefix` and eleven hex digits.
///
/// *Source*: incumbent-behaviour §2.3, SHA-1 of `<namespace>.<pod>`. Where the runtime gives no pod, or the interface is
/// not `eth0`, the hash is of the attachment, since two of them would otherwise share a name (design §7).
#[must_use]
pub fn host_ifname(prefix: &str, namespace: &str, pod: &str, attachment: &Attachment) -> String {
    if namespace.is_empty() || pod.is_empty() || attachment.ifname != "eth0" {
        let key = format!("{}/{}", attachment.container_id, attachment.ifname);
        return format!("{prefix}{}", suffix(&key));
    }
    format!("{prefix}{}", pod_suffix(namespace, pod))
}

/// What the name of a pod's host veth ends with when it was made for `eth0` by us or by the incumbent.
#[must_use]
pub fn pod_suffix(namespace: &str, pod: &str) -> String {
    suffix(&format!("{namespace}.{pod}"))
}

/// What a name that [`host_ifname`] made ends with; all of any other name.
#[must_use]
pub fn link_suffix(name: &str) -> &str {
    prefix_of(name).map_or(name, |prefix| &name[prefix.len()..])
}

/// What a name that [`host_ifname`] made starts with; `None` for any other name.
pub(crate) fn prefix_of(name: &str) -> Option<&str> {
    let (prefix, digits) = name.split_at_checked(name.len().checked_sub(SUFFIX_LEN)?)?;
    let is_ours = !prefix.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_ours.then_some(prefix)
}

/// Whether names of pods' host links may start so: 1 to 4 printable ASCII characters, none of `/`, `:` and `%`, not the start
/// of other devices' names. *Why* `%`: the kernel takes it for a pattern of names. The daemon's setting has the same rule.
///
/// *Source*: `dev_valid_name` and `dev_alloc_name` in net/core/dev.c; incumbent-behaviour §1.2, `AWS_VPC_K8S_CNI_VETHPREFIX`.
///
/// # Errors
/// What is wrong with it.
pub fn check_prefix(prefix: &str) -> Result<(), &'static str> {
    if prefix.is_empty() || prefix.len() > PREFIX_MAX {
        return Err("is not 1 to 4 characters long");
    }
    if !prefix.bytes().all(|byte| byte.is_ascii_graphic() && !b"/:%".contains(&byte)) {
        return Err("holds characters no device name may have");
    }
    if PREFIXES_OF_OTHERS.contains(&prefix) {
        return Err("belongs to other devices");
    }
    Ok(())
}

/// Room before the digits: 15 bytes of a name (IFNAMSIZ, linux/if.h) less the digits of the hash.
const PREFIX_MAX: usize = 15 - SUFFIX_LEN;
/// *Source*: incumbent-behaviour §1.2, `AWS_VPC_K8S_CNI_VETHPREFIX`.
const PREFIXES_OF_OTHERS: [&str; 3] = ["eth", "lo", "vlan"];

/// Hex digits in a name. *Source*: incumbent-behaviour §2.3.
const SUFFIX_LEN: usize = 11;

fn suffix(key: &str) -> String {
    use std::fmt::Write as _;
    let mut hex = String::with_capacity(12);
    for byte in Sha1::digest(key).iter().take(6) {
        write!(hex, "{byte:02x}").expect("writing to a String cannot fail");
    }
    hex.truncate(SUFFIX_LEN);
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(ifname: &str) -> Attachment {
        Attachment { container_id: "c0ffee".into(), ifname: ifname.into() }
    }

    /// Scenario H01.
    #[test]
    fn host_ifname_hashes_as_the_incumbent() {
        let name = |ns, pod| host_ifname("eni", ns, pod, &attachment("eth0"));
        assert_eq!(name("kube-system", "coredns-57ff979f67-qqbdh"), "enib5faff8a083");
        assert_eq!(name("kube-system", "coredns-57ff979f67-8ns9b"), "eni9571956a6cc");
        assert_eq!(name("default", "sample-pod"), "enicc21c2d7785");
        assert_eq!(prefix_of("enicc21c2d7785"), Some("eni"));
        assert_eq!([prefix_of("cc21c2d7785"), prefix_of("eth0"), prefix_of("dockercc21c2d778x")], [None; 3]);
        assert_eq!(name("kube-system", "web-2"), "enica82d32c244");
    }

    #[test]
    fn host_ifname_without_pod_or_with_other_interface_is_the_attachments() {
        let unnamed = host_ifname("eni", "", "pod", &attachment("eth0"));
        assert_ne!(unnamed, host_ifname("eni", "", "pod", &attachment("eth1")));
        let second = host_ifname("eni", "default", "sample-pod", &attachment("net1"));
        assert_ne!(second, "enicc21c2d7785");
        assert!(second.len() <= 15);
    }

    #[test]
    fn alias_reads_back() {
        let one = attachment("eth0");
        assert_eq!(one.alias(), "podwire:c0ffee/eth0");
        assert_eq!(Attachment::from_alias(&one.alias()), Some(one));
        for foreign in ["", "podwire:", "podwire:x", "podwire:/eth0", "podwire:x/", "calico:x/eth0"] {
            assert_eq!(Attachment::from_alias(foreign), None, "{foreign:?}");
        }
    }

    #[test]
    fn macs_are_local_unicast_and_differ() {
        let one = attachment("eth0");
        for mac in [one.host_mac(), one.pod_mac()] {
            assert_eq!(mac[0] & 0x03, 0x02);
        }
        assert!(is_host_mac(one.host_mac()));
        assert_ne!(one.host_mac(), attachment("eth1").host_mac());
        assert_ne!(one.pod_mac(), attachment("eth1").pod_mac());
    }
}
