//! Membership messages of one group, stored once for all their receivers.

use std::iter;

use super::table::Group;
use crate::base::{GroupId, GroupName, Store};
use crate::wire::session::membership::{emit_regular, emit_self_leave, regular_len};

pub(crate) use crate::wire::session::Cause;

/// The view that `group` has after `changed` joined, left or disconnected. `None`: no memory.
pub(crate) fn regular<S: Store>(
    group: &Group,
    id: GroupId,
    cause: Cause,
    changed: &GroupName,
    store: &mut S,
) -> Option<S::Buffer> {
    let len = regular_len(group.members().len(), 1, 1);
    store.store(len, |into| {
        let members = group.members().iter().map(|member| member.name);
        let changed = iter::once(iter::once(*changed));
        emit_regular(into, cause, &group.name, id, members, changed, 0);
    })
}

/// The answer to a session's own leave. `None`: no memory.
pub(crate) fn self_leave<S: Store>(group: &GroupName, store: &mut S) -> Option<S::Buffer> {
    store.copy(&emit_self_leave(group))
}
