//! What an operator asks of the daemon as a whole: a line to a Unix socket, and an answer in text.
//!
//! It has nothing to do with the data path: the main thread serves it, one connection at a time.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::base::limits::{CONTROL_LINE_BYTES_MAX, CONTROL_PATIENCE};
use crate::config::UnixSocket;
use crate::sys::socket::{ListenError, Listener};

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Read the configuration again, as on SIGHUP.
    Reload,
    /// Tell all counters.
    Counters,
}

impl Command {
    /// The command of this word.
    fn from_word(word: &str) -> Option<Self> {
        match word {
            "reload" => Some(Self::Reload),
            "counters" => Some(Self::Counters),
            _ => None,
        }
    }
}

/// The socket at which the daemon takes commands; its permissions say from whom.
pub struct Control(Listener);

impl Control {
    /// Listens.
    ///
    /// # Errors
    ///
    /// As [`Listener::unix`].
    pub(super) fn open(socket: &UnixSocket) -> Result<Self, ListenError> {
        Listener::unix(&socket.path, socket.mode).map(Self)
    }

    /// Where it listens.
    pub(super) fn path(&self) -> Option<&Path> {
        self.0.path()
    }

    /// Takes the command of a connection that waits.
    ///
    /// Who says nothing within a second, or nothing that is a command, is told so and let go;
    /// that, like a connection that is gone again, is `None`.
    pub fn take(&self) -> Option<Order> {
        let socket = match rustix::net::accept(&self.0) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::debug!(%error, "no connection at the control socket after all");
                return None;
            }
        };
        let stream = UnixStream::from(socket);
        match read_word(&stream) {
            Ok(word) => match Command::from_word(word.trim_end()) {
                Some(command) => Some(Order { command, stream }),
                None => {
                    let lines = ["a command is \"reload\" or \"counters\", and a line".to_owned()];
                    answer(&stream, false, &lines);
                    None
                }
            },
            Err(error) => {
                tracing::warn!(%error, "a connection to the control socket said nothing");
                None
            }
        }
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A command that somebody waits for.
pub struct Order {
    command: Command,
    stream: UnixStream,
}

impl Order {
    /// What is asked for.
    pub fn command(&self) -> Command {
        self.command
    }

    /// Tells whether it was done, and what there is to say of it.
    pub fn answer(self, done: bool, lines: &[String]) {
        answer(&self.stream, done, lines);
    }
}

fn read_word(stream: &UnixStream) -> io::Result<String> {
    stream.set_read_timeout(Some(CONTROL_PATIENCE))?;
    stream.set_write_timeout(Some(CONTROL_PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.take(CONTROL_LINE_BYTES_MAX)).read_line(&mut line)?;
    Ok(line)
}

/// The first line says whether it was done, all others are for people.
fn answer(mut stream: &UnixStream, done: bool, lines: &[String]) {
    let mut text = if done { "done\n" } else { "failed\n" }.to_owned();
    for line in lines {
        text += line;
        text.push('\n');
    }
    if let Err(error) = stream.write_all(text.as_bytes()) {
        tracing::debug!(%error, "nobody takes an answer of the control socket");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control() -> (tempfile::TempDir, UnixSocket, Control) {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixSocket { path: directory.path().join("control"), mode: 0o600 };
        let control = Control::open(&socket).unwrap();
        (directory, socket, control)
    }

    /// What the daemon makes of `said`, and what the other side reads.
    fn say(said: &[u8]) -> (Option<Command>, String) {
        let (_directory, socket, control) = control();
        let mut stream = UnixStream::connect(socket.path).unwrap();
        stream.write_all(said).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let order = control.take();
        let command = order.as_ref().map(Order::command);
        if let Some(order) = order {
            order.answer(true, &["one".to_owned(), "two".to_owned()]);
        }
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        (command, heard)
    }

    #[test]
    fn a_command_is_taken_and_answered() {
        let heard = "done\none\ntwo\n".to_owned();
        assert_eq!(say(b"reload\n"), (Some(Command::Reload), heard.clone()));
        assert_eq!(say(b"counters\r\nmore"), (Some(Command::Counters), heard));
    }

    #[test]
    fn anything_else_is_refused_with_what_is_allowed() {
        for said in [b"".as_slice(), b"Reload\n", b"\n", b"reload now\n", &[b'x'; 16]] {
            let (command, heard) = say(said);
            assert_eq!(command, None);
            assert!(heard.starts_with("failed\na command is"), "{heard:?}");
        }
        // No text at all.
        assert_eq!(say(b"\xff\xfe\n"), (None, String::new()));
    }

    #[test]
    fn nobody_waits_for_nobody() {
        let (_directory, socket, control) = control();
        assert!(control.take().is_none());
        drop(UnixStream::connect(socket.path).unwrap());
        assert!(control.take().is_none());
    }
}
