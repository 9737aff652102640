//! Random sequences of calls: whatever the order, each stream gets its bytes and nothing else.

use proptest::prelude::*;

use super::*;

/// Streams at a time.
const STREAMS_MAX: usize = 8;

#[derive(Clone, Debug)]
enum Step {
    Attach,
    Turn,
    /// A turn whose events stay where they are.
    BlindTurn,
    Ring,
    Of(usize, Action),
}

/// What is done with one stream.
#[derive(Clone, Debug)]
enum Action {
    /// The other end writes so many bytes.
    Write(usize),
    /// The driver sends pieces of these lengths.
    Send(Vec<usize>),
    /// The other end reads what is there.
    Read,
    Pause,
    Resume,
    Close,
    /// The other end closes its sending half.
    Finish,
}

fn step() -> impl Strategy<Value = Step> {
    let action = prop_oneof![
        6 => (0..100_000_usize).prop_map(Action::Write),
        6 => prop::collection::vec(0..60_000_usize, 1..8).prop_map(Action::Send),
        3 => Just(Action::Read),
        2 => Just(Action::Pause),
        3 => Just(Action::Resume),
        1 => Just(Action::Close),
        1 => Just(Action::Finish),
    ];
    prop_oneof![
        2 => Just(Step::Attach),
        6 => Just(Step::Turn),
        1 => Just(Step::BlindTurn),
        1 => Just(Step::Ring),
        20 => (0..STREAMS_MAX, action).prop_map(|(stream, action)| Step::Of(stream, action)),
    ]
}

/// One stream: the other end, and what went in on either side.
struct Pair {
    key: StreamKey,
    theirs: UnixStream,
    written: Vec<u8>,
    sent: Vec<u8>,
    read: Vec<u8>,
    finished: bool,
}

impl Pair {
    fn new(rig: &mut Rig) -> Self {
        let (key, theirs) = rig.attach_pair();
        theirs.set_nonblocking(true).unwrap();
        let (written, sent, read) = Default::default();
        Self { key, theirs, written, sent, read, finished: false }
    }

    fn apply(&mut self, rig: &mut Rig, action: Action) {
        match action {
            Action::Write(len) => self.write(len),
            Action::Send(pieces) => self.send(rig, &pieces),
            Action::Read => self.read(),
            Action::Pause => rig.driver.pause(self.key),
            Action::Resume => rig.driver.resume(self.key),
            Action::Close => rig.driver.close(self.key),
            Action::Finish => {
                self.theirs.shutdown(std::net::Shutdown::Write).unwrap();
                self.finished = true;
            }
        }
    }

    fn read(&mut self) {
        let mut bytes = [0; 65_536];
        while let Ok(len @ 1..) = self.theirs.read(&mut bytes) {
            self.read.extend_from_slice(&bytes[..len]);
        }
    }

    fn write(&mut self, len: usize) {
        if !self.finished {
            let bytes = pattern(len, self.written.len() as u32);
            let len = self.theirs.write(&bytes).unwrap_or(0);
            self.written.extend_from_slice(&bytes[..len]);
        }
    }

    fn send(&mut self, rig: &mut Rig, pieces: &[usize]) {
        self.send_rest(rig);
        if rig.driver.sending(self.key) {
            return;
        }
        let pieces: Vec<_> =
            pieces.iter().map(|&len| pattern(len, (self.sent.len() + len) as u32)).collect();
        self.sent.extend(pieces.concat());
        let slices: Vec<_> = pieces.iter().map(|piece| slice(piece)).collect();
        rig.driver.send(self.key, slices.iter());
    }

    /// The kernel may cut a send short: what it left goes with another one.
    fn send_rest(&self, rig: &mut Rig) {
        let taken = rig.seen(self.key).sent.iter().sum::<usize>();
        if taken < self.sent.len() && !rig.driver.sending(self.key) {
            let rest = slice(&self.sent[taken..]);
            rig.driver.send(self.key, std::iter::once(&rest));
        }
    }

    fn describe(&self, rig: &mut Rig) -> String {
        let sending = rig.driver.sending(self.key);
        let seen = rig.seen(self.key);
        format!(
            "received {} of {}, sent {} of {}, ended {:?} of {}, sending {sending}",
            seen.received.len(),
            self.written.len(),
            self.read.len(),
            self.sent.len(),
            seen.ended,
            self.finished,
        )
    }

    /// Whether all that went in on either side came out on the other.
    fn is_done(&mut self, rig: &mut Rig) -> bool {
        self.read();
        rig.driver.resume(self.key);
        self.send_rest(rig);
        let sending = rig.driver.sending(self.key);
        let seen = rig.seen(self.key);
        seen.received.len() == self.written.len()
            && self.read.len() == self.sent.len()
            && seen.ended.is_some() == self.finished
            && !sending
    }
}

fn run(choice: Choice, steps: Vec<Step>) {
    let mut rig = open_with(choice, &Options { receive_buffers: 3, entries: 4 });
    let mut pairs: Vec<Pair> = Vec::new();
    for step in steps {
        match step {
            Step::Attach if pairs.len() < STREAMS_MAX => pairs.push(Pair::new(&mut rig)),
            Step::Attach => {}
            Step::Turn => rig.turn(Wait::No),
            Step::BlindTurn => rig.driver.turn(Wait::No).unwrap(),
            Step::Ring => rig.driver.bell().ring(),
            Step::Of(stream, _) if stream >= pairs.len() => {}
            Step::Of(stream, Action::Close) => {
                let mut pair = pairs.swap_remove(stream);
                pair.apply(&mut rig, Action::Close);
                let seen = rig.seen.remove(&pair.key).unwrap_or_default();
                assert!(pair.written.starts_with(&seen.received));
                assert!(pair.sent.starts_with(&pair.read));
            }
            Step::Of(stream, action) => pairs[stream].apply(&mut rig, action),
        }
    }
    let deadline = Instant::now() + PATIENCE;
    while !pairs.iter_mut().all(|pair| pair.is_done(&mut rig)) {
        if Instant::now() > deadline {
            let left: Vec<_> = pairs.iter().map(|pair| pair.describe(&mut rig)).collect();
            panic!("not in time:\n{}\n{:?}", left.join("\n"), rig.driver.counts());
        }
        rig.turn(Wait::For(Duration::from_millis(100)));
    }
    for pair in &pairs {
        let seen = &rig.seen[&pair.key];
        assert!(seen.received == pair.written);
        assert!(pair.read == pair.sent);
        assert_eq!(seen.sent.iter().sum::<usize>(), pair.sent.len());
    }
    let is_open = |key: &StreamKey| pairs.iter().any(|pair| pair.key == *key);
    assert!(rig.seen.keys().all(is_open), "events after close");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn io_uring_streams_get_their_bytes(steps in prop::collection::vec(step(), 1..80)) {
        if io_uring_works("io_uring_streams_get_their_bytes") {
            run(Choice::IoUring, steps);
        }
    }

    #[test]
    fn mio_streams_get_their_bytes(steps in prop::collection::vec(step(), 1..80)) {
        run(Choice::Mio, steps);
    }
}
