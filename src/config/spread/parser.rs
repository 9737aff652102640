//! Tokens to statements: parameters and segments, each with its place in the text. Spread stops at
//! the first mistake; here the rest is read from the next keyword on, so that all come at once.

use std::net::IpAddr;
use std::ops::Range;

use super::keyword::{self, FLAGS, Form, Keyword, SEGMENT, VIRTUAL_ID};
use super::lexer::{Kind, Token, tokens};

/// Mistakes after which the rest is not read: it may not be a `spread.conf` at all.
const MISTAKES_MAX: usize = 20;

/// Interfaces of one daemon.
const INTERFACES_MAX: usize = 10;

/// Addresses of one segment.
const SEGMENT_ADDRESSES_MAX: usize = 5;

/// Something that a file says.
#[derive(Debug)]
pub(super) enum Statement<'t> {
    Parameter { keyword: &'static Keyword, value: Value<'t>, span: Range<usize> },
    Segment(Segment<'t>),
}

/// What stands behind a keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'t> {
    Nothing,
    Number(u32),
    Boolean(bool),
    Text(&'t str),
}

/// A segment.
#[derive(Debug)]
pub(super) struct Segment<'t> {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) port: u16,
    pub(super) daemons: Vec<Entry<'t>>,
    pub(super) span: Range<usize>,
}

/// A daemon.
#[derive(Debug)]
pub(super) struct Entry<'t> {
    pub(super) name: Option<&'t str>,
    pub(super) address: Option<IpAddr>,
    pub(super) id: Option<u32>,
    pub(super) interfaces: Option<Vec<Interface>>,
    pub(super) span: Range<usize>,
}

/// Where a daemon listens, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) address: IpAddr,
    pub(super) daemons: bool,
    pub(super) clients: bool,
    pub(super) span: Range<usize>,
}

/// What is wrong, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) span: Range<usize>,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Mistake {
    pub(super) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), help: None }
    }
}

type Parsed<T> = Result<T, Mistake>;

/// Reads all of a text.
pub(super) fn parse(text: &str) -> (Vec<Statement<'_>>, Vec<Mistake>) {
    let mut parser = Parser { text, tokens: tokens(text), at: 0 };
    let (mut statements, mut mistakes) = (Vec::new(), Vec::new());
    while parser.at < parser.tokens.len() && mistakes.len() < MISTAKES_MAX {
        match parser.statement() {
            Ok(statement) => statements.push(statement),
            Err(mistake) => {
                mistakes.push(mistake);
                parser.skip();
            }
        }
    }
    (statements, mistakes)
}

struct Parser<'t> {
    text: &'t str,
    tokens: Vec<Token<'t>>,
    at: usize,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> Option<&Kind<'t>> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    /// The bytes of the next token; nothing behind the last.
    fn span(&self) -> Range<usize> {
        let end = self.text.trim_end().len();
        self.tokens.get(self.at).map_or(end..end, |token| token.span.clone())
    }

    /// From `start` to the end of the last token that was taken.
    fn since(&self, start: usize) -> Range<usize> {
        let last = self.at.checked_sub(1).and_then(|at| self.tokens.get(at));
        start..last.map_or(start, |token| token.span.end)
    }

    fn takes(&mut self, kind: &Kind<'_>) -> bool {
        let is_next = self.peek() == Some(kind);
        self.at += usize::from(is_next);
        is_next
    }

    /// A mistake at the next token.
    fn unexpected<T>(&self, place: &str, allowed: &str) -> Parsed<T> {
        let message = format!("{place} {} stands, but allowed is {allowed}", self.found());
        Err(Mistake { help: self.guess(), ..Mistake::new(self.span(), message) })
    }

    /// A mistake in the value of a keyword.
    fn wrong_value<T>(&self, keyword: &str, allowed: &str) -> Parsed<T> {
        let message = format!("`{keyword}` is {}, but allowed is {allowed}", self.found());
        Err(Mistake { help: self.guess(), ..Mistake::new(self.span(), message) })
    }

    /// The next token as the file has it, cut where it is long.
    fn found(&self) -> String {
        const CHARS_MAX: usize = 40;
        match self.text.get(self.span()).unwrap_or_default() {
            "" => "nothing".to_owned(),
            found if found.chars().count() > CHARS_MAX => {
                format!("`{}...`", found.chars().take(CHARS_MAX).collect::<String>())
            }
            found => format!("`{found}`"),
        }
    }

    /// What white space is missing, if that may be it.
    fn guess(&self) -> Option<String> {
        let Some(Kind::Text(text)) = self.peek() else { return None };
        sticking(text)
    }

    /// Goes to the next keyword of the top level, at least by one token.
    fn skip(&mut self) {
        self.at += 1;
        let begins = |kind: &Kind<'_>| match kind {
            Kind::Keyword(word) => *word == SEGMENT || keyword::find(word).is_some(),
            _ => false,
        };
        while self.peek().is_some_and(|kind| !begins(kind)) {
            self.at += 1;
        }
    }

    fn statement(&mut self) -> Parsed<Statement<'t>> {
        let start = self.span().start;
        let Some(&Kind::Keyword(word)) = self.peek() else {
            return self.unexpected("here", "a keyword, such as Spread_Segment");
        };
        if word == SEGMENT {
            self.at += 1;
            return self.segment(start).map(Statement::Segment);
        }
        let Some(keyword) = keyword::find(word) else {
            return self.unexpected("here", "a keyword of the top level");
        };
        self.at += 1;
        let value = self.value(keyword)?;
        Ok(Statement::Parameter { keyword, value, span: self.since(start) })
    }

    fn value(&mut self, keyword: &Keyword) -> Parsed<Value<'t>> {
        let name = keyword.name;
        let has_value = match keyword.form {
            Form::Alone => false,
            Form::OptionalText(_) => self.peek() == Some(&Kind::Mark('=')),
            _ => true,
        };
        if !has_value {
            return Ok(Value::Nothing);
        }
        if !self.takes(&Kind::Mark('=')) {
            return self.unexpected(&format!("behind `{name}`"), "`=`");
        }
        if keyword.form == Form::Flags {
            return self.flags().map(|()| Value::Nothing);
        }
        let value = match (keyword.form, self.peek()) {
            (Form::Number(least), Some(&Kind::Number(number))) if number >= least => {
                Some(Value::Number(number))
            }
            (Form::Boolean, Some(&Kind::Boolean(value))) => Some(Value::Boolean(value)),
            (Form::Switch, Some(Kind::Switch)) => Some(Value::Nothing),
            (Form::Word(words), Some(&Kind::Keyword(word))) if words.contains(&word) => {
                Some(Value::Text(word))
            }
            (Form::Text(max) | Form::OptionalText(max), Some(&Kind::Text(text))) => {
                (text.len() <= max).then_some(Value::Text(text))
            }
            _ => None,
        };
        let Some(value) = value else {
            return self.wrong_value(name, &allowed(keyword.form));
        };
        self.at += 1;
        Ok(value)
    }

    fn flags(&mut self) -> Parsed<()> {
        if !self.takes(&Kind::Mark('{')) {
            return self.wrong_value("DebugFlags", &allowed(Form::Flags));
        }
        while !self.takes(&Kind::Mark('}')) {
            self.takes(&Kind::Mark('!'));
            let is_flag = match self.peek() {
                Some(Kind::Keyword(word)) => FLAGS.contains(word),
                Some(Kind::Text(text)) => {
                    text.strip_prefix('!').is_some_and(|it| FLAGS.contains(&it))
                }
                _ => false,
            };
            if !is_flag {
                return self.unexpected("as a flag", &FLAGS.join(" | "));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn segment(&mut self, start: usize) -> Parsed<Segment<'t>> {
        let (first, port) = match self.peek() {
            Some(&Kind::Address(address)) => (address, 0),
            Some(&Kind::Place(address, port)) => (address, port),
            _ => {
                return self
                    .unexpected("behind `Spread_Segment`", "an address, with a port or not");
            }
        };
        self.at += 1;
        let mut addresses = vec![first];
        while let Some(&Kind::Address(address)) = self.peek() {
            if addresses.len() == SEGMENT_ADDRESSES_MAX {
                return self.unexpected("behind five addresses", "`{`");
            }
            addresses.push(address);
            self.at += 1;
        }
        let span = self.since(start);
        if !self.takes(&Kind::Mark('{')) {
            return self.unexpected("behind the addresses", "`{` and daemons");
        }
        let mut daemons = Vec::new();
        while !self.takes(&Kind::Mark('}')) {
            daemons.push(self.entry()?);
        }
        let port = if port == 0 { 4803 } else { port };
        Ok(Segment { addresses, port, daemons, span })
    }

    fn entry(&mut self) -> Parsed<Entry<'t>> {
        let start = self.span().start;
        let name = match self.peek() {
            Some(&Kind::Text(name)) => Some(name),
            Some(Kind::Address(_)) => None,
            _ => return self.unexpected("in a segment", "a daemon's name or address, or `}`"),
        };
        self.at += usize::from(name.is_some());
        let address = match self.peek() {
            Some(&Kind::Address(address)) => Some(address),
            Some(Kind::Place(..) | Kind::BadPort) => {
                return self.unexpected("behind a daemon's name", "an address without a port");
            }
            _ => None,
        };
        self.at += usize::from(address.is_some());
        let span = self.since(start);
        let id = if self.takes(&Kind::Keyword(VIRTUAL_ID)) { Some(self.id()?) } else { None };
        let has_block = self.takes(&Kind::Mark('{'));
        let interfaces = if has_block { Some(self.interfaces()?) } else { None };
        self.takes(&Kind::Mark(';'));
        Ok(Entry { name, address, id, interfaces, span })
    }

    fn id(&mut self) -> Parsed<u32> {
        if !self.takes(&Kind::Mark('=')) {
            return self.unexpected("behind `VirtualID`", "`=`");
        }
        match self.peek() {
            Some(&Kind::Number(id)) if id > 0 => {
                self.at += 1;
                Ok(id)
            }
            _ => self.wrong_value("VirtualID", "1 to 999999999"),
        }
    }

    fn interfaces(&mut self) -> Parsed<Vec<Interface>> {
        let mut interfaces = Vec::new();
        loop {
            if !interfaces.is_empty() && self.takes(&Kind::Mark('}')) {
                return Ok(interfaces);
            }
            if interfaces.len() == INTERFACES_MAX {
                return self.unexpected("behind ten interfaces", "`}`");
            }
            interfaces.push(self.interface()?);
        }
    }

    fn interface(&mut self) -> Parsed<Interface> {
        let start = self.span().start;
        let (mut daemons, mut clients, mut any) = (false, false, true);
        while let Some(&Kind::Keyword(letter @ ("D" | "C" | "M"))) = self.peek() {
            daemons |= letter == "D";
            clients |= letter == "C";
            any = false;
            self.at += 1;
        }
        let Some(&Kind::Address(address)) = self.peek() else {
            return self
                .unexpected("in a list of interfaces", "D, C, M or an address without a port");
        };
        self.at += 1;
        let (daemons, clients) = (daemons || any, clients || any);
        Ok(Interface { address, daemons, clients, span: self.since(start) })
    }
}

/// Says so where a mark was taken for a part of a name.
pub(super) fn sticking(text: &str) -> Option<String> {
    let sticks = |mark: char| text.len() > 1 && text.contains(mark);
    let mark = [';', '='].into_iter().find(|&mark| sticks(mark))?;
    Some(format!("`{mark}` needs white space on both sides, or it is part of a name"))
}

/// Says so where an address was meant.
pub(super) fn mistyped(text: &str) -> Option<String> {
    let is_address = |text: &str| text.chars().all(|it| it.is_ascii_digit() || ".:-".contains(it));
    let short: String = text.chars().take(40).collect();
    (!text.is_empty() && is_address(text)).then(|| format!("`{short}` is no valid address"))
}

fn allowed(form: Form) -> String {
    match form {
        Form::Flags => "flags in braces, `{ ALL !DATA_LINK }`".to_owned(),
        Form::Word(words) => words.join(" | "),
        Form::Text(usize::MAX) | Form::OptionalText(usize::MAX) => {
            "a text; numbers and keywords in quotes".to_owned()
        }
        Form::Text(max) | Form::OptionalText(max) => {
            format!("a text of at most {max} characters; numbers and keywords in quotes")
        }
        Form::Alone => "nothing".to_owned(),
        Form::Boolean => "true | yes | false | no".to_owned(),
        Form::Switch => "on | off | auto".to_owned(),
        Form::Number(least) => format!("{least} to 999999999"),
    }
}
