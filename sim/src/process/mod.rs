//! One process a run, in which everything repeats.
//!
//! ```text
//!   parent (any command) ── Order: schedule, mutant ──▶ child ── lines of the trace, summary ──▶ parent
//!     layout: no ASLR, stack limit     stdin              shims: libc's randomness and clocks
//! ```
//!
//! hashbrown's hashers take their seeds from addresses, so rows come in another order once an address is another. That is
//! why a child has an empty environment, fixed arguments, a fixed folder and no address randomisation, and why nothing
//! that a person asks for besides (where a trace goes, how much of it is shown) reaches it.

mod build_id;
mod child;
mod layout;
mod many;
mod order;
mod parent;
mod shims;

pub use self::{
    build_id::build_id,
    child::{is_child, run_order},
    layout::LayoutError,
    many::many,
    order::Order,
    parent::{Flow, Outcome, ProcessError, follow, simulate},
};

/// Says what time libc's clocks show in a simulation.
pub(crate) fn set_now(since_start: std::time::Duration) {
    shims::set_now(since_start);
}
