//! A process that keeps namespaces alive, and ends everything in them when its owner is gone.
//!
//! The keeper reads from a pipe whose other end only its owner holds (the *cord*). However the owner ends — normally,
//! by a panic, by SIGINT, even by SIGKILL — the kernel closes the pipe, the keeper kills every process in its
//! namespaces and exits; with the last process and descriptor the namespaces vanish. No signal handler is needed.
//!
//! A host with a `/run` of its own writes its label to [`LABEL`] there. Then the network namespaces below its
//! `/run/netns` belong to it as well, and so does what runs in them, whatever its mount namespace: containers. Without
//! that file, `/run/netns` is the machine's own and nobody's business.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{Namespaces, syscalls};

/// `$0` of a keeper: how leftovers of a killed run are told from other processes.
const KEEPER: &str = "vpcsim-keeper";

/// Where a host with a `/run` of its own says which host it is: `<lab>/<host>`.
pub(crate) const LABEL: &str = "/run/.vpcsim";

/// `$1` is the label, `$2` a directory to remove at the end (or empty). Plain POSIX sh, and `test -ef`, which dash and
/// busybox have: it compares device and inode, so no program is executed while killing.
const SCRIPT: &str = r#"
trap '' INT TERM HUP QUIT
read -r _
me=/proc/$$ found=1 rounds=0 own=
[ -r /run/.vpcsim ] && read -r own </run/.vpcsim
inside() {
  [ "$1/ns/mnt" -ef "$me/ns/mnt" ] && return 0
  [ "$1/ns/net" -ef "$me/ns/net" ] && return 0
  [ "$own" = "$label" ] || return 1
  for name in /run/netns/*; do [ "$1/ns/net" -ef "$name" ] && return 0; done
  return 1
}
label=$1
while [ $found = 1 ] && [ $rounds -lt 50 ]; do
  found=0 rounds=$((rounds + 1))
  for p in /proc/[0-9]*; do
    [ "$p" = "$me" ] && continue
    if inside "$p"; then kill -9 "${p#/proc/}" 2>/dev/null && found=1; fi
  done
done
[ -z "$2" ] || rm -rf -- "$2"
"#;

/// How long a keeper may take to end its processes before it is killed itself. Our choice.
const CUT_DEADLINE: Duration = Duration::from_secs(10);

/// Fresh namespaces and the process that holds them. Dropping it ends every process inside.
#[derive(Debug)]
pub struct Keeper {
    child: Child,
    cord: Option<ChildStdin>,
    namespaces: Namespaces,
}

impl Keeper {
    /// Makes new network, mount and UTS namespaces, lets `prepare` furnish them from inside (mounts, sysctls), and
    /// leaves a keeper there. `label` is `<lab>/<host>`. `remove` is a directory that goes when the keeper goes.
    ///
    /// # Errors
    /// Not root, or `prepare` failed.
    pub fn start(
        label: &str,
        remove: Option<&str>,
        prepare: impl FnOnce() -> anyhow::Result<()> + Send,
    ) -> anyhow::Result<Self> {
        thread::scope(|scope| {
            let furnishing = scope.spawn(|| {
                syscalls::unshare_machine().context("cannot make namespaces; run as root")?;
                // Slave, not private: what the machine unmounts is not pinned here; nothing travels back.
                rustix::mount::mount_change(
                    "/",
                    rustix::mount::MountPropagationFlags::DOWNSTREAM
                        | rustix::mount::MountPropagationFlags::REC,
                )
                .context("cannot cut mount propagation")?;
                prepare()?;
                let namespaces = Namespaces::of_this_thread()?;
                let (child, cord) =
                    spawn_keeper(label, remove).context("cannot start the keeper (/bin/sh)")?;
                Ok(Self { child, cord: Some(cord), namespaces })
            });
            furnishing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The namespaces it keeps.
    #[must_use]
    pub fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    /// Lets an older handle, whose keeper has ended, stand for these namespaces.
    pub(crate) fn rename(&mut self, handle: &Namespaces) {
        handle.become_same(&self.namespaces);
        self.namespaces = handle.clone();
    }

    /// The keeper's process id: `/proc/<pid>/root` is the inside as seen from the machine.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn cut(&mut self) -> io::Result<()> {
        drop(self.cord.take());
        self.namespaces.close();
        let deadline = Instant::now() + CUT_DEADLINE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.child.kill()?;
                self.child.wait()?;
                return Ok(());
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Err(error) = self.cut() {
            tracing::warn!(%error, pid = self.pid(), "cannot end a keeper");
        }
    }
}

fn spawn_keeper(label: &str, remove: Option<&str>) -> anyhow::Result<(Child, ChildStdin)> {
    let mut child = Command::new("/bin/sh")
        // By the environment, so that a list of processes shows a short line with the label in it.
        .args(["-c", "eval \"$VPCSIM_KEEPER\"", KEEPER, label, remove.unwrap_or_default()])
        .env("VPCSIM_KEEPER", SCRIPT)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C on a terminal goes to the whole foreground group; the keeper has work to do then.
        .process_group(0)
        .spawn()?;
    let cord = child.stdin.take().context("the keeper has no stdin")?;
    Ok((child, cord))
}

/// A keeper found running on this machine, whoever started it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeeperProcess {
    /// Its process id.
    pub pid: u32,
    /// The lab it belongs to.
    pub lab: String,
    /// The host of that lab: a node's name, `fabric` or `internet`.
    pub host: String,
}

impl KeeperProcess {
    /// Ends every process in the keeper's namespaces, then the keeper: for leftovers whose owner was killed together
    /// with the keeper's chance to act, and for keepers that were stopped.
    ///
    /// # Errors
    /// A process may not be signalled.
    pub fn end(&self) -> io::Result<()> {
        let homes = self.homes();
        for pid in processes()?.into_iter().filter(|pid| *pid != self.pid) {
            kill_if(pid, |pid| {
                ["mnt", "net"].iter().any(|kind| identity(pid, kind).is_some_and(|it| homes.contains(&it)))
            })?;
        }
        kill_if(self.pid, |pid| keeper_at(pid).as_ref() == Some(self))
    }

    /// The same as in the keeper's script.
    fn homes(&self) -> Vec<Identity> {
        let mut homes: Vec<_> = ["mnt", "net"].iter().filter_map(|kind| identity(self.pid, kind)).collect();
        if label_of(self.pid).is_some_and(|label| label == format!("{}/{}", self.lab, self.host)) {
            let pods =
                fs::read_dir(format!("/proc/{}/root/run/netns", self.pid)).into_iter().flatten().flatten();
            homes.extend(pods.filter_map(|pod| fs::metadata(pod.path()).ok()).map(|it| (it.dev(), it.ino())));
        }
        homes
    }
}

/// Device and inode of a namespace.
type Identity = (u64, u64);

fn identity(pid: u32, kind: &str) -> Option<Identity> {
    let metadata = fs::metadata(format!("/proc/{pid}/ns/{kind}")).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// The host that the process is in, if that has a `/run` of its own.
fn label_of(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/root{LABEL}")).ok()?;
    Some(text.trim_end().to_owned())
}

/// Ends processes in nodes of this lab whose keeper is dead already. Answers how many there were.
///
/// # Errors
/// A process may not be signalled.
pub fn end_strays(lab: &str) -> io::Result<usize> {
    let mut ended = 0;
    let is_stray =
        |pid: u32| label_of(pid).is_some_and(|label| label.split_once('/').is_some_and(|(of, _)| of == lab));
    for pid in processes()?.into_iter().filter(|pid| is_stray(*pid)) {
        kill_if(pid, is_stray)?;
        ended += 1;
    }
    Ok(ended)
}

/// Every keeper on this machine.
///
/// # Errors
/// `/proc` cannot be read.
pub fn keepers() -> io::Result<Vec<KeeperProcess>> {
    Ok(processes()?.into_iter().filter_map(keeper_at).collect())
}

fn keeper_at(pid: u32) -> Option<KeeperProcess> {
    let command_line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<_> = command_line.split(|byte| *byte == 0).collect();
    let [_, b"-c", _, name, label, ..] = words.as_slice() else { return None };
    if *name != KEEPER.as_bytes() {
        return None;
    }
    let (lab, host) = std::str::from_utf8(label).ok()?.split_once('/')?;
    Some(KeeperProcess { pid, lab: lab.to_owned(), host: host.to_owned() })
}

fn processes() -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        pids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(pids)
}

/// Kills the process that `is_meant` recognises *after* it was pinned by a descriptor: a number used again meanwhile
/// cannot hit a stranger.
fn kill_if(pid: u32, is_meant: impl Fn(u32) -> bool) -> io::Result<()> {
    let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    let pinned = match pidfd_open(raw, PidfdFlags::empty()) {
        Ok(pinned) => pinned,
        Err(Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if !is_meant(pid) {
        return Ok(());
    }
    match pidfd_send_signal(&pinned, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
