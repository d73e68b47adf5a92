//! Trouble on demand: everything that makes the real EC2 hard, off until asked for, seeded and settable while it runs.
//!
//! [`TroubleSettings`] is what the user writes (JSON); [`Trouble`] is that, with what it must remember between calls.
//! It decides, it does not act: the cloud asks it what becomes of a call.

mod bucket;
mod fate;
mod settings;

pub use fate::{Admission, Fate};
pub use settings::{
    Bucket, Iam, ImdsTrouble, Inject, Lag, LostReply, Omission, OmissionKind, Policy, Throttle,
    TroubleSettings,
};

pub(crate) use fate::Trouble;
