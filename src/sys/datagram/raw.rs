//! System calls on datagram sockets that no crate offers: messages with control data, and options
//! of UDP.
#![allow(unsafe_code)]

use std::io::{self, IoSlice};
use std::mem::size_of;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;

use rustix::io::Errno;
use socket2::{SockAddr, Socket};

use crate::sys::operation::empty_header;

/// Room for the address of a sender: that of IPv6, and no odd number of words.
pub(in crate::sys) const NAME_BYTES: usize = 32;

/// Bytes of control data: enough for all that was asked for.
pub(in crate::sys) const CONTROL_BYTES: usize = 256;

type Control = [u8; CONTROL_BYTES];

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
    /// Who sent them; of a family that is not IP, nobody.
    pub from: Option<SocketAddr>,
    /// There was more than the buffer took.
    pub(in crate::sys) is_cut: bool,
}

impl Received {
    /// What the control data of a receive says of its bytes.
    pub(in crate::sys) fn new(
        bytes: usize,
        is_cut: bool,
        from: Option<SocketAddr>,
        control: &[u8],
    ) -> Self {
        let mut received = Self { bytes, segment: bytes, dropped: 0, from, is_cut };
        for (level, kind, data) in control_messages(control) {
            let Some(value) = data.first_chunk().copied().map(u32::from_ne_bytes) else { continue };
            match (level, kind) {
                (libc::SOL_UDP, libc::UDP_GRO) => received.segment = value as usize,
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => received.dropped = value,
                _ => {}
            }
        }
        received
    }
}

/// Level, type and data of each message in the control data of a receive: see cmsg(3).
fn control_messages(control: &[u8]) -> impl Iterator<Item = (i32, i32, &[u8])> {
    const HEAD: usize = size_of::<libc::cmsghdr>();
    let mut rest = control;
    std::iter::from_fn(move || {
        // A length of the platform's size, then two numbers.
        let (head, _) = rest.split_at_checked(HEAD)?;
        let (len, numbers) = head.split_first_chunk()?;
        let len = usize::from_ne_bytes(*len);
        let level = i32::from_ne_bytes(*numbers.first_chunk()?);
        let kind = i32::from_ne_bytes(*numbers[4..].first_chunk()?);
        let data = rest.get(HEAD..len)?;
        let next = len.next_multiple_of(size_of::<usize>());
        rest = rest.get(next..).unwrap_or_default();
        Some((level, kind, data))
    })
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

fn receive_message(
    socket: &Socket,
    into: &mut [u8],
    flags: i32,
    name: &mut [u8; NAME_BYTES],
    control: &mut Control,
) -> io::Result<(usize, libc::msghdr)> {
    let mut vector = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let mut header = empty_header();
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_BYTES as _;
    header.msg_namelen = NAME_BYTES as _;
    header.msg_name = name.as_mut_ptr().cast();
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

/// An address as the kernel writes it: see ip(7) and ipv6(7).
pub(in crate::sys) fn parse_address(name: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(*name.first_chunk()?));
    let port = u16::from_be_bytes(*name.get(2..)?.first_chunk()?);
    match family {
        libc::AF_INET => {
            let octets: [u8; 4] = *name.get(4..)?.first_chunk()?;
            Some(SocketAddr::new(octets.into(), port))
        }
        libc::AF_INET6 => {
            let octets: [u8; 16] = *name.get(8..)?.first_chunk()?;
            let scope = u32::from_ne_bytes(*name.get(24..)?.first_chunk()?);
            Some(SocketAddrV6::new(Ipv6Addr::from(octets), port, 0, scope).into())
        }
        _ => None,
    }
}

pub(super) fn receive(socket: &Socket, into: &mut [u8]) -> io::Result<Received> {
    let mut control = [0; CONTROL_BYTES];
    let mut name = [0; NAME_BYTES];
    let (bytes, header) = receive_message(socket, into, 0, &mut name, &mut control)?;
    let is_cut = header.msg_flags & libc::MSG_TRUNC != 0;
    let from = parse_address(&name[..NAME_BYTES.min(header.msg_namelen as usize)]);
    Ok(Received::new(bytes, is_cut, from, &control[..header.msg_controllen]))
}

/// Takes an answer to something that was sent: what it says, and where that was sent to.
pub(super) fn next_error(socket: &Socket) -> io::Result<(Option<Errno>, Option<SocketAddr>)> {
    let mut control = [0; CONTROL_BYTES];
    let mut name = [0; NAME_BYTES];
    // What was sent comes back, of which nothing is of interest.
    let (_, header) =
        receive_message(socket, &mut [0; 8], libc::MSG_ERRQUEUE, &mut name, &mut control)?;
    let mut messages = control_messages(&control[..header.msg_controllen]);
    let errno = messages.find_map(|(level, kind, data)| {
        let is_error = matches!(
            (level, kind),
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
        );
        // An extended error begins with its number.
        let number = data.first_chunk().copied().map(i32::from_ne_bytes)?;
        (is_error && (1..4096).contains(&number)).then(|| Errno::from_raw_os_error(number))
    });
    Ok((errno, parse_address(&name[..NAME_BYTES.min(header.msg_namelen as usize)])))
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
