//! The EC2 Query API in front of a [`Cloud`](crate::cloud::Cloud): form-encoded requests in, XML out, over HTTP/1.1.
//!
//! Every action has a table of the parameters it knows; whatever is not in the table is refused, never ignored.
//! Signatures are read for the access key, the date and the Region, and not verified.
//!
//! Source: Amazon EC2 API Reference, version 2016-11-15, and botocore's service model of it.

mod actions;
mod addresses;
mod attachments;
mod filters;
mod instances;
mod interface_xml;
mod interfaces;
mod networks;
mod pages;
mod params;
mod request;
mod server;
mod standalone;
mod tags;
mod trunks;
mod types;
mod xml;

pub use server::{keep_time, serve, wall_clock};
pub use standalone::Standalone;

/// Every action that is served, and whether it changes anything.
pub fn served() -> impl Iterator<Item = (&'static str, bool)> {
    actions::ACTIONS.iter().map(|action| (action.name, action.mutating))
}
