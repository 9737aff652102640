//! A session core's state: its sessions, the connections that carry them, and memory for what
//! clients send.

use std::io::{self, ErrorKind};
use std::time::Duration;

use super::acceptor::{Arrival, Transport};
use super::channels::{Channels, Found};
use crate::base::{Event, Instant, PrivateGroup, SessionId, Tally};
use crate::mem::pool::{Pool, Slice};
use crate::mem::stream::Corrupt;
use crate::session::{Action, Hold, Sessions, Setup, Submission};
use crate::sys::driver::{self, Driver, StreamKey};

/// How long a lack of memory may last before the session that holds most of it is dropped, and
/// then the next.
const RELIEF_INTERVAL: Duration = Duration::from_millis(10);

/// The sessions of one core and their connections.
pub(super) struct SessionCore {
    sessions: Sessions<Pool>,
    pool: Pool,
    /// By slot of the connection.
    session_of: Vec<Option<SessionId>>,
    /// By slot of the session.
    stream_of: Vec<Option<StreamKey>>,
    /// Connections that have come in this turn.
    accepted: Vec<Arrival>,
    channels: Channels,
    now: Instant,
    relief_due: Option<Instant>,
    /// When the ring core was last short of memory.
    short_at: Option<Instant>,
    /// Sessions that are gone since somebody asked.
    closed: usize,
    stopping: bool,
}

impl SessionCore {
    pub(super) fn new(setup: Setup, pool: Pool, channels: Channels) -> Self {
        Self {
            sessions: Sessions::new(setup),
            pool,
            session_of: Vec::new(),
            stream_of: Vec::new(),
            accepted: Vec::new(),
            channels,
            now: Instant::ZERO,
            relief_due: None,
            short_at: None,
            closed: 0,
            stopping: false,
        }
    }

    /// A turn of the core begins.
    pub(super) fn begin_turn(&mut self, now: Instant) {
        self.now = now;
        self.sessions.handle_turn();
        self.channels.begin_turn(now);
    }

    /// Takes over a connection that was accepted.
    pub(super) fn adopt(&mut self, arrival: Arrival) {
        self.accepted.push(arrival);
    }

    /// Something happened to a connection of this core.
    pub(super) fn handle_event(&mut self, event: driver::Event<'_>) {
        match event {
            driver::Event::Received { stream, bytes } => {
                if let Some(id) = self.session(stream)
                    && !self.channels.handle_socket(id, bytes)
                {
                    self.sessions.handle_received(id, bytes, &mut self.pool);
                }
            }
            driver::Event::Sent { stream, bytes } => {
                if let Some(id) = self.session(stream) {
                    self.sessions.handle_sent(id, bytes);
                }
            }
            driver::Event::Ended { stream, error } => {
                if let Some(id) = self.session(stream) {
                    let closed = |error: io::Error| error.kind() == ErrorKind::ConnectionReset;
                    self.handle_end(id, error.is_none_or(closed));
                }
            }
            driver::Event::SendFailed { stream, .. } => {
                if let Some(id) = self.session(stream) {
                    self.handle_end(id, false);
                }
            }
            driver::Event::Accepted { .. }
            | driver::Event::Datagrams { .. }
            | driver::Event::Overflow { .. }
            | driver::Event::AcceptFailed { .. }
            | driver::Event::Woken => unreachable!("no event of a connection"),
        }
    }

    /// Begins to look at the memory shared with sessions.
    pub(super) fn begin_look(&mut self) {
        self.channels.begin_look();
    }

    /// Takes what one session has published there. `false`: there is no more, for this turn.
    pub(super) fn look(&mut self) -> bool {
        match self.channels.look() {
            Some(Found::Received(id, bytes)) => {
                self.sessions.handle_received(id, bytes, &mut self.pool);
            }
            // Nothing was sent by this; it makes the session writable again.
            Some(Found::Room(id)) => self.sessions.handle_sent(id, 0),
            Some(Found::Corrupt(id)) => self.sessions.handle_corrupt(id),
            Some(Found::Ended(id)) => self.sessions.handle_ended(id, &mut self.pool),
            None => return false,
        }
        true
    }

    /// A connection is over; `closed`: by its client. What that had published before counts, and is
    /// taken in turn.
    fn handle_end(&mut self, id: SessionId, closed: bool) {
        match self.channels.end(id, closed) {
            Ok(true) if self.sessions.is_heard(id) => self.sessions.handle_leaving(id),
            Ok(_) => self.sessions.handle_ended(id, &mut self.pool),
            Err(Corrupt) => self.sessions.handle_corrupt(id),
        }
    }

    /// Whether a session that is watched has published something, or was left out of the last pass.
    pub(super) fn is_ready(&self) -> bool {
        self.sessions.writable() > 0 || self.channels.is_ready()
    }

    /// Whether any session is watched.
    pub(super) fn is_watching(&self) -> bool {
        self.channels.is_watching()
    }

    /// The core is about to sleep: from here on all sessions ring. `false`: there is work.
    pub(super) fn prepare_sleep(&mut self) -> bool {
        self.sessions.writable() == 0 && self.channels.prepare_sleep()
    }

    fn session(&self, stream: StreamKey) -> Option<SessionId> {
        self.session_of.get(stream.slot()).copied().flatten()
    }

    pub(super) fn handle_named(&mut self, id: SessionId, name: Option<PrivateGroup>) {
        self.sessions.handle_named(self.now, id, name, &mut self.pool);
    }

    pub(super) fn handle_delivery(
        &mut self,
        frame: &Slice,
        targets: &[SessionId],
        sender: Option<SessionId>,
    ) {
        for &target in targets {
            self.sessions.handle_delivery(target, frame, sender);
        }
    }

    pub(super) fn handle_disconnected(&mut self, id: SessionId) {
        self.sessions.handle_disconnected(id);
    }

    pub(super) fn handle_hold(&mut self, hold: Hold) {
        self.sessions.handle_hold(hold, &mut self.pool);
    }

    /// The ring core has no room for what comes from other daemons: sessions may hold it.
    pub(super) fn handle_shortage(&mut self) {
        self.short_at = Some(self.now);
    }

    /// `full`: what the sessions ask for cannot be passed on just now.
    pub(super) fn handle_throttle(&mut self, full: bool) {
        self.sessions.handle_throttle(full || self.stopping, &mut self.pool);
    }

    /// From now on nobody is heard; what was delivered is still written.
    pub(super) fn handle_stop(&mut self) {
        self.stopping = true;
    }

    /// Closes what is overdue, and sees to it that memory is not held for ever.
    pub(super) fn fire_timers(&mut self) {
        self.sessions.handle_timeout(self.now, &mut self.pool);
        let is_short = self.short_at.is_some_and(|at| self.now.since(at) < RELIEF_INTERVAL);
        if !self.sessions.is_stuck() && !is_short {
            self.relief_due = None;
            return;
        }
        self.sessions.handle_memory(&mut self.pool);
        match self.relief_due {
            Some(due) if due <= self.now => {
                self.sessions.relieve();
                // Whether that was enough will show.
                self.short_at = None;
                self.relief_due = Some(self.now + RELIEF_INTERVAL);
            }
            Some(_) => {}
            None => self.relief_due = Some(self.now + RELIEF_INTERVAL),
        }
    }

    /// When [`SessionCore::fire_timers`] has something to do.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        let timers = [self.sessions.poll_timeout(), self.relief_due, self.channels.next_timer()];
        timers.into_iter().flatten().min()
    }

    /// Hands the driver what is to be done with connections, and what is to be written. Returns
    /// how much that was.
    pub(super) fn transmit(&mut self, driver: &mut Driver) -> usize {
        let mut failed = Vec::new();
        let mut work = self.channels.open_greeted(driver, &mut failed);
        for id in failed {
            self.sessions.handle_ended(id, &mut self.pool);
        }
        self.channels.take_rests(driver);
        self.channels.begin_pass();
        // Once each: one that reads as fast as this core writes must not keep it from the others.
        for _ in 0..self.sessions.writable() {
            let Some(transmit) = self.sessions.poll_transmit() else { break };
            work += 1;
            let id = transmit.session;
            if self.channels.has(id) {
                match self.channels.send(&transmit, driver) {
                    Ok(0) => {}
                    Ok(bytes) => self.sessions.handle_sent(id, bytes),
                    Err(Corrupt) => self.sessions.handle_corrupt(id),
                }
                continue;
            }
            let stream = self.stream_of[transmit.session.slot()].expect("a session has a stream");
            driver.send(stream, transmit.pieces());
        }
        while let Some(action) = self.sessions.poll_action() {
            self.act(action, driver);
            work += 1;
        }
        // Only now, when the closed ones are gone, may their places be used again.
        work + self.attach(driver)
    }

    fn attach(&mut self, driver: &mut Driver) -> usize {
        let accepted = self.accepted.len();
        for Arrival { stream, address_admitted, transport } in self.accepted.drain(..) {
            let id = self.sessions.handle_accepted(self.now, address_admitted);
            let key = driver.attach(stream);
            if transport == Transport::SharedMemory {
                self.channels.insert(id, key);
            }
            put(&mut self.session_of, key.slot(), id);
            put(&mut self.stream_of, id.slot(), key);
        }
        accepted
    }

    fn act(&mut self, action: Action, driver: &mut Driver) {
        let stream_of = |id: SessionId| self.stream_of[id.slot()];
        match action {
            Action::Pause(id) => {
                // By shared memory the socket goes on to be read, if not all the time: it tells
                // that there is room for what the session gets, and that the session has ended.
                if !self.channels.pause(id) {
                    stream_of(id).into_iter().for_each(|key| driver.pause(key));
                }
            }
            Action::Resume(id) => {
                if !self.channels.resume(id, driver) {
                    stream_of(id).into_iter().for_each(|key| driver.resume(key));
                }
            }
            Action::Close(id) => {
                self.channels.remove(id);
                let key = self.stream_of[id.slot()].take().expect("a session has a stream");
                self.session_of[key.slot()] = None;
                self.closed += 1;
                driver.close(key);
            }
        }
    }

    pub(super) fn poll_submission(&mut self) -> Option<(SessionId, Submission<Slice>)> {
        self.sessions.poll_submission()
    }

    pub(super) fn poll_hold(&mut self) -> Option<Hold> {
        self.sessions.poll_hold()
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.sessions.poll_event()
    }

    /// How many sessions have gone since the last call.
    pub(super) fn take_closed(&mut self) -> usize {
        std::mem::take(&mut self.closed)
    }

    /// Whether every delivery has been written.
    pub(super) fn is_drained(&self) -> bool {
        self.sessions.is_drained()
    }

    pub(super) fn tallies(&self) -> [&Tally; 2] {
        [self.sessions.tally(), self.channels.tally()]
    }
}

fn put<T>(table: &mut Vec<Option<T>>, at: usize, value: T) {
    if table.len() <= at {
        table.resize_with(at + 1, || None);
    }
    table[at] = Some(value);
}
