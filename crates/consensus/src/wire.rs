//! openraft's types on the wire, so that its own layout may change without ours.

use std::collections::{BTreeMap, BTreeSet};

use openraft::{
    BasicNode, Entry, EntryPayload, LeaderId, LogId, Membership, SnapshotMeta, StoredMembership, Vote,
    raft::{AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, VoteRequest, VoteResponse},
};
use polybolos_proto::{
    ConvertError,
    v1::{self, append_response, raft_entry},
};

use crate::{
    raft::{Proposal, TypeConfig},
    store::StoredLogId,
};

pub(crate) fn log_id(id: LogId<u64>) -> v1::RaftLogId {
    v1::RaftLogId { term: id.leader_id.term, index: id.index }
}

pub(crate) fn from_log_id(id: v1::RaftLogId) -> LogId<u64> {
    StoredLogId { term: id.term, index: id.index }.into()
}

pub(crate) fn vote(vote: &Vote<u64>) -> v1::RaftVote {
    v1::RaftVote { term: vote.leader_id.term, voted_for: vote.leader_id.voted_for, committed: vote.committed }
}

pub(crate) fn from_vote(vote: Option<v1::RaftVote>) -> Result<Vote<u64>, ConvertError> {
    let vote = vote.ok_or(ConvertError::Missing("vote"))?;
    let leader_id = LeaderId { term: vote.term, voted_for: vote.voted_for };
    Ok(Vote { leader_id, committed: vote.committed })
}

pub(crate) fn membership(members: &Membership<u64, BasicNode>) -> v1::RaftMembership {
    let voters = members.get_joint_config().iter();
    v1::RaftMembership {
        voters: voters.map(|ids| v1::RaftVoters { ids: ids.iter().copied().collect() }).collect(),
        addresses: members.nodes().map(|(id, node)| (*id, node.addr.clone())).collect(),
    }
}

pub(crate) fn from_membership(members: v1::RaftMembership) -> Membership<u64, BasicNode> {
    let voters = members.voters.into_iter().map(|set| set.ids.into_iter().collect::<BTreeSet<u64>>());
    let nodes = members.addresses.into_iter().map(|(id, addr)| (id, BasicNode { addr }));
    Membership::new(voters.collect(), nodes.collect::<BTreeMap<_, _>>())
}

fn entry(entry: Entry<TypeConfig>) -> v1::RaftEntry {
    let payload = match entry.payload {
        EntryPayload::Blank => raft_entry::Payload::Blank(true),
        EntryPayload::Normal(proposal) => raft_entry::Payload::Commands(proposal.0.into()),
        EntryPayload::Membership(members) => raft_entry::Payload::Membership(membership(&members)),
    };
    v1::RaftEntry { log_id: Some(log_id(entry.log_id)), payload: Some(payload) }
}

fn from_entry(entry: v1::RaftEntry) -> Result<Entry<TypeConfig>, ConvertError> {
    let id = entry.log_id.ok_or(ConvertError::Missing("log_id"))?;
    let payload = match entry.payload.ok_or(ConvertError::Missing("payload"))? {
        raft_entry::Payload::Blank(_) => EntryPayload::Blank,
        raft_entry::Payload::Commands(bytes) => EntryPayload::Normal(Proposal(bytes.to_vec())),
        raft_entry::Payload::Membership(members) => EntryPayload::Membership(from_membership(members)),
    };
    Ok(Entry { log_id: from_log_id(id), payload })
}

pub(crate) fn append(sender: v1::Sender, request: AppendEntriesRequest<TypeConfig>) -> v1::AppendRequest {
    v1::AppendRequest {
        sender: Some(sender),
        vote: Some(vote(&request.vote)),
        previous: request.prev_log_id.map(log_id),
        entries: request.entries.into_iter().map(entry).collect(),
        committed: request.leader_commit.map(log_id),
    }
}

pub(crate) fn from_append(
    request: v1::AppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, ConvertError> {
    Ok(AppendEntriesRequest {
        vote: from_vote(request.vote)?,
        prev_log_id: request.previous.map(from_log_id),
        entries: request.entries.into_iter().map(from_entry).collect::<Result<_, _>>()?,
        leader_commit: request.committed.map(from_log_id),
    })
}

pub(crate) fn appended(response: AppendEntriesResponse<u64>) -> v1::AppendResponse {
    let outcome = match response {
        AppendEntriesResponse::Success => append_response::Outcome::Success(true),
        AppendEntriesResponse::PartialSuccess(matching) => {
            append_response::Outcome::Partial(v1::RaftPartial { matching: matching.map(log_id) })
        }
        AppendEntriesResponse::Conflict => append_response::Outcome::Conflict(true),
        AppendEntriesResponse::HigherVote(higher) => append_response::Outcome::HigherVote(vote(&higher)),
    };
    v1::AppendResponse { outcome: Some(outcome) }
}

pub(crate) fn from_appended(
    response: v1::AppendResponse,
) -> Result<AppendEntriesResponse<u64>, ConvertError> {
    Ok(match response.outcome.ok_or(ConvertError::Missing("outcome"))? {
        append_response::Outcome::Success(_) => AppendEntriesResponse::Success,
        append_response::Outcome::Partial(partial) => {
            AppendEntriesResponse::PartialSuccess(partial.matching.map(from_log_id))
        }
        append_response::Outcome::Conflict(_) => AppendEntriesResponse::Conflict,
        append_response::Outcome::HigherVote(higher) => {
            AppendEntriesResponse::HigherVote(from_vote(Some(higher))?)
        }
    })
}

pub(crate) fn vote_request(sender: v1::Sender, request: &VoteRequest<u64>) -> v1::VoteRequest {
    let last = request.last_log_id.map(log_id);
    v1::VoteRequest { sender: Some(sender), vote: Some(vote(&request.vote)), last }
}

pub(crate) fn from_vote_request(request: v1::VoteRequest) -> Result<VoteRequest<u64>, ConvertError> {
    Ok(VoteRequest { vote: from_vote(request.vote)?, last_log_id: request.last.map(from_log_id) })
}

pub(crate) fn voted(response: &VoteResponse<u64>) -> v1::VoteResponse {
    v1::VoteResponse {
        vote: Some(vote(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.map(log_id),
    }
}

pub(crate) fn from_voted(response: v1::VoteResponse) -> Result<VoteResponse<u64>, ConvertError> {
    Ok(VoteResponse {
        vote: from_vote(response.vote)?,
        vote_granted: response.granted,
        last_log_id: response.last.map(from_log_id),
    })
}

pub(crate) fn chunk(sender: v1::Sender, request: InstallSnapshotRequest<TypeConfig>) -> v1::SnapshotChunk {
    let InstallSnapshotRequest { vote: by, meta, offset, data, done } = request;
    v1::SnapshotChunk {
        sender: Some(sender),
        vote: Some(vote(&by)),
        snapshot_id: meta.snapshot_id,
        last: meta.last_log_id.map(log_id),
        membership_log_id: meta.last_membership.log_id().map(log_id),
        membership: Some(membership(meta.last_membership.membership())),
        offset,
        crc: crc32fast::hash(&data),
        data: data.into(),
        done,
    }
}

/// The chunk, whose checksum the caller has compared.
pub(crate) fn from_chunk(
    chunk: v1::SnapshotChunk,
) -> Result<InstallSnapshotRequest<TypeConfig>, ConvertError> {
    let members = from_membership(chunk.membership.ok_or(ConvertError::Missing("membership"))?);
    let meta = SnapshotMeta {
        last_log_id: chunk.last.map(from_log_id),
        last_membership: StoredMembership::new(chunk.membership_log_id.map(from_log_id), members),
        snapshot_id: chunk.snapshot_id,
    };
    let (vote, offset, done) = (from_vote(chunk.vote)?, chunk.offset, chunk.done);
    Ok(InstallSnapshotRequest { vote, meta, offset, data: chunk.data.to_vec(), done })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id() -> impl Strategy<Value = LogId<u64>> {
        (0..9u64, 0..99u64).prop_map(|(term, index)| StoredLogId { term, index }.into())
    }

    fn a_vote() -> impl Strategy<Value = Vote<u64>> {
        (any::<u64>(), any::<Option<u64>>(), any::<bool>()).prop_map(|(term, voted_for, committed)| Vote {
            leader_id: LeaderId { term, voted_for },
            committed,
        })
    }

    fn members() -> impl Strategy<Value = Membership<u64, BasicNode>> {
        let voters = prop::collection::vec(prop::collection::btree_set(0..9u64, 1..4), 1..3);
        (voters, prop::collection::btree_map(0..9u64, "[a-z]{0,8}:[0-9]{1,4}", 0..5)).prop_map(
            |(voters, addresses)| {
                let nodes = addresses.into_iter().map(|(id, addr)| (id, BasicNode { addr }));
                Membership::new(voters, nodes.collect::<BTreeMap<_, _>>())
            },
        )
    }

    fn an_entry() -> impl Strategy<Value = Entry<TypeConfig>> {
        let payload = prop_oneof![
            Just(EntryPayload::Blank),
            prop::collection::vec(any::<u8>(), 0..99).prop_map(|bytes| EntryPayload::Normal(Proposal(bytes))),
            members().prop_map(EntryPayload::Membership),
        ];
        (id(), payload).prop_map(|(log_id, payload)| Entry { log_id, payload })
    }

    fn shown(value: &impl std::fmt::Debug) -> String {
        format!("{value:?}")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn appends_round_trip(
            vote in a_vote(),
            ids in prop::collection::vec(prop::option::of(id()), 2),
            entries in prop::collection::vec(an_entry(), 0..4),
        ) {
            let request = AppendEntriesRequest { vote, prev_log_id: ids[0], entries, leader_commit: ids[1] };
            let sent = append(v1::Sender::default(), request.clone());
            prop_assert_eq!(shown(&from_append(sent).unwrap()), shown(&request));
        }

        #[test]
        fn answers_and_votes_round_trip(by in a_vote(), last in prop::option::of(id()), vote_granted: bool) {
            for answer in [
                AppendEntriesResponse::Success,
                AppendEntriesResponse::PartialSuccess(last),
                AppendEntriesResponse::Conflict,
                AppendEntriesResponse::HigherVote(by),
            ] {
                let expected = shown(&answer);
                prop_assert_eq!(shown(&from_appended(appended(answer)).unwrap()), expected);
            }
            let request = VoteRequest { vote: by, last_log_id: last };
            prop_assert_eq!(&from_vote_request(vote_request(v1::Sender::default(), &request)).unwrap(), &request);
            let answer = VoteResponse { vote: by, vote_granted, last_log_id: last };
            prop_assert_eq!(&from_voted(voted(&answer)).unwrap(), &answer);
        }

        #[test]
        fn chunks_round_trip(
            vote in a_vote(), last in prop::option::of(id()), at in prop::option::of(id()), members in members(),
            offset: u64, data: Vec<u8>, done: bool, snapshot_id in "[a-z]{0,9}",
        ) {
            let last_membership = StoredMembership::new(at, members);
            let meta = SnapshotMeta { last_log_id: last, last_membership, snapshot_id };
            let request = InstallSnapshotRequest { vote, meta, offset, data, done };
            prop_assert_eq!(from_chunk(chunk(v1::Sender::default(), request.clone())).unwrap(), request);
        }
    }
}
