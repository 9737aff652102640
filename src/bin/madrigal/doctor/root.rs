//! Files below a root: `/` for this host, or a copy of another host's `/proc` and `/sys`.
//!
//! Reading is total: what cannot be read, or is not what was expected, is `None`.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Longest file that is looked at; the longest that a kernel writes here has a line for each CPU
/// and interrupt.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Entries of a directory that are looked at.
const ENTRIES_MAX: usize = 16 * 1024;

/// Where `proc` and `sys` lie.
pub(crate) struct Root(PathBuf);

impl Root {
    /// Reads below `path`.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Whether it is this host's own, so that the kernel may be asked as well.
    pub(crate) fn is_this_host(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// Whether there is such a file or directory.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.0.join(path).exists()
    }

    /// All of a file; bytes that are no text are replaced.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        let path = self.0.join(path);
        // Anything else, such as a pipe, could keep us waiting.
        if !fs::metadata(&path).ok()?.is_file() {
            return None;
        }
        let mut bytes = Vec::new();
        File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A file that holds one line that people can read.
    pub(crate) fn line(&self, path: &str) -> Option<String> {
        let text = self.text(path)?;
        let line = text.trim();
        let is_line = !line.is_empty() && line.len() <= 256 && !line.contains(char::is_control);
        is_line.then(|| line.to_owned())
    }

    /// A file that holds one number, or several of which the first counts.
    pub(crate) fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.split_whitespace().next()?.parse().ok()
    }

    /// The choice in brackets, as in `always [madvise] never`.
    pub(crate) fn choice(&self, path: &str) -> Option<String> {
        let line = self.line(path)?;
        let (_, rest) = line.split_once('[')?;
        Some(rest.split_once(']')?.0.to_owned())
    }

    /// A set of CPUs.
    pub(crate) fn cpus(&self, path: &str) -> Option<Vec<usize>> {
        parse_cpus(&self.text(path)?)
    }

    /// Names in a directory, in order.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.0.join(path)) else { return Vec::new() };
        let names = entries
            .take(ENTRIES_MAX)
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }
}

/// CPUs beyond this are not looked at: more than any kernel is built for.
const CPUS_MAX: usize = 8192;

/// Parses `0-3,8`; nothing at all is the empty set.
pub(crate) fn parse_cpus(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for range in text.trim().split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= CPUS_MAX || cpus.len() > CPUS_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// Parses a mask such as `00000000,00000003`, the lowest CPU in the last digit.
pub(crate) fn parse_cpu_mask(text: &str) -> Option<Vec<usize>> {
    let digits: Vec<u32> = text
        .trim()
        .chars()
        .filter(|&digit| digit != ',')
        .map(|digit| digit.to_digit(16))
        .collect::<Option<_>>()?;
    if digits.len() > CPUS_MAX / 4 {
        return None;
    }
    let bits = digits.iter().rev().enumerate().flat_map(|(index, digit)| {
        (0..4).filter(move |bit| digit >> bit & 1 == 1).map(move |bit| index * 4 + bit)
    });
    Some(bits.collect())
}

/// CPUs as they are written.
pub(crate) fn show_cpus(cpus: &[usize]) -> String {
    let mut text = String::new();
    let mut rest = cpus;
    while let [first, ..] = *rest {
        let mut run = 1;
        while rest.get(run) == Some(&(first + run)) {
            run += 1;
        }
        let comma = if text.is_empty() { "" } else { "," };
        match run {
            1 => text += &format!("{comma}{first}"),
            _ => text += &format!("{comma}{first}-{}", first + run - 1),
        }
        rest = &rest[run..];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_cpus_are_read_and_written() {
        for (text, cpus) in
            [("0-3,8\n", vec![0, 1, 2, 3, 8]), ("", vec![]), ("\n", vec![]), ("5", vec![5])]
        {
            assert_eq!(parse_cpus(text), Some(cpus.clone()), "{text:?}");
            assert_eq!(show_cpus(&cpus), text.trim());
        }
        for text in ["x", "3-1", "0-99999999999", "0-99999", "-", "1-2-3", "0-8000,0-8000,0-8000"] {
            assert_eq!(parse_cpus(text), None, "{text:?}");
        }
    }

    #[test]
    fn masks_count_from_the_right() {
        assert_eq!(parse_cpu_mask("00000001,00000005\n"), Some(vec![0, 2, 32]));
        assert_eq!(parse_cpu_mask("0"), Some(vec![]));
        assert_eq!(parse_cpu_mask("xyz"), None);
        assert_eq!(parse_cpu_mask(&"f".repeat(10_000)), None);
    }

    #[test]
    fn only_ordinary_files_are_read() {
        let directory = tempfile::TempDir::new().unwrap();
        std::fs::write(directory.path().join("choice"), "always [madvise] never\n").unwrap();
        std::fs::write(directory.path().join("bytes"), [0xff, 0, 7]).unwrap();
        let root = Root::new(directory.path().to_owned());
        assert_eq!(root.choice("choice").as_deref(), Some("madvise"));
        assert_eq!(root.number("choice"), None);
        assert_eq!(root.line("bytes"), None);
        assert_eq!(root.text("."), None);
        assert_eq!(root.names("."), ["bytes", "choice"]);
        assert!(!root.is_this_host());
    }
}
