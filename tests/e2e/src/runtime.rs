//! A container runtime reduced to what CNI sees of it: reads the conflist, executes the plugin with CNI's environment and
//! standard input, keeps the result for DEL and CHECK.

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;
use vpcsim::node::Node;

use crate::daemon::CONFLIST;

/// One execution of the plugin.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// From start to exit.
    pub took: Duration,
}

/// What a runtime says about one attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Container id.
    pub container_id: String,
    /// Network namespace path in the node; empty: none.
    pub netns: String,
    /// Interface name.
    pub ifname: String,
    /// Kubernetes namespace and name of the pod.
    pub pod: (String, String),
}

/// The plugin's configuration as libcni makes it from the node's conflist: name, version and a result added.
///
/// # Errors
/// There is no conflist, or it has no plugin.
pub fn netconf(node: &Node, version: &str, prev_result: Option<&Value>) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(node.path(CONFLIST)).context("the node has no conflist")?;
    let list: Value = serde_json::from_str(&text).context("the conflist is not JSON")?;
    let mut conf = list["plugins"][0].clone();
    let fields = conf.as_object_mut().context("the conflist has no plugin")?;
    fields.insert("name".into(), list["name"].clone());
    fields.insert("cniVersion".into(), version.into());
    if let Some(result) = prev_result {
        fields.insert("prevResult".into(), result.clone());
    }
    Ok(conf)
}

/// Executes the node's plugin.
///
/// # Errors
/// It cannot be executed.
pub fn execute(node: &Node, verb: &str, attachment: &Attachment, conf: &Value) -> anyhow::Result<Ran> {
    let (namespace, name) = &attachment.pod;
    let args = format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_INFRA_CONTAINER_ID={}",
        attachment.container_id
    );
    let env = [
        ("CNI_COMMAND", verb),
        ("CNI_CONTAINERID", &attachment.container_id),
        ("CNI_NETNS", &attachment.netns),
        ("CNI_IFNAME", &attachment.ifname),
        ("CNI_ARGS", &args),
        ("CNI_PATH", "/opt/cni/bin"),
    ];
    execute_raw(node, Path::new("/opt/cni/bin/aws-cni"), &env, conf.to_string().as_bytes())
}

/// Executes a program in the node with exactly this environment and standard input.
///
/// # Errors
/// It cannot be executed.
pub fn execute_raw(node: &Node, program: &Path, env: &[(&str, &str)], stdin: &[u8]) -> anyhow::Result<Ran> {
    let mut command = node.command(program);
    command.env_clear().envs(env.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let began = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot execute {}", program.display()))?;
    let mut pipe = child.stdin.take().context("the plugin has no standard input")?;
    match pipe.write_all(stdin) {
        Ok(()) => {}
        // A plugin that refuses before it reads closes the pipe; that is its right.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        Err(error) => return Err(error).context("cannot write the plugin's configuration"),
    }
    drop(pipe);
    let Output { status, stdout, stderr } = child.wait_with_output()?;
    let took = began.elapsed();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Ran { code: status.code(), stdout: text(stdout), stderr: text(stderr), took })
}

impl Ran {
    /// The result of a successful execution.
    ///
    /// # Errors
    /// It failed; the text is the plugin's.
    pub fn result(&self) -> anyhow::Result<Value> {
        if self.code != Some(0) {
            bail!("the plugin ended with {:?}: {}{}", self.code, self.stdout, self.stderr);
        }
        if self.stdout.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("the plugin printed no JSON: {:?}", self.stdout))
    }

    /// CNI's error code of a failed execution.
    ///
    /// # Errors
    /// It succeeded, or printed no error object.
    pub fn error_code(&self) -> anyhow::Result<i64> {
        if self.code == Some(0) {
            bail!("the plugin succeeded: {}", self.stdout);
        }
        let error: Value = serde_json::from_str(&self.stdout)
            .with_context(|| format!("no error object: {:?} {:?}", self.stdout, self.stderr))?;
        error["code"].as_i64().with_context(|| format!("no code in {error}"))
    }
}
