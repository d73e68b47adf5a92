//! Who called what, when, and how it ended: the oracle's memory.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::ids::InstanceId;
use super::time::Millis;

/// Calls kept one by one; older ones live on in the counters.
const KEPT: usize = 100_000;

/// Who makes a call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Caller {
    /// The access key that the request is signed with.
    pub access_key: String,
    /// The instance whose role the key is of; `None`: someone outside.
    pub instance: Option<InstanceId>,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done and answered.
    Done,
    /// Refused with this code.
    Refused(String),
    /// Done, but the answer was lost on purpose.
    DoneUnanswered,
    /// Not done, and never answered, on purpose.
    Swallowed,
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRecord {
    /// When it arrived.
    pub at: Millis,
    /// The action, for example `CreateNetworkInterface`.
    pub action: String,
    /// Whether the action changes anything.
    pub mutating: bool,
    /// Who called.
    pub caller: Caller,
    /// The request's id, as in the answer.
    pub request: String,
    /// How it ended.
    pub outcome: Outcome,
}

/// Counters of one action.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ActionCount {
    /// Whether the action changes anything.
    pub mutating: bool,
    /// Calls in all.
    pub calls: u64,
    /// Calls that took effect (or were read), answered or not.
    pub done: u64,
    /// Refusals by code.
    pub refused: BTreeMap<String, u64>,
    /// Calls that got no answer.
    pub unanswered: u64,
}

/// The memory of calls.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    calls: VecDeque<CallRecord>,
    counts: BTreeMap<String, ActionCount>,
}

impl History {
    pub(crate) fn add(&mut self, call: CallRecord) {
        let count = self.counts.entry(call.action.clone()).or_default();
        count.mutating = call.mutating;
        count.calls += 1;
        match &call.outcome {
            Outcome::Done => count.done += 1,
            Outcome::Refused(code) => *count.refused.entry(code.clone()).or_default() += 1,
            Outcome::DoneUnanswered => {
                count.done += 1;
                count.unanswered += 1;
            }
            Outcome::Swallowed => count.unanswered += 1,
        }
        if self.calls.len() == KEPT {
            self.calls.pop_front();
        }
        self.calls.push_back(call);
    }

    pub(crate) fn calls(&self) -> impl DoubleEndedIterator<Item = &CallRecord> {
        self.calls.iter()
    }

    pub(crate) fn counts(&self) -> &BTreeMap<String, ActionCount> {
        &self.counts
    }

    pub(crate) fn clear(&mut self) {
        self.calls.clear();
        self.counts.clear();
    }
}
