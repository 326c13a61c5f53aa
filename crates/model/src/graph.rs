//! A query cut into stages where data must move.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    StageId,
    limits::{MAX_PLAN_BYTES, MAX_STAGES, MAX_TASKS_PER_STAGE},
};

/// How a stage's rows are spread over its output partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exchange {
    /// By a hash of key expressions.
    Hash,
    /// Batch by batch.
    RoundRobin,
    /// Each task has one output partition, and one reader takes them all in any order.
    Single,
    /// Each task has one sorted output partition, and one reader merges them.
    Merge,
    /// Each task has one output partition, and every reader takes all of them.
    Broadcast,
    /// The last stage: each task has one output partition, for the client.
    Result,
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hash => "hash",
            Self::RoundRobin => "round-robin",
            Self::Single => "single",
            Self::Merge => "merge",
            Self::Broadcast => "broadcast",
            Self::Result => "result",
        })
    }
}

/// What a task reads of an upstream stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadMode {
    /// Each task reads one output partition of every upstream task: `p` in task `p`, or, below a union, as the
    /// plan says.
    Partition,
    /// Every task reads output partition 0 of every upstream task, one reader partition for each of them.
    All,
    /// As [`ReadMode::Partition`], but how many neighbouring partitions a task reads is decided when all inputs are complete,
    /// from their sizes; until then no task may start. From version 4 on.
    Adaptive {
        /// A partition of this input may also be divided between several tasks, by upstream tasks; each of them then reads
        /// all of the partition of the other inputs.
        splits: bool,
    },
    /// What [`ReadMode::Adaptive`] becomes when it is decided that tasks read other than one partition each: what task `p`
    /// reads is the p-th [`crate::Share`].
    Shares,
}

/// An edge of the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageInput {
    pub stage: StageId,
    pub read: ReadMode,
}

/// Tasks that run the same plan, each on a partition of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    pub id: StageId,
    /// The physical plan, encoded by `planner`; opaque to everyone else.
    pub plan: Vec<u8>,
    /// Task `p` computes partition `p` of the plan, for `p` in `0..tasks`.
    pub tasks: u32,
    /// Ascending by stage, each smaller than `id`.
    pub inputs: Vec<StageInput>,
    pub exchange: Exchange,
    /// Output partitions of each task: 1 unless the exchange is hash or round-robin.
    pub output_partitions: u32,
    /// The plan as `EXPLAIN` shows it: one operator a line, depth-first preorder, indented by two spaces a level.
    pub display: String,
    /// Why a second run of a task may send rows elsewhere or in other values; `None` when it can't.
    pub indeterminate: Option<String>,
}

/// A whole query. `stages[i].id == i`, and the last stage is the only one with [`Exchange::Result`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageGraph {
    pub stages: Vec<Stage>,
}

/// A stage graph breaks a rule that everything downstream relies on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum StageGraphError {
    #[error("a query of {0} stages; between 1 and {MAX_STAGES} are allowed")]
    StageCount(usize),
    #[error("stage at position {position} calls itself {id}")]
    Id { position: usize, id: StageId },
    #[error("stage {stage} has {tasks} tasks; between 1 and {MAX_TASKS_PER_STAGE} are allowed")]
    TaskCount { stage: StageId, tasks: u32 },
    #[error("stage {stage} has {partitions} output partitions, which its {exchange} exchange does not allow")]
    OutputPartitions { stage: StageId, partitions: u32, exchange: Exchange },
    #[error("stage {stage} reads stage {input}, which does not come before it or is read twice")]
    Input { stage: StageId, input: StageId },
    #[error("stage {stage} with {tasks} tasks reads {partitions} partitions of stage {input}")]
    Width { stage: StageId, tasks: u32, input: StageId, partitions: u32 },
    #[error("stage {0} is read by nobody, or the result is read by a stage")]
    Sink(StageId),
    #[error(
        "the plan is {bytes} bytes; at most {MAX_PLAN_BYTES} are allowed (fewer files, columns or literals help)"
    )]
    TooLarge { bytes: usize },
}

impl StageGraph {
    pub fn stage(&self, id: StageId) -> Option<&Stage> {
        self.stages.get(id.0 as usize)
    }

    /// The stage whose output the client reads.
    pub fn last(&self) -> Option<&Stage> {
        self.stages.last()
    }

    /// Stages that read `id`, ascending.
    pub fn readers(&self, id: StageId) -> impl Iterator<Item = &Stage> {
        self.stages.iter().filter(move |s| s.inputs.iter().any(|input| input.stage == id))
    }

    /// Checks every rule that this module's docs state.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), StageGraphError> {
        if self.stages.is_empty() || self.stages.len() > MAX_STAGES {
            return Err(StageGraphError::StageCount(self.stages.len()));
        }
        let bytes = self.stages.iter().map(|s| s.plan.len()).sum();
        if bytes > MAX_PLAN_BYTES {
            return Err(StageGraphError::TooLarge { bytes });
        }
        for (position, stage) in self.stages.iter().enumerate() {
            self.validate_stage(position, stage)?;
        }
        Ok(())
    }

    fn validate_stage(&self, position: usize, stage: &Stage) -> Result<(), StageGraphError> {
        let id = stage.id;
        if id.0 as usize != position {
            return Err(StageGraphError::Id { position, id });
        }
        if stage.tasks == 0 || stage.tasks > MAX_TASKS_PER_STAGE {
            return Err(StageGraphError::TaskCount { stage: id, tasks: stage.tasks });
        }
        let spreads = matches!(stage.exchange, Exchange::Hash | Exchange::RoundRobin);
        let partitions = stage.output_partitions;
        if partitions == 0 || partitions > MAX_TASKS_PER_STAGE || (!spreads && partitions != 1) {
            return Err(StageGraphError::OutputPartitions {
                stage: id,
                partitions,
                exchange: stage.exchange,
            });
        }
        let is_last = position + 1 == self.stages.len();
        if is_last != (stage.exchange == Exchange::Result) || (!is_last && self.readers(id).next().is_none())
        {
            return Err(StageGraphError::Sink(id));
        }
        let mut previous = None;
        for input in &stage.inputs {
            if input.stage >= id || previous.is_some_and(|p| p >= input.stage) {
                return Err(StageGraphError::Input { stage: id, input: input.stage });
            }
            previous = Some(input.stage);
            let upstream = &self.stages[input.stage.0 as usize];
            let fits = match input.read {
                // Fewer when a union stands between: its other tasks read other stages.
                ReadMode::Partition => upstream.output_partitions <= stage.tasks,
                ReadMode::All => upstream.output_partitions == 1,
                ReadMode::Adaptive { .. } => {
                    upstream.output_partitions == stage.tasks
                        && !stage.inputs.iter().any(|i| i.read == ReadMode::Partition)
                }
                // Never planned.
                ReadMode::Shares => false,
            };
            if !fits {
                let partitions = upstream.output_partitions;
                return Err(StageGraphError::Width {
                    stage: id,
                    tasks: stage.tasks,
                    input: input.stage,
                    partitions,
                });
            }
        }
        Ok(())
    }
}

impl fmt::Display for StageGraph {
    /// The graph as `EXPLAIN` and the snapshot tests show it, the result stage first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for stage in self.stages.iter().rev() {
            write!(f, "Stage {}: {} task{}", stage.id, stage.tasks, if stage.tasks == 1 { "" } else { "s" })?;
            match stage.exchange {
                Exchange::Hash | Exchange::RoundRobin => {
                    write!(f, ", {} exchange to {} partitions", stage.exchange, stage.output_partitions)?;
                }
                Exchange::Result => f.write_str(", result")?,
                other => write!(f, ", {other} exchange")?,
            }
            if let Some(reason) = &stage.indeterminate {
                write!(f, ", indeterminate: {reason}")?;
            }
            writeln!(f)?;
            for line in stage.display.lines() {
                writeln!(f, "  {line}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(
        id: u32,
        tasks: u32,
        inputs: Vec<StageInput>,
        exchange: Exchange,
        output_partitions: u32,
    ) -> Stage {
        Stage {
            id: StageId(id),
            plan: vec![],
            tasks,
            inputs,
            exchange,
            output_partitions,
            display: String::new(),
            indeterminate: None,
        }
    }

    fn two_stages(read: ReadMode, tasks: u32) -> StageGraph {
        let input = StageInput { stage: StageId(0), read };
        StageGraph {
            stages: vec![
                stage(0, 3, vec![], Exchange::Hash, 4),
                stage(1, tasks, vec![input], Exchange::Result, 1),
            ],
        }
    }

    #[test]
    fn a_sound_graph_passes() {
        assert_eq!(two_stages(ReadMode::Partition, 4).validate(), Ok(()));
    }

    #[test]
    fn each_rule_is_enforced() {
        assert!(matches!(StageGraph::default().validate(), Err(StageGraphError::StageCount(0))));
        assert!(matches!(two_stages(ReadMode::Partition, 3).validate(), Err(StageGraphError::Width { .. })));
        assert!(matches!(two_stages(ReadMode::All, 4).validate(), Err(StageGraphError::Width { .. })));
        let mut graph = two_stages(ReadMode::Partition, 4);
        graph.stages[1].inputs[0].stage = StageId(1);
        assert!(matches!(graph.validate(), Err(StageGraphError::Sink(_) | StageGraphError::Input { .. })));
        let mut graph = two_stages(ReadMode::Partition, 4);
        graph.stages[1].exchange = Exchange::Single;
        assert!(matches!(graph.validate(), Err(StageGraphError::Sink(_))));
        let mut graph = two_stages(ReadMode::Partition, 4);
        graph.stages[0].tasks = 0;
        assert!(matches!(graph.validate(), Err(StageGraphError::TaskCount { .. })));
        let mut graph = two_stages(ReadMode::Partition, 4);
        graph.stages[1].output_partitions = 2;
        assert!(matches!(graph.validate(), Err(StageGraphError::OutputPartitions { .. })));
        let mut graph = two_stages(ReadMode::Partition, 4);
        graph.stages[0].plan = vec![0; MAX_PLAN_BYTES + 1];
        assert!(matches!(graph.validate(), Err(StageGraphError::TooLarge { .. })));
    }
}
