//! Stages for kernel tests: throw-away network and mount namespaces, a node with fake ENIs in them, a fake daemon that
//! behaves, and the real plugin executed as a runtime executes it.
//!
//! Needs root. Leaves nothing behind: every namespace dies with the thread or process that holds it.

pub mod flow;
pub mod ipamd;
pub mod kubeproxy;
pub mod node;
pub mod runtime;
pub mod stage;
pub mod tcp;

pub use ipamd::FakeIpamd;
pub use runtime::{Outcome, Runtime, Sandbox};
pub use stage::{Ns, Stage, on_stage};

use serde_json::Value;

/// What the host's namespace holds of pods: links, routes, rules, neighbours, ruleset. Equal before and after means that
/// nothing was left behind.
#[must_use]
pub fn kernel_state(stage: &Stage) -> Value {
    let strip = |mut list: Value| {
        for link in list.as_array_mut().into_iter().flatten() {
            if let Some(link) = link.as_object_mut() {
                link.remove("stats64");
                link.remove("linkinfo");
                // The kernel settles these two a moment after a link comes up.
                link.remove("operstate");
                if let Some(flags) = link.get_mut("flags").and_then(Value::as_array_mut) {
                    flags.retain(|flag| flag != "NO-CARRIER");
                }
            }
        }
        list
    };
    serde_json::json!({
        "links": strip(stage.json("ip -j link")),
        "routes": stage.run("ip -4 route show table all | sort").lines().collect::<Vec<_>>(),
        "rules": stage.run("ip rule").lines().collect::<Vec<_>>(),
        "permanent": stage.run("ip neigh show nud permanent").lines().collect::<Vec<_>>(),
        "nft": stage.run("nft list ruleset").lines().collect::<Vec<_>>(),
    })
}
