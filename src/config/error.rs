//! What is wrong with a configuration, told as compilers do.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file was read, but not all of it may stand.
    #[error("{0}")]
    Invalid(Problems),
}

/// All that is wrong in a file, in the order of its lines; never empty.
#[derive(Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

/// One thing that is wrong in a file, or has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Characters that are to blame; at least 1.
    pub width: usize,
    /// The line itself.
    pub text: String,
    /// Key, value found, what is allowed.
    pub message: String,
    /// A guess at what was meant.
    pub help: Option<String>,
}

impl Problem {
    /// Blames the bytes at `span` of `text`, the content of `path`.
    pub(super) fn new(path: &Path, text: &str, span: Range<usize>, message: String) -> Self {
        let start = floor(text, span.start);
        let end = floor(text, span.end).max(start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        Self {
            path: path.to_owned(),
            line: 1 + text[..start].matches('\n').count(),
            column: 1 + text[line_start..start].chars().count(),
            width: text[start..end.min(line_end).max(start)].chars().count().max(1),
            text: text[line_start..line_end].trim_end().to_owned(),
            message,
            help: None,
        }
    }
}

impl Problem {
    /// Place and message on one line.
    pub fn brief(&self) -> String {
        format!("{}:{}: {}", self.path.display(), self.line, self.message)
    }
}

/// The nearest character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, width, text, message, help, .. } = self;
        let margin = " ".repeat(line.to_string().len());
        let carets = "^".repeat(*width);
        // A tab before the carets is as wide as the one above it.
        let indent: String = text
            .chars()
            .take(column - 1)
            .map(|char| if char == '\t' { '\t' } else { ' ' })
            .collect();
        writeln!(f, "{message}")?;
        writeln!(f, "{margin}--> {}:{line}:{column}", self.path.display())?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{line} | {text}")?;
        write!(f, "{margin} | {indent}{carets}")?;
        match help {
            Some(help) => write!(f, "\n{margin} = help: {help}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            let gap = if i == 0 { "" } else { "\n\n" };
            write!(f, "{gap}{problem}")?;
        }
        Ok(())
    }
}
