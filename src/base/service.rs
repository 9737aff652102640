//! Delivery services.

/// What a sender asks for a message, weakest first.
///
/// On one daemon, and wherever the order of a ring decides, `Fifo` and `Causal` are as strong as
/// `Agreed`: Spread's flush layer needs that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// May be lost, in principle; delivered as `Reliable` here.
    Unreliable,
    /// Delivered exactly once to each member that stays; may overtake other messages.
    Reliable,
    /// Not before earlier messages of the same sender.
    Fifo,
    /// Not before messages that its sender had seen or sent.
    Causal,
    /// One total order for all members of all groups.
    Agreed,
    /// As `Agreed`, and only once every daemon of the configuration is known to have it.
    Safe,
}

impl Service {
    /// All services, weakest first.
    pub const ALL: [Self; 6] =
        [Self::Unreliable, Self::Reliable, Self::Fifo, Self::Causal, Self::Agreed, Self::Safe];

    /// The service's name in lower case, as the tools print and read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreliable => "unreliable",
            Self::Reliable => "reliable",
            Self::Fifo => "fifo",
            Self::Causal => "causal",
            Self::Agreed => "agreed",
            Self::Safe => "safe",
        }
    }
}

impl std::fmt::Display for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Service {
    type Err = UnknownService;

    fn from_str(text: &str) -> Result<Self, UnknownService> {
        Self::ALL.into_iter().find(|service| service.as_str() == text).ok_or(UnknownService)
    }
}

/// Text that names no service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a service: unreliable, reliable, fifo, causal, agreed or safe is expected")]
pub struct UnknownService;
