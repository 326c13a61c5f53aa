//! `QueryService.ExportJob`: a job as its recorded decisions and faults. The state tells of the job, the catalogue of
//! what it reads; secrets are hidden last.

use polybolos_model::{
    JobId,
    recorded::{Recorded, RecordedAttempt},
};
use tonic::Status;

use crate::{error::RequestError, front::Relations, shared::Shared};

/// The job as JSON.
///
/// # Errors
/// [`RequestError::JobNotFound`], and what keeps a replica from planning.
pub(crate) async fn export(shared: &Shared, id: JobId) -> Result<Vec<u8>, Status> {
    let missing = || RequestError::JobNotFound { job: id.to_string() };
    let (mut recorded, options, around) = shared
        .read(|state| {
            let mut recorded = state.record(id, shared.now_ms(state))?;
            add_running(&mut recorded, id, shared);
            let options = state.job(id)?.options.clone();
            Some((recorded, options, shared.front.surroundings(state, None)))
        })
        .ok_or_else(missing)?;
    let cluster = &mut recorded.cluster;
    let patience = shared.config.patience;
    cluster.executor_timeout_ms = patience.executor_timeout_ms;
    cluster.stream_grace_ms = patience.stream_grace_ms;
    cluster.no_executor_wait_ms = patience.no_executor_wait_ms;
    cluster.heartbeat_interval_ms =
        u64::try_from(shared.config.heartbeat_interval.as_millis()).unwrap_or(u64::MAX);
    let sql = recorded.job.sql.clone();
    let relations = match sql.is_empty() {
        true => {
            recorded
                .notes
                .push("the job came as a logical plan: its SQL and tables are not known".to_owned());
            shared.front.no_relations(&options)
        }
        false => match shared.front.relations(sql, options.clone(), around).await {
            Ok(relations) => relations,
            Err(error) => {
                recorded.notes.push(format!("tables and views are not recorded: {error}"));
                shared.front.no_relations(&options)
            }
        },
    };
    serde_json::to_vec_pretty(&finished(recorded, relations))
        .map_err(|error| Status::internal(format!("the job can't be written as JSON: {error}")))
}

/// The leader alone knows what runs.
fn add_running(recorded: &mut Recorded, id: JobId, shared: &Shared) {
    let dispatcher = shared.dispatcher();
    let attempts = dispatcher.running_of(id).flat_map(|(task, _)| dispatcher.attempts_of(task));
    for (attempt, running) in attempts {
        let task = running.task;
        let Some(stage) = recorded.stages.get_mut(task.stage.0 as usize) else { continue };
        stage.running.push(RecordedAttempt {
            partition: task.partition,
            executor: running.executor.to_string(),
            attempt: attempt.to_string(),
            fate: "running".to_owned(),
        });
    }
    for stage in &mut recorded.stages {
        stage.running.sort_by_key(|attempt| attempt.partition);
    }
}

/// With the tables and views, and without secrets in any text that people write or programs quote.
fn finished(mut recorded: Recorded, relations: Relations) -> Recorded {
    let Relations { tables, views, notes, secrets } = relations;
    (recorded.tables, recorded.views) = (tables, views);
    recorded.notes.extend(notes);
    let mut clean = |text: &mut String| *text = secrets.clean(text);
    clean(&mut recorded.job.sql);
    recorded.job.error.iter_mut().for_each(&mut clean);
    recorded.job.options.values_mut().for_each(&mut clean);
    recorded.views.iter_mut().for_each(|view| clean(&mut view.sql));
    recorded.story.iter_mut().for_each(|line| clean(&mut line.text));
    recorded.notes.iter_mut().for_each(&mut clean);
    for stage in &mut recorded.stages {
        stage.operators.iter_mut().for_each(&mut clean);
        stage.indeterminate.iter_mut().for_each(&mut clean);
    }
    recorded
}

#[cfg(test)]
mod tests {
    use polybolos_model::recorded::{RecordedEvent, RecordedLine, RecordedStage, RecordedView};

    use super::*;

    #[test]
    fn no_text_of_an_export_holds_a_secret() {
        let text = || "a hush-hush b".to_owned();
        let mut recorded = Recorded::default();
        recorded.job.sql = text();
        recorded.job.error = Some(text());
        recorded.job.options.insert("datafusion.x".to_owned(), text());
        recorded.notes.push(text());
        recorded.stages.push(RecordedStage {
            operators: vec![text()],
            indeterminate: Some(text()),
            ..RecordedStage::default()
        });
        let event = RecordedEvent::ResultsLost;
        recorded.story.push(RecordedLine { at_ms: 1, done: Vec::new(), text: text(), event });
        let mut relations = Relations::default();
        relations.views.push(RecordedView { name: "v".to_owned(), sql: text() });
        relations.notes.push(text());
        relations.secrets.add(std::iter::once(&"hush-hush".to_owned()));
        let json = serde_json::to_string(&finished(recorded, relations)).unwrap();
        assert!(!json.contains("hush") && json.matches("a *** b").count() == 9, "{json}");
    }
}
