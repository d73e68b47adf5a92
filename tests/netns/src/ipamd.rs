//! A daemon that behaves: a small ledger behind the real protocol on the real socket, link deletion through the real
//! hostnet. It keeps state and can be told to be unwell; it scripts no order of calls.

use podwire_hostnet::{Attachment, Doomed, NodeNet};
use podwire_proto::SOCKET_PATH;
use podwire_proto::v1::ipam_server::{Ipam, IpamServer};
use podwire_proto::v1::{
    AllocateRequest, AllocateResponse, Allocation, CollectRequest, CollectResponse, ExplainRequest,
    ExplainResponse, Failure, InspectRequest, InspectResponse, Layout, LeaksRequest, LeaksResponse,
    ReleaseRequest, ReleaseResponse, Released, Sandbox, StatusRequest, StatusResponse, allocate_response,
    release_response,
};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

/// (network, container, interface).
pub type Key = (String, String, String);

/// What the daemon knows and how it feels.
#[derive(Debug)]
pub struct State {
    node: NodeNet,
    /// Addresses nobody holds; given out from the front.
    pub free: Vec<IpAddr>,
    /// Addresses in use.
    pub held: BTreeMap<Key, IpAddr>,
    /// Device index of the ENI that carries all addresses.
    pub device: u32,
    /// Every Allocate is answered with this.
    pub refusal: Option<Failure>,
    /// How long an Allocate takes.
    pub delay: Duration,
    /// The answer to Allocate is lost after it was carried out.
    pub lose_reply: bool,
    /// Every Release is answered with this.
    pub release_refusal: Option<Failure>,
    /// How long a Release waits before anything is done.
    pub release_delay: Duration,
    /// How many Releases came in.
    pub releases_asked: usize,
    /// Gets its address right after the next Collect has been answered: an ADD that was only waiting.
    pub late: Option<(Key, IpAddr)>,
    /// Why EC2 may not agree with what is held.
    pub doubt: Option<Failure>,
    /// What STATUS says.
    pub ready: bool,
    /// Releases that came in, with their host interface.
    pub released: Vec<(Key, String)>,
    /// How many Allocates were carried out.
    pub allocates: usize,
    /// How many Allocates came in.
    pub asked: usize,
}

/// A running daemon; stops when dropped.
#[derive(Debug)]
pub struct FakeIpamd {
    state: Arc<Mutex<State>>,
    runtime: Option<Runtime>,
}

#[derive(Debug, Clone)]
struct Service(Arc<Mutex<State>>);

impl FakeIpamd {
    /// Starts it in the calling thread's namespaces, with these addresses.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn start(addresses: &[&str]) -> Self {
        let free = addresses.iter().map(|a| a.parse().expect("an address")).collect();
        let state = State {
            node: NodeNet::open().expect("sockets"),
            free,
            held: BTreeMap::new(),
            device: 0,
            refusal: None,
            delay: Duration::ZERO,
            lose_reply: false,
            release_refusal: None,
            release_delay: Duration::ZERO,
            releases_asked: 0,
            late: None,
            doubt: None,
            ready: true,
            released: Vec::new(),
            allocates: 0,
            asked: 0,
        };
        let mut daemon = Self { state: Arc::new(Mutex::new(state)), runtime: None };
        daemon.resume();
        daemon
    }

    /// Listens again after [`Self::stop`]; the state is as it was.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn resume(&mut self) {
        std::fs::create_dir_all(Path::new(SOCKET_PATH).parent().expect("a directory")).expect("a directory");
        let _ = std::fs::remove_file(SOCKET_PATH);
        // Bound here, since the path means this thread's mount namespace.
        let listener = std::os::unix::net::UnixListener::bind(SOCKET_PATH).expect("bind");
        listener.set_nonblocking(true).expect("non-blocking");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let service = IpamServer::new(Service(Arc::clone(&self.state)));
        let guard = runtime.enter();
        let incoming =
            UnixListenerStream::new(tokio::net::UnixListener::from_std(listener).expect("a listener"));
        drop(guard);
        runtime.spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        self.runtime = Some(runtime);
    }

    /// Stops listening, as a killed daemon does: the socket stays and refuses.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }

    /// The state, to look at or to make unwell.
    ///
    /// # Panics
    /// When a handler panicked.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no handler panicked")
    }

    /// The address an attachment holds.
    #[must_use]
    pub fn address_of(&self, container_id: &str) -> Option<IpAddr> {
        self.state().held.iter().find(|(key, _)| key.1 == container_id).map(|(_, address)| *address)
    }
}

impl Drop for FakeIpamd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn key(sandbox: Option<Sandbox>) -> Result<Key, Status> {
    let s = sandbox.ok_or_else(|| Status::invalid_argument("sandbox is missing"))?;
    Ok((s.network, s.container_id, s.ifname))
}

fn allocation(address: IpAddr, is_new: bool, device_index: u32) -> Allocation {
    Allocation {
        addresses: vec![address.to_string()],
        is_new,
        device_index,
        network_card: 0,
        eni: "eni-0fake".into(),
        layout: Layout::Constant.into(),
    }
}

impl Service {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no handler panicked")
    }
}

impl State {
    fn allocate(&mut self, key: Key) -> allocate_response::Outcome {
        self.allocates += 1;
        if let Some(refusal) = &self.refusal {
            return allocate_response::Outcome::Failure(refusal.clone());
        }
        if let Some(address) = self.held.get(&key) {
            return allocate_response::Outcome::Allocation(allocation(*address, false, self.device));
        }
        if self.free.is_empty() {
            let message = "all addresses are in use".to_owned();
            return allocate_response::Outcome::Failure(Failure {
                cause: "node-full".into(),
                message,
                retry: true,
            });
        }
        let address = self.free.remove(0);
        self.held.insert(key, address);
        allocate_response::Outcome::Allocation(allocation(address, true, self.device))
    }

    fn release(&mut self, key: Key, names: Vec<String>) -> release_response::Outcome {
        // As the real daemon: what its ledger refuses it refuses when the link is gone.
        let (before, after) = match self.release_refusal.clone() {
            Some(refusal) if refusal.cause == "link-not-deleted" => (Some(refusal), None),
            other => (None, other),
        };
        if let Some(refusal) = before {
            return release_response::Outcome::Failure(refusal);
        }
        let attachment = Attachment { container_id: key.1.clone(), ifname: key.2.clone() };
        let doomed: Vec<Doomed> = Some(names)
            .filter(|n| !n.is_empty())
            .map(|names| Doomed { attachment, names })
            .into_iter()
            .collect();
        let link = match self.node.delete_pods(&doomed).pop() {
            Some(Ok(link)) => link.unwrap_or_default(),
            None => String::new(),
            // As the real daemon: the address stays until the link is gone.
            Some(Err(error)) => {
                let (cause, message) = ("link-not-deleted".to_owned(), podwire_hostnet::chain(&error));
                return release_response::Outcome::Failure(Failure { cause, message, retry: true });
            }
        };
        if let Some(refusal) = after {
            return release_response::Outcome::Failure(refusal);
        }
        let addresses: Vec<IpAddr> = self.held.remove(&key).into_iter().collect();
        self.free.extend(&addresses);
        self.released.push((key, link.clone()));
        let addresses = addresses.iter().map(ToString::to_string).collect();
        release_response::Outcome::Released(Released { addresses, host_interface: link })
    }
}

#[tonic::async_trait]
impl Ipam for Service {
    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let delay = {
            let mut state = self.state();
            state.asked += 1;
            state.delay
        };
        // Even a sleep of no time takes a timer's tick.
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let outcome = self.state().allocate(key(request.into_inner().sandbox)?);
        if self.state().lose_reply {
            return Err(Status::unavailable("connection lost"));
        }
        Ok(Response::new(AllocateResponse { outcome: Some(outcome) }))
    }

    async fn release(&self, request: Request<ReleaseRequest>) -> Result<Response<ReleaseResponse>, Status> {
        let request = request.into_inner();
        let delay = {
            let mut state = self.state();
            state.releases_asked += 1;
            state.release_delay
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let outcome = self.state().release(key(request.sandbox)?, request.host_interfaces);
        Ok(Response::new(ReleaseResponse { outcome: Some(outcome) }))
    }

    async fn inspect(&self, request: Request<InspectRequest>) -> Result<Response<InspectResponse>, Status> {
        let key = key(request.into_inner().sandbox)?;
        let state = self.state();
        let allocation = state.held.get(&key).map(|a| allocation(*a, false, state.device));
        Ok(Response::new(InspectResponse { allocation, doubt: state.doubt.clone() }))
    }

    async fn collect(&self, request: Request<CollectRequest>) -> Result<Response<CollectResponse>, Status> {
        let request = request.into_inner();
        let mut valid = Vec::new();
        for sandbox in request.valid {
            valid.push(key(Some(sandbox))?);
        }
        let mut state = self.state();
        let of_network = |k: &&Key| k.0 == request.network;
        let held = state.held.keys().filter(of_network).count();
        let stale: Vec<Key> =
            state.held.keys().filter(of_network).filter(|k| !valid.contains(k)).cloned().collect();
        for key in stale.iter().filter(|_| !request.dry_run) {
            state.release(key.clone(), Vec::new());
        }
        let collected = stale
            .into_iter()
            .map(|(network, container_id, ifname)| Sandbox { container_id, ifname, network })
            .collect();
        if let Some((key, address)) = state.late.take() {
            state.held.insert(key, address);
        }
        let held = u32::try_from(held).expect("few");
        Ok(Response::new(CollectResponse { collected, failure: None, held }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let ready = self.state().ready;
        let failure = (!ready).then(|| Failure {
            cause: "starting".into(),
            message: "ipamd is starting".into(),
            retry: true,
        });
        Ok(Response::new(StatusResponse { ready, failure, ..StatusResponse::default() }))
    }

    async fn explain(&self, _: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        Ok(Response::new(ExplainResponse { ready: self.state().ready, ..ExplainResponse::default() }))
    }

    async fn leaks(&self, _: Request<LeaksRequest>) -> Result<Response<LeaksResponse>, Status> {
        Ok(Response::new(LeaksResponse::default()))
    }
}
