//! The driver: one task that owns the pool, and the only caller of `Pool::handle`, with the time from [`clock`].
//!
//! Inputs come in through one bounded queue; effects go out to executors in the order the pool gave them. The driver
//! never waits for an executor: what an executor cannot take now waits in that executor's own queue.

use std::collections::BTreeMap;
use std::time::Duration;

use podwire_pool::{
    Answer, Cause, Collectable, Effect, EniRow, GrowthNow, Input, OpId, Pool, RequestId, SandboxKey,
    Snapshot, Time, Waiting,
};
use podwire_trace::Recording;
use tokio::sync::{mpsc, oneshot};

use crate::clock;
use crate::complaints::{Complaint, Complaints};
use crate::executors::mirror::Holdings;
use crate::executors::{CarryOut, Executors};
use crate::recorder::Recorder;

/// Most messages that wait for the driver. *Source*: our choice; a burst of 250 pods sends a few messages each.
pub const QUEUE: usize = 4096;

/// What the ledger holds for a sandbox.
#[derive(Debug)]
pub struct Inspection {
    /// The allocation.
    pub held: Option<Answer>,
    /// Why the sandbox may be out of reach all the same.
    pub doubt: Option<Cause>,
    /// When the life began that holds an address now or is about to; a DEL that started before is of an earlier one.
    pub began: Option<Time>,
}

/// What reaches the driver.
#[derive(Debug)]
pub enum Message {
    /// A caller asks for something that is answered later.
    Ask {
        /// The input; carries the request's id.
        input: Input,
        /// Its id.
        request: RequestId,
        /// Where the answer goes.
        reply: oneshot::Sender<Answer>,
    },
    /// Something happened.
    Happened(Input),
    /// Somebody looked at the ENIs.
    Saw(Snapshot),
    /// What does the ledger hold for this sandbox?
    Inspect {
        /// Which.
        sandbox: SandboxKey,
        /// Where the answer goes.
        reply: oneshot::Sender<Inspection>,
    },
    /// What would a GC release?
    WouldCollect {
        /// The network.
        network: String,
        /// What the runtime lists.
        valid: Vec<SandboxKey>,
        /// When the GC started.
        started: Time,
        /// Where the answer goes.
        reply: oneshot::Sender<Collectable>,
    },
    /// How are things?
    Status {
        /// Where the answer goes.
        reply: oneshot::Sender<podwire_pool::Stats>,
    },
    /// Which operation was asked for last?
    Newest {
        /// Where the answer goes.
        reply: oneshot::Sender<OpId>,
    },
    /// Who holds what?
    Holdings {
        /// Where the answer goes.
        reply: oneshot::Sender<Holdings>,
    },
    /// What is going on, and why does it not go on?
    Explain {
        /// Where the answer goes.
        reply: oneshot::Sender<Explanation>,
    },
    /// The ledger's file has grown; rewrite it from the present state.
    Compact,
    /// The time for those who wait is over: what is held is written, and the driver ends.
    End,
    /// What happened lately?
    Record {
        /// Where the answer goes; `None` when nothing happened yet.
        reply: oneshot::Sender<Option<Recording>>,
    },
}

/// What is going on, for people.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// When this was so.
    pub now: Time,
    /// Numbers.
    pub stats: podwire_pool::Stats,
    /// How growth stands.
    pub growth: GrowthNow,
    /// Who waits for an address.
    pub waiting: Vec<Waiting>,
    /// The instance's ENIs.
    pub enis: Vec<EniRow>,
    /// What went wrong lately, the latest first.
    pub complaints: Vec<Complaint>,
}

/// Sends messages to the driver.
#[derive(Debug, Clone)]
pub struct Handle {
    sender: mpsc::Sender<Message>,
}

/// The driver is gone: the daemon is ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("ipamd is stopping")]
pub struct Gone;

impl Handle {
    /// Makes the queue.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<Message>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self { sender }, receiver)
    }

    /// Sends a message, waiting while the queue is full.
    ///
    /// # Errors
    /// The driver is gone.
    pub async fn send(&self, message: Message) -> Result<(), Gone> {
        self.sender.send(message).await.map_err(|_| Gone)
    }

    /// Sends from a thread of its own, waiting while the queue is full.
    ///
    /// # Errors
    /// The driver is gone.
    pub fn send_blocking(&self, message: Message) -> Result<(), Gone> {
        self.sender.blocking_send(message).map_err(|_| Gone)
    }

    /// Sends without waiting; for drop guards. A full queue loses the message, which may only be a courtesy. Returns
    /// whether it was taken.
    pub fn try_send(&self, message: Message) -> bool {
        let taken = self.sender.try_send(message).is_ok();
        if !taken {
            tracing::debug!("the driver's queue is full; a courtesy message is dropped");
        }
        taken
    }
}

/// Owns the pool. Its executors are a parameter so that tests and benchmarks can put others in their place.
#[derive(Debug)]
pub struct Driver<E: CarryOut = Executors> {
    pool: Pool,
    recorder: Recorder,
    inbox: mpsc::Receiver<Message>,
    executors: E,
    waiting: BTreeMap<RequestId, oneshot::Sender<Answer>>,
    effects: Vec<Effect>,
    complaints: Complaints,
    on_ready: Option<oneshot::Sender<()>>,
    ready_until: Option<Time>,
}

impl<E: CarryOut> Driver<E> {
    /// Puts the parts together. `on_ready` fires when the first address is usable.
    #[must_use]
    pub fn new(
        pool: Pool,
        recorder: Recorder,
        inbox: mpsc::Receiver<Message>,
        executors: E,
        on_ready: oneshot::Sender<()>,
    ) -> Self {
        Self {
            pool,
            recorder,
            inbox,
            executors,
            waiting: BTreeMap::new(),
            effects: Vec::new(),
            complaints: Complaints::default(),
            on_ready: Some(on_ready),
            ready_until: None,
        }
    }

    /// Has the node count as ready until then, whatever the pool says: it was before this daemon started, and its ENIs only have
    /// to be set up anew.
    #[must_use]
    pub fn ready_until(self, until: Option<Time>) -> Self {
        Self { ready_until: until, ..self }
    }

    /// Runs until every sender is gone or [`Input::Stop`] has been handled and nobody waits any more.
    pub async fn run(mut self) {
        let mut stopping = false;
        loop {
            let nap = self.nap();
            let message = tokio::select! {
                message = self.inbox.recv() => message,
                () = tokio::time::sleep(nap) => Some(Message::Happened(Input::Timer)),
            };
            let Some(message) = message.filter(|message| !matches!(message, Message::End)) else { break };
            stopping |= matches!(message, Message::Happened(Input::Stop));
            self.take(message);
            self.announce();
            if stopping {
                // Those who went away unheard, when the queue was full.
                self.waiting.retain(|_, caller| !caller.is_closed());
                if self.waiting.is_empty() {
                    break;
                }
            }
        }
        self.executors.close(self.pool.holdings());
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Ask { input, request, reply } => {
                self.waiting.insert(request, reply);
                self.handle(input);
            }
            Message::Happened(input) => {
                if let Input::Abandon { request } = &input {
                    // The pool answers it no more.
                    self.waiting.remove(request);
                }
                self.handle(input);
            }
            Message::Saw(mut snapshot) => {
                // What was asked before now is in it or will be; the pool ignores what it knows better.
                snapshot.as_of = snapshot.as_of.min(self.executors.last_op());
                self.handle(Input::Observed(snapshot));
            }
            Message::Inspect { sandbox, reply } => {
                let (held, doubt) = (self.pool.inspect(&sandbox), self.pool.out_of_reach(&sandbox));
                let began = self.pool.began(&sandbox);
                if reply.send(Inspection { held, doubt, began }).is_err() {
                    tracing::debug!("nobody waits for an inspection any more");
                }
            }
            Message::WouldCollect { network, valid, started, reply } => {
                if reply.send(self.pool.collectable(&network, &valid, started)).is_err() {
                    tracing::debug!("nobody waits for a list of what to collect any more");
                }
            }
            Message::Status { reply } => {
                let mut stats = self.pool.stats();
                // A node that has taken pods stays ready though every address is held or cools: an ADD waits, while a node
                // that says it is not ready has its pods evicted (cni-conformance T-09).
                stats.ready |=
                    self.on_ready.is_none() || self.ready_until.is_some_and(|until| clock::now() < until);
                if reply.send(stats).is_err() {
                    tracing::debug!("nobody waits for a status any more");
                }
            }
            Message::Newest { reply } => {
                if reply.send(self.executors.last_op()).is_err() {
                    tracing::debug!("nobody waits for the newest operation any more");
                }
            }
            Message::Holdings { reply } => {
                if reply.send(self.pool.holdings()).is_err() {
                    tracing::debug!("nobody waits for the holdings any more");
                }
            }
            Message::Explain { reply } => {
                if reply.send(self.explanation()).is_err() {
                    tracing::debug!("nobody waits for an explanation any more");
                }
            }
            Message::Compact => self.executors.compact(self.pool.snapshot()),
            // Seen before it comes here.
            Message::End => {}
            Message::Record { reply } => {
                if reply.send(self.recorder.recording(&self.pool)).is_err() {
                    tracing::debug!("nobody waits for a recording any more");
                }
            }
        }
    }

    /// Hands an input to the pool, and whatever happened at once in consequence.
    fn handle(&mut self, input: Input) {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let now = clock::now();
            tracing::trace!(?input, "input");
            let mut effects = std::mem::take(&mut self.effects);
            self.recorder.handle(&mut self.pool, now, input, &mut effects);
            for effect in effects.drain(..) {
                // A later revision on disk means that the earlier ones are.
                next = self.carry_out(effect).or(next);
            }
            self.effects = effects;
        }
    }

    /// Returns what happened at once.
    fn carry_out(&mut self, effect: Effect) -> Option<Input> {
        tracing::trace!(?effect, "effect");
        match effect {
            Effect::Persist { revision, records } => return self.executors.persist(revision, records),
            Effect::Reply { request, answer } => self.reply(request, answer),
            Effect::Ec2 { op, call } => self.executors.ec2(op, call),
            Effect::Host { op, change } => self.executors.host(op, change),
            Effect::Explain(cause) => {
                self.complaints.hear(&cause, clock::now());
                explain(&cause);
            }
        }
        None
    }

    fn reply(&mut self, request: RequestId, answer: Answer) {
        let Some(caller) = self.waiting.remove(&request) else { return };
        if caller.send(answer).is_err() {
            tracing::info!(%request, "the caller went away before its answer; its DEL will give the address back");
        }
    }

    fn explanation(&self) -> Explanation {
        Explanation {
            now: clock::now(),
            stats: self.pool.stats(),
            growth: self.pool.growth_now(),
            waiting: self.pool.waiting_now(),
            enis: self.pool.eni_rows(),
            complaints: self.complaints.latest_first().cloned().collect(),
        }
    }

    /// How long nothing has to be done.
    fn nap(&self) -> Duration {
        // Our choice: wake once a minute even when nothing is due, so that a clock that stood still cannot hang us.
        const LONGEST: Duration = Duration::from_secs(60);
        let due: Option<Time> = self.pool.next_deadline();
        due.map_or(LONGEST, |due| due.since(clock::now()).min(LONGEST))
    }

    fn announce(&mut self) {
        if self.on_ready.is_some()
            && self.pool.stats().ready
            && let Some(ready) = self.on_ready.take()
            && ready.send(()).is_err()
        {
            tracing::debug!("nobody waits for readiness");
        }
    }
}

fn explain(cause: &Cause) {
    tracing::warn!(cause = cause.name(), "{cause}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use podwire_pool::{Ec2Call, HostChange, PodRef, Record, Revision, SandboxKey};
    use podwire_trace::Bounds;

    /// Nothing is ever answered.
    #[derive(Debug)]
    struct Silent;

    impl CarryOut for Silent {
        fn persist(&mut self, _: Revision, _: Vec<Record>) -> Option<Input> {
            None
        }
        fn compact(&mut self, _: Vec<Record>) {}
        fn ec2(&self, _: OpId, _: Ec2Call) {}
        fn host(&self, _: OpId, _: HostChange) {}
        fn last_op(&self) -> OpId {
            OpId(0)
        }
        fn close(self, _: Holdings) {}
    }

    fn add(request: u64) -> Input {
        Input::Allocate {
            request: RequestId(request),
            sandbox: SandboxKey::new(format!("c{request}"), "eth0"),
            pod: PodRef::default(),
            started: clock::now(),
            deadline: clock::now().after(Duration::from_secs(60)),
        }
    }

    /// T-10: a node that was ready when the daemon was restarted stays so for a while, one that was not does not.
    #[tokio::test]
    async fn restarted_node_counts_as_ready_for_a_while() {
        let later = clock::now().after(Duration::from_secs(60));
        for (until, wanted) in [(None, false), (Some(later), true), (Some(clock::now()), false)] {
            let (driver, inbox) = Handle::channel();
            let recorder = Recorder::new("/nonexistent".into(), Bounds::default());
            let pool = Pool::new(crate::start::tests::settings());
            let (on_ready, _ready) = oneshot::channel();
            let started = Driver::new(pool, recorder, inbox, Silent, on_ready).ready_until(until);
            let running = tokio::spawn(started.run());
            let (reply, answer) = oneshot::channel();
            driver.send(Message::Status { reply }).await.expect("taken");
            let stats = tokio::time::timeout(Duration::from_secs(10), answer)
                .await
                .expect("in time")
                .expect("answered");
            assert_eq!(stats.ready, wanted, "{until:?}");
            drop(driver);
            running.await.expect("without a panic");
        }
    }

    /// A plugin that was killed while it waited holds up no stop.
    #[tokio::test]
    async fn caller_that_went_away_holds_up_no_stop() {
        let (driver, inbox) = Handle::channel();
        let recorder = Recorder::new("/nonexistent".into(), Bounds::default());
        let (on_ready, _ready) = oneshot::channel();
        let pool = Pool::new(crate::start::tests::settings());
        let running = tokio::spawn(Driver::new(pool, recorder, inbox, Silent, on_ready).run());
        let (reply, answer) = oneshot::channel();
        let ask = Message::Ask { input: add(1), request: RequestId(1), reply };
        driver.send(ask).await.expect("taken");
        drop(answer);
        for input in [Input::Abandon { request: RequestId(1) }, Input::Stop] {
            driver.send(Message::Happened(input)).await.expect("taken");
        }
        let ended = tokio::time::timeout(Duration::from_secs(10), running).await;
        ended.expect("it stops").expect("without a panic");
    }
}
