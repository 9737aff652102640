//! System calls on datagram sockets that no crate offers: messages with control data, and options
//! of UDP.
#![allow(unsafe_code)]

use std::io::{self, IoSlice};
use std::mem::{MaybeUninit, size_of};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use rustix::io::Errno;
use socket2::{SockAddr, SockAddrStorage, Socket};

/// Bytes of control data: enough for all that was asked for, aligned as the kernel wants it.
const CONTROL_WORDS: usize = 32;

type Control = [u64; CONTROL_WORDS];

/// What one receive has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes in all.
    pub bytes: usize,
    /// Bytes of each packet; the last may be shorter.
    pub segment: usize,
    /// Packets that the kernel dropped so far because the socket's buffer was full, a train that
    /// came as one counted once; wraps. 0 where it tells none.
    pub dropped: u32,
    /// There was more than the buffer took.
    pub(super) is_cut: bool,
}

pub(super) fn set<T>(socket: &Socket, level: i32, name: i32, value: T) -> io::Result<()> {
    let (value, len) = (&raw const value, size_of::<T>() as libc::socklen_t);
    // SAFETY: the kernel reads `len` bytes at `value`, which lives until the call returns.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Keeps the answers to what was sent in the error queue.
pub(super) fn hear_errors(socket: &Socket, is_v6: bool) -> io::Result<()> {
    if is_v6 {
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1_i32)
    } else {
        set(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1_i32)
    }
}

/// Tells with each receive how many packets were dropped.
pub(super) fn count_drops(socket: &Socket) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1_i32)
}

/// Receives several packets of one sender at once.
pub(super) fn coalesce(socket: &Socket) -> io::Result<()> {
    set(socket, libc::SOL_UDP, libc::UDP_GRO, 1_i32)
}

fn empty_header() -> libc::msghdr {
    // SAFETY: a message header is integers and pointers, for which all zeroes are valid; zero is
    // "none" for each of its parts.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

/// Calls `each` with level, type and data of each control message in `header`.
///
/// # Safety
///
/// `header` must have been filled by a successful `recvmsg`, and its control buffer be alive.
unsafe fn control_messages(header: &libc::msghdr, mut each: impl FnMut(i32, i32, &[u8])) {
    // SAFETY: the header is valid, as the caller promises.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: the kernel wrote a whole header there, aligned within the control buffer.
        let message = unsafe { *next };
        // SAFETY: as above; the data follows the header.
        let data = unsafe { libc::CMSG_DATA(next) };
        // SAFETY: the length of an empty message is that of its header.
        let head = unsafe { libc::CMSG_LEN(0) } as usize;
        let len = (message.cmsg_len as usize).saturating_sub(head);
        // SAFETY: the kernel wrote `len` bytes of data there.
        let data = unsafe { std::slice::from_raw_parts(data, len) };
        each(message.cmsg_level, message.cmsg_type, data);
        // SAFETY: `next` is a message of `header`.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
}

fn receive_message(
    socket: &Socket,
    into: &mut [u8],
    flags: i32,
    name: Option<&mut SockAddrStorage>,
    control: &mut Control,
) -> io::Result<(usize, libc::msghdr)> {
    let mut vector = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let mut header = empty_header();
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of::<Control>() as _;
    if let Some(name) = name {
        header.msg_namelen = name.size_of();
        header.msg_name = (&raw mut *name).cast();
    }
    // SAFETY: the header names the buffer, the address and the control data with their sizes; all
    // of them are borrowed until the call returns.
    let result = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    // The vector ends with this function.
    header.msg_iov = std::ptr::null_mut();
    match usize::try_from(result) {
        Ok(bytes) => Ok((bytes, header)),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

pub(super) fn receive(socket: &Socket, into: &mut [u8]) -> io::Result<Received> {
    let mut control = [0; CONTROL_WORDS];
    let (bytes, header) = receive_message(socket, into, 0, None, &mut control)?;
    let is_cut = header.msg_flags & libc::MSG_TRUNC != 0;
    let mut received = Received { bytes, segment: bytes, dropped: 0, is_cut };
    let read = |level: i32, kind: i32, data: &[u8]| {
        let Some(value) = data.first_chunk().copied().map(u32::from_ne_bytes) else { return };
        match (level, kind) {
            (libc::SOL_UDP, libc::UDP_GRO) => received.segment = value as usize,
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => received.dropped = value,
            _ => {}
        }
    };
    // SAFETY: `recvmsg` has filled the header, and `control` is alive.
    unsafe { control_messages(&header, read) };
    Ok(received)
}

/// Takes an answer to something that was sent: what it says, and where that was sent to.
pub(super) fn next_error(socket: &Socket) -> io::Result<(Option<Errno>, Option<SocketAddr>)> {
    let mut control = [0; CONTROL_WORDS];
    let mut name = SockAddrStorage::zeroed();
    // What was sent comes back, of which nothing is of interest.
    let (_, header) =
        receive_message(socket, &mut [0; 8], libc::MSG_ERRQUEUE, Some(&mut name), &mut control)?;
    let mut errno = None;
    let read = |level: i32, kind: i32, data: &[u8]| {
        let is_error = matches!(
            (level, kind),
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
        );
        // An extended error begins with its number.
        let number = data.first_chunk().copied().map(i32::from_ne_bytes);
        if let Some(number) = number.filter(|number| is_error && (1..4096).contains(number)) {
            errno = Some(Errno::from_raw_os_error(number));
        }
    };
    // SAFETY: `recvmsg` has filled the header, and `control` is alive.
    unsafe { control_messages(&header, read) };
    // SAFETY: the kernel wrote an address of this length, or none, into zeroed storage.
    let address = unsafe { SockAddr::new(name, header.msg_namelen) };
    Ok((errno, address.as_socket()))
}

pub(super) fn send(
    socket: &Socket,
    to: &SockAddr,
    packets: &[IoSlice<'_>],
    segment: Option<usize>,
) -> io::Result<()> {
    let mut control = [0_u64; 4];
    let mut header = empty_header();
    header.msg_name = to.as_ptr().cast_mut().cast();
    header.msg_namelen = to.len();
    // An `IoSlice` has the layout of an `iovec`; the kernel only reads it.
    header.msg_iov = packets.as_ptr().cast_mut().cast();
    header.msg_iovlen = packets.len() as _;
    if let Some(segment) = segment {
        let segment = u16::try_from(segment).map_err(|_| io::Error::from(Errno::INVAL))?;
        put_segment(&mut header, &mut control, segment);
    }
    // SAFETY: address, packets and control data live until the call returns, and are read only.
    let result =
        unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) };
    if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Adds the size of the packets of a train.
fn put_segment(header: &mut libc::msghdr, control: &mut [u64; 4], segment: u16) {
    header.msg_control = control.as_mut_ptr().cast();
    // SAFETY: it only computes.
    let space = unsafe { libc::CMSG_SPACE(2) };
    // SAFETY: it only computes.
    let len = unsafe { libc::CMSG_LEN(2) };
    assert!(space as usize <= size_of::<[u64; 4]>());
    header.msg_controllen = space as _;
    // SAFETY: the control buffer was just set and has room for one message.
    let first = unsafe { libc::CMSG_FIRSTHDR(header) };
    let message = libc::cmsghdr {
        cmsg_len: len as _,
        cmsg_level: libc::SOL_UDP,
        cmsg_type: libc::UDP_SEGMENT,
    };
    // SAFETY: `first` points to the beginning of the buffer, aligned for a header.
    unsafe { first.write(message) };
    // SAFETY: the data follows the header.
    let data = unsafe { libc::CMSG_DATA(first) };
    // SAFETY: two bytes are within the space that was computed for two.
    unsafe { data.cast::<u16>().write_unaligned(segment) };
}
