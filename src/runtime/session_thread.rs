//! The loop of a session core; with the ring core in the same thread, the whole daemon's.

use std::sync::Arc;
use std::time::Duration;

use super::RunError;
use super::idle::{Idle, Plan};
use super::link::Link;
use super::session_core::SessionCore;
use super::shared::Shared;
use crate::base::limits::EVENTS_PER_TURN;
use crate::base::{Counter, Instant, Tally};
use crate::observe::counters::Counters;
use crate::observe::log::Teller;
use crate::sys::clock::Clock;
use crate::sys::driver::{Driver, Event, Wait};

/// How long a stopping daemon tries to write out what was delivered.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Looks at shared memory for each look at the driver, where there is such memory to look at.
const DRIVER_STRIDE: u32 = 16;

/// Everything that one session core's thread owns.
pub(super) struct SessionThread<L> {
    pub(super) driver: Driver,
    pub(super) core: SessionCore,
    pub(super) link: L,
    pub(super) clock: Clock,
    pub(super) idle: Idle,
    pub(super) counters: Arc<Counters>,
    pub(super) teller: Teller,
    pub(super) shared: Arc<Shared>,
    pub(super) tally: Tally,
}

impl<L: Link> SessionThread<L> {
    /// Runs until the daemon stops.
    pub(super) fn run(mut self) -> Result<(), RunError> {
        let mut now = self.clock.read();
        self.link.open(&mut self.driver);
        let mut work = 1;
        while !self.shared.is_stopping() {
            self.wait(now, work)?;
            now = self.clock.read();
            self.link.look(&self.shared, &mut self.teller);
            work = self.turn(now);
        }
        self.link.close(&mut self.driver);
        let result = self.drain(now);
        self.publish();
        result
    }

    /// One turn: a list of bounded steps. Returns how much there was to do, but for the upkeep of
    /// the ring: it is no sign that more is to come.
    fn turn(&mut self, now: Instant) -> usize {
        self.core.begin_turn(now);
        self.link.begin_turn(now);
        let (mut work, mut of_ring) = self.take_events();
        work += self.take_shared();
        work += self.link.exchange(&mut self.core);
        self.link.fire_timers(self.driver.is_behind());
        self.core.fire_timers();
        work += self.link.exchange(&mut self.core);
        of_ring += self.link.transmit(&mut self.driver);
        work += self.core.transmit(&mut self.driver);
        // In the same turn: the core may sleep after it.
        self.link.release(&mut self.core);
        self.link.flush(&mut self.driver);
        self.tell(now, work + of_ring);
        if of_ring > 0 && self.link.take_traffic() { work + of_ring } else { work }
    }

    /// Takes what has happened. Returns how many events that were, and how many more at the sockets
    /// of the ring; where some are left all count as the former.
    fn take_events(&mut self) -> (usize, usize) {
        let mut of_ring = 0;
        for taken in 0..EVENTS_PER_TURN {
            let Some(event) = self.driver.next_event() else { return (taken - of_ring, of_ring) };
            match event {
                Event::Received { .. } => {
                    self.core.handle_event(event);
                    // At once, so that what comes from one client is bounded by its buffer.
                    self.link.exchange(&mut self.core);
                }
                Event::Datagrams { socket, event } => {
                    of_ring += 1;
                    self.link.receive(socket, event);
                }
                Event::Sent { .. } | Event::SendFailed { .. } | Event::Ended { .. } => {
                    self.core.handle_event(event);
                }
                Event::Accepted { .. }
                | Event::Overflow { .. }
                | Event::AcceptFailed { .. }
                | Event::Woken => self.link.handle_event(event, &mut self.core),
            }
        }
        (EVENTS_PER_TURN, 0)
    }

    /// Takes what sessions have put into the memory shared with them.
    fn take_shared(&mut self) -> usize {
        let mut taken = 0;
        self.core.begin_look();
        while self.core.look() {
            // At once, so that what comes from one client is bounded by what is read at a time.
            self.link.exchange(&mut self.core);
            taken += 1;
        }
        taken
    }

    /// Submits what the last turn queued, and waits for work as the idle strategy says.
    fn wait(&mut self, now: Instant, work: usize) -> Result<(), RunError> {
        let timers = [self.core.next_timer(), self.link.next_timer()];
        let timer = timers.into_iter().flatten().min();
        let is_due = timer.is_some_and(|timer| timer <= now);
        let wait = match self.idle.plan(now, work) {
            Plan::Watch(_) | Plan::Sleep if is_due => Wait::No,
            Plan::Go => Wait::No,
            Plan::Watch(end) => {
                let end = [end, timer, Some(now + super::WATCH_MAX)].into_iter().flatten().min();
                let end = end.unwrap_or(now);
                let (driver, link, core) = (&mut self.driver, &self.link, &self.core);
                // Looking at sockets can take a system call.
                let stride = if core.is_watching() { DRIVER_STRIDE } else { 1 };
                let mut looks = 0;
                self.idle.watch(&self.clock, end, || {
                    looks += 1;
                    core.is_ready() || link.is_ready() || looks % stride == 0 && driver.ready()
                });
                Wait::No
            }
            Plan::Sleep => self.prepare_sleep(now, work, timer),
        };
        let result = self.driver.turn(wait);
        if wait != Wait::No {
            self.link.awake();
        }
        result.map_err(RunError::Driver)
    }

    fn prepare_sleep(&mut self, now: Instant, work: usize, timer: Option<Instant>) -> Wait {
        self.link.prepare_sleep();
        if !self.core.prepare_sleep() || self.link.is_ready() || self.shared.is_stopping() {
            self.link.awake();
            return Wait::No;
        }
        self.tally.count(Counter::Sleeps);
        if work == 0 {
            self.publish();
        }
        // The ring core does not tell when it has made room.
        let retry = self.link.is_held_up().then_some(now + super::WATCH_MAX);
        match timer.into_iter().chain(retry).min() {
            Some(end) => Wait::For(end.since(now)),
            None => Wait::Forever,
        }
    }

    fn tell(&mut self, now: Instant, work: usize) {
        while let Some(event) = self.link.poll_event().or_else(|| self.core.poll_event()) {
            self.teller.tell(now, &event);
        }
        if work > 0 {
            self.tally.count(Counter::TurnsBusy);
            self.publish();
        }
    }

    /// Shows what was counted. A turn without work leaves that to the sleep behind it.
    fn publish(&self) {
        let [sessions, channels] = self.core.tallies();
        let [groups, order, network, strangers, pool, acceptor] = self.link.tallies();
        let all =
            [&self.tally, sessions, channels, groups, order, network, strangers, pool, acceptor];
        self.counters.publish(&all);
    }

    /// Writes out what was delivered; nobody new is heard any more.
    fn drain(&mut self, mut now: Instant) -> Result<(), RunError> {
        let end = now + DRAIN_TIMEOUT;
        self.core.handle_stop();
        while now < end {
            self.turn(now);
            if self.core.is_drained() {
                break;
            }
            // A session that reads must ring for its room, and some may have been left out.
            let until = self.core.next_timer().map_or(end, |timer| timer.min(end));
            let wait = match self.core.prepare_sleep() {
                true => Wait::For(until.since(now)),
                false => Wait::No,
            };
            self.driver.turn(wait).map_err(RunError::Driver)?;
            now = self.clock.read();
        }
        Ok(())
    }
}
