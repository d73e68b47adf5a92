//! Pods, their plugins, and what the pool answers them.

use std::net::IpAddr;

use podwire_pool::{Answer, Cause, EniId, Input, RequestId, Time};

use super::World;
use crate::oracle::{Violation, broken};
use crate::runtime::{Ask, Life, Message, key, pod_ref};

impl World {
    pub(super) fn start(&mut self, pod: usize, same: bool) {
        let Some(slot) = self.runtime.pods.get(pod) else { return };
        if slot.life != Life::Idle {
            return;
        }
        if !same {
            self.renew(pod);
        }
        self.marks
            .sometimes("a key comes back", same && self.runtime.pods.get(pod).is_some_and(|p| p.ended > 0));
        self.message(pod, Ask::Add);
    }

    pub(super) fn message(&mut self, pod: usize, ask: Ask) {
        let Some(slot) = self.runtime.pods.get(pod) else { return };
        let add = ask == Ask::Add;
        let message = Message {
            pod,
            key: slot.key.clone(),
            ask,
            started: self.now,
            dead: false,
            again: false,
            arrived: false,
            deadline: self.now + 75_000,
        };
        let request = self.runtime.send(message);
        if let Some(slot) = self.runtime.pods.get_mut(pod) {
            slot.life = if add { Life::Adding(request) } else { Life::Deleting(request) };
        }
    }

    pub(super) fn kill(&mut self, pod: usize) -> Result<(), Violation> {
        let Some(slot) = self.runtime.pods.get_mut(pod) else { return Ok(()) };
        let Life::Adding(request) = slot.life else { return Ok(()) };
        slot.life = Life::Failed;
        let Some(message) = self.runtime.messages.get_mut(&request) else { return Ok(()) };
        message.dead = true;
        if message.arrived && request.0 % 2 == 0 {
            self.runtime.messages.remove(&request);
            return self.input(Input::Abandon { request });
        }
        Ok(())
    }

    pub(super) fn stop(&mut self, pod: usize) {
        if self.runtime.asked_again(pod) {
            return;
        }
        let Some(slot) = self.runtime.pods.get_mut(pod) else { return };
        match slot.life {
            Life::Live(ip) => {
                self.oracle.rests.insert(ip, self.now);
            }
            Life::Failed => {}
            Life::Idle | Life::Adding(_) | Life::Deleting(_) | Life::Deleted => return,
        }
        slot.ended = self.now;
        self.message(pod, Ask::Del);
    }

    pub(super) fn again(&mut self, pod: usize) {
        let Some(slot) = self.runtime.pods.get_mut(pod) else { return };
        if slot.life == Life::Deleted {
            slot.ended = self.now;
            self.message(pod, Ask::Del);
        }
    }

    pub(super) fn forget(&mut self, pod: usize) {
        let Some(slot) = self.runtime.pods.get_mut(pod) else { return };
        if slot.life == Life::Deleted {
            slot.life = Life::Idle;
        }
    }

    pub(super) fn repeat(&mut self, pod: usize) {
        let Some(slot) = self.runtime.pods.get(pod) else { return };
        if !lives(&slot.life) || self.runtime.asked_again(pod) {
            return;
        }
        let message = Message {
            pod,
            key: slot.key.clone(),
            ask: Ask::Repeat,
            started: self.now,
            dead: false,
            again: false,
            arrived: false,
            deadline: self.now + 75_000,
        };
        self.runtime.send(message);
    }

    pub(super) fn gc(&mut self) {
        // The runtime holds ADD and DEL back during GC (cni-conformance G-09).
        let busy = self.runtime.pods.iter().any(|p| matches!(p.life, Life::Adding(_) | Life::Deleting(_)));
        if busy || self.runtime.messages.values().any(|m| m.ask == Ask::Repeat) {
            return;
        }
        self.marks.reach("gc");
        let message = Message {
            pod: 0,
            key: key(usize::MAX, 0),
            ask: Ask::Gc(self.runtime.valid()),
            started: self.now,
            dead: false,
            again: false,
            arrived: false,
            deadline: u64::MAX,
        };
        self.runtime.send(message);
    }

    pub(crate) fn ask_for_leaks(&mut self, delete: bool) {
        let message = Message {
            pod: 0,
            key: key(usize::MAX, 0),
            ask: Ask::Leaks(delete),
            started: self.now,
            dead: false,
            again: false,
            arrived: false,
            deadline: u64::MAX,
        };
        self.runtime.send(message);
    }

    pub(super) fn arrive(&mut self, request: RequestId) -> Result<(), Violation> {
        let Some(message) = self.runtime.messages.get_mut(&request) else { return Ok(()) };
        if message.arrived {
            return Ok(());
        }
        message.arrived = true;
        let message = message.clone();
        let clock = |at: u64| Time::from_ms(at.saturating_sub(self.booted));
        let (started, deadline) = (clock(message.started), clock(message.deadline));
        if message.dead {
            self.marks.reach("a dead plugin's ADD arrives");
        }
        match message.ask {
            Ask::Add | Ask::Repeat => self.input(Input::Allocate {
                request,
                sandbox: message.key,
                pod: pod_ref(message.pod),
                started,
                deadline,
            }),
            Ask::Leaks(delete) => self.input(Input::Leaks { request, delete }),
            Ask::Del => self.input(Input::Release { request, sandbox: message.key, started }),
            Ask::Gc(valid) => {
                self.input(Input::Collect { request, network: "aws-cni".into(), valid, started })
            }
        }
    }

    pub(super) fn replied(&mut self, request: RequestId, answer: Answer) -> Result<(), Violation> {
        let Some(message) = self.runtime.messages.get(&request).filter(|m| m.arrived).cloned() else {
            return broken("S13", format!("request {request} is answered, but nobody asks"));
        };
        match (&message.ask, answer) {
            (Ask::Add, Answer::Allocated { addresses, .. }) => {
                self.add_answered(request, &message, &addresses)
            }
            (Ask::Add, Answer::Refused(cause)) => self.add_refused(request, &message, &cause),
            (Ask::Repeat, Answer::Allocated { addresses, is_new, .. }) => {
                self.runtime.messages.remove(&request);
                self.marks.reach("ADD repeated");
                let held = self.runtime.pods.get(message.pod).map(|p| p.life.clone());
                if is_new || !matches!(held, Some(Life::Live(ip)) if addresses == [ip]) {
                    return broken(
                        "S8",
                        format!("{held:?} asks again and gets {addresses:?}, new: {is_new}"),
                    );
                }
                Ok(())
            }
            (Ask::Repeat, Answer::Refused(Cause::Quarantined { .. })) => {
                self.runtime.messages.remove(&request);
                self.marks.reach("ADD repeated for an address in quarantine");
                Ok(())
            }
            // Its later start cannot be written: it may not be answered as if it were.
            (Ask::Repeat, Answer::Refused(Cause::LedgerUnwritable { .. } | Cause::TooSlow { .. })) => {
                self.runtime.messages.remove(&request);
                self.marks.reach("ADD repeated while the disk refuses");
                Ok(())
            }
            (Ask::Del, Answer::Released(addresses)) => self.del_answered(request, &message, &addresses),
            (Ask::Del, Answer::Refused(Cause::LedgerUnwritable { .. } | Cause::QueueFull)) => {
                // The plugin keeps the release; it comes again with the same start.
                self.marks.reach("release kept pending");
                if let Some(message) = self.runtime.messages.get_mut(&request) {
                    message.arrived = false;
                    message.again = true;
                }
                Ok(())
            }
            (Ask::Gc(_), Answer::Collected(keys)) => {
                self.runtime.messages.remove(&request);
                match keys.iter().find(|k| self.runtime.pods.iter().any(|p| p.key == **k && lives(&p.life))) {
                    Some(key) => broken("S8", format!("{} lives and was collected", key.container_id)),
                    None => Ok(()),
                }
            }
            (Ask::Leaks(_), Answer::Leaks(report)) => {
                self.runtime.messages.remove(&request);
                self.marks.reach("leaks told");
                let told = |eni: &EniId| report.rows.iter().any(|row| row.eni == *eni && row.deleted);
                match self.ec2.enis.keys().find(|eni| told(eni)) {
                    Some(eni) => broken("S8", format!("{eni} is told to be deleted and exists")),
                    None => Ok(()),
                }
            }
            (Ask::Gc(_) | Ask::Leaks(_), Answer::Refused(_)) => {
                self.runtime.messages.remove(&request);
                Ok(())
            }
            (_, answer) => broken("S8", format!("{:?} is answered with {answer:?}", message.ask)),
        }
    }

    pub(super) fn add_answered(
        &mut self,
        request: RequestId,
        message: &Message,
        addresses: &[IpAddr],
    ) -> Result<(), Violation> {
        self.runtime.messages.remove(&request);
        let [ip] = addresses else { return broken("S8", format!("{addresses:?} for one pod")) };
        if self.oracle.durable.get(ip) != Some(&message.key) {
            let what = format!("{ip} is shown to {} before it is on disk", message.key.container_id);
            self.verdict(broken("S6", what))?;
        }
        let usable = self.oracle.judge_usable(self.scene(false), *ip);
        self.verdict(usable)?;
        if message.dead {
            return Ok(());
        }
        self.tally.adds += 1;
        if let Some(pod) = self.runtime.pods.get_mut(message.pod) {
            pod.life = Life::Live(*ip);
        }
        Ok(())
    }

    pub(super) fn add_refused(
        &mut self,
        request: RequestId,
        message: &Message,
        cause: &Cause,
    ) -> Result<(), Violation> {
        self.runtime.messages.remove(&request);
        if message.dead {
            return Ok(());
        }
        self.tally.refused += 1;
        self.marks.reach(match cause {
            Cause::SandboxDeleted { .. } => {
                return broken(
                    "S8",
                    format!("the ADD of {} is refused as deleted", message.key.container_id),
                );
            }
            Cause::NodeFull { .. } => "refused: node full",
            Cause::Starting => "refused: starting",
            Cause::LedgerUnwritable { .. } => "refused: ledger",
            Cause::Stopping => "refused: stopping",
            Cause::TooSlow { .. } => "refused: too slow",
            Cause::SubnetExhausted { .. }
            | Cause::SubnetFragmented { .. }
            | Cause::SubnetFloor { .. }
            | Cause::Paced { .. }
            | Cause::NoSubnet
            | Cause::NoEniConfig
            | Cause::LeakedEni { .. }
            | Cause::Throttled { .. }
            | Cause::Denied { .. }
            | Cause::Ec2 { .. } => "refused: EC2",
            Cause::Host { .. } => "refused: host",
            Cause::QueueFull => "refused: queue",
            Cause::Quarantined { .. } => "refused: quarantined",
        });
        if let Some(pod) = self.runtime.pods.get_mut(message.pod) {
            pod.life = Life::Failed;
        }
        Ok(())
    }

    pub(super) fn del_answered(
        &mut self,
        request: RequestId,
        message: &Message,
        addresses: &[IpAddr],
    ) -> Result<(), Violation> {
        self.runtime.messages.remove(&request);
        self.tally.dels += 1;
        if let Some((ip, _)) = self.oracle.durable.iter().find(|(_, k)| **k == message.key) {
            return broken(
                "S6",
                format!("the DEL of {} is answered, {ip} is not free on disk", message.key.container_id),
            );
        }
        let stranger =
            addresses.iter().find(|ip| self.oracle.promised.get(*ip).is_some_and(|k| *k == message.key));
        if let Some(ip) = stranger {
            return broken("S6", format!("{ip} is reported released and held"));
        }
        if let Some(pod) = self.runtime.pods.get_mut(message.pod)
            && pod.life == Life::Deleting(request)
        {
            pod.life = Life::Deleted;
        }
        Ok(())
    }
}

fn lives(life: &Life) -> bool {
    matches!(life, Life::Live(_))
}
