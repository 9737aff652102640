//! The lab's own script: what it cannot do it refuses, and then nothing has changed.

use crate::lab::{refusal, until};
use crate::on_labs;

#[test]
fn what_cannot_be_built_is_refused() {
    on_labs(1, |lab| {
        for (words, why) in [
            (&["up"][..], "up N, 1 to 26, or names"),
            (&["up", ""], "up N, 1 to 26, or names"),
            (&["up", "a,b,a"], "two hosts are called a"),
            (&["up", "2", "--spread", "--ipv6", "--mtu", "9000"], "goes without --ipv6 --mtu"),
        ] {
            let said = refusal("none", words);
            assert!(said.contains(why), "{words:?}: {said}");
        }
        let said = lab.refusal(&["log", "."]);
        assert!(said.contains("no host \".\""), "{said}");
    });
}

#[test]
fn all_may_be_lost_and_paused_daemons_stop() {
    on_labs(2, |lab| {
        lab.await_ring();
        let before = lab.configurations("d1");
        lab.run(&["loss", "100"]);
        until("d1 is alone", || (lab.configurations("d1") > before).then_some(()));
        assert!(lab.refusal(&["loss", "101"]).contains("no more than 100 percent"));
        lab.run(&["partition", "d1/d2"]);
        lab.run(&["heal"]);
        lab.await_ring();
        lab.run(&["pause", "d2"]);
        lab.run(&["stop", "d2"]);
    });
}
