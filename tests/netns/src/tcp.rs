//! TCP between namespaces: a server that tells each client who it seems to be.

use crate::stage::Ns;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a client waits: beyond TCP's first repetitions of a lost packet. No test waits for a connection that must fail.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server; stops when dropped.
#[derive(Debug)]
pub struct Server {
    thread: Option<JoinHandle<()>>,
    listener: TcpListener,
}

impl Server {
    /// Listens in a namespace and answers each connection with the address it comes from.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn start(ns: &Ns, address: &str) -> Self {
        let listener = ns.within(|| TcpListener::bind(address)).expect(address);
        let accepting = listener.try_clone().expect("a second handle");
        let thread = std::thread::spawn(move || {
            while let Ok((mut stream, client)) = accepting.accept() {
                // Each line gets an answer, so that one connection can be used for long.
                std::thread::spawn(move || {
                    let mut byte = [0];
                    while stream.read(&mut byte).is_ok_and(|n| n == 1) {
                        if stream.write_all(format!("{:>40}", client.ip()).as_bytes()).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self { thread: Some(thread), listener }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Makes the blocked accept return.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Client(TcpStream);

impl Client {
    /// Connects from a namespace.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub fn connect(ns: &Ns, address: &str) -> io::Result<Self> {
        ns.within(|| Self::connect_here(address))
    }

    /// Connects from the calling thread's namespace.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub fn connect_here(address: &str) -> io::Result<Self> {
        let address: SocketAddr = address.parse().map_err(io::Error::other)?;
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }

    /// Asks the server who it takes us for.
    ///
    /// # Errors
    /// No answer arrives.
    pub fn ask(&mut self) -> io::Result<String> {
        self.send()?;
        self.receive()
    }

    /// Sends a question.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send(&mut self) -> io::Result<()> {
        self.0.write_all(b"?")
    }

    /// Waits for the answer to a question.
    ///
    /// # Errors
    /// No answer arrives.
    pub fn receive(&mut self) -> io::Result<String> {
        let mut answer = [0; 40];
        self.0.read_exact(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).trim().to_owned())
    }
}

/// Connects from a namespace and asks once: the source address the server sees.
///
/// # Errors
/// The server cannot be reached, or its answer does not arrive.
pub fn seen_as(ns: &Ns, address: &str) -> io::Result<String> {
    Client::connect(ns, address)?.ask()
}
