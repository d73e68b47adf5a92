//! An image made on the spot: the machine's static busybox in one layer, as an OCI image layout in a tar archive. No
//! registry is asked.
//!
//! *Source*: OCI Image Format Specification 1.0, "Image Layout", "Image Manifest", "Image Configuration".

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The name it is known by. The host part keeps runtimes from completing it.
pub const NAME: &str = "docker.io/podwire/busybox:test";
/// What a container of it runs when told nothing else: it sleeps, and ends at once on SIGTERM.
pub const COMMAND: [&str; 3] =
    ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done"];

/// Commands the tests run inside, as links to busybox.
const APPLETS: [&str; 6] = ["sh", "sleep", "ip", "ping", "nc", "httpd"];

/// The archive, with a busybox taken from the machine.
///
/// # Errors
/// There is no busybox, or it is not static.
pub fn archive() -> anyhow::Result<Vec<u8>> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists());
    let busybox =
        busybox.context("there is no busybox: install busybox-static (need_runtimes in scripts/lib.sh)")?;
    let program = std::fs::read(busybox)?;
    ensure!(is_static(&program), "{busybox} is not static: install busybox-static");
    let layer = layer(&program)?;
    let diff = digest(&layer);
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": { "Cmd": COMMAND, "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [diff] },
    })
    .to_string();
    let descriptor = |media: &str, content: &[u8]| {
        let media = format!("application/vnd.oci.image.{media}");
        json!({ "mediaType": media, "digest": digest(content), "size": content.len() })
    };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", config.as_bytes()),
        "layers": [descriptor("layer.v1.tar", &layer)],
    })
    .to_string();
    let mut entry = descriptor("manifest.v1+json", manifest.as_bytes());
    // containerd goes by its own annotation, others by the specification's.
    entry["annotations"] =
        json!({ "io.containerd.image.name": NAME, "org.opencontainers.image.ref.name": "test" });
    let index = json!({ "schemaVersion": 2, "manifests": [entry] });
    layout(&index, &[config.as_bytes(), manifest.as_bytes(), &layer])
}

/// Whether no program header asks for a loader; the image has none. *Source*: elf(5), 64 bits, little endian.
fn is_static(program: &[u8]) -> bool {
    const PT_INTERP: u64 = 3;
    let number = |at: usize, len: usize| -> u64 {
        let bytes = program.get(at..at + len).unwrap_or_default();
        bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    };
    let (start, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    let header = |i| usize::try_from(start + i * size).unwrap_or(usize::MAX - 8);
    program.starts_with(b"\x7fELF") && (0..count).all(|i| number(header(i), 4) != PT_INTERP)
}

/// The root file system.
fn layer(busybox: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for directory in ["bin", "etc", "proc", "sys", "dev", "tmp", "run"] {
        let mut header = header(tar::EntryType::Directory, 0o755, 0);
        tar.append_data(&mut header, format!("{directory}/"), std::io::empty())?;
    }
    let mut file = header(tar::EntryType::Regular, 0o755, busybox.len());
    tar.append_data(&mut file, "bin/busybox", busybox)?;
    for applet in APPLETS {
        let mut link = header(tar::EntryType::Symlink, 0o777, 0);
        tar.append_link(&mut link, format!("bin/{applet}"), "busybox")?;
    }
    Ok(tar.into_inner()?)
}

fn layout(index: &Value, blobs: &[&[u8]]) -> anyhow::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: String, content: &[u8]| {
        let mut header = header(tar::EntryType::Regular, 0o644, content.len());
        tar.append_data(&mut header, path, content)
    };
    add("oci-layout".into(), json!({ "imageLayoutVersion": "1.0.0" }).to_string().as_bytes())?;
    add("index.json".into(), index.to_string().as_bytes())?;
    for blob in blobs {
        add(format!("blobs/{}", digest(blob).replace(':', "/")), blob)?;
    }
    Ok(tar.into_inner()?)
}

fn header(kind: tar::EntryType, mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(u64::try_from(size).unwrap_or(u64::MAX));
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn digest(content: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(content) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// As Go calls it.
fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_holds_a_layout_whose_blobs_match_their_names() {
        let archive = archive().expect("an archive");
        let mut blobs = 0;
        for entry in tar::Archive::new(archive.as_slice()).entries().expect("a tar archive") {
            let mut entry = entry.expect("an entry");
            let path = entry.path().expect("a path").to_string_lossy().into_owned();
            let mut content = Vec::new();
            std::io::copy(&mut entry, &mut content).expect("content");
            if let Some(name) = path.strip_prefix("blobs/sha256/") {
                assert_eq!(digest(&content), format!("sha256:{name}"));
                blobs += 1;
            }
        }
        assert_eq!(blobs, 3);
    }

    #[test]
    fn dynamic_programs_are_told_from_static_ones() {
        let own = std::fs::read("/proc/self/exe").expect("this test");
        assert!(!is_static(&own));
        assert!(!is_static(b"#!/bin/sh"));
    }
}
