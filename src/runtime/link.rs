//! How a session core reaches the ring core: in the same thread, or by queues.

use super::acceptor::Acceptor;
use super::doorbell::Doorbell;
use super::port::{Port, ToRing, ToSession};
use super::ring_core::{Answer, RingCore, names};
use super::session_core::SessionCore;
use super::shared::Shared;
use crate::base::limits::ITEMS_PER_TURN;
use crate::base::{Event, Instant, Tally};
use crate::observe::log::Teller;
use crate::protocol::Delivery;
use crate::session::Hold;
use crate::sys::driver::{self, DatagramEvent, DatagramKey, Driver};

/// A session core's way to the ring core.
pub(super) trait Link {
    /// Work begins; the driver is open.
    fn open(&mut self, driver: &mut Driver);

    /// A turn begins.
    fn begin_turn(&mut self, now: Instant);

    /// Does what is due, behind all input of the turn: what came in time counts, and messages that
    /// came together leave together. `is_behind`: some events were left.
    fn fire_timers(&mut self, is_behind: bool);

    /// Looks whether the daemon is to go over to another cluster.
    fn look(&mut self, shared: &Shared, teller: &mut Teller);

    /// When something will be due.
    fn next_timer(&self) -> Option<Instant>;

    /// Passes on what the sessions ask for, and brings what comes back. Returns how much came.
    fn exchange(&mut self, core: &mut SessionCore) -> usize;

    /// An event of the driver that concerns no connection.
    fn handle_event(&mut self, event: driver::Event<'_>, core: &mut SessionCore);

    /// Something happened to a datagram socket.
    fn receive(&mut self, socket: DatagramKey, event: DatagramEvent<'_>);

    /// Sends what there is for other daemons. Returns how much.
    fn transmit(&mut self, driver: &mut Driver) -> usize;

    /// Whether messages went through the ring since the last call, or are about to.
    fn take_traffic(&mut self) -> bool;

    /// Whether there is something to exchange; looked at while watching for work.
    fn is_ready(&self) -> bool;

    /// Lets others take the place of sessions whose connections are closed.
    fn release(&mut self, core: &mut SessionCore);

    /// Whether something waits for room that nobody will announce: to be tried again soon.
    fn is_held_up(&self) -> bool;

    /// Lets the other core see what was passed on, and wakes it if need be.
    fn flush(&mut self, driver: &mut Driver);

    /// The core is about to sleep; [`Link::is_ready`] is asked once more after it.
    fn prepare_sleep(&self);

    /// The core is awake again.
    fn awake(&self);

    /// No new connections: the daemon stops.
    fn close(&mut self, driver: &mut Driver);

    /// The next thing to tell the operator.
    fn poll_event(&mut self) -> Option<Event>;

    /// What the parts behind it have counted.
    fn tallies(&self) -> [&Tally; 6];
}

/// The ring core is in this thread: nothing hops.
pub(super) struct Local {
    pub(super) ring: RingCore,
    pub(super) acceptor: Acceptor,
}

impl Local {
    fn submit_all(&mut self, core: &mut SessionCore) -> usize {
        let mut work = 0;
        while !self.ring.is_blocked()
            && let Some((id, submission)) = core.poll_submission()
        {
            work += 1;
            match self.ring.submit(id, submission) {
                Answer::Named(name) => core.handle_named(id, name),
                Answer::Ordered => {}
            }
        }
        work
    }

    fn deliver_all(&mut self, core: &mut SessionCore) {
        while let Some(delivery) = self.ring.poll_delivery() {
            match delivery {
                Delivery::Frame { frame, targets, sender } => {
                    core.handle_delivery(frame, targets, sender);
                }
                Delivery::Ended { session } => core.handle_disconnected(session),
                Delivery::Hold { session } => core.handle_hold(Hold::Begin(session)),
                Delivery::Release { session } => core.handle_hold(Hold::End(session)),
            }
        }
    }
}

impl Link for Local {
    fn open(&mut self, driver: &mut Driver) {
        self.ring.open(driver);
        self.acceptor.open(driver);
    }

    fn begin_turn(&mut self, now: Instant) {
        self.ring.begin_turn(now);
    }

    fn fire_timers(&mut self, is_behind: bool) {
        self.ring.fire_timers(is_behind);
    }

    fn look(&mut self, shared: &Shared, teller: &mut Teller) {
        if let Some(cluster) = shared.take_cluster() {
            teller.rename(names(&cluster, self.ring.me));
            self.ring.reload(&cluster);
        }
    }

    fn next_timer(&self) -> Option<Instant> {
        self.ring.next_timer()
    }

    fn exchange(&mut self, core: &mut SessionCore) -> usize {
        self.ring.retry();
        let mut work = 0;
        // A delivery can end a session, which then asks for its disconnect.
        loop {
            let submitted = self.submit_all(core);
            self.deliver_all(core);
            while let Some(hold) = core.poll_hold() {
                core.handle_hold(hold);
            }
            if submitted == 0 {
                break;
            }
            work += submitted;
        }
        core.handle_throttle(self.ring.is_blocked());
        if self.ring.take_lack() {
            core.handle_shortage();
        }
        work
    }

    fn handle_event(&mut self, event: driver::Event<'_>, core: &mut SessionCore) {
        if let Some(arrival) = self.acceptor.handle_event(event) {
            core.adopt(arrival);
        }
    }

    fn receive(&mut self, socket: DatagramKey, event: DatagramEvent<'_>) {
        self.ring.receive(socket, event);
    }

    fn take_traffic(&mut self) -> bool {
        self.ring.take_traffic()
    }

    fn transmit(&mut self, driver: &mut Driver) -> usize {
        self.ring.transmit(driver)
    }

    fn is_ready(&self) -> bool {
        false
    }

    fn is_held_up(&self) -> bool {
        self.ring.is_blocked()
    }

    fn release(&mut self, core: &mut SessionCore) {
        self.acceptor.released(core.take_closed());
    }

    fn flush(&mut self, _driver: &mut Driver) {}

    fn prepare_sleep(&self) {}

    fn awake(&self) {}

    fn close(&mut self, driver: &mut Driver) {
        self.ring.stop(driver);
        self.acceptor.close(driver);
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.ring.poll_event()
    }

    fn tallies(&self) -> [&Tally; 6] {
        let [groups, order, network, strangers, pool] = self.ring.tallies();
        [groups, order, network, strangers, pool, self.acceptor.tally()]
    }
}

/// The ring core is another thread.
pub(super) struct Remote {
    pub(super) port: Port<ToRing, ToSession>,
    /// Of the ring core.
    pub(super) ring_bell: Doorbell,
    /// Of this core.
    pub(super) own_bell: Doorbell,
}

impl Remote {
    fn take(&mut self, core: &mut SessionCore) -> usize {
        for taken in 0..ITEMS_PER_TURN {
            let Some(item) = self.port.queue.pop() else { return taken };
            match item {
                ToSession::Accepted(arrival) => core.adopt(arrival),
                ToSession::Named(id, name) => core.handle_named(id, name),
                ToSession::Deliver { frame, sender, targets } => {
                    core.handle_delivery(&frame, targets.as_slice(), sender);
                }
                ToSession::Ended(id) => core.handle_disconnected(id),
                ToSession::Hold(hold) => core.handle_hold(hold),
                ToSession::Shortage => core.handle_shortage(),
            }
        }
        ITEMS_PER_TURN
    }
}

impl Link for Remote {
    fn open(&mut self, _driver: &mut Driver) {}

    fn begin_turn(&mut self, _now: Instant) {}

    fn fire_timers(&mut self, _is_behind: bool) {}

    fn look(&mut self, _shared: &Shared, _teller: &mut Teller) {}

    fn next_timer(&self) -> Option<Instant> {
        None
    }

    fn exchange(&mut self, core: &mut SessionCore) -> usize {
        let mut work = self.take(core);
        self.port.queue.release();
        let lane = &mut self.port.lane;
        while let Some((id, submission)) = core.poll_submission() {
            lane.push(ToRing::Submit(id, submission));
            work += 1;
        }
        while let Some(hold) = core.poll_hold() {
            lane.push(ToRing::Hold(hold));
        }
        core.handle_throttle(lane.is_full());
        work
    }

    fn handle_event(&mut self, event: driver::Event<'_>, _core: &mut SessionCore) {
        match event {
            driver::Event::Woken => {}
            driver::Event::Accepted { .. }
            | driver::Event::Datagrams { .. }
            | driver::Event::Overflow { .. }
            | driver::Event::AcceptFailed { .. }
            | driver::Event::Received { .. }
            | driver::Event::Sent { .. }
            | driver::Event::SendFailed { .. }
            | driver::Event::Ended { .. } => unreachable!("the ring core has the listeners"),
        }
    }

    fn receive(&mut self, _socket: DatagramKey, _event: DatagramEvent<'_>) {}

    fn take_traffic(&mut self) -> bool {
        false
    }

    fn transmit(&mut self, _driver: &mut Driver) -> usize {
        0
    }

    fn is_ready(&self) -> bool {
        !self.port.queue.is_empty()
    }

    fn is_held_up(&self) -> bool {
        self.port.lane.is_full()
    }

    fn release(&mut self, core: &mut SessionCore) {
        match core.take_closed() {
            0 => {}
            closed => self.port.lane.push(ToRing::Closed(closed)),
        }
    }

    fn flush(&mut self, driver: &mut Driver) {
        if self.port.lane.flush() {
            self.ring_bell.ring(driver);
        }
    }

    fn prepare_sleep(&self) {
        self.own_bell.prepare_sleep();
    }

    fn awake(&self) {
        self.own_bell.awake();
    }

    fn close(&mut self, _driver: &mut Driver) {}

    fn poll_event(&mut self) -> Option<Event> {
        None
    }

    fn tallies(&self) -> [&Tally; 6] {
        // The ring core publishes its own.
        const NOTHING: &Tally = &Tally::new();
        [NOTHING; 6]
    }
}
