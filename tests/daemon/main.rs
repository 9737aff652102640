//! The daemon from outside: clients that lie, stall, flood and vanish, and what all others see.

#[path = "../support/mod.rs"]
mod support;

mod frames;
mod groups;
mod handshake;
mod history;
mod lifecycle;
mod order;
mod slow;

use support::{Daemon, Setup, drivers};

/// Runs `test` on each driver, with all in one thread and with sessions spread over two cores.
fn everywhere(change: impl Fn(Setup) -> Setup, test: impl Fn(&Daemon)) {
    for &driver in drivers() {
        for cores in [1, 3] {
            let setup = change(Setup::new(driver).cores(cores));
            println!("on {setup}:");
            test(&setup.start());
        }
    }
}

/// The same with nothing changed.
fn plainly(test: impl Fn(&Daemon)) {
    everywhere(|setup| setup, test);
}
