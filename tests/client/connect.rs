//! Handshakes that end in something else than a session.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use madrigal::client::{AnswerError, ConnectError, NameError, Options, Reject, Session, Transport};
use madrigal::wire::session::handshake::{AUTH_CHOICE_BYTES, parse_auth_choice};

use crate::daemon;

/// Connects to a daemon that answers the hello with `list`, and the choice, if any, with `answer`.
fn connect(list: &[u8], answer: &[u8]) -> Result<Session, ConnectError> {
    let (list, answer) = (list.to_vec(), answer.to_vec());
    let daemon = daemon::unix(move |mut stream| {
        daemon::read_hello(&mut stream);
        stream.write_all(&list).unwrap();
        let mut choice = [0; AUTH_CHOICE_BYTES];
        if stream.read_exact(&mut choice).is_ok() {
            stream.write_all(&answer).unwrap();
        }
    });
    let result = Session::connect(&daemon.address, &Options::new());
    daemon.join();
    result
}

#[test]
fn session_knows_its_address_and_its_daemon() {
    let session = connect(b"\x05NULL ", &daemon::accept_bytes()).unwrap();
    assert_eq!(session.private_group().to_string(), "#a#d");
    assert_eq!(session.daemon_version(), (5, 0, 1));
}

#[test]
fn every_reject_code_is_told_wherever_it_comes() {
    for reject in Reject::ALL {
        let byte = [reject.to_byte()];
        let early = connect(&byte, b"").unwrap_err();
        assert!(matches!(early, ConnectError::Rejected(found) if found == reject), "{early}");
        let late = connect(b"\x05NULL ", &byte).unwrap_err();
        assert!(matches!(late, ConnectError::Rejected(found) if found == reject), "{late}");
    }
    let unknown = connect(&[0x81], b"").unwrap_err();
    let expected = AnswerError::UnknownReject(-127);
    assert!(matches!(unknown, ConnectError::Answer(found) if found == expected), "{unknown}");
}

#[test]
fn daemon_without_any_method_is_a_reject() {
    let error = connect(b"\x00\xf7", b"").unwrap_err();
    assert!(matches!(error, ConnectError::Rejected(Reject::Auth)), "{error}");
}

#[test]
fn daemon_with_unknown_methods_only_is_told_from_a_reject() {
    let error = connect(b"\x0bPWORD LDAP ", b"").unwrap_err();
    assert!(matches!(&error, ConnectError::Auth { offered } if offered == "PWORD LDAP"), "{error}");
}

#[test]
fn method_is_null_where_allowed_and_else_ip() {
    for (list, method) in [(&b"\x08NULL IP "[..], b"NULL".to_vec()), (b"\x03IP ", b"IP".to_vec())] {
        let list = list.to_vec();
        let daemon = daemon::unix(move |mut stream| {
            daemon::read_hello(&mut stream);
            stream.write_all(&list).unwrap();
            let mut choice = [0; AUTH_CHOICE_BYTES];
            stream.read_exact(&mut choice).unwrap();
            stream.write_all(&daemon::accept_bytes()).unwrap();
            parse_auth_choice(&choice).map(<[u8]>::to_vec).collect::<Vec<_>>()
        });
        Session::connect(&daemon.address, &Options::new()).unwrap();
        assert_eq!(daemon.join(), [method]);
    }
}

#[test]
fn close_in_the_handshake_is_told() {
    for (list, answer) in [(&b""[..], &b""[..]), (b"\x05NU", b""), (b"\x05NULL ", b"\x01\x05")] {
        // An empty list part keeps the client waiting until the daemon closes.
        let (list, answer) = (list.to_vec(), answer.to_vec());
        let daemon = daemon::unix(move |mut stream| {
            daemon::read_hello(&mut stream);
            stream.write_all(&list).unwrap();
            if !answer.is_empty() {
                let mut choice = [0; AUTH_CHOICE_BYTES];
                stream.read_exact(&mut choice).unwrap();
                stream.write_all(&answer).unwrap();
            }
        });
        let error = Session::connect(&daemon.address, &Options::new()).unwrap_err();
        assert!(matches!(error, ConnectError::Closed), "{error}");
        daemon.join();
    }
}

#[test]
fn close_instead_of_shared_memory_is_told_and_worth_another_try() {
    // As the daemon's sockets are for a moment after it was killed: they take connections, and
    // close them.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("daemon");
    let _socket = UnixListener::bind(&path).unwrap();
    let door = UnixListener::bind(directory.path().join("daemon.shm")).unwrap();
    let address = format!("unix:{}", path.display());
    let script = std::thread::spawn(move || {
        for _ in 0..2 {
            drop(door.accept().unwrap());
        }
        // It comes back, and is no daemon.
        let (mut stream, _) = door.accept().unwrap();
        assert_ne!(stream.read(&mut [0; 100]).unwrap(), 0);
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n").unwrap();
    });
    let options = Options::new().transport(Transport::SharedMemory);
    let error = Session::connect(&address, &options).unwrap_err();
    assert!(matches!(error, ConnectError::Closed), "{error}");
    let error = Session::connect(&address, &options.retry_for(Duration::MAX)).unwrap_err();
    assert!(matches!(error, ConnectError::NotAttached { .. }), "{error}");
    script.join().unwrap();
}

#[test]
fn what_is_no_daemon_is_told() {
    let accept = |bytes: &[u8]| connect(b"\x05NULL ", bytes).unwrap_err();
    for bytes in [&b"HTTP/1.1 400 Bad Request"[..], b"\x01\x05\x00\x01\x20#", b"\x02"] {
        let error = accept(bytes);
        assert!(matches!(error, ConnectError::Answer(AnswerError::Malformed)), "{error}");
    }
    let error = accept(b"\x01\x05\x00\x01\x03abc");
    assert!(matches!(error, ConnectError::Answer(AnswerError::PrivateGroup(_))), "{error}");
    let error = accept(b"\x01\x02\x00\x00\x04#a#d");
    assert!(matches!(error, ConnectError::Rejected(Reject::Version)), "{error}");
}

#[test]
fn silent_daemon_is_given_up() {
    let daemon = daemon::unix(daemon::read_to_end);
    let options = Options::new().connect_timeout(Duration::from_millis(20));
    let error = Session::connect(&daemon.address, &options).unwrap_err();
    assert!(matches!(error, ConnectError::TimedOut), "{error}");
    daemon.join();
}

#[test]
fn full_backlog_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("daemon");
    let _listeners = [daemon::deaf(&path), daemon::deaf(&directory.path().join("daemon.shm"))];
    let address = format!("unix:{}", path.display());
    for transport in [Transport::Socket, Transport::SharedMemory] {
        let options = Options::new().connect_timeout(Duration::from_millis(20));
        // The first waits for an answer, the others for room in the backlog.
        for _ in 0..3 {
            let error = Session::connect(&address, &options.clone().transport(transport));
            let error = error.unwrap_err();
            assert!(matches!(error, ConnectError::TimedOut), "{error}");
        }
    }
}

#[test]
fn nobody_there_is_told_with_the_address() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nobody");
    let address = format!("unix:{}", path.display());
    let error = Session::connect(&address, &Options::new()).unwrap_err();
    let expected = path.display().to_string();
    let found = matches!(&error, ConnectError::Unreachable { address, .. } if *address == expected);
    assert!(found, "{error}");

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let address = format!("{}@127.0.0.1", closed.port());
    let error = Session::connect(&address, &Options::new()).unwrap_err();
    let expected = closed.to_string();
    let found = matches!(&error, ConnectError::Unreachable { address, .. } if *address == expected);
    assert!(found, "{error}");
}

#[test]
fn all_addresses_of_a_host_are_tried() {
    // Where localhost is ::1 first, nobody listens there.
    let daemon = daemon::tcp("localhost", |mut stream| daemon::accept(&mut stream));
    Session::connect(&daemon.address, &Options::new()).unwrap();
    daemon.join();
}

#[test]
fn illegal_names_are_refused_before_anything_is_sent() {
    for (name, error) in [
        ("a b", NameError::IllegalByte { byte: b' ' }),
        ("x#y", NameError::IllegalByte { byte: b'#' }),
        ("abcdefghijk", NameError::TooLong { found: 11, max: 10 }),
    ] {
        let result = Session::connect("unix:/nonexistent", &Options::new().name(name));
        assert!(matches!(result, Err(ConnectError::Name(found)) if found == error), "{name}");
    }
}
