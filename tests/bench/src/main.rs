//! `podwire-bench`: figures in named sections, each beside what it must reach. `scripts/bench` builds and runs it.
//!
//! A section measures one thing, brings up what it needs and takes it down again; it keeps its numbers in [`Figures`].
//! To add one: a module with `pub(crate) fn run(figures: &mut Figures) -> anyhow::Result<()>`, and its line in [`SECTIONS`].

mod account;
mod boot;
mod burst;
mod busy;
mod decision;
mod deletion;
mod figures;
mod floor;
mod forward;
mod frugality;
mod full_node;
mod handle;
mod many;
mod node;
mod one;
mod plugin;
mod rounds;
mod stage;
mod tcp;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Parser;
use podwire_e2e::report::say;

use figures::Figures;

/// Measures podwire beside the kernel's floor, in one run on one machine.
#[derive(Debug, Parser)]
#[command(name = "scripts/bench")]
struct Options {
    /// Fewer rounds; each section says what it leaves out.
    #[arg(long)]
    quick: bool,
    /// Only this section (may be given several times).
    #[arg(long, value_name = "SECTION")]
    only: Vec<String>,
    /// List the sections and end.
    #[arg(long)]
    list: bool,
    /// Write the figures as one flat JSON object.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One thing that is measured.
struct Section {
    /// What `--only` takes.
    name: &'static str,
    /// One line for people.
    about: &'static str,
    /// Measures.
    run: fn(&mut Figures) -> anyhow::Result<()>,
}

/// Every section, in the order they run.
const SECTIONS: &[Section] = &[
    Section {
        name: "one",
        about: "ADD and DEL one by one beside the floor; the plugin's size",
        run: one::run,
    },
    Section { name: "burst", about: "30 ADDs and 30 DELs at once beside thirty floors", run: burst::run },
    Section { name: "deletion", about: "100 DELs at once beside one-by-one deletion", run: deletion::run },
    Section {
        name: "account",
        about: "200 daemons at once against one account; calls of an idle day (virtual clock)",
        run: account::run,
    },
    Section { name: "many", about: "growth to 250 pods, and all of them deleted at once", run: many::run },
    Section { name: "busy", about: "110 ADDs at once while every processor is busy", run: busy::run },
    Section {
        name: "forward",
        about: "cost of a pod's packet with 1, 250 and 737 pods, beside a rule for each pod",
        run: forward::run,
    },
    Section {
        name: "tcp",
        about: "TCP between pods of two nodes, beside plain routes and beside the nodes",
        run: tcp::run,
    },
    Section {
        name: "handle",
        about: "one call of the pool, on an empty and on a full node",
        run: handle::run,
    },
    Section { name: "decision", about: "one durable ADD decision, ledger on tmpfs", run: decision::run },
    Section { name: "frugality", about: "addresses held and waits in the what-if", run: frugality::run },
    Section {
        name: "boot",
        about: "EC2 calls of a boot, and start of ipamd to its first ADD",
        run: boot::run,
    },
];

fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        for section in SECTIONS {
            say(&format!("{:<10} {}", section.name, section.about));
        }
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scripts/bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the sections asked for; one that fails does not keep the others from being measured.
fn run(options: &Options) -> anyhow::Result<()> {
    let known = |name: &String| SECTIONS.iter().any(|s| s.name == name);
    if let Some(unknown) = options.only.iter().find(|name| !known(name)) {
        bail!("there is no section {unknown}; --list lists them");
    }
    let mut figures = Figures::new(options.quick);
    let mut failed = Vec::new();
    for section in SECTIONS {
        if !options.only.is_empty() && !options.only.iter().any(|name| name == section.name) {
            continue;
        }
        say(&format!("[{}] {}", section.name, section.about));
        if let Err(error) = (section.run)(&mut figures) {
            eprintln!("[{}] failed: {error:#}", section.name);
            failed.push(section.name);
        }
    }
    say(&format!("\n{}\n{}", figures.table(), figures.count()));
    if let Some(path) = &options.json {
        figures.write(path)?;
    }
    if !failed.is_empty() {
        bail!("not measured to the end: {}", failed.join(", "));
    }
    Ok(())
}
