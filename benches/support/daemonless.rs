//! The layers of a daemon with one core, from the bytes of its clients to the bytes for them, and
//! no sockets: every write is taken at once.

#![allow(dead_code, reason = "each program that includes it uses its own part")]

use std::time::Duration;

use madrigal::base::{DaemonId, DaemonName, GroupName, Instant, PrivateGroup, Request, SessionId};
use madrigal::mem::pool::{Pool, PoolOptions};
use madrigal::protocol::{self, Configuration, Daemon, Delivery, Protocol};
use madrigal::session::credit::Bounds;
use madrigal::session::{Auth, Sessions, Setup, Submission};
use madrigal::wire::session::frame::emit_hint;
use madrigal::wire::session::handshake::emit_auth_choice;
use madrigal::wire::session::{AuthMethods, ByteOrder, Header};

/// A daemon called `d`.
pub(crate) struct Daemonless {
    /// The session layer.
    pub(crate) sessions: Sessions<Pool>,
    /// The protocol layer.
    pub(crate) protocol: Protocol<Pool>,
    /// Memory of both.
    pub(crate) pool: Pool,
}

impl Daemonless {
    /// A daemon without sessions.
    pub(crate) fn new() -> Self {
        let name = DaemonName::new(b"d").unwrap();
        let daemon = Daemon { id: DaemonId::from_name("d"), name };
        let configuration = Configuration::alone(daemon, 1);
        let allowed = AuthMethods { null: true, ip: false };
        let setup = Setup {
            core: 0,
            auth: Auth { allowed, ip_required: false },
            handshake_timeout: Duration::from_secs(1),
            bounds: Bounds { messages_max: 1000, bytes_max: 1 << 20, hold_senders: false },
        };
        Self {
            sessions: Sessions::new(setup),
            protocol: Protocol::new(protocol::Setup { daemon: name, configuration }),
            pool: Pool::new(PoolOptions { bytes_max: 64 << 20 }),
        }
    }

    /// A session of this name, through the handshake.
    pub(crate) fn connect(&mut self, name: &str) -> SessionId {
        let id = self.sessions.handle_accepted(Instant::ZERO, false);
        let hello = [&[5, 0, 1, 1, name.len() as u8], name.as_bytes()].concat();
        self.receive(id, &hello);
        self.turn();
        self.receive(id, &emit_auth_choice(&[b"NULL"]));
        self.turn();
        id
    }

    /// Makes the session a member.
    pub(crate) fn join(&mut self, id: SessionId, group: &str) {
        let join = Request::Join(GroupName::new(group.as_bytes()).unwrap());
        self.protocol.handle_request(id, join, &mut self.pool);
        self.turn();
    }

    /// Bytes of a client.
    pub(crate) fn receive(&mut self, id: SessionId, bytes: &[u8]) {
        self.sessions.handle_received(id, bytes, &mut self.pool);
    }

    /// Everything that follows from what was received; returns how many bytes were written.
    pub(crate) fn turn(&mut self) -> usize {
        self.sessions.handle_turn();
        while let Some((id, submission)) = self.sessions.poll_submission() {
            match submission {
                Submission::Connect { name, wants_membership } => {
                    let name = self.protocol.handle_connect(id, name, wants_membership).ok();
                    self.sessions.handle_named(Instant::ZERO, id, name, &mut self.pool);
                }
                Submission::Request(request) => {
                    self.protocol.handle_request(id, request, &mut self.pool);
                }
            }
        }
        while let Some(delivery) = self.protocol.poll_delivery() {
            match delivery {
                Delivery::Frame { frame, targets, sender } => {
                    for &target in targets {
                        self.sessions.handle_delivery(target, frame, sender);
                    }
                }
                Delivery::Ended { session } => self.sessions.handle_disconnected(session),
            }
        }
        let mut written = 0;
        while let Some(transmit) = self.sessions.poll_transmit() {
            let id = transmit.session;
            let bytes = transmit.pieces().map(|piece| piece.as_ref().len()).sum();
            self.sessions.handle_sent(id, bytes);
            written += bytes;
        }
        written
    }
}

/// A message of this type from the session called `sender` to groups, with so many bytes of data.
pub(crate) fn message(sender: &str, kind: u32, groups: &[&str], data: usize) -> Vec<u8> {
    let order = ByteOrder::Little;
    let sender = PrivateGroup::parse(format!("#{sender}#d").as_bytes()).unwrap();
    let header = Header {
        order,
        kind,
        name: *sender.to_name().as_field(),
        destinations: groups.len() as i32,
        hint: emit_hint(0, order),
        data_len: data as i32,
    };
    let mut bytes = vec![0; 48];
    header.emit(bytes.first_chunk_mut().unwrap());
    for group in groups {
        let mut field = [0; 32];
        field[..group.len()].copy_from_slice(group.as_bytes());
        bytes.extend_from_slice(&field);
    }
    bytes.resize(bytes.len() + data, 0);
    bytes
}
