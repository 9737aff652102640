//! How a connection becomes a session: hello, name, authentication, answer. The rules are those of
//! the Spread 5 client protocol, section 2; unlike Spread this side waits for split arrivals, and
//! takes what a client sends early as the beginning of the next step.

use crate::base::SessionName;
use crate::wire::session::handshake::{AUTH_CHOICE_BYTES, AUTH_IP, parse_auth_choice};
use crate::wire::session::{AuthMethods, Hello, Reject, Version};

/// How clients prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Methods that clients may choose.
    pub allowed: AuthMethods,
    /// Every client with a library from 3.16 on is checked by address, whatever it chose.
    pub ip_required: bool,
}

/// What a client said about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) version: Version,
    /// `None`: the daemon is to choose.
    pub(crate) name: Option<SessionName>,
    pub(crate) wants_membership: bool,
}

/// Reads the hello. `None` as long as it is incomplete; with it comes its length.
pub(crate) fn greeting(bytes: &[u8]) -> Result<Option<(Greeting, usize)>, Reject> {
    let Some((hello, consumed)) = Hello::parse(bytes)? else { return Ok(None) };
    let name = match hello.name {
        [] => None,
        name => Some(SessionName::new(name).map_err(|_illegal| Reject::IllegalName)?),
    };
    let wants_membership = hello.wants_membership();
    Ok(Some((Greeting { version: hello.version, name, wants_membership }, consumed)))
}

/// How the handshake goes on once the name is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Send the list of methods, and wait for the client's choice.
    Offer,
    /// Send the empty list, and the reject behind it.
    OfferNothing,
    /// The client is in.
    Accept,
    /// The client is turned away.
    Reject,
}

impl Auth {
    /// What a client of this version is to be told after its hello.
    pub(crate) fn after_hello(&self, version: Version, address_admitted: bool) -> Next {
        let AuthMethods { null, ip } = self.allowed;
        if version.has_auth() {
            return if null || ip { Next::Offer } else { Next::OfferNothing };
        }
        // Older libraries know no methods; the required ones are not looked at for them.
        let admitted = if ip { address_admitted } else { null };
        if admitted { Next::Accept } else { Next::Reject }
    }

    /// Whether the client's choice lets it in.
    pub(crate) fn admits(&self, choice: &[u8; AUTH_CHOICE_BYTES], address_admitted: bool) -> bool {
        let mut methods = parse_auth_choice(choice).peekable();
        if methods.peek().is_none() {
            return false;
        }
        let mut by_address = self.ip_required;
        for method in methods {
            if !self.allowed.allows(method) {
                return false;
            }
            by_address |= method == AUTH_IP;
        }
        !by_address || address_admitted
    }
}
