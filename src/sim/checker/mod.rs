//! Judges a run by what its daemons and sessions saw: Extended Virtual Synchrony, property by
//! property, as `docs/testing.md` lists them.
//!
//! It knows ids and service names and nothing of the implementation: a fault that the core and the
//! checker shared would go unseen. What a run is: [`trace`]. Each property is one function, and has
//! a test that breaks it alone.

mod answers;
mod configurations;
mod daemons;
mod groups;
pub(super) mod hash;
mod history;
mod liveness;
mod order;
mod quiet;
mod relation;
mod safe;
mod sessions;
mod sets;
pub mod trace;
mod views;

use std::fmt;

use history::History;
use sessions::Sessions;
use trace::Trace;

/// What must always hold; the numbers are those of `docs/testing.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Property {
    /// No creation.
    D1,
    /// No duplication.
    D2,
    /// Delivered in the configuration that it was sent in.
    D3,
    /// Configurations are sane.
    D4,
    /// Those that move together agree on who they are.
    D5,
    /// A configuration is installed by all its daemons, or left.
    D6,
    /// Self-delivery.
    D7,
    /// Failure atomicity.
    D8,
    /// FIFO.
    D9,
    /// Causal order.
    D10,
    /// Agreed order.
    D11,
    /// No gaps.
    D12,
    /// The same side of the transitional signal.
    D13,
    /// Safe in a regular configuration.
    D14,
    /// Safe in a transitional configuration.
    D15,
    /// Unreliable, reliable and FIFO messages are complete.
    D16,
    /// Progress: one configuration for each component.
    L1,
    /// No configuration change without a fault.
    L2,
    /// Every accepted message is delivered.
    L3,
    /// One-way links end in rest.
    L4,
    /// Memory returns to its baseline.
    L5,
    /// Same view id, same view.
    G1,
    /// The receiver is in its view.
    G2,
    /// A view id never comes back.
    G3,
    /// Data exactly while a member.
    G4,
    /// A view differs from the one before by what it says.
    G5,
    /// One order across groups.
    G6,
    /// A multi-group message comes once, as sent.
    G7,
    /// Self-discard touches the sender alone.
    G8,
    /// Open groups, private groups.
    G9,
    /// Virtual-synchrony sets.
    G10,
    /// A slow session saw a prefix.
    G11,
    /// The order of sessions holds whatever path a message took.
    G12,
    /// The same side of a view.
    G13,
}

/// A run broke a property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which one.
    pub property: Property,
    /// How, for a reader of the timeline.
    pub detail: String,
    /// The step of the trace that shows it, where there is one.
    pub step: Option<u64>,
}

impl Violation {
    fn new(property: Property, step: Option<u64>, detail: String) -> Self {
        Self { property, detail, step }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} violated: {}", self.property, self.detail)?;
        match self.step {
            Some(step) => write!(f, " (step {step})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Violation {}

type Verdict = Result<(), Violation>;

/// The properties of daemons, in the order in which they are judged: a broken one often breaks
/// those behind it too, so the first is the most telling.
const OF_DAEMONS: [fn(&History<'_>) -> Verdict; 21] = [
    configurations::d4_configurations_are_sane,
    daemons::d1_no_creation,
    daemons::d2_no_duplication,
    daemons::d3_same_configuration,
    configurations::d5_movers_agree,
    configurations::d6_installed_by_all,
    order::d9_fifo,
    relation::d10_causal,
    order::d11_agreed_order,
    order::d12_no_gaps,
    daemons::d7_self_delivery,
    sets::d8_failure_atomicity,
    sets::d16_reliable_is_complete,
    sets::d13_same_side,
    safe::d14_safe_in_regular,
    safe::d15_safe_in_transitional,
    liveness::l1_one_configuration,
    liveness::l2_no_change_without_fault,
    liveness::l3_delivered,
    liveness::l4_rest,
    liveness::l5_memory,
];

/// The properties of sessions, likewise.
const OF_SESSIONS: [fn(&Sessions<'_>) -> Verdict; 17] = [
    views::g1_same_view,
    views::g2_receiver_is_member,
    views::g3_ids_never_return,
    groups::g4_data_while_member,
    quiet::g4_quiet_members,
    views::g5_views_differ_by_their_cause,
    groups::g7_once_and_as_sent,
    groups::g8_self_discard,
    groups::g9_private_reaches_one,
    groups::g13_same_side_of_views,
    groups::g6_one_order,
    groups::g12_sender_order,
    views::g10_sets,
    groups::g11_killed_saw_a_prefix,
    answers::l3_asked_and_done,
    answers::l3_reaches_members,
    answers::l1_views_at_the_end,
];

/// Judges a whole run.
///
/// # Errors
///
/// The first property that does not hold.
pub fn check(trace: &Trace) -> Verdict {
    let history = History::new(trace)?;
    OF_DAEMONS.iter().try_for_each(|property| property(&history))?;
    if trace.sessions.is_empty() {
        return Ok(());
    }
    let sessions = Sessions::new(trace);
    OF_SESSIONS.iter().try_for_each(|property| property(&sessions))
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
