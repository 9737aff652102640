//! Daemons in one thread and virtual time: an event queue, and what each event does.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::buffer::HeapBuffer;
use crate::base::limits::{STALLS_PER_TIMEOUT, TIMERS_LATE_MAX};
use crate::base::{DaemonId, Instant, OwnTime, PrivateGroup, RingId, Service};

use super::checker::hash::HashMap;
use super::checker::trace::{
    DaemonEvent, DaemonLog, Ending, Entry, MessageId, Place, SessionEvent, Trace,
};
use super::clients::daemon_name;
use super::core::{Channel, Core, Output, Setup, Transmit, Tuning};
use super::cover::Cover;
pub use super::due::Action;
use super::due::{Happening, Queue};
use super::host::Host;
use super::network::{Network, Route, Weather};
use super::payload::{content, payload};
use super::rng::Rng;
use super::store::Shortage;
use super::timeline::{Note, Timeline};
use super::workload::Workload;

/// The cluster.
pub struct Cluster<C> {
    pub(super) now: Instant,
    queue: Queue,
    /// The order at the moment when faults stopped.
    calmed: u64,
    pub(super) hosts: Vec<Host<C>>,
    /// The network between the daemons.
    pub network: Network,
    pub(super) trace: Trace,
    pub(super) step: u64,
    pub(super) rng: Rng,
    pub(super) traps: Vec<Action>,
    tuning: Tuning,
    /// Daemons take time as real ones do: what is due waits for what has come, though not for long,
    /// and for those that are paused time stands still.
    pub real_time: bool,
    /// What is the same for all daemons of a run.
    run: u64,
    /// Messages whose payload does not tell which they are: which each place has, and where in the
    /// trace it was accepted, until its content is known.
    pub(super) places: HashMap<Place, (MessageId, Option<(usize, usize)>)>,
    /// The logs of sessions that have not ended.
    pub(super) sessions: BTreeMap<PrivateGroup, usize>,
    pub(super) timeline: Timeline,
    pub(super) cover: Cover,
    /// Events in a row without time passing, to find a core that wants to be called at once
    /// for ever.
    stuck: u32,
}

/// The identity of the cluster in the configuration file of a stranger.
const STRANGER: u64 = 0xbad;

/// Events at one moment after which the cluster is taken to be in an endless loop.
const STUCK_MAX: u32 = 200_000;

impl<C: Core> Cluster<C> {
    /// `daemons` machines without a daemon yet, in fair weather. Their ids are 1, 2, ...
    pub fn new(daemons: usize, seed: u64, tuning: Tuning) -> Self {
        let mut rng = Rng::new(seed);
        let network = Network::new(daemons, Weather::FAIR, rng.fork());
        let first = tuning.first_incarnation;
        let host = |index: usize| Host::new(DaemonId::new(index as u32 + 1), first);
        Self {
            now: Instant::ZERO,
            queue: Queue::default(),
            calmed: 0,
            hosts: (0..daemons).map(host).collect(),
            network,
            trace: Trace::default(),
            step: 0,
            rng,
            traps: Vec::new(),
            tuning,
            real_time: false,
            run: seed,
            places: HashMap::default(),
            sessions: BTreeMap::new(),
            timeline: Timeline::default(),
            cover: Cover::default(),
            stuck: 0,
        }
    }

    /// The virtual time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// How many machines there are.
    pub fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// Whether each live daemon has delivered as many messages of its own as it accepted.
    pub fn is_drained(&self) -> bool {
        let mut live = self.hosts.iter().filter(|host| host.core.is_some());
        live.all(|host| {
            let is_drained = host.core.as_ref().is_some_and(Core::is_drained);
            is_drained && host.returned == host.submitted
        })
    }

    /// The running core on machine `host`.
    pub fn core(&self, host: usize) -> Option<&C> {
        self.hosts[host].core.as_ref()
    }

    /// Has the core on machine `host` do something, and takes what comes of it. `None` where none
    /// runs.
    pub fn with<T>(&mut self, host: usize, what: impl FnOnce(&mut C, Instant) -> T) -> Option<T> {
        let now = self.time(host);
        let done = what(self.hosts[host].core.as_mut()?, now);
        self.drain(host);
        Some(done)
    }

    /// Lets all clients fall silent, and make sure that what they asked for was done.
    pub fn silence(&mut self) {
        for host in 0..self.hosts.len() {
            self.set_workload(host, Workload::silent());
            self.with(host, Core::settle);
        }
    }

    /// The name of the membership state of the daemon on `host`; empty where none runs.
    pub fn state(&self, host: usize) -> &'static str {
        self.hosts[host].core.as_ref().map_or("", Core::state)
    }

    /// The regular configuration that the daemon on `host` is in, once it has moved on to no
    /// other.
    pub fn ring(&self, host: usize) -> Option<(RingId, &[DaemonId])> {
        self.hosts[host].ring.as_ref().map(|(ring, members)| (*ring, members.as_slice()))
    }

    /// Gives `host` another configuration file than the others have.
    pub fn set_stranger(&mut self, host: usize) {
        self.hosts[host].cluster = STRANGER;
    }

    /// Keeps what happens between the events of the trace, for a timeline.
    pub fn record(&mut self) {
        self.timeline.recording = true;
    }

    /// What was kept.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// The trace so far.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// What the run met so far.
    pub fn cover(&self) -> Cover {
        let running = self.hosts.iter().filter_map(|host| host.core.as_ref());
        running.fold(self.cover, |cover, core| cover.with(core))
    }

    /// Lets `action` happen in a while.
    pub fn schedule(&mut self, at: Instant, action: Action) {
        self.push(at, Happening::Act(Box::new(action)));
    }

    /// Lets the clients of `host` behave so from now on.
    pub fn set_workload(&mut self, host: usize, workload: Workload) {
        self.hosts[host].habit += 1;
        self.hosts[host].workload = workload;
        self.next_submit(host);
    }

    /// Runs until `end`.
    pub fn run_until(&mut self, end: Instant) {
        while let Some((at, order, what)) = self.queue.pop(end) {
            self.stuck = if at == self.now { self.stuck + 1 } else { 0 };
            assert!(self.stuck < STUCK_MAX, "time stands still at {:?}", self.now);
            self.now = at;
            // What faults had in store is off once they are over.
            if !(order < self.calmed && matches!(what, Happening::Act(_))) {
                self.happen(what);
            }
        }
        self.now = self.now.max(end);
    }

    /// Runs for `time`.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Runs until `done`, looking every `step`, for `bound` at most; whether it is done.
    pub fn run_while(
        &mut self,
        step: Duration,
        bound: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> bool {
        let end = self.now + bound;
        while !done(self) {
            if self.now >= end {
                return false;
            }
            self.run_for(step);
        }
        true
    }

    /// Does something to the cluster at once.
    pub fn act(&mut self, action: Action) {
        self.timeline.note(self.step, self.now, None, || Note::Action(action.clone()));
        match action {
            Action::Crash(host) => self.end(host, DaemonEvent::Crash),
            Action::Stop(host) => self.stop(host),
            Action::Start(host) => self.start(host),
            Action::SetBack(host, lives) => self.hosts[host].set_back(lives),
            Action::Pause(host, time) => {
                let until = self.now + time;
                self.hosts[host].paused_until = self.hosts[host].paused_until.max(until);
                self.push(until, Happening::Resume { host });
            }
            Action::CrashIn(..)
            | Action::CrashAmid(..)
            | Action::PartitionIn(..)
            | Action::MuteIn(..) => self.traps.push(action),
            Action::Partition(parts) => self.network.partition(&parts),
            Action::Link(from, to, up) => self.network.set_link(from, to, up),
            Action::Hush(host, on) => self.network.set_hushed(host, on),
            Action::Reject(from, to, on) => self.network.set_rejected(from, to, on),
            Action::Refuse(host, about) => self.tell_refusal(host, about),
            Action::Heal => self.network.heal(),
            Action::Reload(host, cluster) => self.reload(host, cluster),
            Action::Weather(weather) => self.network.weather = weather,
            Action::Stale => {
                let old = self.network.recall();
                self.throw(old);
            }
            Action::StaleOf(kind) => {
                let old = self.network.recall_of(kind);
                self.throw(old);
            }
            Action::Memory(host, shortage) => {
                self.with(host, |core, _| core.set_memory(shortage));
            }
            Action::Stranger => {
                let noise = self.network.stranger();
                self.throw(Some(noise));
            }
        }
    }

    /// Ends all that only scenarios do: traps, pauses, cut links, bad weather, lack of memory.
    pub fn calm(&mut self) {
        self.traps.clear();
        self.calmed = self.queue.cut();
        self.network.heal();
        self.network.weather = Weather::FAIR;
        for host in 0..self.hosts.len() {
            self.with(host, |core, _| core.set_memory(Shortage::default()));
            if self.hosts[host].paused_until > self.now {
                self.hosts[host].paused_until = self.now;
                self.push(self.now, Happening::Resume { host });
            }
        }
    }

    /// Has a message submitted at `host`; whether it was accepted.
    pub fn submit(&mut self, host: usize, service: Service, len: usize) -> bool {
        let now = self.time(host);
        let this = &mut self.hosts[host];
        let message = MessageId { origin: this.life, n: this.submitted };
        let Some(core) = &mut this.core else { return false };
        let bytes = payload(message, len);
        let accepted = core.submit(now, service, &bytes);
        if accepted {
            this.submitted += 1;
            let content = content(service, &bytes);
            self.log(host, DaemonEvent::Submit { message, content });
        }
        self.drain(host);
        accepted
    }

    /// Ends the run: the trace with what its end must look like.
    pub fn finish(mut self, ending: Ending) -> (Trace, Timeline) {
        self.trace.ending = ending;
        (self.trace, self.timeline)
    }

    pub(super) fn push(&mut self, at: Instant, what: Happening) {
        self.queue.push(at.max(self.now), what);
    }

    pub(super) fn log(&mut self, host: usize, event: DaemonEvent) {
        self.step += 1;
        let entry = Entry { step: self.step, at: self.now, event };
        self.trace.daemons[self.hosts[host].log].entries.push(entry);
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Arrive { from, to, channel, bytes } => {
                let room = self.network.weather.buffer_bytes;
                self.hosts[to].receive(from, channel, bytes, room);
                self.schedule_work(to);
            }
            Happening::Work { host, life } => {
                if self.hosts[host].life.incarnation == life {
                    self.work(host);
                }
            }
            Happening::Timer { host, life } => {
                if self.hosts[host].life.incarnation == life {
                    self.timer(host);
                }
            }
            Happening::Resume { host } => {
                self.schedule_work(host);
                self.rearm(host);
            }
            Happening::Submit { host, habit } => {
                if self.hosts[host].habit == habit {
                    if !self.is_paused(host) {
                        self.burst(host);
                    }
                    self.next_submit(host);
                }
            }
            Happening::Act(action) => self.act(*action),
            Happening::Unreachable { host, daemon } => {
                self.with(host, |core, now| core.handle_unreachable(now, daemon));
            }
        }
    }

    /// What the time is for the daemon on `host`.
    fn time(&mut self, host: usize) -> Instant {
        let stall = self.tuning.failure_timeout / STALLS_PER_TIMEOUT;
        self.hosts[host].read(self.now, if self.real_time { stall } else { Duration::MAX })
    }

    fn is_paused(&self, host: usize) -> bool {
        self.hosts[host].paused_until > self.now
    }

    fn start(&mut self, host: usize) {
        let this = &mut self.hosts[host];
        let seed = this.seed(&mut self.rng);
        if this.core.is_some() {
            return;
        }
        if this.log != usize::MAX {
            this.life.incarnation += 1;
        }
        let setup = self.setup(host, seed);
        let this = &mut self.hosts[host];
        this.core = Some(C::start(self.now, &setup));
        this.time = OwnTime::new(self.now);
        this.paused_until = self.now;
        self.begin_log(host);
        self.drain(host);
    }

    fn setup(&mut self, host: usize, seed: u64) -> Setup {
        let clock = self.hosts[host].tick();
        let this = &self.hosts[host];
        Setup {
            daemon: this.life.daemon,
            daemons: (1..=self.hosts.len() as u32).map(DaemonId::new).collect(),
            cluster: this.cluster,
            seed,
            run: self.run,
            incarnation: this.life.incarnation,
            clock,
            tuning: self.tuning.clone(),
        }
    }

    fn begin_log(&mut self, host: usize) {
        let this = &mut self.hosts[host];
        this.log = self.trace.daemons.len();
        (this.submitted, this.returned) = (0, 0);
        (this.working, this.armed) = (false, None);
        self.trace.daemons.push(DaemonLog { life: this.life, entries: Vec::new() });
    }

    fn reload(&mut self, host: usize, cluster: u64) {
        let this = &mut self.hosts[host];
        let seed = this.seed(&mut self.rng);
        if this.cluster == STRANGER || std::mem::replace(&mut this.cluster, cluster) == cluster {
            return;
        }
        let mut setup = self.setup(host, seed);
        setup.incarnation += 1;
        let reloads = self.with(host, |core, now| core.handle_reload(now, &setup));
        if reloads == Some(false) {
            self.stop(host);
            self.start(host);
        }
    }

    /// A daemon that has gone over to another configuration file is another one to the others.
    pub(super) fn reborn(&mut self, host: usize) {
        self.log(host, DaemonEvent::Stop);
        let this = &mut self.hosts[host];
        this.life.incarnation += 1;
        this.ring = None;
        self.begin_log(host);
        self.schedule_work(host);
    }

    fn stop(&mut self, host: usize) {
        if self.with(host, |core, now| core.handle_stop(now)).is_some() {
            self.end(host, DaemonEvent::Stop);
        }
    }

    fn end(&mut self, host: usize, event: DaemonEvent) {
        let Some(mut core) = self.hosts[host].core.take() else { return };
        self.cover = self.cover.with(&core);
        while let Some(output) = core.poll_output() {
            // It may be on its way already.
            if let Output::Given { place } = output {
                self.given(host, place);
            }
        }
        self.log(host, event);
        self.hosts[host].clear();
        let daemon = daemon_name(self.hosts[host].life.daemon.get());
        let here = self.sessions.keys().filter(|session| session.daemon == daemon);
        for session in here.copied().collect::<Vec<_>>() {
            self.session(session, SessionEvent::End);
        }
    }

    /// Sends a datagram to everybody, from nobody.
    fn throw(&mut self, datagram: Option<(Channel, HeapBuffer)>) {
        let Some((channel, bytes)) = datagram else { return };
        for to in 0..self.hosts.len() {
            let bytes = bytes.clone();
            self.push(self.now, Happening::Arrive { from: None, to, channel, bytes });
        }
    }

    fn schedule_work(&mut self, host: usize) {
        let paused = self.is_paused(host);
        let this = &mut self.hosts[host];
        if this.is_behind() && !this.working && !paused && this.core.is_some() {
            this.working = true;
            let life = this.life.incarnation;
            let at = self.now + Duration::from_nanos(self.network.weather.work_ns);
            self.push(at, Happening::Work { host, life });
        }
    }

    fn work(&mut self, host: usize) {
        self.hosts[host].working = false;
        if self.is_paused(host) {
            return;
        }
        let first = if self.rng.chance(500) { Channel::Token } else { Channel::Data };
        let Some((from, channel, bytes)) = self.hosts[host].take(first) else { return };
        let from_the_dead = from.is_some_and(|from| self.hosts[from].core.is_none());
        let now = self.time(host);
        let this = &mut self.hosts[host];
        if let Some(core) = &mut this.core {
            core.handle_dropped(std::mem::take(&mut this.dropped));
            let kept = (from_the_dead && core.state() == "recovery").then(|| core.retained());
            core.handle_packet(now, channel, &bytes);
            self.cover.holes_filled_late += u64::from(kept.is_some_and(|k| core.retained() > k));
            self.drain(host);
        }
        self.schedule_work(host);
    }

    fn timer(&mut self, host: usize) {
        let now = self.now;
        if self.is_paused(host) {
            self.hosts[host].armed = None;
            return;
        }
        if self.hosts[host].armed.take_if(|armed| *armed == now).is_none() {
            return;
        }
        let own = self.time(host);
        let this = &mut self.hosts[host];
        let (is_behind, is_asked) = (this.is_behind(), this.armed_at == now);
        let Some(core) = &mut this.core else { return };
        if core.poll_timeout().is_some_and(|deadline| deadline <= own) {
            if self.real_time && is_behind && !is_asked {
                let since = *this.late_since.get_or_insert(now);
                if now.since(since) < TIMERS_LATE_MAX {
                    // It is looked at again when the next datagram has been taken.
                    return;
                }
            }
            this.late_since = None;
            core.handle_timeout(own);
            self.drain(host);
        } else {
            self.rearm(host);
        }
    }

    fn rearm(&mut self, host: usize) {
        let paused = self.is_paused(host);
        let this = &mut self.hosts[host];
        let Some(deadline) = this.core.as_ref().and_then(Core::poll_timeout) else { return };
        let deadline = this.time.on_clock(deadline).max(self.now);
        if paused || this.armed.is_some_and(|armed| armed <= deadline) {
            return;
        }
        (this.armed, this.armed_at) = (Some(deadline), self.now);
        let life = this.life.incarnation;
        self.push(deadline, Happening::Timer { host, life });
    }

    fn next_submit(&mut self, host: usize) {
        let this = &self.hosts[host];
        let habit = this.habit;
        if let Some(gap) = this.workload.next_gap(&mut self.rng) {
            self.push(self.now + gap, Happening::Submit { host, habit });
        }
    }

    fn burst(&mut self, host: usize) {
        let (now, this) = (self.time(host), &mut self.hosts[host]);
        if this.core.as_mut().is_some_and(|core| core.act(now, &this.workload)) {
            return self.drain(host);
        }
        let messages = self.hosts[host].workload.burst(&mut self.rng);
        for (service, len) in messages {
            if !self.submit(host, service, len) {
                break;
            }
        }
    }

    /// Takes all outputs of a core, as a daemon does after each input.
    fn drain(&mut self, host: usize) {
        let (mut cut, mut sent) = (false, 0);
        loop {
            self.spring_traps(host);
            let Some(core) = &mut self.hosts[host].core else { return };
            if let Some(transmit) = core.poll_transmit() {
                for placement in &transmit.places {
                    self.placed(host, placement);
                }
                cut = cut || self.network.cuts_tail();
                if !cut {
                    self.transmit(host, &transmit);
                }
                sent += 1;
                self.spring_amid(host, sent);
            } else if let Some(output) = core.poll_output() {
                self.output(host, output);
            } else {
                break;
            }
        }
        self.rearm(host);
    }

    fn transmit(&mut self, from: usize, transmit: &Transmit) {
        let sender = self.hosts[from].life.daemon;
        self.timeline.note(self.step, self.now, Some(from), || {
            Note::Transmit(transmit.to, transmit.channel, transmit.bytes.as_ref().len())
        });
        if self.hosts[from].cluster != STRANGER {
            let kind = C::kind(transmit.channel, transmit.bytes.as_ref());
            self.network.record(kind, transmit.channel, &transmit.bytes);
        }
        for to in 0..self.hosts.len() {
            let receiver = self.hosts[to].life.daemon;
            if transmit.to.is_some_and(|only| only != receiver) || receiver == sender {
                continue;
            }
            let multicast = transmit.to.is_none();
            let route = Route { from, to, channel: transmit.channel, multicast };
            self.refuse(route, receiver);
            for arrival in self.network.carry(self.now, route, &transmit.bytes) {
                // The kernel's checksum finds what is not intact; what it may miss is for keys.
                let (channel, bytes) = (route.channel, arrival.bytes);
                if arrival.intact || !C::is_packet(channel, bytes.as_ref()) {
                    let from = Some(from);
                    self.push(arrival.at, Happening::Arrive { from, to, channel, bytes });
                }
            }
        }
    }
}
