//! How long turns wait, and what they leave for the next one.

use super::*;
use crate::sys::datagram::DatagramSocket;
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr};

/// Waits that are enough for one of them not to be disturbed by other work of the machine.
const WAITS: usize = 300;

on_both_drivers! {
    fn a_wait_may_be_shorter_than_a_millisecond(choice) {
        let mut rig = open(choice);
        let waits = (0..WAITS).map(|_| {
            let begin = Instant::now();
            rig.driver.turn(Wait::For(Duration::from_micros(50))).unwrap();
            assert!(rig.driver.next_event().is_none());
            begin.elapsed()
        });
        // A wait that is rounded up to milliseconds has none that is shorter.
        assert!(waits.min().unwrap() < Duration::from_millis(1));
    }

    fn who_has_not_taken_all_packets_is_behind(choice) {
        let mut driver = open(choice).driver;
        let local = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let socket = DatagramSocket::unicast(local, 1).unwrap();
        socket.reserve(1 << 20).unwrap();
        let to = socket.address().unwrap();
        driver.attach_datagrams(socket);
        driver.turn(Wait::No).unwrap();
        while driver.next_event().is_some() {}
        assert!(!driver.is_behind());
        // From different senders, so that none come as one.
        const PACKETS: usize = 300;
        for _ in 0..PACKETS {
            let mut sender = DatagramSocket::unicast(local, 1).unwrap();
            sender.send(&to.into(), &[IoSlice::new(b"a packet")]).unwrap();
        }
        let (mut taken, mut turns_behind) = (0, 0);
        while taken < PACKETS {
            driver.turn(Wait::No).unwrap();
            let before = taken;
            while let Some(event) = driver.next_event() {
                taken += usize::from(matches!(event, Event::Datagrams { .. }));
            }
            assert!(taken > before, "{taken}: nothing came");
            // All were there before the first turn.
            assert!(driver.is_behind() || taken == PACKETS, "{taken}: not behind");
            turns_behind += usize::from(driver.is_behind());
        }
        assert!(turns_behind > 0);
        // What looked like more was the end.
        driver.turn(Wait::No).unwrap();
        assert!(driver.next_event().is_none());
        assert!(!driver.is_behind());
    }
}
