//! The whole protocol layer of a daemon with its sessions, as the simulator drives it.

use std::collections::VecDeque;

use crate::base::buffer::HeapBuffer;
use crate::base::{DaemonId, Instant, PrivateGroup, Request, RingId, Service, SessionId};
use crate::protocol::output::{self, Kind};
use crate::protocol::{Daemon, Delivery, Protocol, Setup as ProtocolSetup};
use crate::wire::header;

use super::checker::trace::{Ask, SessionEvent};
use super::clients::{Clients, Habits, Newcomer, daemon_name};
use super::core::{Channel, Core, Output, Setup, Transmit};
use super::order;
use super::rng::Rng;
use super::session::event;
use super::store::{Memory, Shortage, retry_at};
use super::workload::Workload;

/// A daemon with its sessions.
pub struct Grouped {
    protocol: Protocol<Memory>,
    memory: Memory,
    /// When what waits for memory is tried again.
    retry_at: Option<Instant>,
    clients: Clients,
    rng: Rng,
    /// The regular configuration that was installed last.
    ring: RingId,
    /// The configuration that came last is that one.
    was_regular: bool,
    transmits: VecDeque<Transmit>,
    outputs: VecDeque<Output>,
}

impl Grouped {
    fn session(&mut self, session: PrivateGroup, event: SessionEvent) {
        self.outputs.push_back(Output::Session { session, event });
    }

    fn connect(&mut self, now: Instant, newcomer: &Newcomer) -> SessionId {
        let Newcomer { id, name, watches } = *newcomer;
        let address = self.clients.address(id);
        let granted = self.protocol.handle_connect(id, Some(name), watches);
        assert_eq!(granted, Ok(address), "a name is free once its session has ended");
        self.outputs.push_back(Output::Connected { session: address, watches });
        self.drain(now);
        id
    }

    fn request(
        &mut self,
        now: Instant,
        id: SessionId,
        event: SessionEvent,
        request: Request<HeapBuffer>,
    ) {
        self.session(self.clients.address(id), event);
        self.protocol.handle_request(now, id, request, &mut self.memory);
        self.drain(now);
    }

    /// A new session that a scenario wants; its name.
    pub fn connects(&mut self, now: Instant) -> String {
        let newcomer = self.clients.connect(true);
        self.connect(now, &newcomer);
        newcomer.name.as_str().to_owned()
    }

    /// Another one, without membership messages.
    pub fn connects_quietly(&mut self, now: Instant) -> String {
        let newcomer = self.clients.connect(false);
        self.connect(now, &newcomer);
        newcomer.name.as_str().to_owned()
    }

    /// Whether the session called `name` is to ask for nothing.
    pub fn is_held(&self, name: &str) -> bool {
        self.clients.find(name).is_some_and(|id| self.clients.is_held(id))
    }

    /// A join, leave or disconnect that a scenario wants of the session called `name`.
    ///
    /// # Panics
    ///
    /// If there is no such session.
    pub fn asks(&mut self, now: Instant, name: &str, ask: Ask) {
        let id = self.clients.find(name).expect("a session of this daemon");
        let (event, request) = self.clients.ask(id, ask);
        self.request(now, id, event, request);
    }

    /// A message that a scenario wants of the session called `name`.
    ///
    /// # Panics
    ///
    /// If there is no such session.
    pub fn sends(
        &mut self,
        now: Instant,
        name: &str,
        service: Service,
        groups: &[&str],
        bytes: usize,
    ) {
        let id = self.clients.find(name).expect("a session of this daemon");
        let groups = groups.iter().map(|group| super::clients::group(group)).collect();
        let (event, request) = self.clients.send(id, service, false, groups, bytes);
        self.request(now, id, event, request);
    }

    /// What sessions read that had not read for a while.
    fn read(&mut self, events: Vec<(PrivateGroup, SessionEvent)>) {
        events.into_iter().for_each(|(session, event)| self.session(session, event));
    }

    /// Takes everything that the protocol has to say.
    fn drain(&mut self, now: Instant) {
        loop {
            self.take_packets();
            self.take_order();
            let thrown_out = self.take_deliveries();
            while self.protocol.poll_event().is_some() {}
            if !thrown_out.is_empty() {
                for id in thrown_out {
                    self.protocol.handle_request(now, id, Request::Disconnect, &mut self.memory);
                }
                continue;
            }
            if self.protocol.is_blocked() {
                break;
            }
            let Some((id, event, request)) = self.clients.echo() else { break };
            let session = self.clients.address(id);
            self.outputs.push_back(Output::Session { session, event });
            self.protocol.handle_request(now, id, request, &mut self.memory);
        }
        self.retry_at = self.protocol.is_blocked().then(|| retry_at(now));
    }

    /// Goes on with what waits for memory, as a daemon does in each turn.
    fn retry(&mut self, now: Instant) {
        if self.protocol.is_blocked() {
            self.protocol.handle_memory(now, &mut self.memory);
        }
    }

    /// Lets sessions have what is for them. Those who are thrown out.
    fn take_deliveries(&mut self) -> Vec<SessionId> {
        let mut thrown_out = Vec::new();
        while let Some(delivery) = self.protocol.poll_delivery() {
            match delivery {
                Delivery::Frame { frame, targets, sender: _ } => {
                    let (event, bytes) = (event(frame.as_ref()), frame.as_ref().len());
                    for &target in targets {
                        let Some(event) = self.clients.gets(target, &event, bytes) else {
                            continue;
                        };
                        if *event == SessionEvent::Killed {
                            thrown_out.push(target);
                        }
                        let (session, event) = (self.clients.address(target), event.clone());
                        self.outputs.push_back(Output::Session { session, event });
                    }
                }
                Delivery::Ended { session } => {
                    if let Some(session) = self.clients.ends(session) {
                        let event = SessionEvent::End;
                        self.outputs.push_back(Output::Session { session, event });
                    }
                }
                Delivery::Hold { session } => self.clients.hold(session, true),
                Delivery::Release { session } => self.clients.hold(session, false),
            }
        }
        thrown_out
    }

    fn take_packets(&mut self) {
        while let Some(transmit) = self.protocol.poll_transmit() {
            self.transmits.push_back(order::carried(transmit));
        }
    }

    fn take_order(&mut self) {
        while let Some(output) = self.protocol.poll_order() {
            let output = match output {
                output::Output::Placed { ring, place } => {
                    Output::Given { place: order::place(ring, place) }
                }
                output::Output::Deliver { place, service, payload, .. } => {
                    Output::Taken { place: order::place(self.ring, place), service, payload }
                }
                output::Output::Configuration { kind: Kind::Regular, ring, members, .. } => {
                    // Behind another one it is the first of another cluster.
                    if std::mem::replace(&mut self.was_regular, true) {
                        self.outputs.push_back(Output::Reborn);
                    }
                    self.ring = ring;
                    Output::Regular { ring, members }
                }
                output::Output::Configuration { kind: Kind::Transitional, members, .. } => {
                    self.was_regular = false;
                    Output::Transitional { members }
                }
            };
            self.outputs.push_back(output);
        }
    }
}

fn protocol_setup(setup: &Setup) -> ProtocolSetup {
    let daemon = |id: &DaemonId| Daemon { id: *id, name: daemon_name(id.get()) };
    ProtocolSetup {
        daemons: setup.daemons.iter().map(daemon).collect(),
        me: setup.daemon,
        cluster: setup.cluster,
        incarnation: setup.clock,
        seed: setup.seed,
        options: order::options(setup),
    }
}

impl Core for Grouped {
    const FLAG: &'static str = " --groups";
    const IS_OURS: bool = true;

    fn start(now: Instant, setup: &Setup) -> Self {
        let mut rng = Rng::new(setup.seed);
        let habits = Habits::random(&mut Rng::new(setup.run));
        let (number, daemons) = (setup.daemon.get(), setup.daemons.len() as u32);
        let clients = Clients::new(number, daemons, setup.incarnation, habits, rng.fork());
        let mut memory = Memory::new(setup.seed);
        let mut this = Self {
            protocol: Protocol::new(&protocol_setup(setup), now, &mut memory),
            memory,
            retry_at: None,
            clients,
            rng,
            ring: RingId { number: 0, leader: setup.daemon },
            was_regular: false,
            transmits: VecDeque::new(),
            outputs: VecDeque::new(),
        };
        this.drain(now);
        this
    }

    fn submit(&mut self, _: Instant, _: Service, _: &[u8]) -> bool {
        unreachable!("its sessions send, by `act`")
    }

    fn act(&mut self, now: Instant, habits: &Workload) -> bool {
        let read = self.clients.nap();
        self.read(read);
        for (service, bytes) in habits.burst(&mut self.rng) {
            // No more is taken from clients while memory is short.
            if self.protocol.is_blocked() {
                break;
            }
            if let Some(newcomer) = self.clients.comes() {
                self.connect(now, &newcomer);
            }
            let bytes = bytes - super::payload::HEAD_BYTES;
            if let Some((id, event, request)) = self.clients.asks(service, bytes) {
                self.request(now, id, event, request);
            }
        }
        true
    }

    fn settle(&mut self, now: Instant) {
        let read = self.clients.wake();
        self.read(read);
        self.clients.want_echoes();
        self.drain(now);
    }

    fn is_drained(&self) -> bool {
        self.clients.is_drained()
    }

    fn handle_packet(&mut self, now: Instant, _: Channel, bytes: &HeapBuffer) {
        self.retry(now);
        let awaited = || self.protocol.awaits(bytes.as_ref());
        if !header::is_data(bytes.as_ref()) || self.memory.takes_data(awaited) {
            self.protocol.handle_packet(now, bytes, &mut self.memory);
        }
        self.drain(now);
    }

    fn handle_dropped(&mut self, packets: u32) {
        self.protocol.handle_dropped(packets);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.retry(now);
        self.protocol.handle_timeout(now, &mut self.memory);
        self.drain(now);
    }

    fn handle_unreachable(&mut self, now: Instant, daemon: DaemonId) {
        self.protocol.handle_unreachable(now, daemon, &mut self.memory);
        self.drain(now);
    }

    fn handle_reload(&mut self, now: Instant, setup: &Setup) -> bool {
        self.protocol.handle_reload(now, protocol_setup(setup), &mut self.memory);
        self.drain(now);
        true
    }

    fn handle_stop(&mut self, now: Instant) {
        self.protocol.handle_stop(now, &mut self.memory);
        self.drain(now);
    }

    fn set_memory(&mut self, shortage: Shortage) {
        self.memory.set(shortage);
    }

    fn refused(&self) -> (u64, u64) {
        self.memory.refused()
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.protocol.poll_timeout().into_iter().chain(self.retry_at).min()
    }

    fn state(&self) -> &'static str {
        self.protocol.state_name()
    }

    fn retained(&self) -> usize {
        self.protocol.retained_bytes()
    }

    fn is_packet(channel: Channel, bytes: &[u8]) -> bool {
        order::Ordering::is_packet(channel, bytes)
    }

    fn kind(channel: Channel, bytes: &[u8]) -> usize {
        order::Ordering::kind(channel, bytes)
    }
}
