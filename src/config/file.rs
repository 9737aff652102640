//! Text to values that know their place. Which keys there are, and what they may hold: `check.rs`.

use std::ops::{Range, RangeInclusive};
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Choice;
use super::error::{ConfigError, Problem, Problems};

/// A key of the file, as it was asked for.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) section: &'static str,
    pub(super) name: &'static str,
    /// What it may hold.
    pub(super) allowed: String,
}

/// A parsed file that notes which keys it was asked for, and what was wrong with them.
pub(super) struct Document<'t> {
    path: &'t Path,
    text: &'t str,
    root: DeTable<'t>,
    keys: Vec<Key>,
    problems: Vec<Problem>,
    notes: Vec<Problem>,
}

/// One `[section]` of the file, which may be absent, or one table of a list in it.
pub(super) struct Section<'d, 't> {
    document: &'d mut Document<'t>,
    /// Of a table in a list `section.list`.
    name: &'static str,
    /// Which table of the list it is.
    element: Option<usize>,
}

impl<'t> Document<'t> {
    /// Takes `text` apart.
    pub(super) fn parse(text: &'t str, path: &'t Path) -> Result<Self, ConfigError> {
        match DeTable::parse(text) {
            Ok(root) => {
                let root = root.into_inner();
                let (keys, problems, notes) = (Vec::new(), Vec::new(), Vec::new());
                Ok(Self { path, text, root, keys, problems, notes })
            }
            Err(error) => {
                let span = error.span().unwrap_or(0..0);
                let problem = Problem::new(path, text, span, error.message().to_owned());
                Err(ConfigError::Invalid(Problems(vec![problem])))
            }
        }
    }

    /// The file that it came from.
    pub(super) fn path(&self) -> &'t Path {
        self.path
    }

    /// The keys of one section.
    pub(super) fn section(&mut self, name: &'static str) -> Section<'_, 't> {
        if let Some((_, value)) = self.root.get_key_value(name)
            && !matches!(value.get_ref(), DeValue::Table(_))
        {
            let found = found(self.text, value.span());
            let message = format!("`{name}` is {found}, but it must be a section: [{name}]");
            self.blame(value.span(), message);
        }
        Section { document: self, name, element: None }
    }

    /// All keys that were asked for.
    #[cfg(test)]
    pub(super) fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Ends the reading: whatever was not asked for is unknown. Returns what there is to say of a
    /// file that is right.
    pub(super) fn finish(mut self) -> Result<Vec<Problem>, ConfigError> {
        let mut unknown = Vec::new();
        for (section, value) in &self.root {
            let name = section.get_ref().as_ref();
            let known = self.keys.iter().any(|key| key.section == name);
            match value.get_ref() {
                DeValue::Table(table) if known => {
                    let of_section = |key: &&Key| key.section == name;
                    unknown.extend(
                        table
                            .keys()
                            .filter(|key| {
                                let key = key.get_ref().as_ref();
                                !self.keys.iter().filter(of_section).any(|known| known.name == key)
                            })
                            .map(|key| self.unknown_key(name, key)),
                    );
                }
                // Said so when the section was opened.
                _ if known => {}
                _ => unknown.push(self.unknown_section(section)),
            }
        }
        self.problems.append(&mut unknown);
        if self.problems.is_empty() {
            return Ok(self.notes);
        }
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        Err(ConfigError::Invalid(Problems(self.problems)))
    }

    fn unknown_key(&self, section: &str, key: &Spanned<toml::de::DeString<'_>>) -> Problem {
        let name = key.get_ref().as_ref();
        let message = format!("`{section}.{name}` is not a key");
        let siblings = self.keys.iter().filter(|key| key.section == section);
        let nearest = nearest(name, siblings.map(|key| (key.name, key)));
        let meant = |key: &Key| format!("did you mean `{}`? It is {}", key.name, key.allowed);
        Problem {
            help: nearest.map(meant).or_else(|| self.home_of(name)),
            ..Problem::new(self.path, self.text, key.span(), message)
        }
    }

    fn unknown_section(&self, section: &Spanned<toml::de::DeString<'_>>) -> Problem {
        let name = section.get_ref().as_ref();
        let message = format!("`{name}` is not a section");
        let nearest = nearest(name, self.keys.iter().map(|key| (key.section, key)));
        let meant = |key: &Key| format!("did you mean [{}]?", key.section);
        Problem {
            help: self.home_of(name).or_else(|| nearest.map(meant)),
            ..Problem::new(self.path, self.text, section.span(), message)
        }
    }

    /// Where a key that stands in the wrong section belongs.
    fn home_of(&self, name: &str) -> Option<String> {
        let homes = self.keys.iter().filter(|key| key.name == name);
        let homes: Vec<_> = homes.map(|key| format!("[{}]", key.section)).collect();
        (!homes.is_empty()).then(|| format!("`{name}` belongs into section {}", homes.join(" or ")))
    }

    fn blame(&mut self, span: Range<usize>, message: String) {
        self.problems.push(Problem::new(self.path, self.text, span, message));
    }
}

impl<'t> Section<'_, 't> {
    /// The value of a key as `convert` understands it; `default` where it is absent or wrong.
    pub(super) fn value<T>(
        &mut self,
        name: &'static str,
        default: T,
        allowed: String,
        convert: impl Fn(&DeValue<'_>) -> Option<T>,
    ) -> T {
        let section = self.name;
        let document = &mut *self.document;
        let is_new = |key: &Key| key.section != section || key.name != name;
        if document.keys.iter().all(is_new) {
            document.keys.push(Key { section, name, allowed: allowed.clone() });
        }
        let Some(value) = find(&document.root, section, self.element, name) else {
            return default;
        };
        match convert(value.get_ref()) {
            Some(value) => value,
            None => {
                let found = found(document.text, value.span());
                let message = format!("`{section}.{name}` is {found}, but allowed is {allowed}");
                document.blame(value.span(), message);
                default
            }
        }
    }

    /// A number within `range`.
    pub(super) fn integer(
        &mut self,
        name: &'static str,
        default: usize,
        range: RangeInclusive<usize>,
    ) -> usize {
        let allowed = format!("{} to {}", range.start(), range.end());
        self.value(name, default, allowed, |value| {
            integer(value).filter(|number| range.contains(number))
        })
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, name: &'static str, default: bool) -> bool {
        self.value(name, default, "true | false".to_owned(), |value| match value {
            DeValue::Boolean(value) => Some(*value),
            _ => None,
        })
    }

    /// One word of a few.
    pub(super) fn choice<C: Choice>(&mut self, name: &'static str, default: C) -> C {
        self.value(name, default, C::words(), |value| string(value).and_then(C::from_word))
    }

    /// A list of different things, each as `convert` understands it; `default` where any is wrong.
    pub(super) fn list<T: PartialEq>(
        &mut self,
        name: &'static str,
        default: Vec<T>,
        max: usize,
        allowed: &str,
        convert: impl Fn(&DeValue<'_>) -> Option<T>,
    ) -> Vec<T> {
        let section = self.name;
        let of_all = format!("a list of {allowed}, at most {max}, each once");
        let is_short_list = |value: &DeValue<'_>| match value {
            DeValue::Array(array) if array.len() <= max => Some(true),
            _ => None,
        };
        if !self.value(name, false, of_all, is_short_list) {
            return default;
        }
        let document = &mut *self.document;
        let value = find(&document.root, section, self.element, name).map(Spanned::get_ref);
        let Some(DeValue::Array(array)) = value else { return default };
        let mut list = Vec::new();
        let mut wrong = Vec::new();
        for element in array.iter() {
            let why = match convert(element.get_ref()) {
                Some(value) if list.contains(&value) => "is there twice".to_owned(),
                Some(value) => {
                    list.push(value);
                    continue;
                }
                None => format!("is in the list, but allowed is {allowed}"),
            };
            let found = found(document.text, element.span());
            wrong.push((element.span(), format!("`{section}.{name}`: {found} {why}")));
        }
        if wrong.is_empty() {
            return list;
        }
        for (span, message) in wrong {
            document.blame(span, message);
        }
        default
    }

    /// Says that a value, legal by itself, does not go with the rest.
    pub(super) fn conflict(&mut self, name: &'static str, why: &str) {
        let span = self.place(name);
        self.document.blame(span, format!("`{}.{name}` {why}", self.name));
    }

    /// Says something of a value that may stand.
    pub(super) fn note(&mut self, name: &'static str, what: &str) {
        let (span, message) = (self.place(name), format!("`{}.{name}` {what}", self.name));
        let document = &mut *self.document;
        document.notes.push(Problem::new(document.path, document.text, span, message));
    }

    /// Where a key stands; the section's or the file's beginning where it is absent.
    fn place(&self, name: &str) -> Range<usize> {
        let root = &self.document.root;
        find(root, self.name, self.element, name)
            .map(Spanned::span)
            .or_else(|| {
                let element = self.element.and(table(root, self.name, self.element));
                element.map(Spanned::span)
            })
            .or_else(|| Some(root.get_key_value(self.name)?.0.span()))
            .unwrap_or(0..0)
    }

    /// How many tables are in the list `name`; none where it is wrong.
    pub(super) fn elements(&mut self, name: &'static str, max: usize) -> usize {
        let allowed = format!("a list of {name}, each a table, at most {max}");
        self.value(name, 0, allowed, |value| match value {
            DeValue::Array(array) => {
                let tables = array.iter().all(|it| matches!(it.get_ref(), DeValue::Table(_)));
                (tables && array.len() <= max).then_some(array.len())
            }
            _ => None,
        })
    }

    /// One of the tables in a list of this section, `name` being `section.list`.
    pub(super) fn element(&mut self, name: &'static str, index: usize) -> Section<'_, 't> {
        Section { document: self.document, name, element: Some(index) }
    }

    /// Ends the reading of a table in a list: whatever was not asked for is unknown.
    pub(super) fn finish(self) {
        let document = self.document;
        let found = table(&document.root, self.name, self.element).map(Spanned::get_ref);
        let Some(DeValue::Table(found)) = found else { return };
        let known = |name: &str| {
            document.keys.iter().any(|key| key.section == self.name && key.name == name)
        };
        let unknown = found.keys().filter(|key| !known(key.get_ref().as_ref()));
        let mut unknown = unknown.map(|key| document.unknown_key(self.name, key)).collect();
        document.problems.append(&mut unknown);
    }
}

/// The text of a string value.
pub(super) fn string<'v>(value: &'v DeValue<'_>) -> Option<&'v str> {
    match value {
        DeValue::String(text) => Some(text),
        _ => None,
    }
}

/// The number of an integer value, unless it is negative or immense.
pub(super) fn integer(value: &DeValue<'_>) -> Option<usize> {
    match value {
        DeValue::Integer(number) => usize::from_str_radix(number.as_str(), number.radix()).ok(),
        _ => None,
    }
}

fn find<'r, 't>(
    root: &'r DeTable<'t>,
    section: &str,
    element: Option<usize>,
    name: &str,
) -> Option<&'r Spanned<DeValue<'t>>> {
    match table(root, section, element)?.get_ref() {
        DeValue::Table(table) => table.get(name),
        _ => None,
    }
}

/// A section, or a table of a list in one.
fn table<'r, 't>(
    root: &'r DeTable<'t>,
    section: &str,
    element: Option<usize>,
) -> Option<&'r Spanned<DeValue<'t>>> {
    let Some(index) = element else { return root.get(section) };
    let (section, list) = section.split_once('.')?;
    match find(root, section, None, list)?.get_ref() {
        DeValue::Array(array) => array.get(index),
        _ => None,
    }
}

/// A value as the file has it, cut where it is long.
fn found(text: &str, span: Range<usize>) -> String {
    const CHARS_MAX: usize = 40;
    let source = text.get(span).unwrap_or_default();
    let line = source.lines().next().unwrap_or_default();
    let short: String = line.chars().take(CHARS_MAX).collect();
    if short.len() < source.len() { format!("{short}...") } else { short }
}

/// What `name` was probably meant to be, if one of the candidates is near.
fn nearest<'k>(name: &str, keys: impl Iterator<Item = (&'k str, &'k Key)>) -> Option<&'k Key> {
    let (distance, longest, key) = keys
        .map(|(candidate, key)| (distance(name, candidate), candidate.len(), key))
        .min_by_key(|(distance, ..)| *distance)?;
    (distance * 2 <= longest).then_some(key)
}

/// Levenshtein's distance: how many bytes to insert, delete or change.
fn distance(a: &str, b: &str) -> usize {
    // A name is compared with a few keys at start-up; a hostile one is cut, not worked on.
    let a = &a.as_bytes()[..a.len().min(64)];
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.bytes().enumerate() {
            let change = diagonal + usize::from(*from != to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
