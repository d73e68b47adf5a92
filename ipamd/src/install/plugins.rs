//! The plugins of others that our conflist's chain needs. Nothing is executed: what a plugin is, its file says.

use std::path::Path;

/// The plugin behind ours in the chain. *Source*: incumbent-behaviour §1.4.
pub(super) const PORTMAP: &str = "portmap";

/// What stands on a line of a program before the version of the CNI library it was made with. *Source*: Go's runtime/debug,
/// BuildInfo: a program lists its modules in its file, as `go version -m` prints them, also when it is stripped.
const MADE_WITH: &[u8] = b"dep\tgithub.com/containernetworking/cni\tv";
/// First version of that library that knows CNI 1.1.0. *Source*: the core plugins 1.4.1, 1.5.1 (library 1.1.2: CNI 1.0.0),
/// 1.6.2 (1.2.3: CNI 1.1.0) and 1.9.1, asked for their VERSION.
const KNOWS_1_1: (u32, u32) = (1, 2);

/// Whether the node's portmap speaks CNI 1.1.0: the core plugins speak whatever their library knows. Not known counts as no
/// (Debian's packages are built without a list of modules): one plugin too old fails every ADD and DEL of the chain.
pub(super) fn portmap_speaks_1_1(bin_dir: &Path) -> bool {
    std::fs::read(bin_dir.join(PORTMAP)).is_ok_and(|program| speaks_1_1(&program))
}

fn speaks_1_1(program: &[u8]) -> bool {
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
            assert_eq!(speaks_1_1(&made_with(version)), speaks, "{version}");
        }
        assert!(!speaks_1_1(b"a program that does not say: 0.4.01.0.01.1.0"));
        assert!(!speaks_1_1(b""));
    }
}
