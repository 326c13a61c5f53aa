//! The executor's behaviour as transcripts: a line in, the effects and what the ledger sends out.
//!
//! ```text
//! T register CLUSTER INCARNATION    T prepare JOB/STAGE eEPOCH [BYTES]    T launch JOB/STAGE eEPOCH PARTITION=ATTEMPT…
//! T cancel ATTEMPT…    T delete ATTEMPT…    T release JOB    T committed SEQUENCE…    end ATTEMPT ok|failed|stopped    send    running
//! ```
//!
//! `T` is the leader's term; attempts are `TERM.COUNTER`.

use std::fmt::Write;

use expect_test::{Expect, expect};

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
                }),
                "failed" => Ended::Finished(Outcome::Failed(TaskError::new(ErrorClass::User, "boom"))),
                "stopped" => Ended::Stopped,
                other => panic!("{other}"),
            };
            Event::Ended { attempt: attempt(words[1]), ended }
        }
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
    }
}

#[test]
fn slots_are_never_exceeded_and_reports_are_kept_until_committed() {
    check(
        2,
        "1 register c 7
         1 prepare 1/0 e0
         1 launch 1/0 e0 0=1.1 1=1.2 2=1.3
         1 launch 1/0 e0 2=1.3
         end 1.2 ok
         send
         send
         end 1.1 failed
         end 1.3 ok
         send
         1 committed 1 3 99
         1 register c 7
         send
         1 launch 1/0 e0 0=1.1
         1 committed 2
         running",
        expect![[r#"
            > 1 register c 7
            > 1 prepare 1/0 e0
              keep 1/0
            > 1 launch 1/0 e0 0=1.1 1=1.2 2=1.3
              start 1/0/0 1.1
              start 1/0/1 1.2
            > 1 launch 1/0 e0 2=1.3
            > end 1.2 ok
              start 1/0/2 1.3
            > send
              #1 1/0/1 1.2 e0: completed
            > send
            > end 1.1 failed
              delete 1.1
            > end 1.3 ok
            > send
              #2 1/0/0 1.1 e0: user error: boom
              #3 1/0/2 1.3 e0: completed
            > 1 committed 1 3 99
            > 1 register c 7
            > send
              #2 1/0/0 1.1 e0: user error: boom
            > 1 launch 1/0 e0 0=1.1
            > 1 committed 2
            > running
        "#]],
    );
}

#[test]
fn a_deposed_leader_is_refused() {
    check(
        1,
        "2 register c 7
         2 prepare 1/0 e0
         1 launch 1/0 e0 0=1.1
         1 release 1
         1 register c 8
         2 launch 1/0 e0 0=2.1
         3 cancel 2.1
         2 launch 1/0 e0 0=2.2",
        expect![[r#"
            > 2 register c 7
            > 2 prepare 1/0 e0
              keep 1/0
            > 1 launch 1/0 e0 0=1.1
              refused: term 1 is lower than 2
            > 1 release 1
              refused: term 1 is lower than 2
            > 1 register c 8
              refused: term 1 is lower than 2
            > 2 launch 1/0 e0 0=2.1
              start 1/0/0 2.1
            > 3 cancel 2.1
              stop 2.1
            > 2 launch 1/0 e0 0=2.2
              refused: term 2 is lower than 3
        "#]],
    );
}

#[test]
fn a_cancelled_attempt_holds_its_slot_until_it_has_stopped_and_reports_nothing() {
    check(
        1,
        "1 register c 7
         1 prepare 1/0 e0
         1 launch 1/0 e0 0=1.1 1=1.2 2=1.3
         1 cancel 1.1 1.2
         running
         1 cancel 1.1
         end 1.1 ok
         end 1.3 ok
         send
         running",
        expect![[r#"
            > 1 register c 7
            > 1 prepare 1/0 e0
              keep 1/0
            > 1 launch 1/0 e0 0=1.1 1=1.2 2=1.3
              start 1/0/0 1.1
            > 1 cancel 1.1 1.2
              stop 1.1
            > running
              1/0/2 1.3 e0
            > 1 cancel 1.1
            > end 1.1 ok
              delete 1.1
              start 1/0/2 1.3
            > end 1.3 ok
            > send
              #1 1/0/2 1.3 e0: completed
            > running
              1/0/2 1.3 e0
        "#]],
    );
}

#[test]
fn a_cancel_that_comes_too_late_leaves_the_output_to_its_report() {
    check(
        1,
        "1 register c 7
         1 prepare 1/0 e0
         1 launch 1/0 e0 0=1.1 1=1.2
         end 1.1 ok
         1 cancel 1.1
         send
         1 committed 1
         1 cancel 1.1
         1 delete 1.1
         end 1.2 ok
         1 delete 1.2
         send
         1 launch 1/0 e0 2=1.3
         1 delete 1.3
         end 1.3 ok
         send",
        expect![[r#"
            > 1 register c 7
            > 1 prepare 1/0 e0
              keep 1/0
            > 1 launch 1/0 e0 0=1.1 1=1.2
              start 1/0/0 1.1
            > end 1.1 ok
              start 1/0/1 1.2
            > 1 cancel 1.1
            > send
              #1 1/0/0 1.1 e0: completed
            > 1 committed 1
            > 1 cancel 1.1
            > 1 delete 1.1
              delete 1.1
            > end 1.2 ok
            > 1 delete 1.2
              delete 1.2
            > send
            > 1 launch 1/0 e0 2=1.3
              start 1/0/2 1.3
            > 1 delete 1.3
              stop 1.3
            > end 1.3 ok
              delete 1.3
            > send
        "#]],
    );
}

#[test]
fn a_released_job_leaves_nothing_behind() {
    check(
        1,
        "1 register c 7
         1 prepare 1/0 e0
         1 prepare 1/1 e0
         1 prepare 2/0 e0
         1 launch 1/0 e0 0=1.1 1=1.2
         1 launch 2/0 e0 0=1.3
         end 1.1 ok
         1 release 1
         end 1.2 stopped
         send
         end 1.3 ok
         send
         1 launch 1/0 e0 0=1.4",
        expect![[r#"
            > 1 register c 7
            > 1 prepare 1/0 e0
              keep 1/0
            > 1 prepare 1/1 e0
              keep 1/1
            > 1 prepare 2/0 e0
              keep 2/0
            > 1 launch 1/0 e0 0=1.1 1=1.2
              start 1/0/0 1.1
            > 1 launch 2/0 e0 0=1.3
            > end 1.1 ok
              start 1/0/1 1.2
            > 1 release 1
              stop 1.2
              forget 1/0
              forget 1/1
              delete job 1
            > end 1.2 stopped
              delete 1.2
              start 2/0/0 1.3
            > send
            > end 1.3 ok
            > send
              #2 2/0/0 1.3 e0: completed
            > 1 launch 1/0 e0 0=1.4
        "#]],
    );
}

#[test]
fn a_reconnect_in_the_same_life_offers_what_runs_and_repeats_what_is_not_acknowledged() {
    check(
        1,
        "1 register c 7
         1 prepare 1/0 e0
         1 launch 1/0 e0 0=1.1 1=1.2 2=1.3
         end 1.1 ok
         send
         running
         2 register c 7
         2 cancel 1.1
         send
         2 prepare 1/0 e0
         2 committed 1
         running
         end 1.2 ok
         send",
        expect![[r#"
            > 1 register c 7
            > 1 prepare 1/0 e0
              keep 1/0
            > 1 launch 1/0 e0 0=1.1 1=1.2 2=1.3
              start 1/0/0 1.1
            > end 1.1 ok
              start 1/0/1 1.2
            > send
              #1 1/0/0 1.1 e0: completed
            > running
              1/0/0 1.1 e0
              1/0/1 1.2 e0
              1/0/2 1.3 e0
            > 2 register c 7
            > 2 cancel 1.1
            > send
              #1 1/0/0 1.1 e0: completed
            > 2 prepare 1/0 e0
              keep 1/0
            > 2 committed 1
            > running
              1/0/1 1.2 e0
              1/0/2 1.3 e0
            > end 1.2 ok
              start 1/0/2 1.3
            > send
              #2 1/0/1 1.2 e0: completed
        "#]],
    );
}

#[test]
fn a_new_life_keeps_its_attempts_and_reports_and_drops_the_outputs_of_the_last() {
    check(
        1,
        "1 register c 7
         1 prepare 1/0 e0
         1 launch 1/0 e0 0=1.1 1=1.2 2=1.3
         end 1.1 ok
         send
         1 committed 1
         end 1.2 ok
         send
         2 register c 8
         running
         send
         end 1.3 ok
         send
         2 committed 2 3
         2 register c 8
         send",
        expect![[r#"
            > 1 register c 7
            > 1 prepare 1/0 e0
              keep 1/0
            > 1 launch 1/0 e0 0=1.1 1=1.2 2=1.3
              start 1/0/0 1.1
            > end 1.1 ok
              start 1/0/1 1.2
            > send
              #1 1/0/0 1.1 e0: completed
            > 1 committed 1
            > end 1.2 ok
              start 1/0/2 1.3
            > send
              #2 1/0/1 1.2 e0: completed
            > 2 register c 8
              forget 1.1
            > running
              1/0/1 1.2 e0
              1/0/2 1.3 e0
            > send
              #2 1/0/1 1.2 e0: completed
            > end 1.3 ok
            > send
              #3 1/0/2 1.3 e0: completed
            > 2 committed 2 3
            > 2 register c 8
            > send
        "#]],
    );
}

#[test]
fn another_cluster_begins_empty_and_with_terms_of_its_own() {
    check(
        1,
        "7 register c 3
         7 prepare 1/0 e0
         7 launch 1/0 e0 0=7.1 1=7.2
         end 7.1 ok
         1 register other 1
         running
         end 7.2 ok
         send
         1 prepare 3/0 e0",
        expect![[r#"
            > 7 register c 3
            > 7 prepare 1/0 e0
              keep 1/0
            > 7 launch 1/0 e0 0=7.1 1=7.2
              start 1/0/0 7.1
            > end 7.1 ok
              start 1/0/1 7.2
            > 1 register other 1
              stop 7.2
              forget 1/0
              delete job 1
            > running
            > end 7.2 ok
              delete 7.2
            > send
            > 1 prepare 3/0 e0
              keep 3/0
        "#]],
    );
}

#[test]
fn a_launch_needs_its_stage_in_its_epoch() {
    check(
        1,
        "1 register c 7
         1 launch 1/0 e0 0=1.1 1=1.2
         1 register c 7
         1 prepare 1/0 e1
         1 prepare 1/0 e0
         1 launch 1/0 e2 0=1.3
         1 launch 1/0 e1 0=1.4
         send",
        expect![[r#"
            > 1 register c 7
            > 1 launch 1/0 e0 0=1.1 1=1.2
            > 1 register c 7
            > 1 prepare 1/0 e1
              keep 1/0
            > 1 prepare 1/0 e0
            > 1 launch 1/0 e2 0=1.3
            > 1 launch 1/0 e1 0=1.4
              start 1/0/0 1.4
            > send
              #1 1/0/0 1.1 e0: retryable error: stage 0 of job 0000000000000001 is not prepared in epoch 0
              #2 1/0/1 1.2 e0: retryable error: stage 0 of job 0000000000000001 is not prepared in epoch 0
              #3 1/0/0 1.3 e2: retryable error: stage 0 of job 0000000000000001 is not prepared in epoch 2
        "#]],
    );
}

#[test]
fn stages_beyond_the_bound_are_forgotten_least_recently_used_first() {
    let most = stages::MAX_STAGE_BYTES;
    check(
        1,
        &format!(
            "1 register c 7
             1 prepare 1/0 e0 100
             1 launch 1/0 e0 0=1.1
             1 prepare 2/0 e0 100
             1 prepare 3/0 e0 100
             1 prepare 2/0 e1 100
             1 prepare 4/0 e0 {}
             1 launch 3/0 e0 0=1.2",
            most - 200
        ),
        expect![[r#"
            > 1 register c 7
            > 1 prepare 1/0 e0 100
              keep 1/0
            > 1 launch 1/0 e0 0=1.1
              start 1/0/0 1.1
            > 1 prepare 2/0 e0 100
              keep 2/0
            > 1 prepare 3/0 e0 100
              keep 3/0
            > 1 prepare 2/0 e1 100
              keep 2/0
            > 1 prepare 4/0 e0 536870712
              keep 4/0
              forget 3/0
            > 1 launch 3/0 e0 0=1.2
              reattach: a launched stage was forgotten for want of room
        "#]],
    );
}

#[test]
fn a_flood_is_refused_beyond_slots_and_backlog() {
    let mut core = Core::new(2);
    let launch = |core: &mut Core, from: u64, count: u64| {
        let tasks =
            (from..from + count).map(|i| (i as u32, AttemptId { term: Term(1), counter: i })).collect();
        core.on(Event::Command {
            term: Term(1),
            command: Command::Launch { stage: stage("1/0"), epoch: 0, tasks },
        })
    };
    core.on(Event::Command { term: Term(1), command: command(&["register", "c", "7"]) });
    core.on(Event::Command { term: Term(1), command: command(&["prepare", "1/0", "e0"]) });
    assert_eq!(launch(&mut core, 0, 2 + MAX_BACKLOG as u64).len(), 2);
    assert_eq!(core.ledger().len(), 0);
    assert_eq!(launch(&mut core, 1_000, 1), []);
    let refused = core.ledger().next_unsent().unwrap();
    assert!(
        matches!(&refused.outcome, Outcome::Failed(error) if error.class == ErrorClass::Resources),
        "{refused:?}"
    );
    assert_eq!(core.busy_slots(), 2);
}

#[test]
fn nothing_starts_while_the_log_is_stalled() {
    let mut core = Core::new(1);
    core.on(Event::Command { term: Term(1), command: command(&["register", "c", "7"]) });
    core.on(Event::Command { term: Term(1), command: command(&["prepare", "1/0", "e0"]) });
    for counter in 0..MAX_UNACKNOWLEDGED as u64 {
        let id = AttemptId { term: Term(1), counter };
        let task = format!("0={id}");
        let effects =
            core.on(Event::Command { term: Term(1), command: command(&["launch", "1/0", "e0", &task]) });
        assert!(matches!(effects[..], [Effect::Start { .. }]), "{counter}: {effects:?}");
        core.on(Event::Ended { attempt: id, ended: Ended::Stopped });
    }
    let next = command(&["launch", "1/0", "e0", "0=2.1"]);
    assert_eq!(core.on(Event::Command { term: Term(1), command: next }), []);
    let effects = core.on(Event::Command { term: Term(1), command: command(&["committed", "1"]) });
    assert!(matches!(effects[..], [Effect::Start { .. }]), "{effects:?}");
}
