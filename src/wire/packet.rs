//! Any packet between daemons: bytes in, one value of all that it may be out.

use crate::base::{DaemonSet, Rank};

use super::commit::{Commit, Done, Exchange};
use super::data::Data;
use super::header::{PacketKind, Reject, open};
use super::join::{Contact, Goodbye, Join};
use super::token::{Notice, RepairRequest, Token, TokenRequest};

/// A packet of this cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Messages with a place in the order.
    Data(Data<'a>),
    /// The token.
    Token(Token<'a>),
    /// A wish for the token.
    TokenRequest(TokenRequest),
    /// What its sender has received.
    Notice(Notice),
    /// A wish for packets that were missed.
    RepairRequest(RepairRequest<'a>),
    /// A daemon looks for a configuration.
    Join(Join),
    /// A daemon is in a ring.
    Presence(Contact),
    /// A configuration has been agreed on.
    Commit(Box<Commit>),
    /// What its sender has of its old ring.
    Exchange(Exchange<'a>),
    /// Its sender has all it needs.
    Done(Done),
    /// Its sender stops.
    Goodbye(Goodbye),
}

impl Packet<'_> {
    /// All daemons that it names beside its sender.
    pub fn names(&self) -> DaemonSet {
        let contact = |contact: &Contact| contact.members.union(contact.heard);
        match self {
            Self::TokenRequest(_) | Self::Notice(_) | Self::RepairRequest(_) | Self::Goodbye(_) => {
                DaemonSet::EMPTY
            }
            Self::Data(data) => data.header.keeper.map_or(DaemonSet::EMPTY, DaemonSet::only),
            Self::Token(token) => DaemonSet::only(token.header.to),
            Self::Join(join) => contact(&join.contact).union(join.joined).union(join.proposal),
            Self::Presence(presence) => contact(presence),
            Self::Commit(commit) => commit.members,
            Self::Exchange(exchange) => exchange.obliged.union(exchange.seen),
            Self::Done(done) => done.seen,
        }
    }
}

/// Reads a datagram.
///
/// # Errors
///
/// It is not an undamaged, well-formed packet of `cluster`.
pub fn parse(cluster: u64, packet: &[u8]) -> Result<(Rank, Packet<'_>), Reject> {
    let (kind, sender, body) = open(cluster, packet)?;
    let packet = match kind {
        PacketKind::Data => Data::parse(body).map(Packet::Data),
        PacketKind::Token => Token::parse(body).map(Packet::Token),
        PacketKind::TokenRequest => TokenRequest::parse(body).map(Packet::TokenRequest),
        PacketKind::Notice => Notice::parse(body).map(Packet::Notice),
        PacketKind::RepairRequest => RepairRequest::parse(body).map(Packet::RepairRequest),
        PacketKind::Join => Join::parse(body).map(Packet::Join),
        PacketKind::Presence => Contact::parse(body).map(Packet::Presence),
        PacketKind::Commit => Commit::parse(body).map(Box::new).map(Packet::Commit),
        PacketKind::Exchange => Exchange::parse(body).map(Packet::Exchange),
        PacketKind::Done => Done::parse(body).map(Packet::Done),
        PacketKind::Goodbye => Goodbye::parse(body).map(Packet::Goodbye),
        // Within the cluster there is nothing to learn from it.
        PacketKind::Identity => None,
    };
    packet.map(|packet| (sender, packet)).ok_or(Reject::Malformed)
}
