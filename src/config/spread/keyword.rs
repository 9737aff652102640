//! The keywords of a `spread.conf`: what each may hold, and why some have no effect here.

/// What stands behind a keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `= { flag !flag ... }`.
    Flags,
    /// `=` and one of these words.
    Word(&'static [&'static str]),
    /// `=` and a text of at most so many bytes.
    Text(usize),
    /// Nothing, or `=` and a text of at most so many bytes.
    OptionalText(usize),
    /// Nothing.
    Alone,
    /// `=` and true, yes, false or no.
    Boolean,
    /// `=` and on, off or auto.
    Switch,
    /// `=` and a number that is not less.
    Number(u32),
}

/// A keyword of the top level.
#[derive(Debug)]
pub(super) struct Keyword {
    pub(super) name: &'static str,
    pub(super) form: Form,
    /// Why it has no effect, if it has none.
    pub(super) idle: Option<&'static str>,
}

/// Begins a segment.
pub(super) const SEGMENT: &str = "Spread_Segment";

/// Begins the id of a daemon.
pub(super) const VIRTUAL_ID: &str = "VirtualID";

/// The timers of the membership, of which either none or all stand in a file.
pub(super) const TIMERS: [&str; 9] = [
    "TokenTimeout",
    "HurryTimeout",
    "AliveTimeout",
    "JoinTimeout",
    "RepTimeout",
    "SegTimeout",
    "GatherTimeout",
    "FormTimeout",
    "LookupTimeout",
];

/// Classes of events of Spread's log.
pub(super) const FLAGS: [&str; 19] = [
    "ALL",
    "NONE",
    "EXIT",
    "PRINT",
    "DEBUG",
    "DATA_LINK",
    "NETWORK",
    "PROTOCOL",
    "SESSION",
    "CONFIGURATION",
    "MEMBERSHIP",
    "FLOW_CONTROL",
    "STATUS",
    "EVENTS",
    "GROUPS",
    "MEMORY",
    "SKIPLIST",
    "ACM",
    "SECURITY",
];

/// Levels of Spread's log, the least important first.
pub(super) const PRIORITIES: [&str; 6] =
    ["pDEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "FATAL"];

/// IP versions.
pub(super) const VERSIONS: [&str; 2] = ["IPv4", "IPv6"];

/// The windows, in packets, and what they are where a file says nothing.
pub(super) const WINDOW: (&str, u32) = ("Window", 160);
pub(super) const PERSONAL_WINDOW: (&str, u32) = ("PersonalWindow", 20);
pub(super) const ACCELERATED_WINDOW: (&str, u32) = ("AcceleratedWindow", 15);

/// The ring variant.
pub(super) const ACCELERATED_RING: &str = "AcceleratedRing";

const fn works(name: &'static str, form: Form) -> Keyword {
    Keyword { name, form, idle: None }
}

const fn idle(name: &'static str, form: Form, why: &'static str) -> Keyword {
    Keyword { name, form, idle: Some(why) }
}

const WINDOWS: &str = "windows are in bytes here and adapt to losses: the section [ring] of a \
                       madrigal.toml has their ceilings";
const PACE: &str = "the membership paces itself; `TokenTimeout` is the failure timeout";
const USER: &str = "the daemon does not change its user or its root: start it as the right user, \
                    with systemd's User= and Group=";
const VARIANT: &str = "there is one ring variant, the accelerated one";

/// All keywords of the top level but [`SEGMENT`].
pub(super) const ALL: [Keyword; 31] = [
    idle("DebugFlags", Form::Flags, "the log is chosen by level alone: `EventPriority`"),
    works("EventPriority", Form::Word(&PRIORITIES)),
    idle("EventLogFile", Form::Text(usize::MAX), "the log goes to standard error"),
    idle("EventTimeStamp", Form::OptionalText(39), "every line of the log has the time"),
    idle("EventPreciseTimeStamp", Form::Alone, "every line of the log has the precise time"),
    idle("DangerousMonitor", Form::Boolean, "no monitor can change the daemon"),
    idle("SocketPortReuse", Form::Switch, "a port is always free for a restarted daemon"),
    idle("RuntimeDir", Form::Text(usize::MAX), USER),
    idle("DaemonUser", Form::Text(32), USER),
    idle("DaemonGroup", Form::Text(32), USER),
    works("RequiredAuthMethods", Form::Text(usize::MAX)),
    works("AllowedAuthMethods", Form::Text(usize::MAX)),
    works("AccessControlPolicy", Form::Text(usize::MAX)),
    works("MaxSessionMessages", Form::Number(0)),
    works("ActiveIPVersion", Form::Word(&VERSIONS)),
    idle(WINDOW.0, Form::Number(1), WINDOWS),
    idle(PERSONAL_WINDOW.0, Form::Number(1), WINDOWS),
    idle(ACCELERATED_RING, Form::Boolean, VARIANT),
    idle(ACCELERATED_WINDOW.0, Form::Number(0), WINDOWS),
    works(TIMERS[0], Form::Number(1)),
    idle(TIMERS[1], Form::Number(1), PACE),
    idle(TIMERS[2], Form::Number(1), PACE),
    idle(TIMERS[3], Form::Number(1), PACE),
    idle(TIMERS[4], Form::Number(1), PACE),
    idle(TIMERS[5], Form::Number(1), PACE),
    idle(TIMERS[6], Form::Number(1), PACE),
    idle(TIMERS[7], Form::Number(1), PACE),
    idle(TIMERS[8], Form::Number(1), PACE),
    works("WideAreaNetwork", Form::Boolean),
    idle(
        "ExcludeSegAddrsFromHash",
        Form::Boolean,
        "daemons that meet at different addresses do not meet, so they must agree on them",
    ),
    idle(
        "IgnoreMulticastJoinErrors",
        Form::Boolean,
        "a daemon that cannot join its segment's group does not start: it would hear nobody",
    ),
];

/// The keyword of this name.
pub(super) fn find(name: &str) -> Option<&'static Keyword> {
    ALL.iter().find(|keyword| keyword.name == name)
}

/// Whether an unquoted word cannot be a name, because it means something.
pub(super) fn is_reserved(word: &str) -> bool {
    find(word).is_some()
        || [SEGMENT, VIRTUAL_ID, "D", "C", "M"].contains(&word)
        || FLAGS.contains(&word)
        || PRIORITIES.contains(&word)
        || VERSIONS.contains(&word)
}
