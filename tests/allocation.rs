//! Proves that a message allocates nothing on its way from its sender's bytes to those of its
//! receivers, once the daemon is warm: through session layer, protocol layer and fan-out; and that
//! none allocates anything on its way round a ring.

#[allow(dead_code, reason = "the benches use the rest")]
#[path = "../benches/cluster/mod.rs"]
mod cluster;
mod counting;
#[allow(dead_code, reason = "the fuzz targets use the rest")]
#[path = "../fuzz/bodies/loopback.rs"]
mod loopback;

use cluster::Cluster;
use counting::{Counting, calls};
use loopback::Loopback;
use madrigal::base::{Service, SessionId, Store};
use madrigal::mem::{Pool, PoolOptions, Slice};
use madrigal::protocol::options::Options;
use madrigal::session::Auth;
use madrigal::wire::session::frame::emit_hint;
use madrigal::wire::session::handshake::{HELLO_BYTES_MAX, emit_auth_choice};
use madrigal::wire::session::{AuthMethods, ByteOrder, Header, Hello, kind};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Messages before the count, which grow every container to its size.
const WARM: usize = 1_000;

/// Messages that are counted: they go round the pool several times.
const COUNTED: usize = 5_000;

fn name(n: usize) -> String {
    format!("s{n}")
}

/// A frame of session `n`.
fn frame(n: usize, kind: u32, groups: &[&str], data: &[u8], order: ByteOrder) -> Vec<u8> {
    let field = |name: &str| {
        let mut field = [0; 32];
        field[..name.len()].copy_from_slice(name.as_bytes());
        field
    };
    let header = Header {
        order,
        kind,
        name: field(&format!("#{}#localhost", name(n))),
        destinations: groups.len() as i32,
        hint: emit_hint(0, order),
        data_len: data.len() as i32,
    };
    let mut bytes = vec![0; 48];
    header.emit(bytes.first_chunk_mut().unwrap());
    groups.iter().for_each(|group| bytes.extend(field(group)));
    bytes.extend(data);
    bytes
}

/// A daemon with a sender, and so many members of `g`.
fn daemon(receivers: usize) -> (Loopback<Pool>, SessionId) {
    let pool = Pool::new(PoolOptions { bytes_max: 64 << 20 });
    let allowed = AuthMethods { null: true, ip: false };
    let mut daemon = Loopback::new(pool, Auth { allowed, ip_required: false });
    let mut nothing = |_: SessionId, _: &[u8]| {};
    let mut ids = Vec::new();
    for n in 0..=receivers {
        let id = daemon.accept(false);
        let mut hello = [0; HELLO_BYTES_MAX];
        let len = Hello::new(name(n).as_bytes(), true, false).emit(&mut hello);
        daemon.receive(id, &hello[..len], &mut nothing);
        daemon.receive(id, &emit_auth_choice(&[b"NULL"]), &mut nothing);
        if n > 0 {
            let join = frame(n, kind::JOIN, &["g"], b"", ByteOrder::Little);
            daemon.receive(id, &join, &mut nothing);
        }
        ids.push(id);
    }
    (daemon, ids[0])
}

/// Sends `messages` times what is in `bytes`, `step` bytes at a time, and counts what comes out.
fn send(
    daemon: &mut Loopback<Pool>,
    sender: SessionId,
    bytes: &[u8],
    step: usize,
    messages: usize,
) -> usize {
    let mut received = 0;
    let mut sink = |_: SessionId, bytes: &[u8]| received += bytes.len();
    for _ in 0..messages {
        for part in bytes.chunks(step) {
            daemon.receive(sender, part, &mut sink);
        }
    }
    received
}

fn check(receivers: usize, bytes: &[u8], step: usize, what: &str) {
    check_copies(receivers, receivers, bytes, step, what);
}

/// `copies`: how many of the sessions get it.
fn check_copies(receivers: usize, copies: usize, bytes: &[u8], step: usize, what: &str) {
    let (mut daemon, sender) = daemon(receivers);
    send(&mut daemon, sender, bytes, step, WARM);
    let before = calls();
    let received = send(&mut daemon, sender, bytes, step, COUNTED);
    let made = calls() - before;
    assert_eq!(received, COUNTED * bytes.len() * copies, "{what} to {receivers}");
    assert_eq!(made, 0, "{what} to {receivers}");
}

#[test]
fn allocator_counts() {
    let before = calls();
    drop(std::hint::black_box(Box::new(0_u64)));
    assert_eq!(calls() - before, 2);
}

#[test]
fn steady_messages_allocate_nothing() {
    let small = frame(0, kind::AGREED, &["g"], &[1; 64], ByteOrder::Little);
    let big_endian = frame(0, kind::SAFE, &["g"], &[1; 1_000], ByteOrder::Big);
    let several = frame(0, kind::FIFO, &["g", "nobody", "#s1#localhost"], &[], ByteOrder::Little);
    let batch = small.repeat(20);
    for receivers in [1, 10] {
        check(receivers, &small, usize::MAX, "a small message");
        check(receivers, &big_endian, usize::MAX, "one of the other byte order");
        // What the private destination names is a member already.
        check(receivers, &several, usize::MAX, "one with several destinations");
        check(receivers, &batch, usize::MAX, "twenty in one read");
        check(receivers, &batch, 1_000, "frames split between reads");
    }
}

#[test]
fn messages_to_one_session_to_all_but_the_sender_and_to_nobody_allocate_nothing() {
    let little = ByteOrder::Little;
    let private = frame(0, kind::RELIABLE, &["#s1#localhost"], &[1; 1_024], little);
    let nobody = frame(0, kind::AGREED, &["nobody", "#nobody#localhost"], &[1; 64], little);
    let both = ["g", "#s0#localhost"];
    let to_itself = frame(0, kind::AGREED, &both, &[1; 64], little);
    let discarded = frame(0, kind::AGREED | kind::SELF_DISCARD, &both, &[1; 64], little);
    for step in [usize::MAX, 61] {
        check_copies(10, 1, &private, step, "a private message");
        check_copies(10, 0, &nobody, step, "a message to nobody");
        check_copies(10, 11, &to_itself, step, "one that its sender gets too");
        check_copies(10, 10, &discarded, step, "one that its sender does not get");
    }
}

/// Rotations of the token in a ring of three, with messages of these lengths in each daemon's turn;
/// returns what was delivered so far by all.
fn rotate(cluster: &mut Cluster<Pool>, service: Service, messages: &[Slice], rounds: usize) -> u64 {
    for _ in 0..rounds {
        for me in 0..3 {
            for payload in messages {
                cluster.daemons[me].submit(cluster.now, service, payload, 1);
            }
            cluster.turn(me);
        }
    }
    cluster.daemons.iter().map(|daemon| daemon.messages).sum()
}

#[test]
fn messages_of_a_ring_allocate_nothing() {
    const ROUNDS: usize = 20;
    let pool = || Pool::new(PoolOptions { bytes_max: 64 << 20 });
    let mixed: Vec<usize> = (0..40).map(|n| 5 * n * n).collect();
    for service in [Service::Agreed, Service::Safe] {
        for lens in [&[64; 200][..], &[1_400; 60], &[1_024; 60], &[9_000; 20], &mixed, &[0]] {
            let mut cluster = Cluster::formed(3, &Options::default(), pool);
            let store = &mut cluster.daemons[0].store;
            let payload = |&len: &usize| store.copy(&vec![1; len]).expect("there is room");
            let messages: Vec<Slice> = lens.iter().map(payload).collect();
            // Windows and pools grow to their size.
            let delivered = rotate(&mut cluster, service, &messages, 3 * ROUNDS);
            let before = calls();
            let delivered = rotate(&mut cluster, service, &messages, ROUNDS) - delivered;
            let made = calls() - before;
            let submitted = (ROUNDS * 3 * messages.len()) as u64;
            // What is safe a rotation later was submitted a rotation earlier.
            let what = format!("{service:?}, {} of at most {:?} B", lens.len(), lens.iter().max());
            assert!(delivered >= submitted * 3 * 8 / 10, "{what}: {delivered}");
            assert_eq!(made, 0, "{what}");
        }
    }
}
