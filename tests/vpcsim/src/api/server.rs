//! The HTTP server: carries out what the cloud decides about each call, its delays and its silences.
//!
//! A call that has arrived runs to its end even if its client gives up, as in EC2.

use std::fmt;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming as Body};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::actions::{self, Action};
use super::params::Params;
use super::request::{Call, Incoming};
use super::xml::Xml;
use crate::cloud::{ApiError, CallRecord, Caller, Cloud, Millis, Outcome};
use crate::trouble::{Admission, Fate};

/// The largest request taken; EC2's own limit is near.
const BODY_MAX: usize = 1 << 20;

/// How often the keeper of time looks whether something was planned meanwhile.
const GLANCE: Duration = Duration::from_millis(20);

/// Now, by the machine's clock.
#[must_use]
pub fn wall_clock() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::default().plus(since)
}

/// Serves the EC2 Query API until `shutdown` completes; then closes every connection.
///
/// Several listeners may serve one cloud at once, wherever their sockets were bound: in a namespace, on loopback.
///
/// # Errors
/// The listener cannot be used, or fails for good.
pub async fn serve(
    listener: TcpListener,
    cloud: Arc<Mutex<Cloud>>,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(connection(stream, peer, Arc::clone(&cloud)));
                }
                // The peer gave up already, or descriptors ran out: neither ends the service.
                Err(error) => {
                    tracing::warn!(cause = %error, "cannot accept a connection");
                    tokio::time::sleep(GLANCE).await;
                }
            },
            Some(_ended) = connections.join_next() => {}
        }
    }
    connections.shutdown().await;
    Ok(())
}

/// Keeps the cloud's time until `shutdown` completes, so that what is due happens though nobody calls.
pub async fn keep_time(cloud: Arc<Mutex<Cloud>>, shutdown: impl Future<Output = ()>) {
    tokio::pin!(shutdown);
    loop {
        let now = wall_clock();
        let wait = {
            let mut cloud = lock(&cloud);
            cloud.tick(now);
            cloud.next_event().map_or(GLANCE, |due| due.since(now).min(GLANCE))
        };
        tokio::select! {
            () = &mut shutdown => return,
            () = tokio::time::sleep(wait.max(Duration::from_millis(1))) => {}
        }
    }
}

/// The connection closes without an answer.
#[derive(Debug)]
struct HangUp;

impl fmt::Display for HangUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer is lost on purpose")
    }
}

impl std::error::Error for HangUp {}

async fn connection(stream: TcpStream, peer: SocketAddr, cloud: Arc<Mutex<Cloud>>) {
    // Answers are small and latency is what is simulated elsewhere.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, cause = %error, "cannot set TCP_NODELAY");
    }
    let service = service_fn(move |request| handle(request, Arc::clone(&cloud)));
    let served =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    if let Err(error) = served {
        tracing::debug!(%peer, cause = %error, "connection ended");
    }
}

async fn handle(request: Request<Body>, cloud: Arc<Mutex<Cloud>>) -> Result<Response<Full<Bytes>>, HangUp> {
    let (head, body) = request.into_parts();
    if !matches!(head.method, Method::POST | Method::GET) {
        return Ok(plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and POST are served"));
    }
    let Ok(body) = Limited::new(body, BODY_MAX).collect().await else {
        return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, "the request is larger than 1 MiB"));
    };
    let incoming = Incoming::new(&head.headers, head.uri.query(), &body.to_bytes());
    // A task of its own: it goes on although hyper drops this future when the client goes.
    match tokio::spawn(answer(incoming, Arc::clone(&cloud))).await {
        Ok(Some(response)) => Ok(dated(response, &lock(&cloud))),
        Ok(None) => Err(HangUp),
        Err(error) => {
            tracing::error!(cause = %error, "an action failed");
            Ok(refused(&ApiError::internal("An internal error has occurred"), ""))
        }
    }
}

/// A call that was let in, and what becomes of it.
struct Admitted {
    action: &'static Action,
    caller: Caller,
    admission: Admission,
    at: Millis,
}

/// Serves one call. `None`: no answer.
async fn answer(incoming: Incoming, cloud: Arc<Mutex<Cloud>>) -> Option<Response<Full<Bytes>>> {
    let admitted = match admit(&incoming, &mut lock(&cloud)) {
        Ok(admitted) => admitted,
        Err((error, request)) => return Some(refused(&error, &request)),
    };
    let Admission { request, before, after, fate } = &admitted.admission;
    tokio::time::sleep(*before).await;
    let result = {
        let mut cloud = lock(&cloud);
        let (result, outcome) = settle(&admitted, &incoming, &mut cloud);
        // Under the same lock: whoever sees what a call did sees the call, too.
        cloud.record(CallRecord {
            at: admitted.at,
            action: admitted.action.name.to_owned(),
            mutating: admitted.action.mutating,
            caller: admitted.caller.clone(),
            request: request.clone(),
            outcome,
        });
        result
    };
    tokio::time::sleep(*after).await;
    match fate {
        Fate::Silence => std::future::pending::<Option<_>>().await,
        Fate::HangUp | Fate::ServeThenHangUp => None,
        Fate::Serve | Fate::Refuse(_) | Fate::ServeThenRefuse(_) => Some(match result {
            Ok(xml) => response(StatusCode::OK, xml.answer(admitted.action.name, request)),
            Err(error) => refused(&error, request),
        }),
    }
}

/// Who calls what, and what the cloud decides about it.
fn admit(incoming: &Incoming, cloud: &mut Cloud) -> Result<Admitted, (ApiError, String)> {
    let at = wall_clock();
    cloud.tick(at);
    let early = |error: ApiError, cloud: &mut Cloud| (error, cloud.request_id());
    incoming.check().map_err(|error| early(error, cloud))?;
    let caller = incoming.caller(cloud).map_err(|error| early(error, cloud))?;
    let name = incoming.action();
    let Some(action) = actions::find(name) else {
        let error =
            ApiError::new("InvalidAction", format!("The action {name} is not valid for this web service."));
        return Err(early(error, cloud));
    };
    let admission = cloud.admit(at, action.name, action.mutating);
    Ok(Admitted { action, caller, admission, at })
}

/// Lets the call have its effect, if it is to have one.
fn settle(admitted: &Admitted, incoming: &Incoming, cloud: &mut Cloud) -> (Result<Xml, ApiError>, Outcome) {
    let refuse = |error: &ApiError| (Err(error.clone()), Outcome::Refused(error.code.to_string()));
    let mut serve = || {
        let call = Call { now: wall_clock(), caller: admitted.caller.clone() };
        run(admitted.action, incoming, &call, cloud)
    };
    match &admitted.admission.fate {
        Fate::Serve => match serve() {
            Ok(xml) => (Ok(xml), Outcome::Done),
            Err(error) => refuse(&error),
        },
        Fate::Refuse(error) => refuse(error),
        Fate::ServeThenRefuse(error) => match serve() {
            Ok(_) => refuse(error),
            Err(own) => refuse(&own),
        },
        Fate::ServeThenHangUp => match serve() {
            Ok(xml) => (Ok(xml), Outcome::DoneUnanswered),
            Err(error) => (Err(error), Outcome::Swallowed),
        },
        Fate::HangUp | Fate::Silence => (Ok(Xml::new()), Outcome::Swallowed),
    }
}

/// Parameters, permission, dry run, then the action itself: the order in which EC2 looks.
fn run(
    action: &'static Action,
    incoming: &Incoming,
    call: &Call,
    cloud: &mut Cloud,
) -> Result<Xml, ApiError> {
    let params = Params::read(&incoming.form, action.params)?;
    cloud.authorize(&call.caller, action.name)?;
    if let Some(also) = action.also_needs
        && params.any("TagSpecification")
    {
        cloud.authorize(&call.caller, also)?;
    }
    if params.flag("DryRun") == Some(true) {
        return Err(ApiError::new(
            "DryRunOperation",
            "Request would have succeeded, but DryRun flag is set.",
        ));
    }
    (action.run)(cloud, call, &params)
}

/// Dates an answer by the endpoint's clock.
fn dated(mut response: Response<Full<Bytes>>, cloud: &Cloud) -> Response<Full<Bytes>> {
    let shown = cloud.endpoint_clock(wall_clock());
    let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(shown.0));
    if let Ok(date) = header::HeaderValue::from_str(&date) {
        response.headers_mut().insert(header::DATE, date);
    }
    response
}

fn lock(cloud: &Mutex<Cloud>) -> MutexGuard<'_, Cloud> {
    // A panic elsewhere leaves at worst one call half done; the simulator goes on so that tests can see it.
    cloud.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refused(error: &ApiError, request: &str) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_REQUEST);
    response(status, Xml::refusal(&error.code, &error.message, request))
}

fn response(status: StatusCode, document: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(document)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/xml;charset=UTF-8"));
    headers.insert(header::SERVER, header::HeaderValue::from_static("AmazonEC2"));
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}
