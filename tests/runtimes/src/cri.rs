//! What a kubelet does with a container runtime, over the Container Runtime Interface.

use std::future::Future;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use crate::image;

/// The interface's messages and client, generated from `proto/cri.proto`.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    elided_lifetimes_in_paths,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}

use v1::runtime_service_client::RuntimeServiceClient;

/// How long one call may take: a machine that runs thirty of them at once is slow.
const CALL: Duration = Duration::from_secs(90);

/// A kubelet's connection to a runtime. Clones share it; any thread may call.
#[derive(Debug, Clone)]
pub struct Cri {
    runtime: Arc<Runtime>,
    client: RuntimeServiceClient<Channel>,
    cgroup_parent: String,
}

/// A pod to be run.
#[derive(Debug, Clone, Default)]
pub struct PodSpec {
    /// Its name in namespace `default`.
    pub name: String,
    /// Its unique id.
    pub uid: String,
    /// How often its sandbox was made before.
    pub attempt: u32,
    /// Ports of the node that lead to ports of the pod.
    pub host_ports: Vec<(u16, u16)>,
}

impl PodSpec {
    /// A pod of this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), uid: format!("uid-{name}"), ..Self::default() }
    }
}

/// A pod that runs: a sandbox and one container in it.
#[derive(Debug, Clone)]
pub struct RunningPod {
    /// The sandbox, which is CNI's container id.
    pub sandbox: String,
    /// The container.
    pub container: String,
    /// The address that the runtime tells of the sandbox.
    pub address: Ipv4Addr,
}

impl Cri {
    /// Connects to the runtime at a socket.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(socket: PathBuf, cgroup_parent: &str) -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        // The host is what the runtime reads as authority; the connector goes to the socket whatever it says.
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = runtime.block_on(endpoint.connect_with_connector(connector))?;
        let client = RuntimeServiceClient::new(channel);
        Ok(Self { runtime: Arc::new(runtime), client, cgroup_parent: cgroup_parent.to_owned() })
    }

    fn call<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> anyhow::Result<T> {
        let answered = self.runtime.block_on(async { tokio::time::timeout(CALL, call).await });
        let response = answered.with_context(|| format!("{what}: no answer in {} s", CALL.as_secs()))?;
        response.map(Response::into_inner).map_err(|status| anyhow::anyhow!("{what}: {}", status.message()))
    }

    /// Name and version of the runtime.
    ///
    /// # Errors
    /// It does not answer.
    pub fn version(&self) -> anyhow::Result<String> {
        let mut client = self.client.clone();
        let version = self.call("Version", client.version(v1::VersionRequest::default()))?;
        Ok(format!("{} {}", version.runtime_name, version.runtime_version))
    }

    /// Whether the runtime says that there is a network; otherwise why not.
    ///
    /// # Errors
    /// It does not answer, or does not say.
    pub fn network_ready(&self) -> anyhow::Result<Result<(), String>> {
        let mut client = self.client.clone();
        let status = self.call("Status", client.status(v1::StatusRequest::default()))?.status;
        let conditions = status.context("Status is empty")?.conditions;
        let network = conditions.into_iter().find(|c| c.r#type == "NetworkReady");
        let network = network.context("Status has no NetworkReady")?;
        Ok(if network.status { Ok(()) } else { Err(network.message) })
    }

    fn sandbox_config(&self, pod: &PodSpec) -> v1::PodSandboxConfig {
        let ports = pod.host_ports.iter().map(|(host, container)| v1::PortMapping {
            protocol: v1::Protocol::Tcp.into(),
            container_port: i32::from(*container),
            host_port: i32::from(*host),
            host_ip: String::new(),
        });
        v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: pod.name.clone(),
                uid: pod.uid.clone(),
                namespace: "default".into(),
                attempt: pod.attempt,
            }),
            hostname: pod.name.clone(),
            port_mappings: ports.collect(),
            linux: Some(v1::LinuxPodSandboxConfig { cgroup_parent: self.cgroup_parent.clone() }),
        }
    }

    /// Makes the sandbox alone. Returns its id.
    ///
    /// # Errors
    /// The runtime or the plugin refuses.
    pub fn run_sandbox(&self, pod: &PodSpec) -> anyhow::Result<String> {
        let mut client = self.client.clone();
        let request = v1::RunPodSandboxRequest { config: Some(self.sandbox_config(pod)) };
        let what = format!("RunPodSandbox of {}", pod.name);
        Ok(self.call(&what, client.run_pod_sandbox(request))?.pod_sandbox_id)
    }

    /// The address the runtime tells of a sandbox; `None` when it tells none.
    ///
    /// # Errors
    /// There is no such sandbox.
    pub fn address(&self, sandbox: &str) -> anyhow::Result<Option<Ipv4Addr>> {
        let mut client = self.client.clone();
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: sandbox.to_owned() };
        let status = self.call("PodSandboxStatus", client.pod_sandbox_status(request))?.status;
        let ip = status.and_then(|s| s.network).map(|n| n.ip).unwrap_or_default();
        if ip.is_empty() {
            return Ok(None);
        }
        Ok(Some(ip.parse().with_context(|| format!("the runtime tells the address {ip:?}"))?))
    }

    /// Makes the sandbox and starts a container in it that sleeps.
    ///
    /// # Errors
    /// The runtime or the plugin refuses.
    pub fn run(&self, pod: &PodSpec) -> anyhow::Result<RunningPod> {
        let sandbox = self.run_sandbox(pod)?;
        let address = self.address(&sandbox)?.with_context(|| format!("{} has no address", pod.name))?;
        let mut client = self.client.clone();
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox.clone(),
            config: Some(v1::ContainerConfig {
                metadata: Some(v1::ContainerMetadata { name: "main".into(), attempt: pod.attempt }),
                image: Some(v1::ImageSpec { image: image::NAME.into() }),
                command: image::COMMAND.map(str::to_owned).to_vec(),
            }),
            sandbox_config: Some(self.sandbox_config(pod)),
        };
        let container = self.call("CreateContainer", client.create_container(request))?.container_id;
        let request = v1::StartContainerRequest { container_id: container.clone() };
        self.call("StartContainer", client.start_container(request))?;
        Ok(RunningPod { sandbox, container, address })
    }

    /// Runs a command in the pod's container; returns what it prints.
    ///
    /// # Errors
    /// It cannot be run, or fails.
    pub fn exec(&self, pod: &RunningPod, command: &[&str]) -> anyhow::Result<String> {
        let mut client = self.client.clone();
        let request = v1::ExecSyncRequest {
            container_id: pod.container.clone(),
            cmd: command.iter().map(|&word| word.to_owned()).collect(),
            timeout: i64::try_from(CALL.as_secs())?,
        };
        let done = self.call("ExecSync", client.exec_sync(request))?;
        let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        if done.exit_code != 0 {
            bail!("{command:?} in {} ended with {}: {out}{err}", pod.address, done.exit_code);
        }
        Ok(out.into_owned())
    }

    /// Pings from inside the container until one echo is answered, five at most.
    ///
    /// # Errors
    /// None is.
    pub fn ping(&self, from: &RunningPod, to: Ipv4Addr) -> anyhow::Result<()> {
        let said = self.exec(from, &["ping", "-c", "5", "-A", "-W", "2", &to.to_string()])?;
        ensure!(said.contains("bytes from"), "{} got no answer from {to}: {said}", from.address);
        Ok(())
    }

    /// Stops a sandbox with what runs in it: the first of the two DELs.
    ///
    /// # Errors
    /// The runtime or the plugin refuses.
    pub fn stop(&self, sandbox: &str) -> anyhow::Result<()> {
        let mut client = self.client.clone();
        let request = v1::StopPodSandboxRequest { pod_sandbox_id: sandbox.to_owned() };
        self.call("StopPodSandbox", client.stop_pod_sandbox(request)).map(|_| ())
    }

    /// Removes a sandbox with its containers: the second DEL.
    ///
    /// # Errors
    /// The runtime or the plugin refuses.
    pub fn remove(&self, sandbox: &str) -> anyhow::Result<()> {
        let mut client = self.client.clone();
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id: sandbox.to_owned() };
        self.call("RemovePodSandbox", client.remove_pod_sandbox(request)).map(|_| ())
    }

    /// Stops and removes a pod, its container first, as kubelet does.
    ///
    /// # Errors
    /// The runtime or the plugin refuses.
    pub fn end(&self, pod: &RunningPod) -> anyhow::Result<()> {
        let mut client = self.client.clone();
        let request = v1::StopContainerRequest { container_id: pod.container.clone(), timeout: 10 };
        self.call("StopContainer", client.stop_container(request))?;
        self.stop(&pod.sandbox)?;
        let mut client = self.client.clone();
        let request = v1::RemoveContainerRequest { container_id: pod.container.clone() };
        self.call("RemoveContainer", client.remove_container(request))?;
        self.remove(&pod.sandbox)
    }
}
