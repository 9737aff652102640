//! Every bound of the system, with the reason for its size.

use std::time::Duration;

/// Size of a name field in the client protocol; a name has at most one byte less.
pub const GROUP_NAME_BYTES: usize = 32;

/// Longest name of a session.
pub const SESSION_NAME_BYTES_MAX: usize = 10;

/// Longest name of a daemon.
pub const DAEMON_NAME_BYTES_MAX: usize = 19;

/// Header of a frame in the client protocol.
pub const FRAME_HEADER_BYTES: usize = 48;

/// Destinations of one message: what Spread's header check lets through.
pub const DESTINATIONS_MAX: usize = 100;

/// Data and destination fields of one message together: what Spread's library lets through.
///
/// Spread's daemon drops a session above 143,952 bytes and aborts at some sizes below; here all
/// that a client library can send is delivered.
pub const BODY_BYTES_MAX: usize = 144_000;

/// Longest frame that a client may send.
pub const CLIENT_FRAME_BYTES_MAX: usize = FRAME_HEADER_BYTES + BODY_BYTES_MAX;

/// Longest frame that a client takes from its daemon: a view of a million members with their sets.
///
/// The client's memory grows only as the bytes really arrive.
pub const DAEMON_FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

const _: () = assert!(CLIENT_FRAME_BYTES_MAX <= DAEMON_FRAME_BYTES_MAX);

/// Data and destination fields of one message together that Spread's own daemon can carry.
pub const SPREAD_BODY_BYTES_MAX: usize = 143_152;

/// Destinations of one message that Spread's own daemon looks at.
pub const SPREAD_DESTINATIONS_MAX: usize = 43;

const _: () = assert!(SPREAD_BODY_BYTES_MAX <= BODY_BYTES_MAX);
const _: () = assert!(SPREAD_DESTINATIONS_MAX <= DESTINATIONS_MAX);

/// First size of a client's receive buffer: one receive takes many messages, or any single one.
pub const CLIENT_RECEIVE_BYTES: usize = 256 * 1024;

/// Free space that a client's receive buffer offers to each receive, at least.
pub const CLIENT_RECEIVE_BYTES_MIN: usize = 64 * 1024;

const _: () = assert!(CLIENT_RECEIVE_BYTES_MIN < CLIENT_RECEIVE_BYTES);

/// Bytes that a client's outbox collects before it writes them by itself.
pub const CLIENT_BATCH_BYTES: usize = 64 * 1024;

/// Smallest queue between a session and its daemon in shared memory.
pub const SHARED_QUEUE_BYTES_MIN: usize = 16 * 1024;

/// Largest queue between a session and its daemon in shared memory. Each session has two.
pub const SHARED_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes that a core takes from one session's shared memory before it looks at the next.
pub const CHANNEL_READ_BYTES: usize = 64 * 1024;

/// Bytes that a core writes for one session into shared memory, up to the end of a frame, before it
/// goes on with the next.
pub const CHANNEL_WRITE_BYTES: usize = 256 * 1024;

/// Sessions that a core attaches in one turn: it has to make and map memory for each.
pub const ATTACHES_PER_TURN: usize = 2;

/// Default bound on the memory that one core shares with clients: what 4,000 sessions with queues
/// of the default size take.
pub const SHARED_BYTES_MAX: usize = 2 * 1024 * 1024 * 1024;

/// How long memory counts that was left to clients when their session was over: nobody tells how
/// long they keep it.
pub const SHARED_LEFT_FOR: Duration = Duration::from_secs(600);

/// Default bound on sessions of one daemon; descriptors may force a smaller one.
pub const SESSIONS_MAX: usize = 16_384;

/// Unit in which the pool hands memory to stores: holds any client frame.
pub const CHUNK_BYTES: usize = 256 * 1024;

const _: () = assert!(CLIENT_FRAME_BYTES_MAX <= CHUNK_BYTES);

/// Size of one receive buffer given to the kernel: about the most one receive can return.
pub const RECEIVE_BYTES: usize = 32 * 1024;

/// Receive buffers that each core gives to the kernel.
pub const RECEIVE_BUFFERS: usize = 128;

/// Entries of a core's submission queue; a fuller turn is submitted in parts.
pub const RING_ENTRIES: u32 = 1024;

/// How long a starting daemon waits for sockets that are in use, before it gives up.
pub const LISTEN_PATIENCE: Duration = Duration::from_secs(1);

/// Time between two tries to open them.
pub const LISTEN_PAUSE: Duration = Duration::from_millis(10);

/// Descriptors that a core needs beside those of its sessions.
pub const DESCRIPTORS_RESERVED: usize = 16;

/// Pieces of one scatter/gather send; the kernel takes 1,024, a turn rarely has more than a few.
pub const SEND_PIECES_MAX: usize = 64;

/// Events that a core takes from its driver in one turn before it sends and looks at its queues.
pub const EVENTS_PER_TURN: usize = 256;

/// Items that a core takes from a queue in one turn before it looks at its driver again.
pub const ITEMS_PER_TURN: usize = 1024;

/// Buffers for incomplete input that are kept for the next client that needs one.
pub const SPARE_INPUTS_MAX: usize = 64;

/// Largest of these: holds a frame that is incomplete and what is received at a time.
pub const SPARE_INPUT_BYTES_MAX: usize = 256 * 1024;

/// Bytes of one client that wait to be worked on before no more are read from it. A frame that is
/// incomplete is shorter, so reading goes on by itself.
pub const INPUT_BYTES_MAX: usize = 256 * 1024;

const _: () = assert!(CLIENT_FRAME_BYTES_MAX + CHANNEL_READ_BYTES <= SPARE_INPUT_BYTES_MAX);
const _: () = assert!(CLIENT_FRAME_BYTES_MAX + CHANNEL_READ_BYTES <= INPUT_BYTES_MAX);

/// Slots of a queue between two cores: at 64 bytes a slot, half a megabyte.
pub const QUEUE_SLOTS: usize = 8 * 1024;

/// Items that may wait for room in such a queue, some seven megabytes, before no more messages of
/// other daemons are taken.
pub const LANE_ITEMS_MAX: usize = 8 * QUEUE_SLOTS;

/// Cores of one daemon.
pub const CORES_MAX: usize = 64;

/// Most memory that may be configured: a tebibyte.
pub const BYTES_CEILING: usize = 1 << 40;

/// Longest configuration or access file: far beyond any that a person wrote.
pub const CONFIG_BYTES_MAX: usize = 1024 * 1024;

/// TCP addresses that one daemon listens on.
pub const LISTEN_ADDRESSES_MAX: usize = 16;

/// Rules of one access file: every connection is compared with each.
pub const ACCESS_RULES_MAX: usize = 4096;

/// CPUs that a thread can be pinned to: numbers below this fit the kernel's usual mask.
pub const CPUS_MAX: usize = 1024;

/// Daemons of one cluster: a set of them is one 128-bit number.
pub const DAEMONS_MAX: usize = 128;

/// Greatest incarnation of a daemon: milliseconds of wall-clock time until the year 2248.
pub const INCARNATION_MAX: u64 = (1 << 43) - 1;

/// Greatest number of a ring that another can follow. Numbers begin at the incarnation times 2^20,
/// below 2^63, and grow by 2^20 with each ring, so that no daemon ever gets here.
pub const RING_NUMBER_MAX: u64 = u64::MAX - (1 << 21);

/// Numbers of rings up to here are believed whoever names them: the last life begins at 2^63, and
/// 2^42 rings may follow. A daemon that a lie has led here has as many before it once more.
pub const RING_NUMBER_CLAIM_MAX: u64 = (1 << 63) | (1 << 62);

/// Above that, no number is believed that is more than so far above the own one: a million rings.
pub const RING_NUMBER_LEAP: u64 = 1 << 40;

const _: () = assert!(((INCARNATION_MAX + 1) << 20) < RING_NUMBER_CLAIM_MAX);

/// Senders of packets of another cluster that are kept in mind beside the daemons of this one: so
/// many can be answered in [`IDENTITY_SPEAK_INTERVAL`], whoever they claim to be.
pub const STRANGERS_MAX: usize = 32;

/// Time between two answers to one address that sends packets of another cluster. An answer may be
/// fifty times as long as what it answers.
pub const IDENTITY_SPEAK_INTERVAL: Duration = Duration::from_secs(10);

/// Time for which packets of another cluster must have come from an address before it is answered:
/// when files are changed on all hosts, daemons differ for a moment.
pub const IDENTITY_GRACE: Duration = Duration::from_secs(1);

/// Time between two log lines on what differs from the configuration of one such sender.
pub const IDENTITY_TELL_INTERVAL: Duration = Duration::from_secs(60);

/// Differences between two configurations that one log line names.
pub const DIFFERENCES_TOLD_MAX: usize = 8;

/// Segments of one cluster: as many as Spread's configuration takes.
pub const SEGMENTS_MAX: usize = 20;

/// Packets between the slowest daemon of a ring and the newest one: the receive window.
///
/// At 1,400 bytes it is 11 MB, several turns of a 10 Gbit/s link; a map of it fits a datagram.
pub const RING_WINDOW_PACKETS: usize = 8 * 1024;

/// Time after which a daemon that is not in the ring is asked who it is, by unicast.
pub const ASK_AFTER: Duration = Duration::from_secs(1);

/// Time between two such questions.
pub const ASK_INTERVAL: Duration = Duration::from_secs(3);

/// Time for which a daemon must not have been heard, or not its multicast, before the log says so.
pub const UNHEARD_GRACE: Duration = Duration::from_secs(5);

/// A token rests for so many microseconds at most: a minute.
pub const REST_MICROS_MAX: u32 = 60_000_000;

/// Largest datagram between daemons: what IPv4 lets through.
pub const PEER_DATAGRAM_BYTES_MAX: usize = 65_507;

/// Smallest datagram that daemons may be configured for: what the smallest packet of IPv6 lets
/// through. Holds every packet but those of data and identities.
pub const PEER_DATAGRAM_BYTES_MIN: usize = 1_280 - 48;

/// Runs of missing packets that one request names; the next request names the rest.
pub const REPAIR_RANGES_MAX: usize = 32;

/// Packets that one repair request may ask for: a burst that any receive buffer takes.
pub const REPAIR_PACKETS_MAX: usize = 64;

/// Longest message of the layer above that the order carries.
pub const ORDERED_BYTES_MAX: usize = 64 * 1024 * 1024;

const _: () = assert!(CLIENT_FRAME_BYTES_MAX <= ORDERED_BYTES_MAX);

/// A part of the state of groups that daemons exchange ends behind the member that makes it so
/// long.
pub const STATE_PART_BYTES: usize = 64 * 1024;

/// Batches of packets that the sockets for other daemons may bring in one turn of the mio driver.
pub const DATAGRAM_RECEIVES_PER_TURN: usize = 64;

/// Receive buffers for such batches that each core gives to the kernel: half a megabyte. The kernel
/// takes them in turn, so more of them than the cache holds make each packet dearer
/// (`docs/drivers.md` has the figures).
pub const DATAGRAM_BUFFERS: usize = 8;

/// Of the ring core's pool, one part in so many is what the packets of the receive window may take:
/// the rest is for messages that are put together and for sessions.
pub const RING_WINDOW_POOL_SHARE: usize = 4;

/// Memory that the ring core keeps for tokens and membership when its pool is full: what is in it
/// is let go of within a turn, but for an exchange or two.
pub const RING_RESERVE_BYTES: usize = 4 * CHUNK_BYTES;

/// Memory that the ring core keeps for the next packet in order and for what is made of packets for
/// sessions, when its pool is full: several of the longest messages of a client.
pub const RING_SPARE_BYTES: usize = 16 * CHUNK_BYTES;

/// How long timers of the ring wait for packets that are there and not yet taken: several times
/// what it takes to read a full socket. A flood must not stop the clock.
pub const TIMERS_LATE_MAX: Duration = Duration::from_millis(20);

/// What part of the failure timeout a daemon must have stood still for its time to do so too: small
/// enough that what is left of the timeout is not spent by pauses that do not count.
pub const STALLS_PER_TIMEOUT: u32 = 4;

/// Shortest part of that state that a daemon may be told to make: longer than what it begins with.
pub const STATE_PART_BYTES_MIN: usize = 100;

/// Longest command of an operator, with the end of its line.
pub const CONTROL_LINE_BYTES_MAX: u64 = 16;

/// How long the daemon waits for each step of one who sends a command. It does nothing else of that
/// kind meanwhile, and hears no signal.
pub const CONTROL_PATIENCE: Duration = Duration::from_secs(1);

/// Long frames of one pass over the sessions of a core that are known again when the next session
/// of the same user gets them.
pub const OFFERS_MAX: usize = 256;

/// Shortest frame that may be shared: below it a copy costs less than what sharing takes.
pub const SHELF_FRAME_BYTES_MIN: usize = 1024;

/// Largest shelf, where long frames lie for several sessions.
pub const SHELF_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Requests of one session that may wait for the ring before no more are read from it.
pub const SESSION_WAITING_MAX: usize = 32;
