//! The other daemons: where they are, and how packets come from them and go to them.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::lifeline::{Lifeline, Sign};
use super::ring_pool::{RingPool, split};
use super::routes::{Routes, Spot};
use super::strangers::Strangers;
use super::unheard::{Other, Sort, Unheard};
use crate::base::buffer::Heap;
use crate::base::{Counter, DaemonId, DaemonName, DaemonSet, Event, Instant, Rank, RingId, Tally};
use crate::config::{Cluster, ClusterDaemon, Identity};
use crate::mem::pool::Slice;
use crate::protocol::output::{Channel, To, Transmit};
use crate::sys::datagram::{
    DatagramError, DatagramSocket, Destination, TRAIN_BYTES_MAX, TRAIN_PACKETS_MAX,
};
use crate::sys::driver::{DatagramEvent, DatagramKey, Driver};
use crate::wire::header::{self, Envelope, PacketKind};

/// Where a daemon receives.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) id: DaemonId,
    pub(super) data: SocketAddr,
    pub(super) token: SocketAddr,
}

/// What has to be known of the network.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) me: Place,
    /// The others.
    pub(super) others: Vec<Place>,
    /// Where all daemons are, by rank.
    spots: Vec<Spot>,
    /// Where the own segment meets.
    pub(super) group: Option<SocketAddr>,
    /// Routers that a packet to a group may pass.
    pub(super) hops: u32,
    /// Room for packets that were not yet taken, for each socket.
    pub(super) receive_bytes: usize,
    /// What the cluster is.
    identity: Identity,
    /// This daemon's place in it.
    rank: Rank,
    failure_timeout: Duration,
}

/// Sockets that are open and not yet with a driver.
pub(super) struct Sockets {
    plan: Plan,
    data: DatagramSocket,
    token: DatagramSocket,
    group: Option<DatagramSocket>,
    lifeline: Option<Lifeline>,
}

impl Plan {
    /// That of daemon `me`; none where it is the whole cluster.
    pub(super) fn new(cluster: &Cluster, me: DaemonName) -> Option<Self> {
        let place = |daemon: &ClusterDaemon| Place {
            id: daemon.id,
            data: cluster.data(daemon),
            token: cluster.token(daemon),
        };
        let own = cluster.daemon(me)?;
        let index = cluster.daemons.iter().position(|daemon| daemon.name == me)?;
        let segment = cluster.segment(own);
        let others = cluster.daemons.iter().filter(|daemon| daemon.name != me);
        let spot = |it: &ClusterDaemon| Spot { segment: it.segment, data: cluster.data(it) };
        Some(Self {
            me: place(own),
            others: others.map(place).collect(),
            spots: cluster.daemons.iter().map(spot).collect(),
            group: segment.group(),
            hops: segment.hops,
            receive_bytes: cluster.receive_bytes,
            identity: cluster.identity(),
            rank: Rank::new(index)?,
            failure_timeout: cluster.failure_timeout,
        })
    }

    fn strangers(&self) -> Strangers<Slice> {
        let known = self.others.iter().flat_map(|place| [place.data, place.token]).collect();
        let own = vec![self.me.data, self.me.token];
        Strangers::new(self.identity.clone(), self.rank, own, known)
    }

    fn unheard(&self, now: Instant) -> Unheard {
        let own = self.spots[self.rank.index()].segment;
        let ranks = DaemonSet::first_ranks(self.spots.len());
        let others = ranks.iter().filter(|&rank| rank != self.rank);
        let other = |(place, rank): (&Place, Rank)| Other {
            id: place.id,
            rank,
            place: [place.data, place.token],
            group: self.group.filter(|_| self.spots[rank.index()].segment == own),
        };
        let others = self.others.iter().zip(others).map(other).collect();
        Unheard::new(now, others, self.failure_timeout)
    }

    /// A packet that asks who its receiver is: an identity that says nothing.
    fn question(&self) -> Vec<u8> {
        let envelope = Envelope { cluster: self.identity.hash, sender: self.rank };
        let packet = envelope.seal(&mut Heap, PacketKind::Identity, 0, |_| {});
        packet.expect("the heap has no bound").as_ref().to_vec()
    }

    /// Addresses of the others.
    fn known(&self) -> Vec<IpAddr> {
        self.others.iter().map(|place| place.token.ip()).collect()
    }

    fn routes(&self) -> Routes {
        Routes::new(self.rank, self.spots.clone(), self.group)
    }
}

impl Sockets {
    pub(super) fn open(plan: &Plan) -> Result<Self, DatagramError> {
        let local = plan.me.data.ip();
        let data = DatagramSocket::unicast(plan.me.data, plan.hops)?;
        let token = DatagramSocket::unicast(plan.me.token, plan.hops)?;
        let join = |group| DatagramSocket::multicast(group, local);
        let group = plan.group.map(join).transpose()?;
        let named = [("data", Some(&data)), ("token", Some(&token)), ("multicast", group.as_ref())];
        reserve(named, plan.receive_bytes);
        let lifeline = Lifeline::open(plan.me.token, plan.known());
        let lifeline = lifeline.map_err(|error| {
            tracing::warn!(
                %error,
                "cannot watch the next daemon: if it is killed that is noticed late"
            );
        });
        Ok(Self { plan: plan.clone(), data, token, group, lifeline: lifeline.ok() })
    }
}

/// Makes room for packets, and says what to do where there is too little.
fn reserve(sockets: [(&str, Option<&DatagramSocket>); 3], wanted: usize) {
    let (mut scarce, mut least) = (Vec::new(), wanted);
    for (name, socket) in sockets {
        match socket.map(|socket| socket.reserve(wanted)) {
            Some(Ok(room)) if room < wanted => {
                scarce.push(name);
                least = least.min(room);
            }
            Some(Ok(_)) | None => {}
            Some(Err(error)) => tracing::warn!(%error, name, "cannot make room for packets"),
        }
    }
    if !scarce.is_empty() {
        tracing::warn!(
            wanted,
            room = least,
            sockets = scarce.join(", "),
            "the kernel gives sockets for other daemons less room than configured, so packets may \
             be lost: sysctl -w net.core.rmem_max={wanted}"
        );
    }
}

/// The sockets of the ring core.
pub(super) struct Network {
    data: DatagramKey,
    token: DatagramKey,
    group: Option<DatagramKey>,
    /// Where this daemon sends from.
    own: SocketAddr,
    cluster: u64,
    me: Rank,
    /// All but this one, by rank.
    daemons: Vec<Known>,
    routes: Routes,
    train: Vec<Slice>,
    /// Where the train goes.
    route: Option<Route>,
    /// What came from other segments and is to be sent on in the own one.
    relayed: Vec<Slice>,
    /// The sessions' cores are behind.
    holds_data: bool,
    strangers: Strangers<Slice>,
    unheard: Unheard,
    question: Vec<u8>,
    lifeline: Option<Lifeline>,
    /// Why trains of packets were refused, as far as that was told.
    told: Vec<Option<i32>>,
    tally: Tally,
}

struct Known {
    id: DaemonId,
    place: [SocketAddr; 2],
    data: Destination,
    token: Destination,
}

/// Where a train goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Route {
    All {
        is_data: bool,
    },
    /// The others of the own segment.
    Segment,
    Daemon(DaemonId, Channel),
}

/// What came from the network.
pub(super) enum Arrival<'a> {
    /// A datagram.
    Packet(Slice),
    /// A packet of data for which there is no room: to be dropped if it can be, to be repeated.
    Scarce(&'a [u8]),
    /// A packet of data that was dropped, to be repeated: see [`Network::hold_data`].
    Held,
    /// So many packets found no room in a socket.
    Dropped(u32),
    /// Nothing listens where this daemon was.
    Refusal(DaemonId),
}

impl Network {
    pub(super) fn new(now: Instant, sockets: Sockets, driver: &mut Driver) -> Self {
        let Sockets { plan, data, token, group, lifeline } = sockets;
        if let Some(lifeline) = &lifeline {
            lifeline.report_to(driver.bell());
        }
        let mut this = Self {
            data: driver.attach_datagrams(data),
            token: driver.attach_datagrams(token),
            group: group.map(|group| driver.attach_datagrams(group)),
            own: plan.me.data,
            cluster: plan.identity.hash,
            me: plan.rank,
            daemons: Vec::new(),
            routes: plan.routes(),
            train: Vec::with_capacity(TRAIN_PACKETS_MAX),
            route: None,
            relayed: Vec::new(),
            holds_data: false,
            strangers: plan.strangers(),
            unheard: plan.unheard(now),
            question: plan.question(),
            lifeline,
            told: Vec::new(),
            tally: Tally::new(),
        };
        this.set_daemons(now, &plan);
        this
    }

    /// From now on these are the other daemons.
    pub(super) fn set_daemons(&mut self, now: Instant, plan: &Plan) {
        let known = |place: &Place| Known {
            id: place.id,
            place: [place.data, place.token],
            data: place.data.into(),
            token: place.token.into(),
        };
        self.strangers.replace(plan.strangers());
        (self.unheard, self.question) = (plan.unheard(now), plan.question());
        (self.routes, self.cluster) = (plan.routes(), plan.identity.hash);
        self.me = plan.rank;
        self.daemons = plan.others.iter().map(known).collect();
        if let Some(lifeline) = &self.lifeline {
            lifeline.know(plan.known());
        }
    }

    /// What is sent from now on is for these daemons of this ring.
    pub(super) fn follow(&mut self, now: Instant, ring: RingId, members: DaemonSet) {
        if !self.routes.follow(ring, members) {
            return;
        }
        self.unheard.follow(now, members);
        if let Some(lifeline) = &self.lifeline {
            let next = members.successor(self.me).and_then(|rank| self.daemon(rank));
            lifeline.watch(next.map(|next| (next.id, next.place[1])));
        }
    }

    /// Another daemon, by its rank.
    fn daemon(&self, rank: Rank) -> Option<&Known> {
        let before = usize::from(rank > self.me);
        (rank != self.me).then(|| self.daemons.get(rank.index() - before))?
    }

    /// What is new of the process of the next daemon.
    pub(super) fn poll_lifeline(&mut self) -> Option<Sign> {
        let lifeline = self.lifeline.as_ref()?;
        self.tally.add(Counter::LifelinesRefused, lifeline.take_strangers());
        lifeline.poll()
    }

    pub(super) fn tallies(&self) -> [&Tally; 2] {
        [&self.tally, self.strangers.tally()]
    }

    /// The next thing to tell the operator.
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.strangers.poll_event().or_else(|| self.unheard.poll_event())
    }

    /// When [`Network::fire`] has something to do.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.unheard.next_timer()
    }

    /// Does what is due, besides what the protocol layer does.
    pub(super) fn fire(&mut self, now: Instant) {
        self.unheard.fire(now);
    }

    /// Takes what has arrived at `socket`.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        socket: DatagramKey,
        event: DatagramEvent<'_>,
        pool: &mut RingPool,
        mut take: impl FnMut(Arrival<'_>, &mut RingPool),
    ) {
        match event {
            DatagramEvent::Received { bytes, segment, dropped, from } => {
                if dropped > 0 {
                    self.tally.add(Counter::PacketsDropped, u64::from(dropped));
                    take(Arrival::Dropped(dropped), pool);
                }
                if from == Some(self.own) {
                    // Multicast came back.
                    return;
                }
                let sort = self.sort(bytes);
                if let Some(from) = from {
                    self.unheard.hear(now, from, Some(socket) == self.group, sort);
                }
                // What was sent to a group is where it belongs, or it would go round for ever.
                let is_from_afar = |from| socket == self.data && self.routes.relays(from);
                let relays = from.is_some_and(is_from_afar);
                let Some(batch) = pool.store_batch(bytes) else {
                    return self.receive_scarce(bytes, segment, pool, take);
                };
                split(batch, segment, |packet| {
                    let is_data = (relays || self.holds_data) && self.is_data(&packet);
                    if relays && is_data {
                        self.relayed.push(packet.clone());
                    }
                    if self.holds_data && is_data {
                        self.tally.count(Counter::PacketsHeld);
                        return take(Arrival::Held, pool);
                    }
                    self.strangers.hear(now, from, &packet, pool);
                    if sort == Sort::Ours && header::is_identity(&packet) {
                        // It asks who this is: one of its cluster, as it has heard by now.
                        return;
                    }
                    take(Arrival::Packet(packet), pool);
                });
            }
            DatagramEvent::Refused { to } => {
                let at = |known: &&Known| known.place.contains(&to);
                if let Some(known) = self.daemons.iter().find(at) {
                    take(Arrival::Refusal(known.id), pool);
                }
            }
            DatagramEvent::Failed { error } => {
                tracing::warn!(%error, "cannot receive from other daemons; trying again");
            }
        }
    }

    /// Whether data of other daemons is to be dropped, to be repeated later.
    pub(super) fn hold_data(&mut self, held: bool) {
        self.holds_data = held;
    }

    /// Takes packets for which the pool has no room, one by one.
    #[cold]
    fn receive_scarce(
        &mut self,
        bytes: &[u8],
        segment: usize,
        pool: &mut RingPool,
        mut take: impl FnMut(Arrival<'_>, &mut RingPool),
    ) {
        for packet in bytes.chunks(segment.max(1)) {
            if header::is_data(packet) {
                take(Arrival::Scarce(packet), pool);
            } else if let Some(packet) = pool.store_brief_packet(packet) {
                take(Arrival::Packet(packet), pool);
            } else {
                self.tally.count(Counter::PoolExhausted);
            }
        }
    }

    fn sort(&self, bytes: &[u8]) -> Sort {
        match header::cluster(bytes) {
            Some(cluster) if cluster == self.cluster => Sort::Ours,
            Some(_) => Sort::Another,
            None => Sort::Foreign,
        }
    }

    /// Whether it is a packet of the order, of this cluster, and whole.
    fn is_data(&self, packet: &Slice) -> bool {
        matches!(header::open(self.cluster, packet), Ok((PacketKind::Data, ..)))
    }

    /// Sends everything that `next` yields, in trains. Returns how many packets that was.
    pub(super) fn transmit(
        &mut self,
        driver: &mut Driver,
        mut next: impl FnMut() -> Option<Transmit<Slice>>,
    ) -> usize {
        let mut relayed = std::mem::take(&mut self.relayed);
        let mut sent = relayed.len();
        self.tally.add(Counter::PacketsRelayed, sent as u64);
        relayed.drain(..).for_each(|packet| self.load(driver, Route::Segment, packet));
        self.relayed = relayed;
        while let Some(Transmit { to, channel, bytes }) = next() {
            sent += 1;
            let route = match to {
                To::Multicast => Route::All { is_data: header::is_data(&bytes) },
                To::Daemon(daemon) => Route::Daemon(daemon, channel),
            };
            self.load(driver, route, bytes);
        }
        self.send(driver);
        while let Some((to, packet)) = self.strangers.poll_answer() {
            self.send_by_itself(driver, to, &packet);
        }
        while let Some(to) = self.unheard.poll_question() {
            self.send_by_itself(driver, to, &self.question.clone());
        }
        sent
    }

    /// Sends what is no matter of the protocol layer.
    fn send_by_itself(&mut self, driver: &mut Driver, to: SocketAddr, packet: &[u8]) {
        let sent = driver.send_datagrams(self.data, &to.into(), &[IoSlice::new(packet)]);
        if let Err(error) = sent {
            lost(&error, &mut self.tally, 1);
        }
    }

    /// Adds a packet to the train, which leaves first if it is one of another kind.
    fn load(&mut self, driver: &mut Driver, route: Route, packet: Slice) {
        if self.route != Some(route) || !fits(&self.train, &packet) {
            self.send(driver);
            self.route = Some(route);
        }
        self.train.push(packet);
    }

    /// Sends the train, and empties it.
    fn send(&mut self, driver: &mut Driver) {
        let Some(route) = self.route.take().filter(|_| !self.train.is_empty()) else { return };
        let mut slices = [IoSlice::new(&[]); TRAIN_PACKETS_MAX];
        for (slice, packet) in slices.iter_mut().zip(&self.train) {
            *slice = IoSlice::new(packet);
        }
        let slices = &slices[..self.train.len()];
        let (tally, told) = (&mut self.tally, &mut self.told);
        let mut send = |socket, to| match driver.send_datagrams(socket, to, slices) {
            Ok(sent) if slices.len() > 1 && sent.calls > 1 => {
                tally.add(Counter::PacketsSingly, slices.len() as u64);
                if let Some(error) = sent.refused {
                    tell_no_trains(told, &error, to, slices[0].len());
                }
            }
            Ok(_) => {}
            Err(error) => lost(&error, tally, slices.len()),
        };
        match route {
            Route::All { is_data } => {
                self.routes.to_all(is_data).iter().for_each(|to| send(self.data, to));
            }
            Route::Segment => self.routes.relayed().iter().for_each(|to| send(self.data, to)),
            Route::Daemon(daemon, channel) => {
                let Some(known) = self.daemons.iter().find(|known| known.id == daemon) else {
                    return self.train.clear();
                };
                match channel {
                    Channel::Data => send(self.data, &known.data),
                    Channel::Token => send(self.token, &known.token),
                }
            }
        }
        self.train.clear();
    }
}

/// Trains have ended, which nobody would notice but for the speed: once for each cause.
#[cold]
fn tell_no_trains(told: &mut Vec<Option<i32>>, error: &io::Error, to: &Destination, bytes: usize) {
    let cause = error.raw_os_error();
    if told.contains(&cause) {
        return;
    }
    told.push(cause);
    tracing::warn!(
        %error,
        to = to.address().map(tracing::field::display),
        bytes,
        "the kernel takes no trains of packets: each packet costs a system call, up to 18 times \
         the processor time; if the MTU of the interface is less than packets need, lower \
         cluster.datagram_bytes on all hosts"
    );
}

/// What could not be sent is as good as lost on the way: what matters is repeated.
fn lost(error: &io::Error, tally: &mut Tally, packets: usize) {
    tally.add(Counter::PacketsUnsent, packets as u64);
    tracing::debug!(%error, packets, "packets were not sent");
}

/// Whether `next` can be in a train behind `train`: all but the last have the size of the first.
fn fits(train: &[Slice], next: &Slice) -> bool {
    let (Some(first), Some(last)) = (train.first(), train.last()) else { return true };
    let bytes = first.len() * train.len() + next.len();
    last.len() == first.len()
        && next.len() <= first.len()
        && train.len() < TRAIN_PACKETS_MAX
        && bytes <= TRAIN_BYTES_MAX
}
