//! An operator that runs its input once, for two readers.

use std::{
    fmt, mem,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use datafusion::{
    arrow::{datatypes::SchemaRef, record_batch::RecordBatch},
    common::{internal_datafusion_err, tree_node::TreeNodeRecursion},
    error::{DataFusionError, Result},
    execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext},
    logical_expr::JoinType,
    physical_expr::PhysicalExpr,
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
        ReplaceChildrenOptions, stream::RecordBatchStreamAdapter,
    },
};
use futures::{Stream, StreamExt, stream};

/// The left side of a nested loop join.
pub(crate) struct ResumeExec {
    input: Arc<dyn ExecutionPlan>,
    /// The type of the join above.
    join: JoinType,
    /// There is something for a second reader.
    resumes: bool,
    run: Arc<Mutex<Run>>,
}

/// How far the one run of the input is.
#[derive(Default)]
enum Run {
    #[default]
    NotBegun,
    /// Somebody reads it, or it is over.
    Taken,
    /// Its reader has gone before the end: what that got, and the rest. The join reserved memory for the former and has
    /// just given that back; it holds them no longer than it takes to write them to disk.
    Left(Vec<RecordBatch>, SendableRecordBatchStream),
    Failed(Arc<DataFusionError>),
}

impl ResumeExec {
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, join: JoinType, resumes: bool) -> Self {
        Self { input, join, resumes, run: Arc::default() }
    }

    pub(crate) fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }
}

/// The first reader's stream.
struct Reader {
    schema: SchemaRef,
    /// Until its end.
    source: Option<SendableRecordBatchStream>,
    /// What the join has got and holds as well; nothing if there is nothing for a second reader.
    read: Vec<RecordBatch>,
    resumes: bool,
    run: Arc<Mutex<Run>>,
}

impl Stream for Reader {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(source) = &mut self.source else { return Poll::Ready(None) };
        let next = ready!(source.poll_next_unpin(cx));
        Poll::Ready(match next {
            Some(Ok(batch)) => {
                if self.resumes {
                    self.read.push(batch.clone());
                }
                Some(Ok(batch))
            }
            Some(Err(error)) => {
                let error = Arc::new(error);
                (self.source, self.read) = (None, vec![]);
                set(&self.run, Run::Failed(Arc::clone(&error)));
                Some(Err(DataFusionError::from(&error)))
            }
            None => {
                // The join has it all, and may keep it for long.
                (self.source, self.read) = (None, vec![]);
                None
            }
        })
    }
}

impl RecordBatchStream for Reader {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(rest) = self.source.take().filter(|_| self.resumes) {
            set(&self.run, Run::Left(mem::take(&mut self.read), rest));
        }
    }
}

/// Leaves `run` as `next`; returns what it was.
fn set(run: &Mutex<Run>, next: Run) -> Run {
    mem::replace(&mut *run.lock().unwrap_or_else(PoisonError::into_inner), next)
}

impl fmt::Debug for ResumeExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResumeExec").field("input", &self.input).finish_non_exhaustive()
    }
}

impl DisplayAs for ResumeExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResumeExec")
    }
}

impl ExecutionPlan for ResumeExec {
    fn name(&self) -> &'static str {
        "ResumeExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    /// Another input has not run yet; nor has the same one in the next round of a recursive query.
    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().ok_or_else(|| internal_datafusion_err!("ResumeExec needs one child"))?;
        Ok(Arc::new(Self::new(input, self.join, self.resumes)))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        match set(&self.run, Run::Taken) {
            Run::NotBegun => {
                let source = self.input.execute(partition, context)?;
                let (schema, run) = (source.schema(), Arc::clone(&self.run));
                let reader =
                    Reader { schema, source: Some(source), read: vec![], resumes: self.resumes, run };
                Ok(Box::pin(reader))
            }
            Run::Left(read, rest) => {
                let schema = rest.schema();
                let all = stream::iter(read.into_iter().map(Ok)).chain(rest);
                Ok(Box::pin(RecordBatchStreamAdapter::new(schema, all)))
            }
            Run::Failed(error) => Err(DataFusionError::from(&error)),
            Run::Taken => Err(DataFusionError::ResourcesExhausted(format!(
                "the left side of a nested loop join ({}) does not fit into memory, and this one can't go to disk",
                self.join
            ))),
        }
    }
}
