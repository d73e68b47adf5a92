//! Logs of the daemon: JSON lines, to where the incumbent's variables say.
//!
//! *Why a thread writes them*: the daemon lives on one, and a log that takes nothing, on a frozen disk or in a pipe nobody
//! reads, must hold up no pod. What does not fit into the queue is lost, and that is told.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use podwire_config::settings::observe::{LogLevel, LogTarget, Observe};
use podwire_config::{Finding, Severity};
use tracing::Level;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};

/// Size at which the file is set aside; one older file is kept. *Source*: incumbent-behaviour §2.8, 100 MB.
const SIZE_MAX: u64 = 100 << 20;
/// Lines that may wait to be written. *Source*: our choice; some 4 MiB, minutes of a busy node.
const QUEUE: usize = 8192;
/// How often the file is looked for at its path. *Source*: our choice; one stat(2).
const LOOK: Duration = Duration::from_secs(5);
/// How often lost lines are told. *Source*: our choice.
const TELL_LOST: Duration = Duration::from_secs(10);

/// A log that is written. What was said is out when this is dropped, unless nobody takes it for a second.
#[derive(Debug)]
pub struct Logging {
    _writer: WorkerGuard,
    lost: ErrorCounter,
}

/// Starts logging.
///
/// # Errors
/// The log file cannot be opened.
pub fn start(settings: &Observe) -> anyhow::Result<Logging> {
    let out: Box<dyn Write + Send> = match &settings.log {
        LogTarget::Stdout => Box::new(io::stdout()),
        LogTarget::Stderr => Box::new(io::stderr()),
        LogTarget::File(path) => {
            let file = LogFile::open(path, SIZE_MAX);
            Box::new(file.with_context(|| {
                format!(
                    "cannot log to {}; set AWS_VPC_K8S_CNI_LOG_FILE to a path that can be written",
                    path.display()
                )
            })?)
        }
    };
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(QUEUE).thread_name("log").finish(out);
    let lost = writer.error_counter();
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
    logging.try_init().map_err(|error| anyhow::anyhow!("logging cannot be started: {error}"))?;
    Ok(Logging { _writer: guard, lost })
}

impl Logging {
    /// Tells from time to time how many lines were lost.
    pub fn tell_losses(&self) -> impl Future<Output = ()> + use<> {
        let counter = self.lost.clone();
        async move {
            let mut told = 0;
            loop {
                tokio::time::sleep(TELL_LOST).await;
                let lost = counter.dropped_lines();
                if lost > told {
                    tracing::warn!(lines = lost - told, "log lines were lost: the log took none for a while");
                }
                told = lost;
            }
        }
    }
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

/// A file that is set aside when it has grown.
#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
    size_max: u64,
    /// When it was last seen to be the file at its path.
    looked: Instant,
}

impl LogFile {
    fn open(path: &Path, size_max: u64) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let file = File::options().create(true).append(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, size, size_max, looked: Instant::now() })
    }

    /// Goes on in a new file; where that cannot be made, in the old one.
    fn turn_over(&mut self) {
        let mut aside = self.path.clone().into_os_string();
        aside.push(".1");
        match fs::rename(&self.path, aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => self.size = 0,
            // Where there is none, somebody removed it, or the last new one could not be made.
            Ok(()) | Err(_) => self.reopen(),
        }
    }

    fn reopen(&mut self) {
        match Self::open(&self.path, self.size_max) {
            Ok(new) => *self = new,
            Err(_) => self.size = 0,
        }
    }

    /// Others remove logs, or rename them: what went on into such a file would be seen by nobody, and fill the disk.
    fn look(&mut self) {
        self.looked = Instant::now();
        let id = |of: fs::Metadata| (of.dev(), of.ino());
        let there = fs::metadata(&self.path).map(id).ok();
        if there.is_none() || there != self.file.metadata().map(id).ok() {
            self.reopen();
        }
    }
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.looked.elapsed() >= LOOK {
            self.look();
        }
        if self.size >= self.size_max {
            self.turn_over();
        }
        let written = self.file.write(line)?;
        self.size = self.size.saturating_add(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_file_is_set_aside_and_one_older_is_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log/ipamd.log");
        let mut log = LogFile::open(&path, 10).expect("opened");
        for line in ["first one\n", "second\n", "third\n", "fourth\n"] {
            log.write_all(line.as_bytes()).expect("written");
        }
        let read = |name: &str| fs::read_to_string(dir.path().join("log").join(name)).expect("there");
        assert_eq!((read("ipamd.log.1"), read("ipamd.log")), ("second\nthird\n".into(), "fourth\n".into()));
        // What an earlier life wrote counts.
        let mut log = LogFile::open(&path, 7).expect("opened");
        log.write_all(b"fifth\n").expect("written");
        assert_eq!((read("ipamd.log.1"), read("ipamd.log")), ("fourth\n".into(), "fifth\n".into()));
    }

    /// Somebody removes the log to free the disk, or has it renamed: it goes on at its path, whether it was full or not.
    #[test]
    fn file_that_others_took_away_is_made_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ipamd.log");
        for (size_max, waits) in [(10, Duration::ZERO), (1000, LOOK)] {
            let mut log = LogFile::open(&path, size_max).expect("opened");
            log.write_all(b"the first line\n").expect("written");
            fs::rename(&path, dir.path().join("elsewhere")).expect("renamed");
            log.looked = log.looked.checked_sub(waits).expect("long after boot");
            log.write_all(b"second\n").expect("written");
            assert_eq!(fs::read_to_string(&path).expect("there"), "second\n");
            fs::remove_file(&path).expect("removed");
        }
    }
}
