//! The instance metadata service, version 2 only, as one server for every node of a lab.
//!
//! It listens in the fabric, so that there is a hop between it and a node, as in EC2: a token's answer carries the hop
//! limit as IP time-to-live, dies on its way to a pod behind the node, and a pod cannot get a token. It tells instances
//! apart by the address a request comes from, which the fabric has checked.

mod tokens;
mod tree;

use std::convert::Infallible;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

use crate::api::wall_clock;
use crate::cloud::{Cloud, InstanceId, Random};
use crate::servers::adopt;
use tokens::Tokens;

pub use tree::{ROLE, Tree};

/// Header that carries a token.
const TOKEN: &str = "x-aws-ec2-metadata-token";
/// Header that asks for a token's life, and tells it.
const LIFE: &str = "x-aws-ec2-metadata-token-ttl-seconds";
/// IP time-to-live of every answer but a token's. Source: Linux default, net.ipv4.ip_default_ttl.
const USUAL_TTL: u32 = 64;
/// Sets the service's random choices apart from the cloud's, which grow from the same seed.
const STREAM: u64 = 0x696d_6473;
/// Rest after a failed accept. Our choice.
const PAUSE: Duration = Duration::from_millis(100);

/// What is served, and to whom which token was given.
#[derive(Debug)]
struct Service {
    cloud: Arc<Mutex<Cloud>>,
    random: Mutex<Random>,
    tokens: Mutex<Tokens>,
    hop_limit: u32,
}

type Answer = Response<Full<Bytes>>;

/// Serves until dropped. `hop_limit` is the instances' `HttpPutResponseHopLimit`.
///
/// # Errors
/// The listener cannot be used.
pub async fn serve(listener: TcpListener, cloud: Arc<Mutex<Cloud>>, hop_limit: u32) -> std::io::Result<()> {
    let listener = adopt(listener)?;
    let seed = lock(&cloud).spec().seed;
    let random = Mutex::new(Random::new(seed ^ STREAM));
    let service = Arc::new(Service { cloud, random, tokens: Mutex::default(), hop_limit });
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the metadata service cannot accept");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let control = match stream.as_fd().try_clone_to_owned() {
            Ok(descriptor) => Arc::new(TcpStream::from(descriptor)),
            Err(error) => {
                tracing::warn!(%error, "the metadata service is out of descriptors");
                continue;
            }
        };
        let service = Arc::clone(&service);
        tokio::spawn(async move {
            let respond = service_fn(|request| {
                let (service, control) = (Arc::clone(&service), Arc::clone(&control));
                async move { Ok::<_, Infallible>(service.respond(peer.ip(), &request, &control).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            if let Err(error) = connection.serve_connection(TokioIo::new(stream), respond).await {
                tracing::debug!(%error, %peer, "a metadata connection ended early");
            }
        });
    }
}

impl Service {
    async fn respond(&self, from: IpAddr, request: &Request<Incoming>, control: &TcpStream) -> Answer {
        let fate = self.fate();
        tokio::time::sleep(fate.delay).await;
        if fate.silence {
            std::future::pending::<()>().await;
        }
        if let Some(status) = fate.error {
            return refuse(status);
        }
        let Some(instance) = lock(&self.cloud).instance_by_source(from) else {
            return refuse(StatusCode::NOT_FOUND);
        };
        let is_token = request.uri().path() == "/latest/api/token";
        let ttl = if is_token { self.hop_limit } else { USUAL_TTL };
        if let Err(error) = control.set_ttl(ttl) {
            tracing::warn!(%error, "cannot set the hop limit");
            return refuse(StatusCode::INTERNAL_SERVER_ERROR);
        }
        match (request.method(), is_token) {
            (&Method::PUT, true) => self.issue(instance.as_str(), request),
            (&Method::GET, false) => self.read(&instance, request),
            _ => refuse(StatusCode::METHOD_NOT_ALLOWED),
        }
    }

    /// Source: EC2 User Guide, "Use IMDSv2": PUT with X-Forwarded-For is refused (a proxy stands between).
    fn issue(&self, instance: &str, request: &Request<Incoming>) -> Answer {
        let header = |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        if request.headers().contains_key("x-forwarded-for") {
            return refuse(StatusCode::FORBIDDEN);
        }
        let Some(life) = header(LIFE).and_then(Tokens::life) else {
            return refuse(StatusCode::BAD_REQUEST);
        };
        let dies = lock(&self.cloud).trouble().imds.token_life_ms.map_or(life, Duration::from_millis);
        let token = self.tokens().issue(instance, life.min(dies), Instant::now());
        let mut answer = text(StatusCode::OK, token);
        answer.headers_mut().insert(LIFE, HeaderValue::from(life.as_secs()));
        answer
    }

    fn read(&self, instance: &InstanceId, request: &Request<Incoming>) -> Answer {
        let token = request.headers().get(TOKEN).and_then(|value| value.to_str().ok());
        if !token.is_some_and(|token| self.tokens().admits(token, instance.as_str(), Instant::now())) {
            return refuse(StatusCode::UNAUTHORIZED);
        }
        let tree = {
            let (mut cloud, now) = (lock(&self.cloud), wall_clock());
            let credentials = cloud.credentials(now, instance).ok();
            let more = cloud.trouble().imds.leaves.clone();
            let view = cloud.imds_view(now, instance).zip(credentials);
            view.map(|(view, keys)| Tree::new(&view, &keys).with(&more))
        };
        match tree.and_then(|tree| tree.get(request.uri().path())) {
            Some(value) => text(StatusCode::OK, value),
            None => refuse(StatusCode::NOT_FOUND),
        }
    }

    fn fate(&self) -> Fate {
        let trouble = lock(&self.cloud).trouble().imds.clone();
        let asked = trouble.status.and_then(|status| StatusCode::from_u16(status).ok());
        let status = asked.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut random = lock(&self.random);
        Fate {
            delay: trouble.latency.draw(&mut random),
            silence: trouble.black_hole,
            error: (trouble.errors > 0.0 && random.chance(trouble.errors)).then_some(status),
        }
    }

    fn tokens(&self) -> MutexGuard<'_, Tokens> {
        lock(&self.tokens)
    }
}

/// What becomes of a request.
struct Fate {
    delay: Duration,
    silence: bool,
    error: Option<StatusCode>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn text(status: StatusCode, body: String) -> Answer {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("text/plain"));
    headers.insert("server", HeaderValue::from_static("EC2ws"));
    answer
}

/// The page that the real service sends.
fn refuse(status: StatusCode) -> Answer {
    let title = status.to_string().replacen(' ', " - ", 1);
    let page = format!(
        "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n<html xmlns=\"http://www.w3.org/1999/xhtml\">\n \
         <head>\n  <title>{title}</title>\n </head>\n <body>\n  <h1>{title}</h1>\n </body>\n</html>\n"
    );
    let mut answer = text(status, page);
    answer.headers_mut().insert("content-type", HeaderValue::from_static("text/html"));
    answer
}
