//! Serves `podwire.v1.Ipam`: checks what comes in, asks the driver, converts what comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use podwire_hostnet::{Attachment, Doomed};
use podwire_pool::{Answer, Collectable, Input, PodRef, RequestId, SandboxKey, Time};
use podwire_proto::convert::{WireError, container_id, ifname};
use podwire_proto::v1::{self, ipam_server::Ipam};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

use crate::clock;
use crate::driver::{Gone, Handle, Inspection, Message};
use crate::executors::links::LinkReaper;
use crate::executors::mirror::UpToDate;
use crate::rpc::{answer, explain, leaks};

/// Longest patience a plugin may ask for. *Source*: our choice; the plugin's own default is 75 s (design §7).
const PATIENCE_MAX: Duration = Duration::from_secs(300);
/// How long a release or collection may take before the caller is told to come again. *Source*: design §7, DEL 20 s.
const RELEASE_PATIENCE: Duration = Duration::from_secs(20);

/// How long a look at EC2, and what follows from it, may take. *Source*: our choice; a person waits.
const LOOK_PATIENCE: Duration = Duration::from_secs(60);

/// Most names a link may have in one request. *Source*: our choice; a plugin knows its own two and those of ADD's result.
const NAMES_MAX: usize = 16;

/// The service.
#[derive(Debug, Clone)]
pub struct IpamService {
    driver: Handle,
    links: LinkReaper,
    /// Layout compat: an ADD's answer waits until the incumbent's checkpoint knows it (design §4).
    compat: Option<UpToDate>,
    next_request: Arc<AtomicU64>,
}

/// Tells the pool that nobody waits any more, when the caller hangs up.
struct Waiting {
    driver: Handle,
    request: RequestId,
    answered: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.answered {
            self.driver.try_send(Message::Happened(Input::Abandon { request: self.request }));
        }
    }
}

impl IpamService {
    /// Asks `driver`, deletes links through `links`; `compat`: the layout is compat.
    #[must_use]
    pub fn new(driver: Handle, links: LinkReaper, compat: Option<UpToDate>) -> Self {
        Self { driver, links, compat, next_request: Arc::new(AtomicU64::new(1)) }
    }

    /// Asks the pool something that is answered later.
    ///
    /// # Errors
    /// The driver is gone.
    pub async fn ask(&self, make: impl FnOnce(RequestId) -> Input) -> Result<Answer, Gone> {
        let request = RequestId(self.next_request.fetch_add(1, Ordering::Relaxed));
        let (reply, answer) = oneshot::channel();
        self.driver.send(Message::Ask { input: make(request), request, reply }).await?;
        let mut waiting = Waiting { driver: self.driver.clone(), request, answered: false };
        let answer = answer.await.map_err(|_| Gone);
        waiting.answered = true;
        answer
    }

    fn layout(&self) -> v1::Layout {
        if self.compat.is_some() { v1::Layout::Compat } else { v1::Layout::Constant }
    }

    /// Whether an answer may go out.
    async fn is_mirrored(&self, answer: &Answer) -> bool {
        match (&self.compat, answer) {
            (Some(checkpoint), Answer::Allocated { .. }) => checkpoint.wait().await,
            (Some(_) | None, _) => true,
        }
    }

    /// Asks the pool what it knows of a sandbox now.
    ///
    /// # Errors
    /// The driver is gone.
    async fn look(&self, sandbox: SandboxKey) -> Result<Inspection, Gone> {
        let (reply, answer) = oneshot::channel();
        self.driver.send(Message::Inspect { sandbox, reply }).await?;
        answer.await.map_err(|_| Gone)
    }

    /// Deletes the sandbox's link, which may have one of these names, unless it is that of a life which began after the DEL;
    /// returns the name it had, empty where there was none.
    async fn delete_link(
        &self,
        key: &SandboxKey,
        started: Time,
        names: Vec<String>,
    ) -> Result<String, v1::Failure> {
        if names.is_empty() {
            return Ok(String::new());
        }
        let bad = |message: String| answer::refusal("bad-request", message, false);
        if names.len() > NAMES_MAX {
            return Err(bad(format!("{} names for one link; at most {NAMES_MAX} are taken", names.len())));
        }
        if let Some(error) = names.iter().find_map(|name| ifname(name).err()) {
            return Err(bad(error.to_string()));
        }
        let attachment =
            Attachment { container_id: key.container_id.to_string(), ifname: key.ifname.to_string() };
        let deleted = self.links.delete(Doomed { attachment, names }, started, RELEASE_PATIENCE).await;
        deleted.map(Option::unwrap_or_default).map_err(|reason| {
            answer::refusal(
                "link-not-deleted",
                format!("the pod's host interface cannot be deleted: {reason}"),
                true,
            )
        })
    }
}

#[tonic::async_trait]
impl Ipam for IpamService {
    async fn allocate(
        &self,
        request: Request<v1::AllocateRequest>,
    ) -> Result<Response<v1::AllocateResponse>, Status> {
        let wire = request.into_inner();
        let (sandbox, network) = sandbox(wire.sandbox)?;
        let pod = pod(wire.pod, network);
        let began = clock::now();
        let deadline = began.after(Duration::from_millis(wire.patience_ms).min(PATIENCE_MAX));
        let started = Time::from_ms(wire.started_boottime_ms);
        let (key, who) = (sandbox.clone(), pod.clone());
        let asked = self.ask(|request| Input::Allocate { request, sandbox, pod, started, deadline }).await;
        let answer = asked.map_err(gone)?;
        let mirrored = self.is_mirrored(&answer).await;
        log_add(&key, &who, &answer, clock::now().since(began));
        let mut response = answer::to_allocate(&answer, self.layout());
        if !mirrored {
            response.outcome = Some(v1::allocate_response::Outcome::Failure(unmirrored()));
        }
        Ok(Response::new(response))
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseResponse>, Status> {
        let wire = request.into_inner();
        let (sandbox, _) = sandbox(wire.sandbox)?;
        let started = Time::from_ms(wire.started_boottime_ms);
        let key = sandbox.clone();
        // The link first (design D4): an address whose pod may still be wired is not given back. A DEL of an earlier life, come
        // late, takes neither.
        let link = match self.delete_link(&key, started, wire.host_interfaces).await {
            Ok(link) => link,
            Err(failure) => {
                let outcome = Some(v1::release_response::Outcome::Failure(failure));
                return Ok(Response::new(v1::ReleaseResponse { outcome }));
            }
        };
        let released = self.ask(|request| Input::Release { request, sandbox, started });
        let released = tokio::time::timeout(RELEASE_PATIENCE, released).await;
        let answer = released.map_err(|_| slow())?.map_err(gone)?;
        if let Answer::Released(addresses) = &answer {
            tracing::info!(sandbox = %key.container_id, ifname = %key.ifname, ?addresses, link, "released");
        }
        Ok(Response::new(answer::to_release(&answer, link)))
    }

    async fn inspect(
        &self,
        request: Request<v1::InspectRequest>,
    ) -> Result<Response<v1::InspectResponse>, Status> {
        let (sandbox, _) = sandbox(request.into_inner().sandbox)?;
        let found = self.look(sandbox).await.map_err(gone)?;
        Ok(Response::new(v1::InspectResponse {
            allocation: found.held.as_ref().and_then(|held| answer::allocation(held, self.layout())),
            doubt: found.doubt.as_ref().map(answer::failure),
        }))
    }

    async fn collect(
        &self,
        request: Request<v1::CollectRequest>,
    ) -> Result<Response<v1::CollectResponse>, Status> {
        let wire = request.into_inner();
        let (valid, network) = (listed(wire.valid), wire.network.clone());
        let started = Time::from_ms(wire.started_boottime_ms);
        let (reply, would) = oneshot::channel();
        let question =
            Message::WouldCollect { network: network.clone(), valid: valid.clone(), started, reply };
        self.driver.send(question).await.map_err(gone)?;
        let Collectable { dead, held } = would.await.map_err(|_| gone(Gone))?;
        let answer = if wire.dry_run {
            Answer::Collected(dead)
        } else {
            let asked =
                self.ask(|request| Input::Collect { request, network: network.into(), valid, started });
            tokio::time::timeout(RELEASE_PATIENCE, asked).await.map_err(|_| slow())?.map_err(gone)?
        };
        let mut response = answer::to_collect(&answer, &wire.network);
        response.held = u32::try_from(held).unwrap_or(u32::MAX);
        Ok(Response::new(response))
    }

    async fn status(
        &self,
        _request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        let (reply, answer) = oneshot::channel();
        self.driver.send(Message::Status { reply }).await.map_err(gone)?;
        let stats = answer.await.map_err(|_| gone(Gone))?;
        Ok(Response::new(v1::StatusResponse {
            ready: stats.ready,
            failure: stats.failure.as_ref().map(answer::failure),
            assigned: stats.assigned,
            allocated: stats.allocated,
            cooling: stats.cooling,
            free: stats.free,
        }))
    }

    async fn explain(
        &self,
        _request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        let (reply, answer) = oneshot::channel();
        self.driver.send(Message::Explain { reply }).await.map_err(gone)?;
        let explanation = answer.await.map_err(|_| gone(Gone))?;
        Ok(Response::new(explain::response(&explanation)))
    }

    async fn leaks(&self, request: Request<v1::LeaksRequest>) -> Result<Response<v1::LeaksResponse>, Status> {
        let delete = request.into_inner().delete;
        tracing::info!(delete, "somebody asks what dead nodes left behind");
        let asked = self.ask(|request| Input::Leaks { request, delete });
        let answer = tokio::time::timeout(LOOK_PATIENCE, asked).await;
        let late = || {
            Status::deadline_exceeded(
                "EC2 answers slowly; nothing more is deleted by this order, give it again later",
            )
        };
        Ok(Response::new(leaks::response(&answer.map_err(|_| late())?.map_err(gone)?)))
    }
}

fn sandbox(wire: Option<v1::Sandbox>) -> Result<(SandboxKey, String), Status> {
    let wire = wire.ok_or_else(|| bad(&WireError::Missing("sandbox")))?;
    let id = container_id(&wire.container_id).map_err(|e| bad(&e))?;
    let name = ifname(&wire.ifname).map_err(|e| bad(&e))?;
    Ok((SandboxKey::new(id, name), wire.network))
}

/// What a runtime lists, as far as it can be ours: an ADD with an id or a name that is refused here was refused by the plugin,
/// too. Such an entry must not end the GC of everything else, for as long as its container runs.
fn listed(valid: Vec<v1::Sandbox>) -> Vec<SandboxKey> {
    valid.into_iter().filter_map(|one| sandbox(Some(one)).ok()).map(|(key, _)| key).collect()
}

fn pod(wire: Option<v1::Pod>, network: String) -> PodRef {
    let wire = wire.unwrap_or_default();
    PodRef {
        namespace: wire.namespace.into(),
        name: wire.name.into(),
        uid: wire.uid.into(),
        network: network.into(),
    }
}

fn unmirrored() -> v1::Failure {
    let message = "the incumbent's checkpoint cannot be written, and in layout compat no pod starts that it does not know; \
                   make room on its disk, or set PODWIRE_LAYOUT=constant";
    answer::refusal("checkpoint-not-written", message.to_owned(), true)
}

fn bad(error: &WireError) -> Status {
    Status::invalid_argument(error.to_string())
}

fn gone(error: Gone) -> Status {
    Status::unavailable(error.to_string())
}

fn slow() -> Status {
    Status::deadline_exceeded(
        "the ledger did not take the release in time; it is tried again with the next DEL",
    )
}

fn log_add(sandbox: &SandboxKey, pod: &PodRef, answer: &Answer, took: Duration) {
    let (namespace, name) = (&*pod.namespace, &*pod.name);
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    match answer {
        Answer::Allocated { addresses, is_new, eni, .. } => tracing::info!(
            sandbox = %sandbox.container_id, ifname = %sandbox.ifname, pod_namespace = namespace, pod_name = name,
            ?addresses, is_new, %eni, duration_ms, "allocated"
        ),
        Answer::Refused(cause) => tracing::warn!(
            sandbox = %sandbox.container_id, ifname = %sandbox.ifname, pod_namespace = namespace, pod_name = name,
            cause = cause.name(), duration_ms, "refused: {cause}"
        ),
        Answer::Released(_) | Answer::Collected(_) | Answer::Leaks(_) => {
            tracing::error!("an ADD was answered as something else")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G-01.
    #[test]
    fn attachment_that_cannot_be_ours_ends_no_collection() {
        let one = |id: &str, ifname: &str| v1::Sandbox {
            container_id: id.to_owned(),
            ifname: ifname.to_owned(),
            network: "aws-cni".to_owned(),
        };
        let long = "x".repeat(129);
        let wire =
            vec![one("c1", "eth0"), one(&long, "eth0"), one("c2", "a/b"), one("", ""), one("c3", "net1")];
        assert_eq!(listed(wire), [SandboxKey::new("c1", "eth0"), SandboxKey::new("c3", "net1")]);
    }
}
