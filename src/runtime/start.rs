//! From a configuration to running threads.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{Builder, JoinHandle, park_timeout};

use rustix::process::Signal;

use super::acceptor::{Acceptor, Transport};
use super::budget::Budget;
use super::channels::Channels;
use super::control::Control;
use super::doorbell::Doorbell;
use super::idle::Idle;
use super::link::{Link, Local, Remote};
use super::network::{Plan, Sockets};
use super::port::{Lane, Port, ToRing, ToSession};
use super::ring_core::{RingCore, names};
use super::ring_thread::{RingThread, SessionPort};
use super::session_core::SessionCore;
use super::session_thread::SessionThread;
use super::shared::Shared;
use super::shelves::Shelves;
use super::{RunError, Running, StartError};
use crate::base::Tally;
use crate::base::limits::{
    DESCRIPTORS_RESERVED, LISTEN_PATIENCE, LISTEN_PAUSE, QUEUE_SLOTS, RECEIVE_BUFFERS, RING_ENTRIES,
};
use crate::config::{self, Config, DriverChoice, SlowReceiver, UnixSocket};
use crate::mem::QueueSizes;
use crate::mem::pool::{Pool, PoolOptions};
use crate::mem::spsc::queue;
use crate::observe::counters::Counters;
use crate::observe::log::Teller;
use crate::session;
use crate::session::credit::Bounds;
use crate::sys::Bell;
use crate::sys::clock::Clock;
use crate::sys::cpu;
use crate::sys::datagram::DatagramError;
use crate::sys::driver::{Choice, Driver, Options};
use crate::sys::lock::lock_memory;
use crate::sys::socket::{ListenError, Listener};
use crate::wire::session::AuthMethods;

/// Starts a daemon.
///
/// # Errors
///
/// Sockets, drivers and threads are set up before this returns; nothing is left behind when one
/// of them cannot be.
pub fn start(config: Config) -> Result<Running, StartError> {
    if config.memory.lock
        && let Err(error) = lock_memory()
    {
        tracing::warn!(%error, "the daemon is not locked into memory");
    }
    let listeners = listen(&config)?;
    let addresses = listeners.iter().filter_map(|(listener, _)| listener.address()).collect();
    let control = config.listen.control.as_ref().and_then(open_control);
    let paths = listeners.iter().filter_map(|(listener, _)| listener.path());
    let paths = paths.chain(control.as_ref().and_then(Control::path)).map(Path::to_owned).collect();
    let access = config.auth.access.clone();
    let acceptor = Acceptor::new(listeners, access, sessions_max(&config));
    let sockets = open_sockets(&config)?;
    let mut starter = Starter::new(config, sockets);
    if starter.config.cores.count == 1 {
        starter.start_alone(acceptor)?;
    } else {
        starter.start_cores(acceptor)?;
    }
    Ok(starter.finish(addresses, paths, control))
}

/// Opens all sockets. Waits a little where one is in use: the kernel takes an io_uring apart some
/// time after its process has ended, so what a killed daemon listened on may outlive it.
fn listen(config: &Config) -> Result<Vec<(Listener, Transport)>, ListenError> {
    let deadline = Clock.read() + LISTEN_PATIENCE;
    loop {
        let patient = Clock.read() < deadline;
        match listen_now(config, patient) {
            Err(error) if error.is_in_use() && patient => {
                park_timeout(LISTEN_PAUSE);
            }
            result => return result,
        }
    }
}

/// Opens the sockets for other daemons, if there are any, with the same patience.
pub(super) fn open_sockets(config: &Config) -> Result<Option<Sockets>, DatagramError> {
    let Some(plan) = Plan::new(&config.cluster, config.daemon) else { return Ok(None) };
    let deadline = Clock.read() + LISTEN_PATIENCE;
    loop {
        match Sockets::open(&plan) {
            Err(error) if error.is_in_use() && Clock.read() < deadline => {
                park_timeout(LISTEN_PAUSE);
            }
            result => return result.map(Some),
        }
    }
}

/// `patient`: what is in use may be tried again.
fn listen_now(config: &Config, patient: bool) -> Result<Vec<(Listener, Transport)>, ListenError> {
    let listen = &config.listen;
    let mut listeners = Vec::new();
    for &ip in &listen.tcp {
        let listener = Listener::tcp(SocketAddr::new(ip, listen.port))?;
        listeners.push((listener, Transport::Socket));
    }
    // Before the socket that it is asked for beside: a client that finds the one need not do
    // without the other.
    if let Some(unix) = &listen.shared_memory {
        match Listener::unix(&unix.path, unix.mode) {
            Ok(listener) => listeners.push((listener, Transport::SharedMemory)),
            Err(error) if error.is_in_use() && patient => return Err(error),
            // In a directory like /tmp anybody can put a file there, which must not stop a daemon:
            // all clients can do without.
            Err(error) => tracing::warn!(%error, "no sessions over shared memory"),
        }
    }
    if let Some(unix) = &listen.unix {
        listeners.push((Listener::unix(&unix.path, unix.mode)?, Transport::Socket));
    }
    Ok(listeners)
}

/// As for shared memory, what anybody can put there must not stop a daemon.
fn open_control(socket: &UnixSocket) -> Option<Control> {
    let warn = |error| {
        tracing::warn!(%error, "no commands to this daemon; SIGHUP and SIGUSR1 do the same");
    };
    Control::open(socket).map_err(warn).ok()
}

/// As many as configured, or as descriptors allow.
fn sessions_max(config: &Config) -> usize {
    let wanted = config.sessions.max;
    let descriptors = match cpu::raise_descriptors() {
        Ok(descriptors) => usize::try_from(descriptors.now).unwrap_or(usize::MAX),
        Err(error) => {
            tracing::warn!(%error, "cannot read the limit on descriptors");
            return wanted;
        }
    };
    let reserved = DESCRIPTORS_RESERVED * config.cores.count;
    let possible = descriptors.saturating_sub(reserved).max(1);
    if possible < wanted {
        tracing::warn!(
            wanted,
            possible,
            descriptors,
            "fewer sessions than configured: raise the limit on descriptors (LimitNOFILE)"
        );
    }
    wanted.min(possible)
}

struct Starter {
    config: Arc<Config>,
    /// Of the ring core, until it has them.
    sockets: Option<Sockets>,
    shared: Arc<Shared>,
    bells: Vec<Bell>,
    counters: Vec<Arc<Counters>>,
    ring: Option<JoinHandle<Result<(), RunError>>>,
    sessions: Vec<JoinHandle<Result<(), RunError>>>,
}

/// What every core's thread has, whatever its role.
struct Core {
    config: Arc<Config>,
    shared: Arc<Shared>,
    driver: Driver,
    counters: Arc<Counters>,
}

/// A thread that has opened its driver, and runs once it gets the rest.
struct Opened<T> {
    thread: JoinHandle<Result<(), RunError>>,
    bell: Bell,
    go: Sender<T>,
}

impl Starter {
    fn new(config: Config, sockets: Option<Sockets>) -> Self {
        Self {
            config: Arc::new(config),
            sockets,
            shared: Arc::default(),
            bells: Vec::new(),
            counters: Vec::new(),
            ring: None,
            sessions: Vec::new(),
        }
    }

    fn finish(
        self,
        addresses: Vec<SocketAddr>,
        paths: Vec<PathBuf>,
        control: Option<Control>,
    ) -> Running {
        Running {
            shared: self.shared,
            bells: self.bells,
            counters: self.counters,
            addresses,
            paths,
            control,
            ring: self.ring,
            sessions: self.sessions,
        }
    }

    /// One thread for everything.
    fn start_alone(&mut self, acceptor: Acceptor) -> Result<(), StartError> {
        let ring = self.ring_core();
        let opened = self.open(0, move |core: Core, link: Local| core.run_sessions(0, link))?;
        // A thread that has opened its driver waits for this.
        let _ = opened.go.send(Local { ring, acceptor });
        self.sessions.push(opened.thread);
        Ok(())
    }

    /// The ring core, then the session cores.
    fn start_cores(&mut self, acceptor: Acceptor) -> Result<(), StartError> {
        let ring = self.ring_core();
        let run_ring = move |core: Core, (ports, own_bell): (Vec<SessionPort>, Doorbell)| {
            core.run_ring(ring, acceptor, ports, own_bell)
        };
        let opened_ring = self.open(0, run_ring)?;
        let ring_bell = Doorbell::new(opened_ring.bell.clone());
        let mut opened = Vec::new();
        for number in 1..self.config.cores.count {
            let run = move |core: Core, link: Remote| core.run_sessions(number - 1, link);
            opened.push(self.open(number, run)?);
        }
        let mut ports = Vec::new();
        for core in opened {
            let own_bell = Doorbell::new(core.bell);
            let (to_ring, from_session) = queue::<ToRing>(QUEUE_SLOTS);
            let (to_session, from_ring) = queue::<ToSession>(QUEUE_SLOTS);
            ports.push(SessionPort {
                port: Port { lane: Lane::new(to_session), queue: from_session },
                bell: own_bell.clone(),
            });
            let port = Port { lane: Lane::new(to_ring), queue: from_ring };
            let _ = core.go.send(Remote { port, ring_bell: ring_bell.clone(), own_bell });
            self.sessions.push(core.thread);
        }
        let _ = opened_ring.go.send((ports, ring_bell));
        self.ring = Some(opened_ring.thread);
        Ok(())
    }

    fn ring_core(&mut self) -> RingCore {
        let (config, sockets) = (&self.config, self.sockets.take());
        let pool_bytes_max = config.memory.pool_bytes_max;
        RingCore::new(&config.cluster, config.daemon, sockets, Clock.read(), pool_bytes_max)
    }

    /// Starts a thread, which opens its driver and then waits for what `run` needs.
    fn open<T: Send + 'static>(
        &mut self,
        number: usize,
        run: impl FnOnce(Core, T) -> Result<(), RunError> + Send + 'static,
    ) -> Result<Opened<T>, StartError> {
        let (go, rest) = channel::<T>();
        let (opened, is_open) = channel();
        let counters = Arc::<Counters>::default();
        self.counters.push(counters.clone());
        let (config, shared) = (self.config.clone(), self.shared.clone());
        let main = move || {
            let driver = match open_driver(number, &config) {
                Ok(driver) => driver,
                Err(error) => {
                    let _ = opened.send(Err(error));
                    return Ok(());
                }
            };
            let _ = opened.send(Ok(driver.bell()));
            // Nothing comes where another core could not be started.
            let Ok(rest) = rest.recv() else { return Ok(()) };
            let result = run(Core { config, shared, driver, counters }, rest);
            if let Err(error) = &result {
                tracing::error!(core = number, %error, "the daemon stops");
                terminate();
            }
            result
        };
        let thread = Builder::new()
            .name(format!("core-{number}"))
            .spawn(main)
            .map_err(|error| StartError::Thread { core: number, error })?;
        let bell: Bell = is_open.recv().expect("a core tells whether it is open")?;
        self.bells.push(bell.clone());
        Ok(Opened { thread, bell, go })
    }
}

/// Lets the main thread know, in the way it is told to stop by anybody else.
fn terminate() {
    if let Err(error) = rustix::process::kill_process(rustix::process::getpid(), Signal::TERM) {
        tracing::error!(%error, "cannot signal the main thread");
    }
}

pub(super) fn open_driver(core: usize, config: &Config) -> Result<Driver, StartError> {
    if let Some(&cpu) = config.cores.pin.get(core) {
        cpu::pin(cpu).map_err(|error| StartError::Thread { core, error })?;
    }
    let choice = match config.cores.driver {
        DriverChoice::Auto => Choice::Auto,
        DriverChoice::IoUring => Choice::IoUring,
        DriverChoice::Mio => Choice::Mio,
    };
    let options = Options { receive_buffers: RECEIVE_BUFFERS, entries: RING_ENTRIES };
    let (driver, report) = Driver::open(choice, &options)?;
    let features = report
        .features
        .iter()
        .map(|(name, there)| format!("{}{name}", if *there { "" } else { "no " }));
    let features = features.collect::<Vec<_>>().join(", ");
    let (kind, reason) = (report.kind, report.reason);
    tracing::info!(core, driver = %kind, reason, features, "driver opened");
    Ok(driver)
}

fn rules(auth: &config::Auth) -> session::Auth {
    let allowed = AuthMethods { null: auth.allowed.null, ip: auth.allowed.ip };
    session::Auth { allowed, ip_required: auth.required.ip }
}

/// Tells of daemons by name.
fn teller(config: &Config) -> Teller {
    Teller::new(names(&config.cluster, config.daemon))
}

fn pool(config: &Config) -> Pool {
    Pool::new(PoolOptions { bytes_max: config.memory.pool_bytes_max })
}

impl Core {
    fn run_sessions(self, session_core: usize, link: impl Link) -> Result<(), RunError> {
        let sessions = &self.config.sessions;
        let setup = session::Setup {
            core: u8::try_from(session_core).expect("there are at most 64 cores"),
            auth: rules(&self.config.auth),
            handshake_timeout: sessions.handshake_timeout,
            bounds: Bounds {
                messages_max: sessions.messages_max,
                bytes_max: sessions.bytes_max,
                hold_senders: sessions.slow_receiver == SlowReceiver::Hold,
            },
        };
        let memory = &self.config.memory;
        let bytes = memory.session_queue_bytes;
        let sizes = QueueSizes { submission_bytes: bytes, delivery_bytes: bytes };
        let shelves = Shelves::new(memory.shelf_bytes, memory.shelf_from_bytes);
        let channels = Channels::new(sizes, shelves, Budget::new(memory.shared_bytes_max));
        let thread = SessionThread {
            core: SessionCore::new(setup, pool(&self.config), channels),
            link,
            clock: Clock,
            idle: self.idle(),
            driver: self.driver,
            counters: self.counters,
            teller: teller(&self.config),
            shared: self.shared,
            tally: Tally::default(),
        };
        thread.run()
    }

    fn run_ring(
        self,
        ring: RingCore,
        acceptor: Acceptor,
        ports: Vec<SessionPort>,
        own_bell: Doorbell,
    ) -> Result<(), RunError> {
        let thread = RingThread {
            ring,
            acceptor,
            ports,
            own_bell,
            clock: Clock,
            idle: self.idle(),
            driver: self.driver,
            counters: self.counters,
            teller: teller(&self.config),
            shared: self.shared,
            tally: Tally::default(),
            next_core: 0,
        };
        thread.run()
    }

    fn idle(&self) -> Idle {
        Idle::new(self.config.cores.idle, self.config.cores.spin, Clock.read())
    }
}
