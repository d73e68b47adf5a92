//! containerd on a simulated node: its own directories in the node's file systems, the node's conflist and plugins.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, bail, ensure};
use podwire_e2e::daemon::wait_for;
use vpcsim::node::Node;

use crate::cri::Cri;
use crate::image;
use crate::stage::PATIENCE;

/// Everything of containerd's in the node; `/run` is a tmpfs there, on which overlayfs can stand.
const HOME: &str = "/run/podwire-containerd";
/// Its name for Kubernetes' things. *Source*: containerd, `docs/namespaces.md`.
const NAMESPACE: &str = "k8s.io";

/// *Why `restrict_oom_score_adj`*: a machine's root without CAP_SYS_RESOURCE may not lower an oom score, and runc fails
/// over it. *Why no AppArmor*: profiles are the machine's, and a node has none to load.
const CONFIG: &str = r#"version = 2
root = "@HOME@/root"
state = "@HOME@/state"
disabled_plugins = [
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.blockfile", "io.containerd.nri.v1.nri",
]
[grpc]
  address = "@HOME@/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "@HOME@/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "@IMAGE@"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
    max_conf_num = 1
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"#;

/// A running containerd. Killed when dropped; what it started ends with the node.
#[derive(Debug)]
pub struct Containerd {
    node: Node,
    child: Child,
    cgroup_parent: String,
    /// A kubelet's connection to it.
    pub cri: Cri,
}

impl Containerd {
    /// Starts it on the node, with the test image imported.
    ///
    /// # Errors
    /// It is not installed, or does not answer.
    pub fn start(node: &Node, cgroup_parent: &str) -> anyhow::Result<Self> {
        let home = node.path(HOME);
        std::fs::create_dir_all(&home)?;
        let config = CONFIG.replace("@HOME@", HOME).replace("@IMAGE@", image::NAME);
        std::fs::write(home.join("config.toml"), config)?;
        std::fs::write(home.join("image.tar"), image::archive()?)?;
        let (child, cri) = launch(node, &home, cgroup_parent)?;
        let containerd = Self { node: node.clone(), child, cgroup_parent: cgroup_parent.to_owned(), cri };
        containerd.import()?;
        Ok(containerd)
    }

    /// Kills it and starts it again, as a crash does: its pods run on.
    ///
    /// # Errors
    /// It does not come back.
    pub fn crash_and_restart(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        (self.child, self.cri) = launch(&self.node, &self.node.path(HOME), &self.cgroup_parent)?;
        Ok(())
    }

    fn import(&self) -> anyhow::Result<()> {
        let socket = format!("{HOME}/containerd.sock");
        let archive = format!("{HOME}/image.tar");
        let output = self
            .node
            .command("ctr")
            .args(["--address", &socket, "--namespace", NAMESPACE, "images", "import", &archive])
            .output()
            .context("cannot execute ctr")?;
        ensure!(
            output.status.success(),
            "cannot import the image: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}

fn launch(node: &Node, home: &Path, cgroup_parent: &str) -> anyhow::Result<(Child, Cri)> {
    let log = File::options().create(true).append(true).open(home.join("log"))?;
    let mut child = node
        .command("containerd")
        .args(["--config", &format!("{HOME}/config.toml")])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot execute containerd: install it (need_runtimes in scripts/lib.sh)")?;
    let socket: PathBuf = home.join("containerd.sock");
    let cri = wait_for(PATIENCE, "containerd to answer", || {
        if let Some(status) = child.try_wait()? {
            bail!("containerd ended with {status}");
        }
        let connected = Cri::connect(socket.clone(), cgroup_parent);
        Ok(connected.ok().filter(|cri| cri.version().is_ok()))
    });
    let cri = cri.with_context(|| tail(&home.join("log")))?;
    Ok((child, cri))
}

/// The newest lines of its log.
fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("containerd {} cannot be killed: {error}", self.child.id());
        }
    }
}
