//! The API on loopback without kernel or command line: for tests of programs that only speak to EC2.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::watch;

use super::server::{keep_time, serve};
use crate::cloud::Cloud;

/// A served cloud that ends when this is dropped. Works in tests with and without an async runtime of their own.
///
/// ```
/// use vpcsim::api::{self, Standalone};
/// use vpcsim::cloud::{Cloud, CloudSpec, InstanceSpec, SubnetSpec};
/// use vpcsim::wires::NoWires;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let id = "subnet-0aaaaaaaaaaaaaaaa".to_owned();
/// let subnet = SubnetSpec { id: Some(id.clone()), cidr: "10.0.1.0/24".parse()?, ..SubnetSpec::default() };
/// let mut cloud = Cloud::new(&CloudSpec { subnets: vec![subnet], ..CloudSpec::default() }, Box::new(NoWires))?;
/// let node = cloud.run_instance(api::wall_clock(), &InstanceSpec { subnet: id, ..InstanceSpec::default() })?;
/// let ec2 = Standalone::start(cloud)?;
/// // Here an SDK would be pointed at `ec2.endpoint()`; then one looks at the truth:
/// assert_eq!(ec2.cloud().interfaces_of(&node.instance).len(), 1);
/// assert_eq!(ec2.cloud().stats().mutating_calls, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Standalone {
    address: SocketAddr,
    cloud: Arc<Mutex<Cloud>>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Standalone {
    /// Serves this cloud on a free port of 127.0.0.1, by the machine's clock.
    ///
    /// # Errors
    /// No port, no thread or no runtime is to be had.
    pub fn start(cloud: Cloud) -> io::Result<Self> {
        Self::start_on(cloud, vec![TcpListener::bind("127.0.0.1:0")?])
    }

    /// Serves this cloud on all of these; the first one is [`Self::address`].
    ///
    /// # Errors
    /// There is no listener, or no thread or runtime is to be had.
    pub fn start_on(cloud: Cloud, listeners: Vec<TcpListener>) -> io::Result<Self> {
        let first = listeners.first().ok_or_else(|| io::Error::other("no listener to serve on"))?;
        let address = first.local_addr()?;
        let cloud = Arc::new(Mutex::new(cloud));
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let shared = Arc::clone(&cloud);
        let thread = std::thread::Builder::new()
            .name("vpcsim-api".to_owned())
            .spawn(move || runtime.block_on(run(shared, listeners, stopped)))?;
        Ok(Self { address, cloud, stop, thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// For `AWS_ENDPOINT_URL_EC2`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The cloud behind it: to set trouble, to run instances, to look at the truth. Calls wait while this is held.
    pub fn cloud(&self) -> MutexGuard<'_, Cloud> {
        self.cloud.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Standalone {
    fn drop(&mut self) {
        // Fails only if the thread has ended already.
        self.stop.send(true).unwrap_or_default();
        match self.thread.take().map(JoinHandle::join) {
            None | Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => tracing::error!(cause = %error, "the API server failed"),
            Some(Err(_)) => tracing::error!("the API server's thread failed"),
        }
    }
}

async fn run(
    cloud: Arc<Mutex<Cloud>>,
    listeners: Vec<TcpListener>,
    stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    let until_stopped = |mut stopped: watch::Receiver<bool>| async move {
        if stopped.wait_for(|stop| *stop).await.is_err() {
            tracing::debug!("the sender of the stop is gone: that is a stop, too");
        }
    };
    let mut servers = tokio::task::JoinSet::new();
    for listener in listeners {
        servers.spawn(serve(listener, Arc::clone(&cloud), until_stopped(stopped.clone())));
    }
    keep_time(cloud, until_stopped(stopped)).await;
    while let Some(served) = servers.join_next().await {
        served.map_err(io::Error::other)??;
    }
    Ok(())
}
