//! podman on a simulated node, with the node's conflist as its network.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, ensure};
use vpcsim::node::Node;

use crate::image;

/// Everything of podman's in the node.
const HOME: &str = "/run/podwire-podman";
/// The conflist's network.
const NETWORK: &str = "aws-cni";

/// *Why locks in files*: the other kind lies in the machine's /dev/shm. *Why runc*: Debian's crun refuses machines with both
/// versions of control groups. *Why limits*: podman's own are higher than a root without CAP_SYS_RESOURCE may set.
const CONFIG: &str = r#"[containers]
apparmor_profile = "unconfined"
default_sysctls = []
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
log_driver = "k8s-file"
[network]
network_backend = "cni"
network_config_dir = "/etc/cni/net.d"
cni_plugin_dirs = ["/opt/cni/bin"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
"#;

/// podman, ready to run containers. It has no daemon.
#[derive(Debug, Clone)]
pub struct Podman {
    node: Node,
    cgroup_parent: String,
    image: String,
}

impl Podman {
    /// Sets it up on the node, with the test image loaded. `None`: this podman was built without CNI, and a line says so
    /// that `scripts/test` repeats in its summary.
    ///
    /// # Errors
    /// It is not installed, or refuses the image.
    pub fn set_up(node: &Node, cgroup_parent: &str) -> anyhow::Result<Option<Self>> {
        let home = node.path(HOME);
        std::fs::create_dir_all(&home)?;
        std::fs::write(home.join("containers.conf"), CONFIG)?;
        std::fs::write(home.join("image.tar"), image::archive()?)?;
        let mut podman =
            Self { node: node.clone(), cgroup_parent: cgroup_parent.to_owned(), image: String::new() };
        if podman.lacks_cni() {
            // Past the macros, whose lines the test harness keeps to itself when a test passes.
            writeln!(std::io::stderr(), "left out: tests with podman, which was built without CNI")?;
            return Ok(None);
        }
        podman.image = podman.run(&["pull", "--quiet", &format!("oci-archive:{HOME}/image.tar")])?;
        Ok(Some(podman))
    }

    /// Since version 5 CNI is a choice of whoever builds podman. Every command of one without it ends with this text, as long
    /// as the configuration asks for CNI.
    ///
    /// *Source*: `backendFromType` in `libnetwork/network` of containers/common, as built without the tag `cni`.
    fn lacks_cni(&self) -> bool {
        let refusal = "cni support is not enabled in this build";
        self.run(&["info"]).is_err_and(|error| error.to_string().contains(refusal))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.node.command("podman");
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", HOME)
            .env("CONTAINERS_CONF", format!("{HOME}/containers.conf"))
            .args(["--root", &format!("{HOME}/root"), "--runroot", &format!("{HOME}/run")])
            .args(["--tmpdir", &format!("{HOME}/tmp"), "--storage-driver", "overlay"])
            .args(words);
        command
    }

    /// Runs podman; returns what it prints, without the line's end.
    ///
    /// # Errors
    /// It fails; the text is its own.
    pub fn run(&self, words: &[&str]) -> anyhow::Result<String> {
        let output = self
            .command(words)
            .output()
            .context("cannot execute podman: install it (need_runtimes in scripts/lib.sh)")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        ensure!(
            output.status.success(),
            "podman {words:?} ended with {}: {} {}",
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        );
        Ok(text(&output.stdout))
    }

    /// Starts a container that sleeps. Returns its id.
    ///
    /// # Errors
    /// podman or the plugin refuses.
    pub fn start(&self, name: &str) -> anyhow::Result<String> {
        self.run(&[
            "run",
            "--detach",
            "--name",
            name,
            "--network",
            NETWORK,
            "--cgroup-parent",
            &self.cgroup_parent,
            &self.image,
        ])
    }

    /// The container's address, as podman tells it.
    ///
    /// # Errors
    /// It tells none.
    pub fn address(&self, name: &str) -> anyhow::Result<Ipv4Addr> {
        let format = format!("{{{{(index .NetworkSettings.Networks \"{NETWORK}\").IPAddress}}}}");
        let told = self.run(&["inspect", "--format", &format, name])?;
        told.parse().with_context(|| format!("podman tells the address {told:?} of {name}"))
    }

    /// Pings from inside the container until one echo is answered, five at most.
    ///
    /// # Errors
    /// None is.
    pub fn ping(&self, name: &str, to: Ipv4Addr) -> anyhow::Result<()> {
        let said = self.run(&["exec", name, "ping", "-c", "5", "-A", "-W", "2", &to.to_string()])?;
        ensure!(said.contains("bytes from"), "{name} got no answer from {to}: {said}");
        Ok(())
    }
}
