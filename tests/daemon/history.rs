//! What sessions of one daemon have received, judged together.

use std::collections::{BTreeMap, BTreeSet};

use madrigal::wire::session::kind;

use crate::support::Frame;

/// One thing that a session received.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// A message: its sender, and the number that the sender gave it.
    Message { sender: String, number: u32, groups: Vec<String> },
    /// A view, by group and index of its id.
    View { group: String, index: i32 },
    /// The answer to its own leave. Nobody else gets it.
    Left { group: String, of: String, nth: usize },
}

/// All that one session received, in order.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) session: String,
    pub(crate) frames: Vec<Frame>,
}

impl History {
    fn events(&self) -> Vec<Event> {
        let mut left = 0;
        let event = |frame: &Frame| {
            if frame.is_view() {
                return Event::View { group: frame.name(), index: frame.group_id().index };
            }
            if frame.kind() == kind::CAUSED_BY_LEAVE {
                left += 1;
                return Event::Left { group: frame.name(), of: self.session.clone(), nth: left };
            }
            let number = *frame.data().first_chunk().expect("messages begin with a number");
            let number = u32::from_le_bytes(number);
            Event::Message { sender: frame.name(), number, groups: frame.names() }
        };
        self.frames.iter().map(event).collect()
    }
}

/// Asserts all that a total order and views in it promise.
pub(crate) fn judge(histories: &[History]) {
    let all: Vec<Vec<Event>> = histories.iter().map(History::events).collect();
    for (history, events) in histories.iter().zip(&all) {
        let different: BTreeSet<_> = events.iter().collect();
        assert_eq!(different.len(), events.len(), "{}: something came twice", history.session);
        keeps_the_order_of_each_sender(&history.session, events);
        views_follow_each_other(history);
    }
    there_is_one_order(&all);
    views_are_the_same_everywhere(histories);
    members_of_a_view_get_the_same_in_it(histories, &all);
}

fn keeps_the_order_of_each_sender(session: &str, events: &[Event]) {
    let mut last = BTreeMap::new();
    for event in events {
        if let Event::Message { sender, number, .. } = event {
            let before = last.insert(sender, *number);
            assert!(before < Some(*number), "{session}: {sender} {number} came behind {before:?}");
        }
    }
}

/// Each view differs from the one before by the member that it names.
fn views_follow_each_other(history: &History) {
    let own = &history.session;
    let mut views: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for frame in &history.frames {
        let group = frame.name();
        if frame.kind() == kind::CAUSED_BY_LEAVE {
            assert!(views.remove(&group).is_some(), "{own} left {group} without being in it");
        }
        if !frame.is_view() {
            continue;
        }
        let members: BTreeSet<_> = frame.names().into_iter().collect();
        assert_eq!(members.iter().collect::<Vec<_>>(), frame.names().iter().collect::<Vec<_>>());
        assert!(members.contains(own), "{own} is not in {frame:?}");
        let changed = frame.changed().pop().expect("one name");
        let joins = frame.kind() == kind::REGULAR | kind::CAUSED_BY_JOIN;
        assert_eq!(members.contains(&changed), joins, "{frame:?}");
        match views.get(&group) {
            Some(before) => {
                let difference: Vec<_> = before.symmetric_difference(&members).collect();
                assert_eq!(difference, [&changed], "{own}: {frame:?} after {before:?}");
            }
            None => assert_eq!(*own, changed, "{own} begins with a view of another's change"),
        }
        views.insert(group, members);
    }
}

/// No two sessions have seen two events in different orders: the order in which each has seen
/// them, all put together, has no cycle.
fn there_is_one_order(all: &[Vec<Event>]) {
    let mut followers: BTreeMap<&Event, Vec<&Event>> = BTreeMap::new();
    let mut waits_for: BTreeMap<&Event, usize> = BTreeMap::new();
    for events in all {
        for event in events {
            waits_for.entry(event).or_default();
        }
        for pair in events.windows(2) {
            followers.entry(&pair[0]).or_default().push(&pair[1]);
            *waits_for.entry(&pair[1]).or_default() += 1;
        }
    }
    let mut free: Vec<_> =
        waits_for.iter().filter(|(_, count)| **count == 0).map(|(event, _)| *event).collect();
    let mut placed = 0;
    while let Some(event) = free.pop() {
        placed += 1;
        for follower in followers.remove(event).unwrap_or_default() {
            let count = waits_for.get_mut(follower).expect("all events are there");
            *count -= 1;
            if *count == 0 {
                free.push(follower);
            }
        }
    }
    let total = waits_for.len();
    waits_for.retain(|_, count| *count > 0);
    assert_eq!(placed, total, "seen in different orders: {:#?}", waits_for.keys().next());
}

fn views_are_the_same_everywhere(histories: &[History]) {
    let mut views: BTreeMap<(String, i32), &Frame> = BTreeMap::new();
    for frame in histories.iter().flat_map(|history| &history.frames) {
        if frame.is_view() {
            let first = views.entry((frame.name(), frame.group_id().index)).or_insert(frame);
            assert_eq!(*first, frame);
        }
    }
}

/// What each member got in each view, by group and the two last parts of the view's id.
type Stays<'a> = BTreeMap<(String, i32, i32), Vec<(&'a str, Vec<&'a Event>)>>;

/// Whoever goes from one view of a group to the next has got the same messages to the group
/// between them.
fn members_of_a_view_get_the_same_in_it(histories: &[History], all: &[Vec<Event>]) {
    // By group, index of the view and of the next one: who, and what.
    let mut stays = Stays::new();
    for (history, events) in histories.iter().zip(all) {
        let mut open: BTreeMap<&str, (i32, Vec<&Event>)> = BTreeMap::new();
        for event in events {
            match event {
                Event::View { group, index } => {
                    if let Some((view, messages)) = open.insert(group, (*index, Vec::new())) {
                        let stay = stays.entry((group.clone(), view, *index)).or_default();
                        stay.push((&history.session, messages));
                    }
                }
                Event::Left { group, .. } => {
                    open.remove(group.as_str());
                }
                Event::Message { groups, .. } => {
                    for group in groups.iter().collect::<BTreeSet<_>>() {
                        if let Some((_, messages)) = open.get_mut(group.as_str()) {
                            messages.push(event);
                        }
                    }
                }
            }
        }
    }
    let mut compared = 0;
    for ((group, view, _), stays) in &stays {
        let (first, messages) = &stays[0];
        for (other, others) in &stays[1..] {
            assert_eq!(messages, others, "{first} and {other} in view {view} of {group}");
            compared += messages.len();
        }
    }
    assert!(compared > 100, "only {compared} messages could be compared");
}
