//! `ipamd`: reads its settings, sets up logging and signals, runs the daemon.
//!
//! Exit codes: 0 after a signal; 1 when something without which it cannot serve is missing, or where the incumbent exits
//! with 1; 2 when settings of ours are wrong, with every mistake listed.

use std::process::ExitCode;

use podwire_config::settings::unknown_names;
use podwire_config::{Environment, Mistakes, Parsed, Settings};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let parsed = match settings() {
        Ok(parsed) => parsed,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return ExitCode::from(mistakes.exit_code());
        }
    };
    let logging = match podwire_ipamd::logging::start(&parsed.settings.observe) {
        Ok(logging) => logging,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    let mut deaths = podwire_ipamd::vital::deaths();
    for finding in &parsed.findings {
        podwire_ipamd::logging::tell(finding);
    }
    // One thread: an ADD then passes from the socket to the driver and back without waking another. What blocks (ledger,
    // host networking, links, log) has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let outcome = runtime.block_on(async {
            let stop = CancellationToken::new();
            // Caught from the first moment: as PID 1 of a container nothing else would end a daemon that waits to start.
            tokio::spawn(cancel_when_terminated(stop.clone()));
            tokio::spawn(logging.tell_losses());
            tokio::select! {
                outcome = podwire_ipamd::daemon::run(parsed.settings, stop) => outcome,
                // What only that thread does nobody does any more, and who waits for it waits in vain.
                Some(death) = deaths.recv() => Err(anyhow::anyhow!("{death}; starting again from the ledger is safe")),
            }
        });
        runtime.shutdown_timeout(std::time::Duration::from_secs(1));
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "ipamd ends");
            eprintln!("ipamd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// All settings, or all mistakes in them; a misspelled name of ours is one.
fn settings() -> Result<Parsed, Mistakes> {
    let names = Environment::names();
    let unknown = unknown_names(names.iter().map(String::as_str));
    let parsed = Settings::parse(&Environment);
    if unknown.is_empty() {
        return parsed;
    }
    let mut wrong = match parsed {
        Ok(parsed) => Mistakes { mistakes: Vec::new(), findings: parsed.findings },
        Err(mistakes) => mistakes,
    };
    wrong.mistakes.extend(unknown);
    Err(wrong)
}

/// Cancels at SIGTERM or SIGINT.
async fn cancel_when_terminated(stop: CancellationToken) {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be caught; only SIGKILL will end this daemon");
        return;
    };
    tokio::select! { _ = term.recv() => {} _ = int.recv() => {} }
    stop.cancel();
}
