//! UDP sockets between daemons: trains of packets of one size go out by one system call and come in
//! by one (segmentation and coalescing offload), drops are counted, and refusals are heard.
//!
//! What has to be said to the kernel by hand is in `datagram/raw.rs`.

mod raw;
mod table;

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::Clock;
use crate::base::{Instant, inet6};

pub use raw::Received;
pub(super) use raw::{CONTROL_BYTES, NAME_BYTES, parse_address};
pub(super) use table::Datagrams;

/// Packets that the kernel takes as one train.
pub const TRAIN_PACKETS_MAX: usize = 64;

/// Bytes of a train: with its headers it must fit into what an IP packet can hold.
pub const TRAIN_BYTES_MAX: usize = 65_000;

/// Answers to what was sent that one receive passes over.
const ANSWERS_MAX: usize = 16;

/// Time after which an address that took no trains is tried again: what refused them may have been
/// a moment's, or a lie about the way there.
const TRAINS_AGAIN: Duration = Duration::from_secs(5);

/// Addresses that take no trains that are kept in mind: all daemons, and as many groups.
const REFUSALS_MAX: usize = 256;

/// Bytes that one receive may bring.
pub const RECEIVE_BYTES_MAX: usize = 65_536;

/// Why a socket for daemons could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DatagramError {
    /// The address cannot be bound: in use, or not one of this host.
    #[error("cannot receive datagrams at {address}: {source}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The multicast group cannot be joined.
    #[error("cannot join multicast group {group} on the interface of {local}: {source}")]
    Join {
        /// The group.
        group: IpAddr,
        /// The address that names the interface.
        local: IpAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// An option that daemons need was refused.
    #[error("the kernel refuses {option} on a datagram socket: {source}")]
    Option {
        /// What was asked for.
        option: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl DatagramError {
    /// Whether another socket is in the way, which may go away.
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
    }
}

fn option(option: &'static str) -> impl FnOnce(io::Error) -> DatagramError {
    move |source| DatagramError::Option { option, source }
}

/// An address to send to, as the kernel takes it.
#[derive(Clone, Debug)]
pub struct Destination(SockAddr);

impl From<SocketAddr> for Destination {
    fn from(address: SocketAddr) -> Self {
        Self(address.into())
    }
}

impl Destination {
    /// The address, as everybody else has it.
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.as_socket()
    }
}

/// What a send has taken.
#[derive(Debug)]
pub struct Sent {
    /// System calls: one, where the way to the receiver takes trains of such packets.
    pub calls: usize,
    /// Why the kernel has just refused a train, where it has. Its packets were sent singly.
    pub refused: Option<io::Error>,
}

impl Sent {
    const fn by(calls: usize) -> Self {
        Self { calls, refused: None }
    }
}

/// An address to which the kernel takes no trains of packets longer than that.
#[derive(Debug)]
struct Refusal {
    to: SocketAddr,
    packet_bytes_max: usize,
    /// Until it is tried again.
    until: Instant,
}

/// A socket for datagrams of daemons.
#[derive(Debug)]
pub struct DatagramSocket {
    socket: Socket,
    /// Where the kernel takes no trains; empty where all is well.
    refusals: Vec<Refusal>,
    /// There may be answers in the error queue.
    has_answers: bool,
}

impl DatagramSocket {
    /// Receives what is sent to `address`, and sends from it, also to multicast groups: on the
    /// interface that has the address, over at most `hops` routers (0: not beyond this host), and
    /// to other sockets of this host too. Port 0 lets the kernel choose.
    ///
    /// # Errors
    ///
    /// [`DatagramError`].
    pub fn unicast(address: SocketAddr, hops: u32) -> Result<Self, DatagramError> {
        let bind = |source| DatagramError::Bind { address, source };
        let socket = open(address).map_err(bind)?;
        socket.bind(&address.into()).map_err(bind)?;
        match address.ip() {
            IpAddr::V4(local) => {
                socket.set_multicast_if_v4(&local).map_err(option("IP_MULTICAST_IF"))?;
                socket.set_multicast_ttl_v4(hops).map_err(option("IP_MULTICAST_TTL"))?;
                socket.set_multicast_loop_v4(true).map_err(option("IP_MULTICAST_LOOP"))?;
            }
            IpAddr::V6(local) => {
                let index = interface_of(local).map_err(option("IPV6_MULTICAST_IF"))?;
                socket.set_multicast_if_v6(index).map_err(option("IPV6_MULTICAST_IF"))?;
                socket.set_multicast_hops_v6(hops).map_err(option("IPV6_MULTICAST_HOPS"))?;
                socket.set_multicast_loop_v6(true).map_err(option("IPV6_MULTICAST_LOOP"))?;
            }
        }
        Self::finish(socket, address)
    }

    /// Receives what is sent to multicast group `group` on the interface that has address `local`,
    /// and nothing else. Several sockets of a host may do so.
    ///
    /// # Errors
    ///
    /// [`DatagramError`].
    pub fn multicast(group: SocketAddr, local: IpAddr) -> Result<Self, DatagramError> {
        let bind = |source| DatagramError::Bind { address: group, source };
        let socket = open(group).map_err(bind)?;
        socket.set_reuse_address(true).map_err(option("SO_REUSEADDR"))?;
        let join = |source| DatagramError::Join { group: group.ip(), local, source };
        socket.bind(&of_interface(group, local).map_err(join)?.into()).map_err(bind)?;
        match (group.ip(), local) {
            (IpAddr::V4(group), IpAddr::V4(local)) => {
                // Or what others of this host have joined on the same port arrives here too.
                socket.set_multicast_all_v4(false).map_err(option("IP_MULTICAST_ALL"))?;
                socket.join_multicast_v4(&group, &local).map_err(join)?;
            }
            (IpAddr::V6(group), IpAddr::V6(local)) => {
                socket.set_multicast_all_v6(false).map_err(option("IPV6_MULTICAST_ALL"))?;
                let index = interface_of(local).map_err(join)?;
                socket.join_multicast_v6(&group, index).map_err(join)?;
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                return Err(join(Errno::AFNOSUPPORT.into()));
            }
        }
        Self::finish(socket, group)
    }

    fn finish(socket: Socket, address: SocketAddr) -> Result<Self, DatagramError> {
        raw::hear_errors(&socket, address.is_ipv6()).map_err(option("IP_RECVERR"))?;
        if address.is_ipv4() {
            // Anybody can send an ICMP message that the way is narrow, and the kernel would believe
            // it for ten minutes. Only the interface counts: longer packets it takes apart, and
            // routers may. Nobody on the way takes packets of IPv6 apart, so there it has to ask.
            let set = sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::OMIT);
            set.map_err(io::Error::from).map_err(option("IP_MTU_DISCOVER"))?;
        }
        raw::count_drops(&socket).map_err(option("SO_RXQ_OVFL"))?;
        // Without it every packet is received by itself, which is slower and no worse.
        let _ = raw::coalesce(&socket);
        Ok(Self { socket, refusals: Vec::new(), has_answers: false })
    }

    /// Makes room for `bytes` of packets that were not yet received, and for as many that are on
    /// their way out, in the kernel's own account of memory. Returns the room for received ones,
    /// which is less where neither this process nor `net.core.rmem_max` allows so much.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn reserve(&self, bytes: usize) -> io::Result<usize> {
        if sockopt::set_socket_send_buffer_size_force(&self.socket, bytes).is_err() {
            self.socket.set_send_buffer_size(bytes)?;
        }
        if sockopt::set_socket_recv_buffer_size_force(&self.socket, bytes).is_err() {
            self.socket.set_recv_buffer_size(bytes)?;
        }
        // The kernel says twice what it was told, as it counts its own overhead in.
        Ok(self.socket.recv_buffer_size()? / 2)
    }

    /// Where it receives.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        let address = self.socket.local_addr()?.as_socket();
        address.ok_or_else(|| Errno::AFNOSUPPORT.into())
    }

    /// Takes what has arrived from one sender: a packet, or several of one size; the last may be
    /// shorter. `None` where nothing has. `into` should have [`RECEIVE_BYTES_MAX`] bytes: packets
    /// that do not fit are lost.
    ///
    /// # Errors
    ///
    /// The kernel's; an answer to what was sent is none: see [`DatagramSocket::next_refusal`].
    pub fn receive(&mut self, into: &mut [u8]) -> io::Result<Option<Received>> {
        for _ in 0..ANSWERS_MAX {
            match raw::receive(&self.socket, into) {
                Ok(received) if received.is_cut => {}
                Ok(received) => return Ok(Some(received)),
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::AGAIN) => return Ok(None),
                    Some(Errno::INTR) => {}
                    Some(errno) if is_answer(errno) => self.has_answers = true,
                    _ => return Err(error),
                },
            }
        }
        // The rest comes with the next call: somebody answers faster than we read.
        Ok(None)
    }

    /// Sends packets to `to`: all of the size of the first, the last may be shorter. There must be
    /// no more than [`TRAIN_PACKETS_MAX`], of [`TRAIN_BYTES_MAX`] in all.
    ///
    /// # Errors
    ///
    /// The kernel's: `WouldBlock` where the socket's buffer is full. What was not sent is lost.
    pub fn send(&mut self, to: &Destination, packets: &[IoSlice<'_>]) -> io::Result<Sent> {
        let size = packets.first().map_or(0, |packet| packet.len());
        if packets.len() < 2 || !self.may_try_train(to, size) {
            return self.send_singly(&to.0, packets).map(Sent::by);
        }
        let Err(error) = self.try_send(&to.0, packets, Some(size)) else { return Ok(Sent::by(1)) };
        let left = Errno::from_io_error(&error).and_then(|errno| trains_left(errno, size));
        let Some(left) = left else { return Err(error) };
        let calls = self.send_singly(&to.0, packets)?;
        // Remembered only now: an address that takes nothing says the same.
        self.remember(to, left);
        Ok(Sent { calls: calls + 1, refused: Some(error) })
    }

    fn may_try_train(&mut self, to: &Destination, size: usize) -> bool {
        if self.refusals.is_empty() {
            return true;
        }
        let address = to.address();
        let known = self.refusals.iter().position(|it| Some(it.to) == address);
        let Some(index) = known.filter(|&index| size > self.refusals[index].packet_bytes_max)
        else {
            return true;
        };
        let is_over = self.refusals[index].until <= Clock.read();
        if is_over {
            self.refusals.swap_remove(index);
        }
        is_over
    }

    fn remember(&mut self, to: &Destination, packet_bytes_max: usize) {
        let Some(to) = to.address() else { return };
        self.refusals.retain(|it| it.to != to);
        if self.refusals.len() < REFUSALS_MAX {
            let until = Clock.read() + TRAINS_AGAIN;
            self.refusals.push(Refusal { to, packet_bytes_max, until });
        }
    }

    fn send_singly(&mut self, to: &SockAddr, packets: &[IoSlice<'_>]) -> io::Result<usize> {
        for packet in packets {
            self.try_send(to, std::slice::from_ref(packet), None)?;
        }
        Ok(packets.len())
    }

    fn try_send(
        &mut self,
        to: &SockAddr,
        packets: &[IoSlice<'_>],
        segment: Option<usize>,
    ) -> io::Result<()> {
        let sent = raw::send(&self.socket, to, packets, segment);
        match sent.as_ref().err().and_then(Errno::from_io_error) {
            // Once more, as the kernel tells of the answer to an earlier packet instead.
            Some(errno) if is_answer(errno) => self.has_answers = true,
            Some(Errno::INTR) => {}
            _ => return sent,
        }
        raw::send(&self.socket, to, packets, segment)
    }

    /// The kernel says that there may be answers to what was sent.
    pub(super) fn note_answers(&mut self) {
        self.has_answers = true;
    }

    pub(super) fn has_answers(&self) -> bool {
        self.has_answers
    }

    /// The next address at which nothing listens for what was sent there. Costs nothing where the
    /// kernel has not told of any answer.
    pub fn next_refusal(&mut self) -> Option<SocketAddr> {
        while self.has_answers {
            match raw::next_error(&self.socket) {
                Ok((Some(Errno::CONNREFUSED), Some(to))) => return Some(to),
                Ok(_) => {}
                Err(_) => self.has_answers = false,
            }
        }
        None
    }
}

impl AsFd for DatagramSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Whether a call may have failed for what somebody has answered to an earlier packet: the errors
/// that icmp(7) makes of ICMP messages.
pub(super) fn is_answer(errno: Errno) -> bool {
    [
        Errno::CONNREFUSED,
        Errno::HOSTUNREACH,
        Errno::NETUNREACH,
        Errno::HOSTDOWN,
        Errno::NONET,
        Errno::PROTO,
        Errno::NOPROTOOPT,
        Errno::OPNOTSUPP,
        Errno::MSGSIZE,
        Errno::ACCESS,
    ]
    .contains(&errno)
}

/// Longest packet of which trains may still be tried after one of `size` was refused with `errno`;
/// `None` where that was not for being a train.
fn trains_left(errno: Errno, size: usize) -> Option<usize> {
    match errno {
        // No checksums in hardware, or a tunnel: nothing will be taken.
        Errno::IO | Errno::OPNOTSUPP => Some(0),
        // Longer than the path carries in one piece, among others: shorter ones may be taken.
        Errno::INVAL | Errno::MSGSIZE => Some(size.saturating_sub(1)),
        _ => None,
    }
}

/// The address on the interface that has address `local`: a link-local group of IPv6 means nothing
/// without an interface.
fn of_interface(group: SocketAddr, local: IpAddr) -> io::Result<SocketAddr> {
    match (group, local) {
        (SocketAddr::V6(mut group), IpAddr::V6(local)) => {
            group.set_scope_id(interface_of(local)?);
            Ok(group.into())
        }
        (SocketAddr::V4(_) | SocketAddr::V6(_), _) => Ok(group),
    }
}

/// The number of the interface that has address `local`.
fn interface_of(local: Ipv6Addr) -> io::Result<u32> {
    let list = std::fs::read_to_string(inet6::LIST)?;
    let found = inet6::interface_of(&list, local);
    found.map(|found| found.number).ok_or_else(|| Errno::ADDRNOTAVAIL.into())
}

#[cfg(test)]
mod tests;
