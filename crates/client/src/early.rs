//! Reading a partition while its task runs.
//!
//! Only of a task that gives the same rows in the same order each time it runs. So an attempt that ends without all of
//! them, or loses against another one, costs nothing but time:
//!
//! ```text
//!   rows of the attempt that runs ─▶ handed out ─┬─ it ends ──────▶ is it complete with so many rows? ─▶ done
//!                                                └─ it breaks ────▶ the rest of whichever attempt there is then
//! ```
//!
//! Whoever goes on with another attempt holds the row before its first one against the last one that was handed out. If they differ, the
//! files of the query have changed, and the stream ends in an error.

use arrow::record_batch::RecordBatch;
use polybolos_proto::v1::ResultPartition;
use tokio::time::sleep;

use crate::{
    ClientError,
    fetch::{Fetch, HandedOut, Places, Stop},
    limits::EARLY_FETCH_DELAY,
};

/// Of a partition of which any attempt does, what is known of its rows.
#[derive(Default)]
pub(crate) struct Given {
    /// Each attempt gives the same rows in the same order.
    pub(crate) repeatable: bool,
    /// The last one that was handed out, and the attempt that it came from.
    last_row: Option<RecordBatch>,
    attempt: String,
    /// All rows of an attempt were handed out.
    whole: bool,
    /// Since the last row.
    breaks: u32,
}

/// What to do with a place.
pub(crate) enum Early {
    /// Read it: it is complete, and not all of its rows were handed out.
    Read,
    /// Look where the partition is now.
    Again,
    /// There is nothing more to hand out.
    Done,
}

impl Given {
    /// `batch`, not empty, is handed out next. `is_made`: nobody has said yet that its attempt is complete.
    pub(crate) fn note(&mut self, batch: &RecordBatch, place: &ResultPartition, is_made: bool) {
        if !self.repeatable {
            return;
        }
        let goes_on = !self.attempt.is_empty() && self.attempt != place.attempt;
        polybolos_model::sometimes!("an early reader went on with another attempt", goes_on);
        polybolos_model::sometimes!("rows were handed out before the task was done", is_made);
        self.attempt.clone_from(&place.attempt);
        self.last_row = Some(batch.slice(batch.num_rows() - 1, 1));
        self.breaks = 0;
    }

    /// # Errors
    /// `batch`, of which the first `skip` rows are left out, has another row before the first one that is not.
    pub(crate) fn check(&self, batch: &RecordBatch, skip: u64) -> Result<(), Stop> {
        let last = usize::try_from(skip).ok().and_then(|skip| skip.checked_sub(1));
        let (Some(last), Some(expected)) = (last.filter(|last| *last < batch.num_rows()), &self.last_row)
        else {
            return Ok(());
        };
        let is_same = batch.slice(last, 1).columns() == expected.columns();
        if is_same { Ok(()) } else { Err(Stop::Different(DIFFERENT.to_owned())) }
    }
}

const DIFFERENT: &str = "another attempt gave other rows: the query's files have changed while it ran";

impl Fetch {
    /// Looks whether there is anything to read at `place`, which it hands out as it is made if it is not complete.
    ///
    /// # Errors
    /// It has other rows than those that were handed out.
    pub(crate) async fn early(
        &mut self,
        place: &ResultPartition,
        handed_out: &mut HandedOut,
    ) -> Result<Early, ClientError> {
        self.given.repeatable |= place.repeatable;
        if !self.given.repeatable {
            return Ok(Early::Read);
        }
        if place.unfinished {
            return self.follow(place, handed_out).await;
        }
        let is_other = place.rows < handed_out.rows || (self.given.whole && place.rows != handed_out.rows);
        if is_other && !polybolos_model::mutant!("early-reader-begins-anew") {
            return Err(self.failed(place, *handed_out, DIFFERENT.to_owned()));
        }
        Ok(if place.rows > handed_out.rows { Early::Read } else { Early::Done })
    }

    async fn follow(
        &mut self,
        place: &ResultPartition,
        handed_out: &mut HandedOut,
    ) -> Result<Early, ClientError> {
        if handed_out.batches == 0 {
            tokio::select! {
                biased;
                () = self.told_else(place) => return Ok(Early::Again),
                () = sleep(EARLY_FETCH_DELAY) => {}
            }
        }
        match self.read(place, handed_out).await {
            // Whoever wins has the same rows, and only then it is said how many there are.
            Ok(()) => {
                self.given.whole = true;
                let is_complete = |now: &ResultPartition| !now.unfinished;
                self.told(is_complete).await;
                Ok(Early::Again)
            }
            Err(Stop::Left) => Ok(Early::Done),
            Err(Stop::Different(why)) => Err(self.failed(place, *handed_out, why)),
            // The attempt may not have begun, and whether it still runs the leader knows.
            Err(Stop::Broken(broken)) => {
                let (job, partition, why) = (self.job, self.partition, broken.why);
                tracing::debug!(%job, partition, ?handed_out, why, "an unfinished partition can't be read");
                self.given.breaks = self.given.breaks.saturating_add(1);
                let pause = self.shared.backoff(self.given.breaks);
                tokio::select! {
                    biased;
                    () = self.told_else(place) => {}
                    () = sleep(pause) => {}
                }
                Ok(Early::Again)
            }
        }
    }

    async fn told_else(&self, place: &ResultPartition) {
        self.told(|now| now.ticket != place.ticket).await;
    }

    /// Waits until the partition is somewhere, by the latest update, and that is as it should be.
    async fn told(&self, is_right: impl Fn(&ResultPartition) -> bool) {
        let mut places = self.places.clone();
        let told = |places: &Places| places.get(&self.partition).is_some_and(&is_right);
        if places.wait_for(told).await.is_err() {
            // The driver is gone, and this task with it.
            std::future::pending::<()>().await;
        }
    }
}
