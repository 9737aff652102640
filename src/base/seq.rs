//! Positions in a ring's order.

/// The place of a packet in its ring's total order, from 1; 0 is "before the first".
///
/// 64 bits: at ten million packets a second it lasts for 58,000 years, so nothing handles a wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(u64);

impl Seq {
    /// Before the first packet of a ring.
    pub const ZERO: Self = Self(0);

    /// Wraps a number that came in a packet.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The place right behind this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
