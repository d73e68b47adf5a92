//! A thread in network and mount namespaces of its own, and further network namespaces beside it.
//!
//! A namespace belongs to a thread, and a child process inherits that of the thread that spawns it. So one test is one
//! thread, and commands in another namespace are spawned from inside it.

use podwire_hostnet::Netns;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use rustix::thread::UnshareFlags;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Where the stage's own namespace is, for commands that name it from another one.
pub const NODE: &str = "/run/netns/node";

/// Runs a test on a stage of its own.
///
/// # Panics
/// When the test does, or the stage cannot be set.
pub fn on_stage(test: impl FnOnce(&Stage) + Send + 'static) {
    let thread = std::thread::Builder::new().name("stage".into()).spawn(move || {
        let stage = Stage::set();
        test(&stage);
    });
    if let Err(panic) = thread.expect("a thread").join() {
        std::panic::resume_unwind(panic);
    }
}

/// The calling thread's own namespaces. Only that thread may use it.
#[derive(Debug)]
pub struct Stage {
    netns: Netns,
}

/// A network namespace with a path, like the ones runtimes make.
#[derive(Debug, Clone)]
pub struct Ns {
    path: PathBuf,
}

impl Stage {
    /// Moves the calling thread into new network and mount namespaces, with an empty /run.
    fn set() -> Self {
        unshare(UnshareFlags::NEWNET | UnshareFlags::NEWNS);
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).expect("private mounts");
        for path in ["/run", "/var/log"] {
            mount("tmpfs", path, "tmpfs", MountFlags::empty(), None).expect("an empty directory");
        }
        fs::create_dir_all("/run/netns").expect("a directory");
        fs::write(NODE, "").expect("a mount point");
        mount_bind("/proc/thread-self/ns/net", NODE).expect("a bind mount");
        let stage = Self { netns: Netns::own().expect("own namespace") };
        stage.run("ip link set lo up");
        stage
    }

    /// Makes another namespace, at /run/netns/`name`.
    ///
    /// # Panics
    /// When the kernel refuses.
    #[must_use]
    pub fn netns(&self, name: &str) -> Ns {
        let path = Path::new("/run/netns").join(name);
        fs::write(&path, "").expect("a mount point");
        unshare(UnshareFlags::NEWNET);
        mount_bind("/proc/thread-self/ns/net", &path).expect("a bind mount");
        let lo = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        self.home();
        assert!(lo.is_ok_and(|s| s.success()), "lo up");
        Ns { path }
    }

    fn home(&self) {
        use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
        use std::os::fd::AsFd as _;
        move_into_link_name_space(self.netns.as_fd(), Some(LinkNameSpaceType::Network)).expect("home");
    }

    /// Runs a command in the stage's own namespace; it must succeed. Returns its output.
    ///
    /// # Panics
    /// When the command fails.
    #[track_caller]
    pub fn run(&self, command: &str) -> String {
        succeeded(command, &output(command))
    }

    /// Runs a command and reads its output as JSON.
    ///
    /// # Panics
    /// When the command fails or prints something else.
    #[track_caller]
    pub fn json(&self, command: &str) -> Value {
        parsed(&self.run(command))
    }

    /// Whether a command succeeds.
    #[must_use]
    pub fn succeeds(&self, command: &str) -> bool {
        output(command).status.success()
    }

    /// Waits until a command succeeds.
    ///
    /// # Panics
    /// When it never does.
    #[track_caller]
    pub fn await_true(&self, command: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.succeeds(command) {
            assert!(Instant::now() < deadline, "never true: {command}");
        }
    }
}

impl Ns {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path.to_str().expect("made of text")
    }

    /// Opens it.
    ///
    /// # Panics
    /// When it is gone.
    #[must_use]
    pub fn open(&self) -> Netns {
        Netns::open(self.path()).expect("namespace")
    }

    /// Does something inside.
    ///
    /// # Panics
    /// When it cannot be entered.
    pub fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        self.open().within(work).expect("enter")
    }

    /// Runs a command inside; it must succeed. Returns its output.
    ///
    /// # Panics
    /// When the command fails.
    #[track_caller]
    pub fn run(&self, command: &str) -> String {
        succeeded(command, &self.within(|| output(command)))
    }

    /// Runs a command inside and reads its output as JSON.
    ///
    /// # Panics
    /// When the command fails or prints something else.
    #[track_caller]
    pub fn json(&self, command: &str) -> Value {
        parsed(&self.run(command))
    }

    /// Whether a command succeeds inside.
    #[must_use]
    pub fn succeeds(&self, command: &str) -> bool {
        self.within(|| output(command)).status.success()
    }

    /// Removes it, as a runtime does: nothing holds it any more.
    ///
    /// # Panics
    /// When it is gone already.
    pub fn remove(&self) {
        rustix::mount::unmount(&self.path, rustix::mount::UnmountFlags::DETACH).expect("unmount");
        fs::remove_file(&self.path).expect("remove");
    }
}

#[allow(
    deprecated,
    reason = "the safe form; it is called for namespaces only, which no other thread relies on"
)]
fn unshare(flags: UnshareFlags) {
    rustix::thread::unshare(flags).expect("unshare needs root");
}

fn output(command: &str) -> Output {
    Command::new("sh").args(["-ec", command]).stdin(Stdio::null()).output().expect("sh runs")
}

#[track_caller]
fn succeeded(command: &str, output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[track_caller]
fn parsed(text: &str) -> Value {
    // iproute2 prints nothing where there is nothing.
    if text.trim().is_empty() {
        return Value::Array(Vec::new());
    }
    serde_json::from_str(text).expect("JSON")
}
