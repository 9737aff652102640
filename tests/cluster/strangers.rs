//! Packets that no daemon of the cluster sent, or sent long ago: they cost a counter.

use std::collections::VecDeque;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsFd;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use madrigal::sim::rng::Rng;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::Lab;
use crate::still::Still;
use crate::support::PATIENCE;
use crate::{HOSTS, Raise, at_work, on_labs};

/// All frames, in network byte order.
const ETH_P_ALL: i32 = 0x0003_u16.to_be() as i32;

const ETHERNET_BYTES: usize = 14;
const IP_BYTES: usize = 20;
const UDP_BYTES: usize = 8;

/// The switch's own address.
const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 77, 68, 71);
const PORT: u16 = 4803;

/// A datagram between daemons.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) from: SocketAddrV4,
    pub(crate) to: SocketAddrV4,
    pub(crate) bytes: Vec<u8>,
}

/// Runs `work` in a thread whose network is that of a host.
fn in_network<T: Send>(network: &File, work: impl FnOnce() -> T + Send) -> T {
    let work = || {
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("root may");
        work()
    };
    thread::scope(|scope| scope.spawn(work).join().expect("it has not failed"))
}

/// Sees all that passes the switch.
struct Recorder(Socket);

impl Recorder {
    fn new() -> Self {
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(ETH_P_ALL)));
        let socket = socket.expect("root may");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket");
        Self(socket)
    }

    /// The next datagram between daemons, if one comes soon.
    fn next(&self) -> Option<Packet> {
        use std::io::Read;
        let mut frame = vec![0; 70_000];
        let len = (&self.0).read(&mut frame).ok()?;
        parse(&frame[..len])
    }
}

fn parse(frame: &[u8]) -> Option<Packet> {
    let ip = frame.get(ETHERNET_BYTES..)?;
    let udp = ip.get(IP_BYTES..)?;
    let is_udp = frame[12..14] == [8, 0] && ip[0] == 0x45 && ip[9] == 17;
    let address = |at: usize, port: usize| {
        let octets: [u8; 4] = ip[at..at + 4].try_into().expect("four bytes");
        SocketAddrV4::new(octets.into(), u16::from_be_bytes([udp[port], udp[port + 1]]))
    };
    let bytes = udp.get(UDP_BYTES..).filter(|_| is_udp)?.to_vec();
    let packet = Packet { from: address(12, 0), to: address(16, 2), bytes };
    (PORT..=PORT + 1).contains(&packet.to.port()).then_some(packet)
}

/// Sends in the name of `from`.
fn impostor(from: SocketAddrV4) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
    socket.set_ip_transparent_v4(true).expect("root may");
    socket.set_reuse_address(true).expect("a socket");
    socket.bind(&SocketAddr::from(from).into()).expect("any address may be bound");
    socket.set_multicast_if_v4(&STRANGER).expect("the switch has it");
    socket
}

/// Where daemons listen.
fn targets() -> Vec<SocketAddrV4> {
    let hosts = (1..=HOSTS.len() as u8).map(|host| Ipv4Addr::new(10, 77, 0, host));
    let places = hosts.flat_map(|host| [(host, PORT), (host, PORT + 1)]);
    places.chain([(GROUP, PORT)]).map(|(host, port)| SocketAddrV4::new(host, port)).collect()
}

/// Sends, some at a time.
fn flood(packets: impl Iterator<Item = Packet>) {
    let mut sockets: Vec<(SocketAddrV4, Socket)> = Vec::new();
    for (number, Packet { from, to, bytes }) in packets.enumerate() {
        if !sockets.iter().any(|(address, _)| *address == from) {
            sockets.push((from, impostor(from)));
        }
        let socket = sockets.iter().find(|(address, _)| *address == from);
        let (_, socket) = socket.expect("it has been made");
        // To the sender itself it has no way: the kernel knows its own address.
        let _ = socket.send_to(&bytes, &SocketAddr::from(to).into());
        if number % 50 == 49 {
            thread::park_timeout(Duration::from_millis(1));
        }
    }
}

fn garbage(random: &mut Rng, like: &[Packet]) -> Packet {
    let places = targets();
    let to = *random.pick(&places);
    let stranger = SocketAddrV4::new(STRANGER, 9_999);
    let packet = random.pick(like);
    let from = if random.chance(500) { stranger } else { packet.from };
    let mut bytes = packet.bytes.clone();
    match random.below(4) {
        // Nothing of it is right.
        0 => bytes = (0..random.below(2_000)).map(|_| random.bits() as u8).collect(),
        1 => bytes.truncate(random.index(bytes.len() + 1)),
        2 => bytes.extend_from_slice(&[0; 7]),
        // From the checksum's bytes on, anything.
        _ => {
            for _ in 0..=random.below(8) {
                let at = random.index(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
        }
    }
    Packet { from, to, bytes }
}

/// What passed the switch while so many datagrams did.
pub(crate) fn record(lab: &Lab, count: usize) -> Vec<Packet> {
    in_network(&lab.network("net"), || {
        let recorder = Recorder::new();
        let mut packets = Vec::new();
        let end = Instant::now() + PATIENCE;
        while packets.len() < count {
            packets.extend(recorder.next());
            assert!(Instant::now() < end, "not within {PATIENCE:?}: {count} packets");
        }
        packets
    })
}

#[test]
fn garbage_costs_a_counter() {
    on_labs(3, |lab| {
        let crew = at_work(lab);
        let like = record(lab, 300);
        assert!(like.iter().any(|packet| packet.to.port() == PORT + 1), "tokens are among them");
        let still = Still::begin(lab);
        let mut random = Rng::new(1);
        let junk = (0..20_000).map(|_| garbage(&mut random, &like)).collect::<Vec<_>>();
        in_network(&lab.network("net"), || flood(junk.into_iter()));
        crew.wait_for_messages(&HOSTS, 100);
        still.end(lab);
        for host in HOSTS {
            let foreign = lab.counter(host, "packets_foreign");
            assert!(foreign > 2_000, "{host} has counted {foreign}");
        }
        crew.judge(lab);
    });
}

#[test]
fn packets_of_an_earlier_ring_cost_a_counter() {
    on_labs(3, |lab| {
        let crew = at_work(lab);
        let old = record(lab, 2_000);
        // Another ring, and another life of one of them.
        lab.run(&["kill", "d2"]);
        crew.wait_for_parts(&[&["d1", "d3"]]);
        lab.run(&["start", "d2"]);
        crew.wait_for_all(lab);
        let still = Still::begin(lab);
        for _ in 0..3 {
            in_network(&lab.network("net"), || flood(old.iter().cloned()));
            crew.wait_for_messages(&HOSTS, 50);
        }
        still.end(lab);
        let stale = HOSTS.map(|host| lab.counter(host, "packets_stale"));
        assert!(stale.iter().all(|stale| *stale > 1_000), "{stale:?}");
        crew.judge(lab);
    });
}

/// Whatever is sent comes again a moment later, from the right address.
#[test]
fn echo_of_everything_changes_nothing() {
    on_labs(3, |lab| {
        let crew = at_work(lab);
        let still = Still::begin(lab);
        let stop = AtomicBool::new(false);
        let network = lab.network("net");
        thread::scope(|scope| {
            scope.spawn(|| {
                in_network(&network, || {
                    let recorder = Recorder::new();
                    // What it has sent itself passes the switch, too.
                    let mut echoed = VecDeque::new();
                    while !stop.load(Relaxed) {
                        let Some(packet) = recorder.next() else { continue };
                        if echoed.contains(&packet.bytes) {
                            continue;
                        }
                        echoed.push_back(packet.bytes.clone());
                        if echoed.len() > 500 {
                            echoed.pop_front();
                        }
                        flood(std::iter::once(packet));
                    }
                });
            });
            let _end = Raise(&stop);
            crew.wait_for_messages(&HOSTS, 300);
        });
        still.end(lab);
        crew.judge(lab);
    });
}
