//! Messages between sessions of one host: they must not leave it, and nothing that happens to the
//! other hosts may hold them up.

use std::collections::BTreeMap;
use std::time::Instant;

use madrigal::client::{Event, Options, Service, Session, Transport};
use rustix::process::Signal;

use crate::crew::Crew;
use crate::lab::Lab;
use crate::program::Manner;
use crate::{HOSTS, on_labs};

/// Messages of each service, unless `MADRIGAL_LOCAL_MESSAGES` says otherwise.
const MESSAGES: usize = 20_000;

/// Packets that may leave though there is nothing to say: the token, which goes on for a moment
/// after the sessions have joined, and what the kernel asks about addresses.
const PACKETS_AT_ONCE: u64 = 50;

/// And as many in each second: a token at rest goes round each 600 ms.
const PACKETS_PER_SECOND: u64 = 10;

/// Messages on their way at a time.
const WINDOW: usize = 500;

const SERVICES: [Service; 6] = [
    Service::Unreliable,
    Service::Reliable,
    Service::Fifo,
    Service::Causal,
    Service::Agreed,
    Service::Safe,
];

/// Two members of group `here` on `d1`, by this transport.
fn pair(lab: &Lab, transport: Transport) -> (Session, Session) {
    let address = format!("unix:{}", lab.socket("d1").display());
    let options = Options::new().membership(false).transport(transport);
    let connect = || Session::connect(&address, &options).expect("the daemon runs");
    let (mut sender, mut receiver) = (connect(), connect());
    for session in [&mut sender, &mut receiver] {
        session.join("here").expect("the daemon takes it");
        // Who gets its own message is a member.
        session.multicast(Service::Agreed, &["here"], 1, b"").expect("the daemon takes it");
        while !matches!(session.receive().expect("it comes"), Event::Message(_)) {}
    }
    (sender, receiver)
}

/// Sends so many messages from one to the other, and waits until all have come, in order.
fn talk((sender, receiver): &mut (Session, Session), service: Service, messages: usize) {
    let mut came = 0;
    let mut sent = 0;
    while came < messages {
        while sent < messages && sent - came < WINDOW {
            let number = (sent as u64).to_le_bytes();
            sender.outbox().queue(service, &["here"], 2, &number).expect("the daemon takes it");
            sent += 1;
        }
        sender.outbox().flush().expect("the daemon takes it");
        let Event::Message(message) = receiver.receive().expect("it comes") else { continue };
        if message.message_type() == 2 {
            assert_eq!(message.data(), (came as u64).to_le_bytes(), "{service}");
            came += 1;
        }
        // Its own copy.
        sender.try_receive().expect("it comes");
    }
}

/// Packets that have left `d1` by its interface.
fn packets_sent(lab: &Lab) -> u64 {
    let mut command = lab.command("d1", "cat".as_ref());
    let path = "/sys/class/net/eth0/statistics/tx_packets";
    let output = command.arg(path).output().expect("cat runs");
    let text = String::from_utf8(output.stdout).expect("digits");
    text.trim().parse().unwrap_or_else(|_| panic!("{path}: {text:?}"))
}

#[test]
fn messages_of_one_host_never_leave_it() {
    on_labs(3, |lab| {
        lab.await_ring();
        let wished = std::env::var("MADRIGAL_LOCAL_MESSAGES").ok();
        let messages = wished.map_or(MESSAGES, |text| text.parse().expect("a number"));
        for transport in [Transport::SharedMemory, Transport::Socket] {
            let mut pair = pair(lab, transport);
            let start = Instant::now();
            let mut counts = BTreeMap::new();
            for service in SERVICES {
                let before = (packets_sent(lab), lab.counter("d1", "packets_sent"));
                talk(&mut pair, service, messages);
                let after = (packets_sent(lab), lab.counter("d1", "packets_sent"));
                assert_eq!(before.1, after.1, "none had a place in the ring's order");
                counts.insert(format!("{service}"), after.0 - before.0);
            }
            let (sent, took) = (counts.values().sum::<u64>(), start.elapsed());
            println!("{transport:?}, packets in {took:?} of {messages} messages each: {counts:?}");
            // The token shows now and then that it is there, however many messages there are.
            let most = PACKETS_AT_ONCE + took.as_millis() as u64 * PACKETS_PER_SECOND / 1000;
            assert!(sent <= most, "{sent} packets left in {took:?}, tokens are {most} at most");
        }
    });
}

#[test]
fn messages_of_one_host_need_no_ring() {
    on_labs(3, |lab| {
        lab.await_ring();
        let mut pair = pair(lab, Transport::SharedMemory);
        talk(&mut pair, Service::Safe, WINDOW);
        // The token may be with them; the ring gathers, and finds nobody.
        let others = ["d2", "d3"];
        others.iter().for_each(|host| lab.signal(host, Signal::STOP));
        let rings = lab.configurations("d1");
        let mut talks = 0;
        while lab.configurations("d1") == rings {
            for service in SERVICES {
                talk(&mut pair, service, 50);
            }
            talks += 1;
        }
        println!("{talks} times 300 messages until the others were given up");
        assert!(talks > 0);
        others.iter().for_each(|host| lab.signal(host, Signal::CONT));
        talk(&mut pair, Service::Safe, WINDOW);
        lab.await_ring();
        talk(&mut pair, Service::Safe, WINDOW);
        // Cut off as well.
        lab.run(&["partition", "d1", "/", "d2", "/", "d3"]);
        talk(&mut pair, Service::Safe, WINDOW);
        lab.run(&["heal"]);
        talk(&mut pair, Service::Safe, WINDOW);
        lab.await_ring();
    });
}

#[test]
fn groups_turn_from_local_to_common_and_back_in_the_midst_of_traffic() {
    on_labs(3, |lab| {
        // Six programs and three groups, joined and left so often that each belongs to one host
        // now, to two of them a moment later, and to nobody.
        let crew = Crew::new(lab, 2, Manner { churn: 250, burst: 6, large: 1 });
        crew.wait_for_all(lab);
        crew.work();
        crew.wait_for_messages(&HOSTS, 600);
        lab.run(&["partition", "d1", "/", "d2,d3"]);
        crew.wait_for_parts(&[&["d1"], &["d2", "d3"]]);
        crew.wait_for_messages(&HOSTS, 100);
        lab.run(&["heal"]);
        crew.wait_for_all(lab);
        crew.wait_for_messages(&HOSTS, 50);
        lab.run(&["kill", "d3"]);
        crew.wait_for_parts(&[&["d1", "d2"]]);
        lab.run(&["start", "d3"]);
        crew.wait_for_all(lab);
        crew.wait_for_messages(&HOSTS, 200);
        for host in HOSTS {
            let [local, ordered] =
                ["messages_local", "messages_ordered"].map(|name| lab.counter(host, name));
            println!("{host}: {local} messages took the local path, {ordered} had a place");
            assert!(local > 0 && ordered > 0, "{host}: {local} local, {ordered} ordered");
        }
        crew.judge(lab);
    });
}
