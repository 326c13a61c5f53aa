//! Where the inputs of a stage are.

use std::{collections::BTreeMap, ops::Range};

use polybolos_model::{AttemptId, ExecutorId, JobId, PartitionStats, StageId, TaskId};
use polybolos_proto::{ConvertError, attempt, v1};

use crate::OutputKey;

/// The output of one upstream task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapOutput {
    pub map_partition: u32,
    pub executor: ExecutorId,
    /// HOST:PORT of its Flight service; empty when it is gone, and the output is in the durable store only.
    pub address: String,
    pub attempt: AttemptId,
    /// One for each output partition.
    pub outputs: Vec<PartitionStats>,
}

impl MapOutput {
    /// What is known of neighbouring output partitions.
    pub(crate) fn stats(&self, partitions: &Range<u32>) -> Option<PartitionStats> {
        let of = self.outputs.get(partitions.start as usize..partitions.end as usize)?;
        Some(of.iter().fold(PartitionStats::default(), |sum, one| PartitionStats {
            rows: sum.rows.saturating_add(one.rows),
            bytes: sum.bytes.saturating_add(one.bytes),
        }))
    }

    pub(crate) fn key(&self, job: JobId, stage: StageId) -> OutputKey {
        OutputKey { task: TaskId { job, stage, partition: self.map_partition }, attempt: self.attempt }
    }
}

/// Every output that the tasks of a stage may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageInputs {
    pub job: JobId,
    /// Of each upstream stage, one for each of its tasks, ascending by `map_partition`.
    pub stages: BTreeMap<StageId, Vec<MapOutput>>,
}

impl StageInputs {
    /// From the `inputs` of a `PrepareStage`.
    ///
    /// # Errors
    /// An output lacks its attempt, or its executor's name is malformed.
    pub fn from_proto(job: JobId, inputs: Vec<v1::InputLocations>) -> Result<Self, ConvertError> {
        let mut stages = BTreeMap::new();
        for input in inputs {
            let maps = input.maps.into_iter().map(map_output).collect::<Result<Vec<_>, _>>()?;
            stages.insert(StageId(input.stage_id), maps);
        }
        Ok(Self { job, stages })
    }
}

fn map_output(map: v1::MapOutput) -> Result<MapOutput, ConvertError> {
    Ok(MapOutput {
        map_partition: map.map_partition,
        executor: ExecutorId::new(map.executor_id)?,
        address: map.address,
        attempt: attempt(map.attempt)?,
        outputs: map.outputs.into_iter().map(Into::into).collect(),
    })
}
