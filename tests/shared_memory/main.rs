//! Does a session over shared memory harm anybody, whatever it does, and however it ends?

#[path = "../support/mod.rs"]
mod support;

mod ends;
mod hello;
mod hostile;
mod killed;
mod shelves;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use madrigal::client::{Event, Options, Service, Session, Transport};
use madrigal::mem::QueueSizes;
use madrigal::mem::stream::{StreamReader, StreamWriter, session_ends};
use madrigal::sys::memfd::{Memfd, receive_with_descriptor};
use madrigal::wire::session::attach::{ATTACH_ANSWER_BYTES, ATTACH_VERSION};
use madrigal::wire::session::handshake::{HELLO_BYTES_MAX, emit_auth_choice};
use madrigal::wire::session::{AttachAnswer, AttachHello, AttachStatus, ByteOrder, Hello, kind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use support::{Daemon, Frame, PATIENCE, until};

/// Where the daemon attaches sessions.
fn door(daemon: &Daemon) -> UnixStream {
    let mut path = daemon.socket().into_os_string();
    path.push(".shm");
    let stream = UnixStream::connect(path).expect("the daemon listens");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The answer to a hello, once it is there.
fn answer(stream: &UnixStream) -> (AttachAnswer, Option<OwnedFd>) {
    wait_readable(stream);
    let mut answer = [0; ATTACH_ANSWER_BYTES];
    let (len, memory) = receive_with_descriptor(stream, &mut answer).unwrap();
    assert_eq!(len, ATTACH_ANSWER_BYTES);
    (AttachAnswer::parse(&answer).unwrap(), memory)
}

fn wait_readable(stream: &UnixStream) {
    let patience = Timespec::try_from(PATIENCE).unwrap();
    let ready = poll(&mut [PollFd::new(stream, PollFlags::IN)], Some(&patience)).unwrap();
    assert_eq!(ready, 1, "nothing came");
}

/// An attached process that can write anything anywhere.
struct Raw {
    socket: UnixStream,
    memory: OwnedFd,
    sizes: QueueSizes,
    writer: StreamWriter,
    reader: StreamReader,
}

impl Raw {
    /// Attached, with queues as small as they can be; no session yet.
    fn attach(daemon: &Daemon) -> Self {
        Self::attach_with(daemon, 1)
    }

    /// Attached, with a submission queue of so many bytes.
    fn attach_with(daemon: &Daemon, submission_bytes: u32) -> Self {
        let mut socket = door(daemon);
        let hello = AttachHello { version: ATTACH_VERSION, submission_bytes, delivery_bytes: 1 };
        socket.write_all(&hello.emit()).unwrap();
        let (answer, memory) = answer(&socket);
        assert_eq!(answer.status, AttachStatus::Attached);
        let sizes = QueueSizes {
            submission_bytes: answer.submission_bytes as usize,
            delivery_bytes: answer.delivery_bytes as usize,
        };
        let memory = memory.expect("the memory comes with the answer");
        let ours = Memfd::adopt(memory.try_clone().unwrap(), sizes.region_bytes()).unwrap();
        let (writer, reader) = session_ends(ours.map().unwrap(), sizes);
        Self { socket, memory, sizes, writer, reader }
    }

    /// A session that is a member of `g`.
    fn member(daemon: &Daemon, name: &str) -> Self {
        Self::member_with(daemon, name, 1)
    }

    /// The same with a submission queue of so many bytes.
    fn member_with(daemon: &Daemon, name: &str, submission_bytes: u32) -> Self {
        let mut raw = Self::attach_with(daemon, submission_bytes);
        let mut hello = [0; HELLO_BYTES_MAX];
        let len = Hello::new(name.as_bytes(), true, false).emit(&mut hello);
        raw.say(&hello[..len]);
        raw.say(&emit_auth_choice(&[b"NULL"]));
        let sender = format!("#{name}#localhost");
        raw.say(Frame::new(ByteOrder::NATIVE, kind::JOIN, &sender, &["g"]).bytes());
        // The list of methods and the accept are shorter; a view comes behind them.
        let mut heard = 0;
        while heard < 100 {
            raw.reader.prepare_sleep();
            if raw.reader.is_empty() {
                wait_readable(&raw.socket);
                let _bell = raw.socket.read(&mut [0]).unwrap();
            }
            heard += raw.reader.read(&mut [0; 1024]).unwrap();
            let _ = raw.reader.release();
        }
        raw
    }

    fn say(&mut self, bytes: &[u8]) {
        assert_eq!(self.writer.write(bytes), Ok(true));
        let _ = self.writer.publish();
        self.ring();
    }

    /// Rings as far as the socket takes it. `false`: the daemon has hung up.
    fn ring(&self) -> bool {
        self.socket.set_nonblocking(true).unwrap();
        let result = (&self.socket).write(&[1; 1]);
        self.socket.set_nonblocking(false).unwrap();
        match result {
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }

    /// Writes a word anywhere in the memory.
    fn scribble(&self, offset: usize, word: u64) {
        let written = rustix::io::pwrite(&self.memory, &word.to_ne_bytes(), offset as u64);
        assert_eq!(written, Ok(8));
    }

    /// Waits until the daemon hangs up.
    fn await_end(mut self) {
        let mut bells = [0; 64];
        loop {
            match self.socket.read(&mut bells) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
                Err(error) => panic!("the daemon did not hang up: {error}"),
            }
        }
    }
}

/// A well-behaved session that sees whether the daemon works.
struct Bystander(Session);

impl Bystander {
    fn new(daemon: &Daemon, transport: Transport) -> Self {
        let address = format!("unix:{}", daemon.socket().display());
        let options = Options::new().membership(false).transport(transport);
        let mut session = Session::connect(&address, &options).unwrap();
        session.join("bystanders").unwrap();
        Self(session)
    }

    /// Sends a message to itself and gets it back.
    fn check(&mut self) {
        self.0.multicast(Service::Agreed, &["bystanders"], 0, b"all is well").unwrap();
        let event = self.0.receive_timeout(PATIENCE).unwrap();
        let Some(Event::Message(message)) = event else { panic!("{event:?}") };
        assert_eq!(message.data(), b"all is well");
    }
}

/// What sessions cost a daemon: descriptors, and memory that is shared with them.
fn holdings(daemon: &Daemon) -> (usize, usize) {
    let process = format!("/proc/{}", daemon.pid());
    let descriptors = fs::read_dir(format!("{process}/fd")).unwrap().count();
    let maps = fs::read_to_string(format!("{process}/maps")).unwrap();
    // The user's shelves stay as long as it has a session.
    let shelves = maps.matches("memfd:madrigal shelf").count();
    assert!(shelves <= 2, "{shelves} shelves");
    (descriptors - shelves, maps.matches("memfd:madrigal session").count())
}

/// Waits until all that sessions cost is given back.
fn await_holdings(daemon: &Daemon, bystander: &mut Bystander, before: (usize, usize)) {
    until("all is given back", || {
        bystander.check();
        (holdings(daemon) == before).then_some(())
    });
}

/// Random numbers that are the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
