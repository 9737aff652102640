//! The handshake: hello, auth list, auth choice, then accept or reject.
//!
//! Every integer is one byte. The parsers are incremental: they look at all bytes that have
//! arrived, answer `None` while the value is incomplete, and otherwise say how many bytes it took.

use crate::base::limits::{GROUP_NAME_BYTES, SESSION_NAME_BYTES_MAX};
use crate::base::{NameError, PrivateGroup};

/// Longest hello: three version bytes, flags, length, name.
pub const HELLO_BYTES_MAX: usize = 5 + SESSION_NAME_BYTES_MAX;

/// Longest auth list that this side emits: a length and both methods.
pub const AUTH_LIST_BYTES_MAX: usize = 1 + NULL_IN_LIST.len() + IP_IN_LIST.len();

/// An auth choice: slots of one method name each, NUL padded.
pub const AUTH_CHOICE_BYTES: usize = AUTH_SLOTS * AUTH_SLOT_BYTES;

/// Method names in an auth choice.
pub const AUTH_SLOTS: usize = 3;

/// Longest accept: code, three version bytes, length, private group.
pub const ACCEPT_BYTES_MAX: usize = 5 + GROUP_NAME_BYTES - 1;

/// The method that asks nothing.
pub const AUTH_NULL: &[u8] = b"NULL";

/// The method by which the daemon looks at the client's address.
pub const AUTH_IP: &[u8] = b"IP";

const AUTH_SLOT_BYTES: usize = 30;
const NULL_IN_LIST: &[u8] = b"NULL ";
const IP_IN_LIST: &[u8] = b"IP ";
const ACCEPT: u8 = 1;
const FLAG_MEMBERSHIP: u8 = 0x01;
const PRIORITY_SHIFT: u32 = 4;

// The length bytes of what is emitted never look like a reject.
const _: () = assert!(AUTH_LIST_BYTES_MAX < 0x80 && GROUP_NAME_BYTES < 0x80);
const _: () = assert!(HELLO_BYTES_MAX == 15 && AUTH_CHOICE_BYTES == 90 && ACCEPT_BYTES_MAX == 36);

/// Version of a client library or a daemon.
///
/// Versions are compared by [`Version::number`], as Spread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// First part.
    pub major: u8,
    /// Second part.
    pub minor: u8,
    /// Third part; 0 where it was not sent.
    pub patch: u8,
}

impl Version {
    /// What Madrigal announces, as a daemon and as a client: the Spread release it speaks like.
    pub const SPOKEN: Self = Self::new(5, 0, 1);
    /// The oldest that may connect.
    pub const OLDEST: Self = Self::new(3, 1, 0);
    /// The first that tells and is told the patch number.
    pub const WITH_PATCH: Self = Self::new(3, 15, 0);
    /// The first that chooses an authentication method.
    pub const WITH_AUTH: Self = Self::new(3, 16, 0);

    /// Puts the parts together.
    pub const fn new(major: u8, minor: u8, patch: u8) -> Self {
        Self { major, minor, patch }
    }

    /// The number that orders versions.
    pub const fn number(self) -> u32 {
        self.major as u32 * 10_000 + self.minor as u32 * 100 + self.patch as u32
    }

    /// Whether this is `other` or newer.
    pub const fn is_at_least(self, other: Self) -> bool {
        self.number() >= other.number()
    }

    /// Whether the patch byte is on the wire, in the hello and in the accept.
    pub const fn has_patch(self) -> bool {
        self.is_at_least(Self::WITH_PATCH)
    }

    /// Whether the handshake has the auth list and the auth choice.
    pub const fn has_auth(self) -> bool {
        self.is_at_least(Self::WITH_AUTH)
    }
}

// Major and minor alone decide whether the patch byte follows.
const _: () = assert!(Version::WITH_PATCH.patch == 0 && Version::OLDEST.patch == 0);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Why a daemon turns a client away: one byte, then it closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(i8)]
pub enum Reject {
    /// The daemon has as many sessions as it may have.
    #[error("the daemon has no session left")]
    Quota = -3,
    /// The name is missing; Spread 5 never says so.
    #[error("the daemon wants a session name")]
    NoName = -4,
    /// The name is too long or has illegal characters.
    #[error("the session name is illegal: 1 to 10 characters from '$' to '~' are allowed")]
    IllegalName = -5,
    /// Another session of the daemon has the name.
    #[error("the session name is taken on this daemon")]
    NotUnique = -6,
    /// The client library is too old.
    #[error("the daemon wants a newer client library")]
    Version = -7,
    /// No method was agreed on, or one of them failed.
    #[error("the daemon refused the authentication")]
    Auth = -9,
}

impl Reject {
    /// Every reason.
    pub const ALL: [Self; 6] =
        [Self::Quota, Self::NoName, Self::IllegalName, Self::NotUnique, Self::Version, Self::Auth];

    /// The code as Spread's library returns it.
    pub const fn code(self) -> i8 {
        self as i8
    }

    /// The byte on the wire.
    pub const fn to_byte(self) -> u8 {
        self.code().cast_unsigned()
    }

    /// The reason that `byte` stands for; `None` if it is no known one.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reject| reject.to_byte() == byte)
    }
}

/// The first bytes of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// Of the client's library.
    pub version: Version,
    /// Low half byte 1: wants membership messages; high half byte: priority.
    pub flags: u8,
    /// The session name asked for, of at most 10 bytes, not checked further; empty for "any".
    pub name: &'a [u8],
}

impl<'a> Hello<'a> {
    /// A hello of this library; `name` has at most 10 bytes.
    pub const fn new(name: &'a [u8], membership: bool, priority: bool) -> Self {
        let flags = (membership as u8 * FLAG_MEMBERSHIP) | ((priority as u8) << PRIORITY_SHIFT);
        Self { version: Version::SPOKEN, flags, name }
    }

    /// Whether the client wants membership messages.
    ///
    /// The byte is a signed one to Spread, and negative means no.
    pub const fn wants_membership(&self) -> bool {
        self.flags & FLAG_MEMBERSHIP != 0 && self.flags < 0x80
    }

    /// The priority, 0 or 1 from real clients; it has no effect.
    pub const fn priority(&self) -> u8 {
        self.flags >> PRIORITY_SHIFT
    }

    /// Reads a hello from all that has arrived, and says how many bytes it took.
    ///
    /// `None` while bytes are missing; 15 are always enough.
    ///
    /// # Errors
    ///
    /// As early as the bytes allow: [`Reject::Version`] for libraries before 3.1,
    /// [`Reject::IllegalName`] for a name of more than 10 bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, Reject> {
        let Some((&major, rest)) = bytes.split_first() else { return Ok(None) };
        if !Version::new(major, u8::MAX, 0).is_at_least(Version::OLDEST) {
            return Err(Reject::Version);
        }
        let Some((&minor, rest)) = rest.split_first() else { return Ok(None) };
        let mut version = Version::new(major, minor, 0);
        if !version.is_at_least(Version::OLDEST) {
            return Err(Reject::Version);
        }
        let mut rest = rest;
        if version.has_patch() {
            let Some((&patch, behind)) = rest.split_first() else { return Ok(None) };
            version.patch = patch;
            rest = behind;
        }
        let [flags, len, rest @ ..] = rest else { return Ok(None) };
        let len = usize::from(*len);
        if len > SESSION_NAME_BYTES_MAX {
            return Err(Reject::IllegalName);
        }
        let Some((name, rest)) = rest.split_at_checked(len) else { return Ok(None) };
        let consumed = bytes.len() - rest.len();
        Ok(Some((Self { version, flags: *flags, name }, consumed)))
    }

    /// Writes the hello and says how many bytes it took.
    ///
    /// # Panics
    ///
    /// When the name has more than 10 bytes.
    pub fn emit(&self, into: &mut [u8; HELLO_BYTES_MAX]) -> usize {
        assert!(self.name.len() <= SESSION_NAME_BYTES_MAX, "a session name has at most 10 bytes");
        let Version { major, minor, patch } = self.version;
        let mut end = 0;
        put(into, &mut end, &[major, minor]);
        if self.version.has_patch() {
            put(into, &mut end, &[patch]);
        }
        put(into, &mut end, &[self.flags, self.name.len() as u8]);
        put(into, &mut end, self.name);
        end
    }
}

/// Methods that a daemon allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthMethods {
    /// Whether `NULL` is allowed.
    pub null: bool,
    /// Whether `IP` is allowed.
    pub ip: bool,
}

impl AuthMethods {
    /// Whether the method that a client named is allowed.
    pub fn allows(self, method: &[u8]) -> bool {
        (self.null && method == AUTH_NULL) || (self.ip && method == AUTH_IP)
    }

    /// Writes the auth list and says how many bytes it took.
    pub fn emit(self, into: &mut [u8; AUTH_LIST_BYTES_MAX]) -> usize {
        let mut end = 1;
        // Spread's order, whatever the configuration says.
        for (enabled, name) in [(self.null, NULL_IN_LIST), (self.ip, IP_IN_LIST)] {
            if enabled {
                put(into, &mut end, name);
            }
        }
        into[0] = (end - 1) as u8;
        end
    }
}

/// An auth list as a client receives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthList<'a>(&'a [u8]);

impl<'a> AuthList<'a> {
    /// Reads the daemon's answer to a hello, and says how many bytes it took.
    ///
    /// # Errors
    ///
    /// The daemon rejected the client instead.
    pub fn parse(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, AnswerError> {
        let Some((&len, rest)) = bytes.split_first() else { return Ok(None) };
        if len >= 0x80 {
            return Err(AnswerError::from_byte(len));
        }
        Ok(rest.get(..usize::from(len)).map(|list| (Self(list), 1 + list.len())))
    }

    /// The names of the methods, in the daemon's order.
    pub fn methods(self) -> impl Iterator<Item = &'a [u8]> {
        self.0.split(|&byte| byte == b' ').filter(|method| !method.is_empty())
    }

    /// Whether `method` is in the list.
    pub fn contains(self, method: &[u8]) -> bool {
        self.methods().any(|found| found == method)
    }
}

/// The methods that an auth choice names, in slot order: up to the first empty slot, at most three.
pub fn parse_auth_choice(choice: &[u8; AUTH_CHOICE_BYTES]) -> impl Iterator<Item = &[u8]> {
    let (slots, _) = choice.as_chunks::<AUTH_SLOT_BYTES>();
    let names = slots.iter().map(|slot| {
        let len = slot.iter().position(|&byte| byte == 0).unwrap_or(AUTH_SLOT_BYTES);
        &slot[..len]
    });
    names.take_while(|name| !name.is_empty())
}

/// The auth choice that names `methods`.
///
/// # Panics
///
/// When there are more than three, or one has more than 29 bytes.
pub fn emit_auth_choice(methods: &[&[u8]]) -> [u8; AUTH_CHOICE_BYTES] {
    let mut choice = [0; AUTH_CHOICE_BYTES];
    let (slots, _) = choice.as_chunks_mut::<AUTH_SLOT_BYTES>();
    assert!(methods.len() <= AUTH_SLOTS, "an auth choice has three slots");
    for (slot, method) in slots.iter_mut().zip(methods) {
        assert!(method.len() < AUTH_SLOT_BYTES, "an auth method has at most 29 bytes");
        slot[..method.len()].copy_from_slice(method);
    }
    choice
}

/// The answer that makes a connection a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept {
    /// Of the daemon.
    pub version: Version,
    /// The session's address.
    pub group: PrivateGroup,
}

impl Accept {
    /// Writes the accept for a client of version `client`, and says how many bytes it took.
    pub fn emit(&self, client: Version, into: &mut [u8; ACCEPT_BYTES_MAX]) -> usize {
        let Version { major, minor, patch } = self.version;
        let mut end = 0;
        put(into, &mut end, &[ACCEPT, major, minor]);
        if client.has_patch() {
            put(into, &mut end, &[patch]);
        }
        let name = self.group.to_name();
        put(into, &mut end, &[name.as_bytes().len() as u8]);
        put(into, &mut end, name.as_bytes());
        end
    }

    /// Reads the last answer of the handshake, as a client of version `client` gets it, and says
    /// how many bytes it took.
    ///
    /// # Errors
    ///
    /// The daemon rejected the client, or is none.
    pub fn parse(bytes: &[u8], client: Version) -> Result<Option<(Self, usize)>, AnswerError> {
        let Some((&code, rest)) = bytes.split_first() else { return Ok(None) };
        if code != ACCEPT {
            return Err(AnswerError::from_byte(code));
        }
        let version_bytes = if client.has_patch() { 3 } else { 2 };
        let Some((version, rest)) = rest.split_at_checked(version_bytes) else { return Ok(None) };
        let Some((&len, rest)) = rest.split_first() else { return Ok(None) };
        let len = usize::from(len);
        if version.iter().any(|&byte| byte >= 0x80) || len >= GROUP_NAME_BYTES {
            return Err(AnswerError::Malformed);
        }
        let Some(name) = rest.get(..len) else { return Ok(None) };
        let patch = version.get(2).copied().unwrap_or(0);
        let version = Version::new(version[0], version[1], patch);
        let group = PrivateGroup::parse(name).map_err(AnswerError::PrivateGroup)?;
        Ok(Some((Self { version, group }, 2 + version_bytes + len)))
    }
}

/// Why a client has no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The daemon said no.
    #[error(transparent)]
    Rejected(Reject),
    /// The daemon said no, for a reason that this library does not know.
    #[error("the daemon rejected the connection with the unknown code {0}")]
    UnknownReject(i8),
    /// The answer is not one of a Spread-compatible daemon.
    #[error("the answer is not one of a Spread-compatible daemon")]
    Malformed,
    /// The address that the daemon gave the session is illegal.
    #[error("the daemon sent an illegal private group: {0}")]
    PrivateGroup(NameError),
}

impl AnswerError {
    fn from_byte(byte: u8) -> Self {
        match Reject::from_byte(byte) {
            Some(reject) => Self::Rejected(reject),
            None if byte >= 0x80 => Self::UnknownReject(byte.cast_signed()),
            None => Self::Malformed,
        }
    }
}

fn put(into: &mut [u8], end: &mut usize, bytes: &[u8]) {
    into[*end..*end + bytes.len()].copy_from_slice(bytes);
    *end += bytes.len();
}
