//! Names: of sessions, daemons and groups. A value of these types is legal by construction.
//!
//! The rules are Spread's (`docs/spread-compatibility.md`, "Names"): every byte is in
//! `0x24..=0x7e`, so a name never contains `#`, a blank or a NUL.

use std::borrow::Borrow;
use std::fmt::{self, Write as _};

use super::limits::{DAEMON_NAME_BYTES_MAX, GROUP_NAME_BYTES, SESSION_NAME_BYTES_MAX};

/// Why bytes are no legal name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("a name must have at least one character")]
    Empty,
    /// Longer than the kind of name allows.
    #[error("a name of this kind has at most {max} characters, this one has {found}")]
    TooLong {
        /// Length that was found, in bytes.
        found: usize,
        /// Longest length allowed, in bytes.
        max: usize,
    },
    /// A byte outside `0x24..=0x7e`.
    #[error("byte 0x{byte:02x} is not allowed in a name: only '$' to '~' are")]
    IllegalByte {
        /// The first offending byte.
        byte: u8,
    },
    /// Not of the form `#name#daemon`.
    #[error("a private group has the form #name#daemon")]
    NotPrivate,
}

fn check(bytes: &[u8], max: usize) -> Result<(), NameError> {
    if bytes.is_empty() {
        return Err(NameError::Empty);
    }
    if bytes.len() > max {
        return Err(NameError::TooLong { found: bytes.len(), max });
    }
    match bytes.iter().find(|byte| !(0x24..=0x7e).contains(*byte)) {
        Some(&byte) => Err(NameError::IllegalByte { byte }),
        None => Ok(()),
    }
}

/// A short legal name, stored in place; `N` is its longest length.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Short<const N: usize> {
    // Padding is zero, and zero sorts before every legal byte, so the derived order is bytewise.
    bytes: [u8; N],
    len: u8,
}

impl<const N: usize> Short<N> {
    /// Checks `bytes` and keeps a copy.
    pub fn new(bytes: &[u8]) -> Result<Self, NameError> {
        check(bytes, N)?;
        let mut name = Self { bytes: [0; N], len: bytes.len() as u8 };
        name.bytes[..bytes.len()].copy_from_slice(bytes);
        Ok(name)
    }

    /// The name's bytes, without padding.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The name as text: legal bytes are ASCII.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("legal name bytes are ASCII")
    }
}

impl<const N: usize> fmt::Display for Short<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<const N: usize> fmt::Debug for Short<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl<const N: usize> Borrow<[u8]> for Short<N> {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// The name a client connects by: 1 to 10 characters, unique on its daemon.
pub type SessionName = Short<SESSION_NAME_BYTES_MAX>;

/// The name of a daemon: 1 to 19 characters, unique in its cluster.
pub type DaemonName = Short<DAEMON_NAME_BYTES_MAX>;

/// The 32-byte name field of the client protocol with everything behind the first NUL cleared.
///
/// Also a key: two fields name the same group exactly when their `GroupName`s are equal, and the
/// order is the bytewise order of the names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName([u8; GROUP_NAME_BYTES]);

impl GroupName {
    /// A name that clients may join: 1 to 31 legal characters.
    pub fn new(name: &[u8]) -> Result<Self, NameError> {
        check(name, GROUP_NAME_BYTES - 1)?;
        Ok(Self::pad(name))
    }

    /// Reads a name field as it came. `None` where there is no NUL in it.
    ///
    /// The result need not be joinable: see [`GroupName::is_joinable`].
    pub fn from_field(field: &[u8; GROUP_NAME_BYTES]) -> Option<Self> {
        let len = field.iter().position(|&byte| byte == 0)?;
        Some(Self::pad(&field[..len]))
    }

    fn pad(name: &[u8]) -> Self {
        let mut field = [0; GROUP_NAME_BYTES];
        field[..name.len()].copy_from_slice(name);
        Self(field)
    }

    /// Whether a client may join it: at least one character, all of them legal.
    pub fn is_joinable(&self) -> bool {
        check(self.as_bytes(), GROUP_NAME_BYTES - 1).is_ok()
    }

    /// Whether the name begins with `#`, so that it can only be a private group.
    pub fn is_private(&self) -> bool {
        self.0[0] == b'#'
    }

    /// The whole field, NUL padded.
    pub fn as_field(&self) -> &[u8; GROUP_NAME_BYTES] {
        &self.0
    }

    /// The name's bytes, without padding.
    pub fn as_bytes(&self) -> &[u8] {
        let len = self.0.iter().position(|&byte| byte == 0).unwrap_or(GROUP_NAME_BYTES);
        &self.0[..len]
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_name(self.as_bytes(), f)
    }
}

impl fmt::Debug for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Writes a name that may hold any byte, because it came in a name field: what is printable as it
/// is, all else as `\xNN`.
pub(crate) fn write_name(name: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for &byte in name {
        match byte {
            b' '..=b'~' => f.write_char(char::from(byte))?,
            _ => write!(f, "\\x{byte:02x}")?,
        }
    }
    Ok(())
}

/// The group of one session alone, `#name#daemon`: its address, and its name in member lists.
///
/// The order is the one of member lists on one daemon: bytewise by the whole text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PrivateGroup {
    /// The session's name.
    pub session: SessionName,
    /// Its daemon's name.
    pub daemon: DaemonName,
}

impl PrivateGroup {
    /// Parses `#name#daemon`; `text` is without padding.
    pub fn parse(text: &[u8]) -> Result<Self, NameError> {
        let rest = text.strip_prefix(b"#").ok_or(NameError::NotPrivate)?;
        let split = rest.iter().position(|&byte| byte == b'#').ok_or(NameError::NotPrivate)?;
        let session = SessionName::new(&rest[..split])?;
        let daemon = DaemonName::new(&rest[split + 1..])?;
        Ok(Self { session, daemon })
    }

    /// Whether the name field says this, up to its first NUL or its last byte but one.
    ///
    /// Quicker than parsing the field: it is asked for each frame.
    pub fn is_named_by(&self, field: &[u8; GROUP_NAME_BYTES]) -> bool {
        let (text, _) = field.split_at(GROUP_NAME_BYTES - 1);
        let rest = text.strip_prefix(b"#");
        let rest = rest.and_then(|rest| rest.strip_prefix(self.session.as_bytes()));
        let rest = rest.and_then(|rest| rest.strip_prefix(b"#"));
        let rest = rest.and_then(|rest| rest.strip_prefix(self.daemon.as_bytes()));
        rest.is_some_and(|rest| rest.first().is_none_or(|&byte| byte == 0))
    }

    /// The name field that carries it.
    pub fn to_name(&self) -> GroupName {
        let mut field = [0; GROUP_NAME_BYTES];
        let session = self.session.as_bytes();
        let daemon = self.daemon.as_bytes();
        let split = 1 + session.len();
        field[0] = b'#';
        field[1..split].copy_from_slice(session);
        field[split] = b'#';
        field[split + 1..split + 1 + daemon.len()].copy_from_slice(daemon);
        GroupName(field)
    }
}

impl PartialOrd for PrivateGroup {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PrivateGroup {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // `#` ends the session's name in the text and sorts before every legal byte, as the zero
        // padding does, so comparing the parts is comparing the texts.
        self.session.cmp(&other.session).then_with(|| self.daemon.cmp(&other.daemon))
    }
}

impl fmt::Display for PrivateGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}#{}", self.session, self.daemon)
    }
}

impl fmt::Debug for PrivateGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

// The longest private group fits its field with a NUL behind it.
const _: () = assert!(1 + SESSION_NAME_BYTES_MAX + 1 + DAEMON_NAME_BYTES_MAX < GROUP_NAME_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_names_follow_spreads_rule() {
        assert!(SessionName::new(b"~}|{$%&").is_ok());
        assert_eq!(SessionName::new(b""), Err(NameError::Empty));
        assert_eq!(SessionName::new(b"a b"), Err(NameError::IllegalByte { byte: b' ' }));
        assert_eq!(SessionName::new(b"x#y"), Err(NameError::IllegalByte { byte: b'#' }));
        assert_eq!(
            SessionName::new(b"abcdefghijk"),
            Err(NameError::TooLong { found: 11, max: 10 })
        );
    }

    #[test]
    fn private_group_survives_its_text() {
        let group = PrivateGroup::parse(b"#alice#localhost").unwrap();
        assert_eq!(group.to_string(), "#alice#localhost");
        assert_eq!(group.to_name().as_bytes(), b"#alice#localhost");
        for bad in [&b"alice"[..], b"#alice", b"##localhost", b"#alice#", b"#a#b#c", b"#a b#c"] {
            assert!(PrivateGroup::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_field_names_a_private_group_exactly_when_it_parses_to_it() {
        let longest = b"#abcdefghij#abcdefghijklmnopqrs";
        for text in [&b"#a#d"[..], b"#a#dd", b"#a#", b"#aa#d", b"a#d", longest, &longest[..30]] {
            let mut field = [0; 32];
            field[..text.len()].copy_from_slice(text);
            for own in [&b"#a#d"[..], longest] {
                let own = PrivateGroup::parse(own).unwrap();
                let same = PrivateGroup::parse(text) == Ok(own);
                assert_eq!(own.is_named_by(&field), same, "{own} by {text:?}");
            }
        }
        let mut unended = [b'x'; 32];
        unended[..31].copy_from_slice(longest);
        assert!(PrivateGroup::parse(longest).unwrap().is_named_by(&unended));
    }

    #[test]
    fn private_groups_sort_as_their_texts() {
        let mut texts = ["#a1#d", "#a#d", "#a#c", "#B#d", "#a#dd"];
        let mut groups = texts.map(|text| PrivateGroup::parse(text.as_bytes()).unwrap());
        groups.sort();
        texts.sort_unstable();
        assert_eq!(groups.map(|group| group.to_string()), texts);
    }

    #[test]
    fn field_ends_at_its_first_nul() {
        let mut field = [b'x'; 32];
        assert_eq!(GroupName::from_field(&field), None);
        field[1] = 0;
        assert_eq!(GroupName::from_field(&field), Some(GroupName::new(b"x").unwrap()));
        field[0] = 0;
        assert!(!GroupName::from_field(&field).unwrap().is_joinable());
    }
}
