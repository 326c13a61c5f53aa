//! Disks that are full, and files that are damaged or gone.

use std::{
    fs,
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use polybolos_model::ReplicaId;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::time::sleep;

use super::{Acted, Nemesis, Outcome, find, of_role, processes::ends, told};
use crate::{
    cluster::{Fleet, Role},
    os::files_below,
    schedule::Planned,
};

/// What is freed meanwhile is filled again.
const REFILL: Duration = Duration::from_millis(500);
/// Files of a running query are looked for at these intervals.
const LOOK: Duration = Duration::from_millis(100);
/// A replica with a damaged store must say so within this time.
const REFUSE_LIMIT: Duration = Duration::from_secs(30);
const REFUSED: i32 = 2;
/// In a log: the kernel's words, and a scheduler's own.
const FULL: [&str; 2] = ["No space left", "the disk is full"];

impl Nemesis {
    pub(super) async fn disk_full(&self, fleet: &Fleet, planned: &Planned, target: &str) -> Acted {
        let node = find(fleet, target).await?;
        let address = {
            let mut node = node.lock().await;
            if node.disk.is_none() {
                return Err("no small disk could be mounted: that needs root".to_owned());
            }
            node.excuse(true);
            fleet.address(&node).await
        };
        let hold = self.hold(planned);
        tokio::pin!(hold);
        let (mut filled, mut is_told) = (0, false);
        loop {
            filled += match &node.lock().await.disk {
                Some(disk) => disk.fill().map_err(told)?,
                None => 0,
            };
            is_told |= self.observer.seen().replicas.get(&address).is_some_and(|row| row.disk == "full");
            tokio::select! {
                () = &mut hold => break,
                () = sleep(REFILL) => {}
            }
        }
        let mut node = node.lock().await;
        let lines: usize = FULL.iter().map(|text| node.says(text)).sum();
        if let Some(disk) = &node.disk {
            disk.free().map_err(told)?;
        }
        node.excuse(false);
        node.start_if_wanted().await.map_err(told)?;
        fleet.tell(&node).await;
        let saw = match (is_told, lines) {
            (true, _) => "the replica said that its disk is full".to_owned(),
            (false, 0) => "the process wrote nothing meanwhile that did not fit".to_owned(),
            (false, lines) => format!("{lines} lines of its log say so"),
        };
        Ok(Outcome::if_acted(filled > 0, format!("ENOSPC after {filled} bytes; {saw}")))
    }

    /// The replica has to refuse, and another one takes its place.
    pub(super) async fn corrupt_disk(
        &self,
        fleet: &Fleet,
        planned: &Planned,
        target: &str,
        bits: u32,
    ) -> Acted {
        let node = find(fleet, target).await?;
        let others_up = {
            let mut up = 0;
            for other in of_role(fleet, true).await {
                let other = other.lock().await;
                up += usize::from(other.name != target && other.is_up());
            }
            up
        };
        let (id, count) = {
            let mut node = node.lock().await;
            let Role::Scheduler { id } = node.role else {
                return Err("only the store of a scheduler is checked at the start".to_owned());
            };
            if others_up < 2 {
                return Err("a majority has to be left, and all other replicas are not up".to_owned());
            }
            node.excuse(true);
            node.down().await.map_err(told)?;
            let count = damage(&largest(&node.folder), bits, self.seed_of(planned)).map_err(told)?;
            node.up().await.map_err(told)?;
            fleet.tell(&node).await;
            (id, count)
        };
        let code = ends(&node, REFUSE_LIMIT).await.flatten();
        if code != Some(REFUSED) {
            let mut node = node.lock().await;
            node.excuse(false);
            node.start_if_wanted().await.map_err(told)?;
            let why = format!("{count} bits were flipped, and it did not refuse (code {code:?})");
            return Ok(Outcome::not(why));
        }
        node.lock().await.is_removed = true;
        self.client.remove_replica(ReplicaId(id)).await.map_err(told)?;
        let new = self.enter(fleet).await?;
        Ok(Outcome::acted(format!("{count} bits were flipped; it refused with code 2; {new} took its place")))
    }

    /// Flips bits of shuffle files, or deletes them all, again and again until the fault ends. Only files that are there
    /// count, so it waits for a query that has some.
    pub(super) async fn corrupt_shuffle(
        &self,
        fleet: &Fleet,
        planned: &Planned,
        target: &str,
        bits: Option<u32>,
    ) -> Acted {
        let folder = find(fleet, target).await?.lock().await.folder.clone();
        let hold = self.hold(planned);
        tokio::pin!(hold);
        let (mut hit, mut round) = (0, 0);
        loop {
            for file in files_below(&folder).iter().filter(|path| is_shuffle(path)) {
                round += 1;
                let done = match bits {
                    Some(bits) => {
                        damage(file, bits, self.seed_of(planned) ^ round).is_ok_and(|count| count > 0)
                    }
                    None => fs::remove_file(file).is_ok(),
                };
                hit += u64::from(done);
            }
            // Damage once is enough: what is flipped twice is whole again.
            if bits.is_some() && hit > 0 {
                hold.await;
                break;
            }
            tokio::select! {
                () = &mut hold => break,
                () = sleep(LOOK) => {}
            }
        }
        let what = if bits.is_some() { "damaged" } else { "deleted" };
        Ok(Outcome::if_acted(hit > 0, format!("{hit} shuffle files were {what}")))
    }
}

/// A task's output is a data file and an index; the rest of the folder is the executor's name, its lock and its spills.
fn is_shuffle(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "data" || extension == "index")
}

fn largest(folder: &Path) -> PathBuf {
    let size = |path: &PathBuf| fs::metadata(path).map(|found| found.len()).unwrap_or(0);
    files_below(folder).into_iter().max_by_key(size).unwrap_or_else(|| folder.to_owned())
}

/// Flips so many bits of a file, each somewhere in its own piece, and tells how many.
fn damage(path: &Path, bits: u32, seed: u64) -> std::io::Result<u64> {
    let mut file = fs::File::options().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    let bits = u64::from(bits).min(length);
    let mut random = StdRng::seed_from_u64(seed);
    for number in 0..bits {
        let piece = length / bits;
        let at = number * piece + random.random_range(0..piece.max(1));
        let mut byte = [0];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut byte)?;
        byte[0] ^= 1 << random.random_range(0..8);
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&byte)?;
    }
    file.sync_all()?;
    Ok(bits)
}
