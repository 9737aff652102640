//! The rules, each a function from a file to what offends against it.

use crate::source::{Source, close, parts_of, words};

/// Lines of a file outside of tests.
pub(crate) const FILE_LINES_MAX: usize = 600;
/// Lines of a function outside of tests.
pub(crate) const FUNCTION_LINES_MAX: usize = 70;
/// Characters of a line.
pub(crate) const LINE_CHARS_MAX: usize = 100;

/// Layers that must do the same thing again when they get the same inputs again.
const PURE: [&str; 4] = ["base", "wire", "protocol", "session"];

/// Parts of the standard library that a pure layer must not touch.
const IMPURE: [&str; 9] =
    ["net", "fs", "io", "thread", "process", "env", "sync", "os", "SystemTime"];

/// Words with another, better defined one in their place.
const BANNED: [(&str, &str); 4] =
    [("node", "daemon"), ("nodes", "daemons"), ("server", "daemon"), ("servers", "daemons")];

/// What is wrong, and on which line.
pub(crate) type Offence = (usize, String);

/// Lines, functions and files are short.
pub(crate) fn sizes(source: &Source, offences: &mut Vec<Offence>) {
    let mut lines = 0;
    let mut start = 0;
    for (i, line) in source.text.split_inclusive('\n').enumerate() {
        let chars = line.trim_end().chars().count();
        if chars > LINE_CHARS_MAX {
            offences.push((i + 1, format!("line of {chars} characters")));
        }
        lines += usize::from(!source.is_test(start));
        start += line.len();
    }
    if lines > FILE_LINES_MAX {
        offences.push((1, format!("file of {lines} lines without tests")));
    }
    for (at, word) in source.words().filter(|(at, word)| *word == "fn" && !source.is_test(*at)) {
        let Some(body) = body_of(&source.code, at + word.len()) else { continue };
        let lines = source.code[at..body].matches('\n').count() + 1;
        if lines > FUNCTION_LINES_MAX {
            offences.push((source.line_of(at), format!("function of {lines} lines")));
        }
    }
}

/// The place behind a function's body. `None` where it has none, or is a type.
fn body_of(code: &str, mut at: usize) -> Option<usize> {
    loop {
        let next = at + code[at..].find(['{', ';', '(', '[', '}', ')', ','])?;
        match code.as_bytes()[next] {
            b'(' | b'[' => at = close(code, next),
            b'{' => return Some(close(code, next)),
            _ => return None,
        }
    }
}

/// A layer imports what the table allows.
pub(crate) fn imports(
    source: &Source,
    may: impl Fn(&str, &str) -> bool,
    offences: &mut Vec<Offence>,
) {
    let Some(layer) = source.layer() else { return };
    for (at, imported) in layers_named(source) {
        if !source.is_test(at) && imported != layer && !may(layer, imported) {
            offences.push((source.line_of(at), format!("{layer} imports {imported}")));
        }
    }
}

/// Every layer that the code names by a path from the crate's root.
fn layers_named(source: &Source) -> Vec<(usize, &str)> {
    let code = &source.code;
    let mut named = Vec::new();
    let mut supers = 0;
    let mut supers_end = 0;
    for (at, word) in source.words() {
        let end = at + word.len();
        supers = match word {
            "super" if at == supers_end + 2 => supers + 1,
            "super" => 1,
            _ => 0,
        };
        supers_end = end;
        // The programs use the library by its name, and each is a crate of its own.
        let is_root = match word {
            "madrigal" => source.layer() == Some("bin"),
            _ if source.layer() == Some("bin") => false,
            "crate" => true,
            _ => supers > 0 && supers == source.depth(),
        };
        if is_root && let Some(rest) = code[end..].strip_prefix("::") {
            named.extend(first_names(rest).map(|(offset, name)| (end + 2 + offset, name)));
        }
    }
    named
}

/// The first name of a path, or of each path in a group: `a::b` or `{a::b, c::{d, e}}`.
fn first_names(rest: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = if rest.starts_with('{') { close(rest, 0) } else { 0 };
    let group = &rest[..end];
    let mut depth = 0;
    let mut starts = Vec::new();
    for (at, byte) in group.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 1 && matches!(byte, b'{' | b',') {
            starts.push(at + 1);
        }
    }
    if group.is_empty() {
        starts.push(0);
    }
    starts.into_iter().filter_map(move |start| {
        let (at, name) = words(&rest[start..]).next()?;
        // Behind the last comma of a group there is nothing.
        (end == 0 || start + at < end).then_some((start + at, name))
    })
}

/// The pure layers have no clocks, sockets, threads, seeded maps, and no dependencies.
pub(crate) fn purity(source: &Source, dependencies: &[String], offences: &mut Vec<Offence>) {
    let Some(layer) = source.layer().filter(|layer| PURE.contains(layer)) else { return };
    let code = &source.code;
    for (at, word) in source.words().filter(|(at, _)| !source.is_test(*at)) {
        let is_path = code[at + word.len()..].starts_with("::");
        let is_of_std = code[..at].ends_with("std::") || code[..at].ends_with("time::");
        let what = match word {
            // Their order differs from run to run.
            "HashMap" | "HashSet" if matches!(layer, "protocol" | "session") => word,
            _ if is_of_std && IMPURE.contains(&word) => word,
            _ if is_path && dependencies.iter().any(|name| name == word) => word,
            _ => continue,
        };
        offences.push((source.line_of(at), format!("{layer} uses {what}")));
    }
}

/// `unsafe` stands in `mem` and `sys` alone, and says why it is sound.
pub(crate) fn unsafety(source: &Source, offences: &mut Vec<Offence>) {
    let may_be_unsafe = matches!(source.layer(), None | Some("mem" | "sys"));
    for (at, word) in source.words().filter(|(_, word)| *word == "unsafe") {
        let line = source.line_of(at);
        if !may_be_unsafe {
            offences.push((line, "unsafe outside of mem and sys".to_owned()));
        }
        let next = source.code[at + word.len()..].trim_start();
        if (next.starts_with('{') || next.starts_with("impl")) && !has_safety_comment(source, line)
        {
            offences.push((line, "unsafe without a SAFETY comment".to_owned()));
        }
    }
}

/// Whether the comment above the statement of this line begins with SAFETY.
fn has_safety_comment(source: &Source, line: usize) -> bool {
    let code: Vec<_> = source.code.lines().collect();
    let comments: Vec<_> = source.comments.lines().collect();
    // The comment may stand inside of a statement, or before its first line.
    let is_end = |line: &str| line.ends_with([';', '{', '}']);
    let mut above = line - 1;
    while above > 0 && !is_end(code[above - 1].trim_end()) {
        above -= 1;
        if comments[above].contains("SAFETY:") {
            return true;
        }
    }
    false
}

/// Nothing is unfinished, and nothing is silenced without a reason.
pub(crate) fn excuses(source: &Source, offences: &mut Vec<Offence>) {
    for word in ["todo!", "unimplemented!", "dbg!", "#[ignore"] {
        for (at, _) in source.code.match_indices(word) {
            offences.push((source.line_of(at), format!("{word} is not finished work")));
        }
    }
    let is_exempt = |attribute: &str| {
        attribute.contains("allow(unsafe_code)") && matches!(source.layer(), Some("mem" | "sys"))
    };
    for start in ["allow(", "expect("] {
        for (at, _) in source.code.match_indices(start) {
            let before = &source.code[..at];
            let is_attribute = before.ends_with("#[") || before.ends_with("#![");
            let attribute = &source.code[at..close(&source.code, at + start.len() - 1)];
            if is_attribute && !attribute.contains("reason") && !is_exempt(attribute) {
                offences.push((source.line_of(at), format!("{start}..) without a reason")));
            }
        }
    }
}

/// One word has one meaning.
pub(crate) fn vocabulary(source: &Source, offences: &mut Vec<Offence>) {
    if !source.path.starts_with("src") {
        return;
    }
    for (at, word) in words(&source.text) {
        for part in parts_of(word) {
            if let Some((banned, instead)) = BANNED.iter().find(|(banned, _)| *banned == part) {
                let line = source.line_of(at);
                offences.push((line, format!("\"{banned}\": say {instead}")));
            }
        }
    }
}

/// The state machines have no arm that a new variant would fall into unseen.
pub(crate) fn wildcards(source: &Source, offences: &mut Vec<Offence>) {
    let roots = ["src/protocol/mod.rs", "src/session/mod.rs"];
    let denies = source.code.contains("#![deny(clippy::wildcard_enum_match_arm)]");
    if roots.iter().any(|root| source.path == std::path::Path::new(root)) && !denies {
        offences.push((1, "lacks #![deny(clippy::wildcard_enum_match_arm)]".to_owned()));
    }
}
