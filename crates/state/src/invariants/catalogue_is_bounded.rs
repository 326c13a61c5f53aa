//! Relations and sessions keep their limits, and a session without options is forgotten.
//! From: "a bound on every queue and buffer".

use polybolos_model::limits::{MAX_RELATIONS, MAX_SESSIONS};

use super::{Check, ensure};
use crate::{ClusterState, limits::MAX_SESSION_OPTIONS};

pub(super) fn check(state: &ClusterState) -> Check {
    let catalogue = &state.catalogue;
    ensure(catalogue.relations.len() <= MAX_RELATIONS, || {
        format!("{} relations", catalogue.relations.len())
    })?;
    ensure(catalogue.sessions.len() <= MAX_SESSIONS, || format!("{} sessions", catalogue.sessions.len()))?;
    catalogue.sessions.iter().try_for_each(|(session, options)| {
        let fits = (1..=MAX_SESSION_OPTIONS).contains(&options.len());
        ensure(fits, || format!("session {session} has {} options", options.len()))
    })
}

#[cfg(test)]
mod tests {
    use polybolos_model::SessionId;

    use super::super::fixture::*;

    #[test]
    fn an_empty_session_is_found() {
        let mut state = sound();
        assert_eq!(super::check(&state), Ok(()));
        state.catalogue.sessions.insert(SessionId::new("s").unwrap(), Default::default());
        assert!(super::check(&state).is_err());
    }
}
