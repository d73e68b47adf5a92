//! The daemon: puts the parts together, in the order that keeps pods safe, and takes them apart again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use podwire_config::Settings;
use podwire_config::settings::network::Layout;
use podwire_hostnet::NodeNet;
use podwire_pool::Input;
use podwire_proto::{ALIVE_PATH, RELEASED_DIR, SOCKET_PATH};
use podwire_trace::Bounds;
use tokio::runtime::Handle as Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::bootstrap::{Node, open_net};
use crate::driver::{Driver, Handle, Message};
use crate::executors::{
    Executors,
    ec2::Ec2Executor,
    host::HostCounters,
    links::{self, LinkReaper},
    mirror::MirrorExecutor,
    persist::PersistExecutor,
};
use crate::recorder::{self, Recorder};
use crate::rpc::{
    listen::{self, Lost, SocketFile},
    server::IpamService,
};
use crate::start::Beginning;
use crate::{adopted, clock, ending, install, look, node, opening, pending, recheck, single};

/// Heartbeat for the plugin's STATUS grace (design §7, STATUS). *Source*: our choice, an eighth of the grace.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long a node that was open at the start counts as ready without a usable address. *Source*: the plugin's grace for a
/// daemon that is away (design §7, STATUS); a start takes a second or two.
const READY_GRACE: Duration = Duration::from_secs(60);
/// How long waiting callers may still be answered after a signal. *Source*: our choice; with [`FILES_PATIENCE`] it stays below
/// the 10 s after which kubelet kills the incumbent's DaemonSet (incumbent-behaviour §10), which people adapt for ours.
const STOP_PATIENCE: Duration = Duration::from_secs(6);
/// How long the ledger and the checkpoint may take to be closed after that. *Source*: our choice, see above.
const FILES_PATIENCE: Duration = Duration::from_millis(1_500);

/// Runs until `stop` is cancelled.
///
/// # Errors
/// Something without which the daemon cannot serve is missing; the text says what and what to do.
pub async fn run(settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    let daemon = tokio::select! {
        started = Daemon::start(&settings) => started?,
        () = stop.cancelled() => return Ok(()),
    };
    daemon.serve(stop).await
}

/// A daemon that serves.
struct Daemon {
    _only: single::Only,
    socket: SocketFile,
    service: IpamService,
    driver: Handle,
    running: JoinHandle<()>,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
    stop_serving: CancellationToken,
    counters: Arc<HostCounters>,
    writer: std::thread::JoinHandle<()>,
    mirror: JoinHandle<anyhow::Result<()>>,
    helpers: JoinSet<()>,
}

impl Daemon {
    async fn start(settings: &Settings) -> anyhow::Result<Self> {
        // Caught from the first moment: uncaught it would end the daemon.
        let asks_for_trace = signal(SignalKind::user_defined1()).context("cannot catch SIGUSR1")?;
        let only = single::wait(Path::new(SOCKET_PATH)).await?;
        let began = Instant::now();
        let node = Node::read(settings).await?;
        let metadata = began.elapsed();
        let (driver, inbox) = Handle::channel();
        let host = node.host(settings, &driver)?;
        let node_config = node::config(&node.facts, settings);
        node::try_kernel(&node_config)?;
        host.apply_node(node_config.clone()).await.context("cannot set up node networking")?;
        let networking = began.elapsed();

        let (Beginning { pool, look, take_over }, ledger) = node.begin(settings).await?;
        if take_over.as_ref().is_some_and(|take| !take.marks.is_empty()) {
            // Links that are ours now may be named with another prefix: the way out goes by it.
            host.apply_node(node_config.clone())
                .await
                .context("cannot set up networking for pods taken over")?;
        }
        // One that an earlier boot left is hidden by now. Where it is there, this node has served: to say otherwise until its
        // ENIs are set up again would make it NotReady with each restart (T-10).
        let was_open = install::is_open(&settings.paths.cni_conf_dir);
        let ready_until = was_open.then(|| clock::now().after(READY_GRACE));
        let (lineage, checkpoint) = (ledger.lineage().into(), ledger.adopted().map(Into::into));
        let ledger_read = began.elapsed();
        let (mut persist, writer) =
            PersistExecutor::start(ledger, &settings.paths.ledger_dir, driver.clone())?;
        persist.compact(pool.snapshot());
        let counters = host.counters();
        let calls = Ec2Executor::new(node.ec2.clone(), driver.clone(), Runtime::current());
        let path = settings.paths.backing_store.clone();
        let (mirroring, mirror) =
            MirrorExecutor::start(path, driver.clone(), clock::booted_unix_ns(), lineage, checkpoint);
        let compat = (settings.network.layout == Layout::Compat).then(|| mirroring.up_to_date());
        let executors = Executors::new(calls, host.clone(), persist, mirroring);
        let (on_ready, ready) = oneshot::channel();
        let dir = &settings.paths.ledger_dir;
        let recorder = Recorder::new(dir.clone(), Bounds::default());
        let driving = Driver::new(pool, recorder, inbox, executors, on_ready).ready_until(ready_until);
        let running = tokio::spawn(driving.run());

        let nets: anyhow::Result<Vec<NodeNet>> = (0..links::THREADS).map(|_| open_net()).collect();
        let links = LinkReaper::start(nets?, &driver)?;
        let service = IpamService::new(driver.clone(), links, compat);
        let stop_serving = CancellationToken::new();
        let (listener, socket) = listen::bind(Path::new(SOCKET_PATH))?;
        let serving =
            tokio::spawn(listen::serve(listener, service.clone(), stop_serving.clone().cancelled_owned()));
        tracing::info!(?metadata, ?networking, ?ledger_read, serving = ?began.elapsed(), "start-up: the socket serves");
        let mut helpers = JoinSet::new();
        helpers.spawn(recorder::write_when_signalled(driver.clone(), asks_for_trace, dir.clone()));
        helpers.spawn(look::first(driver.clone(), node.imds.clone(), node.ec2, look));
        helpers.spawn(recheck::keep(driver.clone(), node.imds.clone()));
        helpers.spawn(ending::watch(driver.clone(), node.imds.clone()));
        helpers.spawn(node::keep(node.imds, host, node_config));
        let marks = take_over.map(|take| take.marks).unwrap_or_default();
        helpers.spawn(adopted::watch(marks, driver.clone(), service.clone()));
        helpers.spawn(pending::watch(PathBuf::from(RELEASED_DIR), node.boot, service.clone()));
        helpers.spawn(heartbeat(Path::new(ALIVE_PATH)));
        helpers.spawn(opening::when_ready(ready, settings.clone()));
        Ok(Self {
            _only: only,
            socket,
            service,
            driver,
            running,
            serving,
            stop_serving,
            counters,
            writer,
            mirror,
            helpers,
        })
    }

    async fn serve(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                // A driver that ends by itself has met a broken invariant: the daemon starts again from the ledger.
                ended = &mut self.running => {
                    ended.context("the driver died; starting again from the ledger is safe")?;
                    bail!("the driver ended before it was told to; ipamd starts again from its ledger");
                }
                ended = &mut self.serving => {
                    ended.context("the gRPC server died")?.context("the gRPC server failed")?;
                    bail!("the gRPC server ended before it was told to; ipamd starts again from its ledger");
                }
                ended = &mut self.mirror => {
                    ended.context("the writer of the incumbent's checkpoint died")??;
                    bail!("the writer of the incumbent's checkpoint ended before it was told to");
                }
                // Some end when their work is done.
                Some(ended) = self.helpers.join_next() => ended.context("a part of the daemon died")?,
                lost = self.socket.lost() => self.reopen(lost)?,
                () = stop.cancelled() => return self.stop().await,
            }
        }
    }

    /// Serves at a new socket where somebody removed the old one; whoever is being served stays so. Where another daemon put
    /// its own, this one ends at once and writes nothing more: that one is the node's writer now.
    fn reopen(&mut self, lost: Lost) -> anyhow::Result<()> {
        if lost == Lost::Replaced {
            bail!(
                "another program took the socket's place, as aws-node does when it starts; delete one of the two DaemonSets"
            );
        }
        let path = self.socket.path().to_owned();
        tracing::warn!(socket = %path.display(), "somebody removed the socket; it is made again");
        let (listener, socket) = listen::bind(&path)?;
        self.stop_serving.cancel();
        (self.socket, self.stop_serving) = (socket, CancellationToken::new());
        let stop = self.stop_serving.clone().cancelled_owned();
        self.serving = tokio::spawn(listen::serve(listener, self.service.clone(), stop));
        Ok(())
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        tracing::info!("stopping: no new EC2 calls, waiting callers are answered");
        if self.driver.send(Message::Happened(Input::Stop)).await.is_err() {
            tracing::debug!("the driver was gone already");
        }
        self.helpers.abort_all();
        self.stop_serving.cancel();
        let driver = self.driver;
        drop(self.service);
        let (serving, mut running) = (self.serving, self.running);
        match tokio::time::timeout(STOP_PATIENCE, async { tokio::join!(serving, &mut running) }).await {
            Ok((Ok(Err(error)), _)) => tracing::error!(%error, "the gRPC server failed"),
            Ok(_) => {}
            Err(_) => {
                tracing::warn!("callers still waited when the daemon stopped; the runtime will ask again");
                let end = async { tokio::join!(driver.send(Message::End), &mut running) };
                if tokio::time::timeout(FILES_PATIENCE, end).await.is_err() {
                    running.abort();
                }
            }
        }
        // The writers end when nobody can tell them anything any more.
        drop(driver);
        let (writer, mirror) = (self.writer, self.mirror);
        let written = tokio::task::spawn_blocking(move || writer.join());
        match tokio::time::timeout(FILES_PATIENCE, async { tokio::join!(mirror, written) }).await {
            Ok((mirror, written)) => {
                written?.map_err(|_| anyhow::anyhow!("the ledger's writer died"))?;
                mirror.context("the writer of the incumbent's checkpoint died")??;
            }
            Err(_) => bail!(
                "the disk still took nothing when the daemon stopped; what it did not take was answered to nobody"
            ),
        }
        if let Err(error) = self.socket.remove() {
            tracing::debug!(%error, "the socket was gone already");
        }
        let (drift_repaired, quarrels) = (self.counters.all_repaired(), self.counters.quarrels());
        tracing::info!(drift_repaired, quarrels, "stopped; pods keep running");
        Ok(())
    }
}

/// Tells the plugin's STATUS when this daemon was last alive.
async fn heartbeat(path: &Path) {
    // By renaming: a reader never sees half a number.
    let fresh = path.with_extension("new");
    let beat = || {
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::write(&fresh, clock::now().as_ms().to_string())?;
        std::fs::rename(&fresh, path)
    };
    loop {
        if let Err(error) = beat() {
            tracing::warn!(path = %path.display(), %error, "the heartbeat cannot be written");
        }
        tokio::time::sleep(HEARTBEAT).await;
    }
}
