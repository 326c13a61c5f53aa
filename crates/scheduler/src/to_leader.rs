//! What a replica that does not lead asks of the one that does, for the sake of its own clients.
//!
//! ```text
//!   rpc::anywhere ─┬─ caught_up ─▶ ReadIndex ──────▶ leader     then: as far as it, by the own log
//!                  ├─ hand_on ───▶ SubmitPlanned ──▶ leader     a job that was planned here
//!                  └─ relay ─────▶ Submit ─────────▶ leader     a statement that only it may plan
//! ```
//!
//! A call that did not reach the leader is answered as if nobody had tried: with who leads. One that may have been done
//! has an unknown outcome, as any other: its client repeats it with its key.

use std::{
    error::Error,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use polybolos_consensus::MAX_ENTRY_BYTES;
use polybolos_env::grpc;
use polybolos_model::{
    Term,
    limits::{MAX_MESSAGE_BYTES, MESSAGE_OVERHEAD_BYTES},
};
use polybolos_proto::{
    detail_of, status_with,
    v1::{
        PlanAt, PlannedAgainst, PlannedSubmit, ReadIndexRequest, SubmitRequest, SubmitResponse,
        planned_answer::Outcome, planning_service_client::PlanningServiceClient,
        query_service_client::QueryServiceClient,
    },
};
use tokio::{sync::Semaphore, time::timeout};
use tonic::{Code, ConnectError, Response, Status, transport::Channel};

use crate::{error::RequestError, shared::Shared};

/// Largest message that brings a planned job: one that the log takes, and what is around it.
pub(crate) const MAX_PLANNED_BYTES: usize = MAX_ENTRY_BYTES + MESSAGE_OVERHEAD_BYTES;

/// How long the leader may take to tell how far the log is, and this replica then to get there: as long as a majority
/// may take to confirm a read.
const CATCH_UP_DEADLINE: Duration = Duration::from_secs(2);
/// The way to the leader and back, beside the time that it gives itself.
const ON_THE_WAY: Duration = Duration::from_secs(2);
/// Calls that are with the leader at once. More of them don't wait here, each with its plan, but are told who leads.
const MAX_HANDED_ON: usize = 256;

/// The connection to the leader, made at first use.
pub(crate) struct ToLeader {
    channel: Mutex<Option<(String, Channel)>>,
    places: Semaphore,
}

impl ToLeader {
    pub(crate) fn new() -> Self {
        Self { channel: Mutex::default(), places: Semaphore::new(MAX_HANDED_ON) }
    }

    fn known(&self) -> MutexGuard<'_, Option<(String, Channel)>> {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_at(&self, address: &str) -> Option<Channel> {
        let known = self.known();
        known.as_ref().filter(|(at, _)| at == address).map(|(_, channel)| channel.clone())
    }
}

/// What a failed call may have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Nothing, ever.
    None,
    Change,
}

impl Shared {
    /// Who leads, if that is another replica.
    ///
    /// # Errors
    /// As [`Shared::require_leader`].
    pub(crate) fn leader_elsewhere(&self) -> Result<String, RequestError> {
        let leadership = self.log.leadership().borrow().clone();
        let leader = leadership.leader.filter(|_| !leadership.is_self);
        leader.map(|(_, address)| address).ok_or_else(|| self.not_serving())
    }

    /// Makes what [`Shared::read`] shows from now on hold everything that was committed before the call, whoever leads.
    ///
    /// # Errors
    /// As [`Shared::fresh`]; with a hint at the leader if that can't be reached from here, or is too far ahead.
    pub(crate) async fn caught_up(&self) -> Result<(), Status> {
        if self.serves() {
            self.fresh(false).await?;
            return Ok(());
        }
        if polybolos_model::mutant!("never-catches-up") {
            return Ok(());
        }
        let request = ReadIndexRequest { cluster_id: self.cluster_id(), replica: self.config.id.0 };
        let told = self.ask_leader(CATCH_UP_DEADLINE, Effect::None, |channel| async move {
            PlanningServiceClient::new(channel).read_index(request).await
        });
        let index = told.await?.index;
        let mut applied = self.log.applied();
        let is_there = timeout(CATCH_UP_DEADLINE, applied.wait_for(|applied| *applied >= index));
        match is_there.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(self.not_serving().into()),
        }
    }

    /// Has the leader commit a job that was planned here, and tells its answer; `None` if what it was planned against is
    /// another there.
    ///
    /// # Errors
    /// The leader's own, [`RequestError::NotLeader`] if it was not reached, and those of an unknown outcome.
    pub(crate) async fn hand_on(
        &self,
        entry: Vec<u8>,
        against: PlannedAgainst,
    ) -> Result<Option<SubmitResponse>, Status> {
        if entry.len() > MAX_ENTRY_BYTES {
            return Err(RequestError::TooLarge { bytes: entry.len() }.into());
        }
        let request = PlannedSubmit {
            cluster_id: self.cluster_id(),
            replica: self.config.id.0,
            entry: entry.into(),
            against: Some(against),
        };
        let deadline = self.config.request_deadline + ON_THE_WAY;
        let told = self.ask_leader(deadline, Effect::Change, |channel| async move {
            PlanningServiceClient::new(channel)
                .max_decoding_message_size(MAX_PLANNED_BYTES)
                .max_encoding_message_size(MAX_PLANNED_BYTES)
                .submit_planned(request)
                .await
        });
        match told.await?.outcome {
            Some(Outcome::Answer(answer)) => Ok(Some(answer)),
            Some(Outcome::Stale(_)) => Ok(None),
            None => Err(RequestError::Unknown.into()),
        }
    }

    /// Has the leader do all of a statement.
    ///
    /// # Errors
    /// As [`Shared::hand_on`].
    pub(crate) async fn relay(&self, request: SubmitRequest) -> Result<SubmitResponse, Status> {
        let deadline = self.config.planning_deadline + self.config.request_deadline + ON_THE_WAY;
        // Never further than there.
        let request = SubmitRequest { plan_at: PlanAt::Leader.into(), ..request };
        let told = self.ask_leader(deadline, Effect::Change, |channel| async move {
            QueryServiceClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES)
                .submit(request)
                .await
        });
        told.await
    }

    fn cluster_id(&self) -> String {
        self.read(|state| state.cluster_id().to_owned())
    }

    async fn ask_leader<R, F>(
        &self,
        deadline: Duration,
        effect: Effect,
        send: impl FnOnce(Channel) -> F,
    ) -> Result<R, Status>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let term = self.log.leadership().borrow().term;
        let leader = self.leader_elsewhere()?;
        let not_reached = || Status::from(RequestError::NotLeader { leader: leader.clone() });
        let asked = timeout(deadline, async {
            let _place = self.to_leader.places.try_acquire().map_err(|_| not_reached())?;
            let channel = match self.to_leader.known_at(&leader) {
                Some(channel) => channel,
                None => {
                    let connected = grpc::connect(&self.env.net, &leader).await;
                    let channel = connected.map_err(|_| not_reached())?;
                    *self.to_leader.known() = Some((leader.clone(), channel.clone()));
                    channel
                }
            };
            send(channel).await.map(Response::into_inner).map_err(|status| {
                tracing::debug!(leader, %status, "the leader did not do what this replica asked for");
                answered(&status, effect).unwrap_or_else(not_reached)
            })
        });
        let asked = tokio::select! {
            biased;
            asked = asked => asked,
            // One that is paused or cut off breaks no connection.
            () = self.term_passes(term) => {
                return Err(match effect {
                    Effect::None => self.not_serving(),
                    Effect::Change => RequestError::Unknown,
                }
                .into());
            }
        };
        if let Ok(answer) = asked {
            return answer;
        }
        // It may be stuck for good although the leader is well.
        *self.to_leader.known() = None;
        let ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        match effect {
            Effect::None => Err(not_reached()),
            Effect::Change => Err(RequestError::Deadline { ms }.into()),
        }
    }

    /// Waits until a higher term is known.
    async fn term_passes(&self, term: Term) {
        let mut leadership = self.log.leadership();
        // An error means that the log has ended, and with it this replica.
        let _ = leadership.wait_for(|now| now.term > term).await;
    }
}

/// What the client is told of a call to the leader that failed; `None` if nothing was done for sure.
fn answered(status: &Status, effect: Effect) -> Option<Status> {
    if let Some(detail) = detail_of(status) {
        // Only what the leader says itself: the rest came with the transport.
        return Some(status_with(status.code(), status.message(), &detail));
    }
    let was_refused = match status.code() {
        // An older program has no such call; or takes this replica for a stranger.
        Code::Unimplemented | Code::FailedPrecondition => true,
        _ => was_not_sent(status),
    };
    (!was_refused && effect == Effect::Change).then(|| RequestError::Unknown.into())
}

fn was_not_sent(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(cause) = source {
        if cause.is::<ConnectError>() {
            return true;
        }
        source = cause.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use polybolos_proto::v1::error_detail::Reason;

    use super::*;

    #[test]
    fn only_what_may_have_been_done_is_unknown() {
        let lost = Status::unavailable("the connection was reset");
        let reason = |status: Option<Status>| status.map(|status| detail_of(&status).unwrap().reason());
        assert_eq!(reason(answered(&lost, Effect::Change)), Some(Reason::Unspecified));
        assert_eq!(reason(answered(&lost, Effect::None)), None);
        for nothing_done in
            [Status::unimplemented("no such method"), Status::failed_precondition("a stranger")]
        {
            assert_eq!(reason(answered(&nothing_done, Effect::Change)), None);
        }
        let busy = Status::from(RequestError::NotLeader { leader: "b:1".to_owned() });
        let told = answered(&busy, Effect::Change).unwrap();
        assert_eq!((told.code(), detail_of(&told)), (busy.code(), detail_of(&busy)));
    }
}
