//! Identities: of a daemon, a ring, a session on its daemon, a group's view.

use std::fmt;

/// Numeric identity of a daemon: what clients see as the first integer of a [`GroupId`].
///
/// By default a hash of the daemon's name (`docs/spread-compatibility.md`, "Daemon ids").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DaemonId(u32);

impl DaemonId {
    /// Wraps a configured id.
    pub const fn new(id: u32) -> Self {
        Self(id)
    }

    /// The id a daemon has when none is configured: Spread's one-at-a-time hash over the name and
    /// its terminating NUL, so that group ids look the same to clients of either daemon.
    pub fn from_name(name: &str) -> Self {
        let bytes = name.bytes().chain(std::iter::once(0));
        let len = name.len() as u32 + 1;
        let mut hash = len;
        for byte in bytes {
            // Spread hashes signed characters.
            hash = hash.wrapping_add(byte as i8 as u32);
            hash = hash.wrapping_add(hash << 10);
            hash ^= hash >> 6;
        }
        hash = hash.wrapping_add(hash << 3);
        hash ^= hash >> 11;
        hash = hash.wrapping_add(hash << 15);
        // Both ends of the range mean "none" to Spread.
        if hash == 0 || hash == u32::MAX { Self(len << 16) } else { Self(hash) }
    }

    /// The number itself.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for DaemonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DaemonId({})", self.0)
    }
}

/// Identity of a ring: its number, then the daemon that formed it.
///
/// Ring numbers strictly grow at each daemon, so an id never comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RingId {
    /// Grows with each ring that any of its daemons has been in.
    pub number: u64,
    /// The daemon that formed the ring.
    pub leader: DaemonId,
}

/// Identity of a group's view: three integers that clients compare for equality.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId {
    /// [`DaemonId`] of the leader of the daemon configuration, read as signed.
    pub daemon: i32,
    /// Tells apart the configurations of that leader. Spread has Unix seconds here, and clients
    /// look at it for equality alone.
    pub time: i32,
    /// Counts the group's changes within that configuration, from 1.
    pub index: i32,
}

/// One client's connection to its daemon, as the daemon's own parts name it.
///
/// Never reused while anything may still refer to it: the generation changes with each use of a
/// slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

impl SessionId {
    /// Builds the id of a session that `core` keeps in `slot`.
    pub const fn new(core: u8, slot: u32, generation: u32) -> Self {
        assert!(generation < 1 << 24);
        Self((core as u64) << 56 | (generation as u64) << 32 | slot as u64)
    }

    /// The session core that owns the connection.
    pub const fn core(self) -> usize {
        (self.0 >> 56) as usize
    }

    /// Its place in that core's table.
    pub const fn slot(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }

    /// Which use of the slot this is; wraps after 2^24 uses.
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32 & 0x00ff_ffff
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({}.{}.{})", self.core(), self.slot(), self.generation())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemon_id_is_spreads_hash_of_the_name() {
        for (name, id) in [
            ("localhost", 482_711_334),
            ("d1", 1_552_775_919),
            ("d2", 348_480_928),
            ("127.0.0.1", 3_409_748_320),
            ("M", 3_323_278_024),
            ("dz", 2_775_938_070),
        ] {
            assert_eq!(DaemonId::from_name(name), DaemonId::new(id), "{name}");
        }
    }

    #[test]
    fn session_id_keeps_its_parts() {
        let id = SessionId::new(3, 0xffff_ffff, 0x00ab_cdef);
        assert_eq!((id.core(), id.slot(), id.generation()), (3, 0xffff_ffff, 0x00ab_cdef));
    }
}
