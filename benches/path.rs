//! How long does the daemon take for one message, from the bytes of its sender to the output of
//! its receivers, without the kernel?

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use madrigal::base::{DaemonId, DaemonName, GroupName, Instant, PrivateGroup, Request, SessionId};
use madrigal::mem::pool::{Pool, PoolOptions};
use madrigal::protocol::{self, Daemon, Delivery, Protocol};
use madrigal::session::credit::Bounds;
use madrigal::session::{Auth, Hold, Sessions, Setup, Submission};
use madrigal::wire::session::frame::emit_hint;
use madrigal::wire::session::handshake::emit_auth_choice;
use madrigal::wire::session::{AuthMethods, ByteOrder, Header, kind};

/// The layers of a daemon with one core, and no sockets.
struct Daemonless {
    sessions: Sessions<Pool>,
    protocol: Protocol<Pool>,
    pool: Pool,
}

impl Daemonless {
    /// A sender, and so many members of group `g`.
    fn new(receivers: usize) -> (Self, SessionId) {
        let name = DaemonName::new(b"d").unwrap();
        let daemon = Daemon { id: DaemonId::from_name("d"), name };
        let allowed = AuthMethods { null: true, ip: false };
        let setup = Setup {
            core: 0,
            auth: Auth { allowed, ip_required: false },
            handshake_timeout: Duration::from_secs(1),
            bounds: Bounds { messages_max: 1000, bytes_max: 1 << 20, hold_senders: false },
        };
        let mut pool = Pool::new(PoolOptions { bytes_max: 64 << 20 });
        let setup_of_protocol = protocol::Setup::alone(daemon, 1);
        let mut daemonless = Self {
            sessions: Sessions::new(setup),
            protocol: Protocol::new(&setup_of_protocol, Instant::ZERO, &mut pool),
            pool,
        };
        for receiver in 0..receivers {
            let id = daemonless.connect(&format!("r{receiver}"));
            let join = Request::Join(GroupName::new(b"g").unwrap());
            daemonless.protocol.handle_request(Instant::ZERO, id, join, &mut daemonless.pool);
        }
        let sender = daemonless.connect("sender");
        daemonless.turn();
        (daemonless, sender)
    }

    fn connect(&mut self, name: &str) -> SessionId {
        let id = self.sessions.handle_accepted(Instant::ZERO, false);
        let hello = [&[5, 0, 1, 1, name.len() as u8], name.as_bytes()].concat();
        self.sessions.handle_received(id, &hello, &mut self.pool);
        self.turn();
        self.sessions.handle_received(id, &emit_auth_choice(&[b"NULL"]), &mut self.pool);
        self.turn();
        id
    }

    /// Everything that follows from what was received; sockets take all. Returns the bytes.
    fn turn(&mut self) -> usize {
        self.sessions.handle_turn();
        while let Some((id, submission)) = self.sessions.poll_submission() {
            match submission {
                Submission::Connect { name, wants_membership } => {
                    let name = self.protocol.handle_connect(id, name, wants_membership).ok();
                    self.sessions.handle_named(Instant::ZERO, id, name, &mut self.pool);
                }
                Submission::Request(request) => {
                    self.protocol.handle_request(Instant::ZERO, id, request, &mut self.pool);
                }
            }
        }
        while let Some(delivery) = self.protocol.poll_delivery() {
            match delivery {
                Delivery::Frame { frame, targets, sender } => {
                    for &target in targets {
                        self.sessions.handle_delivery(target, frame, sender);
                    }
                }
                Delivery::Ended { session } => self.sessions.handle_disconnected(session),
                Delivery::Hold { session } => {
                    self.sessions.handle_hold(Hold::Begin(session), &mut self.pool);
                }
                Delivery::Release { session } => {
                    self.sessions.handle_hold(Hold::End(session), &mut self.pool);
                }
            }
        }
        let mut written = 0;
        while let Some(transmit) = self.sessions.poll_transmit() {
            let id = transmit.session;
            let bytes = transmit.pieces().map(|piece| piece.as_ref().len()).sum();
            self.sessions.handle_sent(id, bytes);
            written += bytes;
        }
        written
    }
}

fn message(data: usize) -> Vec<u8> {
    let order = ByteOrder::Little;
    let sender = PrivateGroup::parse(b"#sender#d").unwrap();
    let header = Header {
        order,
        kind: kind::AGREED,
        name: *sender.to_name().as_field(),
        destinations: 1,
        hint: emit_hint(0, order),
        data_len: data as i32,
    };
    let mut bytes = vec![0; 48];
    header.emit(bytes.first_chunk_mut().unwrap());
    bytes.extend_from_slice(GroupName::new(b"g").unwrap().as_field());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn path(c: &mut Criterion) {
    let mut group = c.benchmark_group("path");
    for receivers in [1, 10] {
        for (data, batch) in [(64, 1), (64, 200), (1024, 30)] {
            let (mut daemonless, sender) = Daemonless::new(receivers);
            let bytes = message(data).repeat(batch);
            group.throughput(Throughput::Elements(batch as u64));
            let name = format!("{data} B x {batch}");
            group.bench_function(BenchmarkId::new(name, format!("to {receivers}")), |b| {
                b.iter(|| {
                    let Daemonless { sessions, pool, .. } = &mut daemonless;
                    sessions.handle_received(sender, &bytes, pool);
                    assert_eq!(daemonless.turn(), bytes.len() * receivers);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, path);
criterion_main!(benches);
