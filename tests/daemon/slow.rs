//! Clients that do not read.

use madrigal::wire::session::kind;

use crate::everywhere;
use crate::support::{Client, Daemon, Setup};

/// Members of `g` called like that, who have seen all of them join.
fn members<const N: usize>(daemon: &Daemon, names: [&str; N]) -> [Client; N] {
    let mut clients = names.map(|name| Client::open(daemon, name));
    for client in &mut clients {
        client.join("g");
        client.receive();
    }
    for (n, client) in clients.iter_mut().enumerate() {
        for _ in n + 1..N {
            assert!(client.receive().is_view());
        }
    }
    clients
}

#[test]
fn slow_reader_is_dropped_once_and_the_others_miss_nothing() {
    let bounded = |setup: Setup| {
        setup.section("sessions", "messages_max = 50").section("log", "level = \"debug\"")
    };
    everywhere(bounded, |daemon| {
        let [mut fast, mut sender, mut slow] = members(daemon, ["fast", "sender", "slow"]);
        let left = [fast.name.clone(), sender.name.clone()];
        let data = [1; 20_000];
        let gone = (0_u32..3_000).find_map(|number| {
            sender.multicast(kind::AGREED, &["g"], &[&number.to_le_bytes()[..], &data].concat());
            // Its own message comes last: behind it, nothing is on its way to the two.
            let frames = [&mut sender, &mut fast].map(|client| {
                let mut frames = vec![client.receive()];
                if frames[0].is_view() {
                    frames.push(client.receive());
                }
                frames
            });
            assert_eq!(frames[0], frames[1]);
            let [mut frames, _] = frames;
            assert_eq!(frames.pop()?.data()[..4], number.to_le_bytes());
            frames.pop()
        });
        let gone = gone.expect("60 MB wait for it, and it is still a member");
        gone.expect_view(kind::CAUSED_BY_DISCONNECT, "g", &[&left[0], &left[1]], &slow.name);
        sender.expect_nothing();
        fast.expect_nothing();
        // The slow one has a beginning of it, without gaps.
        for (expected, frame) in slow.frames_to_end().iter().enumerate() {
            assert_eq!(frame.data()[..4], (expected as u32).to_le_bytes());
        }
        daemon.wait_for_log("slow");
    });
}

#[test]
fn held_sender_loses_nothing_and_goes_on() {
    let hold =
        |setup: Setup| setup.section("sessions", "messages_max = 1000\nslow_receiver = \"hold\"");
    everywhere(hold, |daemon| {
        let mut slow = Client::open_plain(daemon, "slow");
        slow.join("g");
        slow.expect_nothing();
        let mut sender = Client::open_plain(daemon, "sender");
        let mut bystander = Client::open(daemon, "bystander");
        // More than its bounds and all socket buffers hold together.
        const MESSAGES: u32 = 6_000;
        let data = [2; 2_000];
        let message = |n: u32, sender: &Client| {
            sender.frame(kind::FIFO, &["g"]).with_data(&[&n.to_le_bytes()[..], &data].concat())
        };
        let all: Vec<u8> =
            (0..MESSAGES).flat_map(|n| message(n, &sender).bytes().to_vec()).collect();
        // Sends until the daemon takes no more; nobody reads meanwhile.
        let mut sent = 0;
        let mut refused = 0;
        while sent < all.len() && refused < 20 {
            match sender.send_some(&all[sent..]) {
                0 => {
                    refused += 1;
                    // A round trip of somebody else: the daemon had time to take more.
                    bystander.expect_nothing();
                }
                more => {
                    sent += more;
                    refused = 0;
                }
            }
        }
        assert!(sent < all.len(), "nobody held the sender back");
        println!("held after {sent} of {} bytes", all.len());
        std::thread::scope(|scope| {
            scope.spawn(|| sender.send(&all[sent..]));
            for n in 0..MESSAGES {
                assert_eq!(slow.receive().data()[..4], n.to_le_bytes());
            }
        });
        slow.expect_nothing();
        sender.expect_nothing();
    });
}

#[test]
fn sender_that_never_reads_is_dropped_as_any_slow_reader() {
    let bounded = |setup: Setup| setup.section("sessions", "messages_max = 100");
    everywhere(bounded, |daemon| {
        let mut watcher = Client::open(daemon, "watcher");
        watcher.join("h");
        watcher.receive();
        let mut sender = Client::open(daemon, "sender");
        sender.join("h");
        watcher.receive();
        let own = sender.name.clone();
        let frame = sender.frame(kind::AGREED, &[&own]).with_data(&[3; 10_000]);
        for n in 0.. {
            assert!(n < 10_000, "100 MB were taken from it, and none were read");
            if sender.try_send(frame.bytes()).is_err() {
                break;
            }
        }
        let (watcher_name, name) = (watcher.name.clone(), own);
        let gone = watcher.receive();
        gone.expect_view(kind::CAUSED_BY_DISCONNECT, "h", &[&watcher_name], &name);
        watcher.expect_nothing();
    });
}
