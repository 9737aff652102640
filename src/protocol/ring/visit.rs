//! One visit of the token.

use crate::base::{Buffer, Counter, Rank, Store};
use crate::wire::data::{DATA_HEADER_BYTES, DataHeader};
use crate::wire::token::TokenHeader;

use super::super::context::Scope;
use super::flow::Traffic;
use super::repair;
use super::rotation::Rotation;

impl<B: Buffer> Rotation<B> {
    /// Does all that only the holder of the token may do, and passes it on, or lets it rest.
    pub(super) fn visit<S: Store<Buffer = B>>(
        &mut self,
        mut token: TokenHeader,
        scope: &mut Scope<'_, S>,
    ) {
        scope.cx.out.count(Counter::TokenVisits);
        self.visit_hop = token.hop;
        self.rest.visited();
        let was_handed = std::mem::take(&mut token.handed);
        let is_repairing = !self.missing.is_empty();
        let repeated = self.answer(scope);
        let user = self.next_user(&token, scope.cx, scope.now);
        let sent = self.send_new(&mut token, user, repeated, scope);
        self.request(scope);
        (self.visit_seq, self.visit_aru) = (token.seq, self.ring.window.aru());
        let is_done = !is_repairing && self.missing.is_empty() && scope.cx.backlog.is_empty();
        let is_quiet = is_done && sent == 0 && token.tour == 0;
        if is_quiet && self.ring.is_stable() {
            self.rest_or_grant(token, scope);
        } else if is_quiet && was_handed && self.rest.is_unwanted() {
            self.hand_over(token, scope.cx.me, scope);
        } else if let Some(user) = user.filter(|_| is_done && sent > 0) {
            self.hand_over(token, user, scope);
        } else {
            self.pass_on(token, scope);
        }
        // Accelerated ring: the next daemon has the token while these are still on their way.
        for bytes in self.trailing.drain(..) {
            scope.cx.send(None, Some(bytes));
        }
        // The ring waits for the token, our clients do not.
        self.settle(scope);
    }

    /// Repeats what others miss and this daemon has. Returns how many bytes that were.
    fn answer<S: Store<Buffer = B>>(&mut self, scope: &mut Scope<'_, S>) -> usize {
        let pace = self.repair_pace(scope.cx, scope.now);
        let (mut own, mut repeated) = (false, 0);
        repair::answer(&mut self.missing, &mut self.ring.window, &pace, |packet| {
            own |= packet.origin == scope.cx.me;
            repeated += packet.bytes.as_ref().len();
            scope.cx.out.count(Counter::PacketsRepaired);
            scope.cx.send(None, Some(packet.bytes.clone()));
        });
        if own {
            self.flow.lost();
        }
        repeated
    }

    /// Asks for what is missing here. Accelerated ring: what was sent in the round that is just
    /// going on may still be on its way, so only up to the token's seq at its last visit.
    fn request<S: Store<Buffer = B>>(&mut self, scope: &mut Scope<'_, S>) {
        let window = &self.ring.window;
        let (aru, high) = (window.aru(), window.high());
        if !self.overdue.observe(scope.now, aru, high, scope.cx.options.reorder_allowance) {
            return;
        }
        let limit = self.overdue.limit().min(self.visit_seq);
        let asked = repair::request(&mut self.missing, window, limit);
        scope.cx.out.tally.add(Counter::RepairsRequested, asked as u64);
    }

    /// Gives places to what waits, as much as the windows allow: the first packets go out before
    /// the token, the last ones behind it.
    fn send_new<S: Store<Buffer = B>>(
        &mut self,
        token: &mut TokenHeader,
        user: Option<Rank>,
        repeated: usize,
        scope: &mut Scope<'_, S>,
    ) -> usize {
        let rotation = Traffic { new: token.flow as usize, repeated: token.repeated as usize };
        let slowest = self.ring.safe().get();
        let open = (slowest + self.ring.window_packets).saturating_sub(token.seq.get());
        let budget = self.flow.budget(rotation, open as usize);
        let mut sent_bytes = 0;
        let mut sent = 0;
        while sent < budget {
            let Some(bytes) = self.place_next(token, user, scope) else { break };
            sent_bytes += bytes;
            sent += 1;
        }
        let leading = sent.saturating_sub(self.flow.accelerated_packets());
        for bytes in self.trailing.drain(..leading) {
            scope.cx.send(None, Some(bytes));
        }
        let overrun =
            self.flow.overrun(std::mem::take(&mut scope.cx.dropped), rotation, sent_bytes);
        let turn = Traffic { new: sent_bytes, repeated: repeated + overrun };
        let rotation = self.flow.record(rotation, turn);
        token.flow = u32::try_from(rotation.new).unwrap_or(u32::MAX);
        token.repeated = u32::try_from(rotation.repeated).unwrap_or(u32::MAX);
        if sent > 0 {
            self.rest.sent();
        }
        sent
    }

    /// Makes the next packet, and keeps it as received. Returns its size.
    fn place_next<S: Store<Buffer = B>>(
        &mut self,
        token: &mut TokenHeader,
        keeper: Option<Rank>,
        scope: &mut Scope<'_, S>,
    ) -> Option<usize> {
        let cx = &mut *scope.cx;
        let seq = token.seq.next();
        let aru = self.ring.window.aru();
        let aru = if aru == token.seq { seq } else { aru };
        let header = DataHeader {
            ring: self.ring.id,
            seq,
            hop: self.visit_hop,
            aru,
            safe: self.ring.safe(),
            keeper,
        };
        let room = cx.options.datagram_bytes - DATA_HEADER_BYTES;
        let (packet, messages) = cx.backlog.pack(header, cx.me, cx.envelope, room, scope.store)?;
        token.seq = seq;
        let bytes = packet.bytes.clone();
        let is_safe = packet.is_safe;
        let inserted = self.ring.window.insert(seq, packet);
        assert_eq!(inserted, super::window::Inserted::New, "the token gives each place once");
        self.ring.received(cx.me, seq, is_safe);
        self.announced = aru;
        cx.tell_places(&self.ring, seq, messages);
        cx.out.count(Counter::PacketsSent);
        let size = bytes.as_ref().len();
        self.trailing.push(bytes);
        Some(size)
    }
}
