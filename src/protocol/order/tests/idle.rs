//! A ring with nothing to do: what that costs, and how it still notices who is not there any more.

use super::*;

const FAILURE: Duration = Duration::from_millis(300);
const REST: Duration = Duration::from_millis(600);

/// With whom the token rests.
fn holder(net: &Net) -> usize {
    let rests = |&me: &usize| net.orders[me].tally().get(Counter::TokensParked) > 0;
    (0..net.orders.len()).find(rests).expect("it rests somewhere")
}

/// A cluster whose token came to rest a moment ago.
fn rested(daemons: usize) -> Net {
    let mut net = Net::resting(daemons);
    let parked = net.count(Counter::TokensParked);
    while net.count(Counter::TokensParked) == parked {
        net.run(REST / 50);
    }
    net
}

fn members(net: &Net, me: usize) -> &[u32] {
    &net.configurations[me].last().unwrap().1
}

#[test]
fn idle_costs_little() {
    let mut net = Net::resting(5);
    net.run(REST * 20);
    let tokens = net.sent.iter().filter(|(_, sent)| sent.channel == Channel::Token).count();
    // A tour of the five each 600 ms, and word of where the token rests after it. Nobody is
    // looked for, as all are there.
    assert!((20 * 5 - 5..=20 * 5 + 5).contains(&tokens), "{tokens} tokens");
    assert!(net.sent.len() - tokens <= 21, "{} packets", net.sent.len());
    assert_eq!(net.count(Counter::TokensRepeated), 0);
    assert_eq!(net.count(Counter::PacketsStale), 0);
}

#[test]
fn one_daemon_at_a_time_looks_for_one_that_is_not_there() {
    let mut net = Net::resting(5);
    net.loses = Some(Box::new(|from, to, _| from == 4 || to == 4));
    net.still = Some((4, Vec::new()));
    net.run(REST * 10);
    assert_eq!(members(&net, 0), [0, 1, 2, 3]);
    net.sent.clear();
    net.run(REST * 20);
    let shown = |me: usize| {
        let is_shown = |sent: &Transmit<HeapBuffer>| {
            sent.to == To::Multicast && sent.bytes.as_ref()[3] == PacketKind::Presence as u8
        };
        net.sent.iter().filter(|(from, sent)| *from == me && is_shown(sent)).count()
    };
    let shown = [0, 1, 2, 3].map(shown);
    // Half of the rest apart, in turn.
    assert!((38..=42).contains(&shown.iter().sum::<usize>()), "{shown:?}");
    assert!(shown.iter().all(|shown| (9..=11).contains(shown)), "{shown:?}");
}

#[test]
fn who_dies_while_the_ring_rests_is_missed_after_the_rest_and_the_timeout() {
    for dead in 0..3 {
        let mut net = rested(3);
        let others: Vec<u32> = (0..3).filter(|&me| me != dead as u32).collect();
        net.still = Some((dead, Vec::new()));
        net.run(REST + FAILURE + Duration::from_millis(1));
        for me in (0..3).filter(|&me| me != dead) {
            assert_eq!(members(&net, me), others);
        }
    }
}

#[test]
fn who_needs_the_token_misses_its_holder_after_the_timeout() {
    for daemons in [2, 4] {
        let mut net = rested(daemons);
        let holder = holder(&net);
        let user = (holder + 1) % daemons;
        net.still = Some((holder, Vec::new()));
        net.submit(user, Service::Agreed, b"m").unwrap();
        let alone = if daemons == 2 { FAILURE / 8 } else { Duration::ZERO };
        net.run(FAILURE + alone + Duration::from_millis(2));
        for me in (0..daemons).filter(|&me| me != holder) {
            assert_eq!(members(&net, me).len(), daemons - 1);
            assert_eq!(net.delivered[me].len(), 1);
        }
    }
}

#[test]
fn word_of_where_the_token_rests_may_get_lost() {
    let mut net = Net::resting(4);
    let before = net.configurations.clone();
    net.loses = Some(Box::new(|_, to, kind| to == 1 && kind == PacketKind::Notice as u8));
    net.run(Duration::from_secs(20));
    assert_eq!(net.configurations, before);
    // Who misses it asks, so the others do not repeat what they sent.
    assert!(net.count(Counter::TokensGranted) > 0);
}

#[test]
fn who_is_doubted_is_sent_something() {
    let mut net = rested(3);
    let before = net.sent.len();
    for daemon in [1, 2, 7] {
        net.orders[0].handle_doubt(net.now, DaemonId::new(daemon), &mut Heap);
        net.drain(0);
    }
    let to: Vec<_> = net.sent[before..].iter().map(|(_, sent)| sent.to).collect();
    assert_eq!(to, [1, 2].map(|daemon| To::Daemon(DaemonId::new(daemon))));
}

#[test]
fn who_stands_still_when_another_one_dies_is_waited_for() {
    let mut net = rested(4);
    let before = net.configurations[0].len();
    // Since the last tour they had no reason to say anything.
    net.run(REST / 2);
    net.loses = Some(Box::new(|from, to, _| from == 3 || to == 3));
    net.still = Some((1, Vec::new()));
    net.orders[0].handle_unreachable(net.now, DaemonId::new(3), &mut Heap);
    net.drain(0);
    net.run(FAILURE * 9 / 10);
    for bytes in net.still.take().unwrap().1 {
        net.orders[1].handle_packet(net.now, &bytes, &mut Heap);
        net.drain(1);
    }
    // It waits for the dead one in its turn.
    net.run(FAILURE + Duration::from_millis(5));
    let regular = |(kind, members): &(Kind, Vec<u32>)| (*kind == Kind::Regular, members.clone());
    for me in 0..3 {
        let new: Vec<_> = net.configurations[me][before..].iter().map(regular).collect();
        assert_eq!(new, [(false, vec![0, 1, 2]), (true, vec![0, 1, 2])]);
    }
}
