//! Ordering cores in memory: a network that loses nothing and takes no time, for benches and for
//! the test that counts allocations.

use std::time::Duration;

use madrigal::base::{Counter, DaemonId, Instant, Service, Store};
use madrigal::protocol::options::{Options, Setup};
use madrigal::protocol::order::Order;
use madrigal::protocol::output::{Output, To, Transmit};

/// Identity of the cluster.
pub(crate) const CLUSTER: u64 = 7;

/// Virtual time of one turn of one daemon.
const TURN: Duration = Duration::from_micros(5);

/// One daemon, and what is on its way to it and from it.
pub(crate) struct Daemon<S: Store> {
    pub(crate) order: Order<S>,
    pub(crate) store: S,
    inbox: Vec<S::Buffer>,
    sent: Vec<Transmit<S::Buffer>>,
    /// Messages that came out of the order here, and their bytes.
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl<S: Store> Daemon<S> {
    /// Takes what came in, and what the clock brings; the outputs of each input are drained.
    pub(crate) fn turn(&mut self, now: Instant) {
        let mut inbox = std::mem::take(&mut self.inbox);
        for datagram in inbox.drain(..) {
            self.order.handle_packet(now, &datagram, &mut self.store);
            self.drain();
        }
        self.inbox = inbox;
        if self.order.poll_timeout().is_some_and(|at| at <= now) {
            self.order.handle_timeout(now, &mut self.store);
            self.drain();
        }
    }

    /// Submits `payload` so many times, as long as the core takes it.
    pub(crate) fn submit(
        &mut self,
        now: Instant,
        service: Service,
        payload: &S::Buffer,
        messages: usize,
    ) {
        for _ in 0..messages {
            let message = payload.clone();
            if self.order.handle_submit(now, service, message, &mut self.store).is_err() {
                break;
            }
        }
        self.drain();
    }

    pub(crate) fn drain(&mut self) {
        while let Some(transmit) = self.order.poll_transmit() {
            self.sent.push(transmit);
        }
        while let Some(output) = self.order.poll_output() {
            if let Output::Deliver { payload, .. } = output {
                self.messages += 1;
                self.bytes += payload.as_ref().len() as u64;
            }
        }
        while self.order.poll_event().is_some() {}
    }

    pub(crate) fn forget_sent(&mut self) {
        self.sent.clear();
    }

    pub(crate) fn count(&self, counter: Counter) -> u64 {
        self.order.tally().get(counter)
    }
}

/// All of them.
pub(crate) struct Cluster<S: Store> {
    pub(crate) now: Instant,
    pub(crate) daemons: Vec<Daemon<S>>,
}

impl<S: Store> Cluster<S> {
    /// Daemons that have just started.
    pub(crate) fn new(daemons: usize, options: &Options, mut store: impl FnMut() -> S) -> Self {
        let now = Instant::from_nanos(1);
        let start = |me| {
            let setup = Setup {
                me: DaemonId::new(me),
                daemons: (0..daemons as u32).map(DaemonId::new).collect(),
                cluster: CLUSTER,
                incarnation: 1,
                seed: u64::from(me),
                options: options.clone(),
            };
            let mut store = store();
            let order = Order::new(&setup, now, &mut store);
            let (inbox, sent) = (Vec::new(), Vec::new());
            Daemon { order, store, inbox, sent, messages: 0, bytes: 0 }
        };
        Self { now, daemons: (0..daemons as u32).map(start).collect() }
    }

    /// A ring of all daemons.
    pub(crate) fn formed(daemons: usize, options: &Options, store: impl FnMut() -> S) -> Self {
        let mut cluster = Self::new(daemons, options, store);
        cluster.form();
        cluster
    }

    /// Lets time pass until all daemons are in one ring.
    pub(crate) fn form(&mut self) {
        while !self.is_one_ring() {
            (0..self.daemons.len()).for_each(|me| self.turn(me));
            if self.daemons.iter().all(|daemon| daemon.inbox.is_empty()) {
                let next = self.daemons.iter().filter_map(|daemon| daemon.order.poll_timeout());
                self.now = next.min().expect("somebody waits").max(self.now);
            }
        }
    }

    fn is_one_ring(&self) -> bool {
        let ring = self.daemons[0].order.ring();
        let is_in = |daemon: &Daemon<S>| {
            daemon.order.state_name() == "operational" && daemon.order.ring() == ring
        };
        self.daemons.iter().all(is_in)
    }

    /// One turn of one daemon; what it sends arrives at once.
    pub(crate) fn turn(&mut self, me: usize) {
        self.now = self.now + TURN;
        self.daemons[me].turn(self.now);
        self.carry(me);
    }

    /// Takes what a daemon sent to where it belongs.
    pub(crate) fn carry(&mut self, me: usize) {
        let mut sent = std::mem::take(&mut self.daemons[me].sent);
        for transmit in sent.drain(..) {
            match transmit.to {
                To::Daemon(to) => self.daemons[to.get() as usize].inbox.push(transmit.bytes),
                To::Multicast => {
                    for (to, daemon) in self.daemons.iter_mut().enumerate() {
                        if to != me {
                            daemon.inbox.push(transmit.bytes.clone());
                        }
                    }
                }
            }
        }
        self.daemons[me].sent = sent;
    }
}
