//! Executors come, beat, leave and are lost.

use std::collections::BTreeMap;

use polybolos_model::{ExecutorId, Incarnation};

use super::Outcome;
use crate::{
    Change, ClusterState, Effects, Executor, ExecutorState, LoggedBeat, Loss, Rejection, Usage,
    limits::{MAX_ADDRESS_BYTES, MAX_EXECUTORS, MAX_LABEL_BYTES, MAX_LOST_EXECUTORS},
};

/// The fields of [`crate::Command::RegisterExecutor`].
pub(crate) struct Registration<'a> {
    pub(crate) executor: &'a ExecutorId,
    pub(crate) address: &'a str,
    pub(crate) slots: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) labels: &'a BTreeMap<String, String>,
    pub(crate) process_id: u64,
}

impl ClusterState {
    /// A restart under the same id and address takes the place of the old process at once: two can't listen there.
    /// So does any process when the old one's stream is broken. Otherwise a live process keeps its id and address.
    pub(crate) fn register(&mut self, new: Registration<'_>) -> Outcome {
        check_registration(&new)?;
        let known = self.executors.get(new.executor).filter(|known| known.is_present());
        if let Some(known) = known
            && known.process_id != new.process_id
            && known.address != new.address
            && known.suspect_since_ms.is_none()
        {
            let address = known.address.clone();
            return Err(Rejection::ExecutorIdInUse { executor: new.executor.clone(), address });
        }
        let squatter = self
            .executors()
            .find(|other| other.is_present() && other.address == new.address && other.id != *new.executor);
        if let Some(other) = squatter.filter(|other| other.suspect_since_ms.is_none()) {
            return Err(Rejection::AddressInUse {
                address: new.address.to_owned(),
                executor: other.id.clone(),
            });
        }
        let present = self.executors().filter(|e| e.is_present()).count();
        if known.is_none() && squatter.is_none() && present >= MAX_EXECUTORS {
            return Err(Rejection::TooManyExecutors);
        }
        let squatter = squatter.map(|other| (other.id.clone(), other.incarnation));
        let same = known
            .filter(|known| known.process_id == new.process_id)
            .map(|known| (known.incarnation, known.state));
        let replaced = match known {
            Some(known) if same.is_none() => Some((known.id.clone(), known.incarnation)),
            Some(_) | None => squatter.clone(),
        };
        Ok(self.enter(&new, same, squatter, replaced))
    }

    fn enter(
        &mut self,
        new: &Registration<'_>,
        same: Option<(Incarnation, ExecutorState)>,
        squatter: Option<(ExecutorId, Incarnation)>,
        replaced: Option<(ExecutorId, Incarnation)>,
    ) -> Change {
        let why = format!("another process took its place at {}", new.address);
        if let Some((other, _)) = &squatter {
            self.mark_lost(other, &why);
        }
        let (incarnation, state) = same.unwrap_or_else(|| {
            self.last_incarnation.0 += 1;
            self.extension.refused_commands.remove(new.executor);
            (self.last_incarnation, ExecutorState::Live)
        });
        if let Some(old) = self.executors.get(new.executor)
            && !old.is_present()
            && old.process_id == new.process_id
        {
            self.extension.v3.not_dead(new.executor, old.incarnation);
        }
        let record = Executor {
            id: new.executor.clone(),
            incarnation,
            address: new.address.to_owned(),
            slots: new.slots,
            memory_bytes: new.memory_bytes,
            labels: new.labels.clone(),
            process_id: new.process_id,
            state,
            last_beat_ms: self.now_ms,
            suspect_since_ms: None,
            usage: Usage::default(),
            lost: None,
        };
        self.executors.insert(new.executor.clone(), record);
        if same.is_none() {
            self.extension.v3.drains.remove(new.executor);
        }
        self.note_moves();
        let effects = if replaced.is_some() { self.lose_outputs(&why) } else { Effects::default() };
        Change::Registered { executor: new.executor.clone(), incarnation, replaced, effects }
    }

    pub(crate) fn drain(&mut self, id: &ExecutorId) -> Outcome {
        let unknown = || Rejection::ExecutorNotFound { executor: id.clone() };
        let executor = self.executors.get_mut(id).ok_or_else(unknown)?;
        match executor.state {
            ExecutorState::Lost => Err(unknown()),
            ExecutorState::Draining => Ok(Change::Unchanged),
            ExecutorState::Live => {
                executor.state = ExecutorState::Draining;
                Ok(Change::Draining { executor: id.clone() })
            }
        }
    }

    pub(crate) fn suspect(&mut self, id: &ExecutorId, incarnation: Incarnation) -> Outcome {
        self.check_present(id, incarnation)?;
        let now_ms = self.now_ms;
        match self.executors.get_mut(id) {
            Some(executor) if executor.suspect_since_ms.is_none() => {
                executor.suspect_since_ms = Some(now_ms);
                Ok(Change::Suspected { executor: id.clone() })
            }
            Some(_) | None => Ok(Change::Unchanged),
        }
    }

    pub(crate) fn lose(&mut self, id: &ExecutorId, incarnation: Incarnation, reason: &str) -> Outcome {
        self.check_present(id, incarnation)?;
        self.mark_lost(id, reason);
        if polybolos_model::mutant!("lost-outputs-not-rerun") {
            let effects = Effects::default();
            return Ok(Change::Lost { executor: id.clone(), incarnation, effects });
        }
        let effects = self.lose_outputs(reason);
        Ok(Change::Lost { executor: id.clone(), incarnation, effects })
    }

    pub(crate) fn beats(&mut self, beats: &[LoggedBeat]) -> Change {
        let mut accepted = 0;
        let mut stale = Vec::new();
        for beat in beats {
            let known = self.executors.get_mut(&beat.executor);
            match known.filter(|e| e.is_present() && e.incarnation == beat.incarnation) {
                Some(executor) => {
                    executor.last_beat_ms = self.now_ms;
                    executor.suspect_since_ms = None;
                    executor.usage = Usage {
                        memory_used_bytes: beat.memory_used_bytes,
                        shuffle_bytes: beat.shuffle_bytes,
                        running_tasks: beat.running_tasks,
                    };
                    accepted += 1;
                }
                None => stale.push(beat.executor.clone()),
            }
        }
        Change::Beats { accepted, stale }
    }

    pub(crate) fn count_refused(&mut self, counts: &[(ExecutorId, u64)]) -> Change {
        let mut executors = 0;
        for (id, count) in counts {
            if !self.executors.contains_key(id) || self.refused_commands(id) == *count {
                continue;
            }
            match *count {
                0 => self.extension.refused_commands.remove(id),
                more => self.extension.refused_commands.insert(id.clone(), more),
            };
            executors += 1;
        }
        if executors == 0 { Change::Unchanged } else { Change::RefusedCommandsCounted { executors } }
    }

    pub(crate) fn check_present(&self, id: &ExecutorId, reported: Incarnation) -> Result<(), Rejection> {
        let known = self.executor(id).ok_or_else(|| Rejection::ExecutorNotFound { executor: id.clone() })?;
        if known.is_present() && known.incarnation == reported {
            return Ok(());
        }
        let present = known.is_present().then_some(known.incarnation);
        Err(Rejection::StaleIncarnation { executor: id.clone(), reported, present })
    }

    /// Keeps the record for `status`, and forgets the longest lost when there are too many.
    pub(crate) fn mark_lost(&mut self, id: &ExecutorId, reason: &str) {
        let at_ms = self.now_ms;
        let Some(executor) = self.executors.get_mut(id) else { return };
        executor.state = ExecutorState::Lost;
        executor.suspect_since_ms = None;
        executor.lost = Some(Loss { at_ms, reason: reason.to_owned() });
        self.extension.v3.drains.remove(id);
        let lost = self.executors().filter_map(|e| Some((e.lost.as_ref()?.at_ms, e.id.clone())));
        let mut lost: Vec<(u64, ExecutorId)> = lost.collect();
        if lost.len() > MAX_LOST_EXECUTORS {
            lost.sort_unstable();
            let surplus = lost.len() - MAX_LOST_EXECUTORS;
            for (_, old) in lost.into_iter().take(surplus) {
                self.executors.remove(&old);
                self.extension.refused_commands.remove(&old);
                self.extension.v3.drains.remove(&old);
            }
        }
    }
}

fn check_registration(new: &Registration<'_>) -> Result<(), Rejection> {
    let executor = || new.executor.clone();
    if new.slots == 0 {
        return Err(Rejection::NoSlots { executor: executor() });
    }
    if new.address.is_empty() || new.address.len() > MAX_ADDRESS_BYTES {
        return Err(Rejection::BadAddress { executor: executor(), bytes: new.address.len() });
    }
    let bytes = new.labels.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MAX_LABEL_BYTES {
        return Err(Rejection::LabelsTooLarge { executor: executor(), bytes });
    }
    Ok(())
}
