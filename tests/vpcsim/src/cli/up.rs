//! `vpcsim up` and `vpcsim api-only`: the servers.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing_subscriber::EnvFilter;
use vpcsim::api;
use vpcsim::cloud::{Cloud, Placement, Timings};
use vpcsim::control::{self, Request, Status};
use vpcsim::lab::{Lab, LabSpec, NodeSpec, directory_of, owner};
use vpcsim::trouble::TroubleSettings;
use vpcsim::wires::NoWires;

use super::print::say;
use super::{Up, ask};

/// How long conversations on the control socket may go on when the lab goes down. Our choice.
const LINGER: Duration = Duration::from_secs(2);

/// How long EC2 takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    /// Attach takes seconds, as in EC2; calls answer at once.
    Usual,
    /// As usual, and calls have EC2's latencies and token buckets.
    Ordinary,
    /// Everything happens at once, addresses are given lowest first.
    Instant,
}

pub(super) fn up(arguments: Up) -> anyhow::Result<()> {
    let spec = spec(&arguments)?;
    if arguments.detach {
        return detach(&spec);
    }
    log_to_stderr();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Before anything is there, so that a signal at any later moment is an orderly end.
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let lab = Arc::new(Lab::start(spec)?);
    let (down, mut downs) = mpsc::unbounded_channel();
    control::serve(Arc::clone(&lab), down)?;
    ask::show(&control::status(&lab)?)?;
    runtime.block_on(async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = downs.recv() => {}
        }
    });
    // Whoever was just answered lets go of the lab in a moment; then dropping it here ends it in order.
    let deadline = Instant::now() + LINGER;
    while Arc::strong_count(&lab) > 1 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
    drop(lab);
    Ok(())
}

fn spec(arguments: &Up) -> anyhow::Result<LabSpec> {
    let mut spec = match &arguments.spec {
        Some(path) => read_spec(path)?,
        None => LabSpec::default(),
    };
    if let Some(name) = &arguments.name {
        spec.name.clone_from(name);
    }
    if let Some(listen) = arguments.listen {
        spec.loopback = listen;
    }
    match arguments.mode {
        Mode::Usual => {}
        Mode::Ordinary => spec.trouble = TroubleSettings::ordinary(),
        Mode::Instant => {
            spec.cloud.timings = Timings::instant();
            spec.cloud.placement = Placement::Lowest;
        }
    }
    for number in 1..=arguments.nodes {
        let node = NodeSpec::new(&format!("node-{number}"));
        spec.nodes
            .push(node.of_type(&arguments.instance_type).with_launch_prefixes(arguments.launch_prefixes));
    }
    Ok(spec)
}

fn read_spec(path: &Path) -> anyhow::Result<LabSpec> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        text
    } else {
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?
    };
    serde_json::from_str(&text).with_context(|| format!("{} is not a lab's spec", path.display()))
}

/// Starts this program again without a terminal and waits until it is up.
fn detach(spec: &LabSpec) -> anyhow::Result<()> {
    if let Some(pid) = owner(&spec.name) {
        bail!("lab {} is up already, owned by process {pid}", spec.name);
    }
    let directory = directory_of(&spec.name);
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let log = directory.join("server.log");
    // Kept open: a server that fails takes its directory along, and what it said would be lost.
    let opened = File::options().read(true).write(true).create(true).truncate(true).open(&log);
    let mut file = opened.with_context(|| format!("cannot write {}", log.display()))?;
    let mut server = Command::new(std::env::current_exe()?)
        .args(["up", "--spec", "-"])
        .stdin(Stdio::piped())
        .stdout(file.try_clone()?)
        .stderr(file.try_clone()?)
        .process_group(0)
        .spawn()
        .context("cannot start the server")?;
    let pipe = server.stdin.take().context("no pipe to the server")?;
    serde_json::to_writer(pipe, spec).context("cannot hand the spec over")?;
    let status = wait_until_up(&spec.name, &mut server);
    if status.is_err() {
        vpcsim::lab::clear(&spec.name)?;
    }
    let said = || {
        let mut text = String::new();
        let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
        read.map_or_else(|error| error.to_string(), |_| text.trim().to_owned())
    };
    ask::show(&status.with_context(said)?)
}

fn wait_until_up(name: &str, server: &mut Child) -> anyhow::Result<Status> {
    loop {
        if let Some(status) = server.try_wait()? {
            bail!("the server ended: {status}");
        }
        if control::socket(name).exists()
            && let Ok(status) = control::ask(name, &Request::Status)
        {
            return Ok(status);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

pub(super) fn api_only(listen: SocketAddr, spec: Option<&Path>) -> anyhow::Result<()> {
    log_to_stderr();
    let spec = spec.map_or_else(|| Ok(LabSpec::default()), read_spec)?;
    let mut cloud = Cloud::new(&spec.cloud, Box::new(NoWires)).context("the VPC's spec is wrong")?;
    cloud.set_trouble(spec.trouble);
    for node in &spec.nodes {
        cloud.run_instance(api::wall_clock(), &node.instance)?;
    }
    let cloud = Arc::new(Mutex::new(cloud));
    let listener = TcpListener::bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
    say(&format!("export AWS_ENDPOINT_URL_EC2=http://{}", listener.local_addr()?))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let ends = async {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        };
        let time = tokio::spawn(api::keep_time(Arc::clone(&cloud), std::future::pending()));
        let served = api::serve(listener, cloud, ends).await;
        time.abort();
        served
    })?;
    Ok(())
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("VPCSIM_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
