use super::*;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until `listener` has a connection.
fn accept(listener: &Listener) -> Stream {
    let mut wanted = [rustix::event::PollFd::new(listener, rustix::event::PollFlags::IN)];
    let patience = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut wanted, Some(&patience)).unwrap(), 1);
    listener.accept_now().unwrap()
}

#[test]
fn tcp_connections_get_the_options_of_the_listener() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = Listener::tcp(address.parse().unwrap()).unwrap();
        let client = Stream::connect_tcp(listener.address().unwrap(), PATIENCE).unwrap();
        let accepted = accept(&listener);
        let socket = socket2::SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert!(socket.nonblocking().unwrap());
        let own = socket2::SockRef::from(&client).local_addr().unwrap().as_socket().unwrap();
        assert_eq!(accepted.peer(), Peer::Tcp(own));
    }
}

#[test]
fn ipv6_listener_leaves_the_port_free_for_ipv4() {
    let six = Listener::tcp("[::]:0".parse().unwrap()).unwrap();
    let port = six.address().unwrap().port();
    Listener::tcp(([0, 0, 0, 0], port).into()).unwrap();
}

#[test]
fn taken_tcp_port_is_an_error_that_names_it() {
    let first = Listener::tcp("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = first.address().unwrap();
    let error = Listener::tcp(address).unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[test]
fn socket_file_has_its_mode_and_goes_with_the_listener() {
    let directory = directory();
    let path = directory.path().join("4803");
    let listener = Listener::unix(&path, 0o620).unwrap();
    assert_eq!(listener.path(), Some(path.as_path()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o620);
    let client = Stream::connect_unix(&path, PATIENCE).unwrap();
    let accepted = accept(&listener);
    assert_eq!(accepted.peer(), Peer::Unix);
    client.write_now(b"hello").unwrap();
    let mut bytes = [0; 8];
    assert_eq!(accepted.read_now(&mut bytes).unwrap(), 5);
    drop(listener);
    assert!(!path.exists());
}

#[test]
fn stale_socket_file_is_replaced() {
    let directory = directory();
    let path = directory.path().join("4803");
    // The standard library leaves the file behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let _listener = Listener::unix(&path, 0o600).unwrap();
    Stream::connect_unix(&path, PATIENCE).unwrap();
}

#[test]
fn stale_socket_file_of_another_user_is_no_socket_in_use() {
    if !rustix::process::geteuid().is_root() {
        return; // one user cannot be two
    }
    let directory = directory();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let path = directory.path().join("4803");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let path = &path;
    let result = std::thread::scope(|scope| {
        let as_another = scope.spawn(move || {
            // Of this thread alone.
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(65_534)).unwrap();
            Listener::unix(path, 0o600)
        });
        as_another.join().unwrap()
    });
    let error = result.unwrap_err();
    assert!(matches!(error, ListenError::UnixLeft { uid: 0, .. }), "{error:?}");
    assert!(!error.is_in_use());
}

#[test]
fn live_socket_is_left_alone() {
    let directory = directory();
    let path = directory.path().join("4803");
    let _living = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let error = Listener::unix(&path, 0o600).unwrap_err();
    assert!(matches!(error, ListenError::UnixInUse { .. }), "{error:?}");
    Stream::connect_unix(&path, PATIENCE).unwrap();
    // A datagram socket there is somebody, too.
    let other = directory.path().join("datagrams");
    let _datagrams = std::os::unix::net::UnixDatagram::bind(&other).unwrap();
    let error = Listener::unix(&other, 0o600).unwrap_err();
    assert!(matches!(error, ListenError::UnixInUse { .. }), "{error:?}");
}

#[test]
fn other_file_is_left_alone() {
    let directory = directory();
    let path = directory.path().join("4803");
    fs::write(&path, "precious").unwrap();
    let error = Listener::unix(&path, 0o600).unwrap_err();
    assert!(matches!(error, ListenError::NotASocket { .. }), "{error:?}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn path_that_cannot_be_used_is_an_error() {
    let directory = directory();
    let long = directory.path().join("x".repeat(120));
    assert!(matches!(Listener::unix(&long, 0o600), Err(ListenError::Unix { .. })));
    let nowhere = directory.path().join("nowhere").join("4803");
    assert!(matches!(Listener::unix(&nowhere, 0o600), Err(ListenError::Unix { .. })));
}

#[test]
fn file_of_another_listener_is_not_removed() {
    let directory = directory();
    let path = directory.path().join("4803");
    let ours = Listener::unix(&path, 0o600).unwrap();
    fs::remove_file(&path).unwrap();
    let theirs = Listener::unix(&path, 0o600).unwrap();
    drop(ours);
    assert!(path.exists());
    drop(theirs);
    assert!(!path.exists());
}

#[test]
fn closing_lets_the_other_side_read_everything() {
    let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).unwrap();
    let client = Stream::connect_tcp(listener.address().unwrap(), PATIENCE).unwrap();
    let accepted = accept(&listener);
    client.write_now(b"never read").unwrap();
    accepted.write_now(b"last words").unwrap();
    let mut peek = [rustix::event::PollFd::new(&accepted, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut peek, None).unwrap();
    accepted.close(&mut [0; 64]);
    let socket = socket2::SockRef::from(&client);
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = [0; 64];
    let read = rustix::net::recv(&client, &mut bytes, RecvFlags::empty()).unwrap().0;
    assert_eq!(&bytes[..read], b"last words");
    // The end, and no reset.
    let read = rustix::net::recv(&client, &mut bytes, RecvFlags::empty()).unwrap().0;
    assert_eq!(read, 0);
}
