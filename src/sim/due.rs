//! What is done to a cluster, and what is due in it at some moment.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::base::buffer::HeapBuffer;
use crate::base::{DaemonId, Instant};

use super::core::Channel;
use super::network::Weather;
use super::store::Shortage;

/// Something that a scenario does to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ends a daemon without a word.
    Crash(usize),
    /// Ends a daemon in order.
    Stop(usize),
    /// Starts a daemon that is not running.
    Start(usize),
    /// Sets a machine's clock back by so many lives: the next one of its daemon looks earlier.
    SetBack(usize, u64),
    /// Keeps a daemon from running for a while; its datagrams wait in its buffers.
    Pause(usize, Duration),
    /// Crashes a daemon as soon as it is in the state of this name; any daemon where there is none.
    CrashIn(Option<usize>, &'static str),
    /// Crashes a daemon as soon as it has sent so many datagrams in one turn; any daemon
    /// where there is none. What it had still to send is lost.
    CrashAmid(Option<usize>, usize),
    /// Cuts the network into parts as soon as some daemon is in the state of this name.
    PartitionIn(Vec<usize>, &'static str),
    /// Lets nothing arrive any more that a daemon sends, as soon as it is in the state of this
    /// name; any daemon where there is none.
    MuteIn(Option<usize>, &'static str),
    /// Cuts the network into parts: which one each daemon is in.
    Partition(Vec<usize>),
    /// Cuts or restores one direction of a link.
    Link(usize, usize, bool),
    /// Lets nothing arrive that a machine sends to all, while its tokens do; or all again.
    Hush(usize, bool),
    /// Has tokens of one machine refused by another one, which takes all else; or no more.
    Reject(usize, usize, bool),
    /// Tells the daemon of a machine that nothing listens at another one's, true or not.
    Refuse(usize, usize),
    /// Lets everybody hear everybody.
    Heal,
    /// Changes the weather.
    Weather(Weather),
    /// Gives a machine a configuration file with this identity of the cluster: its daemon goes over
    /// to it, or begins with it when it starts.
    Reload(usize, u64),
    /// Sends an old datagram again, to everybody.
    Stale,
    /// The same with an old one of this kind.
    StaleOf(usize),
    /// Lets a daemon's memory run short, or have room again.
    Memory(usize, Shortage),
    /// Sends noise to everybody.
    Stranger,
}

/// What is due at some moment.
pub(super) enum Happening {
    Arrive {
        /// Nobody where it is thrown in.
        from: Option<usize>,
        to: usize,
        channel: Channel,
        bytes: HeapBuffer,
    },
    Work {
        host: usize,
        life: u32,
    },
    Timer {
        host: usize,
        life: u32,
    },
    Resume {
        host: usize,
    },
    Submit {
        host: usize,
        habit: u64,
    },
    /// Boxed, as it is rare and large.
    Act(Box<Action>),
    Unreachable {
        host: usize,
        daemon: DaemonId,
    },
}

/// What is due, by time; of what is due at one moment, what was scheduled first happens first.
#[derive(Default)]
pub(super) struct Queue {
    /// Moment, order, slot: what moves about in a heap is to be small.
    heap: BinaryHeap<Reverse<(Instant, u64, u32)>>,
    slots: Vec<Option<Happening>>,
    free: Vec<u32>,
    order: u64,
}

impl Queue {
    pub(super) fn push(&mut self, at: Instant, what: Happening) {
        self.order += 1;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(what);
                slot
            }
            None => {
                self.slots.push(Some(what));
                self.slots.len() as u32 - 1
            }
        };
        self.heap.push(Reverse((at, self.order, slot)));
    }

    /// The next thing that is due until `end`: when, its order, and what.
    pub(super) fn pop(&mut self, end: Instant) -> Option<(Instant, u64, Happening)> {
        if self.heap.peek().is_none_or(|Reverse((at, ..))| *at > end) {
            return None;
        }
        let Reverse((at, order, slot)) = self.heap.pop()?;
        self.free.push(slot);
        Some((at, order, self.slots[slot as usize].take()?))
    }

    /// An order above that of all that is scheduled now, and below that of what will be.
    pub(super) fn cut(&mut self) -> u64 {
        self.order += 1;
        self.order
    }
}
