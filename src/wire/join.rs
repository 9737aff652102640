//! How daemons find each other: joins of those that look for a ring, presence of those in one,
//! goodbyes.

use crate::base::limits::{INCARNATION_MAX, RING_NUMBER_MAX};
use crate::base::{DaemonSet, RingId, Store};

use super::codec::{Reader, Writer};
use super::header::{Envelope, PacketKind};

/// What a daemon says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Which life of the daemon it is; a later one is greater.
    pub incarnation: u64,
    /// Grows with each join and presence of one life.
    pub serial: u64,
    /// The ring it is in, or was in last.
    pub ring: RingId,
    /// That ring's daemons.
    pub members: DaemonSet,
    /// Whom it hears.
    pub heard: DaemonSet,
    /// The greatest number of a ring that it took part in, or in an attempt to form.
    pub number_max: u64,
}

pub(super) fn is_life(incarnation: u64) -> bool {
    (1..=INCARNATION_MAX).contains(&incarnation)
}

const CONTACT_BYTES: usize = 8 + 8 + 12 + 16 + 16 + 8;

impl Contact {
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let contact = Self {
            incarnation: from.u64()?,
            serial: from.u64()?,
            ring: from.ring()?,
            members: from.set()?,
            heard: from.set()?,
            number_max: from.u64()?,
        };
        let is_sane = is_life(contact.incarnation) && contact.number_max <= RING_NUMBER_MAX;
        is_sane.then_some(contact)
    }

    fn write(&self, to: &mut Writer<'_>) {
        to.u64(self.incarnation);
        to.u64(self.serial);
        to.ring(self.ring);
        to.set(self.members);
        to.set(self.heard);
        to.u64(self.number_max);
    }

    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut from = Reader::new(body);
        let contact = Self::read(&mut from)?;
        from.end()?;
        Some(contact)
    }

    /// Stores it as a presence packet; `None` when the store is exhausted.
    pub fn emit<S: Store>(&self, envelope: Envelope, store: &mut S) -> Option<S::Buffer> {
        envelope.seal(store, PacketKind::Presence, CONTACT_BYTES, |body| {
            let mut to = Writer::new(body);
            self.write(&mut to);
            to.end();
        })
    }
}

/// A daemon looks for a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Join {
    /// Who it is.
    pub contact: Contact,
    /// Those whose joins reached it since it looks, and itself.
    pub joined: DaemonSet,
    /// Whom it would form a ring with.
    pub proposal: DaemonSet,
    /// Whether it waits for nobody else.
    pub settled: bool,
}

impl Join {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut from = Reader::new(body);
        let contact = Contact::read(&mut from)?;
        let (joined, proposal, settled) = (from.set()?, from.set()?, from.flag()?);
        from.end()?;
        Some(Self { contact, joined, proposal, settled })
    }

    /// Stores the packet; `None` when the store is exhausted.
    pub fn emit<S: Store>(&self, envelope: Envelope, store: &mut S) -> Option<S::Buffer> {
        envelope.seal(store, PacketKind::Join, CONTACT_BYTES + 2 * 16 + 1, |body| {
            let mut to = Writer::new(body);
            self.contact.write(&mut to);
            to.set(self.joined);
            to.set(self.proposal);
            to.flag(self.settled);
            to.end();
        })
    }
}

/// A daemon stops: nobody need wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goodbye {
    /// The life that ends.
    pub incarnation: u64,
}

impl Goodbye {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut from = Reader::new(body);
        let incarnation = from.u64()?;
        from.end()?;
        is_life(incarnation).then_some(Self { incarnation })
    }

    /// Stores the packet; `None` when the store is exhausted.
    pub fn emit<S: Store>(&self, envelope: Envelope, store: &mut S) -> Option<S::Buffer> {
        envelope.seal(store, PacketKind::Goodbye, 8, |body| {
            let mut to = Writer::new(body);
            to.u64(self.incarnation);
            to.end();
        })
    }
}
