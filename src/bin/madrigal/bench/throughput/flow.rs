//! Those who send and those who receive; receivers check all that comes.

use std::sync::Arc;

use madrigal::client::{Event, Inbox, Outbox, Service, Wait};

use super::board::Board;
use crate::failure::{Context, Failure, Result, failed};
use crate::show::show_event;

/// A message says who sent it, and its place among that sender's.
pub(super) const NUMBER_BYTES: usize = 12;

/// Message type of a sender's last message, whose number is that of its messages.
const LAST: i16 = 1;

pub(super) struct Sender {
    pub(super) index: usize,
    pub(super) outbox: Outbox,
    pub(super) group: String,
    pub(super) service: Service,
    pub(super) data: Vec<u8>,
    pub(super) window: u64,
    pub(super) batch: u64,
    pub(super) wait: Wait,
    pub(super) board: Arc<Board>,
    pub(super) sent: u64,
}

impl Sender {
    /// Sends until the run is over.
    pub(super) fn run(mut self) -> Result {
        while !self.board.stopped() {
            let room = self.window - (self.sent - self.board.received_by_all(self.index));
            if room == 0 {
                // Waiting for one would make each write carry one: let half a window come free.
                self.board.wait_for(self.index, self.sent - self.window / 2, self.wait);
                continue;
            }
            for _ in 0..room.min(self.batch) {
                self.queue(0)?;
                self.sent += 1;
            }
            self.outbox.flush().context("cannot send")?;
        }
        self.queue(LAST)?;
        self.outbox.disconnect().context("the connection broke while sending")
    }

    fn queue(&mut self, message_type: i16) -> Result {
        self.data[..4].copy_from_slice(&(self.index as u32).to_le_bytes());
        self.data[4..NUMBER_BYTES].copy_from_slice(&self.sent.to_le_bytes());
        self.outbox
            .queue(self.service, &[&self.group], message_type, &self.data)
            .context("cannot send")
    }
}

/// What a receiver has of one sender.
#[derive(Clone, Copy, Default)]
pub(super) struct Flow {
    pub(super) received: u64,
    pub(super) published: u64,
    /// How many there are, once the sender has said so.
    pub(super) total: Option<u64>,
}

pub(super) struct Receiver {
    pub(super) index: usize,
    pub(super) inbox: Inbox,
    pub(super) flows: Vec<Flow>,
    /// Whether each sender's messages must come in order.
    pub(super) order: bool,
    /// Of the order in which messages of all senders came.
    pub(super) hash: u64,
    pub(super) board: Arc<Board>,
}

impl Receiver {
    /// Receives until every sender's last message is there; a hash of the order they came in.
    pub(super) fn run(mut self) -> Result<u64> {
        while self.flows.iter().any(|flow| flow.total != Some(flow.received)) {
            self.take_one()?;
            while self.inbox.has_buffered() {
                self.take_one()?;
            }
            for (sender, flow) in self.flows.iter_mut().enumerate() {
                if flow.published != flow.received {
                    flow.published = flow.received;
                    self.board.publish(sender, self.index, flow.received);
                }
            }
        }
        Ok(self.hash)
    }

    fn take_one(&mut self) -> Result {
        let event = self.inbox.receive().context(
            "receiving failed (a smaller --window keeps daemons from dropping slow receivers)",
        )?;
        let (sender, number) = parse(&event).ok_or_else(|| unexpected(&event))?;
        let last = matches!(&event, Event::Message(it) if it.message_type() == LAST);
        let flow = self.flows.get_mut(sender).ok_or_else(|| unexpected(&event))?;
        if number != flow.received && (self.order || last) {
            return Err(failed(format!(
                "receiver {}: message {number} of sender {sender} came in the place of {}",
                self.index, flow.received
            )));
        }
        if last {
            flow.total = Some(number);
        } else {
            flow.received += 1;
            self.hash = mix(self.hash, sender as u64, number);
        }
        Ok(())
    }
}

fn parse(event: &Event<'_>) -> Option<(usize, u64)> {
    let Event::Message(message) = event else { return None };
    let (sender, rest) = message.data().split_first_chunk()?;
    let sender = u32::from_le_bytes(*sender) as usize;
    Some((sender, u64::from_le_bytes(*rest.first_chunk()?)))
}

fn unexpected(event: &Event<'_>) -> Failure {
    failed(format!("expected a message of this bench, received {}", show_event(event)))
}

/// Depends on all messages so far and on their order.
fn mix(hash: u64, sender: u64, number: u64) -> u64 {
    // Fibonacci hashing: the odd constant is 2^64 divided by the golden ratio.
    (hash.rotate_left(5) ^ (number << 10 ^ sender)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_tells_orders_apart() {
        let hash = |order: &[(u64, u64)]| {
            order.iter().fold(0, |hash, &(sender, number)| mix(hash, sender, number))
        };
        let order = [(0, 0), (1, 0), (0, 1), (1, 1)];
        assert_eq!(hash(&order), hash(&order));
        for other in [
            [(1, 0), (0, 0), (0, 1), (1, 1)],
            [(0, 0), (1, 0), (1, 1), (0, 1)],
            [(0, 0), (0, 1), (1, 0), (1, 1)],
        ] {
            assert_ne!(hash(&order), hash(&other));
        }
    }
}
