//! Where the built programs are.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The directory with `ipamd` and `aws-cni` side by side, as in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries(PathBuf);

impl Binaries {
    /// Finds them: `PODWIRE_BIN_DIR`, or `podwire/` in the workspace's target directory, where `scripts/build` puts them.
    ///
    /// # Errors
    /// One is missing.
    pub fn find() -> anyhow::Result<Self> {
        let dir = match std::env::var_os("PODWIRE_BIN_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => target_dir()?.join("podwire"),
        };
        for name in ["ipamd", "aws-cni"] {
            if !dir.join(name).is_file() {
                bail!("{} is missing; run scripts/build first", dir.join(name).display());
            }
        }
        Ok(Self(dir))
    }

    /// `ipamd`.
    #[must_use]
    pub fn ipamd(&self) -> PathBuf {
        self.0.join("ipamd")
    }

    /// `podwire`, the operator's command.
    #[must_use]
    pub fn podwire(&self) -> PathBuf {
        self.0.join("podwire")
    }

    /// `aws-cni`, static.
    #[must_use]
    pub fn plugin(&self) -> PathBuf {
        self.0.join("aws-cni")
    }
}

/// The target directory this program was built into.
fn target_dir() -> anyhow::Result<PathBuf> {
    if let Some(dir) = std::env::var_os("CARGO_TARGET_DIR") {
        return Ok(PathBuf::from(dir));
    }
    let workspace =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("the workspace has moved")?;
    Ok(workspace.join("target"))
}
