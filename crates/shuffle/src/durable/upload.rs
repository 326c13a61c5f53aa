//! Writing a whole output into the durable store, in bounded memory.

use bytes::Bytes;
use object_store::{ObjectStoreExt, buffered::BufWriter};
use tokio::io::AsyncWriteExt;

use super::{DurableShuffle, Failure, TRIES, back_off, in_time};
use crate::{
    OutputKey, ShuffleError, ShuffleStore,
    index::{Chunk, Index},
    locked,
};

/// Smaller data is one request; larger goes up in parts of this size.
const PART_BYTES: usize = 8 * 1024 * 1024;
/// Parts of one object under way.
const CONCURRENT_PARTS: usize = 2;

impl DurableShuffle {
    /// Writes the whole output of `key`, which `local` holds: the data, then the index. Waits for its turn.
    pub(crate) async fn upload(&self, local: &ShuffleStore, key: OutputKey) -> Result<(), ShuffleError> {
        // The semaphore is never closed.
        let _turn = self.uploads.acquire().await;
        locked(&self.written).insert(key.attempt, key);
        let mut failures = 0;
        let uploaded = loop {
            match self.try_upload(local, key).await {
                Err(error @ ShuffleError::Store { .. }) if failures + 1 < TRIES => {
                    failures += 1;
                    polybolos_model::sometimes!("an upload of an output was tried again");
                    tracing::debug!(%key, %error, failures, "an upload is tried again");
                    tokio::time::sleep(back_off(self.random.as_ref(), failures)).await;
                }
                done => break done,
            }
        };
        // Deleted here meanwhile: what was deleted there before the last request is there again.
        let uploaded = uploaded.and_then(|()| local.partitions(key).map(|_| ()));
        if uploaded.is_err() {
            // A job that was released is not among what was written any more.
            locked(&self.written).remove(&key.attempt);
            if let Ok(place) = self.place(key) {
                self.unwanted.add_objects([place.index, place.data]);
            }
        } else {
            polybolos_model::sometimes!("an output became durable");
        }
        uploaded
    }

    async fn try_upload(&self, local: &ShuffleStore, key: OutputKey) -> Result<(), ShuffleError> {
        let place = self.place(key)?;
        let partitions = local.partitions(key)?;
        let writer = BufWriter::with_capacity(self.store.clone(), place.data.clone(), PART_BYTES);
        let mut writer = writer.with_max_concurrency(CONCURRENT_PARTS);
        let mut index = Index::new(partitions as usize);
        let mut offset = 0;
        for (partition, chunks) in (0..partitions).zip(&mut index.partitions) {
            let mut reader = local.read(key, partition)?;
            loop {
                let bytes = match reader.next_encoded(&self.options).await {
                    Ok(Some(bytes)) => bytes,
                    Ok(None) => break,
                    Err(error) => {
                        give_up(writer).await;
                        return Err(error);
                    }
                };
                if let Some(work) = local.charge(bytes.len()) {
                    work.await;
                }
                let chunk = Chunk { offset, length: bytes.len() as u64, crc: crc32fast::hash(&bytes) };
                offset += chunk.length;
                chunks.push(chunk);
                if let Err(error) = in_time(writer.put(bytes)).await {
                    give_up(writer).await;
                    return Err(self.failed("write", &place.data, error));
                }
            }
        }
        // An output without rows is its index alone.
        if offset > 0 {
            let finish = async { writer.shutdown().await.map_err(of_io) };
            in_time(finish).await.map_err(|error| self.failed("write", &place.data, error))?;
        }
        polybolos_model::failpoint!("shuffle.durable_before_index");
        let index = Bytes::from(index.encode());
        let put = || {
            let (store, path, payload) = (&self.store, &place.index, index.clone().into());
            async move { store.put(path, payload).await }
        };
        self.persist("write", &place.index, put).await?;
        Ok(())
    }
}

/// Frees the parts of an object that won't be whole. What can't be freed is the store's to expire.
async fn give_up(mut writer: BufWriter) {
    if let Err(Failure::Store(error)) = in_time(writer.abort()).await {
        tracing::debug!(%error, "an unfinished upload could not be given up");
    }
}

fn of_io(error: std::io::Error) -> object_store::Error {
    match error.downcast::<object_store::Error>() {
        Ok(error) => error,
        Err(error) => object_store::Error::Generic { store: "durable shuffle", source: Box::new(error) },
    }
}
