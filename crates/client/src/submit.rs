//! A submit: to the leader, or through another replica.
//!
//! ```text
//!   submit ─▶ the leader ─┬─▶ its answer
//!                         └─ "plan elsewhere" ─▶ the next replica in turn ─┬─▶ its answer, as the leader's
//!                                                        any trouble      └─▶ the leader, whatever it has to plan
//! ```
//!
//! The leader comes first, since the way through another replica costs a small query more than planning does. Only the leader
//! knows whether it has too much to plan, of all its clients together. With one address alone, whoever is there serves.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use polybolos_proto::v1::{PlanAt, SubmitRequest, SubmitResponse, submit_response::Answer};
use tokio::time::Instant;

use crate::{
    ClientError,
    call::{Call, Shared, Verdict, query},
    limits::PASSED_OVER,
};

/// Whose turn it is to plan, and who is passed over.
#[derive(Default)]
pub(crate) struct Turns {
    next: AtomicUsize,
    /// Replicas through which a submit did not get, and when that was. No more than there are addresses.
    failed: Mutex<BTreeMap<String, Instant>>,
}

impl Turns {
    fn failed(&self) -> MutexGuard<'_, BTreeMap<String, Instant>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another one than `busy`, if there is one that is not passed over.
    fn next<'a>(&self, addresses: &'a [String], busy: Option<&str>, now: Instant) -> Option<&'a str> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let failed = self.failed();
        let in_turn = (0..addresses.len())
            .filter_map(|step| addresses.get((first % addresses.len() + step) % addresses.len()));
        let mut able = in_turn.map(String::as_str).filter(|address| {
            Some(*address) != busy && failed.get(*address).is_none_or(|at| now - *at >= PASSED_OVER)
        });
        able.next()
    }

    fn fail(&self, address: &str, now: Instant) {
        self.failed().insert(address.to_owned(), now);
    }
}

impl Shared {
    /// `spread` to let the replicas plan in turn from the start.
    ///
    /// # Errors
    /// As [`crate::Client::submit`].
    pub(crate) async fn submit(
        &self,
        request: SubmitRequest,
        spread: bool,
        deadline: Duration,
    ) -> Result<SubmitResponse, ClientError> {
        let started = self.env.clock.now();
        let mut call = Call::submit(deadline);
        let has_others = self.addresses.len() > 1;
        let mut busy = None;
        if !(spread && has_others) {
            let plan_at = if has_others { PlanAt::LeaderUnlessBusy } else { PlanAt::Any };
            let answer = self.submit_to_leader(call, &request, plan_at).await?;
            if !matches!(answer.answer, Some(Answer::Elsewhere(_))) {
                return Ok(answer);
            }
            busy = self.leader.address();
        }
        match self.submit_elsewhere(call, &request, busy.as_deref()).await {
            Ok(answer) => return Ok(answer),
            Err(Verdict::Final(error)) => return Err(error),
            Err(Verdict::Unknown(_) | Verdict::Superseded(_)) => call.may_be_done = true,
            Err(Verdict::NotLeader(_) | Verdict::Busy(_) | Verdict::NoQuorum(_) | Verdict::NotSent(_)) => {}
        }
        polybolos_model::sometimes!("a submit came back to the leader");
        call.deadline = deadline.saturating_sub(self.env.clock.now() - started);
        self.submit_to_leader(call, &request, PlanAt::Leader).await
    }

    async fn submit_to_leader(
        &self,
        call: Call,
        request: &SubmitRequest,
        plan_at: PlanAt,
    ) -> Result<SubmitResponse, ClientError> {
        let request = SubmitRequest { plan_at: plan_at.into(), ..request.clone() };
        let answer = self.call(call, |mut query| {
            let request = request.clone();
            async move { query.submit(request).await }
        });
        let answer = answer.await?;
        if !answer.leader.is_empty() {
            // It did not lead, and served all the same: the next calls need no detour.
            self.leader.name(answer.leader.clone());
        }
        Ok(answer)
    }

    /// One try through the replica whose turn it is.
    async fn submit_elsewhere(
        &self,
        call: Call,
        request: &SubmitRequest,
        busy: Option<&str>,
    ) -> Result<SubmitResponse, Verdict> {
        let Some(address) = self.turns.next(&self.addresses, busy, self.env.clock.now()) else {
            return Err(Verdict::NotSent("no other replica can be reached".to_owned()));
        };
        let request = SubmitRequest { plan_at: PlanAt::Any.into(), ..request.clone() };
        let send = |channel| {
            let request = request.clone();
            async move { query(channel).submit(request).await }
        };
        let limit = call.attempt_timeout.min(call.deadline);
        let answer = tokio::select! {
            biased;
            answer = self.attempt(address, limit, &send) => answer,
            () = self.falls_silent(address) => Err(Verdict::Unknown(format!("{address} was silent"))),
        };
        match &answer {
            Ok(answer) if !answer.leader.is_empty() && self.leader.address().is_none() => {
                self.leader.name(answer.leader.clone());
            }
            Ok(_) | Err(Verdict::Final(_) | Verdict::Busy(_)) => {}
            Err(verdict) => {
                tracing::debug!(address, ?verdict, "a submit did not get through another replica");
                self.channels.forget(address);
                self.turns.fail(address, self.env.clock.now());
            }
        }
        answer
    }
}
