use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::*;
use crate::sys::driver::{Choice, DatagramKey, Driver, Event, Options, Wait};

const V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const V6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 0);
const PATIENCE: Duration = Duration::from_secs(10);

fn each_driver(test: impl Fn(&mut Driver)) {
    for choice in [Choice::Mio, Choice::IoUring] {
        match Driver::open(choice, &Options::default()) {
            Ok((mut driver, _)) => test(&mut driver),
            // Where the host forbids io_uring, the daemon does not use it either.
            Err(error) => assert_eq!(choice, Choice::IoUring, "{error}"),
        }
    }
}

/// Sends `packets` from a socket of its own.
fn send(to: SocketAddr, packets: &[Vec<u8>]) -> DatagramSocket {
    let local = SocketAddr::new(if to.is_ipv6() { V6.ip() } else { V4.ip() }, 0);
    let mut sender = DatagramSocket::unicast(local, 1).unwrap();
    let slices: Vec<_> = packets.iter().map(|packet| IoSlice::new(packet)).collect();
    sender.send(&to.into(), &slices).unwrap();
    sender
}

/// Packets that arrive at `keys` until there are `count`.
fn take(driver: &mut Driver, count: usize) -> Vec<(DatagramKey, Vec<u8>)> {
    let deadline = Instant::now() + PATIENCE;
    let mut buffer = vec![0; RECEIVE_BYTES_MAX];
    let mut packets = Vec::new();
    while packets.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} packets", packets.len());
        driver.turn(Wait::For(Duration::from_millis(20))).unwrap();
        let mut sockets = Vec::new();
        while let Some(event) = driver.next_event() {
            if let Event::Datagrams { socket } = event {
                sockets.push(socket);
            }
        }
        for socket in sockets {
            while let Some(received) = driver.receive_datagrams(socket, &mut buffer).unwrap() {
                let bytes = &buffer[..received.bytes];
                packets.extend(bytes.chunks(received.segment).map(|p| (socket, p.to_vec())));
            }
        }
    }
    packets
}

fn train(count: usize, size: usize, last: usize) -> Vec<Vec<u8>> {
    let size = |index| if index + 1 == count { last } else { size };
    (0..count).map(|index| vec![index as u8 + 1; size(index)]).collect()
}

#[test]
fn trains_arrive_packet_by_packet() {
    each_driver(|driver| {
        for local in [V4, V6] {
            let socket = DatagramSocket::unicast(local, 1).unwrap();
            socket.reserve(1 << 20).unwrap();
            let address = socket.address().unwrap();
            let key = driver.attach_datagrams(socket);
            for sent in [train(1, 5, 5), train(40, 1400, 1400), train(7, 300, 20)] {
                let _sender = send(address, &sent);
                let got = take(driver, sent.len());
                assert!(got.iter().all(|(at, _)| *at == key));
                assert_eq!(got.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>(), sent);
            }
            driver.close_datagrams(key);
        }
    });
}

#[test]
fn a_socket_that_refuses_trains_sends_packets() {
    let socket = DatagramSocket::unicast(V4, 1).unwrap();
    let to = socket.address().unwrap();
    let mut sender = DatagramSocket::unicast(V4, 1).unwrap();
    // More than the path carries in one packet: the kernel refuses to make a train of it.
    let packets = [vec![1; 30_000], vec![2; 30_000]];
    let whole = vec![3; 1_000];
    let slices = packets.each_ref().map(|packet| IoSlice::new(packet));
    sender.segments = false;
    assert_eq!(sender.send(&to.into(), &slices).unwrap(), 2);
    assert_eq!(sender.send(&to.into(), &[IoSlice::new(&whole)]).unwrap(), 1);
    let mut buffer = vec![0; RECEIVE_BYTES_MAX];
    for expected in [&packets[0], &packets[1], &whole] {
        let received = socket.receive(&mut buffer).unwrap().unwrap();
        assert_eq!((received.bytes, received.segment), (expected.len(), expected.len()));
        assert_eq!(&buffer[..received.bytes], &expected[..]);
    }
    assert_eq!(socket.receive(&mut buffer).unwrap(), None);
}

#[test]
fn members_of_a_group_get_what_is_sent_there_and_others_do_not() {
    each_driver(|driver| {
        let bound = DatagramSocket::unicast(V4, 1).unwrap();
        let port = bound.address().unwrap().port();
        let group = |last| SocketAddr::new(Ipv4Addr::new(239, 77, 1, last).into(), port);
        let join = |group| DatagramSocket::multicast(group, V4.ip()).unwrap();
        let members = [group(1), group(1), group(2)].map(|to| driver.attach_datagrams(join(to)));
        let _one = send(group(1), &[b"to both".to_vec()]);
        let got: BTreeSet<_> =
            take(driver, 2).into_iter().map(|(key, bytes)| (key == members[2], bytes)).collect();
        assert_eq!(got, BTreeSet::from([(false, b"to both".to_vec())]));
        let _other = send(group(2), &[b"to one".to_vec()]);
        assert_eq!(take(driver, 1), [(members[2], b"to one".to_vec())]);
        members.into_iter().for_each(|key| driver.close_datagrams(key));
    });
}

#[test]
fn a_refusal_tells_whose_it_is() {
    for local in [V4, V6] {
        let gone = DatagramSocket::unicast(local, 1).unwrap();
        let to = gone.address().unwrap();
        drop(gone);
        let sender = send(to, &[b"anybody there?".to_vec()]);
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = [0; 8];
        let refused = loop {
            assert!(Instant::now() < deadline);
            assert_eq!(sender.receive(&mut buffer).unwrap(), None);
            if let Some(address) = sender.next_refusal() {
                break address;
            }
        };
        assert_eq!(refused, to);
        assert_eq!(sender.next_refusal(), None);
    }
}

#[test]
fn dropped_packets_are_counted() {
    let socket = DatagramSocket::unicast(V4, 1).unwrap();
    let room = socket.reserve(4096).unwrap();
    let to = socket.address().unwrap();
    let _sender = send(to, &train(60, 1000, 1000));
    let mut sender = send(to, &train(60, 1000, 1000));
    let mut buffer = vec![0; RECEIVE_BYTES_MAX];
    let mut got = 0;
    while let Some(received) = socket.receive(&mut buffer).unwrap() {
        got += received.bytes;
    }
    assert!(got < 120_000, "{got} bytes in a buffer of {room}");
    // The count comes with the next packet that is not dropped.
    sender.send(&to.into(), &[IoSlice::new(b"after")]).unwrap();
    assert!(socket.receive(&mut buffer).unwrap().unwrap().dropped > 0);
}

#[test]
fn errors_name_what_was_asked_for() {
    let elsewhere = SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), 0);
    let error = DatagramSocket::unicast(elsewhere, 1).unwrap_err();
    assert!(error.to_string().starts_with("cannot receive datagrams at 192.0.2.1:0: "), "{error}");
    let group = SocketAddr::new(Ipv4Addr::new(239, 77, 1, 1).into(), 0);
    let error = DatagramSocket::multicast(group, elsewhere.ip()).unwrap_err();
    assert!(error.to_string().contains("interface of 192.0.2.1"), "{error}");
}
