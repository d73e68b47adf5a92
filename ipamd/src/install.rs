//! What the container runtime finds on the host: the conflist, which says "the network is ready", and the plugin binary.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use podwire_config::settings::deadlines::{
    Deadlines, PODWIRE_ADD_DEADLINE_MS, PODWIRE_CONNECT_RETRY_MS, PODWIRE_DEL_DEADLINE_MS,
    PODWIRE_STATUS_GRACE_MS,
};
use serde_json::{Map, Value, json};

mod plugins;

use plugins::PORTMAP;
pub use plugins::install_missing;

/// The conflist's file name; sorts first. *Source*: incumbent-behaviour §0.
pub const CONFLIST: &str = "10-aws.conflist";
/// The plugin's file name and type. *Source*: incumbent-behaviour §0.
pub const PLUGIN: &str = "aws-cni";

/// Versions of CNI that the conflist offers; runtimes with libcni 1.2 or newer call the whole chain with the highest, older
/// ones with `cniVersion`. The last, with GC and STATUS, only where portmap speaks it too. *Source*: CNI 1.1 SPEC, section 1.
const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// What goes into our entry of the conflist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginSettings {
    /// `vethPrefix`.
    pub veth_prefix: String,
    /// `mtu`, a string as in the incumbent's.
    pub mtu: u32,
    /// `pluginLogFile`.
    pub log_file: String,
    /// `pluginLogLevel`.
    pub log_level: String,
    /// `podwireAddTimeoutMs` and its like; those that are not the plugin's default.
    pub deadlines: Deadlines,
}

/// The conflist, with whatever others chained into an earlier one kept in its place. `speaks_1_1`: whether a plugin of this
/// type speaks CNI 1.1.0; ours does.
#[must_use]
pub fn conflist(
    earlier: Option<&str>,
    settings: &PluginSettings,
    speaks_1_1: impl Fn(&str) -> bool,
) -> String {
    let mut ours = json!({
        "name": PLUGIN,
        "type": PLUGIN,
        "vethPrefix": settings.veth_prefix,
        "mtu": settings.mtu.to_string(),
        "podSGEnforcingMode": "strict",
        "pluginLogFile": settings.log_file,
        "pluginLogLevel": settings.log_level,
        "capabilities": {"io.kubernetes.cri.pod-annotations": true},
    });
    for (key, deadline, knob) in [
        ("podwireAddTimeoutMs", settings.deadlines.add, &PODWIRE_ADD_DEADLINE_MS),
        ("podwireDelTimeoutMs", settings.deadlines.del, &PODWIRE_DEL_DEADLINE_MS),
        ("podwireConnectTimeoutMs", settings.deadlines.connect_retry, &PODWIRE_CONNECT_RETRY_MS),
        ("podwireStatusGraceMs", settings.deadlines.status_grace, &PODWIRE_STATUS_GRACE_MS),
    ] {
        let ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        if ms.to_string() != knob.default {
            ours[key] = ms.into();
        }
    }
    let portmap = json!({"type": PORTMAP, "capabilities": {"portMappings": true}, "snat": true});
    let earlier: Map<String, Value> =
        earlier.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let foreign = foreign(&earlier);
    let all_speak = [PORTMAP].into_iter().chain(foreign.iter().filter_map(kind)).all(speaks_1_1);
    let mut list = json!({
        "cniVersion": "1.0.0",
        "cniVersions": VERSIONS,
        "name": PLUGIN,
        "disableCheck": false,
    });
    if !foreign.is_empty() {
        keep_versions(&earlier, &mut list);
    }
    if !all_speak && let Some(offered) = list.get_mut("cniVersions").and_then(Value::as_array_mut) {
        offered.retain(|version| version.as_str() != VERSIONS.last().copied());
    }
    list["plugins"] = [ours, portmap].into_iter().chain(foreign).collect();
    let mut text = serde_json::to_string_pretty(&list).unwrap_or_default();
    text.push('\n');
    text
}

/// Plugins of an earlier conflist that neither we nor the incumbent put there.
fn foreign(earlier: &Map<String, Value>) -> Vec<Value> {
    let known = [PLUGIN, "egress-cni", PORTMAP];
    let plugins = earlier.get("plugins").and_then(Value::as_array).cloned().unwrap_or_default();
    plugins.into_iter().filter(|plugin| kind(plugin).is_some_and(|kind| !known.contains(&kind))).collect()
}

fn kind(plugin: &Value) -> Option<&str> {
    plugin.get("type")?.as_str()
}

/// Plugins of others go on being called as before: what else they speak nobody can say, and one that does not speak the
/// list's highest version fails every ADD and DEL.
fn keep_versions(earlier: &Map<String, Value>, list: &mut Value) {
    let Some(list) = list.as_object_mut().filter(|_| earlier.get("cniVersion").is_some_and(Value::is_string))
    else {
        return;
    };
    for key in ["cniVersion", "cniVersions", "disableCheck"] {
        match earlier.get(key) {
            Some(value) => list.insert(key.to_owned(), value.clone()),
            None => list.remove(key),
        };
    }
}

/// Writes the conflist, atomically, unless it is there already just so; a hidden one comes back first, with what others chained
/// into it.
///
/// # Errors
/// A plugin of our chain is not there to be executed, or the directory cannot be written.
pub fn write_conflist(dir: &Path, bin_dir: &Path, settings: &PluginSettings) -> anyhow::Result<PathBuf> {
    plugins::find_chain(bin_dir)?;
    unhide_conflist(dir)?;
    let path = dir.join(CONFLIST);
    let earlier = std::fs::read_to_string(&path).ok();
    let wanted = conflist(earlier.as_deref(), settings, |kind| plugins::speaks_1_1(bin_dir, kind));
    if earlier.as_deref() != Some(wanted.as_str()) {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        replace(&path, wanted.as_bytes(), 0o644)?;
        tracing::info!(path = %path.display(), "conflist installed: the node takes pods");
    }
    Ok(path)
}

/// Hides a conflist of an earlier boot: until an address is usable, the runtime must not think that there is a network.
/// What others chained into it is kept beside it, for [`write_conflist`].
///
/// # Errors
/// It is there and cannot be removed.
pub fn hide_conflist(dir: &Path) -> anyhow::Result<()> {
    let path = dir.join(CONFLIST);
    let hidden = hidden(dir);
    match std::fs::rename(&path, &hidden) {
        Ok(()) => {
            tracing::info!(path = %path.display(), "conflist of an earlier boot hidden until the first address is usable")
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot hide {}", path.display())),
    }
    Ok(())
}

/// Whether the conflist is there: the runtime takes the node for one that serves.
#[must_use]
pub fn is_open(dir: &Path) -> bool {
    dir.join(CONFLIST).exists()
}

/// Puts a hidden conflist back into its place.
fn unhide_conflist(dir: &Path) -> anyhow::Result<()> {
    let (path, hidden) = (dir.join(CONFLIST), hidden(dir));
    if path.exists() || !hidden.exists() {
        return Ok(());
    }
    std::fs::rename(&hidden, &path).with_context(|| format!("cannot restore {}", path.display()))
}

/// Runtimes read `*.conf`, `*.conflist` and `*.json` only; this name is none of them.
fn hidden(dir: &Path) -> PathBuf {
    dir.join(format!("{CONFLIST}.podwire-not-ready"))
}

/// Installs the plugin binary that lies beside the daemon, unless the same bytes are there.
///
/// # Errors
/// The directory cannot be written.
pub fn install_plugin(beside: &Path, bin_dir: &Path) -> anyhow::Result<()> {
    let source = beside.join(PLUGIN);
    if !source.is_file() {
        tracing::info!(path = %source.display(), "no plugin binary beside ipamd; the one on the host is used");
        return Ok(());
    }
    let target = bin_dir.join(PLUGIN);
    let bytes = std::fs::read(&source).with_context(|| format!("cannot read {}", source.display()))?;
    if std::fs::read(&target).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    std::fs::create_dir_all(bin_dir).with_context(|| format!("cannot make {}", bin_dir.display()))?;
    replace(&target, &bytes, 0o755)
}

/// Temporary file, fsync, rename: a reader sees the old or the new, never half; a running plugin keeps its file. The
/// temporary one has one and the same name each time, so that one left by a daemon that was killed is not there for ever.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let temporary = temporary(path)?;
    let written = || -> std::io::Result<()> {
        remove_left_over(&temporary)?;
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    if let Err(error) = written() {
        // Tidying up after a failure; the failure is what counts.
        std::fs::remove_file(&temporary).ok();
        return Err(error).with_context(|| format!("cannot write {}", path.display()));
    }
    Ok(())
}

/// What lies there while a file is replaced. Runtimes read no configuration and start no plugin of such a name.
pub(crate) fn temporary(path: &Path) -> anyhow::Result<PathBuf> {
    let name = path.file_name().context("a file has a name")?;
    Ok(path.with_file_name(format!(".{}.podwire-new", name.to_string_lossy())))
}

/// Removes what a daemon left that was killed while it wrote.
pub(crate) fn remove_left_over(temporary: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(temporary) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> PluginSettings {
        PluginSettings {
            veth_prefix: "eni".into(),
            mtu: 9001,
            log_file: "/var/log/aws-routed-eni/plugin.log".into(),
            log_level: "DEBUG".into(),
            deadlines: deadlines(&[]),
        }
    }

    fn deadlines(vars: &[(&'static str, &'static str)]) -> Deadlines {
        let source: std::collections::BTreeMap<_, _> = vars.iter().copied().collect();
        podwire_config::Settings::parse(&source).expect("valid").settings.deadlines
    }

    fn list(earlier: Option<&str>, settings: &PluginSettings) -> Value {
        serde_json::from_str(&conflist(earlier, settings, |_| true)).expect("JSON")
    }

    #[test]
    fn deadlines_that_are_set_reach_the_plugin() {
        let ours = list(None, &settings())["plugins"][0].clone();
        assert!(!ours.to_string().contains("podwire"), "defaults are the plugin's own: {ours}");
        let all = [
            ("PODWIRE_ADD_DEADLINE_MS", "30000"),
            ("PODWIRE_DEL_DEADLINE_MS", "5000"),
            ("PODWIRE_CONNECT_RETRY_MS", "20000"),
            ("PODWIRE_STATUS_GRACE_MS", "60000"),
        ];
        let ours =
            list(None, &PluginSettings { deadlines: deadlines(&all), ..settings() })["plugins"][0].clone();
        assert_eq!(ours["podwireAddTimeoutMs"], 30_000);
        assert_eq!(ours["podwireDelTimeoutMs"], 5_000);
        assert_eq!(ours["podwireConnectTimeoutMs"], 20_000);
        assert_eq!(ours["podwireStatusGraceMs"], Value::Null, "the default");
    }

    #[test]
    fn foreign_plugins_survive_and_ours_come_once() {
        let earlier = r#"{"plugins":[{"type":"aws-cni"},{"type":"portmap"},{"type":"linkerd-cni","x":1},{"type":"egress-cni"}]}"#;
        let list = list(Some(earlier), &settings());
        let types: Vec<&str> =
            list["plugins"].as_array().expect("a list").iter().filter_map(|p| p["type"].as_str()).collect();
        assert_eq!(types, ["aws-cni", "portmap", "linkerd-cni"]);
        assert_eq!(list["plugins"][2]["x"], 1);
        assert_eq!(list["cniVersion"], "1.0.0");
        assert_eq!(list["plugins"][0]["mtu"], "9001");
    }

    #[test]
    fn highest_version_is_one_that_the_whole_chain_speaks() {
        let all = json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
        let ours = list(None, &settings());
        assert_eq!((&ours["cniVersion"], &ours["cniVersions"]), (&json!("1.0.0"), &all));
        assert_eq!(ours["disableCheck"], false);
        let old: Value = serde_json::from_str(&conflist(None, &settings(), |_| false)).expect("JSON");
        assert_eq!(old["cniVersions"], json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0"]), "an old portmap");
        let theirs =
            r#"{"cniVersion":"0.4.0","disableCheck":true,"plugins":[{"type":"aws-cni"},{"type":"portmap"}]}"#;
        assert_eq!(list(Some(theirs), &settings()), ours, "the incumbent's own chain is ours");
    }

    /// Somebody chained a plugin into the incumbent's list, or into ours: it is called in the version it was chained under.
    #[test]
    fn plugins_of_others_keep_the_versions_they_were_chained_under() {
        let incumbents =
            r#"{"cniVersion":"0.4.0","disableCheck":true,"plugins":[{"type":"aws-cni"},{"type":"x"}]}"#;
        let kept = list(Some(incumbents), &settings());
        assert_eq!((&kept["cniVersion"], &kept["disableCheck"]), (&json!("0.4.0"), &json!(true)));
        assert_eq!(kept.get("cniVersions"), None);
        let mut into_ours = list(None, &settings());
        into_ours["plugins"].as_array_mut().expect("a list").push(json!({"type": "x"}));
        assert_eq!(list(Some(&into_ours.to_string()), &settings()), into_ours);
        let again: Value =
            serde_json::from_str(&conflist(Some(&into_ours.to_string()), &settings(), |_| false))
                .expect("JSON");
        assert_eq!(
            again["cniVersions"],
            json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0"]),
            "nobody says that x can"
        );
    }

    #[test]
    fn unreadable_earlier_conflist_is_replaced() {
        let list = list(Some("{broken"), &settings());
        assert_eq!(list["plugins"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn conflist_hidden_until_ready_then_back_with_foreign_plugins() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(CONFLIST);
        std::fs::write(&path, r#"{"plugins":[{"type":"aws-cni"},{"type":"istio-cni"}]}"#).expect("write");
        hide_conflist(dir.path()).expect("hide");
        assert!(!path.exists());
        let bin = dir.path().join("bin");
        std::fs::create_dir(&bin).expect("a directory");
        std::fs::write(bin.join(PLUGIN), "a plugin").expect("write");
        let error = write_conflist(dir.path(), &bin, &settings()).expect_err("no portmap");
        assert!(error.to_string().starts_with("no portmap in "), "{error}");
        assert!(!path.exists(), "the node must not look ready");
        std::fs::write(bin.join(PORTMAP), "another").expect("write");
        write_conflist(dir.path(), &bin, &settings()).expect("write");
        assert!(std::fs::read_to_string(&path).expect("read").contains("istio-cni"));
    }

    #[test]
    fn plugin_binary_replaced_atomically_and_executable() {
        let (from, to) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
        std::fs::write(from.path().join(PLUGIN), b"new").expect("write");
        std::fs::write(to.path().join(PLUGIN), b"old").expect("write");
        install_plugin(from.path(), to.path()).expect("install");
        let target = to.path().join(PLUGIN);
        assert_eq!(std::fs::read(&target).expect("read"), b"new");
        assert_eq!(std::fs::metadata(&target).expect("stat").permissions().mode() & 0o777, 0o755);
    }

    /// A daemon was killed while it replaced a file: what it left goes with the next replacement, also where that fails.
    #[test]
    fn left_over_of_a_killed_replacement_does_not_stay() {
        let dir = tempfile::tempdir().expect("dir");
        let names = || {
            let entries = std::fs::read_dir(dir.path()).expect("listed").map(|e| e.expect("an entry"));
            let mut names: Vec<_> = entries.map(|e| e.file_name().into_string().expect("text")).collect();
            names.sort();
            names
        };
        let path = dir.path().join("file");
        for (bytes, mode) in [(b"one".as_slice(), 0o644), (b"two", 0o755)] {
            std::fs::write(temporary(&path).expect("a name"), b"left half-written by a dead daemon")
                .expect("write");
            replace(&path, bytes, mode).expect("replaced");
            assert_eq!(std::fs::read(&path).expect("read"), bytes);
            assert_eq!(std::fs::metadata(&path).expect("stat").permissions().mode() & 0o777, mode);
            assert_eq!(names(), ["file"]);
        }
        let taken = dir.path().join("taken");
        std::fs::create_dir_all(taken.join("inner")).expect("a directory");
        replace(&taken, b"x", 0o644).expect_err("no file takes the place of a directory");
        assert_eq!(names(), ["file", "taken"]);
    }
}
