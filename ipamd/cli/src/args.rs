//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// What an operator asks.
#[derive(Debug, Parser)]
#[command(name = "podwire", version, about = "What podwire does on this node, and why", after_help = EXIT_CODES)]
pub struct Cli {
    /// Print one JSON document instead of tables.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 it cannot be told (no daemon, no ledger, nothing found); \
2 the command line is wrong; 3 told, and the node is in trouble (status, explain: it cannot serve pods; ledger: the file is damaged; leaks: not all is deleted that was to be).

No command needs the Kubernetes API; leaks alone needs EC2, through the daemon.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// How the node is: addresses, ENIs, growth, what went wrong. Asks the running daemon.
    Status(Socket),
    /// Why the pool does not grow, or why an ADD waits: causes, since when, until when, what to do. Asks the daemon.
    Explain(Socket),
    /// What dead nodes of this cluster left behind in EC2, with a verdict and its proof. Deletes nothing without --delete.
    /// Asks the daemon, which looks at EC2.
    Leaks(Leaks),
    /// What the ledger holds: ENIs, addresses, sandboxes, doubts. Reads the file; needs no daemon.
    Ledger(File),
    /// Which pod holds which address. Reads the ledger's file; needs no daemon.
    Pods(File),
    /// What happened to an address or a pod since the node booted. Reads the ledger's file; needs no daemon.
    History(History),
}

/// Where the daemon listens.
#[derive(Debug, Args)]
pub struct Socket {
    /// The daemon's socket.
    #[arg(long, default_value = podwire_proto::SOCKET_PATH)]
    pub socket: PathBuf,
}

/// What to do with what dead nodes left behind.
#[derive(Debug, Args)]
pub struct Leaks {
    /// Delete the ENIs that are proven to have been left behind, 50 at most.
    #[arg(long)]
    pub delete: bool,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
}

/// Where the ledger is.
#[derive(Debug, Args)]
pub struct File {
    /// The ledger's directory.
    #[arg(long, env = "PODWIRE_LEDGER_DIR", default_value = "/var/run/aws-node/podwire")]
    pub ledger_dir: PathBuf,
    /// A ledger's file, for example one that was set aside.
    #[arg(long)]
    pub file: Option<PathBuf>,
}

impl File {
    /// The path to read.
    #[must_use]
    pub fn path(&self) -> &PathBuf {
        self.file.as_ref().unwrap_or(&self.ledger_dir)
    }
}

/// Whose history.
#[derive(Debug, Args)]
pub struct History {
    /// An address; a pod as namespace/name or name; or the beginning of a container id.
    pub of: String,
    /// Where from.
    #[command(flatten)]
    pub file: File,
}
