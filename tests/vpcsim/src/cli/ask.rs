//! Commands that ask a running lab and print its answer.

use serde_json::Value;
use vpcsim::cloud::Stats;
use vpcsim::control::{NodeStatus, Request, Status, ask};
use vpcsim::lab::NodeSpec;

use super::print::{say, say_json, say_table};

pub(super) fn status(lab: &str, json: bool) -> anyhow::Result<()> {
    let status: Status = ask(lab, &Request::Status)?;
    if json {
        return say_json(&status);
    }
    show(&status)
}

/// For people.
pub(super) fn show(status: &Status) -> anyhow::Result<()> {
    let cidrs: Vec<_> = status.vpc_cidrs.iter().map(ToString::to_string).collect();
    say(&format!("VPC {} ({}), {} in {}", status.name, status.pid, cidrs.join(", "), status.region))?;
    say(&format!("EC2 API   {} here, {} in nodes", status.outside_endpoint, status.node_endpoint))?;
    say(&format!("internet  {} tells callers who they are", status.internet))?;
    let drops = status.drops;
    let dropped = format!(
        "dropped   {} spoofed, {} by security groups, {} to IMDS by secondary ENIs",
        drops.spoofed, drops.group_denied, drops.imds_denied
    );
    say(&dropped)?;
    for fault in &status.wire_faults {
        say(&format!("FAULT     {fault}"))?;
    }
    let header =
        ["node", "instance", "type", "zone", "pid", "card.device", "eni", "mac", "state", "address", "more"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(status.nodes.iter().flat_map(node_rows));
    Ok(say_table(&rows)?)
}

fn node_rows(node: &NodeStatus) -> Vec<Vec<String>> {
    let row = |eni: &vpcsim::control::EniStatus| {
        let more = eni.secondaries.len() + eni.ipv6.len();
        let prefixes: Vec<_> = eni.prefixes.iter().map(ToString::to_string).collect();
        vec![
            node.name.clone(),
            node.instance.clone(),
            node.instance_type.clone(),
            node.az.clone(),
            node.pid.to_string(),
            format!("{}.{}", eni.card, eni.device),
            eni.eni.clone(),
            eni.mac.clone(),
            eni.status.clone(),
            eni.primary.to_string(),
            format!("+{more} {}", prefixes.join(" ")),
        ]
    };
    node.enis.iter().map(row).collect()
}

pub(super) fn add_node(
    lab: &str,
    name: &str,
    instance_type: &str,
    subnet: &str,
    prefixes: u32,
) -> anyhow::Result<()> {
    let spec = NodeSpec::new(name).of_type(instance_type).in_subnet(subnet).with_launch_prefixes(prefixes);
    let node: NodeStatus = ask(lab, &Request::AddNode(spec))?;
    let address = node.enis.first().map(|eni| eni.primary.to_string()).unwrap_or_default();
    Ok(say(&format!("{} {} {address}", node.name, node.instance))?)
}

pub(super) fn reboot_node(lab: &str, name: &str) -> anyhow::Result<()> {
    ask(lab, &Request::RebootNode(name.to_owned()))
}

pub(super) fn remove_node(lab: &str, name: &str) -> anyhow::Result<()> {
    ask(lab, &Request::RemoveNode(name.to_owned()))
}

/// Any keys do for a lab that lists none; signatures are not verified.
pub(super) fn env(lab: &str, in_node: bool) -> anyhow::Result<()> {
    let status: Status = ask(lab, &Request::Status)?;
    let endpoint = if in_node { &status.node_endpoint } else { &status.outside_endpoint };
    say(&format!("export AWS_ENDPOINT_URL_EC2={endpoint}"))?;
    say(&format!("export AWS_REGION={0} AWS_DEFAULT_REGION={0}", status.region))?;
    if !in_node {
        say("export AWS_ACCESS_KEY_ID=AKIAVPCSIMOUTSIDE000 AWS_SECRET_ACCESS_KEY=any")?;
        say("export AWS_EC2_METADATA_DISABLED=true")?;
    }
    Ok(())
}

pub(super) fn calls(lab: &str, json: bool, reset: bool) -> anyhow::Result<()> {
    let stats: Stats = ask(lab, &Request::Calls)?;
    if reset {
        ask::<()>(lab, &Request::ForgetCalls)?;
    }
    if json {
        return say_json(&stats);
    }
    let mut rows = vec![["action", "calls", "done", "unanswered", "refused"].map(str::to_owned).to_vec()];
    for (action, count) in &stats.actions {
        let numbers = [count.calls, count.done, count.unanswered].map(|number| number.to_string());
        let refused: Vec<_> = count.refused.iter().map(|(code, times)| format!("{times} {code}")).collect();
        rows.push(std::iter::once(action.clone()).chain(numbers).chain([refused.join(", ")]).collect());
    }
    say_table(&rows)?;
    say(&format!("{} that change something, {} that read", stats.mutating_calls, stats.reading_calls))?;
    Ok(())
}

pub(super) fn last_calls(lab: &str, count: usize) -> anyhow::Result<()> {
    let calls: Vec<Value> = ask(lab, &Request::LastCalls(count))?;
    calls.iter().try_for_each(|call| Ok(say(&call.to_string())?))
}
