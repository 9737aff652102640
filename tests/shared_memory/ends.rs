//! What is left of a session that is over.

use std::time::{Duration, Instant};

use crate::support::{Frame, Setup, drivers};
use crate::{Bystander, Raw};
use madrigal::client::Transport;
use madrigal::wire::session::{ByteOrder, kind};

/// How long such a client goes on.
const GOING_ON: Duration = Duration::from_millis(30);

#[test]
fn what_is_published_behind_the_end_of_a_session_is_not_heard() {
    for &driver in drivers() {
        for cores in [1, 2] {
            let daemon = Setup::new(driver).cores(cores).start();
            let mut bystander = Bystander::new(&daemon, Transport::SharedMemory);
            bystander.check();
            for number in 0..20 {
                let raw = Raw::member_with(&daemon, &format!("ghost{number}"), 1 << 18);
                haunt(raw, &format!("#ghost{number}#localhost"));
                bystander.check();
            }
            daemon.wait_for_count("sessions_ended", 20);
        }
    }
}

/// Closes the socket and goes on publishing.
fn haunt(raw: Raw, sender: &str) {
    let Raw { socket, mut writer, sizes, .. } = raw;
    let frame = Frame::new(ByteOrder::NATIVE, kind::AGREED, sender, &["none"]);
    let frames = frame.with_data(&[0; 24]).bytes().repeat(300);
    let start = Instant::now();
    let mut socket = Some(socket);
    let mut published = 0;
    while start.elapsed() < 2 * GOING_ON {
        if start.elapsed() > GOING_ON && socket.take().is_some() {
            published = 0;
        }
        for _ in 0..100 {
            if writer.write(&frames) == Ok(true) {
                let _ = writer.publish();
                published += frames.len();
            }
        }
    }
    // What was there when it ended, some before that was seen, and a queue that nobody reads.
    let most = 4 * sizes.submission_bytes;
    assert!(published <= most, "{published} bytes were read of a session that was over");
}
