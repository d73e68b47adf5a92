//! Files, directories, sockets and names of the node.

use std::path::PathBuf;

use crate::finding::MistakeKind;
use crate::knob::{Kind, Knob};
use crate::reader::Reader;

/// `HOST_CNI_CONFDIR_PATH`.
pub const HOST_CNI_CONFDIR_PATH: Knob = Knob::lenient(
    "HOST_CNI_CONFDIR_PATH",
    "/host/etc/cni/net.d",
    Kind::Text,
    "where 10-aws.conflist is installed",
);
/// `HOST_CNI_BIN_PATH`.
pub const HOST_CNI_BIN_PATH: Knob =
    Knob::lenient("HOST_CNI_BIN_PATH", "/host/opt/cni/bin", Kind::Text, "where plugins are installed");
/// `AWS_VPC_K8S_CNI_BACKING_STORE`.
pub const BACKING_STORE: Knob = Knob::lenient(
    "AWS_VPC_K8S_CNI_BACKING_STORE",
    "/var/run/aws-node/ipam.json",
    Kind::Text,
    "the incumbent's checkpoint: read on first start, kept up to date beside the ledger",
);
/// `MY_NODE_NAME`.
pub const MY_NODE_NAME: Knob =
    Knob::lenient("MY_NODE_NAME", "", Kind::Text, "this node's name in Kubernetes");
/// `PODWIRE_LEDGER_DIR`.
pub const PODWIRE_LEDGER_DIR: Knob =
    Knob::strict("PODWIRE_LEDGER_DIR", "/var/run/aws-node/podwire", Kind::Path, "where the ledger lives");
/// `PODWIRE_SOCKET`.
pub const PODWIRE_SOCKET: Knob = Knob::strict(
    "PODWIRE_SOCKET",
    "/var/run/aws-node/ipamd.sock",
    Kind::Path,
    "the socket the plugin calls; the plugin looks in the default place only",
);

/// The knobs of this group.
pub const KNOBS: &[&Knob] = &[
    &HOST_CNI_CONFDIR_PATH,
    &HOST_CNI_BIN_PATH,
    &BACKING_STORE,
    &MY_NODE_NAME,
    &PODWIRE_LEDGER_DIR,
    &PODWIRE_SOCKET,
];

/// Longest path of a Unix socket. *Unit* bytes. *Source*: sun_path in sockaddr_un, unix(7): 108 with the final NUL.
const SOCKET_PATH_MAX: usize = 107;

/// Files, directories, sockets and names of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Where the conflist is installed.
    pub cni_conf_dir: PathBuf,
    /// Where plugins are installed.
    pub cni_bin_dir: PathBuf,
    /// The incumbent's checkpoint.
    pub backing_store: PathBuf,
    /// Where the ledger lives.
    pub ledger_dir: PathBuf,
    /// The socket the plugin calls.
    pub socket: PathBuf,
    /// This node's name in Kubernetes, where told.
    pub node_name: Option<String>,
}

impl Paths {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Self {
        let text = |reader: &mut Reader<'_>, knob| PathBuf::from(reader.text(knob).unwrap_or_default());
        Self {
            cni_conf_dir: text(reader, &HOST_CNI_CONFDIR_PATH),
            cni_bin_dir: text(reader, &HOST_CNI_BIN_PATH),
            backing_store: text(reader, &BACKING_STORE),
            ledger_dir: reader.path(&PODWIRE_LEDGER_DIR),
            socket: socket(reader),
            node_name: reader.text(&MY_NODE_NAME),
        }
    }
}

fn socket(reader: &mut Reader<'_>) -> PathBuf {
    let path = reader.path(&PODWIRE_SOCKET);
    let length = path.as_os_str().len();
    if length > SOCKET_PATH_MAX {
        let what = format!("the path has {length} bytes, a Unix socket takes {SOCKET_PATH_MAX}");
        reader.refuse(MistakeKind::Podwire, &PODWIRE_SOCKET, what, "use a shorter path");
    }
    path
}
