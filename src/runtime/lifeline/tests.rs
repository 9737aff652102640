use std::net::TcpListener as StdListener;
use std::net::TcpStream as StdStream;

use super::*;
use crate::sys::driver::{Choice, Driver, Options, Wait};

const PATIENCE: Duration = Duration::from_secs(20);

const OTHER: DaemonId = DaemonId::new(7);

struct Core {
    driver: Driver,
    lifeline: Lifeline,
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 7, last])
}

/// A port of one's own for a test: nothing else of this host listens at these addresses.
fn address(last: u8) -> SocketAddr {
    SocketAddr::new(ip(last), 4804)
}

impl Core {
    /// One at `own`, for which the other daemons are at `known`.
    fn new(own: SocketAddr, known: &[IpAddr]) -> Self {
        let (driver, _) = Driver::open(Choice::Mio, &Options::default()).unwrap();
        let lifeline = Lifeline::open(own, known.to_vec()).unwrap();
        lifeline.report_to(driver.bell());
        Self { driver, lifeline }
    }

    fn watch(&self, address: SocketAddr) {
        self.lifeline.watch(Some((OTHER, address)));
    }

    /// Waits for something that the bell is rung for.
    fn await_sign(&mut self) -> Sign {
        let end = Clock.read() + PATIENCE;
        loop {
            if let Some(sign) = self.lifeline.poll() {
                return sign;
            }
            assert!(Clock.read() < end, "nobody rings");
            self.driver.turn(Wait::For(PATIENCE)).unwrap();
            while self.driver.next_event().is_some() {}
        }
    }
}

#[test]
fn a_process_that_ends_is_told_of() {
    let mut core = Core::new(address(1), &[]);
    let other = StdListener::bind(address(2)).unwrap();
    core.watch(address(2));
    let (stream, from) = other.accept().unwrap();
    assert_eq!(from.ip(), ip(1), "it comes from the address that it is known by");
    assert_eq!(core.lifeline.poll(), None);
    // As a process ends: some connections may still be taken.
    drop(stream);
    drop(other.accept().unwrap());
    drop(other);
    assert_eq!(core.await_sign(), Sign::Ended(OTHER));
    // The next life is watched when there is a ring with it.
    let other = StdListener::bind(address(2)).unwrap();
    core.watch(address(2));
    other.accept().unwrap();
}

#[test]
fn a_connection_that_ends_while_the_process_lives_is_made_again() {
    let core = Core::new(address(3), &[]);
    let other = StdListener::bind(address(4)).unwrap();
    core.watch(address(4));
    for _ in 0..TRIES_MAX {
        other.accept().unwrap();
    }
    let (_stream, _) = other.accept().unwrap();
    assert_eq!(core.lifeline.poll(), None);
}

/// It may have been killed before, or a firewall says so.
#[test]
fn where_nothing_ever_listened_it_is_doubted_that_anything_does() {
    let mut core = Core::new(address(5), &[]);
    core.watch(address(6));
    for _ in 0..TRIES_MAX {
        assert_eq!(core.await_sign(), Sign::Doubted(OTHER));
    }
    // Taken behind the last of them, by the same thread.
    let third = StdListener::bind(address(7)).unwrap();
    core.watch(address(7));
    drop(third.accept().unwrap());
    drop(third);
    assert_eq!(core.await_sign(), Sign::Ended(OTHER));
    assert_eq!(core.lifeline.poll(), None);
}

#[test]
fn what_listens_at_last_is_watched() {
    let mut core = Core::new(address(13), &[]);
    core.watch(address(14));
    assert_eq!(core.await_sign(), Sign::Doubted(OTHER));
    let late = StdListener::bind(address(14)).unwrap();
    drop(late.accept().unwrap());
    drop(late);
    while core.await_sign() == Sign::Doubted(OTHER) {}
}

#[test]
fn nobody_is_watched_any_more_when_told_so() {
    let core = Core::new(address(8), &[]);
    let other = StdListener::bind(address(9)).unwrap();
    core.watch(address(9));
    let (mut stream, _) = other.accept().unwrap();
    core.lifeline.watch(None);
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn strangers_and_those_that_speak_are_closed_and_counted() {
    let core = Core::new(address(10), &[ip(11)]);
    let connect = |from: u8| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(ip(from), 0).into()).unwrap();
        socket.connect(&address(10).into()).unwrap();
        StdStream::from(socket)
    };
    // A reset or an end, as the other side had read what there was or not.
    let is_closed = |stream: &mut StdStream| !matches!(stream.read(&mut [0; 1]), Ok(1..));
    assert!(is_closed(&mut connect(12)));
    let mut silent = connect(11);
    let mut talker = connect(11);
    std::io::Write::write_all(&mut talker, b"hello").unwrap();
    assert!(is_closed(&mut talker));
    assert_eq!(core.lifeline.take_strangers(), 2);
    silent.set_nonblocking(true).unwrap();
    assert_eq!(silent.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
    silent.set_nonblocking(false).unwrap();
    drop(core);
    assert!(is_closed(&mut silent));
}
