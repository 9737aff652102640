//! Packets that get lost.

use crate::lab::Lab;
use crate::{HOSTS, at_work, on_labs};

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

/// Repeating the token is enough: nobody is left out for it.
#[test]
fn lost_tokens_split_nothing() {
    on_labs(3, |lab| {
        let before = || HOSTS.map(|host| lab.configurations(host));
        let crew = at_work(lab);
        let calm = before();
        lab.run(&["loss", "10", "token"]);
        crew.wait_for_messages(&HOSTS, 500);
        assert_eq!(calm, before());
        lab.run(&["heal"]);
        crew.judge(lab);
    });
}
