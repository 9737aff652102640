//! Whether a daemon outside of the ring could be in it: only where everybody would hear everybody,
//! or a link that works one way alone would make rings come and go for ever.

use std::time::Duration;

use crate::base::{DaemonSet, Instant, Rank};

use super::links::Links;

/// Whether `foreign` and its ring could form one with `set`, the ring of `me`: whether all hear
/// each other, by what each said of itself within `window`, for so long gathering waits for it.
pub(crate) fn could_merge(
    links: &Links,
    me: Rank,
    set: DaemonSet,
    foreign: Rank,
    now: Instant,
    window: Duration,
) -> bool {
    let Some(contact) = links.contact(now, window, foreign) else { return false };
    let all = set.union(contact.members).with(foreign);
    let own = links.heard(now, window);
    all.iter().all(|rank| {
        let heard =
            if rank == me { Some(own) } else { links.contact(now, window, rank).map(|c| c.heard) };
        heard.is_some_and(|heard| heard.with(rank).contains_all(all))
    })
}
