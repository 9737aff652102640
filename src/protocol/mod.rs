//! The protocol layer: one total order of messages, joins, leaves and disconnects among the daemons
//! of a cluster, and the group views that follow from it.
//!
//! Sans-IO: requests of this daemon's sessions, datagrams and the passing of time come in by
//! `handle_*`; deliveries, datagrams and deadlines go out by `poll_*`, which are to be drained
//! after each input. No clock, socket or thread is touched.
//!
//! A message whose destinations have members on this daemon alone takes the local path: it goes
//! into the delivery stream at once, behind everything that its session asked for before.

#![deny(clippy::wildcard_enum_match_arm)]

mod by_session;
pub mod configuration;
mod context;
mod delivery;
mod group;
mod membership;
pub mod options;
pub mod order;
pub mod output;
mod ring;
mod submit;
mod timer;

use std::collections::VecDeque;

use crate::base::limits::SESSION_WAITING_MAX;
use crate::base::{
    Counter, DaemonId, DaemonSet, Event, Instant, PrivateGroup, Rank, Request, RingId, Service,
    SessionId, SessionName, Store, Tally,
};
use crate::wire::ordered::{Change, Component, Ordered};

pub use configuration::Daemon;
pub use delivery::Delivery;
pub use group::NameTaken;

use delivery::Stream;
use group::{Groups, Path};
use options::Options;
use order::Order;
use output::{Kind, Output, Transmit};
use submit::Submissions;

/// What the protocol layer must know at start.
#[derive(Clone, Debug)]
pub struct Setup {
    /// All daemons of the cluster, in the configured order.
    pub daemons: Vec<Daemon>,
    /// This daemon.
    pub me: DaemonId,
    /// Identity of the cluster: a hash of all that its daemons must agree on. Packets with another
    /// one are dropped.
    pub cluster: u64,
    /// Which life of this daemon it is: greater than in all its lives before, at least 1 and below
    /// 2^43. Milliseconds of wall-clock time are.
    pub incarnation: u64,
    /// Different in each life, see [`options::Setup::seed`].
    pub seed: u64,
    /// Tuning of the ordering core.
    pub options: Options,
}

impl Setup {
    /// A daemon that is its whole cluster.
    pub fn alone(daemon: Daemon, incarnation: u64) -> Self {
        let (daemons, me, options) = (vec![daemon], daemon.id, Options::default());
        Self { daemons, me, cluster: 0, incarnation, seed: 0, options }
    }

    fn rank(&self) -> Rank {
        let index = self.daemons.iter().position(|daemon| daemon.id == self.me);
        index.and_then(Rank::new).expect("a daemon is in its own cluster")
    }

    /// What the ordering core must know of it.
    pub(crate) fn order(&self) -> options::Setup {
        options::Setup {
            me: self.me,
            daemons: self.daemons.iter().map(|daemon| daemon.id).collect(),
            cluster: self.cluster,
            incarnation: self.incarnation,
            seed: self.seed,
            options: self.options.clone(),
        }
    }
}

/// The protocol layer of one daemon.
pub struct Protocol<S: Store> {
    daemons: Vec<Daemon>,
    me: Rank,
    order: Order<S>,
    groups: Groups<S::Buffer>,
    submissions: Submissions<S::Buffer>,
    stream: Stream<S::Buffer>,
    /// A step of the order that is taken when all before has taken effect.
    held_back: Option<Output<S::Buffer>>,
    /// Memory was lacking: nothing takes effect until there is some.
    is_blocked: bool,
    /// The cluster to go over to, once this daemon is alone.
    next_setup: Option<Box<Setup>>,
    /// Steps of the order for a judge of runs, where the options ask for them.
    judged: Option<VecDeque<Output<S::Buffer>>>,
    tally: Tally,
}

impl<S: Store> Protocol<S> {
    /// Starts a daemon: it is alone in a first configuration, and looks for the others.
    ///
    /// # Panics
    ///
    /// If `setup` is not what a checked configuration yields: the daemon is not in its cluster,
    /// one is there twice, there are too many, or an option is out of its bounds.
    pub fn new(setup: &Setup, now: Instant, store: &mut S) -> Self {
        let order = Order::new(&setup.order(), now, store);
        let base = order.ring().expect("a daemon starts in a ring of its own");
        let me = setup.rank();
        let component = Component { base, together: DaemonSet::only(me) };
        let mut this = Self {
            daemons: setup.daemons.clone(),
            me,
            order,
            groups: Groups::new(
                setup.daemons.clone(),
                me,
                component,
                setup.options.state_part_bytes,
            ),
            submissions: Submissions::new(),
            stream: Stream::new(),
            held_back: None,
            is_blocked: false,
            next_setup: None,
            judged: setup.options.tells_places.then(VecDeque::new),
            tally: Tally::new(),
        };
        this.go_on(now, store);
        this
    }

    /// Gives `session` its name, or one of the daemon's choice, from now on until its disconnect
    /// has been delivered.
    ///
    /// # Errors
    ///
    /// Another session of this daemon has the name.
    pub fn handle_connect(
        &mut self,
        session: SessionId,
        name: Option<SessionName>,
        wants_membership: bool,
    ) -> Result<PrivateGroup, NameTaken> {
        let name = self.groups.connect(session, name, wants_membership)?;
        self.submissions.connect(session);
        Ok(name)
    }

    /// Takes a request of a connected session. Requests of one session take effect in the order
    /// in which they are handed over.
    pub fn handle_request(
        &mut self,
        now: Instant,
        session: SessionId,
        request: Request<S::Buffer>,
        store: &mut S,
    ) {
        let Some(queue) = self.submissions.get(session) else { return };
        queue.waiting.push_back(request);
        self.advance(now, session, store);
        self.go_on(now, store);
        if let Some(queue) = self.submissions.get(session)
            && queue.waiting.len() >= SESSION_WAITING_MAX
            && !queue.is_held
        {
            queue.is_held = true;
            self.tally.count(Counter::SessionsHeld);
            self.stream.push_hold(session);
        }
    }

    /// Takes a datagram of another daemon, of either channel. What is none is counted and dropped.
    pub fn handle_packet(&mut self, now: Instant, datagram: &S::Buffer, store: &mut S) {
        if self.next_setup.is_none() {
            self.order.handle_packet(now, datagram, store);
        }
        self.go_on(now, store);
    }

    /// Whether a datagram must be taken though memory is short: nothing is delivered without it, so
    /// no memory comes back.
    pub fn awaits(&self, datagram: &[u8]) -> bool {
        self.order.awaits(datagram)
    }

    /// Takes the passing of the deadline that [`Protocol::poll_timeout`] named, or of any time.
    pub fn handle_timeout(&mut self, now: Instant, store: &mut S) {
        self.order.handle_timeout(now, store);
        self.go_on(now, store);
    }

    /// Takes the news that at least so many packets of other daemons found no room in this one's
    /// receive buffers, with the next packet that did.
    pub fn handle_dropped(&mut self, packets: u32) {
        self.order.handle_dropped(packets);
    }

    /// Takes the news that nothing listens where `daemon` should be, as an ICMP message says it.
    pub fn handle_unreachable(&mut self, now: Instant, daemon: DaemonId, store: &mut S) {
        self.order.handle_unreachable(now, daemon, store);
        self.go_on(now, store);
    }

    /// Takes the news that perhaps nothing listens where `daemon` should be: it is looked at.
    pub fn handle_doubt(&mut self, now: Instant, daemon: DaemonId, store: &mut S) {
        self.order.handle_doubt(now, daemon, store);
    }

    /// Goes over to another configuration of the cluster; sessions stay. To its clients the other
    /// daemons are lost, and come back as soon as they have the new configuration too. Until
    /// [`Protocol::is_reloading`] is false, what is to be sent concerns the old one.
    ///
    /// # Panics
    ///
    /// As [`Protocol::new`], or if this daemon has another name in `setup`, or an incarnation that
    /// is not greater.
    pub fn handle_reload(&mut self, now: Instant, setup: Setup, store: &mut S) {
        let me = setup.daemons[setup.rank().index()];
        assert_eq!(me.name, self.daemons[self.me.index()].name, "a daemon keeps its name");
        self.next_setup = Some(Box::new(setup));
        self.order.handle_leave(now, store);
        self.go_on(now, store);
    }

    /// Whether [`Protocol::handle_reload`] has yet to take effect.
    pub fn is_reloading(&self) -> bool {
        self.next_setup.is_some()
    }

    /// Says goodbye to the other daemons: what is still to be sent is to be taken, nothing else
    /// follows.
    pub fn handle_stop(&mut self, now: Instant, store: &mut S) {
        self.order.handle_stop(now, store);
    }

    /// Goes on with what waits for memory. See [`Protocol::is_blocked`].
    pub fn handle_memory(&mut self, now: Instant, store: &mut S) {
        self.is_blocked = false;
        self.go_on(now, store);
    }

    /// Whether `store` had no room: take no more from clients, and call
    /// [`Protocol::handle_memory`] once receivers have read.
    pub fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit<S::Buffer>> {
        self.order.poll_transmit()
    }

    /// When [`Protocol::handle_timeout`] is to be called next, if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.order.poll_timeout()
    }

    /// The ring that packets to all are for, and its daemons; none once the daemon stopped.
    pub fn ring(&self) -> Option<(RingId, DaemonSet)> {
        self.order.ring().map(|ring| (ring, self.order.members()))
    }

    /// The next delivery to sessions of this daemon, in the total order.
    pub fn poll_delivery(&mut self) -> Option<Delivery<'_, S::Buffer>> {
        self.stream.next()
    }

    /// The next step of the order itself, as the group layer took it: for a judge of runs, and only
    /// where [`Options::tells_places`] asks for it.
    pub fn poll_order(&mut self) -> Option<Output<S::Buffer>> {
        let taken = self.judged.as_mut()?.pop_front();
        // The packet that gave the place is on its way, though nothing takes effect here.
        taken.or_else(|| if self.is_blocked { self.order.poll_placed() } else { None })
    }

    /// The next thing to tell the operator.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.order.poll_event()
    }

    /// What was counted so far, here and in the ordering core.
    pub fn tallies(&self) -> [&Tally; 2] {
        [&self.tally, self.order.tally()]
    }

    /// The name of the membership state, for people.
    pub fn state_name(&self) -> &'static str {
        self.order.state_name()
    }

    /// Bytes of packets, messages and requests that are kept for what is not done yet: tables of
    /// those who are there do not count.
    pub fn retained_bytes(&self) -> usize {
        self.order.retained_bytes()
            + self.groups.retained_bytes()
            + self.submissions.retained_bytes()
    }

    /// Lets everything take effect that can.
    fn go_on(&mut self, now: Instant, store: &mut S) {
        loop {
            self.take_outputs(store);
            if self.is_blocked {
                return;
            }
            if self.order.is_alone()
                && let Some(setup) = self.next_setup.take()
            {
                self.go_over(now, &setup, store);
                continue;
            }
            let mut has_submitted = self.submit_state(now, store);
            while let Some(session) = self.submissions.next(self.takes_requests()) {
                has_submitted |= self.advance(now, session, store);
            }
            if !has_submitted {
                return;
            }
        }
    }

    /// Nobody else is in the ring, nothing is under way: the new cluster's first ring takes over.
    fn go_over(&mut self, now: Instant, setup: &Setup, store: &mut S) {
        self.tally.absorb(self.order.tally());
        let old = std::mem::replace(&mut self.order, Order::new(&setup.order(), now, store));
        self.order.follow(old);
        (self.daemons, self.me) = (setup.daemons.clone(), setup.rank());
        self.groups.handle_reload(setup.daemons.clone(), self.me);
    }

    fn takes_requests(&self) -> bool {
        !self.is_blocked
            && self.next_setup.is_none()
            && self.groups.is_settled()
            && self.order.is_ready()
    }

    /// Takes steps of the order, each when all before has taken effect and been told.
    fn take_outputs(&mut self, store: &mut S) {
        while !self.is_blocked {
            if !self.groups.tell(store, &mut self.stream) {
                return self.block();
            }
            if let Some((origin, payload)) = self.groups.next_due() {
                self.take_effect(origin, &payload);
                continue;
            }
            let output = self.held_back.take().or_else(|| self.next_output());
            let Some(output) = output else { return };
            self.take_output(output);
        }
    }

    fn next_output(&mut self) -> Option<Output<S::Buffer>> {
        let output = self.order.poll_output();
        if let (Some(judged), Some(output)) = (&mut self.judged, &output) {
            judged.push_back(output.clone());
        }
        output
    }

    fn take_output(&mut self, output: Output<S::Buffer>) {
        match output {
            Output::Deliver { origin, payload, .. } => {
                let origin = self.rank(origin);
                if !self.groups.handle_ordered(origin, payload) {
                    self.tally.count(Counter::OrderedMalformed);
                }
            }
            Output::Configuration { kind: Kind::Transitional, ring, ref members, .. } => {
                let members = self.ranks(members);
                if self.groups.abandon_exchange() {
                    // What was ordered before is due first.
                    self.held_back = Some(output);
                } else {
                    self.groups.handle_transitional(members, ring);
                }
            }
            Output::Configuration { kind: Kind::Regular, ring, members, .. } => {
                let members = self.ranks(&members);
                self.groups.handle_regular(ring, members);
            }
            Output::Placed { .. } => {}
        }
    }

    /// What `origin` put into the order takes effect.
    fn take_effect(&mut self, origin: Rank, payload: &S::Buffer) {
        let name = self.daemons[origin.index()].name;
        let ordered = Ordered::parse(payload.as_ref(), name);
        if matches!(ordered, Some(Ordered::State(_))) {
            // Of an exchange that is over.
            return;
        }
        let sender = if origin == self.me { self.submissions.returned() } else { None };
        match ordered {
            Some(Ordered::Multicast { self_discard, destinations }) => {
                let (path, out) = (Path::Ordered, &mut self.stream);
                self.groups.multicast(path, sender, self_discard, destinations, payload, out);
            }
            Some(Ordered::Change(change)) => {
                self.groups.apply(origin, change);
                if let (Change::Disconnect(_), Some(sender)) = (change, sender) {
                    self.submissions.disconnect(sender);
                }
            }
            Some(Ordered::State(_)) | None => self.tally.count(Counter::OrderedMalformed),
        }
    }

    /// Puts what this daemon knows of groups into the order. Returns whether there was something.
    fn submit_state(&mut self, now: Instant, store: &mut S) -> bool {
        let mut has_submitted = false;
        while let Some(part) = self.groups.next_state() {
            let Some(payload) = store.copy(&part.bytes) else {
                self.block();
                break;
            };
            if self.order.handle_submit_first(now, Service::Agreed, payload, store).is_err() {
                break;
            }
            self.groups.state_told(&part);
            has_submitted = true;
        }
        has_submitted
    }

    /// Lets waiting requests of `session` take the local path or a place in the order, as far as
    /// they can. Returns whether one was put into the order.
    fn advance(&mut self, now: Instant, session: SessionId, store: &mut S) -> bool {
        let mut has_submitted = false;
        loop {
            let takes_requests = self.takes_requests();
            let Some(queue) = self.submissions.get(session) else { break };
            let Some(request) = queue.waiting.front() else {
                if std::mem::take(&mut queue.is_held) {
                    self.stream.push_release(session);
                }
                break;
            };
            if self.is_blocked {
                self.submissions.list_for_order(session);
                break;
            }
            if let Request::Multicast { self_discard, destinations, frame, .. } = request {
                let (discard, destinations) = (*self_discard, *destinations);
                if queue.in_flight > 0 {
                    if self.groups.is_local(destinations, frame) {
                        // It goes on when that is back.
                        break;
                    }
                } else {
                    let (path, out) = (Path::Local, &mut self.stream);
                    let sender = Some(session);
                    if self.groups.multicast(path, sender, discard, destinations, frame, out) {
                        self.tally.count(Counter::MessagesLocal);
                        queue.waiting.pop_front();
                        continue;
                    }
                }
            }
            if !takes_requests {
                self.submissions.list_for_order(session);
                break;
            }
            if !self.submit(now, session, store) {
                break;
            }
            has_submitted = true;
        }
        has_submitted
    }

    /// Puts the next waiting request of `session` into the order. Returns whether it is there.
    fn submit(&mut self, now: Instant, session: SessionId, store: &mut S) -> bool {
        let Some(queue) = self.submissions.get(session) else { return false };
        let Some(request) = queue.waiting.front() else { return false };
        let Some(name) = self.groups.session_name(session) else { return false };
        let (service, payload) = match request {
            Request::Multicast { service, frame, .. } => (*service, Some(frame.clone())),
            Request::Join(group) => {
                (Service::Agreed, store.copy(&Change::Join(name, *group).emit()))
            }
            Request::Leave(group) => {
                (Service::Agreed, store.copy(&Change::Leave(name, *group).emit()))
            }
            Request::Disconnect => (Service::Agreed, store.copy(&Change::Disconnect(name).emit())),
        };
        let Some(payload) = payload else {
            self.block();
            self.submissions.list_for_order(session);
            return false;
        };
        if self.order.handle_submit(now, service, payload, store).is_err() {
            // It stops; who asked is told by the end of its connection.
            return false;
        }
        self.submissions.submitted(session);
        true
    }

    fn block(&mut self) {
        self.is_blocked = true;
        self.tally.count(Counter::PoolExhausted);
    }

    fn rank(&self, daemon: DaemonId) -> Rank {
        let index = self.daemons.iter().position(|known| known.id == daemon);
        index.and_then(Rank::new).expect("the order knows daemons of the cluster alone")
    }

    fn ranks(&self, daemons: &[DaemonId]) -> DaemonSet {
        daemons.iter().map(|&daemon| self.rank(daemon)).collect()
    }
}

#[cfg(test)]
mod tests;
