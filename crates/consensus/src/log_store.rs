//! The log and the vote, as openraft wants them, over any [`Kv`].
//!
//! `append` returns once its entries are durable, not before: openraft 0.9 waits for the callback before it does
//! anything else, so returning early would win nothing.

#[cfg(test)]
mod tests;

use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    sync::Arc,
    time::Duration,
};

use openraft::{
    Entry, EntryPayload, LogId, LogState, OptionalSend, RaftLogReader, StorageIOError, Vote,
    storage::{LogFlushed, RaftLogStorage},
};

use polybolos_model::{
    Term,
    simulation::{Fact, report},
};
use tokio::time::sleep;

use crate::{
    codec::{self, DecodeError},
    kv::{Batch, Durability, Kv},
    raft::{StorageError, TypeConfig},
    store::{self, StoreError, committed::Committed, entry, purged::Purged, snapshot, vote::StoredVote},
};

/// What a reader takes at once, unless a single entry is larger: with one more entry of the largest size a message stays
/// below gRPC's limit.
const MAX_READ_BYTES: usize = 8 * 1024 * 1024;

/// How long the installation of a snapshot may take that a purge waits for.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(60);
const SNAPSHOT_LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Cheap to clone; only one clone writes.
#[derive(Clone)]
pub(crate) struct LogStore {
    kv: Arc<dyn Kv>,
    /// A purge waits until the snapshot that holds what it removes is on the disk.
    after_snapshots: bool,
}

impl LogStore {
    /// Reads the whole log once, so that damage is found now and not by the first reader. `speaks` is the highest version
    /// of entries that this replica applies.
    ///
    /// # Errors
    /// A record is damaged or too new, or the records contradict each other.
    pub(crate) fn open(kv: Arc<dyn Kv>, speaks: u16) -> Result<Self, StoreError> {
        let this = Self { kv, after_snapshots: false };
        let kv = this.kv.as_ref();
        store::get::<StoredVote>(kv)?;
        let mut previous = store::get::<Purged>(kv)?.map(|purged| LogId::<u64>::from(purged.0));
        for entry in entry::scan(kv, 0, u64::MAX) {
            let entry = entry?;
            check_commands(&entry, speaks)?;
            let id = entry.log_id;
            let expected = previous.map_or(0, |previous| previous.index.saturating_add(1));
            if id.index != expected || previous.is_some_and(|previous| previous.leader_id > id.leader_id) {
                let previous = previous.map_or("nothing".to_owned(), |id| id.to_string());
                let reason = format!("entry {id} follows {previous}");
                return Err(StoreError::Missing { what: format!("log entry {expected}"), reason });
            }
            previous = Some(id);
        }
        // A snapshot that was installed, whose purge a crash prevented: openraft purges at its start.
        let previous = previous.max(snapshot::last_log_id(kv)?);
        if let Some(Committed(committed)) = store::get(kv)?
            && previous.is_none_or(|last| last.index < committed.index)
        {
            let last = previous.map_or("nowhere".to_owned(), |id| format!("at entry {}", id.index));
            let reason = format!("it was committed, and the log ends {last}");
            return Err(StoreError::Missing { what: format!("log entry {}", committed.index), reason });
        }
        report(|| Fact::Opened {
            last_term: Term(previous.map_or(0, |last| last.leader_id.term)),
            last_index: previous.map_or(0, |last| last.index),
        });
        Ok(this)
    }

    /// The same store for a replica that runs. openraft has a snapshot installed by one task and purges the log by
    /// another, without waiting: a crash in between would leave neither.
    pub(crate) fn after_snapshots(self) -> Self {
        Self { after_snapshots: true, ..self }
    }

    async fn wait_for_snapshot(&self, upto: LogId<u64>) -> Result<(), StoreError> {
        let mut waited = Duration::ZERO;
        while snapshot::last_log_id(self.kv.as_ref())? < Some(upto) {
            if waited >= SNAPSHOT_TIMEOUT {
                let reason = format!("no snapshot holds what is purged up to {upto}");
                return Err(StoreError::Missing { what: "the snapshot".to_owned(), reason });
            }
            sleep(SNAPSHOT_LOOK_INTERVAL).await;
            waited += SNAPSHOT_LOOK_INTERVAL;
        }
        Ok(())
    }

    /// Makes a restarted leader stand for election again, in a new term. openraft would let it carry on in the old
    /// one, where it counts attempts from zero again and so would name two of them alike.
    pub(crate) async fn resign(&self, replica: u64) -> Result<(), StoreError> {
        match store::get::<StoredVote>(self.kv.as_ref())? {
            Some(_) if polybolos_model::mutant!("no-resign") => Ok(()),
            Some(vote) if vote.committed && vote.voted_for == Some(replica) => {
                self.put_one(&StoredVote { committed: false, ..vote }, Durability::Flushed).await
            }
            _ => Ok(()),
        }
    }

    async fn put_one<T: store::Single>(&self, value: &T, durability: Durability) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        store::put(&mut batch, value)?;
        Ok(self.kv.write(batch, durability).await?)
    }

    async fn append_all(&self, entries: impl Iterator<Item = Entry<TypeConfig>>) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for entry in entries {
            entry::put(&mut batch, &entry)?;
        }
        if polybolos_model::mutant!("append-unflushed") {
            return Ok(self.kv.write(batch, Durability::Buffered).await?);
        }
        Ok(self.kv.write(batch, Durability::Flushed).await?)
    }

    /// From the end, so that a crash in between leaves no hole.
    async fn remove_from(&self, first: u64) -> Result<(), StoreError> {
        for before in entry::steps(self.kv.as_ref(), first, u64::MAX)?.into_iter().rev() {
            let mut batch = Batch::default();
            entry::remove(&mut batch, before.saturating_add(1), u64::MAX);
            self.kv.write(batch, Durability::Buffered).await?;
        }
        let mut batch = Batch::default();
        entry::remove(&mut batch, first, u64::MAX);
        Ok(self.kv.write(batch, Durability::Flushed).await?)
    }

    /// Not flushed: a crash that undoes it leaves entries that the snapshot holds too.
    async fn remove_to(&self, last: LogId<u64>) -> Result<(), StoreError> {
        let kv = self.kv.as_ref();
        for index in entry::steps(kv, 0, last.index)? {
            self.purge_once(entry::log_id(kv, index)?).await?;
        }
        self.purge_once(last).await
    }

    async fn purge_once(&self, last: LogId<u64>) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        store::put(&mut batch, &Purged(last.into()))?;
        entry::remove(&mut batch, 0, last.index);
        Ok(self.kv.write(batch, Durability::Buffered).await?)
    }

    fn state(&self) -> Result<LogState<TypeConfig>, StoreError> {
        let kv = self.kv.as_ref();
        let purged = store::get::<Purged>(kv)?.map(|purged| purged.0.into());
        let last = entry::last_index(kv)?.map(|index| entry::log_id(kv, index)).transpose()?;
        Ok(LogState { last_purged_log_id: purged, last_log_id: last.or(purged) })
    }

    /// The last entry of a term below `term`: where the log of that term's leader ended when it was elected. `None`
    /// without any.
    ///
    /// # Errors
    /// The store can't be read, or entries went away meanwhile.
    pub(crate) fn last_before(&self, term: u64) -> Result<Option<LogId<u64>>, StoreError> {
        let kv = self.kv.as_ref();
        let purged = store::get::<Purged>(kv)?.map(|purged| LogId::from(purged.0));
        let Some(last) = entry::last_index(kv)? else { return Ok(purged) };
        let first = purged.map_or(0, |purged| purged.index.saturating_add(1));
        for index in (first..=last).rev() {
            let id = entry::log_id(kv, index)?;
            if id.leader_id.term < term {
                return Ok(Some(id));
            }
        }
        Ok(purged)
    }
}

/// Commands that can't be read must be found before the log is used, not while it is applied.
fn check_commands(entry: &Entry<TypeConfig>, speaks: u16) -> Result<(), StoreError> {
    let EntryPayload::Normal(proposal) = &entry.payload else { return Ok(()) };
    let what = format!("log entry {}", entry.log_id.index);
    match codec::decode_entry(&proposal.0, speaks) {
        Ok(_) => Ok(()),
        Err(DecodeError::Newer { found, known, .. }) => Err(StoreError::Version { what, found, known }),
        Err(error @ DecodeError::Damaged(_)) => {
            Err(StoreError::Malformed { what, reason: error.to_string() })
        }
    }
}

/// About what an entry takes in a message.
fn bytes_of(entry: &Entry<TypeConfig>) -> usize {
    match &entry.payload {
        EntryPayload::Blank => 0,
        EntryPayload::Normal(proposal) => proposal.0.len(),
        EntryPayload::Membership(members) => members.nodes().map(|(_, node)| node.addr.len()).sum(),
    }
}

fn read_logs(error: StoreError) -> StorageError {
    StorageIOError::read_logs(&error).into()
}

fn write_logs(error: StoreError) -> StorageError {
    StorageIOError::write_logs(&error).into()
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry<TypeConfig>>, StorageError> {
        let first = match range.start_bound() {
            Bound::Included(first) => Some(*first),
            Bound::Excluded(before) => before.checked_add(1),
            Bound::Unbounded => Some(0),
        };
        let last = match range.end_bound() {
            Bound::Included(last) => Some(*last),
            Bound::Excluded(after) => after.checked_sub(1),
            Bound::Unbounded => Some(u64::MAX),
        };
        match (first, last) {
            (Some(first), Some(last)) if first <= last => {
                entry::scan(self.kv.as_ref(), first, last).collect::<Result<_, _>>().map_err(read_logs)
            }
            _ => Ok(Vec::new()),
        }
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry<TypeConfig>>, StorageError> {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        let Some(last) = end.checked_sub(1).filter(|last| start <= *last) else { return Ok(entries) };
        for entry in entry::scan(self.kv.as_ref(), start, last) {
            let entry = entry.map_err(read_logs)?;
            bytes += bytes_of(&entry);
            if bytes > MAX_READ_BYTES && !entries.is_empty() {
                break;
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        self.state().map_err(read_logs)
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), StorageError> {
        if polybolos_model::mutant!("vote-not-saved") {
            return Ok(());
        }
        polybolos_model::failpoint!("vote.before_saved");
        let saved = self.put_one(&StoredVote::from(vote), Durability::Flushed).await;
        saved.map_err(|error| StorageIOError::write_vote(&error).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, StorageError> {
        match store::get::<StoredVote>(self.kv.as_ref()) {
            Ok(vote) => Ok(vote.map(Into::into)),
            Err(error) => Err(StorageIOError::read_vote(&error).into()),
        }
    }

    /// Not flushed: what was committed is durable by itself, and the next durable write takes this along.
    async fn save_committed(&mut self, committed: Option<LogId<u64>>) -> Result<(), StorageError> {
        match committed {
            Some(id) => self.put_one(&Committed(id.into()), Durability::Buffered).await.map_err(write_logs),
            None => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> Result<Option<LogId<u64>>, StorageError> {
        let committed = store::get::<Committed>(self.kv.as_ref()).map_err(read_logs)?;
        Ok(committed.map(|committed| committed.0.into()))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry<TypeConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        match self.append_all(entries.into_iter()).await {
            Ok(()) => {
                polybolos_model::failpoint!("log.after_flush_before_ack");
                callback.log_io_completed(Ok(()));
                Ok(())
            }
            Err(error) => {
                callback.log_io_completed(Err(io::Error::other(error.to_string())));
                Err(write_logs(error))
            }
        }
    }

    async fn truncate(&mut self, log_id: LogId<u64>) -> Result<(), StorageError> {
        polybolos_model::sometimes!("a log was truncated by another leader's");
        self.remove_from(log_id.index).await.map_err(write_logs)
    }

    async fn purge(&mut self, log_id: LogId<u64>) -> Result<(), StorageError> {
        if self.after_snapshots && !polybolos_model::mutant!("purge-before-snapshot") {
            self.wait_for_snapshot(log_id).await.map_err(write_logs)?;
        }
        self.remove_to(log_id).await.map_err(write_logs)
    }
}
