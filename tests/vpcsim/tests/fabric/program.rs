//! The program `vpcsim`, as its user runs it.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use vpcsim::lab::owner;
use vpcsim::ns::{KeeperProcess, keepers};

use crate::bench::{eventually, name};

fn program(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vpcsim")).args(words).output().unwrap()
}

fn ok(words: &[&str]) -> String {
    let output = program(words);
    let (said, complained) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "vpcsim {words:?}: {said}{complained}");
    said
}

fn refused(words: &[&str]) -> String {
    let output = program(words);
    assert!(!output.status.success(), "vpcsim {words:?} should have failed");
    String::from_utf8(output.stderr).unwrap()
}

fn keepers_of(lab: &str) -> Vec<KeeperProcess> {
    keepers().unwrap().into_iter().filter(|keeper| keeper.lab == lab).collect()
}

fn is_gone(lab: &str) -> bool {
    keepers_of(lab).is_empty() && owner(lab).is_none() && !Path::new("/run/vpcsim").join(lab).exists()
}

/// Takes the lab down although the test fails.
struct Down(&'static str);

impl Drop for Down {
    fn drop(&mut self) {
        program(&["down", "--force", "--name", self.0]);
    }
}

fn kill(signal: &str, pid: &str) {
    assert!(Command::new("kill").args([signal, pid]).status().unwrap().success());
}

#[test]
fn a_vpc_is_brought_up_used_and_taken_down() {
    let lab = ["--name", name("prog")];
    let _down = Down(lab[1]);
    let with = |words: &[&'static str]| [words, &lab].concat();
    ok(&with(&["up", "--detach", "--mode", "instant", "--nodes", "2", "--launch-prefixes", "1"]));
    let status: Value = serde_json::from_str(&ok(&with(&["status", "--json"]))).unwrap();
    assert_eq!(status["nodes"].as_array().unwrap().len(), 2);
    assert_eq!(status["nodes"][1]["enis"][0]["prefixes"].as_array().unwrap().len(), 1);
    assert_eq!(status["wire_faults"], Value::Array(Vec::new()));
    assert!(ok(&with(&["status"])).contains("node-2"));

    let address = status["nodes"][1]["enis"][0]["primary"].as_str().unwrap();
    ok(&["exec", "--name", name("prog"), "node-1", "--", "ping", "-c1", "-w5", address]);
    assert_eq!(ok(&["exec", "--name", name("prog"), "node-1", "--", "hostname"]), "node-1\n");
    assert!(refused(&["exec", "--name", name("prog"), "node-9", "--", "true"]).contains("no node node-9"));
    let code = program(&["exec", "--name", name("prog"), "node-1", "--", "sh", "-c", "exit 7"]).status.code();
    assert_eq!(code, Some(7), "the command's own code");
    // `ip netns` works inside, and its names are the node's.
    ok(&["exec", "--name", name("prog"), "node-1", "--", "ip", "netns", "add", "p"]);
    let devices = ok(&["exec", "--name", name("prog"), "--netns", "p", "node-1", "--", "ip", "-o", "link"]);
    assert_eq!(devices.lines().count(), 1, "{devices}");
    assert!(!Path::new("/run/netns/p").exists());

    assert!(ok(&with(&["node", "add", "extra", "--instance-type", "t3.small"])).starts_with("extra i-"));
    assert!(refused(&with(&["node", "add", "extra"])).contains("extra"));
    ok(&with(&["node", "reboot", "extra"]));
    ok(&["exec", "--name", name("prog"), "extra", "--", "ping", "-c1", "-w5", address]);
    ok(&with(&["node", "rm", "extra"]));
    assert!(refused(&with(&["up"])).contains("is up already"));
    let inside = refused(&["exec", lab[0], lab[1], "node-1", "--", env!("CARGO_BIN_EXE_vpcsim"), "up"]);
    assert!(inside.contains("from outside"), "{inside}");
    ok(&with(&["down"]));
    assert!(is_gone(name("prog")));
    ok(&with(&["down"]));
    assert!(refused(&with(&["status"])).contains("vpcsim up"), "says what to do");
}

#[test]
fn trouble_is_set_patched_shown_and_cleared() {
    let lab = ["--name", name("fault")];
    let _down = Down(lab[1]);
    let with = |words: &[&'static str]| [words, &lab].concat();
    ok(&with(&["up", "--detach"]));
    let show = || serde_json::from_str::<Value>(&ok(&with(&["fault", "show"]))).unwrap();
    let quiet = show();
    ok(&with(&["fault", "set", r#"{"black_hole": ["Assign*"]}"#]));
    ok(&with(&["fault", "patch", r#"{"imds": {"errors": 0.5}}"#]));
    assert_eq!(show()["black_hole"][0], "Assign*");
    assert_eq!(show()["imds"]["errors"], 0.5);
    assert!(refused(&with(&["fault", "set", r#"{"imsd": {}}"#])).contains("unknown field `imsd`"));
    assert!(refused(&with(&["fault", "set", "nonsense"])).contains("not JSON"));
    ok(&with(&["fault", "ordinary"]));
    assert_eq!(show()["throttle"]["enabled"], true);
    ok(&with(&["fault", "clear"]));
    assert_eq!(show(), quiet);
}

#[test]
fn signals_end_it_and_what_runs_in_it() {
    for (signal, lab) in [("-INT", name("int")), ("-TERM", name("term")), ("-KILL", name("kill"))] {
        let mut server = Command::new(env!("CARGO_BIN_EXE_vpcsim"))
            .args(["up", "--name", lab, "--nodes", "1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The table's last line is the node's: everything is up.
        let mut said = BufReader::new(server.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(said.any(|line| line.starts_with("node-1")), "up");
        let mut daemon = Command::new(env!("CARGO_BIN_EXE_vpcsim"))
            .args(["exec", "--name", lab, "node-1", "--", "sleep", "1000"])
            .spawn()
            .unwrap();
        let keeper = keepers_of(lab).into_iter().find(|keeper| keeper.host == "node-1").unwrap();
        let mount = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        eventually("the daemon is inside", || mount(daemon.id()) == mount(keeper.pid));
        kill(signal, &server.id().to_string());
        assert_eq!(server.wait().unwrap().success(), signal != "-KILL", "{signal}");
        assert!(!daemon.wait().unwrap().success(), "ended with its node");
        eventually("everything is gone by itself", || is_gone(lab));
        ok(&["down", "--name", lab]);
    }
}

#[test]
fn down_clears_away_what_even_the_keepers_could_not() {
    let _down = Down(name("left"));
    ok(&["up", "--detach", "--name", name("left"), "--nodes", "1"]);
    let left = keepers_of(name("left"));
    assert_eq!(left.len(), 3, "node, fabric, internet");
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_vpcsim"))
        .args(["exec", "--name", name("left"), "node-1", "--", "sh", "-c", "echo in; exec sleep 1000"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(daemon.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "in\n");
    left.iter().for_each(|keeper| kill("-KILL", &keeper.pid.to_string()));
    kill("-KILL", &owner(name("left")).unwrap().to_string());
    eventually("owner and keepers are dead", || {
        owner(name("left")).is_none() && keepers_of(name("left")).is_empty()
    });
    assert!(daemon.try_wait().unwrap().is_none(), "the node's daemon lives on");
    assert!(vpcsim::lab::names().unwrap().contains(&name("left").to_owned()), "and its lab can be found");
    ok(&["down", "--name", name("left")]);
    assert!(!daemon.wait().unwrap().success(), "killed");
    assert!(is_gone(name("left")));
}

#[test]
fn containers_of_a_node_end_with_it() {
    let _down = Down(name("cont"));
    ok(&["up", "--detach", "--name", name("cont"), "--nodes", "1"]);
    ok(&["exec", "--name", name("cont"), "node-1", "--", "ip", "netns", "add", "p"]);
    // As a container: a mount namespace of its own, the pod's network namespace.
    let mut container = Command::new(env!("CARGO_BIN_EXE_vpcsim"))
        .args(["exec", "--name", name("cont"), "--netns", "p", "node-1", "--"])
        .args(["unshare", "--mount", "sh", "-c", "echo in; exec sleep 1000"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(container.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "in\n");
    ok(&["down", "--name", name("cont")]);
    assert!(!container.wait().unwrap().success(), "killed");
}

#[test]
fn a_server_that_does_not_answer_is_killed_on_demand() {
    let _down = Down(name("stuck"));
    ok(&["up", "--detach", "--name", name("stuck")]);
    let before = vpcsim::control::socket(name("stuck"));
    std::fs::remove_file(before).unwrap();
    assert!(refused(&["down", "--name", name("stuck")]).contains("--force"));
    ok(&["down", "--force", "--name", name("stuck")]);
    assert!(is_gone(name("stuck")));
}

#[test]
fn a_spec_decides_everything_and_mistakes_are_named() {
    let _down = Down(name("spec"));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("lab.json");
    let file = file.to_str().unwrap();
    std::fs::write(
        file,
        r#"{"cloud": {"region": "eu-west-1", "vpc_cidrs": ["172.16.0.0/16", "100.64.0.0/16"],
                      "subnets": [{"id": "subnet-0000000000000000a", "cidr": "172.16.4.0/22", "az": "eu-west-1a"},
                                  {"cidr": "100.64.0.0/18", "az": "eu-west-1a"}]},
            "nodes": [{"name": "a", "instance": {"instance_type": "c5.4xlarge", "address": "172.16.4.100"}},
                      {"name": "b", "instance": {"subnet": "100.64.0.0/18"}}]}"#,
    )
    .unwrap();
    ok(&["up", "--detach", "--name", name("spec"), "--spec", file]);
    let route = ok(&["exec", "--name", name("spec"), "a", "--", "ip", "route", "get", "172.16.0.2"]);
    assert!(route.contains("via 172.16.4.1 dev eth0 src 172.16.4.100"), "{route}");
    let status: Value = serde_json::from_str(&ok(&["status", "--json", "--name", name("spec")])).unwrap();
    let other = status["nodes"][1]["enis"][0]["primary"].as_str().unwrap();
    ok(&["exec", "--name", name("spec"), "a", "--", "ping", "-c1", "-w5", other]);
    std::fs::write(file, r#"{"clowd": {}}"#).unwrap();
    assert!(refused(&["up", "--spec", file]).contains("unknown field `clowd`"));
    std::fs::write(file, r#"{"nodes": [{"name": "x", "instance": {"instance_type": "m5.huge"}}]}"#).unwrap();
    assert!(refused(&["up", "--detach", "--name", name("spec2"), "--spec", file]).contains("m5.huge"));
    assert!(is_gone(name("spec2")));
}
