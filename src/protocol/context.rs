//! What outlives every state of the ordering core, and what a handler gets to work with.

use crate::base::limits::{RING_NUMBER_CLAIM_MAX, RING_NUMBER_LEAP};
use crate::base::{Buffer, Counter, DaemonId, Event, Instant, Rank, Seq, Service, Store};
use crate::wire::header::Envelope;
use crate::wire::join::Contact;

use super::membership::links::Links;
use super::options::{Options, SALT_BITS, Setup};
use super::output::{Channel, Outbox, Output, Place, To};
use super::ring::Ring;
use super::ring::pack::Backlog;
use super::timer::Timing;

/// What outlives every state.
pub(crate) struct Context<B> {
    pub(crate) me: Rank,
    pub(crate) daemons: Vec<DaemonId>,
    pub(crate) options: Options,
    pub(crate) timing: Timing,
    pub(crate) envelope: Envelope,
    pub(crate) incarnation: u64,
    /// The greatest number of a ring that this daemon took part in, or in an attempt to form.
    pub(crate) number_max: u64,
    /// In the low bits of the numbers of rings that this life forms.
    salt: u64,
    /// Of the last join or presence.
    serial: u64,
    pub(crate) links: Links,
    pub(crate) backlog: Backlog<B>,
    /// Packets that found no room in receive buffers since the last visit of a token.
    pub(crate) dropped: usize,
    pub(crate) out: Outbox<B>,
}

impl<B: Buffer> Context<B> {
    pub(crate) fn new(setup: &Setup, now: Instant) -> Self {
        let me = setup.check();
        let salt = setup.seed & ((1 << SALT_BITS) - 1);
        let timing = Timing::new(&setup.options, setup.daemons.len());
        Self {
            me,
            daemons: setup.daemons.clone(),
            options: setup.options.clone(),
            timing,
            envelope: Envelope { cluster: setup.cluster, sender: me },
            incarnation: setup.incarnation,
            number_max: setup.incarnation << SALT_BITS | salt,
            salt,
            serial: 0,
            links: Links::new(me, setup.everybody(), timing, now),
            backlog: Backlog::new(),
            dropped: 0,
            out: Outbox::new(),
        }
    }

    /// The number of a new ring whose daemons were in none with a greater one than `number_max`.
    pub(crate) fn number_after(&self, number_max: u64) -> u64 {
        ((number_max >> SALT_BITS) + 1) << SALT_BITS | self.salt
    }

    /// Whether another daemon can have come to a ring of this number: what it says leads this one
    /// on, and where a lie led to the end of the numbers no ring could follow.
    pub(crate) fn believes(&self, number: u64) -> bool {
        number <= RING_NUMBER_CLAIM_MAX.max(self.number_max.saturating_add(RING_NUMBER_LEAP))
    }

    /// Whether a leader that believes the same may have come to a new ring of this number.
    pub(crate) fn believes_new(&self, number: u64) -> bool {
        self.believes(number.saturating_sub(2 << SALT_BITS))
    }

    /// Packets between the slowest daemon and the newest one that this daemon can keep.
    pub(crate) fn window(&self) -> u16 {
        u16::try_from(self.options.window_packets).expect("options are within their bounds")
    }

    /// A daemon's id.
    pub(crate) fn id(&self, rank: Rank) -> DaemonId {
        self.daemons[rank.index()]
    }

    /// A daemon took part in something that only it could.
    pub(crate) fn alive(&mut self, now: Instant, rank: Rank) {
        if self.links.alive(now, rank) {
            self.out.tell(Event::RefusalsDisproved { daemon: self.id(rank) });
        }
    }

    /// What this daemon says of itself next.
    pub(crate) fn contact(&mut self, ring: &Ring<B>, heard: crate::base::DaemonSet) -> Contact {
        self.serial += 1;
        Contact {
            incarnation: self.incarnation,
            serial: self.serial,
            ring: ring.id,
            members: ring.set,
            heard,
            number_max: self.number_max,
        }
    }

    /// Sends a packet on the data channel. One that found no memory is as good as lost: whatever
    /// matters is repeated.
    pub(crate) fn send(&mut self, to: Option<Rank>, packet: Option<B>) {
        let to = to.map_or(To::Multicast, |rank| To::Daemon(self.id(rank)));
        match packet {
            Some(bytes) => self.out.send(to, Channel::Data, bytes),
            None => self.out.count(Counter::PoolExhausted),
        }
    }

    /// Delivers everything that waits, at once: there is nobody to agree with.
    pub(crate) fn deliver_alone(&mut self, ring: &mut Ring<B>) {
        while let Some((service, payload)) = self.backlog.pop() {
            let seq = ring.place_alone();
            self.place_and_deliver(ring, seq, service, payload);
        }
    }

    fn place_and_deliver(&mut self, ring: &Ring<B>, seq: Seq, service: Service, payload: B) {
        let place = Place { seq, index: 0 };
        self.tell_places(ring, seq, 1);
        self.out.count(Counter::MessagesOrdered);
        let phase = super::output::Kind::Regular;
        let origin = self.id(self.me);
        self.out.outputs.push_back(Output::Deliver { origin, place, service, payload, phase });
    }

    /// Tells that the next `messages` messages of this daemon end in packet `seq`.
    pub(crate) fn tell_places(&mut self, ring: &Ring<B>, seq: Seq, messages: usize) {
        if self.options.tells_places {
            for index in 0..messages {
                let place = Place { seq, index: index as u16 };
                self.out.outputs.push_back(Output::Placed { ring: ring.id, place });
            }
        }
    }
}

/// What a handler gets to work with.
pub(crate) struct Scope<'a, S: Store> {
    pub(crate) now: Instant,
    pub(crate) cx: &'a mut Context<S::Buffer>,
    pub(crate) store: &'a mut S,
}
