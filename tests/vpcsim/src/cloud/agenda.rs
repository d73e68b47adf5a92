//! What will happen by itself, and when.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnetwork::IpNetwork;

use super::eni::AttachmentStatus;
use super::ids::{AttachmentId, EniId, InstanceId};
use super::place::InstanceState;
use super::time::Millis;
use super::{Cloud, Delay};

/// EC2 shows terminated instances for about an hour.
///
/// Source: Amazon EC2 User Guide, "Terminate Amazon EC2 instances".
const TERMINATED_SHOWN: Duration = Duration::from_secs(3600);

/// Something that happens by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// `pending` → `available`.
    Available(EniId),
    /// `attaching` → `attached`.
    Attached(EniId, AttachmentId),
    /// `detaching` → gone.
    Detached(EniId, AttachmentId),
    /// An assigned address or prefix is delivered from now on.
    Routed(EniId, IpNetwork),
    /// `shutting-down` → `terminated`.
    Terminated(InstanceId),
    /// A terminated instance is shown no longer.
    Forgotten(InstanceId),
}

/// Events by the time they are due; those due together happen in the order in which they were planned.
#[derive(Debug, Clone, Default)]
pub(super) struct Agenda {
    events: BTreeMap<(Millis, u64), Event>,
    planned: u64,
}

impl Agenda {
    pub(super) fn plan(&mut self, due: Millis, event: Event) {
        self.events.insert((due, self.planned), event);
        self.planned += 1;
    }

    pub(super) fn next(&self) -> Option<Millis> {
        self.events.first_key_value().map(|((due, _), _)| *due)
    }

    pub(super) fn next_due(&mut self, now: Millis) -> Option<(Millis, Event)> {
        let entry = self.events.first_entry().filter(|entry| entry.key().0 <= now)?;
        let ((due, _), event) = entry.remove_entry();
        Some((due, event))
    }
}

impl Cloud {
    /// Plans an event after a drawn delay.
    pub(super) fn plan(&mut self, delay: Delay, event: Event) {
        let due = self.now.plus(delay.draw(&mut self.random));
        self.agenda.plan(due, event);
    }

    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Available(eni) => {
                if let Some(eni) = self.enis.get_mut(&eni) {
                    eni.pending = false;
                }
            }
            Event::Attached(eni, attachment) => self.now_attached(&eni, &attachment),
            Event::Detached(eni, attachment) => self.now_detached(&eni, &attachment),
            Event::Routed(eni, net) => self.now_routed(&eni, net),
            Event::Terminated(instance) => self.now_terminated(&instance),
            Event::Forgotten(instance) => {
                self.instances.remove(&instance);
            }
        }
    }

    fn now_attached(&mut self, id: &EniId, attachment: &AttachmentId) {
        let Some(to) = self.enis.get_mut(id).and_then(|eni| eni.attachment.as_mut()) else { return };
        if to.id == *attachment && to.status == AttachmentStatus::Attaching {
            to.status = AttachmentStatus::Attached;
            self.plug(id);
        }
    }

    fn now_detached(&mut self, id: &EniId, attachment: &AttachmentId) {
        let Some(eni) = self.enis.get(id) else { return };
        if eni.attachment.as_ref().is_some_and(|to| to.id == *attachment) {
            self.unplug_if_plugged(id);
            if let Some(eni) = self.enis.get_mut(id) {
                eni.attachment = None;
            }
        }
    }

    /// Delivers the address unless it was unassigned or unplugged in the meantime.
    fn now_routed(&mut self, id: &EniId, net: IpNetwork) {
        if self.enis.get(id).is_some_and(|eni| eni.plugged() && eni.routes().contains(&net)) {
            self.route(id, net);
        }
    }

    fn now_terminated(&mut self, id: &InstanceId) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.state = InstanceState::Terminated;
        let attached =
            self.enis.values().filter_map(|eni| Some((eni.id.clone(), eni.attached_to(id)?.clone())));
        for (eni, to) in attached.collect::<Vec<_>>() {
            self.now_detached(&eni, &to.id);
            if to.delete_on_termination {
                self.destroy(&eni);
            }
        }
        self.agenda.plan(self.now.plus(TERMINATED_SHOWN), Event::Forgotten(id.clone()));
    }
}
