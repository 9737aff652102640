//! The datagram sockets of a driver, and what both drivers have to know of them.

use std::io::{self, IoSlice};
use std::net::SocketAddr;

use super::{DatagramSocket, Destination, Received, Sent};
use crate::sys::table::{Key, Table};

/// The datagram sockets of one driver, each with what the driver needs to know of it.
#[derive(Debug)]
pub(in crate::sys) struct Datagrams<S> {
    pub(in crate::sys) sockets: Table<Attached<S>>,
    /// Some socket may have answers to what was sent.
    has_answers: bool,
}

#[derive(Debug)]
pub(in crate::sys) struct Attached<S> {
    pub(in crate::sys) socket: DatagramSocket,
    pub(in crate::sys) state: S,
    /// The owner gave it up.
    closing: bool,
    /// What the kernel said last of how many packets it dropped.
    dropped: u32,
}

impl<S> Attached<S> {
    pub(in crate::sys) fn is_closing(&self) -> bool {
        self.closing
    }
}

impl<S> Datagrams<S> {
    pub(in crate::sys) fn new() -> Self {
        Self { sockets: Table::new(), has_answers: false }
    }

    pub(in crate::sys) fn insert(&mut self, socket: DatagramSocket, state: S) -> Key {
        self.sockets.insert(Attached { socket, state, closing: false, dropped: 0 })
    }

    /// A socket that its owner has not closed.
    pub(in crate::sys) fn open_socket(&mut self, key: Key) -> Option<&mut Attached<S>> {
        self.sockets.get_mut(key).filter(|attached| !attached.closing)
    }

    /// Nothing more is sent from the socket or reported of it. Whether that is news.
    pub(in crate::sys) fn begin_closing(&mut self, key: Key) -> bool {
        self.open_socket(key)
            .is_some_and(|attached| !std::mem::replace(&mut attached.closing, true))
    }

    /// Sends from a socket; from one that is closed, nothing.
    pub(in crate::sys) fn send(
        &mut self,
        key: Key,
        to: &Destination,
        packets: &[IoSlice<'_>],
    ) -> io::Result<Sent> {
        let Some(attached) = self.open_socket(key) else { return Ok(Sent::by(0)) };
        let sent = attached.socket.send(to, packets);
        let has_answers = attached.socket.has_answers();
        self.has_answers |= has_answers;
        sent
    }

    /// Receives from a socket: see [`DatagramSocket::receive`].
    pub(in crate::sys) fn receive(
        &mut self,
        key: Key,
        into: &mut [u8],
    ) -> io::Result<Option<Received>> {
        let Some(attached) = self.open_socket(key) else { return Ok(None) };
        let received = attached.socket.receive(into);
        let has_answers = attached.socket.has_answers();
        self.has_answers |= has_answers;
        received
    }

    /// How many packets a socket has dropped since its last receive.
    pub(in crate::sys) fn newly_dropped(&mut self, key: Key, received: &Received) -> u32 {
        // A packet that came before any was dropped says nothing.
        let (Some(attached), 1..) = (self.sockets.get_mut(key), received.dropped) else { return 0 };
        received.dropped.wrapping_sub(std::mem::replace(&mut attached.dropped, received.dropped))
    }

    /// The kernel says that there may be answers to what a socket has sent.
    pub(in crate::sys) fn note_answers(&mut self, key: Key) {
        if let Some(attached) = self.sockets.get_mut(key) {
            attached.socket.note_answers();
            self.has_answers = true;
        }
    }

    /// Whether there may be answers to what was sent.
    pub(in crate::sys) fn has_answers(&self) -> bool {
        self.has_answers
    }

    /// The next address that refused what was sent there.
    pub(in crate::sys) fn next_refusal(&mut self) -> Option<(Key, SocketAddr)> {
        if !self.has_answers {
            return None;
        }
        for (key, attached) in self.sockets.iter_mut() {
            if !attached.closing
                && let Some(to) = attached.socket.next_refusal()
            {
                return Some((key, to));
            }
        }
        self.has_answers = false;
        None
    }
}
