//! Opens the node for pods: the plugins that runtimes execute, then the conflist that tells runtimes of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use podwire_config::Settings;
use tokio::sync::oneshot;

use crate::install;

/// Pause before the node is opened again. *Source*: our choice; nobody is served before that.
const OPEN_AGAIN: Duration = Duration::from_secs(5);

/// Opens the node once the pool has something to give. What fails is told and tried again: until then the node takes no pods.
pub(crate) async fn when_ready(ready: oneshot::Receiver<()>, settings: Settings) {
    if ready.await.is_err() {
        return;
    }
    tracing::info!("start-up: the first address is usable");
    let mut told = String::new();
    let settings = Arc::new(settings);
    loop {
        // On a thread of its own: it writes to the host's disk and waits for it, and pods must not.
        let settings = Arc::clone(&settings);
        let opened = tokio::task::spawn_blocking(move || open_the_node(&settings)).await;
        let Err(error) = opened.map_err(anyhow::Error::new).flatten() else { return };
        let error = format!("{error:#}");
        if error != told {
            tracing::error!(
                error,
                "the conflist cannot be installed; the node takes no pods; it is tried again"
            );
        }
        told = error;
        tokio::time::sleep(OPEN_AGAIN).await;
    }
}

fn open_the_node(settings: &Settings) -> anyhow::Result<()> {
    own_plugin(settings)()?;
    let (conf_dir, bin_dir) = (&settings.paths.cni_conf_dir, &settings.paths.cni_bin_dir);
    let brought = own_directory().map_or(Ok(()), |beside| install::install_missing(&beside, bin_dir));
    let plugin = install::PluginSettings {
        veth_prefix: settings.network.veth_prefix.clone(),
        mtu: settings.network.pod_mtu,
        log_file: settings.observe.plugin_log.to_text(),
        log_level: settings.observe.plugin_log_level.as_str().to_owned(),
        deadlines: settings.deadlines,
    };
    match (install::write_conflist(conf_dir, bin_dir, &plugin), brought) {
        (Ok(_), Ok(())) => Ok(()),
        (Ok(_), Err(error)) => {
            tracing::warn!(
                error = format!("{error:#}"),
                "not all plugins that the image brings are on the node"
            );
            Ok(())
        }
        (Err(_), Err(error)) | (Err(error), Ok(())) => Err(error),
    }
}

/// Puts the plugin that lies beside this program into the runtime's directory.
pub(crate) fn own_plugin(settings: &Settings) -> impl Fn() -> anyhow::Result<()> {
    let into = settings.paths.cni_bin_dir.clone();
    move || own_directory().map_or(Ok(()), |beside| install::install_plugin(&beside, &into))
}

fn own_directory() -> Option<PathBuf> {
    std::fs::read_link("/proc/self/exe").ok()?.parent().map(Path::to_path_buf)
}
