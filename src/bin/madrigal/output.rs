//! Standard output and standard error, where a reader that goes away is no error.

use std::fmt::Display;
use std::io::{BufWriter, StdoutLock, Write};

use crate::failure::{Result, output_failure};

/// A line on standard error. Where nobody reads it there is nobody to tell, which is no failure.
pub(crate) fn tell(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Standard output, buffered until [`Output::flush`].
pub(crate) struct Output {
    writer: BufWriter<StdoutLock<'static>>,
}

impl Output {
    /// Takes standard output for the rest of the subcommand.
    pub(crate) fn new() -> Self {
        Self { writer: BufWriter::new(std::io::stdout().lock()) }
    }

    /// Writes `text` and a line end.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) -> Result {
        self.bytes(text.as_ref().as_bytes())?;
        self.bytes(b"\n")
    }

    /// Writes `bytes` as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result {
        self.writer.write_all(bytes).map_err(|error| output_failure(&error))
    }

    /// Writes a JSON value on a line of its own.
    pub(crate) fn json(&mut self, value: &serde_json::Value) -> Result {
        self.line(value.to_string())
    }

    /// Hands everything to the reader.
    pub(crate) fn flush(&mut self) -> Result {
        self.writer.flush().map_err(|error| output_failure(&error))
    }
}
