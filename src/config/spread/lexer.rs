//! Text to tokens, by Spread's rules: a token is as long as it can be, so white space around `=` and
//! `;` is needed, and a name may hold almost anything.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::keyword;

/// A piece of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token<'t> {
    pub(super) kind: Kind<'t>,
    /// Its bytes in the text.
    pub(super) span: Range<usize>,
}

/// What a piece is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind<'t> {
    /// One of `{ } = : ; !`.
    Mark(char),
    /// 1 to 9 digits.
    Number(u32),
    /// true or yes, false or no.
    Boolean(bool),
    /// on, off or auto.
    Switch,
    /// A word that has a meaning everywhere.
    Keyword(&'t str),
    /// An address, without its zone.
    Address(IpAddr),
    /// An address and a port.
    Place(IpAddr, u16),
    /// An address and a port that is none.
    BadPort,
    /// Anything else, or anything in quotes.
    Text(&'t str),
}

/// The tokens of a text. What begins none is left out.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let (len, kind) = match first {
            '#' => (rest.find('\n').unwrap_or(rest.len()), None),
            '{' | '}' => (1, Some(Kind::Mark(first))),
            '[' => match bracketed(rest) {
                Some((len, kind)) => (len, Some(kind)),
                None => (1, None),
            },
            ']' => (1, None),
            first if first.is_whitespace() => (first.len_utf8(), None),
            first => word(rest, first),
        };
        let span = at..at + len;
        tokens.extend(kind.map(|kind| Token { kind, span }));
        at += len;
    }
    tokens
}

/// The longest token that begins with `first`, which is no space.
fn word(rest: &str, first: char) -> (usize, Option<Kind<'_>>) {
    let ends = |char: char| char.is_whitespace() || "#{}[]".contains(char);
    let run = &rest[..rest.find(ends).unwrap_or(rest.len())];
    if first == '"' || first == '\'' {
        let inside = rest[1..].find(first).map(|len| &rest[1..1 + len]);
        if let Some(inside) = inside.filter(|inside| inside.len() + 2 >= run.len()) {
            return (inside.len() + 2, Some(Kind::Text(inside)));
        }
    }
    (run.len(), Some(class(run)))
}

fn class(run: &str) -> Kind<'_> {
    let mut chars = run.chars();
    if let (Some(mark @ ('=' | ':' | ';' | '!')), None) = (chars.next(), chars.next()) {
        return Kind::Mark(mark);
    }
    if run.len() <= 9 && run.bytes().all(|byte| byte.is_ascii_digit()) {
        return run.parse().map_or(Kind::Text(run), Kind::Number);
    }
    let is = |words: &[&str]| words.iter().any(|word| run.eq_ignore_ascii_case(word));
    if is(&["true", "yes"]) || is(&["false", "no"]) {
        return Kind::Boolean(is(&["true", "yes"]));
    }
    if is(&["on", "off", "auto"]) {
        return Kind::Switch;
    }
    if keyword::is_reserved(run) {
        return Kind::Keyword(run);
    }
    address(run).unwrap_or(Kind::Text(run))
}

/// An address, with a port or not.
fn address(run: &str) -> Option<Kind<'_>> {
    if let Some(address) = ipv4(run) {
        return Some(Kind::Address(address.into()));
    }
    if let Some((address, port)) = run.split_once(':')
        && let Some(address) = ipv4(address)
    {
        return Some(place(address.into(), port).unwrap_or(Kind::Text(run)));
    }
    Some(Kind::Address(ipv6(run)?.into()))
}

fn place(address: IpAddr, port: &str) -> Option<Kind<'static>> {
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| port.parse().map_or(Kind::BadPort, |port| Kind::Place(address, port)))
}

/// Four groups of one to three digits.
fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut groups = text.split('.');
    for octet in &mut octets {
        let group = groups.next()?;
        let is_group = group.len() <= 3 && group.bytes().all(|byte| byte.is_ascii_digit());
        *octet = group.parse().ok().filter(|_| is_group)?;
    }
    groups.next().is_none().then(|| octets.into())
}

/// An address without an embedded IPv4 one, and perhaps with a zone.
fn ipv6(text: &str) -> Option<Ipv6Addr> {
    let (address, _zone) = text.split_once('%').unwrap_or((text, ""));
    address.parse().ok().filter(|_| !address.contains('.'))
}

/// `[address]:port`.
fn bracketed(rest: &str) -> Option<(usize, Kind<'_>)> {
    let (inside, behind) = rest[1..].split_once(']')?;
    let address = ipv6(inside)?;
    let digits = behind.strip_prefix(':')?;
    let end = digits.find(|char: char| !char.is_ascii_digit()).unwrap_or(digits.len());
    let kind = place(address.into(), &digits[..end])?;
    Some((inside.len() + 3 + end, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind<'_>> {
        tokens(text).into_iter().map(|token| token.kind).collect()
    }

    #[test]
    fn longest_token_wins() {
        use Kind::{Keyword, Mark, Number, Text};
        assert_eq!(
            kinds("MaxSessionMessages = 5"),
            [Keyword("MaxSessionMessages"), Mark('='), Number(5)]
        );
        assert_eq!(kinds("MaxSessionMessages=5"), [Text("MaxSessionMessages=5")]);
        assert_eq!(kinds("127.0.0.1;"), [Text("127.0.0.1;")]);
        assert_eq!(kinds("a{b}c"), [Text("a"), Mark('{'), Text("b"), Mark('}'), Text("c")]);
        assert_eq!(kinds("name#comment {\n; "), [Text("name"), Mark(';')]);
        assert_eq!(kinds("\"a b # { \n c\"'d'"), [Text("a b # { \n c"), Text("d")]);
        assert_eq!(kinds("\"a\"b \"c"), [Text("\"a\"b"), Text("\"c")]);
    }

    #[test]
    fn words_are_what_spread_takes_them_for() {
        use Kind::{Boolean, Keyword, Number, Switch, Text};
        assert_eq!(
            kinds("YES no On auto D \"D\" 123456789 1234567890 window Window"),
            [
                Boolean(true),
                Boolean(false),
                Switch,
                Switch,
                Keyword("D"),
                Text("D"),
                Number(123_456_789),
                Text("1234567890"),
                Text("window"),
                Keyword("Window"),
            ]
        );
    }

    #[test]
    fn addresses_are_seen() {
        use Kind::{Address, BadPort, Place, Text};
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(
            kinds("10.0.0.1 010.0.0.1 10.0.0.1:4803 999.0.0.1 10.0.0 10.0.0.1:70000 10.0.0.1:x"),
            [
                Address(ip("10.0.0.1")),
                Address(ip("10.0.0.1")),
                Place(ip("10.0.0.1"), 4803),
                Text("999.0.0.1"),
                Text("10.0.0"),
                BadPort,
                Text("10.0.0.1:x"),
            ]
        );
        assert_eq!(
            kinds("ff02::1:2 fe80::1%eth0 [ff02::1:2]:5000{ ::ffff:1.2.3.4 [ ]"),
            [
                Address(ip("ff02::1:2")),
                Address(ip("fe80::1")),
                Place(ip("ff02::1:2"), 5000),
                Kind::Mark('{'),
                Text("::ffff:1.2.3.4"),
            ]
        );
    }

    proptest::proptest! {
        #[test]
        fn tokens_are_in_order_and_within_the_text(text in proptest::prelude::any::<String>()) {
            let mut end = 0;
            for token in tokens(&text) {
                assert!(token.span.start >= end && token.span.start < token.span.end);
                end = token.span.end;
                assert!(text.get(token.span).is_some());
            }
        }
    }
}
