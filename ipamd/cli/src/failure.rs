//! Why a command cannot tell, and the exit codes.

use std::path::PathBuf;

use podwire_ledger::ViewError;

/// Why there is no answer. Every text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nobody listens.
    #[error("no daemon answers on {}; look at its log (/var/log/aws-routed-eni/ipamd.log), or use `podwire ledger`, which needs none", .0.display())]
    NoDaemon(PathBuf, #[source] tonic::transport::Error),
    /// It does not answer as it should.
    #[error("the daemon on {} does not tell: {}; is it older than this command? `podwire ledger` needs no daemon", .0.display(), .1)]
    Refused(PathBuf, String),
    /// It takes too long.
    #[error("the daemon on {} does not answer within {} s; its log tells why, `podwire ledger` needs no daemon", .0.display(), .1)]
    Late(PathBuf, u64),
    /// It cannot tell now.
    #[error("the daemon cannot tell now: {0}")]
    Cannot(String),
    /// The ledger cannot be shown.
    #[error(transparent)]
    Ledger(#[from] ViewError),
    /// Nothing is known of it.
    #[error("nothing is known of {0} in this boot; `podwire pods` lists pods, `podwire ledger` addresses")]
    Unknown(String),
    /// The output cannot be written.
    #[error("cannot write the answer")]
    Output(#[from] std::io::Error),
}

/// How a command ended that told what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All is well.
    Well,
    /// The node is in trouble.
    Trouble,
}

impl Verdict {
    /// Its exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Well => 0,
            Self::Trouble => 3,
        }
    }
}
