//! How a client asks for shared memory, before the handshake: one hello, one answer.
//!
//! Each is 24 bytes, all numbers little-endian. With the status "attached" the answer carries the
//! descriptor of the memory. From then on the queues in it carry what a socket would: the client
//! protocol from its own hello on.
//!
//! | offset | hello | answer |
//! |---|---|---|
//! | 0 | magic number | magic number |
//! | 8 | version | version |
//! | 12 | zero | status |
//! | 16 | bytes of the submission queue wished for, 0: any | bytes of the submission queue |
//! | 20 | bytes of the delivery queue wished for, 0: any | bytes of the delivery queue |

/// Bytes of a hello.
pub const ATTACH_HELLO_BYTES: usize = 24;

/// Bytes of an answer.
pub const ATTACH_ANSWER_BYTES: usize = 24;

/// What both sides speak.
pub const ATTACH_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"Madrigal";

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachHello {
    /// The layout and the rules that it knows.
    pub version: u32,
    /// Bytes of its submission queue; 0: as the daemon likes.
    pub submission_bytes: u32,
    /// Bytes of its delivery queue; 0: as the daemon likes.
    pub delivery_bytes: u32,
}

/// What the daemon answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachAnswer {
    /// The layout and the rules that it knows.
    pub version: u32,
    /// Whether the client is attached.
    pub status: AttachStatus,
    /// Bytes of its submission queue.
    pub submission_bytes: u32,
    /// Bytes of its delivery queue.
    pub delivery_bytes: u32,
}

/// Whether a client is attached, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachStatus {
    /// It is; the memory comes with the answer.
    #[error("attached")]
    Attached,
    /// The daemon speaks another version.
    #[error("it speaks another version of the shared memory transport")]
    Version,
    /// The host has no memory or no descriptor for it.
    #[error("it has no memory or no descriptor left")]
    Memory,
    /// There are as many sessions as there may be.
    #[error("it has as many sessions as it may have")]
    Quota,
    /// The kernel does not tell who the client is.
    #[error("the kernel does not tell it who this process is")]
    Unidentified,
}

/// What came is no hello, or no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not of the shared memory transport")]
pub struct NotAttach;

impl AttachHello {
    /// Reads a hello.
    ///
    /// # Errors
    ///
    /// It is none. One of another version is one.
    pub fn parse(bytes: &[u8; ATTACH_HELLO_BYTES]) -> Result<Self, NotAttach> {
        let [version, _, submission_bytes, delivery_bytes] = parse(bytes)?;
        Ok(Self { version, submission_bytes, delivery_bytes })
    }

    /// Writes the hello.
    pub fn emit(&self) -> [u8; ATTACH_HELLO_BYTES] {
        emit([self.version, 0, self.submission_bytes, self.delivery_bytes])
    }
}

impl AttachAnswer {
    /// Reads an answer.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn parse(bytes: &[u8; ATTACH_ANSWER_BYTES]) -> Result<Self, NotAttach> {
        let [version, status, submission_bytes, delivery_bytes] = parse(bytes)?;
        let status = AttachStatus::from_number(status).ok_or(NotAttach)?;
        Ok(Self { version, status, submission_bytes, delivery_bytes })
    }

    /// Writes the answer.
    pub fn emit(&self) -> [u8; ATTACH_ANSWER_BYTES] {
        let status = self.status.number();
        emit([self.version, status, self.submission_bytes, self.delivery_bytes])
    }

    /// An answer that turns a client away.
    pub fn refuse(status: AttachStatus) -> Self {
        Self { version: ATTACH_VERSION, status, submission_bytes: 0, delivery_bytes: 0 }
    }
}

impl AttachStatus {
    const ALL: [Self; 5] =
        [Self::Attached, Self::Version, Self::Memory, Self::Quota, Self::Unidentified];

    fn number(self) -> u32 {
        match self {
            Self::Attached => 0,
            Self::Version => 1,
            Self::Memory => 2,
            Self::Quota => 3,
            Self::Unidentified => 4,
        }
    }

    fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.number() == number)
    }
}

fn parse(bytes: &[u8; ATTACH_HELLO_BYTES]) -> Result<[u32; 4], NotAttach> {
    let (magic, rest) = bytes.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(NotAttach);
    }
    let mut numbers = [0; 4];
    for (number, bytes) in numbers.iter_mut().zip(rest.as_chunks::<4>().0) {
        *number = u32::from_le_bytes(*bytes);
    }
    Ok(numbers)
}

fn emit(numbers: [u32; 4]) -> [u8; ATTACH_HELLO_BYTES] {
    let mut bytes = [0; ATTACH_HELLO_BYTES];
    let (magic, rest) = bytes.split_at_mut(MAGIC.len());
    magic.copy_from_slice(&MAGIC);
    for (number, bytes) in numbers.into_iter().zip(rest.as_chunks_mut::<4>().0) {
        *bytes = number.to_le_bytes();
    }
    bytes
}

const _: () = assert!(ATTACH_HELLO_BYTES == MAGIC.len() + 4 * size_of::<u32>());
const _: () = assert!(ATTACH_ANSWER_BYTES == ATTACH_HELLO_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hello_is_these_bytes() {
        let hello = AttachHello { version: 1, submission_bytes: 0x1_0000, delivery_bytes: 0 };
        let bytes = *b"Madrigal\x01\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0";
        assert_eq!(hello.emit(), bytes);
        assert_eq!(AttachHello::parse(&bytes), Ok(hello));
    }

    #[test]
    fn answers_survive_the_way() {
        for status in AttachStatus::ALL {
            let answer =
                AttachAnswer { version: 7, status, submission_bytes: 1, delivery_bytes: u32::MAX };
            assert_eq!(AttachAnswer::parse(&answer.emit()), Ok(answer));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let mut bytes = AttachAnswer::refuse(AttachStatus::Quota).emit();
        bytes[12] = 5;
        assert_eq!(AttachAnswer::parse(&bytes), Err(NotAttach));
        bytes[0] = b'm';
        assert_eq!(AttachHello::parse(&bytes), Err(NotAttach));
    }
}
