//! The host outside the VPC: tells callers which address it sees them by, which proves source NAT.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use anyhow::Context as _;
use ipnetwork::Ipv4Network;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::fabric::{Fabric, IGW};
use crate::ns::{Keeper, Namespaces};
use crate::servers::{Servers, adopt, listen};
use crate::{node, ns, tools};

/// The internet host (TEST-NET-2, RFC 5737).
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// Where the host tells a caller the caller's address and port, one line, then echoes what it is sent.
pub const PORT: u16 = 8080;

/// Rest after a failed accept (out of descriptors), so that it does not spin. Our choice.
const PAUSE: Duration = Duration::from_millis(100);

/// The host behind the VPC's internet gateway.
#[derive(Debug)]
pub struct Internet {
    keeper: Keeper,
}

impl Internet {
    /// Boots the host and links it to the fabric. The gateway translates nothing: the host sees VPC addresses.
    ///
    /// # Errors
    /// Not root, or `ip` refuses.
    pub fn start(
        lab: &str,
        fabric: &Fabric,
        ranges: &[Ipv4Network],
        servers: &Servers,
    ) -> anyhow::Result<Self> {
        let keeper = Keeper::start(&format!("{lab}/internet"), None, || {
            node::fresh_sys()?;
            ns::loopback_up().context("cannot bring lo up")
        })?;
        let pid = keeper.pid();
        fabric.namespaces().enter(|| {
            tools::ip(&format!(
                "link add igw mtu 1500 type veth peer name eth0 mtu 1500 netns {pid}
addr add {IGW}/24 dev igw
link set igw up
route add default via {ADDRESS} dev igw
"
            ))
        })??;
        let mut batch = format!("addr add {ADDRESS}/24 dev eth0\nlink set eth0 up\n");
        for range in ranges {
            batch.push_str(&format!("route add {range} via {IGW}\n"));
        }
        keeper.namespaces().enter(|| tools::ip(&batch))??;
        let listener = listen(keeper.namespaces(), SocketAddrV4::new(ADDRESS, PORT).into())?;
        servers.spawn(serve(listener));
        Ok(Self { keeper })
    }

    /// Its namespaces.
    #[must_use]
    pub fn namespaces(&self) -> &Namespaces {
        self.keeper.namespaces()
    }

    /// Where it answers.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddrV4::new(ADDRESS, PORT).into()
    }
}

async fn serve(listener: std::net::TcpListener) {
    let listener = match adopt(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the internet host cannot serve"),
    };
    loop {
        match listener.accept().await {
            Ok((caller, peer)) => drop(tokio::spawn(answer(caller, peer))),
            Err(error) => {
                tracing::warn!(%error, "the internet host cannot accept");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn answer(mut caller: TcpStream, peer: SocketAddr) {
    let echoed = async {
        caller.write_all(format!("{} {}\n", peer.ip(), peer.port()).as_bytes()).await?;
        let (mut from, mut to) = caller.split();
        tokio::io::copy(&mut from, &mut to).await
    };
    if let Err(error) = echoed.await {
        tracing::debug!(%error, %peer, "an internet caller left early");
    }
}
