//! A node's own directories over the machine's: what a program writes there is the node's, and gone with it.

use std::fs;
use std::os::fd::OwnedFd;
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

/// Where a node's disk, that is the upper layers, stays within reach, so that a reboot can keep it.
const DISK: &str = "/run/.vpcsim-disk";

/// Furnishes the calling thread's fresh mount namespace. `disk` is what [`disk`] gave before a reboot.
pub(super) fn furnish(label: &str, hostname: &str, disk: Option<OwnedFd>) -> anyhow::Result<()> {
    let is_new = disk.is_none();
    match disk {
        None => tmpfs("/run")?,
        Some(disk) => attach(&disk, "/run")?,
    }
    for directory in PRIVATE.into_iter().filter(|directory| Path::new(directory).is_dir()) {
        overlay(directory)?;
    }
    // The run directory proper hides the disk, which then moves into it.
    let disk = clone("/run", OpenTreeFlags::empty()).context("cannot keep hold of the disk")?;
    tmpfs("/run")?;
    for directory in [DISK].iter().chain(&PRESENT) {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {directory}"))?;
    }
    attach(&disk, DISK)?;
    fs::write(LABEL, format!("{label}\n")).with_context(|| format!("cannot write {LABEL}"))?;
    if fs::canonicalize("/var/run").is_ok_and(|real| real != Path::new("/run")) {
        mount_bind("/run", "/var/run").context("cannot make /var/run the node's own")?;
    }
    if is_new {
        first_boot(hostname)?;
    }
    fresh_boot_id()?;
    fresh_sys()
}

fn first_boot(hostname: &str) -> anyhow::Result<()> {
    for directory in EMPTY {
        if Path::new(directory).exists() {
            fs::remove_dir_all(directory).with_context(|| format!("cannot empty {directory}"))?;
        }
        fs::create_dir_all(directory).with_context(|| format!("cannot make {directory}"))?;
    }
    fs::write("/etc/hostname", format!("{hostname}\n")).context("cannot write /etc/hostname")?;
    fs::write("/etc/machine-id", uuid()?.replace('-', "")).context("cannot write /etc/machine-id")
}

/// A boot of its own: the kernel's id is that of the machine.
fn fresh_boot_id() -> anyhow::Result<()> {
    let file = format!("{DISK}/boot_id");
    fs::write(&file, uuid()?).with_context(|| format!("cannot write {file}"))?;
    mount_bind(&file, BOOT_ID).with_context(|| format!("cannot give the node its own {BOOT_ID}"))
}

/// Source: proc_sys_kernel(5), `random/boot_id`.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A new one, with a line feed, from the kernel. Source: random(4).
fn uuid() -> anyhow::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/uuid").context("cannot read /proc/sys/kernel/random/uuid")
}

/// The disk of the node in whose mount namespace the calling thread stands, free of that namespace's fate.
pub(super) fn disk() -> anyhow::Result<OwnedFd> {
    clone(DISK, OpenTreeFlags::empty()).context("cannot keep hold of the disk")
}

fn clone(path: &str, more: OpenTreeFlags) -> rustix::io::Result<OwnedFd> {
    open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | more)
}

fn attach(tree: &OwnedFd, target: &str) -> anyhow::Result<()> {
    let from_descriptor = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(tree, "", CWD, target, from_descriptor).with_context(|| format!("cannot mount on {target}"))
}

fn tmpfs(target: &str) -> anyhow::Result<()> {
    mount("tmpfs", target, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=755"))
        .with_context(|| format!("cannot mount a tmpfs on {target}"))
}

fn overlay(directory: &str) -> anyhow::Result<()> {
    let layer = directory.replace('/', "-");
    let (upper, work) = (format!("/run/upper{layer}"), format!("/run/work{layer}"));
    for layer in [&upper, &work] {
        fs::create_dir_all(layer).with_context(|| format!("cannot make {layer}"))?;
    }
    let options = format!("lowerdir={directory},upperdir={upper},workdir={work}");
    let options = std::ffi::CString::new(options)?;
    mount("overlay", directory, "overlay", MountFlags::empty(), Some(options.as_c_str()))
        .with_context(|| format!("cannot lay an overlay over {directory}; the kernel needs overlayfs"))
}

/// `/sys/class/net` shows the network namespace in which sysfs was mounted; the control groups stay the machine's.
pub(crate) fn fresh_sys() -> anyhow::Result<()> {
    let control_groups = clone("/sys/fs/cgroup", OpenTreeFlags::AT_RECURSIVE);
    mount("sysfs", "/sys", "sysfs", MountFlags::empty(), None).context("cannot mount sysfs on /sys")?;
    // A machine without them has none to bring along.
    control_groups.map_or(Ok(()), |tree| attach(&tree, "/sys/fs/cgroup"))
}
