//! Questions that only packets answer: does it get through, and what does the other side see.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::ns::Namespaces;

/// How long a probe waits that must find silence. Our choice.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// How long a probe waits for what must come, on a busy machine, too. Our choice: beyond TCP's first repetitions of a lost
/// packet, after 1 and 3 s.
pub const SURE: Duration = Duration::from_secs(5);

/// Sends echo requests of `size` bytes payload that must not be fragmented, until one is answered; whether one was.
///
/// # Errors
/// `ping` is not installed or the namespace is gone; a probe that cannot run proves nothing.
pub fn ping(from: &Namespaces, source: Option<IpAddr>, to: IpAddr, size: u16) -> anyhow::Result<bool> {
    // ping(8): with a deadline it sends until so many are answered.
    echo_request(from, &["-c1", "-i0.2", &format!("-w{}", SURE.as_secs())], source, to, size)
}

/// Sends one such echo request; whether it stays without an answer.
///
/// # Errors
/// As [`ping`].
pub fn silent(from: &Namespaces, source: Option<IpAddr>, to: IpAddr, size: u16) -> anyhow::Result<bool> {
    let one = ["-c1", &format!("-W{}", PATIENCE.as_secs())];
    Ok(!echo_request(from, &one, source, to, size)?)
}

fn echo_request(
    from: &Namespaces,
    how: &[&str],
    source: Option<IpAddr>,
    to: IpAddr,
    size: u16,
) -> anyhow::Result<bool> {
    let mut ping = from.command("ping");
    ping.args(["-n", "-q", "-M", "do", "-s"]).arg(size.to_string()).args(how);
    if let Some(source) = source {
        ping.arg("-I").arg(source.to_string());
    }
    let output = ping.arg(to.to_string()).output().context("cannot run ping; install iputils-ping")?;
    // ping(8): 0 answered, 1 no answer, 2 any other error.
    match output.status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        other => {
            let why = String::from_utf8_lossy(&output.stderr);
            // The kernel refuses at once where there is no route.
            if why.contains("nreachable") {
                Ok(false)
            } else {
                bail!("ping ended with {other:?}: {}", why.trim())
            }
        }
    }
}

/// Whether a TCP connection comes about and echoes. The other side is an [`Echo`] or the internet host.
///
/// # Errors
/// The namespace is gone.
pub fn tcp(from: &Namespaces, to: SocketAddr) -> anyhow::Result<bool> {
    Ok(from.enter(|| greeting(to, SURE))?.is_ok())
}

/// Whether no TCP connection comes about.
///
/// # Errors
/// The namespace is gone.
pub fn closed(from: &Namespaces, to: SocketAddr) -> anyhow::Result<bool> {
    Ok(from.enter(|| greeting(to, PATIENCE))?.is_err())
}

/// The address (and port) by which an [`Echo`] or the internet host sees a caller.
///
/// # Errors
/// It cannot be reached from there.
pub fn seen_as(from: &Namespaces, to: SocketAddr) -> anyhow::Result<SocketAddr> {
    from.enter(|| greeting(to, SURE))?.with_context(|| format!("cannot reach {to}"))
}

/// Connects, reads who it is taken for, and has a line echoed.
fn greeting(to: SocketAddr, patience: Duration) -> anyhow::Result<SocketAddr> {
    let mut stream = TcpStream::connect_timeout(&to, patience)?;
    stream.set_read_timeout(Some(patience))?;
    let mut lines = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    lines.read_line(&mut line)?;
    let (address, port) = line.trim().split_once(' ').context("no greeting")?;
    stream.write_all(b"ping")?;
    let mut echo = [0; 4];
    lines.read_exact(&mut echo)?;
    if &echo != b"ping" {
        bail!("not echoed");
    }
    Ok(SocketAddr::new(address.parse()?, port.parse()?))
}

/// A server that tells each caller the caller's address and port, one line, then echoes. Ends when dropped.
#[derive(Debug)]
pub struct Echo {
    listener: TcpListener,
    thread: Option<thread::JoinHandle<()>>,
}

impl Echo {
    /// Listens inside `namespaces`.
    ///
    /// # Errors
    /// The address is not there or taken.
    pub fn start(namespaces: &Namespaces, at: SocketAddr) -> anyhow::Result<Self> {
        let listener = namespaces.enter(|| TcpListener::bind(at))?;
        let listener = listener.with_context(|| format!("cannot listen on {at}"))?;
        let accepting = listener.try_clone()?;
        let thread = thread::Builder::new().name("echo".to_owned()).spawn(move || {
            // Shutting the listener down makes accept fail.
            while let Ok((caller, peer)) = accepting.accept() {
                if let Err(error) = answer(caller, peer) {
                    tracing::debug!(%error, %peer, "an echo caller left early");
                }
            }
        })?;
        Ok(Self { listener, thread: Some(thread) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        if let Err(error) = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both) {
            tracing::warn!(%error, "cannot end an echo server");
            return;
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::warn!("an echo server panicked");
        }
    }
}

/// One caller at a time, for at most [`SURE`] of silence.
fn answer(mut caller: TcpStream, peer: SocketAddr) -> std::io::Result<()> {
    caller.set_read_timeout(Some(SURE))?;
    writeln!(caller, "{} {}", peer.ip(), peer.port())?;
    let mut buffer = [0; 4096];
    loop {
        match caller.read(&mut buffer)? {
            0 => return Ok(()),
            length => caller.write_all(&buffer[..length])?,
        }
    }
}
