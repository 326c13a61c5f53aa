//! The executor's behaviour as transcripts: a line in, the effects and what the ledger sends out.
//!
//! ```text
//! T register CLUSTER INCARNATION    T prepare JOB/STAGE eEPOCH [BYTES]    T launch JOB/STAGE eEPOCH PARTITION=ATTEMPT…
//! T cancel ATTEMPT…    T delete ATTEMPT…    T release JOB    T committed SEQUENCE…    end ATTEMPT ok|failed|stopped    send    running
//! T pull JOB/STAGE/PARTITION ATTEMPT EXECUTOR INCARNATION    pulled ATTEMPT ok|failed    T moved JOB ATTEMPT ADDRESS    T drain MS    T leave
//! ```
//!
//! `T` is the leader's term; attempts are `TERM.COUNTER`.

mod attempts;
mod leaders;
mod leaving;

use std::fmt::Write;

use expect_test::Expect;
use polybolos_model::ExecutorId;

use super::*;

fn check(slots: u32, script: &str, expected: Expect) {
    let mut core = Core::new(slots);
    let mut transcript = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        writeln!(transcript, "> {line}").unwrap();
        play(&mut core, line, &mut transcript);
    }
    expected.assert_eq(&transcript);
}

fn play(core: &mut Core, line: &str, out: &mut String) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let event = match words[0] {
        "send" => {
            while let Some(report) = core.ledger().next_unsent() {
                let outcome = match &report.outcome {
                    Outcome::Completed { .. } => "completed".to_owned(),
                    Outcome::Failed(error) => error.to_string(),
                    Outcome::Durable => "durable".to_owned(),
                    Outcome::Moved { from, incarnation } => format!("moved from {from}#{incarnation}"),
                };
                let (task, epoch) = (short(report.task), report.epoch);
                writeln!(out, "  #{} {task} {} e{epoch}: {outcome}", report.sequence, report.attempt)
                    .unwrap();
            }
            return;
        }
        "running" => {
            for (attempt, work) in core.adoptable() {
                writeln!(out, "  {} {attempt} e{}", short(work.task), work.epoch).unwrap();
            }
            return;
        }
        "end" => {
            let ended = match words[2] {
                "ok" => Ended::Finished(Outcome::Completed {
                    outputs: vec![],
                    metrics: Default::default(),
                    durable: false,
                    rows: None,
                }),
                "failed" => Ended::Finished(Outcome::Failed(TaskError::new(ErrorClass::User, "boom"))),
                "stopped" => Ended::Stopped,
                other => panic!("{other}"),
            };
            Event::Ended { attempt: attempt(words[1]), ended }
        }
        "pulled" => Event::Pulled { attempt: attempt(words[1]), whole: words[2] == "ok" },
        term => Event::Command { term: Term(term.parse().unwrap()), command: command(&words[1..]) },
    };
    for effect in core.on(event) {
        writeln!(out, "  {}", describe(&effect)).unwrap();
    }
}

fn command(words: &[&str]) -> Command {
    let rest = || words[1..].iter();
    match words[0] {
        "register" => Command::Registered {
            cluster: words[1].to_owned(),
            incarnation: Incarnation(words[2].parse().unwrap()),
        },
        "prepare" => Command::Prepare {
            stage: stage(words[1]),
            epoch: words[2][1..].parse().unwrap(),
            bytes: words.get(3).map_or(1, |bytes| bytes.parse().unwrap()),
        },
        "launch" => Command::Launch {
            stage: stage(words[1]),
            epoch: words[2][1..].parse().unwrap(),
            tasks: rest()
                .skip(2)
                .map(|task| task.split_once('=').unwrap())
                .map(|(partition, id)| (partition.parse().unwrap(), attempt(id)))
                .collect(),
        },
        "cancel" => Command::Cancel { attempts: rest().map(|id| attempt(id)).collect() },
        "delete" => Command::DeleteOutputs { attempts: rest().map(|id| attempt(id)).collect() },
        "release" => Command::Release { job: JobId(words[1].parse().unwrap()) },
        "pull" => {
            let task: Vec<u32> = words[1].split('/').map(|part| part.parse().unwrap()).collect();
            Command::Pull {
                task: TaskId { job: JobId(u64::from(task[0])), stage: StageId(task[1]), partition: task[2] },
                attempt: attempt(words[2]),
                from: ExecutorId::new(words[3]).unwrap(),
                incarnation: Incarnation(words[4].parse().unwrap()),
            }
        }
        "moved" => Command::Moved {
            outputs: vec![MovedTo {
                job: JobId(words[1].parse().unwrap()),
                attempt: attempt(words[2]),
                address: words[3].to_owned(),
            }],
        },
        "drain" => Command::Drain { deadline_ms: words[1].parse().unwrap() },
        "lost" => Command::Lost { address: words[1].to_owned() },
        "leave" => Command::Leave,
        "committed" => Command::Committed { sequences: rest().map(|s| s.parse().unwrap()).collect() },
        other => panic!("{other}"),
    }
}

fn attempt(text: &str) -> AttemptId {
    let (term, counter) = text.split_once('.').unwrap();
    AttemptId { term: Term(term.parse().unwrap()), counter: counter.parse().unwrap() }
}

fn stage(text: &str) -> StageKey {
    let (job, stage) = text.split_once('/').unwrap();
    StageKey::new(JobId(job.parse().unwrap()), StageId(stage.parse().unwrap()))
}

fn short(task: TaskId) -> String {
    format!("{}/{}/{}", task.job.0, task.stage, task.partition)
}

fn describe(effect: &Effect) -> String {
    match effect {
        Effect::KeepStage(key) => format!("keep {}/{}", key.job.0, key.stage),
        Effect::ForgetStage(key) => format!("forget {}/{}", key.job.0, key.stage),
        Effect::Start { attempt, task } => format!("start {} {attempt}", short(*task)),
        Effect::Stop(attempt) => format!("stop {attempt}"),
        Effect::DeleteOutput(attempt) => format!("delete {attempt}"),
        Effect::ForgetOutput(attempt) => format!("forget {attempt}"),
        Effect::DeleteJob(job) => format!("delete job {}", job.0),
        Effect::RefusedTerm { term, highest } => format!("refused: term {term} is lower than {highest}"),
        Effect::Reattach(reason) => format!("reattach: {reason}"),
        Effect::Pull(attempt) => format!("pull {attempt}"),
        Effect::TellPullFailed(attempt) => format!("tell that {attempt} was not pulled"),
        Effect::NoteMoved(outputs) => {
            let words: Vec<String> =
                outputs.iter().map(|moved| format!("{} to {}", moved.attempt, moved.address)).collect();
            format!("note moved {}", words.join(" "))
        }
        Effect::StopReading(address) => format!("stop reading from {address}"),
        Effect::Drain { deadline_ms } => format!("drain within {deadline_ms} ms"),
        Effect::Leave => "leave".to_owned(),
    }
}
