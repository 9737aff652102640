//! The ring core without sessions and groups: it makes messages itself, and discards what is
//! delivered. For the bench `ring`, which asks what the order and the network alone can carry.

use std::io;
use std::time::Duration;

use super::StartError;
use super::idle::{Idle, Plan as Waiting};
use super::network::{Arrival, Network};
use super::ring_core::setup;
use super::ring_pool::RingPool;
use super::start::{open_driver, open_sockets};
use crate::base::limits::EVENTS_PER_TURN;
use crate::base::{Instant, Service, Store};
use crate::config::Config;
use crate::mem::pool::Slice;
use crate::protocol::order::Order;
use crate::protocol::output::{Kind, Output};
use crate::sys::clock::Clock;
use crate::sys::driver::{Driver, Event, Wait};

/// Messages that are submitted in one turn at most.
const MESSAGES_PER_TURN: usize = 4096;

/// What is submitted, as fast as it is taken, and what of it is counted.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Bytes of a message.
    pub bytes: usize,
    /// Service of all messages.
    pub service: Service,
    /// So many daemons must be in one ring before it begins.
    pub daemons: usize,
    /// How long it goes on before anything is counted, and again after.
    pub margin: Duration,
    /// How long it is counted.
    pub duration: Duration,
}

/// What was delivered to this daemon while it was counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delivered {
    /// Messages of all daemons.
    pub messages: u64,
    /// How long that took.
    pub elapsed: Duration,
    /// Configurations that were installed meanwhile: none, if all went well.
    pub configurations: u64,
}

/// Runs the ring core of the daemon that `config` is of under this load, on the calling thread,
/// until the load is over. `mark` is called as counting begins and as it ends.
///
/// # Errors
///
/// What keeps a daemon from starting; later the driver's.
///
/// # Panics
///
/// Where the daemon has no others, or `load` has messages that are too long.
pub fn run(config: &Config, load: Load, mark: impl FnMut()) -> Result<Delivered, StartError> {
    let now = Clock.read();
    let sockets = open_sockets(config)?.expect("a cluster has other daemons");
    let mut driver = open_driver(0, config)?;
    let pool_bytes_max = config.memory.pool_bytes_max;
    let mut pool = RingPool::new(pool_bytes_max);
    let incarnation = Clock.wall_millis();
    let setup = setup(&config.cluster, config.daemon, incarnation, pool_bytes_max).order();
    let bare = Bare {
        order: Order::new(&setup, now, &mut pool),
        network: Network::new(now, sockets, &mut driver),
        idle: Idle::new(config.cores.idle, config.cores.spin, now),
        payload: pool.copy(&vec![b'm'; load.bytes]).expect("the pool is empty"),
        is_whole: false,
        delivered: Delivered::default(),
        driver,
        pool,
        load,
    };
    bare.run(mark).map_err(|error| StartError::Thread { core: 0, error })
}

struct Bare {
    driver: Driver,
    pool: RingPool,
    order: Order<RingPool>,
    network: Network,
    idle: Idle,
    load: Load,
    payload: Slice,
    /// All daemons are in the ring.
    is_whole: bool,
    delivered: Delivered,
}

impl Bare {
    fn run(mut self, mut mark: impl FnMut()) -> io::Result<Delivered> {
        while !self.is_whole {
            self.turn()?;
        }
        self.go_on(self.load.margin)?;
        mark();
        let (before, begin) = (self.delivered, Clock.read());
        self.go_on(self.load.duration)?;
        mark();
        let (after, end) = (self.delivered, Clock.read());
        self.go_on(self.load.margin)?;
        Ok(Delivered {
            messages: after.messages - before.messages,
            elapsed: end.since(begin),
            configurations: after.configurations - before.configurations,
        })
    }

    fn go_on(&mut self, duration: Duration) -> io::Result<()> {
        let end = Clock.read() + duration;
        while Clock.read() < end {
            self.turn()?;
        }
        Ok(())
    }

    /// One turn, as the daemon's: what came in, what is due, what is submitted, what goes out.
    fn turn(&mut self) -> io::Result<()> {
        let now = Clock.read();
        let mut work = self.take_events(now);
        work += self.submit(now);
        if self.order.poll_timeout().is_some_and(|at| at <= now) {
            self.order.handle_timeout(now, &mut self.pool);
        }
        self.deliver();
        let order = &mut self.order;
        if let Some(ring) = order.ring() {
            self.network.follow(now, ring, order.members());
        }
        work += self.network.transmit(&mut self.driver, || order.poll_transmit());
        self.wait(now, work)
    }

    fn take_events(&mut self, now: Instant) -> usize {
        for taken in 0..EVENTS_PER_TURN {
            let Some(event) = self.driver.next_event() else { return taken };
            let Event::Datagrams { socket, event } = event else { continue };
            let order = &mut self.order;
            self.network.receive(
                now,
                socket,
                event,
                &mut self.pool,
                |arrival, pool| match arrival {
                    Arrival::Packet(packet) => order.handle_packet(now, &packet, pool),
                    // What the bench delivers is let go of at once, so it has room.
                    Arrival::Scarce(_) | Arrival::Held => {}
                    Arrival::Dropped(packets) => order.handle_dropped(packets),
                    Arrival::Refusal(daemon) => order.handle_unreachable(now, daemon, pool),
                },
            );
        }
        EVENTS_PER_TURN
    }

    fn submit(&mut self, now: Instant) -> usize {
        let mut submitted = 0;
        while self.is_whole && submitted < MESSAGES_PER_TURN && self.order.is_ready() {
            let (service, payload) = (self.load.service, self.payload.clone());
            if self.order.handle_submit(now, service, payload, &mut self.pool).is_err() {
                break;
            }
            submitted += 1;
        }
        submitted
    }

    fn deliver(&mut self) {
        while let Some(output) = self.order.poll_output() {
            match output {
                Output::Deliver { .. } => self.delivered.messages += 1,
                Output::Configuration { kind, members, .. } => {
                    self.delivered.configurations += 1;
                    self.is_whole = kind == Kind::Regular && members.len() >= self.load.daemons;
                }
                Output::Placed { .. } => {}
            }
        }
        while self.order.poll_event().is_some() {}
    }

    fn wait(&mut self, now: Instant, work: usize) -> io::Result<()> {
        let timer = self.order.poll_timeout();
        let wait = match self.idle.plan(now, work) {
            // There is more to submit.
            _ if work >= MESSAGES_PER_TURN => Wait::No,
            Waiting::Go => Wait::No,
            Waiting::Watch(end) => {
                let ends = [end, timer, Some(now + super::WATCH_MAX)];
                let end = ends.into_iter().flatten().min().unwrap_or(now);
                let driver = &mut self.driver;
                self.idle.watch(&Clock, end, || driver.ready());
                Wait::No
            }
            Waiting::Sleep => timer.map_or(Wait::Forever, |at| Wait::For(at.since(now))),
        };
        self.driver.turn(wait)
    }
}
