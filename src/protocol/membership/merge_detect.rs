//! Whether a daemon outside of the ring could be in it: only where everybody would hear everybody,
//! or a link that works one way alone would make rings come and go for ever.

use std::time::Duration;

use crate::base::{DaemonSet, Instant, Rank};

use super::links::Links;

/// Whether `foreign` and its ring could form one with `set`, the ring of `me`: whether all of
/// either hear all of the other, by what each said of itself within `window`, for so long
/// gathering waits for it.
///
/// Within a ring links may have been cut since it was formed: it goes on, but nobody would ever be
/// let into it, so for others it ends, and what follows are rings in which all hear each other. One
/// on each side must see all of that, or it would end one ring again and again, and not the other.
pub(crate) fn could_merge(
    links: &Links,
    me: Rank,
    set: DaemonSet,
    foreign: Rank,
    now: Instant,
    window: Duration,
) -> bool {
    let Some(contact) = links.contact(now, window, foreign) else { return false };
    let theirs = contact.members.with(foreign);
    let all = set.union(theirs);
    let hears = |rank: Rank, whom: DaemonSet| {
        let heard = match rank == me {
            true => links.heard(now, window),
            false => links.contact(now, window, rank).map_or(DaemonSet::EMPTY, |c| c.heard),
        };
        heard.with(rank).contains_all(whom)
    };
    hears(me, all)
        && theirs.iter().any(|rank| hears(rank, all))
        && theirs.iter().all(|rank| hears(rank, set))
        && set.iter().all(|rank| hears(rank, theirs))
}
