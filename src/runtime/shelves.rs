//! Long frames that several sessions of one user receive are put into memory that all of them read.
//!
//! Who may see what: processes of one user can look into each other anyway, so what one of them
//! receives is no secret from the others. Between users nothing is shared.
//!
//! A frame is known by where the pool keeps it, which no other frame can be as long as one pass
//! over the sessions lasts: nothing is stored meanwhile. The first session of a pass gets a copy of
//! its own, since most frames have no second receiver.

use slab::Slab;

use super::budget::Budget;
use crate::base::Instant;
use crate::base::limits::{OFFERS_MAX, SHARED_LEFT_FOR};
use crate::mem::Shelf;
use crate::sys::memfd::Memfd;

/// Shelves of a user: one is filled while what lies on the other is read.
const SHELVES: usize = 2;

/// The user that the kernel names where a namespace has no number for the real one: several may
/// look the same.
const NOBODY: u32 = 65_534;

/// The shelves of all users with sessions at one core.
pub(super) struct Shelves {
    users: Slab<User>,
    /// Bytes of a shelf; 0: nothing is shared.
    bytes: usize,
    /// Shortest frame that is shared.
    frame_min: usize,
    /// How many shelves there have ever been.
    made: u64,
}

/// A user of this host, with sessions.
struct User {
    uid: u32,
    sessions: usize,
    /// When the last session went. Its shelves wait for the next one: whoever was handed one may
    /// keep it for ever, so making new ones would cost memory each time.
    idle_since: Instant,
    shelves: [Option<OfUser>; SHELVES],
    /// The shelf that is filled.
    current: usize,
    offers: Offers,
}

struct OfUser {
    number: u64,
    memory: Memfd,
    shelf: Shelf,
    /// Something found no room.
    full: bool,
    /// Slots of the sessions that were told of anything on it.
    readers: Vec<usize>,
}

/// Where a frame was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Put {
    /// Which of the user's shelves.
    shelf: usize,
    /// At which word.
    pub(super) first: u32,
}

/// The frames of a pass, in the order in which the first session got them: so others get them too.
#[derive(Default)]
struct Offers {
    seen: Vec<Offer>,
    /// Where the next one is likely to be.
    next: usize,
}

struct Offer {
    address: usize,
    len: usize,
    put: Option<Put>,
}

impl Shelves {
    pub(super) fn new(bytes: usize, frame_min: usize) -> Self {
        Self { users: Slab::new(), bytes, frame_min, made: 0 }
    }

    /// Frames from this length on are shared.
    pub(super) fn frame_min(&self) -> usize {
        self.frame_min
    }

    /// One more session of a user. The key of the user, if it may share.
    pub(super) fn enter(&mut self, uid: u32) -> Option<usize> {
        if self.bytes == 0 || uid == NOBODY {
            return None;
        }
        let known = self.users.iter().find(|(_, user)| user.uid == uid).map(|(key, _)| key);
        let key = known.unwrap_or_else(|| {
            let (shelves, offers) = ([const { None }; SHELVES], Offers::default());
            let idle_since = Instant::ZERO;
            self.users.insert(User { uid, sessions: 0, idle_since, shelves, current: 0, offers })
        });
        self.users[key].sessions += 1;
        Some(key)
    }

    /// A session is over. `owes` says of a shelf's number whether the session may still be looking
    /// at something there. Such a shelf is not used again.
    pub(super) fn leave(
        &mut self,
        (user, slot): (usize, usize),
        owes: impl Fn(u64) -> bool,
        now: Instant,
        budget: &mut Budget,
    ) {
        let it = &mut self.users[user];
        for place in &mut it.shelves {
            if let Some(shelf) = place
                && let Some(at) = shelf.readers.iter().position(|&reader| reader == slot)
            {
                shelf.readers.swap_remove(at);
                if owes(shelf.number) {
                    *place = None;
                    budget.leave(now, self.bytes);
                    it.offers.clear();
                }
            }
        }
        it.sessions -= 1;
        it.idle_since = now;
        if it.sessions == 0 && it.shelves.iter().all(Option::is_none) {
            self.users.remove(user);
        }
    }

    /// A pass over the sessions begins. Shelves that were full and that all readers have given
    /// back, as `has_given_back` says of a slot and a shelf's number, are empty again.
    pub(super) fn begin_pass(
        &mut self,
        has_given_back: impl Fn(usize, u64) -> bool,
        now: Instant,
        budget: &mut Budget,
    ) {
        self.users.retain(|_, user| {
            let waits = user.sessions > 0 || now.since(user.idle_since) < SHARED_LEFT_FOR;
            if !waits {
                budget.give_back(user.shelves.iter().flatten().count() * self.bytes);
            }
            waits
        });
        for (_, user) in &mut self.users {
            user.offers.clear();
            for it in user.shelves.iter_mut().flatten().filter(|it| it.full) {
                it.readers.retain(|&slot| !has_given_back(slot, it.number));
                if it.readers.is_empty() {
                    it.shelf.clear();
                    it.full = false;
                }
            }
        }
    }

    /// A session of the user is to get this frame. Where it lies for it, if another one got it
    /// before, and there is room.
    pub(super) fn offer(
        &mut self,
        user: usize,
        frame: &[u8],
        now: Instant,
        budget: &mut Budget,
    ) -> Option<Put> {
        let it = &mut self.users[user];
        let offer = it.offers.find_or_add(frame)?;
        if offer.put.is_none() {
            offer.put = put(&mut it.shelves, &mut it.current, frame, || {
                self.made += 1;
                OfUser::new(self.made, self.bytes, now, budget)
            });
        }
        offer.put
    }

    /// Number and memory of the shelf that a frame was put on.
    pub(super) fn shelf(&self, user: usize, put: Put) -> Option<(u64, &Memfd)> {
        let shelf = self.users[user].shelves[put.shelf].as_ref()?;
        Some((shelf.number, &shelf.memory))
    }

    /// The session of this slot was told of a frame there.
    pub(super) fn lend(&mut self, user: usize, put: Put, slot: usize) {
        if let Some(shelf) = &mut self.users[user].shelves[put.shelf]
            && !shelf.readers.contains(&slot)
        {
            shelf.readers.push(slot);
        }
    }
}

impl OfUser {
    /// `None`: there is no memory for it.
    fn new(number: u64, bytes: usize, now: Instant, budget: &mut Budget) -> Option<Self> {
        if !budget.take(now, bytes) {
            return None;
        }
        match Memfd::new_to_lend(bytes) {
            Ok((memory, region)) => {
                let (shelf, readers) = (Shelf::new(region), Vec::new());
                Some(Self { number, memory, shelf, full: false, readers })
            }
            Err(error) => {
                budget.give_back(bytes);
                tracing::debug!(%error, "no memory for a shelf: sessions get copies");
                None
            }
        }
    }
}

/// Puts a frame on the current shelf, or else on another one that is empty.
fn put(
    shelves: &mut [Option<OfUser>; SHELVES],
    current: &mut usize,
    frame: &[u8],
    mut make: impl FnMut() -> Option<OfUser>,
) -> Option<Put> {
    for shelf in (*current..).take(SHELVES).map(|number| number % SHELVES) {
        if shelves[shelf].is_none() {
            shelves[shelf] = Some(make()?);
        }
        let Some(it) = &mut shelves[shelf] else { return None };
        if !it.full
            && let Some(first) = it.shelf.put(frame)
        {
            *current = shelf;
            return Some(Put { shelf, first });
        }
        // What is empty and still too small never has room.
        it.full = !it.shelf.is_empty();
    }
    None
}

impl Offers {
    fn clear(&mut self) {
        self.seen.clear();
        self.next = 0;
    }

    /// The offer of a frame; `None` the first time.
    fn find_or_add(&mut self, frame: &[u8]) -> Option<&mut Offer> {
        let (address, len) = (frame.as_ptr().addr(), frame.len());
        let is_it = |offer: &Offer| offer.address == address && offer.len == len;
        let (before, after) = self.seen.split_at(self.next.min(self.seen.len()));
        let found = after.iter().position(is_it).map(|at| self.next + at);
        let Some(at) = found.or_else(|| before.iter().position(is_it)) else {
            if self.seen.len() < OFFERS_MAX {
                self.seen.push(Offer { address, len, put: None });
                self.next = self.seen.len();
            }
            return None;
        };
        self.next = at + 1;
        Some(&mut self.seen[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 4096;

    const NOW: Instant = Instant::ZERO;

    fn plenty() -> Budget {
        Budget::new(1 << 30)
    }

    /// Shelves that two sessions of user 7 share.
    fn shelves() -> (Shelves, usize) {
        let mut shelves = Shelves::new(BYTES, 100);
        let user = shelves.enter(7).unwrap();
        assert_eq!(shelves.enter(7), Some(user));
        (shelves, user)
    }

    fn number(shelves: &Shelves, user: usize, put: Put) -> u64 {
        shelves.shelf(user, put).unwrap().0
    }

    /// What the second session of a pass gets.
    fn shared(shelves: &mut Shelves, user: usize, frame: &[u8]) -> Option<Put> {
        assert_eq!(
            shelves.offer(user, frame, NOW, &mut plenty()),
            None,
            "the first one gets a copy"
        );
        shelves.offer(user, frame, NOW, &mut plenty())
    }

    #[test]
    fn a_frame_is_put_once_for_all_but_the_first_receiver() {
        let (mut shelves, user) = shelves();
        let (one, other) = ([1; 500], [2; 500]);
        assert_eq!(shelves.offer(user, &one, NOW, &mut plenty()), None);
        assert_eq!(shelves.offer(user, &other, NOW, &mut plenty()), None);
        let put = shelves.offer(user, &one, NOW, &mut plenty()).unwrap();
        let next = shelves.offer(user, &other, NOW, &mut plenty()).unwrap();
        assert_ne!(put, next);
        assert_eq!(shelves.offer(user, &one, NOW, &mut plenty()), Some(put));
        assert_eq!(shelves.offer(user, &other, NOW, &mut plenty()), Some(next));
        // In the next pass another frame may lie at the same place.
        shelves.begin_pass(|_, _| true, NOW, &mut plenty());
        assert_eq!(shelves.offer(user, &one, NOW, &mut plenty()), None);
    }

    #[test]
    fn users_share_nothing() {
        let (mut shelves, user) = shelves();
        let other = shelves.enter(8).unwrap();
        let frame = [1; 500];
        assert_eq!(shelves.offer(user, &frame, NOW, &mut plenty()), None);
        assert_eq!(shelves.offer(other, &frame, NOW, &mut plenty()), None);
        assert_eq!(shelves.enter(NOBODY), None);
        assert_eq!(Shelves::new(0, 100).enter(7), None);
    }

    #[test]
    fn a_full_shelf_waits_until_all_have_given_it_back() {
        let (mut shelves, user) = shelves();
        let frames: Vec<_> = (0..5).map(|number| vec![number; 2000]).collect();
        let puts: Vec<_> = frames
            .iter()
            .map(|frame| {
                let put = shared(&mut shelves, user, frame)?;
                shelves.lend(user, put, 0);
                shelves.lend(user, put, 1);
                Some(number(&shelves, user, put))
            })
            .collect();
        assert_eq!(puts, [Some(1), Some(1), Some(2), Some(2), None]);
        // Both shelves were found full. Of the first one, a session has given back nothing.
        shelves.begin_pass(|slot, number| slot == 0 || number == 2, NOW, &mut plenty());
        let put = shared(&mut shelves, user, &frames[0]).unwrap();
        assert_eq!(number(&shelves, user, put), 2);
        shelves.begin_pass(|_, _| true, NOW, &mut plenty());
        assert!(shared(&mut shelves, user, &frames[1]).is_some());
    }

    #[test]
    fn what_a_session_still_owes_is_never_used_again() {
        let (mut shelves, user) = shelves();
        let frame = [3; 1000];
        let put = shared(&mut shelves, user, &frame).unwrap();
        shelves.lend(user, put, 4);
        assert_eq!(number(&shelves, user, put), 1);
        shelves.leave((user, 4), |number| number == 1, NOW, &mut plenty());
        let put = shared(&mut shelves, user, &frame).unwrap();
        assert_eq!(number(&shelves, user, put), 2);
        // Who owes nothing leaves the shelf as it is.
        shelves.lend(user, put, 5);
        assert_eq!(shelves.enter(7), Some(user));
        shelves.leave((user, 5), |_| false, NOW, &mut plenty());
        assert_eq!(number(&shelves, user, put), 2);
        shelves.leave((user, 6), |_| false, NOW, &mut plenty());
        // What nobody owes waits for the user's next session, but not for ever.
        assert_eq!(shelves.enter(7), Some(user));
        assert_eq!(number(&shelves, user, put), 2);
        shelves.leave((user, 6), |_| false, NOW, &mut plenty());
        let mut budget = plenty();
        assert!(budget.take(NOW, BYTES));
        shelves.begin_pass(|_, _| true, NOW + SHARED_LEFT_FOR, &mut budget);
        assert!(shelves.users.is_empty());
    }

    #[test]
    fn a_frame_longer_than_a_shelf_is_copied() {
        let (mut shelves, user) = shelves();
        let frame = [1; BYTES + 1];
        assert_eq!(shared(&mut shelves, user, &frame), None);
        assert_eq!(shelves.offer(user, &frame, NOW, &mut plenty()), None);
        assert!(shared(&mut shelves, user, &frame[..BYTES]).is_some());
    }
}
