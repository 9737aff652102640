//! What latency and throughput have in common: the daemons, how much to measure, and how.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use madrigal::client::{Options, Service, Session, Transport, Wait};

use super::carrier::{Carriers, is_tcp};
use super::machine::{Pinning, allowed_cpus};
use super::yardstick::Yardstick;
use crate::connect::open;
use crate::failure::{Result, usage};
use crate::units::parse_duration;

/// Time for each measurement of the bare machine beside another bench.
const YARDSTICK_TIME: Duration = Duration::from_millis(300);

/// Arguments of both benches.
#[derive(clap::Args)]
pub(crate) struct Common {
    /// The daemon: PORT (Unix socket /tmp/PORT), PORT@HOST (TCP), or unix:PATH.
    #[arg(short, long, value_name = "ADDR", default_value = "4803")]
    pub(crate) address: String,
    /// What carries the sessions.
    #[arg(long, value_enum, default_value_t = TransportArg::Auto)]
    pub(crate) transport: TransportArg,
    /// Processes of the daemon, to report its CPU time for each message.
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pub(crate) pid: Vec<u32>,
    /// Another daemon to run the same against, in turns.
    #[arg(long, value_name = "ADDR")]
    pub(crate) compare: Option<String>,
    /// Processes of the other daemon.
    #[arg(long, value_name = "PID", value_delimiter = ',', requires = "compare")]
    pub(crate) compare_pid: Vec<u32>,
    /// Runs of each daemon; the median is reported [default: 1, with --compare 3].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: Option<u32>,
    /// Bytes of a message.
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub(crate) size: usize,
    /// Delivery service: unreliable, reliable, fifo, causal, agreed, safe.
    #[arg(short, long, default_value = "agreed")]
    pub(crate) service: Service,
    /// Measure for so long.
    #[arg(short, long, value_name = "TIME", default_value = "3s", value_parser = parse_duration)]
    pub(crate) duration: Duration,
    /// Measure so many messages instead of a time.
    #[arg(short, long, conflicts_with = "duration")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Time at the start that is not measured.
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = parse_duration)]
    pub(crate) warmup: Duration,
    /// How clients wait: asleep, never asleep, or spinning for a while first.
    #[arg(long, value_enum, default_value_t = WaitArg::Park)]
    pub(crate) wait: WaitArg,
    /// How long adaptive waiting spins.
    #[arg(long, value_name = "TIME", default_value = "100us", value_parser = parse_duration)]
    spin_time: Duration,
    /// CPUs for the bench's own threads, in turn, as in 0,1.
    #[arg(long, value_name = "CPU", value_delimiter = ',')]
    pin: Vec<usize>,
    /// Measure the bare machine too, and show the result as multiples of it.
    #[arg(long)]
    yardstick: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    /// What the sessions really came by.
    #[arg(skip)]
    pub(crate) carriers: Carriers,
}

/// What carries the sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TransportArg {
    /// Shared memory where there is some, else what the address says.
    Auto,
    /// Shared memory.
    Shm,
    /// The Unix socket.
    Unix,
    /// TCP; an address without a host means this one.
    Tcp,
}

impl TransportArg {
    /// As it is given and printed.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Shm => "shm",
            Self::Unix => "unix",
            Self::Tcp => "tcp",
        }
    }

    fn to_transport(self) -> Transport {
        match self {
            Self::Auto => Transport::Auto,
            Self::Shm => Transport::SharedMemory,
            Self::Unix | Self::Tcp => Transport::Socket,
        }
    }

    /// The address with which the session comes by this transport.
    fn address(self, address: &str) -> Result<Cow<'_, str>> {
        match self {
            Self::Tcp if address.starts_with("unix:") => Err(usage(format!(
                "--transport tcp does not go with {address}, a Unix socket: give PORT@HOST"
            ))),
            Self::Unix | Self::Shm if is_tcp(address) => Err(usage(format!(
                "--transport {} does not go with {address}, which is one of TCP: give the port \
                 alone, or unix:PATH",
                self.as_str()
            ))),
            Self::Tcp if !is_tcp(address) => Ok(format!("{address}@localhost").into()),
            Self::Auto | Self::Shm | Self::Unix | Self::Tcp => Ok(address.into()),
        }
    }
}

/// How clients wait for events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum WaitArg {
    Park,
    Spin,
    Adaptive,
}

impl WaitArg {
    /// As it is given and printed.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Park => "park",
            Self::Spin => "spin",
            Self::Adaptive => "adaptive",
        }
    }
}

/// One of the daemons that are measured.
pub(crate) struct Side<'a> {
    pub(crate) address: &'a str,
    pub(crate) pids: &'a [u32],
    /// Whether it is the one of `--compare`.
    pub(crate) other: bool,
}

impl Common {
    /// Checks what the bench depends on; a message must hold `size_min` bytes.
    pub(crate) fn check(&self, size_min: usize, size_max: usize) -> Result {
        if self.size > size_max {
            return Err(usage(format!(
                "--size {} is too large: a message has at most {size_max} bytes",
                self.size
            )));
        }
        if self.size < size_min {
            return Err(usage(format!(
                "--size {} is too small: {size_min} bytes number the messages",
                self.size
            )));
        }
        for address in [Some(&self.address), self.compare.as_ref()].into_iter().flatten() {
            self.transport.address(address)?;
        }
        if self.count.is_none() && self.duration.is_zero() {
            return Err(usage("--duration must be more than zero"));
        }
        Ok(())
    }

    /// A session that receives no membership events.
    pub(crate) fn session(&self, address: &str) -> Result<Session> {
        let options = Options::new().membership(false).wait(self.to_wait());
        let options = options.transport(self.transport.to_transport());
        let address = self.transport.address(address)?;
        let session = open(&address, &options)?;
        self.carriers.add(&address, &session);
        Ok(session)
    }

    /// Lines for people on what a run with so many threads of its own must be read with.
    pub(crate) fn notes(&self, threads: usize) -> Result<Vec<String>> {
        let asked_for_socket = self.transport.to_transport() == Transport::Socket;
        let mut notes = self.carriers.notes(asked_for_socket);
        let cpus = match self.pin.iter().collect::<BTreeSet<_>>().len() {
            0 => allowed_cpus()?.len(),
            pinned => pinned,
        };
        if self.wait == WaitArg::Spin && threads > cpus {
            notes.push(format!(
                "  note: {threads} threads of this bench spin on {cpus} CPUs and keep each other \
                 from running: fewer of them, or --wait park"
            ));
        }
        Ok(notes)
    }

    /// As the client library takes it.
    pub(crate) fn to_wait(&self) -> Wait {
        match self.wait {
            WaitArg::Park => Wait::Park,
            WaitArg::Spin => Wait::Spin,
            WaitArg::Adaptive => Wait::Adaptive(self.spin_time),
        }
    }

    /// Where the bench's threads run.
    pub(crate) fn pinning(&self) -> Pinning {
        Pinning::new(self.pin.clone())
    }

    /// Runs each side in turn, as often as asked for: A, or A B A B and so on.
    ///
    /// In turns, because a shared machine's speed changes from minute to minute: so both sides
    /// see the same weather.
    pub(crate) fn alternate<R>(
        &self,
        mut run: impl FnMut(&Side<'_>) -> Result<R>,
    ) -> Result<(Vec<R>, Vec<R>)> {
        let rounds = self.rounds.unwrap_or(if self.compare.is_some() { 3 } else { 1 });
        let side = Side { address: &self.address, pids: &self.pid, other: false };
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(run(&side)?);
            if let Some(address) = &self.compare {
                theirs.push(run(&Side { address, pids: &self.compare_pid, other: true })?);
            }
        }
        Ok((ours, theirs))
    }

    /// Measures the bare machine if that is asked for.
    pub(crate) fn measure_yardstick(&self) -> Result<Option<Yardstick>> {
        if !self.yardstick {
            return Ok(None);
        }
        let pin = if self.pin.len() == 2 { &self.pin[..] } else { &[] };
        Yardstick::measure(self.size.max(1), YARDSTICK_TIME, pin).map(Some)
    }
}
