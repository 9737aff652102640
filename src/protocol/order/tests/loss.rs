//! What losses cost, and how senders slow down.

use super::*;

const DATA: u8 = PacketKind::Data as u8;

#[test]
fn who_cannot_take_data_draws_each_packet_ever_more_rarely() {
    let mut net = Net::resting(3);
    net.loses = Some(Box::new(|_, to, kind| to == 2 && kind == DATA));
    for _ in 0..300 {
        net.submit(0, Service::Agreed, &[1; 1_400]).unwrap();
    }
    net.run(Duration::from_millis(200));
    let count = |net: &Net| net.count(Counter::PacketsRepaired);
    let repaired = count(&net);
    // Some 2,600 rounds. By the token and by requests, up to 64 packets, each at once, after 300
    // us, 600 us, and so on up to an eighth of the failure timeout.
    assert!((64..=2 * 64 * 12).contains(&repaired), "{repaired}");
    assert_eq!(net.delivered[2].len(), 0);
    net.loses = None;
    assert!(net.wait(300) <= Duration::from_millis(50));
    // What arrives ends the waiting: the rest is brought as it is asked for.
    assert!(count(&net) <= repaired + 2 * 300);
}

#[test]
fn who_cannot_hear_the_one_that_answers_first_asks_another_and_costs_little() {
    let mut net = Net::resting(3);
    // The first daemon gets the token from the last one, with what that misses.
    net.loses = Some(Box::new(|from, to, kind| (from, to) == (0, 2) && kind == DATA));
    for sent in 1..=50 {
        net.submit(0, Service::Agreed, &[1; 1_400]).unwrap();
        assert!(net.wait(sent) <= Duration::from_millis(3));
    }
    let repaired = net.count(Counter::PacketsRepaired);
    assert!(repaired <= 50 * 6, "{repaired}");
}

#[test]
fn who_sends_slows_down_also_where_others_repeat_its_packets() {
    let mut net = Net::resting(3);
    // The successor of the one that misses packets has them all.
    let mut came = 0;
    net.loses = Some(Box::new(move |_, to, kind| {
        came += u32::from(to == 1 && kind == DATA);
        to == 1 && kind == DATA && came.is_multiple_of(3)
    }));
    // The longest turn of the first daemon: data packets between two of its tokens.
    let longest_turn = |net: &Net| {
        let own = net.sent.iter().filter(|(me, _)| *me == 0);
        let turns: Vec<_> = own.map(|(_, sent)| sent.channel == Channel::Token).collect();
        turns.split(|&is_token| is_token).map(<[bool]>::len).max().unwrap_or(0)
    };
    let mut longest = [0; 2];
    for longest in &mut longest {
        net.sent.clear();
        for _ in 0..100 {
            while net.submit(0, Service::Agreed, &[1; 1_400]).is_ok() {}
            net.run(Duration::from_micros(200));
        }
        *longest = longest_turn(&net);
    }
    assert!(longest[0] > 400 && longest[1] <= 200, "{longest:?}");
}

#[test]
fn nobody_is_sent_more_than_the_smallest_daemon_of_the_ring_can_keep() {
    // One of them has room for less than a turn of the others.
    let windows = [8_192, 40, 1_000];
    let options = |me: usize| Options { window_packets: windows[me], ..Options::default() };
    let mut net = Net::with(3, options);
    net.run(Duration::from_secs(1));
    net.loses = Some(Box::new(|_, to, kind| to == 1 && kind == DATA));
    for me in [0, 1, 2].into_iter().cycle().take(600) {
        net.submit(me, Service::Agreed, &[1; 1_400]).unwrap();
    }
    net.run(Duration::from_millis(100));
    // What nobody can let go of.
    let sent = net.count(Counter::PacketsSent);
    assert_eq!(sent, 40);
    net.loses = None;
    net.wait(600);
    // Without it the others use what they have.
    net.orders[1].handle_stop(net.now, &mut Heap);
    net.drain(1);
    net.run(Duration::from_millis(50));
    net.loses = Some(Box::new(|from, to, kind| (from, to) == (0, 2) && kind == DATA));
    let before = net.count(Counter::PacketsSent);
    for _ in 0..1_500 {
        net.submit(0, Service::Agreed, &[1; 1_400]).unwrap();
    }
    net.run(Duration::from_millis(100));
    assert_eq!(net.count(Counter::PacketsSent) - before, 1_000);
}

/// One installs the ring that the others are about to: it has delivered a message of its own,
/// behind one that was lost with its origin, as safe with all who move along. They go on without
/// it, and deliver it all the same.
#[test]
fn what_was_promised_in_an_attempt_is_kept_when_that_fails() {
    let mut net = Net::resting(4);
    net.loses = Some(Box::new(|from, _, kind| from == 3 && kind == DATA));
    net.submit(3, Service::Safe, b"lost").unwrap();
    net.run(Duration::from_millis(1));
    net.submit(2, Service::Safe, b"promised").unwrap();
    net.run(Duration::from_millis(1));
    assert!(net.delivered.iter().all(Vec::is_empty));

    const DONE: u8 = PacketKind::Done as u8;
    net.loses =
        Some(Box::new(|from, to, kind| from == 3 || to == 3 || (from == 2 && kind == DONE)));
    for me in 0..3 {
        net.orders[me].handle_unreachable(net.now, DaemonId::new(3), &mut Heap);
        net.drain(me);
    }
    let promised = [(Service::Safe, b"promised".to_vec())];
    while net.delivered[2] != promised {
        net.run(Duration::from_micros(1));
    }
    assert_eq!(net.configurations[2].last(), Some(&(Kind::Regular, vec![0, 1, 2])));
    assert_eq!(net.configurations[0].last(), Some(&(Kind::Regular, vec![0, 1, 2, 3])));

    net.loses = Some(Box::new(|from, to, _| from.max(to) > 1));
    net.run(Duration::from_secs(3));
    for me in 0..2 {
        assert_eq!(net.configurations[me].last(), Some(&(Kind::Regular, vec![0, 1])));
        assert_eq!(net.delivered[me], promised);
    }
}
