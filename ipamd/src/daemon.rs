//! The daemon: puts the parts together, in the order that keeps pods safe, and takes them apart again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use podwire_config::Settings;
use podwire_config::settings::network::Layout;
use podwire_ec2::imds::NodeFacts;
use podwire_ec2::{Ec2Client, Ec2Options, Identity, Imds, TagSet};
use podwire_hostnet::{Doomed, NodeNet, PodLink, Watch, chain};
use podwire_ledger::{Aside, Ledger, Opened};
use podwire_pool::{BootId, Input};
use podwire_proto::{ALIVE_PATH, RELEASED_DIR, SOCKET_PATH};
use podwire_trace::Bounds;
use tokio::runtime::Handle as Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::driver::{Driver, Handle, Message};
use crate::executors::{
    Executors,
    ec2::Ec2Executor,
    host::{HostCounters, HostExecutor},
    links::{self, LinkReaper},
    mirror::MirrorExecutor,
    persist::PersistExecutor,
};
use crate::recorder::{self, Recorder};
use crate::rpc::{
    listen::{self, Lost, SocketFile},
    server::IpamService,
};
use crate::start::{self, Beginning, Past};
use crate::takeover::{Clocks, Kernel};
use crate::{adopted, clock, ending, install, look, node, past, pending, recheck, single};

/// Pause between attempts to reach metadata or EC2 at start. *Source*: our choice.
const START_PAUSE: Duration = Duration::from_secs(1);
/// Heartbeat for the plugin's STATUS grace (design §7, STATUS). *Source*: our choice, an eighth of the grace.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long a node that was open at the start counts as ready without a usable address. *Source*: the plugin's grace for a
/// daemon that is away (design §7, STATUS); a start takes a second or two.
const READY_GRACE: Duration = Duration::from_secs(60);
/// Pause before the node is opened again. *Source*: our choice; nobody is served before that.
const OPEN_AGAIN: Duration = Duration::from_secs(5);
/// How long waiting callers may still be answered after a signal. *Source*: our choice; with [`FILES_PATIENCE`] it stays below
/// the 10 s after which kubelet kills the incumbent's DaemonSet (incumbent-behaviour §10), which people adapt for ours.
const STOP_PATIENCE: Duration = Duration::from_secs(6);
/// How long the ledger and the checkpoint may take to be closed after that. *Source*: our choice, see above.
const FILES_PATIENCE: Duration = Duration::from_secs(2);

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

/// What is known of this node before the pool is made.
struct Node {
    imds: Imds,
    identity: Identity,
    facts: NodeFacts,
    ec2: Ec2Client,
    boot: BootId,
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
        let lineage = ledger.lineage().into();
        let ledger_read = began.elapsed();
        let (mut persist, writer) =
            PersistExecutor::start(ledger, &settings.paths.ledger_dir, driver.clone())?;
        persist.compact(pool.snapshot());
        let counters = host.counters();
        let calls = Ec2Executor::new(node.ec2.clone(), driver.clone(), Runtime::current());
        let path = settings.paths.backing_store.clone();
        let (mirroring, mirror) =
            MirrorExecutor::start(path, driver.clone(), clock::booted_unix_ns(), lineage);
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
        helpers.spawn(when_ready(ready, settings.clone()));
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
        // The driver ends when nobody can ask it any more.
        drop((self.driver, self.service));
        let (serving, mut running) = (self.serving, self.running);
        match tokio::time::timeout(STOP_PATIENCE, async { tokio::join!(serving, &mut running) }).await {
            Ok((Ok(Err(error)), _)) => tracing::error!(%error, "the gRPC server failed"),
            Ok(_) => {}
            Err(_) => {
                tracing::warn!("callers still waited when the daemon stopped; the runtime will ask again");
                running.abort();
            }
        }
        let (writer, mirror) = (self.writer, self.mirror);
        let files = async {
            let joined = tokio::task::spawn_blocking(move || writer.join()).await?;
            joined.map_err(|_| anyhow::anyhow!("the ledger's writer died"))?;
            mirror.await.context("the writer of the incumbent's checkpoint died")?
        };
        match tokio::time::timeout(FILES_PATIENCE, files).await {
            Ok(closed) => closed?,
            Err(_) => tracing::error!(
                "the disk still took nothing when the daemon stopped; what it was told is kept in the ledger"
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

impl Node {
    async fn read(settings: &Settings) -> anyhow::Result<Self> {
        let imds = Imds::new();
        let (identity, facts) = read_metadata(&imds).await;
        let (instance, instance_type) = (&identity.instance, &identity.instance_type);
        tracing::info!(%instance, instance_type, region = identity.region, "starting");
        let ec2 = Ec2Client::new(ec2_options(settings, &identity, &facts)?).await;
        Ok(Self { imds, identity, facts, ec2, boot: boot_id()? })
    }

    /// Makes the pool from what the ledger, the kernel and this boot say.
    async fn begin(&self, settings: &Settings) -> anyhow::Result<(Beginning, Ledger)> {
        let pool_settings =
            crate::translate::pool_settings(settings, &self.identity, self.boot.clone(), &self.ec2).await;
        let (mut ledger, opened) = open_ledger(settings, &self.identity, &self.boot)?;
        let beside = past::checkpoint(&settings.paths.backing_store)?;
        let mut net = open_net()?;
        let pods = sweep(&mut net)?;
        let unmarked = net.unmarked_links().context("cannot list the node's veths")?;
        let recovered = matches!(&opened, Opened::Recovered(found) if found.same_boot);
        let past = Past {
            opened,
            beside: &beside,
            kernel: Kernel { pods: &pods, unmarked: &unmarked },
            clocks: Clocks { now: clock::now(), booted_unix_ns: clock::booted_unix_ns() },
        };
        let same_boot = recovered || past.of_this_boot();
        let launched = start::parse_utc(&self.identity.pending_time);
        let begun = start::begin(pool_settings, past, start::is_first_boot(clock::booted_at(), launched));
        if begun.take_over.is_some() {
            ledger.disown();
        }
        // From the snapshot on that founds this life's ledger, or goes on with the last one, the checkpoint is contained in it.
        ledger.contains(beside.checkpoint().map(|file| &*file.mark));
        match &begun.take_over {
            Some(take) if !take.records.is_empty() => past::enter(take, &mut net, &own_plugin(settings)),
            Some(_) | None if !same_boot => install::hide_conflist(&settings.paths.cni_conf_dir)?,
            Some(_) | None => {}
        }
        Ok((begun, ledger))
    }

    fn host(&self, settings: &Settings, driver: &Handle) -> anyhow::Result<HostExecutor> {
        let mtu = settings.network.eni_mtu;
        let watch = Watch::open().context("cannot watch the host's networking")?;
        let (net, imds) = (open_net()?, self.imds.clone());
        Ok(HostExecutor::start(net, watch, driver.clone(), imds, mtu, Runtime::current())?)
    }
}

/// Lists the pods' links, after deleting those whose DEL an earlier life of the daemon did not finish.
fn sweep(net: &mut NodeNet) -> anyhow::Result<Vec<PodLink>> {
    let pods = net.pods().context("cannot list pod links")?;
    let left = pods.iter().filter(|pod| pod.doomed);
    let doomed: Vec<Doomed> =
        left.map(|p| Doomed { attachment: p.attachment.clone(), names: vec![p.name.clone()] }).collect();
    for error in net.delete_pods(&doomed).into_iter().filter_map(Result::err) {
        tracing::warn!(error = chain(&error), "a link left over from an earlier DEL cannot be deleted");
    }
    Ok(pods.into_iter().filter(|pod| !pod.doomed).collect())
}

fn open_net() -> anyhow::Result<NodeNet> {
    NodeNet::open().context("cannot open the host's networking")
}

/// Metadata is needed to start and comes back by itself: wait for it, saying so.
async fn read_metadata(imds: &Imds) -> (Identity, NodeFacts) {
    loop {
        match tokio::join!(imds.identity(), imds.node_facts()) {
            (Ok(identity), Ok(facts)) => return (identity, facts),
            (Err(error), _) | (_, Err(error)) => {
                let error = error.chain();
                tracing::error!(error, "cannot start yet");
            }
        }
        tokio::time::sleep(START_PAUSE).await;
    }
}

fn ec2_options(settings: &Settings, identity: &Identity, facts: &NodeFacts) -> anyhow::Result<Ec2Options> {
    Ok(Ec2Options {
        region: identity.region.clone(),
        endpoint: settings.eni.ec2_endpoint.clone(),
        timeout: settings.eni.ec2_timeout,
        instance: identity.instance.clone(),
        zone: identity.zone.clone(),
        vpc: facts.vpc.clone(),
        tags: TagSet {
            instance: identity.instance.to_string(),
            cluster: settings.eni.cluster_name.clone(),
            additional: settings.eni.additional_tags.clone().into_iter().collect(),
        },
        token_salt: random_name()?.chars().take(20).collect(),
    })
}

/// A name that nothing else has, of letters and digits.
fn random_name() -> anyhow::Result<String> {
    let path = "/proc/sys/kernel/random/uuid";
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    Ok(text.trim().chars().filter(|c| *c != '-').collect())
}

fn boot_id() -> anyhow::Result<BootId> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    Ok(BootId::new(text.trim()))
}

fn open_ledger(settings: &Settings, identity: &Identity, boot: &BootId) -> anyhow::Result<(Ledger, Opened)> {
    let dir = &settings.paths.ledger_dir;
    let (instance, boot) = (identity.instance.clone(), boot.clone());
    let (cooldown, lineage) = (settings.eni.cooldown, random_name()?.into());
    let who = podwire_ledger::Identity { instance, boot, cooldown, lineage };
    let (ledger, opened) =
        Ledger::open(dir, &who).with_context(|| format!("cannot open the ledger in {}", dir.display()))?;
    tell_opened(&opened);
    Ok((ledger, opened))
}

fn tell_opened(opened: &Opened) {
    let lost = |what: &str, aside: &Aside| {
        let where_to = if aside.is_in_place() {
            "the disk takes no copy; it is set aside before another takes its place"
        } else {
            "it is set aside"
        };
        tracing::error!(path = %aside.path.display(), removed = ?aside.removed, "the ledger {what}; {where_to}, keep the file as evidence");
    };
    match opened {
        Opened::Fresh => tracing::info!("no ledger yet"),
        Opened::Recovered(found) => {
            let (records, same_boot, truncated) =
                (found.records.len(), found.same_boot, found.truncated_tail);
            tracing::info!(records, same_boot, truncated, damaged = found.damaged, "ledger read");
            if let Some(aside) = &found.aside {
                lost("is damaged at its end", aside);
            }
        }
        Opened::Foreign { instance, aside } => lost(&format!("belongs to instance {instance}"), aside),
        Opened::Newer { format, aside } => lost(&format!("has format {format} of a later version"), aside),
        Opened::Corrupt { reason, aside } => lost(&format!("cannot be read: {reason}"), aside),
    }
}

async fn when_ready(ready: oneshot::Receiver<()>, settings: Settings) {
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
fn own_plugin(settings: &Settings) -> impl Fn() -> anyhow::Result<()> {
    let into = settings.paths.cni_bin_dir.clone();
    move || own_directory().map_or(Ok(()), |beside| install::install_plugin(&beside, &into))
}

fn own_directory() -> Option<PathBuf> {
    std::fs::read_link("/proc/self/exe").ok()?.parent().map(Path::to_path_buf)
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
