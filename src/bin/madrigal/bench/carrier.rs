//! What really carried the sessions of a run: an address and `--transport auto` leave it open.

use std::cell::RefCell;
use std::collections::BTreeSet;

use madrigal::client::Session;
use serde_json::{Value, json};

/// By what each daemon was reached.
#[derive(Default)]
pub(crate) struct Carriers(RefCell<BTreeSet<Carrier>>);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Carrier {
    by: &'static str,
    address: String,
    why_socket: Option<String>,
}

impl Carriers {
    /// Takes note of a session with the daemon at `address`.
    pub(crate) fn add(&self, address: &str, session: &Session) {
        self.insert(address, session.why_socket());
    }

    fn insert(&self, address: &str, why_socket: Option<&str>) {
        let by = match why_socket {
            None => "shm",
            Some(_) if is_tcp(address) => "tcp",
            Some(_) => "unix",
        };
        let (address, why_socket) = (address.to_owned(), why_socket.map(str::to_owned));
        self.0.borrow_mut().insert(Carrier { by, address, why_socket });
    }

    /// All that carried something, as in "shm".
    pub(crate) fn names(&self) -> String {
        let names: BTreeSet<_> = self.0.borrow().iter().map(|it| it.by).collect();
        names.into_iter().collect::<Vec<_>>().join(" and ")
    }

    /// Lines for people: who was reached by what where that differs, and why a daemon of this host
    /// was not reached by shared memory though nobody asked for a socket.
    pub(crate) fn notes(&self, asked_for_socket: bool) -> Vec<String> {
        let carriers = self.0.borrow();
        let differ = carriers.iter().any(|it| Some(it.by) != carriers.first().map(|it| it.by));
        let mut lines = Vec::new();
        for Carrier { by, address, why_socket } in carriers.iter() {
            match why_socket {
                Some(why) if *by == "unix" && !asked_for_socket => {
                    lines.push(format!("  {address} by {by}, without shared memory: {why}"));
                }
                _ if differ => lines.push(format!("  {address} by {by}")),
                _ => {}
            }
        }
        lines
    }

    /// For machines.
    pub(crate) fn to_json(&self) -> Value {
        let carriers = self.0.borrow();
        let to_json = |it: &Carrier| {
            let Carrier { by, address, why_socket } = it;
            json!({ "address": address, "by": by, "why_socket": why_socket })
        };
        carriers.iter().map(to_json).collect()
    }
}

/// Whether an address is one of TCP.
pub(crate) fn is_tcp(address: &str) -> bool {
    address.contains('@') && !address.starts_with("unix:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_is_told_and_why() {
        let carriers = Carriers::default();
        carriers.insert("4803", None);
        carriers.insert("4803", None);
        assert_eq!(carriers.names(), "shm");
        assert!(carriers.notes(false).is_empty());
        carriers.insert("4804@host", Some("the address is one of TCP"));
        assert_eq!(carriers.names(), "shm and tcp");
        assert_eq!(carriers.notes(false), ["  4803 by shm", "  4804@host by tcp"]);
    }

    #[test]
    fn a_missing_shared_memory_is_explained_unless_a_socket_was_asked_for() {
        let carriers = Carriers::default();
        carriers.insert("unix:/run/a@b", Some("nobody answers"));
        assert_eq!(carriers.names(), "unix");
        assert!(carriers.notes(true).is_empty());
        let told = "  unix:/run/a@b by unix, without shared memory: nobody answers";
        assert_eq!(carriers.notes(false), [told]);
    }
}
