//! A container runtime: executes the plugin with CNI variables and stdin, as libcni does, and remembers results.

use crate::stage::{Ns, Stage};
use serde_json::{Value, json};
use std::io::Write as _;
use std::process::{Command, Stdio};

/// How an execution ended.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; `None` after a signal.
    pub exit: Option<i32>,
    /// What was printed on stdout.
    pub stdout: String,
    /// What was printed on stderr.
    pub stderr: String,
}

impl Outcome {
    /// The result of a success.
    ///
    /// # Panics
    /// When it failed, or printed something else.
    #[must_use]
    #[track_caller]
    pub fn result(&self) -> Value {
        assert_eq!(self.exit, Some(0), "{self:?}");
        serde_json::from_str(&self.stdout).expect("JSON")
    }

    /// A success that prints nothing.
    ///
    /// # Panics
    /// When it failed, or printed something.
    #[track_caller]
    pub fn silent(&self) {
        assert_eq!((self.exit, self.stdout.as_str()), (Some(0), ""), "{self:?}");
    }

    /// The error object of a failure; checks its form.
    ///
    /// # Panics
    /// When it succeeded, or printed something else.
    #[must_use]
    #[track_caller]
    pub fn error(&self) -> Value {
        assert!(self.exit.is_some_and(|code| code != 0), "{self:?}");
        let error: Option<Value> = serde_json::from_str(&self.stdout).ok();
        assert!(error.is_some(), "no JSON: {self:?}");
        let error = error.unwrap_or_default();
        assert!(error["cniVersion"].is_string() && error["msg"].is_string(), "{error}");
        error
    }

    /// The error code of a failure.
    ///
    /// # Panics
    /// As [`Self::error`].
    #[must_use]
    #[track_caller]
    pub fn code(&self) -> u64 {
        self.error()["code"].as_u64().expect("a code")
    }
}

/// One container of a pod, or one more interface of it.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// Container id.
    pub id: String,
    /// Pod name in namespace `default`; empty for none.
    pub pod: String,
    /// Interface name.
    pub ifname: String,
    /// Its namespace.
    pub ns: Ns,
}

/// The runtime.
#[derive(Debug)]
pub struct Runtime {
    binary: String,
    /// The configuration of the network, without what a verb adds.
    pub conf: Value,
}

impl Runtime {
    /// A runtime that executes this plugin; `PODWIRE_PLUGIN` names another one, such as the release build.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "a choice of whoever runs the tests")]
    pub fn new(binary: &str) -> Self {
        let binary = std::env::var("PODWIRE_PLUGIN").unwrap_or_else(|_| binary.to_owned());
        let conf = json!({
            "cniVersion": "1.1.0", "name": "aws-cni", "type": "aws-cni",
            "podwireAddTimeoutMs": 5000, "podwireConnectTimeoutMs": 400, "podwireDelTimeoutMs": 2000,
        });
        Self { binary, conf }
    }

    /// Makes a container with its namespace.
    #[must_use]
    pub fn sandbox(&self, stage: &Stage, id: &str, pod: &str) -> Sandbox {
        Sandbox { id: id.into(), pod: pod.into(), ifname: "eth0".into(), ns: stage.netns(id) }
    }

    /// The variables for a container.
    #[must_use]
    pub fn env(&self, verb: &str, sandbox: &Sandbox) -> Vec<(String, String)> {
        let args = if sandbox.pod.is_empty() {
            "IgnoreUnknown=1".to_owned()
        } else {
            let (pod, id) = (&sandbox.pod, &sandbox.id);
            format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod};K8S_POD_INFRA_CONTAINER_ID={id};K8S_POD_UID=u-{id}"
            )
        };
        let pairs = [
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", &sandbox.id),
            ("CNI_NETNS", sandbox.ns.path()),
            ("CNI_IFNAME", &sandbox.ifname),
            ("CNI_ARGS", &args),
            ("CNI_PATH", "/opt/cni/bin"),
        ];
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    /// The configuration with further keys.
    #[must_use]
    pub fn conf_with(&self, key: &str, value: Value) -> Value {
        let mut conf = self.conf.clone();
        conf[key] = value;
        conf
    }

    /// Starts the plugin.
    ///
    /// # Panics
    /// When it cannot be executed.
    #[must_use]
    pub fn spawn(&self, env: &[(String, String)], stdin: &str) -> std::process::Child {
        self.spawn_by(&[], env, stdin)
    }

    /// Starts the plugin by another program, given with its arguments, such as one that watches it.
    ///
    /// # Panics
    /// When it cannot be executed.
    #[must_use]
    pub fn spawn_by(&self, by: &[&str], env: &[(String, String)], stdin: &str) -> std::process::Child {
        let words: Vec<&str> = by.iter().copied().chain([self.binary.as_str()]).collect();
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .env_clear()
            .envs(env.iter().map(|(k, v)| (k, v)))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the plugin starts");
        // A plugin that ends without reading closes the pipe.
        let _ = child.stdin.take().expect("piped").write_all(stdin.as_bytes());
        child
    }

    /// Executes the plugin and waits.
    ///
    /// # Panics
    /// When it cannot be executed.
    #[must_use]
    pub fn execute(&self, env: &[(String, String)], stdin: &str) -> Outcome {
        wait(self.spawn(env, stdin))
    }

    /// ADD.
    #[must_use]
    pub fn add(&self, sandbox: &Sandbox) -> Outcome {
        self.execute(&self.env("ADD", sandbox), &self.conf.to_string())
    }

    /// DEL, without prevResult.
    #[must_use]
    pub fn del(&self, sandbox: &Sandbox) -> Outcome {
        self.execute(&self.env("DEL", sandbox), &self.conf.to_string())
    }

    /// CHECK with the result of ADD.
    #[must_use]
    pub fn check(&self, sandbox: &Sandbox, result: &Value) -> Outcome {
        let conf = self.conf_with("prevResult", result.clone());
        self.execute(&self.env("CHECK", sandbox), &conf.to_string())
    }

    /// A verb that concerns no container, with this configuration.
    #[must_use]
    pub fn general(&self, verb: &str, conf: &Value) -> Outcome {
        let env =
            [("CNI_COMMAND".to_owned(), verb.to_owned()), ("CNI_PATH".to_owned(), "/opt/cni/bin".to_owned())];
        self.execute(&env, &conf.to_string())
    }
}

/// Waits for the plugin's end.
///
/// # Panics
/// When its output cannot be read.
#[must_use]
pub fn wait(child: std::process::Child) -> Outcome {
    let output = child.wait_with_output().expect("output");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Outcome { exit: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}
