//! Devices and namespaces: they appear whole, and vanish whole.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use vpcsim::ns;
use vpcsim::wires::Wires;

use crate::bench::{Bench, eventually, ip, name, ping, set_up_secondary};

#[test]
fn hot_plug_is_one_message_in_the_node_and_detach_another() {
    let mut bench = Bench::new(name("hotplug"));
    let node = bench.node("one", 0, 11);
    let mut monitor =
        node.command("ip").args(["-o", "monitor", "link"]).stdout(Stdio::piped()).spawn().unwrap();
    // It has subscribed when it shows in the kernel's table of netlink sockets (its port is its process id).
    let pid = monitor.id().to_string();
    eventually("the monitor listens", || {
        let sockets = node.enter(|| fs::read_to_string("/proc/thread-self/net/netlink")).unwrap().unwrap();
        sockets.lines().any(|line| line.split_whitespace().nth(2) == Some(&pid))
    });
    let port = bench.plug(&node, 1, 0, 12);
    // Its own message says that all before it have been seen.
    ip(node.namespaces(), "link add marker type veth peer name marker2\n");
    bench.fabric.unplug(&port.eni).unwrap();
    assert!(bench.fabric.unplug(&port.eni).is_err(), "it is gone");
    let mut lines = BufReader::new(monitor.stdout.take().unwrap()).lines().map_while(Result::ok);
    let of_eth1 = |line: &String| line.contains(" eth1");
    let plugged: Vec<_> =
        lines.by_ref().take_while(|line| !line.contains(" marker")).filter(of_eth1).collect();
    let [whole] = plugged.as_slice() else { panic!("one message: {plugged:#?}") };
    assert!(whole.contains("link/ether 02:00:00:00:00:02") && whole.contains("mtu 9001"), "{whole}");
    assert!(whole.contains("state DOWN"), "nobody has touched it: {whole}");
    assert!(lines.filter(of_eth1).any(|line| line.starts_with("Deleted")), "it was told to vanish");
    monitor.kill().unwrap();
    monitor.wait().unwrap();
}

/// As on a kernel that was started with `ipv6.disable=1`.
#[test]
fn without_ipv6_enis_are_plugged_and_carry_packets() {
    let mut bench = Bench::new(name("no6"));
    let off = |conf: &str| fs::write(format!("/proc/sys/net/ipv6/conf/{conf}/disable_ipv6"), "1");
    // There is nothing to switch off where the kernel has none.
    if fs::exists("/proc/sys/net/ipv6").unwrap() {
        bench.fabric.namespaces().enter(|| off("all").and_then(|()| off("default"))).unwrap().unwrap();
    }
    let (one, _two) = (bench.node("one", 0, 11), bench.node("two", 1, 21));
    let second = bench.plug(&one, 1, 0, 12);
    set_up_secondary(&one, &second);
    assert!(ping(one.namespaces(), [10, 0, 1, 21]));
}

#[test]
fn a_plug_that_fails_leaves_nothing() {
    let mut bench = Bench::new(name("fail"));
    let node = bench.node("one", 0, 11);
    let mut port = bench.port(&node, 0, 0, 12);
    port.eni = "eni-other".to_owned();
    assert!(bench.fabric.plug(&port).is_err(), "eth0 is taken");
    assert!(bench.fabric.port_device("eni-other").is_none());
    port.device = 1;
    bench.fabric.plug(&port).unwrap();
    port.instance = "i-unknown".to_owned();
    port.eni = "eni-third".to_owned();
    assert!(bench.fabric.plug(&port).is_err(), "no such instance");
}

#[test]
fn a_node_looks_like_a_stock_machine() {
    let mut bench = Bench::new(name("stock"));
    let node = bench.node("one", 1, 11);
    let read = |path: &str| fs::read_to_string(node.path(path)).unwrap_or_default();
    assert_eq!(read("/etc/hostname"), "one\n");
    let output = node.command("ip").args(["-4", "route"]).output().unwrap();
    let routes = String::from_utf8(output.stdout).unwrap();
    for route in [
        "default via 10.0.1.1 dev eth0 proto dhcp src 10.0.1.11 metric 512",
        "10.0.0.2 via 10.0.1.1 dev eth0 proto dhcp src 10.0.1.11 metric 512",
        "10.0.1.1 dev eth0 proto dhcp scope link src 10.0.1.11 metric 512",
        "10.0.1.0/24 dev eth0 proto kernel scope link src 10.0.1.11 metric 512",
    ] {
        assert!(routes.contains(route), "{route} not in\n{routes}");
    }
    for (name, value) in [("ip_forward", "1"), ("conf/all/rp_filter", "1"), ("conf/eth0/rp_filter", "1")] {
        let path = format!("/proc/sys/net/ipv4/{name}");
        assert_eq!(node.enter(|| fs::read_to_string(&path)).unwrap().unwrap().trim(), value, "{name}");
    }
    for directory in ["/etc/cni/net.d", "/var/lib/cni", "/var/log/aws-routed-eni", "/run/netns"] {
        assert_eq!(fs::read_dir(node.path(directory)).unwrap().count(), 0, "{directory}");
    }
    let devices: Vec<_> = node
        .enter(|| fs::read_dir("/sys/class/net").unwrap().map(|entry| entry.unwrap().file_name()).collect())
        .unwrap();
    assert_eq!(devices.len(), 2, "lo and eth0: {devices:?}");
}

#[test]
fn what_a_node_writes_is_its_own_and_gone_with_it() {
    let mut bench = Bench::new(name("private"));
    let (one, two) = (bench.node("one", 0, 11), bench.node("two", 0, 12));
    let files = ["/etc/cni/net.d/10-x.conflist", "/var/run/x", "/opt/cni/bin/x", "/var/log/x", "/var/lib/x"];
    for file in files {
        fs::write(one.path(file), "one").unwrap();
        assert!(!two.path(file).exists() && !std::path::Path::new(file).exists(), "{file}");
    }
    let pod = one.add_netns("p").unwrap();
    assert!(one.add_netns("p").is_err(), "taken");
    assert!(one.add_netns("../p").is_err(), "not a name");
    assert!(pod.command("true").unwrap().status().unwrap().success());
    assert!(two.netns("p").namespaces().is_err(), "another node's");
    one.del_netns("p").unwrap();
    assert!(one.del_netns("p").is_err(), "gone");
}

#[test]
fn everything_ends_with_its_owner_and_handles_only_fail() {
    let mut bench = Bench::new(name("end"));
    let node = bench.node("one", 0, 11);
    let pod = node.add_netns("p").unwrap();
    let mut daemon = pod.command("sleep").unwrap().arg("1000").spawn().unwrap();
    let fabric = bench.fabric.clone();
    assert!(ping(node.namespaces(), [10, 0, 0, 1]));
    let inodes =
        [node.namespaces(), fabric.namespaces(), bench.internet.namespaces(), &pod.namespaces().unwrap()]
            .map(|namespaces| namespaces.network_inode().unwrap());
    // Held open, so that no other test's namespace gets one of these numbers before the last look.
    let held = namespaces_held(&inodes);
    assert_eq!(held.len(), inodes.len());
    assert_eq!(ns::keepers().unwrap().iter().filter(|keeper| keeper.lab == name("end")).count(), 3);
    node.power_off();
    assert!(!daemon.wait().unwrap().success(), "killed with its node");
    drop(bench);
    assert!(ns::keepers().unwrap().iter().all(|keeper| keeper.lab != name("end")));
    assert!(node.enter(|| ()).is_err() && pod.namespaces().is_err() && fabric.drops().is_err());
    assert!(node.command("true").spawn().is_err());
    let left = inodes.iter().filter(|inode| occupied(**inode)).count();
    assert_eq!(left, 0, "processes are left in its namespaces");
    drop(held);
}

/// Handles on these network namespaces, by a process in each.
fn namespaces_held(inodes: &[u64]) -> Vec<fs::File> {
    use std::os::unix::fs::MetadataExt as _;
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let open = processes.filter_map(|process| fs::File::open(process.path().join("ns/net")).ok());
    let mut held: Vec<(u64, fs::File)> =
        open.filter_map(|file| Some((file.metadata().ok()?.ino(), file))).collect();
    held.retain(|(inode, _)| inodes.contains(inode));
    held.sort_by_key(|(inode, _)| *inode);
    held.dedup_by_key(|(inode, _)| *inode);
    held.into_iter().map(|(_, file)| file).collect()
}

/// Whether a process is in this network namespace.
fn occupied(inode: u64) -> bool {
    let name = format!("net:[{inode}]");
    let links = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path().join("ns/net")).ok());
    links.into_iter().any(|link| link.to_string_lossy() == name)
}
