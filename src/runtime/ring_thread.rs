//! The loop of the ring core, where it has a thread of its own.

use std::sync::Arc;

use super::RunError;
use super::acceptor::Acceptor;
use super::doorbell::Doorbell;
use super::idle::{Idle, Plan};
use super::port::{Lane, Port, TARGETS_MAX, Targets, ToRing, ToSession};
use super::ring_core::{Answer, RingCore, names};
use super::shared::Shared;
use crate::base::limits::{EVENTS_PER_TURN, ITEMS_PER_TURN};
use crate::base::{Counter, Instant, SessionId, Tally};
use crate::mem::pool::Slice;
use crate::observe::counters::Counters;
use crate::observe::log::Teller;
use crate::protocol::Delivery;
use crate::session::Hold;
use crate::sys::clock::Clock;
use crate::sys::driver::{self, Driver, Wait};

/// One session core, as the ring core sees it.
pub(super) struct SessionPort {
    pub(super) port: Port<ToSession, ToRing>,
    pub(super) bell: Doorbell,
}

/// Everything that the ring core's thread owns.
pub(super) struct RingThread {
    pub(super) driver: Driver,
    pub(super) ring: RingCore,
    pub(super) acceptor: Acceptor,
    pub(super) ports: Vec<SessionPort>,
    pub(super) own_bell: Doorbell,
    pub(super) clock: Clock,
    pub(super) idle: Idle,
    pub(super) counters: Arc<Counters>,
    pub(super) teller: Teller,
    pub(super) shared: Arc<Shared>,
    pub(super) tally: Tally,
    /// The core that gets the next connection.
    pub(super) next_core: usize,
}

impl RingThread {
    /// Runs until the session cores have stopped.
    pub(super) fn run(mut self) -> Result<(), RunError> {
        self.ring.open(&mut self.driver);
        self.acceptor.open(&mut self.driver);
        let mut now = self.clock.read();
        let mut work = 1;
        let mut accepting = true;
        while !self.shared.is_finished() {
            if accepting && self.shared.is_stopping() {
                self.ring.stop(&mut self.driver);
                self.acceptor.close(&mut self.driver);
                accepting = false;
            }
            self.wait(now, work, accepting)?;
            now = self.clock.read();
            if let Some(cluster) = self.shared.take_cluster() {
                self.teller.rename(names(&cluster, self.ring.me));
                self.ring.reload(&cluster);
            }
            work = self.turn(now);
        }
        self.publish();
        Ok(())
    }

    /// One turn. Returns how much there was to do, but for the upkeep of the ring.
    fn turn(&mut self, now: Instant) -> usize {
        self.ring.begin_turn(now);
        let (mut work, mut of_ring) = self.take_events();
        self.ring.retry();
        self.deliver();
        for core in 0..self.ports.len() {
            work += self.take_requests(core);
        }
        // Behind all input: what came in time counts, and messages that came together leave so.
        self.ring.fire_timers(self.driver.is_behind());
        self.deliver();
        if self.ring.take_lack() {
            self.ports.iter_mut().for_each(|port| port.port.lane.push(ToSession::Shortage));
        }
        of_ring += self.ring.transmit(&mut self.driver);
        for port in &mut self.ports {
            if port.port.lane.flush() {
                port.bell.ring(&mut self.driver);
            }
        }
        self.tell(now, work + of_ring);
        if of_ring > 0 && self.ring.take_traffic() { work + of_ring } else { work }
    }

    /// Takes what has happened, as a session core does.
    fn take_events(&mut self) -> (usize, usize) {
        let mut of_ring = 0;
        for taken in 0..EVENTS_PER_TURN {
            let Some(event) = self.driver.next_event() else { return (taken - of_ring, of_ring) };
            if let driver::Event::Datagrams { socket, event } = event {
                of_ring += 1;
                self.ring.hold_data(self.ports.iter().any(|port| port.port.lane.is_behind()));
                self.ring.receive(socket, event);
                self.deliver();
                continue;
            }
            if let Some(arrival) = self.acceptor.handle_event(event) {
                let core = self.next_core % self.ports.len();
                self.next_core = core + 1;
                self.ports[core].port.lane.push(ToSession::Accepted(arrival));
            }
        }
        (EVENTS_PER_TURN, 0)
    }

    /// Takes what a session core asks for, unless some core cannot take what follows from it.
    fn take_requests(&mut self, core: usize) -> usize {
        let mut taken = 0;
        while taken < ITEMS_PER_TURN && !self.is_held_up() {
            let Some(item) = self.ports[core].port.queue.pop() else { break };
            taken += 1;
            match item {
                ToRing::Submit(id, submission) => {
                    if let Answer::Named(name) = self.ring.submit(id, submission) {
                        self.lane(id).push(ToSession::Named(id, name));
                    }
                    self.deliver();
                }
                ToRing::Hold(hold) => {
                    let (Hold::Begin(sender) | Hold::End(sender)) = hold;
                    self.lane(sender).push(ToSession::Hold(hold));
                }
                ToRing::Closed(sessions) => self.acceptor.released(sessions),
            }
        }
        self.ports[core].port.queue.release();
        taken
    }

    fn is_held_up(&self) -> bool {
        self.ring.is_blocked() || self.ports.iter().any(|port| port.port.lane.is_full())
    }

    fn lane(&mut self, session: SessionId) -> &mut Lane<ToSession> {
        &mut self.ports[session.core()].port.lane
    }

    fn deliver(&mut self) {
        let (ring, ports) = (&mut self.ring, &mut self.ports);
        while let Some(delivery) = ring.poll_delivery() {
            match delivery {
                Delivery::Frame { frame, targets, sender } => {
                    deliver_frame(ports, frame, targets, sender);
                }
                Delivery::Ended { session } => push(ports, session, ToSession::Ended(session)),
                Delivery::Hold { session } => {
                    push(ports, session, ToSession::Hold(Hold::Begin(session)));
                }
                Delivery::Release { session } => {
                    push(ports, session, ToSession::Hold(Hold::End(session)));
                }
            }
        }
    }

    fn wait(&mut self, now: Instant, work: usize, accepting: bool) -> Result<(), RunError> {
        let timer = self.ring.next_timer();
        let is_due = timer.is_some_and(|timer| timer <= now);
        let wait = match self.idle.plan(now, work) {
            Plan::Watch(_) | Plan::Sleep if is_due => Wait::No,
            Plan::Go => Wait::No,
            Plan::Watch(end) => {
                let end = [end, timer, Some(now + super::WATCH_MAX)].into_iter().flatten().min();
                let end = end.unwrap_or(now);
                let (driver, ports) = (&mut self.driver, &self.ports);
                self.idle.watch(&self.clock, end, || driver.ready() || are_ready(ports));
                Wait::No
            }
            Plan::Sleep => self.prepare_sleep(now, work, accepting),
        };
        let result = self.driver.turn(wait);
        if wait != Wait::No {
            self.own_bell.awake();
        }
        result.map_err(RunError::Driver)
    }

    fn prepare_sleep(&mut self, now: Instant, work: usize, accepting: bool) -> Wait {
        self.own_bell.prepare_sleep();
        let told = self.shared.is_finished() || accepting && self.shared.is_stopping();
        // While it is held up, requests stay in the queues: it is the session cores' turn.
        if told || !self.is_held_up() && are_ready(&self.ports) {
            self.own_bell.awake();
            return Wait::No;
        }
        self.tally.count(Counter::Sleeps);
        if work == 0 {
            self.publish();
        }
        // The session cores do not tell when they have made room.
        let retry = self.is_held_up().then_some(now + super::WATCH_MAX);
        match self.ring.next_timer().into_iter().chain(retry).min() {
            Some(end) => Wait::For(end.since(now)),
            None => Wait::Forever,
        }
    }

    fn tell(&mut self, now: Instant, work: usize) {
        while let Some(event) = self.ring.poll_event() {
            self.teller.tell(now, &event);
        }
        if work > 0 {
            self.tally.count(Counter::TurnsBusy);
            self.publish();
        }
    }

    /// Shows what was counted, as a session core does.
    fn publish(&self) {
        let [groups, order, network, strangers, pool] = self.ring.tallies();
        let acceptor = self.acceptor.tally();
        let all = [&self.tally, groups, order, network, strangers, pool, acceptor];
        self.counters.publish(&all);
    }
}

fn are_ready(ports: &[SessionPort]) -> bool {
    ports.iter().any(|port| !port.port.queue.is_empty())
}

fn push(ports: &mut [SessionPort], session: SessionId, item: ToSession) {
    ports[session.core()].port.lane.push(item);
}

/// Gives each session core the frame once for every few of its sessions.
fn deliver_frame(
    ports: &mut [SessionPort],
    frame: &Slice,
    targets: &[SessionId],
    sender: Option<SessionId>,
) {
    for (core, port) in ports.iter_mut().enumerate() {
        let mut of_core = targets.iter().copied().filter(|target| target.core() == core);
        loop {
            let mut few = [SessionId::new(0, 0, 0); TARGETS_MAX];
            let mut len = 0;
            for (place, target) in few.iter_mut().zip(&mut of_core) {
                *place = target;
                len += 1;
            }
            if len == 0 {
                break;
            }
            let targets = Targets::new(&few[..len]);
            port.port.lane.push(ToSession::Deliver { frame: frame.clone(), sender, targets });
        }
    }
}
