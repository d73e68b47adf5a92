//! Pending releases: what DELs left behind while no daemon answered (design §7, "Two words").
//!
//! The plugin writes one JSON file for each into `released/`; here each becomes a release, and the file goes when the
//! release is durable.

use std::path::{Path, PathBuf};
use std::time::Duration;

use podwire_pool::{Answer, Input, SandboxKey, Time};
use podwire_proto::convert::{container_id, ifname};
use serde::Deserialize;

use crate::rpc::server::IpamService;

/// Pause between looks at the directory. *Source*: our choice: a DEL without a daemon is rare and nobody waits for it.
const PAUSE: Duration = Duration::from_secs(5);

/// One file as the plugin writes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct PendingRelease {
    container_id: String,
    ifname: String,
    started_boottime_ms: u64,
}

/// Takes pending releases in until the daemon ends.
pub async fn watch(dir: PathBuf, service: IpamService) {
    loop {
        take_in(&dir, &service).await;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Takes in what is there now.
pub async fn take_in(dir: &Path, service: &IpamService) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        match read(&path) {
            Ok(pending) => release(&path, pending, service).await,
            Err(reason) => set_aside(&path, &reason),
        }
    }
}

fn read(path: &Path) -> Result<(SandboxKey, Time), String> {
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    let pending: PendingRelease = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    let id = container_id(&pending.container_id).map_err(|e| e.to_string())?;
    let name = ifname(&pending.ifname).map_err(|e| e.to_string())?;
    Ok((SandboxKey::new(id, name), Time::from_ms(pending.started_boottime_ms)))
}

async fn release(path: &Path, (sandbox, started): (SandboxKey, Time), service: &IpamService) {
    let key = sandbox.clone();
    match service.ask(|request| Input::Release { request, sandbox, started }).await {
        Ok(Answer::Released(addresses)) => {
            tracing::info!(sandbox = %key.container_id, ifname = %key.ifname, ?addresses, "pending release taken in");
            if let Err(error) = std::fs::remove_file(path) {
                tracing::warn!(path = %path.display(), %error, "a pending release cannot be removed; it is repeated");
            }
        }
        Ok(other) => tracing::warn!(sandbox = %key.container_id, ?other, "a pending release stays pending"),
        Err(_) => tracing::debug!("stopping; pending releases stay for the next start"),
    }
}

/// A file that makes no sense is kept as evidence under another name.
fn set_aside(path: &Path, reason: &str) {
    tracing::error!(path = %path.display(), reason, "a pending release cannot be read; it is set aside as *.unreadable");
    if let Err(error) = std::fs::rename(path, path.with_extension("unreadable")) {
        tracing::error!(path = %path.display(), %error, "it cannot be renamed either");
    }
}
