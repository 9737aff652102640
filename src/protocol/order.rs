//! The ordering core of one daemon: one total order of messages among the daemons of a cluster,
//! and the configurations in which it holds, by the rules of extended virtual synchrony.
//!
//! Sans-IO: datagrams, messages and the passing of time go in by `handle_*`; datagrams, the order
//! and deadlines come out by `poll_*`, which are to be drained after each input.

use crate::base::Rank;
use crate::base::event::GatherReason;
use crate::base::limits::ORDERED_BYTES_MAX;
use crate::base::{Counter, DaemonId, DaemonSet, Event, Instant, RingId, Service, Store, Tally};
use crate::wire::join::{Contact, Goodbye};
use crate::wire::packet::{self, Packet};

use super::context::{Context, Scope};
use super::membership::links::Heard;
use super::membership::{Next, State};
use super::options::Setup;
use super::output::{Output, Transmit};
use super::ring::Ring;

/// Nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Too much waits already: to be tried again when [`Order::is_ready`] says so.
    #[error("too many messages wait for their turn")]
    Busy,
    /// Longer than [`ORDERED_BYTES_MAX`].
    #[error("a message of {bytes} bytes is too long")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The daemon has said goodbye.
    #[error("the daemon stops")]
    Stopped,
}

/// The ordering core of one daemon.
pub struct Order<S: Store> {
    cx: Context<S::Buffer>,
    /// Never empty but while the state changes.
    state: Option<State<S::Buffer>>,
}

impl<S: Store> Order<S> {
    /// Starts a daemon: it is alone in a first regular configuration, and looks for others.
    ///
    /// # Panics
    ///
    /// If `setup` is not what a checked configuration yields: the daemon is not in its cluster,
    /// there are too many, or an option is out of its bounds.
    pub fn new(setup: &Setup, now: Instant, store: &mut S) -> Self {
        let mut cx = Context::new(setup, now);
        let state = State::start(&mut Scope { now, cx: &mut cx, store });
        Self { cx, state: Some(state) }
    }

    /// Takes a message to be ordered. It is delivered to this daemon too, unless it stops before.
    ///
    /// # Errors
    ///
    /// Nothing was taken: too much waits, the message is too long, or the daemon has stopped.
    pub fn handle_submit(
        &mut self,
        now: Instant,
        service: Service,
        payload: S::Buffer,
        store: &mut S,
    ) -> Result<(), SubmitError> {
        self.check_submit(&payload, self.cx.backlog.bytes())?;
        self.cx.backlog.push(service, payload);
        let (state, mut scope) = self.parts(now, store);
        state.on_submit(&mut scope);
        Ok(())
    }

    /// Takes a message that goes before all that wait, but behind earlier ones of its kind, and
    /// behind one that is partly on its way. It is taken however much waits of the others.
    ///
    /// # Errors
    ///
    /// As for [`Order::handle_submit`]; `Busy` when too much waits that goes first.
    pub fn handle_submit_first(
        &mut self,
        now: Instant,
        service: Service,
        payload: S::Buffer,
        store: &mut S,
    ) -> Result<(), SubmitError> {
        self.check_submit(&payload, self.cx.backlog.first_bytes())?;
        self.cx.backlog.push_first(service, payload);
        let (state, mut scope) = self.parts(now, store);
        state.on_submit(&mut scope);
        Ok(())
    }

    fn check_submit(&self, payload: &S::Buffer, waiting: usize) -> Result<(), SubmitError> {
        let bytes = payload.as_ref().len();
        if bytes > ORDERED_BYTES_MAX {
            return Err(SubmitError::TooLong { bytes });
        }
        if matches!(self.state(), State::Stopped) {
            return Err(SubmitError::Stopped);
        }
        if waiting >= self.cx.options.backlog_bytes {
            return Err(SubmitError::Busy);
        }
        Ok(())
    }

    /// Whether [`Order::handle_submit`] takes messages: false while too much waits.
    pub fn is_ready(&self) -> bool {
        self.cx.backlog.bytes() < self.cx.options.backlog_bytes
    }

    /// Takes a datagram, of either channel. What is not a packet of this cluster is counted and
    /// dropped.
    pub fn handle_packet(&mut self, now: Instant, datagram: &S::Buffer, store: &mut S) {
        let parsed = packet::parse(self.cx.envelope.cluster, datagram.as_ref());
        let configured = DaemonSet::first_ranks(self.cx.daemons.len());
        let is_known = |&(from, ref packet): &(Rank, Packet<'_>)| {
            configured.contains_all(packet.names().with(from))
        };
        let known = parsed.ok().filter(is_known);
        let Some((from, packet)) = known else {
            return self.cx.out.count(Counter::PacketsForeign);
        };
        if from == self.cx.me {
            // Multicast came back.
            return;
        }
        if !self.is_fresh(now, from, &packet) {
            return self.cx.out.count(Counter::PacketsStale);
        }
        let (state, mut scope) = self.parts(now, store);
        let next = state.on_packet(from, &packet, datagram, &mut scope);
        let looks_again = matches!(next, Next::GatherWith(_) | Next::InstallWith);
        self.enter(now, next, store);
        if looks_again {
            let (state, mut scope) = self.parts(now, store);
            let next = state.on_packet(from, &packet, datagram, &mut scope);
            self.enter(now, next, store);
        }
    }

    /// Whether a datagram is the next packet in order, for want of which nothing is delivered.
    pub fn awaits(&self, datagram: &[u8]) -> bool {
        let Ok((_, Packet::Data(data))) = packet::parse(self.cx.envelope.cluster, datagram) else {
            return false;
        };
        let next = |ring: &Ring<S::Buffer>| (ring.id, ring.window.aru().next());
        self.state().ring().map(next) == Some((data.header.ring, data.header.seq))
    }

    /// What a daemon says of itself is taken note of in whatever state, and once.
    fn is_fresh(&mut self, now: Instant, from: Rank, packet: &Packet<'_>) -> bool {
        match packet {
            Packet::Join(join) => self.accepts(now, from, &join.contact),
            Packet::Presence(contact) => self.accepts(now, from, contact),
            Packet::Goodbye(goodbye) => self.cx.links.goodbye(now, from, goodbye.incarnation),
            Packet::Data(_)
            | Packet::Token(_)
            | Packet::TokenRequest(_)
            | Packet::Notice(_)
            | Packet::RepairRequest(_)
            | Packet::Commit(_)
            | Packet::Exchange(_)
            | Packet::Done(_) => true,
        }
    }

    fn accepts(&mut self, now: Instant, from: Rank, contact: &Contact) -> bool {
        if !self.cx.believes(contact.number_max) {
            return false;
        }
        let is_ours = self.members().contains(from);
        match self.cx.links.accept(now, from, contact, is_ours) {
            Heard::Taken => true,
            Heard::Stale => false,
            Heard::EarlierLife => {
                let (daemon, patience) = (self.cx.id(from), self.cx.timing.forgetting);
                self.cx.out.tell(Event::EarlierLife { daemon, patience });
                false
            }
        }
    }

    /// Takes the passing of the deadline that [`Order::poll_timeout`] named, or of any time.
    pub fn handle_timeout(&mut self, now: Instant, store: &mut S) {
        let (state, mut scope) = self.parts(now, store);
        let next = state.on_timeout(&mut scope);
        self.enter(now, next, store);
    }

    /// Takes the news that nothing listens where `daemon` should be, as an ICMP message says it.
    pub fn handle_unreachable(&mut self, now: Instant, daemon: DaemonId, store: &mut S) {
        let index = self.cx.daemons.iter().position(|&known| known == daemon);
        let Some(rank) = index.and_then(Rank::new).filter(|&rank| rank != self.cx.me) else {
            return;
        };
        if !self.cx.links.refused(rank) {
            return self.cx.out.count(Counter::RefusalsIgnored);
        }
        let (state, mut scope) = self.parts(now, store);
        let next = state.on_gone(rank, GatherReason::Unreachable, &mut scope);
        self.enter(now, next, store);
    }

    /// Takes the news that perhaps nothing listens where `daemon` should be. A packet goes there:
    /// where it is so, the answer to that says so.
    pub fn handle_doubt(&mut self, now: Instant, daemon: DaemonId, store: &mut S) {
        let index = self.cx.daemons.iter().position(|&known| known == daemon);
        if let Some(rank) = index.and_then(Rank::new) {
            let (state, mut scope) = self.parts(now, store);
            state.on_doubt(rank, &mut scope);
        }
    }

    /// Takes the news that at least so many packets found no room in the receive buffers: daemons
    /// send more than this one can take.
    pub fn handle_dropped(&mut self, packets: u32) {
        self.cx.dropped = self.cx.dropped.saturating_add(packets as usize);
    }

    /// Says goodbye: what is still to be sent is to be taken, nothing else follows. The others
    /// need not wait for a timeout.
    pub fn handle_stop(&mut self, now: Instant, store: &mut S) {
        if !matches!(self.state(), State::Stopped) {
            self.say_goodbye(store);
            self.enter(now, Next::Stop, store);
        }
    }

    /// Says goodbye and goes on alone: everything that was submitted is delivered. Packets are not
    /// to be handed over any more; time is, until [`Order::is_alone`].
    pub fn handle_leave(&mut self, now: Instant, store: &mut S) {
        self.say_goodbye(store);
        for rank in self.cx.links.others().iter() {
            self.cx.links.lost(rank);
            let (state, mut scope) = self.parts(now, store);
            let next = state.on_gone(rank, |_| GatherReason::Reload, &mut scope);
            self.enter(now, next, store);
        }
    }

    /// Whether nobody else is in the ring, which works, and all that was submitted is delivered.
    pub fn is_alone(&self) -> bool {
        let alone = matches!(self.state(), State::Operational(s) if s.ring().is_alone());
        alone && self.cx.backlog.bytes() == 0
    }

    /// What `old` has not handed out yet, its goodbye above all, goes before all of this one.
    pub(super) fn follow(&mut self, old: Self) {
        let (new, mut out) = (&mut self.cx.out, old.cx.out);
        out.transmits.append(&mut new.transmits);
        out.events.append(&mut new.events);
        (new.transmits, new.events) = (out.transmits, out.events);
    }

    fn say_goodbye(&mut self, store: &mut S) {
        let goodbye = Goodbye { incarnation: self.cx.incarnation };
        // Twice, as nobody answers; who misses both waits for the timeout.
        for _ in 0..2 {
            let packet = goodbye.emit(self.cx.envelope, store);
            self.cx.send(None, packet);
        }
    }

    /// When [`Order::handle_timeout`] is to be called next, if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.state().deadline(&self.cx)
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit<S::Buffer>> {
        self.cx.out.transmits.pop_front()
    }

    /// The next step of the order.
    pub fn poll_output(&mut self) -> Option<Output<S::Buffer>> {
        self.cx.out.outputs.pop_front()
    }

    /// The next place that was given, ahead of other steps that wait before it: for a judge of
    /// runs.
    pub(super) fn poll_placed(&mut self) -> Option<Output<S::Buffer>> {
        let outputs = &mut self.cx.out.outputs;
        let is_placed = |output: &Output<S::Buffer>| matches!(output, Output::Placed { .. });
        outputs.remove(outputs.iter().position(is_placed)?)
    }

    /// The next thing to tell the operator.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.cx.out.events.pop_front()
    }

    /// What was counted so far.
    pub fn tally(&self) -> &Tally {
        &self.cx.out.tally
    }

    /// The ring whose order is being delivered; none once the daemon stopped.
    pub fn ring(&self) -> Option<RingId> {
        self.state().ring().map(|ring| ring.id)
    }

    /// The daemons of that ring.
    pub fn members(&self) -> DaemonSet {
        self.state().ring().map_or(DaemonSet::EMPTY, |ring| ring.set)
    }

    /// The name of the membership state, for people.
    pub fn state_name(&self) -> &'static str {
        self.state().name()
    }

    /// Bytes of packets and messages that are kept.
    pub fn retained_bytes(&self) -> usize {
        let of_ring = |ring: &Ring<S::Buffer>| ring.window.retained() + ring.delivery.retained();
        self.state().ring().map_or(0, of_ring) + self.cx.backlog.bytes()
    }

    fn state(&self) -> &State<S::Buffer> {
        self.state.as_ref().expect("there is always a state")
    }

    fn parts<'a>(
        &'a mut self,
        now: Instant,
        store: &'a mut S,
    ) -> (&'a mut State<S::Buffer>, Scope<'a, S>) {
        let state = self.state.as_mut().expect("there is always a state");
        (state, Scope { now, cx: &mut self.cx, store })
    }

    fn enter(&mut self, now: Instant, next: Next, store: &mut S) {
        if next == Next::Stay {
            return;
        }
        let state = self.state.take().expect("there is always a state");
        self.state = Some(state.enter(next, &mut Scope { now, cx: &mut self.cx, store }));
    }
}

#[cfg(test)]
mod tests;
