//! Control groups are the machine's, not a node's: whoever ends a test, they must go.
//!
//! A shell waits for the end of a pipe that only this process holds, as the keepers of the simulated nodes do. However the
//! test ends, SIGKILL included, it then removes the test's groups, as soon as the keepers have ended what runs in them.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};

/// `$1` is the parent group's name. Version 1 has a hierarchy for each controller, version 2 one in all. Ten seconds: the
/// keepers need as long to give up.
const SCRIPT: &str = r#"
trap '' INT TERM HUP QUIT
read -r _
tries=100
while [ $tries -gt 0 ]; do
  left=
  for top in /sys/fs/cgroup/"$1" /sys/fs/cgroup/*/"$1"; do
    [ -d "$top" ] || continue
    find "$top" -depth -type d -exec rmdir {} + 2>/dev/null
    [ -d "$top" ] && left=1
  done
  [ -n "$left" ] || exit 0
  tries=$((tries - 1))
  sleep 0.1
done
"#;

/// A name for the control groups of this process's runtimes, and the promise that they go.
#[derive(Debug)]
pub struct Sweep {
    name: String,
    cord: Option<ChildStdin>,
    child: Child,
}

impl Sweep {
    /// Promises to remove the control group `name` at the root of every hierarchy.
    ///
    /// # Errors
    /// There is no `/bin/sh`.
    pub fn promise(name: &str) -> io::Result<Self> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "podwire-sweep", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C on a terminal goes to the whole foreground group; this has work to do then.
            .process_group(0)
            .spawn()?;
        let cord = child.stdin.take();
        Ok(Self { name: name.to_owned(), cord, child })
    }

    /// The parent group, as runtimes want it: a path from the hierarchy's root.
    #[must_use]
    pub fn parent(&self) -> String {
        format!("/{}", self.name)
    }
}

impl Drop for Sweep {
    fn drop(&mut self) {
        drop(self.cord.take());
        if let Err(error) = self.child.wait() {
            eprintln!("cannot wait for the sweep of {}: {error}", self.name);
        }
    }
}
