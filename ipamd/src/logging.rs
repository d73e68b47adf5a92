//! Logs of the daemon: JSON lines, to where the incumbent's variables say.

use std::fs::File;
use std::sync::Mutex;

use anyhow::Context;
use podwire_config::settings::observe::{LogLevel, LogTarget, Observe};
use podwire_config::{Finding, Severity};
use tracing::Level;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// Starts logging.
///
/// # Errors
/// The log file cannot be opened.
pub fn start(settings: &Observe) -> anyhow::Result<()> {
    let writer = match &settings.log {
        LogTarget::Stdout => BoxMakeWriter::new(std::io::stdout),
        LogTarget::Stderr => BoxMakeWriter::new(std::io::stderr),
        LogTarget::File(path) => {
            let cannot = || {
                format!(
                    "cannot log to {}; set AWS_VPC_K8S_CNI_LOG_FILE to a path that can be written",
                    path.display()
                )
            };
            if let Some(dir) = path.parent() {
                std::fs::create_dir_all(dir).with_context(cannot)?;
            }
            let file = File::options().create(true).append(true).open(path).with_context(cannot)?;
            BoxMakeWriter::new(Mutex::new(file))
        }
    };
    let level = match settings.log_level {
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Info => Level::INFO,
        LogLevel::Warn => Level::WARN,
        LogLevel::Error | LogLevel::Fatal => Level::ERROR,
    };
    // Libraries below us say nothing at debug that an operator can use.
    let filter =
        tracing_subscriber::EnvFilter::new(format!("warn,podwire_ipamd={level},podwire_ec2={level}"));
    let logging =
        tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).with_writer(writer);
    logging.try_init().map_err(|error| anyhow::anyhow!("logging cannot be started: {error}"))
}

/// Tells one finding about the settings.
pub fn tell(finding: &Finding) {
    let (variable, what, fix) = (finding.variable, &finding.what, &finding.fix);
    match finding.severity {
        Severity::Info => tracing::info!(variable, what, fix, "setting"),
        Severity::Warn => tracing::warn!(variable, what, fix, "setting"),
        Severity::Error => tracing::error!(variable, what, fix, "setting"),
    }
}
