//! What the daemon of this life has been told of the account, and what it must do about it: subnets that keep pods out
//! (S3), floors (S14), a cordon (S15), leaks and their proof (S11), throttles (L6).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use podwire_pool::settings::Settings;
use podwire_pool::{Ec2Answer, Ec2Call, Ec2Failure, EniId, FailureClass, GrowBy, Record, SubnetId};

use super::{Violation, broken};
use crate::ec2::Ec2;

/// What a list of subnets is good for. *Unit*: ms. Younger than anything the pool may still go by.
const LIST_LASTS: u64 = 3_000_000;
/// Between the looks that prove a leak. *Unit*: ms.
const PROVEN_AFTER: u64 = 600_000;
/// Calls of one action in a minute of nothing but throttles at most. *Source*: windows of 15, 30, 60 s and more with full
/// jitter allow about four; three times that is chance beyond any run.
const STRUCK_MOST: usize = 12;

/// What this life of the daemon knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Told {
    /// Subnets whose tags keep pods out.
    forbidden: BTreeSet<SubnetId>,
    /// Free addresses as of the newest list, less what was asked for since.
    free: BTreeMap<SubnetId, i64>,
    listed: u64,
    /// Something went back to a subnet since: what it has now is not known to the oracle.
    muddied: bool,
    /// When an ENI was first found with a dead owner.
    dead: BTreeMap<EniId, u64>,
    /// When an action was called while it was throttled and nothing else.
    struck: BTreeMap<&'static str, Vec<u64>>,
    /// The node is cordoned.
    pub cordoned: bool,
}

impl Told {
    /// The daemon died: its successor knows nothing yet.
    pub fn forget(&mut self) {
        *self = Self { cordoned: self.cordoned, ..Self::default() };
    }

    /// The pool asks for a call; `waiting` pods wait, or will as soon as the node has its first address and is ready.
    ///
    /// # Errors
    /// S11, S14, S15 or L6.
    pub fn judge_call(
        &mut self,
        now: u64,
        settings: &Settings,
        ec2: &Ec2,
        waiting: u32,
        call: &Ec2Call,
    ) -> Result<(), Violation> {
        match call {
            Ec2Call::Assign { eni, by } => {
                if let Some(truth) = ec2.enis.get(eni) {
                    let subnet = truth.seen.subnet.clone();
                    self.judge_draw(now, settings, waiting, (&subnet, *by))?;
                }
            }
            Ec2Call::Create { subnet, with, .. } => {
                if self.forbidden.contains(subnet) && !settings.primary_excluded {
                    return broken("S3", format!("an ENI is made in {subnet}, which keeps pods out"));
                }
                // Decided before its intent was on disk: whoever waited then may be gone by now.
                self.judge_draw(now, settings, u32::MAX, (subnet, *with))?;
            }
            Ec2Call::Detach { eni, .. } if self.cordoned => {
                return broken("S15", format!("{eni} is detached from a cordoned node"));
            }
            Ec2Call::Delete { eni } => self.judge_leak(now, ec2, eni)?,
            Ec2Call::Unassign { .. }
            | Ec2Call::Attach { .. }
            | Ec2Call::DeleteOnTermination { .. }
            | Ec2Call::Detach { .. }
            | Ec2Call::Describe { .. }
            | Ec2Call::SetGroups { .. }
            | Ec2Call::Tag { .. }
            | Ec2Call::DescribeSubnets { .. }
            | Ec2Call::FindDetached
            | Ec2Call::DescribeInstances { .. } => {}
        }
        self.judge_struck(now, call)
    }

    /// S14: beyond the floor only for pods that wait, and to become ready.
    fn judge_draw(
        &mut self,
        now: u64,
        settings: &Settings,
        waiting: u32,
        (subnet, by): (&SubnetId, GrowBy),
    ) -> Result<(), Violation> {
        let Some(free) = self.free.get_mut(subnet) else { return Ok(()) };
        let takes = i64::from(match by {
            GrowBy::Addresses(n) => n,
            GrowBy::Prefixes(n) => n * 16,
        });
        *free -= takes;
        let left = *free;
        let floor = i64::from(settings.subnets.floor);
        let judged = floor > 0 && !self.muddied && waiting == 0;
        if judged && left < floor && now < self.listed + LIST_LASTS {
            return broken(
                "S14",
                format!("{takes} of {subnet} are asked for, which leaves {left} of {floor}"),
            );
        }
        Ok(())
    }

    /// S11: an ENI of another node goes only when it is proven that it was left behind.
    fn judge_leak(&self, now: u64, ec2: &Ec2, eni: &EniId) -> Result<(), Violation> {
        let Some(truth) = ec2.enis.get(eni).filter(|e| !e.ours) else { return Ok(()) };
        let proven = self.dead.get(eni).is_some_and(|first| now >= first + PROVEN_AFTER);
        if !ec2.is_leak(truth) || !proven {
            return broken("S11", format!("{eni} is deleted, seen dead first at {:?}", self.dead.get(eni)));
        }
        Ok(())
    }

    /// L6: while an action is throttled it is called ever less often.
    fn judge_struck(&mut self, now: u64, call: &Ec2Call) -> Result<(), Violation> {
        let Some(times) = self.struck.get_mut(action(call)) else { return Ok(()) };
        times.retain(|at| at + 60_000 > now);
        times.push(now);
        if times.len() > STRUCK_MOST {
            return broken("L6", format!("{} calls of {} while throttled", times.len(), action(call)));
        }
        Ok(())
    }

    /// An answer reaches the pool.
    pub fn heard(&mut self, now: u64, ec2: &Ec2, call: &Ec2Call, outcome: &Result<Ec2Answer, Ec2Failure>) {
        match outcome {
            Err(failure) if failure.class == FailureClass::Throttled => {
                self.struck.entry(action(call)).or_default();
            }
            Err(failure) if failure.class == FailureClass::Unknown => {}
            Ok(_) | Err(_) => {
                self.struck.remove(action(call));
            }
        }
        self.muddied |= match call {
            Ec2Call::Assign { .. } | Ec2Call::Create { .. } => outcome.is_err() || partial(call, outcome),
            Ec2Call::Unassign { .. } | Ec2Call::Delete { .. } | Ec2Call::Describe { .. } => true,
            Ec2Call::Attach { .. }
            | Ec2Call::DeleteOnTermination { .. }
            | Ec2Call::Detach { .. }
            | Ec2Call::SetGroups { .. }
            | Ec2Call::Tag { .. }
            | Ec2Call::DescribeSubnets { .. }
            | Ec2Call::FindDetached
            | Ec2Call::DescribeInstances { .. } => false,
        };
        match outcome {
            Ok(Ec2Answer::Subnets(seen)) => {
                self.listed = now;
                self.muddied = false;
                self.free = seen.iter().map(|s| (s.id.clone(), i64::from(s.free))).collect();
                let keeps_out = ec2.subnets.iter().filter(|s| s.keeps_out(ec2.cluster.as_deref()));
                self.forbidden = keeps_out.map(|s| s.id.clone()).collect();
            }
            Ok(Ec2Answer::Instances(_)) => {
                let leaks = ec2.enis.values().filter(|e| ec2.is_leak(e));
                let leaks: BTreeSet<EniId> = leaks.map(|e| e.seen.id.clone()).collect();
                self.dead.retain(|id, _| leaks.contains(id));
                for id in leaks {
                    self.dead.entry(id).or_insert(now);
                }
            }
            Ok(_) | Err(_) => {}
        }
    }

    /// S3: no pod gets an address in a subnet that keeps pods out.
    ///
    /// # Errors
    /// S3.
    pub fn judge_records(&self, settings: &Settings, ec2: &Ec2, records: &[Record]) -> Result<(), Violation> {
        if settings.primary_excluded {
            return Ok(());
        }
        let given = records
            .iter()
            .filter_map(|r| if let Record::Allocated { addresses, .. } = r { Some(addresses) } else { None });
        for ip in given.flatten() {
            let subnet = ec2.carrier(*ip).map(|eni| &eni.seen.subnet);
            if let Some(subnet) = subnet.filter(|s| self.forbidden.contains(*s)) {
                return broken("S3", format!("{} of {subnet}, which keeps pods out, is given", shown(*ip)));
            }
        }
        Ok(())
    }
}

/// Whether EC2 gave less than was asked for.
fn partial(call: &Ec2Call, outcome: &Result<Ec2Answer, Ec2Failure>) -> bool {
    match (call, outcome) {
        (
            Ec2Call::Assign { by: GrowBy::Addresses(n) | GrowBy::Prefixes(n), .. },
            Ok(Ec2Answer::Assigned(nets)),
        ) => usize::try_from(*n).is_ok_and(|asked| nets.len() < asked),
        (_, Ok(_) | Err(_)) => false,
    }
}

fn shown(ip: IpAddr) -> String {
    ip.to_string()
}

const fn action(call: &Ec2Call) -> &'static str {
    match call {
        Ec2Call::Assign { .. } => "assign",
        Ec2Call::Unassign { .. } => "unassign",
        Ec2Call::Create { .. } => "create",
        Ec2Call::Attach { .. } => "attach",
        Ec2Call::DeleteOnTermination { .. } | Ec2Call::SetGroups { .. } => "modify",
        Ec2Call::Detach { .. } => "detach",
        Ec2Call::Delete { .. } => "delete",
        Ec2Call::Describe { .. } | Ec2Call::FindDetached => "describe",
        Ec2Call::Tag { .. } => "tag",
        Ec2Call::DescribeSubnets { .. } => "describe subnets",
        Ec2Call::DescribeInstances { .. } => "describe instances",
    }
}
