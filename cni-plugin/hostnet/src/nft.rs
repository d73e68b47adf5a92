//! nftables over netlink: expressions, transactions, and reading the table back.
//!
//! *Source*: linux/netfilter/nf_tables.h. Every change of the ruleset is one transaction, which the kernel takes or
//! refuses as a whole.

pub(crate) mod expr;
pub(crate) mod incumbent;
pub(crate) mod read;
pub(crate) mod transaction;
pub(crate) mod uapi;
