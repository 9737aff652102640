//! The datagram sockets of a driver, and which of them may have something.

use std::collections::VecDeque;
use std::io;

use super::{DatagramSocket, Received};
use crate::sys::table::{Key, Table};

/// The datagram sockets of one driver.
#[derive(Debug)]
pub(crate) struct Datagrams {
    sockets: Table<Watched>,
    /// Sockets that may have datagrams.
    ready: VecDeque<Key>,
    /// Of these, so many are yet to be reported in this turn.
    unreported: usize,
    /// Sockets that were read until nothing was left, to be waited for.
    drained: Vec<Key>,
}

#[derive(Debug)]
struct Watched {
    socket: DatagramSocket,
    is_ready: bool,
}

impl Datagrams {
    pub(crate) fn new() -> Self {
        Self { sockets: Table::new(), ready: VecDeque::new(), unreported: 0, drained: Vec::new() }
    }

    /// Takes a socket, which may have datagrams.
    pub(crate) fn insert(&mut self, socket: DatagramSocket) -> Key {
        let key = self.sockets.insert(Watched { socket, is_ready: true });
        self.ready.push_back(key);
        key
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<DatagramSocket> {
        self.sockets.remove(key).map(|watched| watched.socket)
    }

    pub(crate) fn get(&self, key: Key) -> Option<&DatagramSocket> {
        self.sockets.get(key).map(|watched| &watched.socket)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut DatagramSocket> {
        self.sockets.get_mut(key).map(|watched| &mut watched.socket)
    }

    /// The kernel says that there is something at the socket in `slot`, perhaps answers to what was
    /// sent.
    pub(crate) fn mark_ready(&mut self, slot: u32, has_answers: bool) {
        let Some(key) = self.sockets.key_at(slot) else { return };
        let Some(watched) = self.sockets.get_mut(key) else { return };
        if has_answers {
            watched.socket.note_answers();
        }
        if !std::mem::replace(&mut watched.is_ready, true) {
            self.ready.push_back(key);
            self.unreported += 1;
        }
    }

    pub(crate) fn begin_turn(&mut self) {
        self.unreported = self.ready.len();
    }

    /// Whether some socket may have datagrams.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next socket to report.
    pub(crate) fn next(&mut self) -> Option<Key> {
        while self.unreported > 0 {
            self.unreported -= 1;
            let key = self.ready.pop_front()?;
            if self.sockets.get(key).is_some_and(|watched| watched.is_ready) {
                // Until it was read to the end.
                self.ready.push_back(key);
                return Some(key);
            }
        }
        None
    }

    /// Receives; notes when nothing is left.
    pub(crate) fn receive(&mut self, key: Key, into: &mut [u8]) -> io::Result<Option<Received>> {
        let Some(watched) = self.sockets.get_mut(key) else { return Ok(None) };
        let received = watched.socket.receive(into)?;
        if received.is_none() && std::mem::replace(&mut watched.is_ready, false) {
            self.ready.retain(|ready| *ready != key);
            self.drained.push(key);
        }
        Ok(received)
    }

    /// The next socket to be waited for.
    pub(crate) fn next_drained(&mut self) -> Option<Key> {
        self.drained.pop()
    }
}
