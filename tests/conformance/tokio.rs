//! The session for tokio means the same, too.

use madrigal::client::tokio::Session;
use madrigal::client::{Event, ReceiveError, Service};

use crate::{everywhere, pattern};

#[test]
fn tasks_send_and_receive_more_than_all_queues_hold() {
    everywhere(
        |setup| setup.section("memory", "session_queue_bytes = 16384"),
        |place| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let options = place.options().name("alice");
                let mut session = Session::connect(&place.address(), &options).await.unwrap();
                session.join("g").await.unwrap();
                assert!(matches!(session.receive().await.unwrap(), Event::View(_)));
                let (mut outbox, mut inbox) = session.split();
                const MESSAGES: usize = 300;
                let send = async {
                    for number in 0..MESSAGES {
                        let data = pattern(number, 20_000);
                        outbox.multicast(Service::Agreed, &["g"], 0, &data).await.unwrap();
                    }
                    outbox
                };
                let receive = async {
                    for number in 0..MESSAGES {
                        let Event::Message(message) = inbox.receive().await.unwrap() else {
                            panic!("{place}")
                        };
                        assert!(message.data() == pattern(number, 20_000), "{place}: {number}");
                    }
                    inbox
                };
                let (outbox, mut inbox) = tokio::join!(send, receive);
                // What was delivered before the goodbye has been received, so nothing else comes.
                outbox.disconnect().await.unwrap();
                assert!(matches!(inbox.receive().await, Err(ReceiveError::Closed)));
            });
        },
    );
}
