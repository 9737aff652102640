//! What the daemons of a cluster say, as events of its trace.

use crate::base::{DaemonId, PrivateGroup, Service};

use super::checker::trace::{
    Content, DaemonEvent, Entry, Life, MessageId, Place, SessionEvent, SessionLog,
};
use super::cluster::Cluster;
use super::core::{Core, Output, Placement};
use super::payload::{content, message_of};

impl<C: Core> Cluster<C> {
    pub(super) fn placed(&mut self, host: usize, placement: &Placement) {
        let message = message_of(&placement.payload).expect("a core places what it was given");
        self.log(host, DaemonEvent::Init { message, place: placement.place });
    }

    /// The next message of `host` has its place; what it is shows when it is delivered.
    pub(super) fn given(&mut self, host: usize, place: Place) {
        let this = &mut self.hosts[host];
        let message = MessageId { origin: this.life, n: this.submitted };
        this.submitted += 1;
        let content = Content { service: Service::Unreliable, hash: 0 };
        let log = this.log;
        self.log(host, DaemonEvent::Submit { message, content });
        let entry = self.trace.daemons[log].entries.len() - 1;
        self.places.insert(place, (message, Some((log, entry))));
        self.log(host, DaemonEvent::Init { message, place });
    }

    fn taken(&mut self, host: usize, place: Place, content: Content) -> DaemonEvent {
        let nobody = Life { daemon: DaemonId::new(0), incarnation: 0 };
        let unknown = (MessageId { origin: nobody, n: 0 }, None);
        let (message, submit) = self
            .places
            .get_mut(&place)
            .map_or(unknown, |(message, submit)| (*message, submit.take()));
        if let Some((log, entry)) = submit {
            let event = DaemonEvent::Submit { message, content };
            self.trace.daemons[log].entries[entry].event = event;
        }
        if message.origin == self.hosts[host].life {
            self.hosts[host].returned += 1;
        }
        DaemonEvent::Deliver { message, content, place }
    }

    pub(super) fn session(&mut self, session: PrivateGroup, event: SessionEvent) {
        self.step += 1;
        let log = self.sessions[&session];
        if matches!(event, SessionEvent::End | SessionEvent::Killed) {
            self.sessions.remove(&session);
        }
        let entry = Entry { step: self.step, at: self.now, event };
        self.trace.sessions[log].entries.push(entry);
    }

    pub(super) fn output(&mut self, host: usize, output: Output) {
        let event = match output {
            Output::Regular { ring, members } => {
                self.hosts[host].ring = Some((ring, members.clone()));
                DaemonEvent::Regular { ring, members }
            }
            Output::Transitional { members } => {
                self.hosts[host].ring = None;
                DaemonEvent::Transitional { members }
            }
            Output::Placed(placement) => return self.placed(host, &placement),
            Output::Reborn => return self.reborn(host),
            Output::Given { place } => return self.given(host, place),
            Output::Taken { place, service, payload } => {
                self.taken(host, place, content(service, payload.as_ref()))
            }
            Output::Connected { session, watches } => {
                self.step += 1;
                let log = SessionLog { session, watches, start: self.step, entries: Vec::new() };
                self.sessions.insert(session, self.trace.sessions.len());
                return self.trace.sessions.push(log);
            }
            Output::Session { session, event } => return self.session(session, event),
            Output::Message { payload, service, place } => {
                let payload = payload.as_ref();
                let Some(message) = message_of(payload) else {
                    panic!("d{} delivers {} bytes", host + 1, payload.len());
                };
                if message.origin == self.hosts[host].life {
                    self.hosts[host].returned += 1;
                }
                DaemonEvent::Deliver { message, content: content(service, payload), place }
            }
        };
        self.log(host, event);
    }
}
