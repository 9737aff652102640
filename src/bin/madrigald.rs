//! The daemon.
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
fn main() {
    let mut args = std::env::args().skip(1);
    let mut config = madrigal::config::Config::default();
    while let Some(a) = args.next() {
        match a.as_str() {
            "--config" => config = madrigal::config::Config::load(std::path::Path::new(&args.next().unwrap())).unwrap_or_else(|e| { eprintln!("{e}"); std::process::exit(2) }),
            "--driver" => config.cores.driver = match args.next().unwrap().as_str() { "mio" => madrigal::config::DriverChoice::Mio, "io_uring" => madrigal::config::DriverChoice::IoUring, _ => madrigal::config::DriverChoice::Auto },
            _ => panic!("{a}"),
        }
    }
    madrigal::observe::log::install(tracing::level_filters::LevelFilter::INFO, false);
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGUSR1]).unwrap();
    let running = madrigal::runtime::start(config).unwrap_or_else(|e| { eprintln!("{e}"); std::process::exit(1) });
    for signal in signals.forever() {
        if signal == SIGUSR1 { eprintln!("{}", running.counters_text()); continue; }
        running.stop();
        break;
    }
    running.join().unwrap();
}
