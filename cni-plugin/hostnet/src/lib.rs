//! Host networking for the plugin and the daemon.
//!
//! `plan` says what the kernel should hold (pure), `diff` compares it with what it holds (pure), and [`NodeNet`] and
//! [`pod`] carry the difference out over netlink. No program is ever executed, no EC2 call made, no ledger touched.
//!
//! | who | changes |
//! |---|---|
//! | plugin, through [`pod`] | the pod's namespace, veth pair, host routes and rules (layout compat); alone it deletes its link |
//! | daemon, through [`NodeNet`] | ENIs, route tables, rules, the nft table, deletion of links |

mod diff;
mod error;
pub mod features;
mod names;
mod netlink;
mod netns;
mod nft;
mod node;
pub mod numbers;
mod plan;
pub mod pod;
#[cfg(feature = "probe")]
pub mod probe;
#[cfg(not(feature = "probe"))]
mod probe;
mod sysctl;

pub use error::{HostError, chain, mac_text};
pub use names::{Attachment, check_prefix, host_ifname, is_host_mac, link_suffix, pod_suffix};
pub use netlink::NetlinkError;
pub use netns::Netns;
pub use node::{
    Change, Doomed, NodeNet, Noticed, Part, PodLink, Repair, Still, UnmarkedLink, Waker, Watch,
    has_legacy_nat,
};
pub use numbers::EniSlot;
pub use plan::{EniConfig, Layout, NodeConfig, RandomSnat};
