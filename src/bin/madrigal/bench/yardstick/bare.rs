//! Ways for two threads to tell each other something, without any daemon: what the yardstick times.

use std::io::{self, Read, Write};
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use madrigal::mem::spsc::{Consumer, Producer, queue};
use rustix::event::{EventfdFlags, eventfd};
use rustix::thread::futex;

/// How long a blocking receive on a socket waits before something must be wrong.
const PATIENCE: Duration = Duration::from_secs(5);

/// Slots of a [`Queue`].
const QUEUE_SLOTS: usize = 64;

/// One of two ends that take turns.
pub(crate) trait End: Send + 'static {
    /// Tells the other end.
    fn send(&mut self) -> io::Result<()>;

    /// Waits until the other end has told.
    fn receive(&mut self) -> io::Result<()>;
}

/// How a socket waits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Asleep in the kernel.
    Parked,
    /// Asking again and again.
    Spinning,
}

/// An eventfd for each direction.
pub(crate) struct EventFd {
    mine: Arc<OwnedFd>,
    theirs: Arc<OwnedFd>,
}

impl EventFd {
    /// Both ends.
    pub(crate) fn pair() -> io::Result<[Self; 2]> {
        let a = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let b = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        Ok([Self { mine: Arc::clone(&a), theirs: Arc::clone(&b) }, Self { mine: b, theirs: a }])
    }
}

impl End for EventFd {
    fn send(&mut self) -> io::Result<()> {
        rustix::io::write(&self.theirs, &1u64.to_ne_bytes())?;
        Ok(())
    }

    fn receive(&mut self) -> io::Result<()> {
        rustix::io::read(&self.mine, &mut [0u8; 8][..])?;
        Ok(())
    }
}

/// A counter in memory for each direction, with a futex to sleep on.
pub(crate) struct Futex {
    counters: Arc<[AtomicU32; 2]>,
    side: usize,
    seen: u32,
}

impl Futex {
    /// Both ends.
    pub(crate) fn pair() -> [Self; 2] {
        let counters = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
        [0, 1].map(|side| Self { counters: Arc::clone(&counters), side, seen: 0 })
    }
}

impl End for Futex {
    fn send(&mut self) -> io::Result<()> {
        let counter = &self.counters[1 - self.side];
        // Release: pairs with the Acquire load in `receive`.
        counter.fetch_add(1, Ordering::Release);
        futex::wake(counter, futex::Flags::PRIVATE, 1)?;
        Ok(())
    }

    fn receive(&mut self) -> io::Result<()> {
        let counter = &self.counters[self.side];
        loop {
            // Acquire: pairs with the Release addition in `send`.
            let now = counter.load(Ordering::Acquire);
            if now != self.seen {
                self.seen = now;
                return Ok(());
            }
            match futex::wait(counter, futex::Flags::PRIVATE, self.seen, None) {
                // The counter moved before the kernel looked, or a signal came: look again.
                Ok(()) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A Unix stream socket.
pub(crate) struct Stream {
    socket: UnixStream,
    message: Vec<u8>,
    waiting: Waiting,
}

impl Stream {
    /// Both ends, for messages of `size` bytes.
    pub(crate) fn pair(size: usize, waiting: Waiting) -> io::Result<[Self; 2]> {
        let (a, b) = UnixStream::pair()?;
        for socket in [&a, &b] {
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.set_nonblocking(waiting == Waiting::Spinning)?;
        }
        Ok([a, b].map(|socket| Self { socket, message: vec![0; size], waiting }))
    }
}

impl End for Stream {
    fn send(&mut self) -> io::Result<()> {
        let mut sent = 0;
        while sent < self.message.len() {
            sent += transfer(self.waiting, || self.socket.write(&self.message[sent..]))?;
        }
        Ok(())
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut received = 0;
        while received < self.message.len() {
            let into = &mut self.message[received..];
            match transfer(self.waiting, || self.socket.read(into))? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                bytes => received += bytes,
            }
        }
        Ok(())
    }
}

/// A UDP socket on the loopback interface.
pub(crate) struct Udp {
    socket: UdpSocket,
    message: Vec<u8>,
    waiting: Waiting,
}

impl Udp {
    /// Both ends, for datagrams of `size` bytes.
    pub(crate) fn pair(size: usize, waiting: Waiting) -> io::Result<[Self; 2]> {
        let (a, b) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
        a.connect(b.local_addr()?)?;
        b.connect(a.local_addr()?)?;
        for socket in [&a, &b] {
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.set_nonblocking(waiting == Waiting::Spinning)?;
        }
        Ok([a, b].map(|socket| Self { socket, message: vec![0; size], waiting }))
    }
}

impl End for Udp {
    fn send(&mut self) -> io::Result<()> {
        transfer(self.waiting, || self.socket.send(&self.message)).map(drop)
    }

    fn receive(&mut self) -> io::Result<()> {
        transfer(self.waiting, || self.socket.recv(&mut self.message)).map(drop)
    }
}

/// A queue in memory for each direction, of the kind that connects the daemon's cores.
pub(crate) struct Queue {
    theirs: Producer<Line>,
    mine: Consumer<Line>,
}

/// What one slot of a [`Queue`] carries: as much as a small message, in one line of the caches.
#[repr(align(64))]
struct Line([u8; 64]);

impl Queue {
    /// Both ends; they spin.
    pub(crate) fn pair() -> [Self; 2] {
        let (to_second, from_first) = queue(QUEUE_SLOTS);
        let (to_first, from_second) = queue(QUEUE_SLOTS);
        [Self { theirs: to_second, mine: from_second }, Self { theirs: to_first, mine: from_first }]
    }
}

impl End for Queue {
    fn send(&mut self) -> io::Result<()> {
        // There are two messages at most in a queue: the one of a turn and the one that ends it.
        self.theirs.push(Line([1; 64])).map_err(|_| io::Error::other("the queue is full"))?;
        self.theirs.publish();
        Ok(())
    }

    fn receive(&mut self) -> io::Result<()> {
        let line = spin(|| Ok(self.mine.pop()))?;
        std::hint::black_box(line.0);
        self.mine.release();
        Ok(())
    }
}

/// Moves bytes through a socket that waits as it says.
fn transfer(waiting: Waiting, mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    let once = || match call() {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => match waiting {
            Waiting::Spinning => Ok(None),
            Waiting::Parked => Err(io::ErrorKind::TimedOut.into()),
        },
        result => result.map(Some),
    };
    spin(once)
}

/// Asks again and again until there is something.
fn spin<T>(mut once: impl FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
    let mut start = None;
    let mut tries = 0u32;
    loop {
        if let Some(found) = once()? {
            return Ok(found);
        }
        tries = tries.wrapping_add(1);
        // Reading the clock at each try would be a good part of what is measured.
        if tries.is_multiple_of(1024) && start.get_or_insert_with(Instant::now).elapsed() > PATIENCE
        {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::hint::spin_loop();
    }
}
