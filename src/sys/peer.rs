//! Who is at the other end of a Unix socket.
//!
//! By a raw call: the kernel gives the process as 0 where it lives in a PID namespace that this one
//! does not see, and rustix's type for it has no such number.

#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::num::NonZero;
use std::os::fd::{AsFd, AsRawFd};

use super::socket::Stream;

/// Who is at the other end of a Unix socket, as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The process that connected, or that listened where this side has connected; `None`: it has
    /// no number in this process's namespace, as one of another container.
    pub pid: Option<NonZero<u32>>,
    /// Its user. One without a number in this user namespace is the kernel's overflow user, 65534
    /// as a rule.
    pub uid: u32,
}

/// What the kernel tells of the other end, in its order: `struct ucred`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Told {
    /// 0: none that this process could name.
    pid: u32,
    uid: u32,
    gid: u32,
}

const _: () = assert!(size_of::<Told>() == size_of::<libc::ucred>());

impl From<Told> for Credentials {
    fn from(told: Told) -> Self {
        Self { pid: NonZero::new(told.pid), uid: told.uid }
    }
}

/// Asks the kernel who is at the other end of a Unix socket.
///
/// # Errors
///
/// The kernel's: no socket, or it does not say.
pub fn credentials(socket: impl AsFd) -> io::Result<Credentials> {
    let mut told = Told::default();
    let mut len = size_of::<Told>() as libc::socklen_t;
    let (fd, into) = (socket.as_fd().as_raw_fd(), (&raw mut told).cast());
    // SAFETY: the kernel writes at most `len` bytes, all of which `told` has, and whatever they
    // are, three numbers can be; the descriptor is open as long as `socket` is borrowed.
    let result =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, into, &raw mut len) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // With less of it a user could pass for root.
    if len as usize != size_of::<Told>() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(told.into())
}

impl Stream {
    /// Who connected; `None` where the kernel does not say.
    pub fn credentials(&self) -> Option<Credentials> {
        credentials(self).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn each_side_learns_who_the_other_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let near = UnixStream::connect(&path).unwrap();
        let uid = rustix::process::geteuid().as_raw();
        let own = Credentials { pid: NonZero::new(std::process::id()), uid };
        assert_eq!(credentials(&near).unwrap(), own);
        assert_eq!(credentials(&listener.accept().unwrap().0).unwrap(), own);
        assert_eq!(Stream::pair().unwrap().0.credentials(), Some(own));
    }

    #[test]
    fn who_has_no_number_here_still_has_a_user() {
        let credentials = Credentials::from(Told { pid: 0, uid: 7, gid: 8 });
        assert_eq!(credentials, Credentials { pid: None, uid: 7 });
    }

    #[test]
    fn nobody_is_known_behind_what_is_no_unix_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        // The kernel says "nobody", which is no user that a socket file belongs to.
        assert!(credentials(&near).map_or(true, |it| it.uid == u32::MAX));
        assert!(credentials(tempfile::tempfile().unwrap()).is_err());
    }
}
