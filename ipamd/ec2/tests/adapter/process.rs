//! The adapter in a process of its own, with an environment of its own: this test program, told to play the child.

use std::process::Command;
use std::time::Duration;

use podwire_ec2::{Ec2Client, Ec2Options, TagSet};
use podwire_pool::{Ec2Call, EniId, GrowBy, InstanceId, OpId, SubnetId};

use crate::endpoints::Capture;

/// Says what the child is to do: how many calls, `where`, `create`, or `unknown`.
const PART: &str = "PODWIRE_TEST_PART";
/// Begins each line that the child has to say.
const SAYS: &str = "child says: ";

/// Runs the child with this environment and no other; gives what it says, one line a call.
pub(crate) fn child(part: &str, environment: &[(&str, &str)]) -> Vec<String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["process::plays_its_part_in_a_child", "--exact", "--nocapture", "--test-threads=1"]);
    command.env_clear().env(PART, part).env("HOME", "/nonexistent").envs(environment.iter().copied());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let lines = text.lines().filter_map(|line| line.split_once(SAYS));
    lines.map(|(_, said)| said.to_owned()).collect()
}

fn options() -> Ec2Options {
    Ec2Options {
        region: "eu-west-1".into(),
        endpoint: std::env::var("AWS_EC2_ENDPOINT").ok(),
        timeout: Duration::from_secs(5),
        instance: InstanceId::new("i-0123"),
        zone: "eu-west-1a".into(),
        vpc: "vpc-1".into(),
        tags: TagSet { instance: "i-0123".into(), ..TagSet::default() },
        token_salt: "salt".into(),
    }
}

/// Only for [`child`]; by itself it has no part to play.
#[test]
fn plays_its_part_in_a_child() {
    let Ok(part) = std::env::var(PART) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if part == "where" {
            let capture = Capture::default();
            let client = Ec2Client::over(capture.clone(), options()).await;
            let outcome = client.call(OpId(1), &Ec2Call::Describe { also: Vec::new() }).await;
            println!("{SAYS}{} {outcome:?}", capture.asked().join(" "));
            return;
        }
        let client = Ec2Client::new(options()).await;
        if let Some(call) = call_of(&part) {
            println!("{SAYS}{:?}", client.call(OpId(7), &call).await);
            return;
        }
        for n in 0..part.parse().unwrap() {
            let outcome = client.call(OpId(n), &Ec2Call::Describe { also: Vec::new() }).await;
            println!("{SAYS}{outcome:?}");
        }
    });
}

fn call_of(part: &str) -> Option<Ec2Call> {
    match part {
        "create" => Some(Ec2Call::Create {
            subnet: SubnetId::new("subnet-1"),
            groups: Vec::new(),
            with: GrowBy::Addresses(1),
        }),
        "unknown" => Some(Ec2Call::Describe { also: vec![EniId::new("eni-00000088")] }),
        _ => None,
    }
}
