//! Packets that get lost.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::crew::Crew;
use crate::lab::{Lab, Plan, until};
use crate::program::Manner;
use crate::still::Still;
use crate::{HOSTS, at_work, on_labs, with};

fn loses(lab: &Lab, words: &[&str], messages: u64) {
    let crew = at_work(lab);
    let mut command = vec!["loss"];
    command.extend(words);
    lab.run(&command);
    crew.wait_for_messages(&HOSTS, messages);
    lab.run(&["heal"]);
    crew.judge(lab);
}

#[test]
fn one_percent_is_lost() {
    on_labs(3, |lab| loses(lab, &["1"], 500));
}

#[test]
fn five_percent_is_lost() {
    on_labs(3, |lab| loses(lab, &["5"], 300));
}

#[test]
fn twenty_percent_is_lost() {
    on_labs(3, |lab| loses(lab, &["20"], 200));
}

#[test]
fn half_of_multicast_is_lost() {
    on_labs(3, |lab| loses(lab, &["50", "multicast"], 100));
}

/// Of a daemon that is held up the kernel keeps no more than fits.
#[test]
fn receive_buffers_overflow() {
    let small = |plan: Plan| plan.option("--cluster", "receive_bytes = 65536");
    with(3, small, |lab| {
        let crew = Crew::new(lab, 2, Manner { churn: 30, burst: 4, large: 50 });
        crew.wait_for_all(lab);
        crew.work();
        until("a packet too many", || {
            lab.signal("d3", Signal::STOP);
            thread::park_timeout(Duration::from_millis(50));
            lab.signal("d3", Signal::CONT);
            crew.wait_for_messages(&HOSTS, 5);
            (lab.counter("d3", "packets_dropped") > 100).then_some(())
        });
        crew.judge(lab);
    });
}

/// Repeating the token is enough: nobody is left out for it.
#[test]
fn lost_tokens_split_nothing() {
    on_labs(3, |lab| {
        let crew = at_work(lab);
        let still = Still::begin(lab);
        lab.run(&["loss", "10", "token"]);
        crew.wait_for_messages(&HOSTS, 500);
        still.end(lab);
        lab.run(&["heal"]);
        crew.judge(lab);
    });
}
