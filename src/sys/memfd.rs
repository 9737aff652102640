//! Memory to be shared with another process, and how it gets there: a sealed memfd as a message of
//! a Unix socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_get_seals, fstat,
    ftruncate, memfd_create,
};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::socket::Stream;
use crate::mem::Region;

/// Whoever has the memory can rely on its length, and on that for ever.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// Memory of a fixed length, zeroed.
#[derive(Debug)]
pub struct Memfd {
    file: OwnedFd,
    bytes: usize,
}

impl Memfd {
    /// Makes `bytes` of memory.
    ///
    /// All of it is there from the start: no later access fails for want of memory.
    ///
    /// # Errors
    ///
    /// The kernel's: out of memory or descriptors.
    pub fn new(bytes: usize) -> io::Result<Self> {
        let memory = Self::make("madrigal session", bytes)?;
        fcntl_add_seals(&memory, SEALS)?;
        Ok(memory)
    }

    /// Maps all of it, to read and to write.
    ///
    /// # Errors
    ///
    /// The kernel's: no memory, no right.
    pub fn map(&self) -> io::Result<Region> {
        Region::map(self, self.bytes)
    }

    /// Makes `bytes` of memory that only this process can write, by the mapping that it gets.
    ///
    /// # Errors
    ///
    /// As [`Memfd::new`]; the kernel has no such seal (before Linux 5.1).
    pub fn new_to_lend(bytes: usize) -> io::Result<(Self, Region)> {
        let memory = Self::make("madrigal shelf", bytes)?;
        let region = memory.map()?;
        fcntl_add_seals(&memory, SEALS | SealFlags::FUTURE_WRITE)?;
        Ok((memory, region))
    }

    fn make(name: &str, bytes: usize) -> io::Result<Self> {
        let memfd = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&memfd, bytes as u64)?;
        fallocate(&memfd, FallocateFlags::empty(), 0, bytes as u64)?;
        Ok(Self { file: memfd, bytes })
    }

    /// Takes memory that another process made.
    ///
    /// # Errors
    ///
    /// It is not so long, or not sealed, so that an access could fail later.
    pub fn adopt(memfd: OwnedFd, bytes: usize) -> io::Result<Self> {
        match Self::adopt_up_to(memfd, bytes)? {
            (memory, len) if len == bytes => Ok(memory),
            _ => Err(io::Error::other("the shared memory has another length")),
        }
    }

    /// Takes memory that another process made, of whatever length up to `bytes_max`.
    ///
    /// # Errors
    ///
    /// As [`Memfd::adopt`].
    pub fn adopt_up_to(memfd: OwnedFd, bytes_max: usize) -> io::Result<(Self, usize)> {
        let len = usize::try_from(fstat(&memfd)?.st_size).unwrap_or(usize::MAX);
        if len > bytes_max || !fcntl_get_seals(&memfd)?.contains(SealFlags::SHRINK) {
            return Err(io::Error::other("the shared memory is too long, or not sealed"));
        }
        Ok((Self { file: memfd, bytes: len }, len))
    }
}

impl AsFd for Memfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Stream {
    /// Sends `bytes` and the right to use `memory` as one, without waiting.
    ///
    /// # Errors
    ///
    /// The kernel's; `WouldBlock` where there is no room for all of it.
    pub fn send_memory_now(&self, bytes: &[u8], memory: &Memfd) -> io::Result<()> {
        let descriptors = [memory.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let pushed = control.push(SendAncillaryMessage::ScmRights(&descriptors));
        debug_assert!(pushed, "the space is for one descriptor");
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let sent = sendmsg(self, &[IoSlice::new(bytes)], &mut control, flags)?;
        if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }
}

/// Receives bytes from a Unix socket, and a descriptor if one comes with them; any further ones are
/// closed. Does not wait.
///
/// # Errors
///
/// The kernel's; `WouldBlock` where nothing is there. [`is_no_descriptor`] where a descriptor came
/// and is lost, with the bytes that it came with, because this process has none left.
pub fn receive_with_descriptor(
    socket: impl AsFd,
    into: &mut [u8],
) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = loop {
        match recvmsg(&socket, &mut [IoSliceMut::new(into)], &mut control, flags) {
            Err(Errno::INTR) => {}
            result => break result?,
        }
    };
    let mut descriptor = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            descriptor = descriptor.or(descriptors.last());
        }
    }
    // One that is missing must not pass for none.
    if descriptor.is_none() && received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Errno::MFILE.into());
    }
    Ok((received.bytes, descriptor))
}

/// Whether the error is that this process has no descriptor left.
pub fn is_no_descriptor(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::MFILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_cannot_be_shortened_or_unsealed() {
        let memory = Memfd::new(8192).unwrap();
        assert_eq!(ftruncate(&memory, 4096), Err(Errno::PERM));
        assert_eq!(ftruncate(&memory, 16384), Err(Errno::PERM));
        assert_eq!(fcntl_add_seals(&memory, SealFlags::WRITE), Err(Errno::PERM));
    }

    #[test]
    fn lent_memory_cannot_be_written_by_those_who_get_it() {
        let (memory, _region) = Memfd::new_to_lend(8192).unwrap();
        assert_eq!(rustix::io::pwrite(&memory, b"mine", 0), Err(Errno::PERM));
        assert!(memory.map().is_err());
        assert!(Region::map_to_read(&memory, 8192).is_ok());
        let (memory, len) = Memfd::adopt_up_to(memory.file, 8192).unwrap();
        assert_eq!(len, 8192);
        assert!(Memfd::adopt_up_to(memory.file, 8191).is_err());
    }

    #[test]
    fn memory_goes_to_the_other_end_of_a_socket() {
        let (near, far) = Stream::pair().unwrap();
        let memory = Memfd::new(4096).unwrap();
        near.send_memory_now(b"here", &memory).unwrap();
        drop(memory);
        let mut bytes = [0; 16];
        let (len, descriptor) = receive_with_descriptor(&far, &mut bytes).unwrap();
        assert_eq!(&bytes[..len], b"here");
        let memory = Memfd::adopt(descriptor.unwrap(), 4096).unwrap();
        rustix::io::pwrite(&memory, b"shared", 4090).unwrap();
        let again = receive_with_descriptor(&far, &mut bytes).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn memory_that_could_vanish_is_not_taken() {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let unsealed = memfd_create("test", flags).unwrap();
        ftruncate(&unsealed, 4096).unwrap();
        assert!(Memfd::adopt(unsealed, 4096).is_err());
        let short = Memfd::new(4096).unwrap();
        assert!(Memfd::adopt(short.file, 8192).is_err());
    }
}
