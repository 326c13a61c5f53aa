//! Is there an order of the operations of one key that explains all answers?
//!
//! ```text
//!   operations ─▶ Problem (required, optional) ─▶ decide ─▶ search ─▶ Found · Impossible ─▶ shrink ─▶ a small window
//! ```
//!
//! The search is Wing and Gong's (Testing and verifying concurrent objects, 1993) with Lowe's cache of configurations
//! (Testing for linearizability, 2017). Keys are searched apart from each other, since an object of several keys is
//! linearizable exactly if each key is (Herlihy and Wing, 1990; Horn and Kroening, 2015).

mod decide;
mod edges;
mod problem;
mod shrink;
mod tokens;
mod visited;
mod wgl;

pub(crate) use decide::{Decision, decide};
pub(crate) use problem::Problem;

use wgl::{Answer, Effort, Stuck, search};
