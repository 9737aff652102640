//! How a subcommand fails: what the user is told, and the exit code.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use crate::output::tell;

/// Why a subcommand ended early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nobody reads standard output any more: an ordinary end, as with `... | head`.
    OutputClosed,
    /// The arguments make no sense together: exit code 2.
    Usage(String),
    /// What was asked for could not be done: exit code 1.
    Failed(String),
    /// What was found has been told on standard output; only this exit code is left to say.
    Told(u8),
}

/// What a subcommand returns.
pub(crate) type Result<T = ()> = std::result::Result<T, Failure>;

impl Failure {
    /// Tells the user, on standard error, and says what the process exits with.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Self::OutputClosed => ExitCode::SUCCESS,
            Self::Usage(message) => {
                tell(format!("madrigal: {message}\nTry --help for what is accepted."));
                ExitCode::from(2)
            }
            Self::Failed(message) => {
                tell(format!("madrigal: {message}"));
                ExitCode::from(1)
            }
            Self::Told(code) => ExitCode::from(*code),
        }
    }
}

/// A failure at work.
pub(crate) fn failed(message: impl Into<String>) -> Failure {
    Failure::Failed(message.into())
}

/// A failure of the arguments.
pub(crate) fn usage(message: impl Into<String>) -> Failure {
    Failure::Usage(message.into())
}

/// Puts into words what was being done when an error came.
pub(crate) trait Context<T> {
    /// The error's text behind `doing` and a colon.
    fn context(self, doing: impl Display) -> Result<T>;
}

impl<T, E: Display> Context<T> for std::result::Result<T, E> {
    fn context(self, doing: impl Display) -> Result<T> {
        self.map_err(|error| failed(format!("{doing}: {error}")))
    }
}

/// An error of standard output.
pub(crate) fn output_failure(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Failure::OutputClosed
    } else {
        failed(format!("cannot write to standard output: {error}"))
    }
}
