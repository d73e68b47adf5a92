//! A node's own directories over the machine's: what a program writes there is the node's, and gone with it.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use rustix::fs::CWD;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, mount, mount_bind, move_mount, open_tree};

use crate::ns::LABEL;

/// Directories under which a node writes: an overlay each, the machine's content below, a tmpfs above.
const PRIVATE: [&str; 4] = ["/etc", "/opt", "/var/lib", "/var/log"];

/// What a node of Kubernetes has, empty at birth whatever the machine has there.
const EMPTY: [&str; 4] = ["/etc/cni/net.d", "/var/lib/cni", "/var/log/aws-routed-eni", "/var/log/pods"];

/// What a node has, with the machine's content (its CNI plugins, should it have some).
const PRESENT: [&str; 3] = ["/opt/cni/bin", "/run/netns", "/run/lock"];

/// Furnishes the calling thread's fresh mount namespace.
pub(super) fn furnish(label: &str, hostname: &str) -> anyhow::Result<()> {
    tmpfs("/run")?;
    for directory in PRIVATE.into_iter().filter(|directory| Path::new(directory).is_dir()) {
        overlay(directory)?;
    }
    // A second one hides the first, which holds the overlays' upper layers.
    tmpfs("/run")?;
    fs::write(LABEL, format!("{label}\n")).with_context(|| format!("cannot write {LABEL}"))?;
    if fs::canonicalize("/var/run").is_ok_and(|real| real != Path::new("/run")) {
        mount_bind("/run", "/var/run").context("cannot make /var/run the node's own")?;
    }
    for directory in EMPTY {
        if Path::new(directory).exists() {
            fs::remove_dir_all(directory).with_context(|| format!("cannot empty {directory}"))?;
        }
        fs::create_dir_all(directory).with_context(|| format!("cannot make {directory}"))?;
    }
    for directory in PRESENT {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {directory}"))?;
    }
    fs::write("/etc/hostname", format!("{hostname}\n")).context("cannot write /etc/hostname")?;
    fresh_sys()
}

fn tmpfs(target: &str) -> anyhow::Result<()> {
    mount("tmpfs", target, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=755"))
        .with_context(|| format!("cannot mount a tmpfs on {target}"))
}

fn overlay(directory: &str) -> anyhow::Result<()> {
    let layer = directory.replace('/', "-");
    let (upper, work) = (format!("/run/upper{layer}"), format!("/run/work{layer}"));
    fs::create_dir(&upper)?;
    fs::create_dir(&work)?;
    let options = format!("lowerdir={directory},upperdir={upper},workdir={work}");
    let options = std::ffi::CString::new(options)?;
    mount("overlay", directory, "overlay", MountFlags::empty(), Some(options.as_c_str()))
        .with_context(|| format!("cannot lay an overlay over {directory}; the kernel needs overlayfs"))
}

/// `/sys/class/net` shows the network namespace in which sysfs was mounted; the control groups stay the machine's.
pub(crate) fn fresh_sys() -> anyhow::Result<()> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let control_groups = open_tree(CWD, "/sys/fs/cgroup", flags);
    mount("sysfs", "/sys", "sysfs", MountFlags::empty(), None).context("cannot mount sysfs on /sys")?;
    if let Ok(control_groups) = control_groups {
        let from_descriptor = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&control_groups, "", CWD, "/sys/fs/cgroup", from_descriptor)
            .context("cannot bring the control groups along")?;
    }
    Ok(())
}
