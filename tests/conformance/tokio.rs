//! The session for tokio means the same, too.

use madrigal::client::tokio::Session;
use madrigal::client::{Event, Multicast, ReceiveError, Reconnect, Service};

use crate::support::{PATIENCE, Setup, drivers};
use crate::{Carrier, Place, everywhere, is_gone, pattern};

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

#[test]
fn daemon_that_is_killed_is_noticed_at_once_and_met_again() {
    for &driver in drivers() {
        for carrier in [Carrier::Tcp, Carrier::Unix, Carrier::SharedMemory] {
            let setup = Setup::new(driver);
            let place = Place { daemon: setup.start(), carrier };
            let (address, options) = (place.address(), place.options().name("alice"));
            let directory = place.daemon.directory();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let mut session = Session::connect(&address, &options).await.unwrap();
                let end = session.receive();
                place.daemon.kill();
                let end = tokio::time::timeout(PATIENCE, end).await.unwrap();
                assert!(matches!(end, Err(ReceiveError::Closed)), "{carrier:?}: {end:?}");
                let refused = Session::connect(&address, &options).await;
                assert!(is_gone(&refused), "{carrier:?}: {refused:?}");
                if carrier == Carrier::Tcp {
                    return; // The next daemon has another port.
                }
                let options = options.retry_for(PATIENCE);
                let mut again = std::pin::pin!(Session::connect(&address, &options));
                // It tries, and finds nobody.
                let early = tokio::time::timeout(std::time::Duration::from_millis(30), &mut again);
                assert!(early.await.is_err(), "{carrier:?}");
                let daemon = setup.try_start_in(directory).unwrap();
                let mut session = again.await.unwrap();
                session
                    .multicast(Service::Agreed, &["#alice#localhost"], 0, b"back")
                    .await
                    .unwrap();
                assert!(matches!(session.receive().await.unwrap(), Event::Message(_)));
                drop(session);
                daemon.stop();
            });
        }
    }
}

#[test]
fn session_that_was_lost_comes_back_into_its_groups() {
    for &driver in drivers() {
        for carrier in [Carrier::Unix, Carrier::SharedMemory] {
            let setup = Setup::new(driver);
            let place = Place { daemon: setup.start(), carrier };
            let (address, options) = (place.address(), place.options().name("alice"));
            let directory = place.daemon.directory();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let mut session = Session::connect(&address, &options).await.unwrap();
                session.join("g").await.unwrap();
                assert!(matches!(session.receive().await.unwrap(), Event::View(_)));
                place.daemon.kill();
                assert!(matches!(session.receive().await, Err(ReceiveError::Closed)));
                let policy = Reconnect::new().give_up_after(PATIENCE);
                // Dropped while nobody is there, and called again.
                let soon = std::time::Duration::from_millis(30);
                assert!(tokio::time::timeout(soon, session.reconnect(&policy)).await.is_err());
                let daemon = setup.try_start_in(directory).unwrap();
                session.reconnect(&policy).await.unwrap();
                let Event::View(view) = session.receive().await.unwrap() else {
                    panic!("{carrier:?}: the view of the group comes first")
                };
                assert_eq!(view.group(), "g");
                session.multicast(Service::Agreed, &["g"], 0, b"back").await.unwrap();
                assert!(matches!(session.receive().await.unwrap(), Event::Message(_)));
                drop(session);
                daemon.stop();
            });
        }
    }
}

#[test]
fn data_are_written_in_place() {
    everywhere(
        |setup| setup.section("memory", "session_queue_bytes = 16384"),
        |place| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let options = place.options().name("alice");
                let session = Session::connect(&place.address(), &options).await.unwrap();
                let (mut outbox, mut inbox) = session.split();
                let multicast = Multicast::new(Service::Agreed);
                let send = async {
                    for number in 0..100 {
                        let data = pattern(number, number * 300);
                        let fill = |into: &mut [u8]| into.copy_from_slice(&data);
                        let to = ["#alice#localhost"];
                        outbox.multicast_fill(&multicast, &to, data.len(), fill).await.unwrap();
                    }
                    outbox
                };
                let receive = async {
                    for number in 0..100 {
                        let Event::Message(message) = inbox.receive().await.unwrap() else {
                            panic!("{place}")
                        };
                        assert!(message.data() == pattern(number, number * 300), "{place}");
                    }
                };
                let _open = tokio::join!(send, receive);
            });
        },
    );
}
