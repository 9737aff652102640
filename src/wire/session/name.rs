//! Name fields as they lie in a frame: lent, and not yet checked.

use std::fmt;

use crate::base::limits::GROUP_NAME_BYTES;
use crate::base::name::write_name;
use crate::base::{GroupName, NameError, PrivateGroup};

/// A name field as it came: up to 32 bytes, of any value, and whatever is behind the first NUL.
///
/// Two are equal when their bytes up to the NUL are.
#[derive(Clone, Copy)]
pub struct Name<'a>(&'a [u8; GROUP_NAME_BYTES]);

impl<'a> Name<'a> {
    /// Wraps a field.
    pub const fn new(field: &'a [u8; GROUP_NAME_BYTES]) -> Self {
        Self(field)
    }

    /// The name's bytes, without NUL and what is behind it.
    pub fn as_bytes(self) -> &'a [u8] {
        let len = self.0.iter().position(|&byte| byte == 0).unwrap_or(GROUP_NAME_BYTES);
        &self.0[..len]
    }

    /// The whole field.
    pub const fn as_field(self) -> &'a [u8; GROUP_NAME_BYTES] {
        self.0
    }

    /// The name as text. Names that clients may join, and those of sessions, are always ASCII.
    ///
    /// # Errors
    ///
    /// The name is no UTF-8: some client sent to a group of such a name.
    pub fn to_str(self) -> Result<&'a str, std::str::Utf8Error> {
        std::str::from_utf8(self.as_bytes())
    }

    /// A copy that can be kept; `None` if all 32 bytes are used, which makes it no group's name.
    pub fn to_group(self) -> Option<GroupName> {
        GroupName::from_field(self.0)
    }

    /// Reads the name as that of a session.
    ///
    /// # Errors
    ///
    /// It is not of the form `#name#daemon`.
    pub fn to_private_group(self) -> Result<PrivateGroup, NameError> {
        PrivateGroup::parse(self.as_bytes())
    }
}

impl PartialEq for Name<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Name<'_> {}

impl PartialEq<str> for Name<'_> {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for Name<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<GroupName> for Name<'_> {
    fn eq(&self, other: &GroupName) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_name(self.as_bytes(), f)
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Name fields that lie side by side.
#[derive(Clone)]
pub struct Names<'a>(std::slice::Iter<'a, [u8; GROUP_NAME_BYTES]>);

impl<'a> Names<'a> {
    /// The names in `fields`.
    pub fn new(fields: &'a [[u8; GROUP_NAME_BYTES]]) -> Self {
        Self(fields.iter())
    }
}

impl<'a> Iterator for Names<'a> {
    type Item = Name<'a>;

    fn next(&mut self) -> Option<Name<'a>> {
        self.0.next().map(Name)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for Names<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(Name)
    }
}

impl ExactSizeIterator for Names<'_> {}

impl fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}
