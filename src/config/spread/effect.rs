//! Statements to a [`Config`]: what each keyword does here, and what is said of those that do
//! nothing.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::keyword::{
    ACCELERATED_RING, ACCELERATED_WINDOW, Keyword, PERSONAL_WINDOW, PRIORITIES, TIMERS, VERSIONS,
    WINDOW,
};
use super::parser::{
    Entry, Interface, Mistake, Segment as Block, Statement, Value, mistyped, sticking,
};
use crate::base::limits::{DAEMON_NAME_BYTES_MAX, DAEMONS_MAX, SEGMENTS_MAX};
use crate::base::{DaemonId, DaemonName};
use crate::config::cluster::{ClusterDaemon, Segment, is_of_one_link, wildcard};
use crate::config::host::{Host, Who};
use crate::config::members::{self, FAILURE_TIMEOUTS_MS};
use crate::config::{AccessList, CONTROL_MODE, Config, Listen, LogLevel, Methods, UnixSocket};

/// The access file, as Spread calls it.
const ACCESS_FILE: &str = "spread.access_ip";

/// Spread's token timeout for networks with long ways.
const WIDE_AREA_TIMEOUT: Duration = Duration::from_millis(5_000);

/// What a file comes to.
pub(super) struct Effects<'h> {
    pub(super) config: Config,
    pub(super) mistakes: Vec<Mistake>,
    pub(super) notes: Vec<Mistake>,
    host: &'h dyn Host,
    /// The IP version of all addresses, once it is known.
    is_ipv4: Option<bool>,
    /// Where each daemon stands.
    spans: Vec<Range<usize>>,
    /// Keywords that were there, and where the last one stands.
    seen: BTreeMap<&'static str, Range<usize>>,
    /// The numbers of those that have one.
    numbers: BTreeMap<&'static str, u32>,
    is_accelerated: bool,
    /// Where the second segment begins.
    second: Option<Range<usize>>,
    /// Where the methods of authentication stand.
    auth: Option<Range<usize>>,
    timeout: Option<Duration>,
    is_wide: bool,
}

impl<'h> Effects<'h> {
    pub(super) fn new(host: &'h dyn Host) -> Self {
        let mut config = Config::default();
        config.cluster.segments.clear();
        Self {
            config,
            mistakes: Vec::new(),
            notes: Vec::new(),
            host,
            is_ipv4: None,
            spans: Vec::new(),
            seen: BTreeMap::new(),
            numbers: BTreeMap::new(),
            is_accelerated: false,
            second: None,
            auth: None,
            timeout: None,
            is_wide: false,
        }
    }

    pub(super) fn take(&mut self, statement: &Statement<'_>) {
        match statement {
            Statement::Parameter { keyword, value, span } => self.parameter(keyword, *value, span),
            Statement::Segment(block) => self.segment(block),
        }
    }

    /// Everything that depends on all statements. `path`: the file.
    pub(super) fn finish(&mut self, path: &Path, who: Who) {
        self.timers();
        self.windows();
        self.access(path);
        if self.config.cluster.segments.is_empty() {
            if self.mistakes.is_empty() {
                self.wrong(&(0..0), "there is no `Spread_Segment`, but there must be one at least");
            }
            self.config.cluster.segments.push(Segment::default());
        }
        if !self.mistakes.is_empty() {
            return;
        }
        let cluster = &self.config.cluster;
        if let Some((index, why)) = cluster.conflict() {
            let span = self.spans[index].clone();
            return self.wrong(&span, format!("the cluster {why}"));
        }
        match members::find_me(cluster, who, self.host, "set --name") {
            Ok(me) => {
                let me = me.or(cluster.daemons.first()).expect("a segment has daemons").clone();
                self.config.cluster.scope = members::scope(&me, self.host);
                self.config.listen = self.listen(&me);
                self.config.daemon = me.name;
            }
            Err(why) => {
                let span = self.spans[0].clone();
                self.wrong(&span, format!("the file {why}"));
            }
        }
    }

    fn wrong(&mut self, span: &Range<usize>, message: impl Into<String>) {
        self.mistakes.push(Mistake::new(span.clone(), message));
    }

    fn note(&mut self, span: &Range<usize>, message: impl Into<String>) {
        self.notes.push(Mistake::new(span.clone(), message));
    }

    fn parameter(&mut self, keyword: &'static Keyword, value: Value<'_>, span: &Range<usize>) {
        let is_first = self.seen.insert(keyword.name, span.clone()).is_none();
        match value {
            Value::Number(number) => {
                self.numbers.insert(keyword.name, number);
            }
            Value::Boolean(is_so) if keyword.name == ACCELERATED_RING => {
                self.is_accelerated = is_so;
            }
            Value::Boolean(_) | Value::Text(_) | Value::Nothing => {}
        }
        if let Some(why) = keyword.idle {
            if is_first {
                self.note(span, format!("`{}` has no effect: {why}", keyword.name));
            }
            return;
        }
        match (keyword.name, value) {
            ("EventPriority", Value::Text(level)) => self.config.log.level = log_level(level),
            ("MaxSessionMessages", Value::Number(number)) => {
                self.config.sessions.messages_max = number as usize;
            }
            ("WideAreaNetwork", Value::Boolean(is_wide)) => self.is_wide = is_wide,
            ("TokenTimeout", Value::Number(ms)) => self.token_timeout(ms, span),
            ("AllowedAuthMethods", Value::Text(names)) => {
                self.config.auth.allowed = self.methods(names, span);
                self.auth = Some(span.clone());
            }
            ("RequiredAuthMethods", Value::Text(names)) => {
                self.config.auth.required = self.methods(names, span);
                // The first of the two keywords ends the default of both.
                if !self.seen.contains_key("AllowedAuthMethods") {
                    self.config.auth.allowed = Methods::default();
                }
                self.auth = Some(span.clone());
            }
            ("AccessControlPolicy", Value::Text(policy)) if policy != "PERMIT" => {
                self.wrong(
                    span,
                    format!("`AccessControlPolicy` is {policy}, but allowed is \"PERMIT\""),
                );
            }
            ("AccessControlPolicy", Value::Text(_)) => {}
            ("ActiveIPVersion", Value::Text(version)) => {
                let is_ipv4 = version == VERSIONS[0];
                if self.is_ipv4.is_some_and(|before| before != is_ipv4) {
                    self.wrong(span, "`ActiveIPVersion` is another than that of the addresses");
                }
                self.is_ipv4 = Some(is_ipv4);
            }
            (name, value) => unreachable!("{name} cannot be {value:?}, or has no effect"),
        }
    }

    fn token_timeout(&mut self, ms: u32, span: &Range<usize>) {
        let (least, most) = (*FAILURE_TIMEOUTS_MS.start(), *FAILURE_TIMEOUTS_MS.end());
        let used = (ms as usize).clamp(least, most);
        if used != ms as usize {
            self.note(span, format!("`TokenTimeout` is {ms} ms: {used} ms are used"));
        }
        self.timeout = Some(Duration::from_millis(used as u64));
    }

    fn methods(&mut self, names: &str, span: &Range<usize>) -> Methods {
        let mut methods = Methods::default();
        for name in names.split_ascii_whitespace() {
            match name {
                "NULL" => methods.null = true,
                "IP" => methods.ip = true,
                unknown => {
                    let unknown: String = unknown.chars().take(40).collect();
                    self.note(
                        span,
                        format!("method {unknown} has no effect: there are NULL and IP alone"),
                    );
                }
            }
        }
        methods
    }

    /// Either none or all timers must be there.
    fn timers(&mut self) {
        let (there, missing): (Vec<_>, Vec<_>) =
            TIMERS.into_iter().partition(|name| self.seen.contains_key(name));
        if let (Some(first), Some(_)) = (there.first(), missing.first()) {
            let why = format!("`{first}` needs the other timers too: {}", missing.join(", "));
            self.wrong(&self.seen[first].clone(), why);
        }
        let wide = self.is_wide.then_some(WIDE_AREA_TIMEOUT);
        if let Some(timeout) = self.timeout.or(wide) {
            self.config.cluster.failure_timeout = timeout;
        } else if let Some(span) = self.second.clone()
            && !self.seen.contains_key("WideAreaNetwork")
        {
            let ours = self.config.cluster.failure_timeout.as_millis();
            let theirs = WIDE_AREA_TIMEOUT.as_millis();
            let why = format!(
                "with several segments Spread takes `WideAreaNetwork` for true unless the file has \
                 it, and waits {theirs} ms for a daemon that gives no sign; here it is {ours} ms, \
                 as everything else is paced by measured rounds: `WideAreaNetwork = true` is for \
                 ways of hundreds of milliseconds"
            );
            self.note(&span, why);
        }
    }

    /// They have no effect, but with those that contradict each other Spread does not start.
    fn windows(&mut self) {
        self.fits(PERSONAL_WINDOW, WINDOW);
        if self.is_accelerated {
            self.fits(ACCELERATED_WINDOW, PERSONAL_WINDOW);
        }
    }

    /// A window, with its default, is no larger than another one.
    fn fits(&mut self, window: (&'static str, u32), other: (&'static str, u32)) {
        let value = |(name, default)| self.numbers.get(name).copied().unwrap_or(default);
        let (size, most) = (value(window), value(other));
        if size <= most {
            return;
        }
        let places = [window.0, other.0].map(|name| self.seen.get(name).cloned());
        let said = |place: &Option<_>| if place.is_some() { "" } else { " by default" };
        let why = format!(
            "`{}` is {size}{}, more than `{}`, which is {most}{}",
            window.0,
            said(&places[0]),
            other.0,
            said(&places[1])
        );
        let span = places.into_iter().flatten().next().expect("the defaults fit");
        self.wrong(&span, why);
    }

    /// The list of method IP: beside the file, or else in `/etc`.
    fn access(&mut self, path: &Path) {
        let Some(span) = self.auth.clone() else { return };
        let auth = &self.config.auth;
        if auth.allowed == Methods::default() {
            return self.wrong(&span, "no method is allowed, so nobody could connect");
        }
        if !auth.allowed.ip && !auth.required.ip {
            return;
        }
        let beside = path.parent().unwrap_or(Path::new("")).join(ACCESS_FILE);
        let places: [PathBuf; 2] = [beside, Path::new("/etc").join(ACCESS_FILE)];
        for place in &places {
            match self.host.read(place) {
                Ok(bytes) => return self.admit(place, &bytes, &span),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    return self.wrong(&span, format!("cannot read {}: {error}", place.display()));
                }
            }
        }
        let places = places.map(|place| place.display().to_string()).join(" nor ");
        let why = format!("method IP would turn everybody away: there is neither {places}");
        self.wrong(&span, why);
    }

    /// Takes the list of method IP.
    fn admit(&mut self, place: &Path, bytes: &[u8], span: &Range<usize>) {
        match AccessList::read(bytes) {
            Ok(access) => {
                self.config.auth.access = access;
                self.config.auth.access_ip = Some(place.to_owned());
            }
            Err(error) => self.wrong(span, format!("{}: {error}", place.display())),
        }
    }

    fn segment(&mut self, block: &Block<'_>) {
        let cluster = &self.config.cluster;
        if cluster.segments.len() == SEGMENTS_MAX {
            let why = format!("there are more than {SEGMENTS_MAX} segments");
            return self.wrong(&block.span, why);
        }
        if cluster.daemons.len() + block.daemons.len() > DAEMONS_MAX {
            let why = format!("there are more than {DAEMONS_MAX} daemons");
            return self.wrong(&block.span, why);
        }
        let segment = cluster.segments.len();
        if segment == 1 {
            self.second = Some(block.span.clone());
        }
        for (index, entry) in block.daemons.iter().enumerate() {
            let next = block.daemons.get(index + 1);
            if let Some(daemon) = self.daemon(entry, next, segment) {
                self.config.cluster.daemons.push(daemon);
                self.spans.push(entry.span.clone());
            }
        }
        if block.daemons.is_empty() {
            self.wrong(&block.span, "a segment without daemons means nothing");
        }
        if block.port == u16::MAX {
            self.wrong(&block.span, "the port is 65535, but the next one is needed too");
        }
        let multicast = self.group(block);
        // 65535 was refused.
        let port = block.port.min(u16::MAX - 1);
        self.config.cluster.segments.push(Segment { multicast, port, hops: 1 });
    }

    /// The address at which the daemons of a segment meet, if they do.
    fn group(&mut self, block: &Block<'_>) -> Option<IpAddr> {
        for address in &block.addresses {
            if address.is_unspecified() {
                self.wrong(&block.span, format!("a segment cannot meet at {address}"));
            } else if self.is_ipv4.is_some_and(|is_ipv4| is_ipv4 != address.is_ipv4()) {
                let why =
                    format!("the segment's {address} is of another IP version than its daemons");
                self.wrong(&block.span, why);
            }
        }
        let group = block.addresses.iter().copied().find(IpAddr::is_multicast);
        // Alone it meets nobody.
        if block.daemons.len() > 1 {
            let first = block.addresses[0];
            match group {
                None => self.note(
                    &block.span,
                    format!(
                        "{first} is no multicast address: each daemon of the segment gets a copy \
                         of its own"
                    ),
                ),
                Some(group) if block.addresses.len() > 1 => self.note(
                    &block.span,
                    format!("the segment meets at {group}: its other addresses have no effect"),
                ),
                Some(_) => {}
            }
        }
        group
    }

    fn daemon(
        &mut self,
        entry: &Entry<'_>,
        next: Option<&Entry<'_>>,
        segment: usize,
    ) -> Option<ClusterDaemon> {
        let address = match entry.address {
            Some(address) => address,
            None => self.resolve(entry, next)?,
        };
        let is_ipv4 = *self.is_ipv4.get_or_insert(address.is_ipv4());
        if is_ipv4 != address.is_ipv4() {
            self.wrong(&entry.span, format!("{address} is of another IP version than the others"));
            return None;
        }
        let written = entry.name.map_or_else(|| address.to_string(), str::to_owned);
        let name = self.name(&written, &entry.span)?;
        let mut daemon = ClusterDaemon { segment, ..ClusterDaemon::new(name, address) };
        daemon.id = entry.id.map_or(daemon.id, DaemonId::new);
        if let Some(interfaces) = &entry.interfaces {
            daemon.clients = Some(self.clients(&daemon, interfaces, &entry.span));
        }
        Some(daemon)
    }

    /// `next`: the entry behind it, which may have been meant for its address.
    fn resolve(&mut self, entry: &Entry<'_>, next: Option<&Entry<'_>>) -> Option<IpAddr> {
        let name = entry.name.unwrap_or_default();
        let fits = |address: &IpAddr| self.is_ipv4.is_none_or(|it| it == address.is_ipv4());
        let found = self.host.resolve(name).into_iter().find(fits);
        match found {
            Some(address) => {
                let why = format!("{name} has no address here: the resolver says {address}");
                self.note(&entry.span, why);
            }
            None => {
                let short: String = name.chars().take(40).collect();
                let why = format!("{short} has no address, here or by the resolver");
                let mistake = Mistake::new(entry.span.clone(), why);
                let next = next.filter(|next| next.address.is_none()).and_then(|next| next.name);
                let help = sticking(name).or_else(|| mistyped(name));
                let help = help.or_else(|| mistyped(next?));
                self.mistakes.push(Mistake { help, ..mistake });
            }
        }
        found
    }

    /// Names are cut as Spread cuts them, but must be such that clients can use them.
    fn name(&mut self, written: &str, span: &Range<usize>) -> Option<DaemonName> {
        let bytes = written.as_bytes();
        let name = &bytes[..bytes.len().min(DAEMON_NAME_BYTES_MAX)];
        match DaemonName::new(name) {
            Ok(name) => {
                if name.as_bytes().len() < bytes.len() {
                    self.note(span, format!("the name is cut to `{name}`"));
                }
                Some(name)
            }
            Err(error) => {
                self.wrong(span, format!("no client could use the name: {error}"));
                None
            }
        }
    }

    /// Where the daemon listens for clients. Daemons reach it at its address alone.
    fn clients(
        &mut self,
        daemon: &ClusterDaemon,
        interfaces: &[Interface],
        span: &Range<usize>,
    ) -> Vec<IpAddr> {
        let own = daemon.address;
        let is_wildcard = |it: &IpAddr| it.is_unspecified() && it.is_ipv4() == own.is_ipv4();
        let for_daemons = interfaces.iter().filter(|it| it.daemons);
        if !for_daemons.clone().any(|it| it.address == own || is_wildcard(&it.address)) {
            self.wrong(span, format!("no interface is for daemons at {own}, with D or no letter"));
        }
        for other in for_daemons.filter(|it| it.address != own && !is_wildcard(&it.address)) {
            let why =
                format!("daemons reach {} at {own} alone, not at {}", daemon.name, other.address);
            self.note(&other.span, why);
        }
        for monitor in interfaces.iter().filter(|it| !it.daemons && !it.clients) {
            self.note(&monitor.span, "`M` has no effect: there is no monitor");
        }
        let mut clients: Vec<IpAddr> = Vec::new();
        for address in interfaces.iter().filter(|it| it.clients).map(|it| it.address) {
            let covers = |it: &&IpAddr| it.is_unspecified() && it.is_ipv4() == address.is_ipv4();
            if clients.iter().any(|it| *it == address || covers(&it)) {
                continue;
            }
            if address.is_unspecified() {
                clients.retain(|it| it.is_ipv4() != address.is_ipv4());
            }
            clients.push(address);
        }
        clients
    }

    fn listen(&mut self, me: &ClusterDaemon) -> Listen {
        let port = self.config.cluster.segment(me).port;
        let mut tcp = me.clients.clone().unwrap_or_else(|| vec![wildcard(me.address)]);
        // Of other hosts it is not known what addresses they have.
        if self.host.has(me.address) {
            let is_me = |it: &ClusterDaemon| it.name == me.name;
            let index = self.config.cluster.daemons.iter().position(is_me);
            let span = index.map_or(0..0, |index| self.spans[index].clone());
            let has_no = |it: &mut IpAddr| {
                !it.is_unspecified() && (is_of_one_link(*it) || !self.host.has(*it))
            };
            for absent in tcp.extract_if(.., has_no) {
                let why = if is_of_one_link(absent) {
                    "it is of one link only; all addresses, `C ::`, are those too"
                } else {
                    "this host has no such address"
                };
                let why = format!("no clients come by {absent}: {why}");
                self.notes.push(Mistake::new(span.clone(), why));
            }
        }
        let socket =
            |name: String, mode| Some(UnixSocket { path: Path::new("/tmp").join(name), mode });
        Listen {
            port,
            tcp,
            unix: socket(port.to_string(), 0o666),
            shared_memory: socket(format!("{port}.shm"), 0o666),
            control: socket(format!("{port}.control"), CONTROL_MODE),
        }
    }
}

fn log_level(priority: &str) -> LogLevel {
    match PRIORITIES.iter().position(|known| *known == priority) {
        Some(0) => LogLevel::Debug,
        Some(1) => LogLevel::Info,
        Some(2) => LogLevel::Warn,
        _ => LogLevel::Error,
    }
}
