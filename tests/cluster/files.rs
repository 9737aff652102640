//! What the files of the daemons say: different things, or something new while daemons run.

use crate::lab::{Lab, until};
use crate::{HOSTS, at_work, on_labs};

/// Waits until the daemon of `host` has logged a line that has all of these words.
fn wait_for_line(lab: &Lab, host: &str, words: &[&str]) {
    until(&format!("a line of {host} with {words:?}"), || {
        let log = lab.log(host);
        let has_all = |line: &str| words.iter().all(|word| line.contains(word));
        log.lines().any(has_all).then_some(())
    });
}

#[test]
fn both_sides_tell_what_their_files_do_not_agree_on() {
    on_labs(3, |lab| {
        let crew = at_work(lab);
        lab.run(&["stop", "d3"]);
        lab.edit("d3", |text| {
            text.replace("datagram_bytes = 1472", "datagram_bytes = 1400")
                .replace("d2 10.77.0.2", "other 10.77.0.2")
        });
        lab.run(&["start", "d3"]);
        // What it hears from them is of its file, but for their names.
        for host in ["d1", "d2"] {
            let its = ["another configuration", "daemon=d3", "address=10.77.0.3:4803"];
            wait_for_line(lab, host, &its);
            wait_for_line(lab, host, &["datagram_bytes: 1472 here, 1400 there"]);
            wait_for_line(lab, host, &["daemon d2: 10.77.0.2", "daemon other: none here"]);
            let theirs = format!("daemon={host}");
            wait_for_line(lab, "d3", &["another configuration", &theirs, "1400 here, 1472 there"]);
            assert!(lab.counter(host, "identities_received") > 0);
            assert!(lab.counter(host, "packets_foreign") > 0);
        }
        assert!(lab.counter("d3", "identities_sent") > 1);
        crew.wait_for_parts(&[&["d1", "d2"], &["d3"]]);
        lab.run(&["stop", "d3"]);
        lab.edit("d3", |text| {
            text.replace("datagram_bytes = 1400", "datagram_bytes = 1472")
                .replace("other 10.77.0.2", "d2 10.77.0.2")
        });
        lab.run(&["start", "d3"]);
        crew.wait_for_all(lab);
        crew.wait_for_messages(&HOSTS, 50);
        crew.judge(lab);
    });
}
