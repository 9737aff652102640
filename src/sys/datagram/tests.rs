use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::base::limits::DATAGRAM_BUFFERS;
use crate::sys::driver::{Choice, DatagramEvent, DatagramKey, Driver, Event, Options, Wait};

const V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const V6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 0);
const PATIENCE: Duration = Duration::from_secs(10);

fn each_driver(test: impl Fn(&mut Driver)) {
    for choice in [Choice::Mio, Choice::IoUring] {
        match Driver::open(choice, &Options::default()) {
            Ok((mut driver, _)) => test(&mut driver),
            // Where the host forbids io_uring, the daemon does not use it either.
            Err(error) => {
                assert_eq!(choice, Choice::IoUring, "{error}");
                println!("SKIPPED on io_uring: {error}");
            }
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
    let mut packets = Vec::new();
    while packets.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} packets", packets.len());
        driver.turn(Wait::For(Duration::from_millis(20))).unwrap();
        while let Some(event) = driver.next_event() {
            let Event::Datagrams { socket, event } = event else { panic!("{event:?}") };
            let DatagramEvent::Received { bytes, segment, .. } = event else { panic!("{event:?}") };
            packets.extend(bytes.chunks(segment).map(|packet| (socket, packet.to_vec())));
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
fn drivers_say_who_sent() {
    each_driver(|driver| {
        for local in [V4, V6] {
            let socket = DatagramSocket::unicast(local, 1).unwrap();
            let address = socket.address().unwrap();
            let key = driver.attach_datagrams(socket);
            let senders = [send(address, &train(2, 9, 9)), send(address, &train(1, 8, 8))];
            let deadline = Instant::now() + PATIENCE;
            let mut heard = Vec::new();
            while heard.len() < senders.len() {
                assert!(Instant::now() < deadline);
                driver.turn(Wait::For(Duration::from_millis(20))).unwrap();
                while let Some(event) = driver.next_event() {
                    let Event::Datagrams { event, .. } = event else { panic!("{event:?}") };
                    let DatagramEvent::Received { segment, from, .. } = event else {
                        panic!("{event:?}")
                    };
                    heard.push((segment, from.unwrap().port()));
                    assert_eq!(from.unwrap().ip(), address.ip());
                }
            }
            let ports = senders.map(|sender| sender.address().unwrap().port());
            assert_eq!(heard, [(9, ports[0]), (8, ports[1])]);
            driver.close_datagrams(key);
        }
    });
}

#[test]
fn more_packets_than_buffers_come_in_order_and_none_is_lost() {
    each_driver(|driver| {
        let socket = DatagramSocket::unicast(V4, 1).unwrap();
        assert!(socket.reserve(4 << 20).unwrap() >= 1 << 20, "room is needed: be root");
        let to = socket.address().unwrap();
        let key = driver.attach_datagrams(socket);
        driver.turn(Wait::No).unwrap();
        // Of growing length, so that no two make a train.
        let sent: Vec<_> = (0..3 * DATAGRAM_BUFFERS).map(|index| vec![1; 10 + index]).collect();
        let mut sender = DatagramSocket::unicast(V4, 1).unwrap();
        for packet in &sent {
            sender.send(&to.into(), &[IoSlice::new(packet)]).unwrap();
        }
        let got: Vec<_> = take(driver, sent.len()).into_iter().map(|(_, bytes)| bytes).collect();
        assert_eq!(got, sent);
        driver.close_datagrams(key);
    });
}

#[test]
fn a_closed_socket_is_silent_and_its_port_is_free() {
    each_driver(|driver| {
        let socket = DatagramSocket::unicast(V4, 1).unwrap();
        let to = socket.address().unwrap();
        let key = driver.attach_datagrams(socket);
        driver.turn(Wait::No).unwrap();
        let _sender = send(to, &[b"too late".to_vec()]);
        driver.close_datagrams(key);
        driver.close_datagrams(key);
        assert_eq!(driver.send_datagrams(key, &to.into(), &[IoSlice::new(b"x")]).unwrap().calls, 0);
        let deadline = Instant::now() + PATIENCE;
        let again = loop {
            driver.turn(Wait::For(Duration::from_millis(1))).unwrap();
            assert!(driver.next_event().is_none());
            match DatagramSocket::unicast(to, 1) {
                Ok(socket) => break socket,
                Err(error) => assert!(error.is_in_use() && Instant::now() < deadline, "{error}"),
            }
        };
        let new = driver.attach_datagrams(again);
        assert_ne!(new, key);
        let _sender = send(to, &[b"in time".to_vec()]);
        assert_eq!(take(driver, 1), [(new, b"in time".to_vec())]);
    });
}

#[test]
fn drivers_tell_once_of_each_drop() {
    each_driver(|driver| {
        let socket = DatagramSocket::unicast(V4, 1).unwrap();
        socket.reserve(4096).unwrap();
        let to = socket.address().unwrap();
        // Before the driver has it: nobody takes what comes.
        for _ in 0..20 {
            send(to, &[vec![1; 1000]]);
        }
        driver.attach_datagrams(socket);
        let (mut sent, mut packets, mut drops) = (20, 0, 0);
        let deadline = Instant::now() + PATIENCE;
        while packets + drops < sent {
            assert!(Instant::now() < deadline, "{packets} packets, {drops} drops of {sent}");
            driver.turn(Wait::For(Duration::from_millis(20))).unwrap();
            let before = packets;
            while let Some(event) = driver.next_event() {
                let Event::Datagrams { event, .. } = event else { panic!("{event:?}") };
                let DatagramEvent::Received { dropped, .. } = event else { panic!("{event:?}") };
                packets += 1;
                drops += dropped;
            }
            if packets == before {
                // The count comes with the next packet that is not dropped.
                send(to, &[b"after".to_vec()]);
                sent += 1;
            }
        }
        assert!(drops > 0);
        assert_eq!(packets + drops, sent);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever leaves together, the same packets arrive, in the order of each sender.
    #[test]
    fn any_trains_arrive(
        sizes in prop::collection::vec((1_usize..40, 1_usize..1_500, 0_usize..100), 1..12),
        both in any::<bool>(),
    ) {
        each_driver(|driver| {
            let sockets = [V4, if both { V4 } else { V6 }].map(|local| {
                let socket = DatagramSocket::unicast(local, 1).unwrap();
                socket.reserve(4 << 20).unwrap();
                let address = socket.address().unwrap();
                (driver.attach_datagrams(socket), address)
            });
            let mut sent = [Vec::new(), Vec::new()];
            for (index, &(count, size, shorter)) in sizes.iter().enumerate() {
                let packets = train(count, size, size.saturating_sub(shorter).max(1));
                let _sender = send(sockets[index % 2].1, &packets);
                sent[index % 2].extend(packets);
            }
            let mut got = [Vec::new(), Vec::new()];
            for (at, packet) in take(driver, sent[0].len() + sent[1].len()) {
                got[usize::from(at == sockets[1].0)].push(packet);
            }
            assert_eq!(got, sent);
            sockets.iter().for_each(|(key, _)| driver.close_datagrams(*key));
        });
    }
}

/// How many system calls it took, and with what errno a train was refused.
fn calls(socket: &mut DatagramSocket, to: SocketAddr, packets: &[IoSlice<'_>]) -> (usize, i32) {
    let sent = socket.send(&to.into(), packets).unwrap();
    (sent.calls, sent.refused.map_or(0, |error| error.raw_os_error().unwrap()))
}

#[test]
fn refused_trains_go_packet_by_packet_and_are_tried_again_later() {
    let mut socket = DatagramSocket::unicast(V4, 1).unwrap();
    let other = DatagramSocket::unicast(V4, 1).unwrap();
    let [to, elsewhere] = [&socket, &other].map(|socket| socket.address().unwrap());
    let mut sender = DatagramSocket::unicast(V4, 1).unwrap();
    let packets = train(3, 1_000, 7);
    let slices: Vec<_> = packets.iter().map(|packet| IoSlice::new(packet)).collect();
    assert_eq!(calls(&mut sender, to, &slices), (1, 0));
    // The kernel makes no train of packets without checksums.
    raw::set(&sender.socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1_i32).unwrap();
    assert_eq!(calls(&mut sender, to, &slices), (4, libc::EINVAL));
    // Remembered: it is not asked again.
    assert_eq!(calls(&mut sender, to, &slices), (3, 0));
    // But for now, and for this receiver.
    raw::set(&sender.socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 0_i32).unwrap();
    assert_eq!(calls(&mut sender, elsewhere, &slices), (1, 0));
    assert_eq!(calls(&mut sender, to, &slices), (3, 0));
    sender.refusals[0].until = Clock.read();
    assert_eq!(calls(&mut sender, to, &slices), (1, 0));
    assert!(sender.refusals.is_empty());
    let mut buffer = vec![0; RECEIVE_BYTES_MAX];
    let mut got = Vec::new();
    while let Some(received) = socket.receive(&mut buffer).unwrap() {
        got.extend(buffer[..received.bytes].chunks(received.segment).map(<[u8]>::to_vec));
    }
    assert_eq!(got, vec![packets; 5].concat());
}

#[test]
fn packets_longer_than_the_path_carries_are_no_train() {
    // What IPv6 carries in one piece at least, without asking the path.
    let mut socket = DatagramSocket::unicast(V6, 1).unwrap();
    let to = socket.address().unwrap();
    let mut sender = DatagramSocket::unicast(V6, 1).unwrap();
    raw::set(&sender.socket, libc::IPPROTO_IPV6, libc::IPV6_MTU, 1_280_i32).unwrap();
    let packets = train(2, 3_000, 3_000);
    let slices: Vec<_> = packets.iter().map(|packet| IoSlice::new(packet)).collect();
    assert_eq!(calls(&mut sender, to, &slices).0, 3);
    assert_eq!(sender.refusals[0].packet_bytes_max, 2_999);
    let short = [IoSlice::new(&packets[0][..1_000]), IoSlice::new(&packets[1][..1_000])];
    assert_eq!(calls(&mut sender, to, &short), (1, 0));
    let mut buffer = vec![0; RECEIVE_BYTES_MAX];
    for expected in [3_000, 3_000, 2_000] {
        assert_eq!(socket.receive(&mut buffer).unwrap().unwrap().bytes, expected);
    }
}

#[test]
fn what_icmp_says_of_the_path_is_no_matter_of_ipv4() {
    let socket = DatagramSocket::unicast(V4, 1).unwrap();
    assert_eq!(sockopt::ip_mtu_discover(&socket), Ok(Ipv4PathMtuDiscovery::OMIT));
}

#[test]
fn an_address_that_takes_nothing_says_nothing_of_trains() {
    let mut sender = DatagramSocket::unicast(V4, 1).unwrap();
    let packets = train(2, 100, 100);
    let slices: Vec<_> = packets.iter().map(|packet| IoSlice::new(packet)).collect();
    let nowhere = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
    let error = sender.send(&nowhere.into(), &slices).unwrap_err();
    assert_eq!(Errno::from_io_error(&error), Some(Errno::INVAL));
    assert!(sender.refusals.is_empty());
}

#[test]
fn what_does_not_fit_is_passed_over() {
    let mut socket = DatagramSocket::unicast(V4, 1).unwrap();
    let to = socket.address().unwrap();
    let _long = send(to, &[vec![1; 100]]);
    let _short = send(to, &[vec![2; 8]]);
    let mut buffer = [0; 8];
    assert_eq!(socket.receive(&mut buffer).unwrap().unwrap().bytes, 8);
    assert_eq!(buffer, [2; 8]);
}

#[test]
fn every_refusal_is_heard_while_others_answer() {
    let mut sender = DatagramSocket::unicast(V4, 1).unwrap();
    let mut living = DatagramSocket::unicast(V4, 1).unwrap();
    let gone: Vec<_> = (0..3).map(|_| DatagramSocket::unicast(V4, 1).unwrap()).collect();
    let gone: Vec<_> = gone.into_iter().map(|socket| socket.address().unwrap()).collect();
    let packet = [IoSlice::new(b"x")];
    for to in &gone {
        // The answer to the one before is no reason that this one is not sent.
        sender.send(&(*to).into(), &packet).unwrap();
        sender.send(&living.address().unwrap().into(), &packet).unwrap();
    }
    let mut buffer = [0; 8];
    for _ in &gone {
        assert!(living.receive(&mut buffer).unwrap().is_some());
    }
    assert_eq!(sender.receive(&mut buffer).unwrap(), None);
    let heard: BTreeSet<_> = std::iter::from_fn(|| sender.next_refusal()).collect();
    assert_eq!(heard, gone.into_iter().collect());
}

#[test]
fn drivers_report_refusals() {
    each_driver(|driver| {
        for local in [V4, V6] {
            let gone = DatagramSocket::unicast(local, 1).unwrap().address().unwrap();
            let key = driver.attach_datagrams(DatagramSocket::unicast(local, 1).unwrap());
            // It receives already.
            driver.turn(Wait::No).unwrap();
            assert!(driver.next_event().is_none());
            driver.turn(Wait::No).unwrap();
            driver.send_datagrams(key, &gone.into(), &[IoSlice::new(b"x")]).unwrap();
            let deadline = Instant::now() + PATIENCE;
            let mut refused = None;
            while refused.is_none() {
                assert!(Instant::now() < deadline);
                driver.turn(Wait::For(Duration::from_secs(1))).unwrap();
                while let Some(event) = driver.next_event() {
                    let Event::Datagrams { socket, event } = event else { panic!("{event:?}") };
                    let DatagramEvent::Refused { to } = event else { panic!("{event:?}") };
                    assert_eq!((socket, refused.replace(to)), (key, None));
                }
            }
            assert_eq!(refused, Some(gone));
            driver.close_datagrams(key);
        }
    });
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
        let mut sender = send(to, &[b"anybody there?".to_vec()]);
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
    let mut socket = DatagramSocket::unicast(V4, 1).unwrap();
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
