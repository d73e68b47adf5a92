//! The plugins of others that our conflist's chain and the runtimes need. Nothing is executed: what a plugin is, its file
//! says.

use std::path::Path;

use anyhow::Context;

use super::{PLUGIN, replace};

/// Where the image has them, beside the daemon.
const DIRECTORY: &str = "plugins";

/// The plugin behind ours in the chain. *Source*: incumbent-behaviour §1.4.
pub(super) const PORTMAP: &str = "portmap";

/// What stands on a line of a program before the version of the CNI library it was made with. *Source*: Go's runtime/debug,
/// BuildInfo: a program lists its modules in its file, as `go version -m` prints them, also when it is stripped.
const MADE_WITH: &[u8] = b"dep\tgithub.com/containernetworking/cni\tv";
/// First version of that library that knows CNI 1.1.0. *Source*: the core plugins 1.4.1, 1.5.1 (library 1.1.2: CNI 1.0.0),
/// 1.6.2 (1.2.3: CNI 1.1.0) and 1.9.1, asked for their VERSION.
const KNOWS_1_1: (u32, u32) = (1, 2);

/// Copies the plugins that lie beside the daemon to where a file of that name is missing. One that is there stays, whatever it
/// is: whoever put it there keeps it up to date, and the node's pods were made with it.
///
/// # Errors
/// The directory cannot be written.
pub fn install_missing(beside: &Path, bin_dir: &Path) -> anyhow::Result<()> {
    let directory = beside.join(DIRECTORY);
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot list {}", directory.display())),
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", directory.display()))?;
        let target = bin_dir.join(entry.file_name());
        // What a broken link stands for is not ours to say either.
        if target.symlink_metadata().is_ok() || !entry.path().is_file() {
            continue;
        }
        let program =
            std::fs::read(entry.path()).with_context(|| format!("cannot read {}", entry.path().display()))?;
        std::fs::create_dir_all(bin_dir).with_context(|| format!("cannot make {}", bin_dir.display()))?;
        replace(&target, &program, 0o755)?;
        tracing::info!(path = %target.display(), "plugin installed where there was none");
    }
    Ok(())
}

/// Looks for what our chain makes runtimes execute. *Why before there is a conflist*: with one the node counts as ready, and each
/// pod fails at the first plugin that is not there. Plugins that others chained are not waited for: runtimes may have them
/// elsewhere.
///
/// # Errors
/// A plugin is missing.
pub(super) fn find_chain(bin_dir: &Path) -> anyhow::Result<()> {
    // Where the runtime is, a link may lead to what is not mounted here.
    let is_there = |name: &&str| {
        bin_dir.join(name).symlink_metadata().is_ok_and(|file| file.is_file() || file.is_symlink())
    };
    let missing: Vec<&str> = [PLUGIN, PORTMAP].into_iter().filter(|name| !is_there(name)).collect();
    anyhow::ensure!(
        missing.is_empty(),
        "no {} in {}: every pod would fail; put it there (podwire's image brings portmap, as do the CNI plugins 1.6 or newer)",
        missing.join(" and no "),
        bin_dir.display()
    );
    Ok(())
}

/// Whether a plugin speaks CNI 1.1.0: what is made with the CNI library speaks whatever that knows. Not known counts as no
/// (Debian's packages are built without a list of modules): one plugin too old fails every ADD and DEL of the chain.
pub(super) fn speaks_1_1(bin_dir: &Path, kind: &str) -> bool {
    std::fs::read(bin_dir.join(kind)).is_ok_and(|program| knows_1_1(&program))
}

fn knows_1_1(program: &[u8]) -> bool {
    let mut lines = program.split(|byte| *byte == b'\n');
    let Some(version) = lines.find_map(|line| line.strip_prefix(MADE_WITH)) else { return false };
    let mut numbers = version.split(|byte| !byte.is_ascii_digit()).map(|digits| {
        std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u32>().ok()).unwrap_or_default()
    });
    (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default()) >= KNOWS_1_1
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn plugins_are_installed_only_where_none_is() {
        let (from, to) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
        install_missing(from.path(), to.path()).expect("nothing lies beside the daemon");
        std::fs::create_dir(from.path().join(DIRECTORY)).expect("made");
        let bin = to.path().join("cni/bin");
        std::fs::create_dir_all(&bin).expect("made");
        std::fs::write(bin.join("loopback"), "the node's own").expect("written");
        std::os::unix::fs::symlink("/nowhere", bin.join("tuning")).expect("linked");
        for name in [PORTMAP, "loopback", "tuning"] {
            std::fs::write(from.path().join(DIRECTORY).join(name), "the image's").expect("written");
        }
        assert!(
            find_chain(&bin)
                .is_err_and(|error| error.to_string().starts_with("no aws-cni and no portmap in "))
        );
        for _ in 0..2 {
            install_missing(from.path(), &bin).expect("installed");
        }
        let text = |name: &str| std::fs::read_to_string(bin.join(name)).expect("read");
        assert_eq!((text(PORTMAP).as_str(), text("loopback").as_str()), ("the image's", "the node's own"));
        assert_eq!(bin.join(PORTMAP).metadata().expect("stat").permissions().mode() & 0o777, 0o755);
        assert_eq!(std::fs::read_link(bin.join("tuning")).expect("a link"), Path::new("/nowhere"));
        std::fs::write(bin.join(PLUGIN), "ours").expect("written");
        find_chain(&bin).expect("all there");
        std::fs::remove_file(bin.join(PORTMAP)).expect("removed");
        std::os::unix::fs::symlink("/nowhere/portmap", bin.join(PORTMAP)).expect("linked");
        find_chain(&bin).expect("a link leads somewhere on the host");
    }

    #[test]
    fn version_of_the_cni_library_is_read_from_a_program() {
        let made_with = |version: &str| {
            let modules = format!(
                "\tdep\tgithub.com/coreos/go-iptables\tv1.8.0\th1:x=\ndep\tgithub.com/containernetworking/cni\t{version}"
            );
            [b"\x7fELF\0\xff".as_slice(), modules.as_bytes(), b"\0\xfe1.1.0"].concat()
        };
        for (version, speaks) in [
            ("v1.1.2\th1:x=\n", false),
            ("v0.8.1\n", false),
            ("v1.2.0-rc1\th1:x=\n", true),
            ("v1.3.0\n", true),
            ("v1.10.0", true),
            ("v2.0.0", true),
            ("v", false),
            ("(devel)", false),
        ] {
            assert_eq!(knows_1_1(&made_with(version)), speaks, "{version}");
        }
        assert!(!knows_1_1(b"a program that does not say: 0.4.01.0.01.1.0"));
        assert!(!knows_1_1(b""));
    }
}
