//! What do the order and the network carry by themselves?
//!
//! The ring cores of some daemons in a lab (`scripts/lab`, so as root), without sessions: each
//! makes messages as fast as they are taken, and counts those that are delivered to it, its own
//! among them. Prints a table;
//! `cargo bench --bench ring -- [--daemons N,N] [--bytes N,N] [--safe]`.

#[path = "../tests/support/mod.rs"]
mod support;

#[path = "../tests/cluster/lab.rs"]
#[allow(dead_code, reason = "the tests of the cluster use all of it")]
mod lab;

use std::io::Read;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use clap::Parser;
use lab::{Lab, Plan};
use madrigal::base::Service;
use madrigal::config::{Config, Who};
use madrigal::runtime::bare::{Load, run};
use rustix::time::{ClockId, clock_gettime};
use support::daemon::Driver;

/// The order and the network by themselves.
#[derive(Parser)]
struct Args {
    /// Sizes of the cluster.
    #[arg(long, value_delimiter = ',', default_value = "2,3,5,8")]
    daemons: Vec<usize>,
    /// Sizes of messages.
    #[arg(long, value_delimiter = ',', default_value = "64,1350,8192,65536")]
    bytes: Vec<usize>,
    /// SAFE instead of AGREED.
    #[arg(long)]
    safe: bool,
    /// io_uring or mio.
    #[arg(long, default_value = "io_uring")]
    driver: String,
    /// Milliseconds of each measurement.
    #[arg(long, default_value_t = 2000)]
    millis: u64,
    /// Bytes of an IP packet.
    #[arg(long, default_value_t = 1500)]
    mtu: usize,
    /// Be one of the daemons, with this configuration.
    #[arg(long, hide = true)]
    config: Option<String>,
    /// What cargo says to each bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    if let Some(config) = &args.config {
        return be_one(&args, Path::new(config));
    }
    if !lab::is_possible() {
        return;
    }
    let driver = if args.driver == "mio" { Driver::Mio } else { Driver::IoUring };
    println!("| daemons | bytes | messages/s | MB/s | CPU of all daemons per message |");
    println!("|---|---|---|---|---|");
    for &daemons in &args.daemons {
        let mtu = args.mtu.to_string();
        let lab = Plan::new(driver, daemons).flag("--no-start").option("--mtu", &mtu).start();
        for &bytes in &args.bytes {
            measure(&lab, &args, bytes);
        }
    }
}

/// One line of the table.
fn measure(lab: &Lab, args: &Args, bytes: usize) {
    let hosts = lab.hosts();
    let start = |host: &String| -> Child {
        let config = lab.socket(host).with_file_name("madrigal.toml");
        let mut command = lab.command(host, &std::env::current_exe().expect("there is one"));
        command.args(["--config", config.to_str().expect("a plain path")]);
        command.args(["--daemons", &hosts.len().to_string(), "--bytes", &bytes.to_string()]);
        command.args(["--millis", &args.millis.to_string()]);
        command.args(args.safe.then_some("--safe"));
        command.stdout(Stdio::piped()).spawn().expect("a program starts")
    };
    let children: Vec<Child> = hosts.iter().map(start).collect();
    let told: Vec<Vec<f64>> = children.into_iter().map(finish).collect();
    let of = |column: usize| told.iter().map(move |line| line[column]);
    let (messages, elapsed) = (of(0).sum::<f64>(), of(1).sum::<f64>());
    assert!(of(3).all(|configurations| configurations == 0.0), "a ring broke");
    let rate = messages / elapsed;
    // Each message is delivered once to each daemon.
    let cpu = of(2).sum::<f64>() / (messages / hosts.len() as f64);
    let megabytes = rate * bytes as f64 / 1e6;
    let micros = cpu * 1e6;
    println!("| {} | {bytes} | {rate:.0} | {megabytes:.0} | {micros:.2} us |", hosts.len());
}

fn finish(mut child: Child) -> Vec<f64> {
    let mut line = String::new();
    child.stdout.take().expect("a pipe").read_to_string(&mut line).expect("text");
    assert!(child.wait().expect("it ends").success(), "a ring core failed");
    line.split_whitespace().map(|word| word.parse().expect("a number")).collect()
}

fn be_one(args: &Args, config: &Path) {
    let config = Config::load(config, Who::Local).unwrap_or_else(|error| panic!("{error}"));
    let load = Load {
        bytes: args.bytes[0],
        service: if args.safe { Service::Safe } else { Service::Agreed },
        daemons: args.daemons[0],
        margin: Duration::from_millis(500),
        duration: Duration::from_millis(args.millis),
    };
    let mut cpu = Vec::new();
    let delivered = run(&config, load, || cpu.push(cpu_seconds()));
    let delivered = delivered.unwrap_or_else(|error| panic!("{error}"));
    let (elapsed, cpu) = (delivered.elapsed.as_secs_f64(), cpu[1] - cpu[0]);
    println!("{} {elapsed} {cpu} {}", delivered.messages, delivered.configurations);
}

/// Processor time of this process.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
