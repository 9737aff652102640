//! Waking drivers.

use std::sync::mpsc;

use super::*;

on_both_drivers! {
    fn bell_wakes_a_driver_that_waits(choice) {
        let mut rig = open(choice);
        let bell = rig.driver.bell();
        for round in 1..=20 {
            let bell = bell.clone();
            let ringer = std::thread::spawn(move || bell.ring());
            while rig.woken < round {
                rig.turn(Wait::Forever);
            }
            ringer.join().unwrap();
        }
        assert_eq!(rig.woken, 20);
    }

    fn bell_rung_before_the_wait_is_not_lost(choice) {
        let mut rig = open(choice);
        rig.driver.bell().ring();
        rig.turn(Wait::Forever);
        rig.until("wake", |rig| rig.woken > 0);
        rig.settle();
        assert_eq!(rig.woken, 1);
        assert!(!rig.driver.ready());
    }

    fn drivers_wake_each_other(choice) {
        for other in [Choice::Auto, Choice::Mio] {
            let (bells, theirs) = mpsc::channel();
            let (ours, bell) = mpsc::channel();
            let echo = std::thread::spawn(move || {
                let mut rig = open(other);
                bells.send(rig.driver.bell()).unwrap();
                let back: Bell = bell.recv().unwrap();
                for round in 1..=50 {
                    rig.until("ring", |rig| rig.woken >= round);
                    rig.driver.ring(&back);
                    rig.driver.turn(Wait::No).unwrap();
                }
            });
            let mut rig = open(choice);
            ours.send(rig.driver.bell()).unwrap();
            let bell = theirs.recv().unwrap();
            for round in 1..=50 {
                rig.driver.ring(&bell);
                rig.until("echo", |rig| rig.woken >= round);
            }
            echo.join().unwrap();
        }
    }

    fn ringing_oneself_works(choice) {
        let mut rig = open(choice);
        let bell = rig.driver.bell();
        rig.driver.ring(&bell);
        rig.until("wake", |rig| rig.woken == 1);
    }

    fn ringing_a_driver_that_is_gone_does_nothing(choice) {
        let mut rig = open(choice);
        for _ in 0..100 {
            // On another thread, as the kernel cares whether that is gone, too.
            let bell = std::thread::spawn(move || open(choice).driver.bell()).join().unwrap();
            rig.driver.ring(&bell);
            rig.turn(Wait::No);
        }
        rig.settle();
        assert_eq!(rig.woken, 0);
    }
}
