//! Files and directories of the node.

use std::path::PathBuf;

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
/// `PODWIRE_LEDGER_DIR`.
pub const PODWIRE_LEDGER_DIR: Knob =
    Knob::strict("PODWIRE_LEDGER_DIR", "/var/run/aws-node/podwire", Kind::Path, "where the ledger lives");

/// The knobs of this group.
pub const KNOBS: &[&Knob] =
    &[&HOST_CNI_CONFDIR_PATH, &HOST_CNI_BIN_PATH, &BACKING_STORE, &PODWIRE_LEDGER_DIR];

/// Files and directories of the node.
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
}

impl Paths {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Self {
        let text = |reader: &mut Reader<'_>, knob| PathBuf::from(reader.text(knob).unwrap_or_default());
        Self {
            cni_conf_dir: text(reader, &HOST_CNI_CONFDIR_PATH),
            cni_bin_dir: text(reader, &HOST_CNI_BIN_PATH),
            backing_store: text(reader, &BACKING_STORE),
            ledger_dir: reader.path(&PODWIRE_LEDGER_DIR),
        }
    }
}
