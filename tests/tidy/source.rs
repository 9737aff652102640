//! A Rust file as the rules see it: code without comments and text, comments without code, and
//! which lines belong to tests.

use std::ops::Range;
use std::path::PathBuf;

/// One Rust file.
pub(crate) struct Source {
    /// Its path, from the top of the repository.
    pub(crate) path: PathBuf,
    /// The text as it is.
    pub(crate) text: String,
    /// The text with comments and the content of literals blanked; same lines, same columns.
    pub(crate) code: String,
    /// The text with everything but comments blanked.
    pub(crate) comments: String,
    /// Bytes of the text that are compiled for tests only.
    tests: Vec<Range<usize>>,
}

impl Source {
    /// Takes a file apart.
    pub(crate) fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let (code, comments) = split(&text);
        let tests = if is_test_file(&path) {
            std::iter::once(0..text.len()).collect()
        } else {
            test_items(&code)
        };
        Self { path, text, code, comments, tests }
    }

    /// Whether the byte at `at` is compiled for tests only.
    pub(crate) fn is_test(&self, at: usize) -> bool {
        self.tests.iter().any(|tests| tests.contains(&at))
    }

    /// The line, from 1, that the byte at `at` is on.
    pub(crate) fn line_of(&self, at: usize) -> usize {
        1 + self.text[..at].matches('\n').count()
    }

    /// The top folder under `src`, if the file is in one: its layer.
    pub(crate) fn layer(&self) -> Option<&str> {
        let mut parts = self.path.iter().filter_map(|part| part.to_str());
        if parts.next()? != "src" {
            return None;
        }
        let layer = parts.next()?.trim_end_matches(".rs");
        (layer != "lib").then_some(layer)
    }

    /// How many `super` lead from the file's module to the crate's root.
    pub(crate) fn depth(&self) -> usize {
        let below_src = self.path.iter().count() - 1;
        let is_mod = self.path.file_name().is_some_and(|name| name == "mod.rs");
        if is_mod { below_src - 1 } else { below_src }
    }

    /// Every whole word of the code with its place.
    pub(crate) fn words(&self) -> impl Iterator<Item = (usize, &str)> {
        words(&self.code)
    }
}

/// Every whole word of a text with its place.
pub(crate) fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split(|char: char| !char.is_alphanumeric() && char != '_')
        .filter(|word| !word.is_empty())
        .map(|word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
}

/// The parts of a name, in lower case: `ServerName` and `server_name` both have `server`.
pub(crate) fn parts_of(word: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut was_lower = false;
    for char in word.chars() {
        let starts_part = char == '_' || char.is_uppercase() && was_lower;
        if starts_part {
            parts.push(String::new());
        }
        if char != '_' {
            parts.last_mut().expect("there is one").extend(char.to_lowercase());
        }
        was_lower = char.is_lowercase() || char.is_numeric();
    }
    parts
}

/// The place behind the bracket that closes the one at `open`.
pub(crate) fn close(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

fn is_test_file(path: &std::path::Path) -> bool {
    let in_tests = path.iter().any(|part| part == "tests" || part == "benches");
    in_tests || path.file_name().is_some_and(|name| name == "tests.rs")
}

/// Items behind an attribute such as `#[cfg(test)]`.
fn test_items(code: &str) -> Vec<Range<usize>> {
    let mut items = Vec::new();
    for (start, _) in code.match_indices("#[cfg(") {
        let attribute_end = close(code, start + 1);
        if !words(&code[start..attribute_end]).any(|(_, word)| word == "test") {
            continue;
        }
        let body =
            code[attribute_end..].find(['{', ';']).map_or(code.len(), |at| at + attribute_end);
        let end = if code[body..].starts_with('{') { close(code, body) } else { body };
        items.push(start..end);
    }
    items
}

/// What is at one place of a file.
enum Piece {
    Code,
    Comment,
    /// A literal whose first and last bytes are kept as code.
    Literal,
}

/// Code without comments and the content of literals; comments without the rest.
fn split(text: &str) -> (String, String) {
    let mut code = String::with_capacity(text.len());
    let mut comments = String::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let (piece, len) = next_piece(text, at);
        let slice = &text[at..at + len];
        match piece {
            Piece::Code => {
                code += slice;
                comments += &blank(slice);
            }
            Piece::Comment => {
                code += &blank(slice);
                comments += slice;
            }
            Piece::Literal => {
                code += "\"";
                code += &blank(&slice[1..len - 1]);
                code += "\"";
                comments += &blank(slice);
            }
        }
        at += len;
    }
    (code, comments)
}

/// As many blanks as there are bytes, on as many lines.
fn blank(text: &str) -> String {
    text.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect()
}

/// What begins at `at`, and how long it is. Literals are at least two bytes long.
fn next_piece(text: &str, at: usize) -> (Piece, usize) {
    let rest = &text[at..];
    if rest.starts_with("//") {
        return (Piece::Comment, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (Piece::Comment, block_comment(rest));
    }
    let continues_word = text[..at].ends_with(|char: char| char.is_alphanumeric() || char == '_');
    if !continues_word && let Some(len) = raw_string(rest) {
        return (Piece::Literal, len);
    }
    if rest.starts_with('"') {
        return (Piece::Literal, quoted(rest, b'"'));
    }
    // A lifetime has no quote behind its first character.
    let mut chars = rest.chars();
    if chars.next() == Some('\'') {
        match (chars.next(), chars.next()) {
            (Some('\\'), _) | (Some(_), Some('\'')) => {
                return (Piece::Literal, quoted(rest, b'\''));
            }
            _ => {}
        }
    }
    (Piece::Code, rest.chars().next().map_or(1, char::len_utf8))
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest.as_bytes()[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.as_bytes()[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// Length of the raw string that begins here, if one does.
fn raw_string(rest: &str) -> Option<usize> {
    let body = ["r", "br", "cr"].into_iter().find_map(|prefix| {
        let body = rest.strip_prefix(prefix)?;
        body.starts_with(['#', '"']).then_some(body)
    })?;
    let hashes = body.bytes().take_while(|byte| *byte == b'#').count();
    // Otherwise it is a raw identifier.
    let content = body[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let prefix = rest.len() - content.len();
    Some(content.find(&end).map_or(rest.len(), |at| prefix + at + end.len()))
}

/// Length of the literal that begins and ends with `quote`.
fn quoted(rest: &str, quote: u8) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            byte if byte == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}
