//! The CNI_* variables.

use super::error::{CniError, ENVIRONMENT};
use podwire_proto::convert;
use std::collections::BTreeMap;

/// Longest value taken for the name of a pod or namespace. *Source*: Kubernetes object names, RFC 1123 subdomain.
const NAME_MAX: usize = 253;

/// The verbs of CNI 1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Make the interface.
    Add,
    /// Take it away.
    Del,
    /// Compare it with what it should be.
    Check,
    /// Forget what the runtime no longer knows.
    Gc,
    /// Say whether an ADD can be served.
    Status,
    /// Say which versions are spoken.
    Version,
}

impl Verb {
    /// The verb's name in CNI_COMMAND.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Add, Self::Del, Self::Check, Self::Gc, Self::Status, Self::Version];
        all.into_iter().find(|v| v.name() == name)
    }

    /// Variables without which the verb cannot be carried out (P-05). CNI_PATH is needed by nobody, since nothing is
    /// delegated.
    fn required(self) -> &'static [&'static str] {
        match self {
            Self::Add | Self::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
            Self::Del => &["CNI_CONTAINERID", "CNI_IFNAME"],
            Self::Gc | Self::Status | Self::Version => &[],
        }
    }
}

/// The variables, from wherever they come.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The CNI variables of this process. Values that are not UTF-8 are read with replacement characters, which every
    /// check below refuses.
    #[must_use]
    #[allow(
        clippy::disallowed_methods,
        reason = "CNI speaks through the environment; it is read here and nowhere else"
    )]
    pub fn of_process() -> Self {
        let text = |s: std::ffi::OsString| s.to_string_lossy().into_owned();
        let vars = std::env::vars_os().map(|(key, value)| (text(key), text(value)));
        Self(vars.filter(|(key, _)| key.starts_with("CNI_")).collect())
    }

    /// An empty variable counts as missing (P-06).
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|v| !v.is_empty())
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
    }
}

/// What is asked of the plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Nothing: a person executed it by hand.
    Introduction,
    /// A verb.
    Verb(Verb, Invocation),
}

/// The parameters of a verb. Those a verb does not need may be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Invocation {
    /// The container.
    pub container_id: String,
    /// Path of its network namespace.
    pub netns: String,
    /// Name of the interface inside.
    pub ifname: String,
    /// The plugin's own namespace is fine as the container's.
    pub netns_override: bool,
    /// The pod, as Kubernetes runtimes tell it.
    pub pod: PodArgs,
}

/// What CNI_ARGS says of the pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodArgs {
    /// K8S_POD_NAMESPACE.
    pub namespace: String,
    /// K8S_POD_NAME.
    pub name: String,
    /// K8S_POD_UID.
    pub uid: String,
}

/// Reads the environment.
///
/// # Errors
/// Code 4, naming every variable that is missing or unusable.
pub fn asked(env: &Environment) -> Result<Asked, CniError> {
    let Some(command) = env.get("CNI_COMMAND") else {
        // By hand there is no CNI variable at all (P-20); a runtime that forgot the verb is told so (P-04).
        return if env.0.is_empty() {
            Ok(Asked::Introduction)
        } else {
            Err(CniError::new(ENVIRONMENT, missing(&["CNI_COMMAND"])))
        };
    };
    let Some(verb) = Verb::from_name(command) else {
        let msg = format!("CNI_COMMAND {:?} is unknown", shortened(command));
        return Err(CniError::new(ENVIRONMENT, msg));
    };
    let absent: Vec<&str> = verb.required().iter().copied().filter(|name| env.get(name).is_none()).collect();
    match (absent.is_empty(), invocation(verb, env)) {
        (true, Ok(invocation)) => Ok(Asked::Verb(verb, invocation)),
        (true, Err(unusable)) => Err(CniError::new(ENVIRONMENT, unusable)),
        (false, Ok(_)) => Err(CniError::new(ENVIRONMENT, missing(&absent))),
        (false, Err(unusable)) => {
            Err(CniError::new(ENVIRONMENT, format!("{}; {unusable}", missing(&absent))))
        }
    }
}

fn missing(names: &[&str]) -> String {
    format!("required environment variables missing: {}", names.join(", "))
}

/// The parameters, those that are missing empty; or what of the rest cannot be used, in words.
fn invocation(verb: Verb, env: &Environment) -> Result<Invocation, String> {
    let mut wrong = Vec::new();
    let mut checked = |name: &str, check: fn(&str) -> Result<&str, convert::WireError>| {
        let value = env.get(name).unwrap_or_default();
        if !value.is_empty()
            && let Err(error) = check(value)
        {
            wrong.push(format!("{name}: {error}"));
        }
        value.to_owned()
    };
    // A verb without a container is sent empty or stale variables by some runtimes: not its business (P-06).
    let about_container = !verb.required().is_empty();
    let (container_id, ifname) = if about_container {
        (checked("CNI_CONTAINERID", convert::container_id), checked("CNI_IFNAME", convert::ifname))
    } else {
        (String::new(), String::new())
    };
    let pod = match pod_args(env.get("CNI_ARGS").unwrap_or_default()) {
        Ok(pod) => pod,
        // DEL does what it can with what is there (D-05); ADD has refused the same arguments.
        Err(_) if verb != Verb::Add => PodArgs::default(),
        Err(reason) => {
            wrong.push(format!("CNI_ARGS: {reason}"));
            PodArgs::default()
        }
    };
    if !wrong.is_empty() {
        return Err(format!("environment variables cannot be used: {}", wrong.join("; ")));
    }
    let netns_override = matches!(env.get("CNI_NETNS_OVERRIDE"), Some("1" | "true" | "TRUE" | "True"));
    let netns = env.get("CNI_NETNS").unwrap_or_default().to_owned();
    Ok(Invocation { container_id, netns, ifname, netns_override, pod })
}

/// `K=V;K=V` (P-16).
fn pod_args(text: &str) -> Result<PodArgs, String> {
    let mut pairs = Vec::new();
    for pair in text.split(';').filter(|p| !p.is_empty()) {
        pairs.push(pair.split_once('=').ok_or_else(|| format!("{:?} is not KEY=VALUE", shortened(pair)))?);
    }
    let ignore =
        pairs.iter().any(|(k, v)| *k == "IgnoreUnknown" && matches!(*v, "1" | "true" | "True" | "TRUE"));
    let mut pod = PodArgs::default();
    for (key, value) in pairs {
        let field = match key {
            "K8S_POD_NAMESPACE" => &mut pod.namespace,
            "K8S_POD_NAME" => &mut pod.name,
            "K8S_POD_UID" => &mut pod.uid,
            "K8S_POD_INFRA_CONTAINER_ID" | "IgnoreUnknown" => continue,
            _ if ignore => continue,
            _ => return Err(format!("key {:?} is unknown and IgnoreUnknown is not set", shortened(key))),
        };
        if !is_name(value) {
            return Err(format!("{key} {:?} is not a name", shortened(value)));
        }
        value.clone_into(field);
    }
    Ok(pod)
}

/// Names as Kubernetes and podman make them. Nothing else reaches a hash, a log or the daemon.
fn is_name(value: &str) -> bool {
    value.len() <= NAME_MAX
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests;
