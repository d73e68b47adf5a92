//! The command line.

mod ask;
mod down;
mod exec;
mod fault;
mod print;
mod up;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

pub(crate) use print::complain;

/// A VPC of real Linux parts: EC2 and instance metadata servers, nodes as namespaces, ENIs that hot-plug.
#[derive(Debug, Parser)]
#[command(name = "vpcsim", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring a VPC up and serve it until Ctrl-C or `vpcsim down`.
    Up(Up),
    /// Take a VPC down, or clear away what a killed one left.
    Down(Down),
    /// Show a running VPC.
    Status {
        #[command(flatten)]
        lab: LabName,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Add, reboot or remove nodes of a running VPC.
    #[command(subcommand)]
    Node(Node),
    /// Run a command in a node (or in `fabric`, `internet`) of a running VPC.
    Exec(Exec),
    /// Print the environment for AWS clients: `eval "$(vpcsim env)"`.
    Env {
        #[command(flatten)]
        lab: LabName,
        /// For a program that runs in a node: its endpoint, and keys from its metadata service.
        #[arg(long)]
        node: bool,
    },
    /// Set and clear trouble: throttling, latencies, lost replies, lag, denied actions.
    #[command(subcommand)]
    Fault(Fault),
    /// Show EC2 calls so far, by action.
    Calls {
        #[command(flatten)]
        lab: LabName,
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// Forget them afterwards.
        #[arg(long)]
        reset: bool,
        /// Show the last so many calls one by one, as JSON lines.
        #[arg(long, value_name = "COUNT", conflicts_with_all = ["json", "reset"])]
        last: Option<usize>,
    },
    /// Serve EC2's API alone: no root, no kernel devices, no nodes.
    ApiOnly {
        /// Where to listen.
        #[arg(long, default_value = "127.0.0.1:8581")]
        listen: SocketAddr,
        /// The VPC (JSON, a lab's spec); its nodes run as instances.
        #[arg(long, value_name = "FILE")]
        spec: Option<PathBuf>,
    },
}

/// Which VPC.
#[derive(Debug, Args)]
struct LabName {
    /// Name of the VPC on this machine.
    #[arg(long, default_value = "vpcsim", env = "VPCSIM_NAME")]
    name: String,
}

#[derive(Debug, Args)]
struct Up {
    /// Name of the VPC on this machine; several may run at once.
    #[arg(long, env = "VPCSIM_NAME")]
    name: Option<String>,
    /// The whole lab as JSON; `-` reads stdin. Without it: 10.0.0.0/16 with two subnets in two zones.
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
    /// Boot so many nodes, node-1, node-2, …; the subnets take turns.
    #[arg(long, default_value_t = 0)]
    nodes: u32,
    /// Type of these nodes: decides how many ENIs and addresses they may have.
    #[arg(long, default_value = "m5.large")]
    instance_type: String,
    /// Give each of these nodes so many /28 prefixes at launch.
    #[arg(long, default_value_t = 0)]
    launch_prefixes: u32,
    /// How long EC2 takes for what it does.
    #[arg(long, value_enum, default_value_t = up::Mode::Usual)]
    mode: up::Mode,
    /// Where EC2's API listens on this machine; port 0 takes a free one.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Return when everything is up; `vpcsim down` ends it.
    #[arg(long)]
    detach: bool,
}

#[derive(Debug, Args)]
struct Down {
    #[command(flatten)]
    lab: LabName,
    /// Every VPC that runs by `vpcsim up`, and all leftovers.
    #[arg(long)]
    all: bool,
    /// Kill a server that does not answer, or a process that owns the VPC without being one.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Subcommand)]
enum Node {
    /// Run an instance and boot its node.
    Add {
        #[command(flatten)]
        lab: LabName,
        /// Name and hostname.
        node: String,
        /// Instance type.
        #[arg(long, default_value = "m5.large")]
        instance_type: String,
        /// Subnet: id or CIDR; the next in turn without it.
        #[arg(long, default_value = "")]
        subnet: String,
        /// /28 prefixes at launch.
        #[arg(long, default_value_t = 0)]
        launch_prefixes: u32,
    },
    /// End everything on a node and boot it again: an empty /run, another boot id, the same disk and ENIs.
    Reboot {
        #[command(flatten)]
        lab: LabName,
        /// Its name.
        node: String,
    },
    /// Terminate a node's instance and end the node with all that runs in it.
    Rm {
        #[command(flatten)]
        lab: LabName,
        /// Its name.
        node: String,
    },
}

#[derive(Debug, Args)]
struct Exec {
    #[command(flatten)]
    lab: LabName,
    /// In this network namespace of the node (a name under its /run/netns).
    #[arg(long, value_name = "NAME")]
    netns: Option<String>,
    /// The node, or `fabric`, or `internet`.
    node: String,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

#[derive(Debug, Subcommand)]
enum Fault {
    /// From now on this trouble and no other: JSON text, `@FILE`, or `-` for stdin.
    Set {
        #[command(flatten)]
        lab: LabName,
        /// Trouble settings.
        settings: String,
    },
    /// Change what is set by a JSON merge patch (RFC 7396): JSON text, `@FILE`, or `-`.
    Patch {
        #[command(flatten)]
        lab: LabName,
        /// The patch.
        settings: String,
    },
    /// EC2's ordinary latencies and token buckets, nothing wrong.
    Ordinary {
        #[command(flatten)]
        lab: LabName,
    },
    /// No trouble at all.
    Clear {
        #[command(flatten)]
        lab: LabName,
    },
    /// Print what is set, as JSON.
    Show {
        #[command(flatten)]
        lab: LabName,
    },
}

/// Does what the arguments say.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            error.print()?;
            return Ok(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)));
        }
    };
    match cli.command {
        Command::Up(up) => up::up(up)?,
        Command::Down(down) => down::down(&down)?,
        Command::Status { lab, json } => ask::status(&lab.name, json)?,
        Command::Node(Node::Add { lab, node, instance_type, subnet, launch_prefixes }) => {
            ask::add_node(&lab.name, &node, &instance_type, &subnet, launch_prefixes)?;
        }
        Command::Node(Node::Reboot { lab, node }) => ask::reboot_node(&lab.name, &node)?,
        Command::Node(Node::Rm { lab, node }) => ask::remove_node(&lab.name, &node)?,
        Command::Exec(arguments) => exec::exec(&arguments)?,
        Command::Env { lab, node } => ask::env(&lab.name, node)?,
        Command::Fault(fault) => fault::fault(&fault)?,
        Command::Calls { lab, last: Some(count), .. } => ask::last_calls(&lab.name, count)?,
        Command::Calls { lab, json, reset, last: None } => ask::calls(&lab.name, json, reset)?,
        Command::ApiOnly { listen, spec } => up::api_only(listen, spec.as_deref())?,
    }
    Ok(ExitCode::SUCCESS)
}
