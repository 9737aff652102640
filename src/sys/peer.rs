//! Which user is at the other end of a Unix socket.
//!
//! By a raw call: the kernel gives the process as 0 where it lives in a PID namespace that this one
//! does not see, and rustix's type for it has no such number.

#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd};

/// The user that connected, or that listened where this side has connected. One without a number in
/// this user namespace is the kernel's overflow user, 65534 as a rule.
///
/// # Errors
///
/// The kernel's: no Unix socket, or not connected.
pub fn peer_user(socket: impl AsFd) -> io::Result<u32> {
    let mut credentials = MaybeUninit::<libc::ucred>::zeroed();
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the descriptor is open as long as `socket` is borrowed, and the kernel writes at most
    // `len` bytes to where there are as many.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            credentials.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: three integers, of which each bit pattern is one: the kernel's, or the zeros before.
    Ok(unsafe { credentials.assume_init() }.uid)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn each_side_learns_the_user_of_the_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let near = UnixStream::connect(&path).unwrap();
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(peer_user(&near).unwrap(), own);
        assert_eq!(peer_user(&listener.accept().unwrap().0).unwrap(), own);
    }

    #[test]
    fn nobody_is_known_behind_tcp() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        // The kernel says "nobody", which is no user that a socket file belongs to.
        assert!(peer_user(&near).map_or(true, |user| user == u32::MAX));
    }
}
