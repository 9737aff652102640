//! What can be typed in `madrigal user`: text -> [`Command`].

use std::time::Duration;

use madrigal::base::Service;

use crate::units::parse_duration;

/// What `help` prints.
pub(crate) const HELP: &str = "\
join GROUP...            j   join groups
leave GROUP...           l   leave groups
send GROUPS [TEXT]       s   multicast TEXT with the service in use; several groups with commas
                             between them; without TEXT, the lines that follow, up to a line '.'
agreed GROUPS [TEXT]         as send, with this service; also unreliable, reliable, fifo, causal,
                             safe
service [SERVICE]            show or set the service in use, agreed at the start
type NUMBER                  message type of what is sent from now on, -32768 to 32767
discard on|off               whether this session gets no copy of what it sends (self-discard)
members [GROUP]          m   the last view of one group, or of all joined
status                       who this session is and what is in use
sync                         wait until all of the above has taken effect here
wait TIME                    only receive for so long, as in 'wait 2s'
help                     h   this text
quit                     q   disconnect at once; the end of the input does 'sync' first
";

/// One line of input, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// An empty line or a comment.
    Nothing,
    Join(Vec<String>),
    Leave(Vec<String>),
    /// Without `text` the lines that follow are it.
    Send {
        service: Option<Service>,
        groups: Vec<String>,
        text: Option<Vec<u8>>,
    },
    Service(Option<Service>),
    Type(i16),
    SelfDiscard(bool),
    Members(Option<String>),
    Status,
    Sync,
    Wait(Duration),
    Help,
    Quit,
}

/// Understands one line, or says what is wrong with it.
pub(crate) fn parse(line: &[u8]) -> Result<Command, String> {
    let (word, rest) = split_word(line);
    if word.is_empty() || word.starts_with(b"#") {
        return Ok(Command::Nothing);
    }
    let word = as_text(word)?;
    if let Ok(service) = word.parse::<Service>() {
        return parse_send(Some(service), rest);
    }
    match word {
        "join" | "j" => parse_names(rest).map(Command::Join),
        "leave" | "l" => parse_names(rest).map(Command::Leave),
        "send" | "s" => parse_send(None, rest),
        "service" => match parse_optional(rest)? {
            None => Ok(Command::Service(None)),
            Some(name) => match name.parse() {
                Ok(service) => Ok(Command::Service(Some(service))),
                Err(error) => Err(format!("'{name}' is {error}")),
            },
        },
        "type" => match parse_only(rest)?.parse() {
            Ok(number) => Ok(Command::Type(number)),
            Err(_) => Err("a message type is a number from -32768 to 32767".to_owned()),
        },
        "discard" => match parse_only(rest)? {
            "on" => Ok(Command::SelfDiscard(true)),
            "off" => Ok(Command::SelfDiscard(false)),
            other => Err(format!("'discard {other}': on or off is expected")),
        },
        "members" | "m" => Ok(Command::Members(parse_optional(rest)?.map(str::to_owned))),
        "wait" => parse_duration(parse_only(rest)?).map(Command::Wait),
        "status" => parse_end(rest, Command::Status),
        "sync" => parse_end(rest, Command::Sync),
        "help" | "h" | "?" => parse_end(rest, Command::Help),
        "quit" | "q" => parse_end(rest, Command::Quit),
        other => Err(format!("unknown command '{other}': 'help' lists all")),
    }
}

/// A multi-line message in the making: line by line, up to one with a single dot.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    text: Vec<u8>,
}

impl Draft {
    /// Takes a line; `true` when it ends the message. A line of several dots loses one.
    pub(crate) fn line(&mut self, line: &[u8]) -> bool {
        let dots = !line.is_empty() && line.iter().all(|&byte| byte == b'.');
        if line == b"." {
            return true;
        }
        if !self.text.is_empty() {
            self.text.push(b'\n');
        }
        self.text.extend_from_slice(if dots { &line[1..] } else { line });
        false
    }

    /// What was typed, without the last line end.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }
}

fn parse_send(service: Option<Service>, rest: &[u8]) -> Result<Command, String> {
    let (groups, text) = split_word(rest);
    if groups.is_empty() {
        return Err("a group is expected, or several with commas between them".to_owned());
    }
    let groups: Vec<String> = as_text(groups)?.split(',').map(str::to_owned).collect();
    if groups.iter().any(String::is_empty) {
        return Err("there is an empty name between the commas".to_owned());
    }
    let text = (!text.is_empty()).then(|| text.to_vec());
    Ok(Command::Send { service, groups, text })
}

fn parse_names(rest: &[u8]) -> Result<Vec<String>, String> {
    let names: Vec<String> = as_text(rest)?.split_ascii_whitespace().map(str::to_owned).collect();
    if names.is_empty() { Err("a group is expected".to_owned()) } else { Ok(names) }
}

fn parse_only(rest: &[u8]) -> Result<&str, String> {
    parse_optional(rest)?.ok_or_else(|| "something is missing: 'help' tells".to_owned())
}

fn parse_optional(rest: &[u8]) -> Result<Option<&str>, String> {
    let (word, rest) = split_word(rest);
    parse_end(rest, ())?;
    if word.is_empty() { Ok(None) } else { as_text(word).map(Some) }
}

fn parse_end<T>(rest: &[u8], value: T) -> Result<T, String> {
    let rest = rest.trim_ascii();
    if rest.is_empty() { Ok(value) } else { Err(format!("'{}' is too much", rest.escape_ascii())) }
}

/// The first word, and what follows the blanks behind it.
fn split_word(line: &[u8]) -> (&[u8], &[u8]) {
    let line = line.trim_ascii_start();
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    (word, rest.trim_ascii_start())
}

fn as_text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| format!("'{}' is no text", bytes.escape_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(service: Option<Service>, groups: &[&str], text: Option<&[u8]>) -> Command {
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        Command::Send { service, groups, text: text.map(<[u8]>::to_vec) }
    }

    #[test]
    fn commands_and_their_short_forms() {
        for (line, command) in [
            ("", Command::Nothing),
            ("  # a comment", Command::Nothing),
            ("join a b", Command::Join(vec!["a".into(), "b".into()])),
            ("j a", Command::Join(vec!["a".into()])),
            ("l a", Command::Leave(vec!["a".into()])),
            ("send a  hello  world ", send(None, &["a"], Some(b"hello  world "))),
            ("s a,#b#host hi", send(None, &["a", "#b#host"], Some(b"hi"))),
            ("safe a", send(Some(Service::Safe), &["a"], None)),
            ("service", Command::Service(None)),
            ("service fifo", Command::Service(Some(Service::Fifo))),
            ("type -7", Command::Type(-7)),
            ("discard on", Command::SelfDiscard(true)),
            ("discard off ", Command::SelfDiscard(false)),
            ("members", Command::Members(None)),
            ("m a", Command::Members(Some("a".into()))),
            ("wait 20ms", Command::Wait(Duration::from_millis(20))),
            ("status", Command::Status),
            ("sync", Command::Sync),
            ("?", Command::Help),
            ("quit\r", Command::Quit),
        ] {
            assert_eq!(parse(line.as_bytes()), Ok(command), "{line}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        for (line, told) in [
            ("jion a", "unknown command 'jion'"),
            ("join", "a group is expected"),
            ("send", "a group is expected"),
            ("send a,,b hi", "empty name"),
            ("service best", "'best' is not a service"),
            ("type 40000", "-32768 to 32767"),
            ("type", "missing"),
            ("discard maybe", "on or off"),
            ("wait soon", "number"),
            ("quit now", "'now' is too much"),
        ] {
            let error = parse(line.as_bytes()).unwrap_err();
            assert!(error.contains(told), "{line}: {error}");
        }
        assert!(parse(b"join \xff").unwrap_err().contains("no text"));
    }

    #[test]
    fn any_bytes_can_be_sent() {
        assert_eq!(parse(b"send a \xff\x00"), Ok(send(None, &["a"], Some(b"\xff\x00"))));
    }

    #[test]
    fn a_draft_ends_with_a_dot_and_can_hold_one() {
        let mut draft = Draft::default();
        assert!(!draft.line(b"first"));
        assert!(!draft.line(b""));
        assert!(!draft.line(b".."));
        assert!(!draft.line(b"..."));
        assert!(!draft.line(b".profile"));
        assert!(draft.line(b"."));
        assert_eq!(draft.text(), b"first\n\n.\n..\n.profile");
    }

    #[test]
    fn help_names_every_command() {
        for service in Service::ALL {
            assert!(HELP.contains(service.as_str()), "{service}");
        }
        for line in HELP.lines().filter(|line| !line.starts_with(' ')) {
            let word = line.split_ascii_whitespace().next().unwrap();
            let unknown = parse(word.as_bytes()).is_err_and(|it| it.contains("unknown command"));
            assert!(!unknown, "{word}");
        }
    }
}
