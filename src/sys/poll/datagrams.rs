//! Datagrams in the mio driver: sockets that may have packets are read in turn, one receive each.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

use mio::event::Event as Edge;
use mio::{Interest, Token};

use super::{DATAGRAMS, KINDS, PollDriver, register};
use crate::base::limits::DATAGRAM_RECEIVES_PER_TURN;
use crate::sys::accept::REST;
use crate::sys::datagram::{DatagramSocket, RECEIVE_BYTES_MAX, Received};
use crate::sys::driver::DatagramKey;
use crate::sys::table::Key;

/// What the driver knows of a datagram socket.
#[derive(Debug)]
pub(in crate::sys) struct Readable {
    /// epoll knows it.
    registered: bool,
    /// In `Arrivals`, as ready or resting.
    queued: bool,
}

/// Which sockets are to be read, and what was read last.
#[derive(Debug)]
pub(super) struct Arrivals {
    ready: VecDeque<Key>,
    /// Sockets that rest after a failure, soonest first.
    resting: VecDeque<(Instant, Key)>,
    /// Receives that may still be made before the next turn.
    left: usize,
    /// Empty until there is a socket.
    buffer: Vec<u8>,
}

/// What came of receiving.
pub(super) enum Arrived {
    Nothing,
    Datagrams(Key, Received),
    Failed(Key, io::Error),
}

impl Arrivals {
    pub(super) fn new() -> Self {
        Self { ready: VecDeque::new(), resting: VecDeque::new(), left: 0, buffer: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    pub(super) fn first_rest(&self) -> Option<&(Instant, Key)> {
        self.resting.front()
    }

    /// The bytes of the last receive.
    pub(super) fn bytes(&self, received: &Received) -> &[u8] {
        &self.buffer[..received.bytes]
    }
}

impl PollDriver {
    pub(in crate::sys) fn attach_datagrams(&mut self, socket: DatagramSocket) -> DatagramKey {
        self.arrivals.buffer.resize(RECEIVE_BYTES_MAX, 0);
        // Packets may have come before: registered and tried with the first receive.
        let state = Readable { registered: false, queued: true };
        let key = self.datagrams.insert(socket, state);
        self.arrivals.ready.push_back(key);
        DatagramKey(key)
    }

    pub(in crate::sys) fn close_datagrams(&mut self, key: DatagramKey) {
        // Closing takes it out of the epoll; the queues pass over keys without a thing.
        self.datagrams.sockets.remove(key.0);
    }

    pub(super) fn handle_datagram_edge(&mut self, slot: u32, edge: &Edge) {
        let Some(key) = self.datagrams.sockets.key_at(slot) else { return };
        if edge.is_error() {
            self.datagrams.note_answers(key);
        }
        if let Some(attached) = self.datagrams.open_socket(key)
            && !std::mem::replace(&mut attached.state.queued, true)
        {
            self.arrivals.ready.push_back(key);
        }
    }

    /// A turn begins.
    pub(super) fn begin_datagrams(&mut self) {
        while let Some(&(end, key)) = self.arrivals.resting.front()
            && end <= Instant::now()
        {
            self.arrivals.resting.pop_front();
            self.arrivals.ready.push_back(key);
        }
        self.arrivals.left = DATAGRAM_RECEIVES_PER_TURN;
    }

    /// Receives once from the next socket that has something.
    pub(super) fn receive_datagrams(&mut self) -> Arrived {
        while self.arrivals.left > 0 {
            let Some(key) = self.arrivals.ready.pop_front() else { break };
            let Some(attached) = self.datagrams.open_socket(key) else { continue };
            self.arrivals.left -= 1;
            self.counts.socket_calls += 1;
            let received = match attached.state.registered {
                true => Ok(()),
                false => {
                    let token = Token(key.slot as usize * KINDS + DATAGRAMS);
                    let descriptor = attached.socket.as_fd().as_raw_fd();
                    register(&self.poll, descriptor, token, Interest::READABLE)
                }
            };
            attached.state.registered |= received.is_ok();
            let buffer = &mut self.arrivals.buffer;
            match received.and_then(|()| self.datagrams.receive(key, buffer)) {
                Ok(Some(received)) => {
                    self.arrivals.ready.push_back(key);
                    return Arrived::Datagrams(key, received);
                }
                Ok(None) => {
                    if let Some(attached) = self.datagrams.open_socket(key) {
                        attached.state.queued = false;
                    }
                }
                Err(error) => {
                    self.arrivals.resting.push_back((Instant::now() + REST, key));
                    return Arrived::Failed(key, error);
                }
            }
        }
        Arrived::Nothing
    }
}
