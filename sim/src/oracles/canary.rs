//! Not a promise: with the planted bug `canary` it breaks in every run, to show that a run that fails is told as one.

use polybolos_model::simulation;

use super::{Check, Oracle, Reference};
use crate::{
    moment::{Moment, What},
    mutants::CANARY,
};

pub(super) struct Canary;

impl Oracle for Canary {
    fn name(&self) -> &'static str {
        CANARY
    }

    fn on_moment(&mut self, moment: &Moment, _reference: &Reference) -> Check {
        if matches!(moment.what, What::Phase("healed")) && simulation::is_planted(CANARY) {
            return Err("this run was asked to break a promise".to_owned());
        }
        Ok(())
    }
}
