//! What hosts put out: datagrams, places, and steps of the order.

use super::*;

impl<C: Core> Cluster<C> {
    /// Takes all outputs of a core, as a daemon does after each input.
    pub(super) fn drain(&mut self, host: usize) {
        let mut cut = false;
        loop {
            self.spring_traps(host);
            let Some(core) = &mut self.hosts[host].core else { return };
            if let Some(transmit) = core.poll_transmit() {
                for placement in &transmit.places {
                    self.placed(host, placement);
                }
                cut = cut || self.network.cuts_tail();
                if !cut {
                    self.transmit(host, &transmit);
                }
            } else if let Some(output) = core.poll_output() {
                self.output(host, output);
            } else {
                break;
            }
        }
        self.rearm(host);
    }

    /// Does what is to happen in a certain state of the daemon on `host`, once it is there.
    pub(super) fn spring_traps(&mut self, host: usize) {
        let Some(core) = &self.hosts[host].core else { return };
        let state = core.state();
        if self.hosts[host].state == state {
            return;
        }
        self.hosts[host].state = state;
        self.timeline.note(self.step, self.now, Some(host), || Note::State(state));
        let sprung = self.traps.iter().position(|trap| match trap {
            Action::CrashIn(whom, wanted) => {
                *wanted == state && whom.is_none_or(|whom| whom == host)
            }
            Action::PartitionIn(_, wanted) => *wanted == state,
            _ => false,
        });
        match sprung.map(|index| self.traps.remove(index)) {
            Some(Action::PartitionIn(parts, _)) => self.act(Action::Partition(parts)),
            // Not at once: somewhere in what the state begins with.
            Some(_) if self.rng.chance(300) => self.act(Action::Crash(host)),
            Some(_) => {
                let at = self.now + Duration::from_nanos(self.rng.below(300_000));
                self.schedule(at, Action::Crash(host));
            }
            None => {}
        }
    }

    pub(super) fn transmit(&mut self, from: usize, transmit: &Transmit) {
        let sender = self.hosts[from].life.daemon;
        self.timeline.note(self.step, self.now, Some(from), || {
            Note::Transmit(transmit.to, transmit.channel, transmit.bytes.as_ref().len())
        });
        if self.hosts[from].cluster != STRANGER {
            self.network.record(transmit.channel, &transmit.bytes);
        }
        for to in 0..self.hosts.len() {
            let receiver = self.hosts[to].life.daemon;
            if transmit.to.is_some_and(|only| only != receiver) || receiver == sender {
                continue;
            }
            let multicast = transmit.to.is_none();
            let route = Route { from, to, channel: transmit.channel, multicast };
            self.refuse(route, receiver);
            for arrival in self.network.carry(self.now, route, &transmit.bytes) {
                // The kernel's checksum finds what is not intact; what it may miss is for keys.
                let (channel, bytes) = (route.channel, arrival.bytes);
                if arrival.intact || !C::is_packet(channel, bytes.as_ref()) {
                    self.push(arrival.at, Happening::Arrive { to, channel, bytes });
                }
            }
        }
    }

    /// A machine that is up and has no daemon says so to those who send to it alone.
    pub(super) fn refuse(&mut self, route: Route, receiver: DaemonId) {
        let gone = self.hosts[route.to].core.is_none();
        let hears = self.network.hears(route.from, route.to);
        let both = hears && self.network.hears(route.to, route.from);
        if gone && both && !route.multicast && !self.rng.chance(200) {
            let at = self.now + Duration::from_nanos(self.network.weather.latency_ns.0 * 2);
            self.push(at, Happening::Unreachable { host: route.from, daemon: receiver });
        }
    }

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

    pub(super) fn taken(&mut self, host: usize, place: Place, content: Content) -> DaemonEvent {
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
        if event == SessionEvent::End {
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
