//! Datagrams in the io_uring driver: a socket has one multishot receive in flight, so that packets
//! come without a system call of their own. They are sent at once, by plain calls.

use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use rustix::io::Errno;

use super::UringDriver;
use super::kernel::{Completion, Filled};
use crate::sys::accept::REST;
use crate::sys::datagram::{DatagramSocket, Received, is_answer};
use crate::sys::driver::DatagramKey;
use crate::sys::operation::OpKey;
use crate::sys::table::Key;

/// What is in flight for a datagram socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sys) enum Receive {
    Idle,
    /// The multishot receive.
    Armed,
}

/// What came of the completion of a receive.
pub(super) enum Arrived {
    Nothing,
    Datagrams(Key, Filled, Received),
    Failed(Key, io::Error),
}

impl UringDriver {
    pub(in crate::sys) fn attach_datagrams(&mut self, socket: DatagramSocket) -> DatagramKey {
        let key = self.datagrams.insert(socket, Receive::Idle);
        self.arm_datagrams(key);
        DatagramKey(key)
    }

    pub(in crate::sys) fn close_datagrams(&mut self, key: DatagramKey) {
        if !self.datagrams.begin_closing(key.0) {
            return;
        }
        let attached = self.datagrams.sockets.get(key.0);
        if attached.is_some_and(|attached| attached.state == Receive::Armed) {
            self.kernel.cancel(OpKey::Datagrams(key.0.slot));
        }
        self.finish_closing_datagrams(key.0);
    }

    pub(super) fn handle_datagrams(&mut self, slot: u32, completion: Completion) -> Arrived {
        let Completion { result, more, filled, .. } = completion;
        let Some(key) = self.datagrams.sockets.key_at(slot) else { return Arrived::Nothing };
        let Some(attached) = self.datagrams.sockets.get_mut(key) else { return Arrived::Nothing };
        if !more {
            attached.state = Receive::Idle;
        }
        let closing = attached.is_closing();
        if closing {
            self.finish_closing_datagrams(key);
        }
        let Some(filled) = filled else {
            let error = Errno::from_raw_os_error(-result);
            return if closing { Arrived::Nothing } else { self.handle_no_datagrams(key, error) };
        };
        let received = self.kernel.received_datagrams(&filled);
        if closing || received.is_cut {
            self.kernel.give_back(filled);
            return Arrived::Nothing;
        }
        if !more {
            // The kernel does so when completions overflow.
            self.counts.receives_restarted += 1;
            self.arm_datagrams(key);
        }
        Arrived::Datagrams(key, filled, received)
    }

    fn handle_no_datagrams(&mut self, key: Key, error: Errno) -> Arrived {
        match error {
            Errno::NOBUFS => {
                self.counts.buffers_exhausted += 1;
                // There are some again once the events of this turn are taken.
                self.starved_datagrams.push(key);
            }
            Errno::CANCELED | Errno::INTR | Errno::AGAIN => self.arm_datagrams(key),
            error if is_answer(error) => {
                self.datagrams.note_answers(key);
                self.arm_datagrams(key);
            }
            error => {
                self.resting_datagrams.push_back((Instant::now() + REST, key));
                return Arrived::Failed(key, error.into());
            }
        }
        Arrived::Nothing
    }

    /// Starts the multishot receive, unless it is in flight or not wanted.
    fn arm_datagrams(&mut self, key: Key) {
        let Some(attached) = self.datagrams.open_socket(key) else { return };
        if attached.state == Receive::Idle {
            attached.state = Receive::Armed;
            let socket = attached.socket.as_fd();
            self.kernel.receive_datagrams(socket, OpKey::Datagrams(key.slot));
        }
    }

    /// Closes a socket that its owner gave up, once the kernel is done with it.
    fn finish_closing_datagrams(&mut self, key: Key) {
        let attached = self.datagrams.sockets.get(key);
        if attached.is_some_and(|attached| attached.state == Receive::Idle) {
            self.datagrams.sockets.remove(key);
        }
    }

    /// Starts receives again that found no buffer, or whose rest is over.
    pub(super) fn rearm_datagrams(&mut self) {
        while let Some(key) = self.starved_datagrams.pop() {
            self.arm_datagrams(key);
        }
        while let Some(&(end, key)) = self.resting_datagrams.front()
            && end <= Instant::now()
        {
            self.resting_datagrams.pop_front();
            self.arm_datagrams(key);
        }
    }
}
