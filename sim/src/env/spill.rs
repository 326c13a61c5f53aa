//! Spill files in memory: DataFusion's own would bypass the simulated disk and start threads.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use datafusion::{
    error::Result,
    execution::{SpillFile, SpillWriter, TempFileFactory},
};
use futures::{Stream, stream};

/// Each file lives as long as the operator that made it.
pub struct MemorySpill;

impl TempFileFactory for MemorySpill {
    fn create_temp_file(&self, _description: &str) -> Result<Arc<dyn SpillFile>> {
        Ok(Arc::new(MemoryFile::default()))
    }
}

#[derive(Clone, Default)]
struct MemoryFile(Arc<Mutex<Vec<u8>>>);

impl MemoryFile {
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SpillFile for MemoryFile {
    fn size(&self) -> Option<u64> {
        Some(self.lock().len() as u64)
    }

    fn read_stream(&self) -> Result<Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>> {
        let content = Bytes::copy_from_slice(&self.lock());
        Ok(Box::pin(stream::iter([Ok(content)])))
    }

    fn open_writer(&self) -> Result<Box<dyn SpillWriter>> {
        Ok(Box::new(self.clone()))
    }
}

impl io::Write for MemoryFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.lock().extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SpillWriter for MemoryFile {
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}
