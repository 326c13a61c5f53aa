//! A job from submit to release.

use expect_test::expect;
use polybolos_model::limits::{MAX_ACTIVE_JOBS, MAX_ENDED_JOBS, MAX_SQL_BYTES};

use super::{Lab, check, graph};
use crate::{Change, Command, Rejection};

#[test]
fn a_job_runs_stage_by_stage_to_its_end() {
    check(
        "register a
         submit 1 hash(2,1)
         show pending
         complete a 1/0/0 1
         show jobs
         complete a 1/0/1 2
         show pending
         show inputs 1 0
         complete a 1/1/0 3
         show job 1
         show results 1
         show pending
         release 1
         release 1
         show job 1
         show pending",
        expect![[r#"
            register a
              registered a#1
            submit 1 hash(2,1)
              submitted 1
            show pending
              run 1/0/0@0, 1/0/1@0, release nothing
            complete a 1/0/0 1
              completed 1/0/0
            show jobs
              1 running
            complete a 1/0/1 2
              completed 1/0/1, stage complete
            show pending
              run 1/1/0@0, release nothing
            show inputs 1 0
              0: a:1 1.1
              1: a:1 1.2
            complete a 1/1/0 3
              completed 1/1/0, stage complete, job succeeded
            show job 1
              1 succeeded
              stage 0 epoch 0 reruns 0, no plan: a:1.1 a:1.2
              stage 1 epoch 0 reruns 0, no plan: a:1.3
            show results 1
              0: a:1
            show pending
              run nothing, release nothing
            release 1
              released 1
            release 1
              unchanged
            show job 1
              1 succeeded, released
              stage 0 epoch 0 reruns 0, no plan: a:1.1 a:1.2
              stage 1 epoch 0 reruns 0, no plan: a:1.3
            show pending
              run nothing, release 1
        "#]],
    );
}

#[test]
fn a_job_that_runs_as_the_leader_knows_stays_one_that_runs() {
    check(
        "replica 1 version=3
         raise 3
         register a
         submit 1 hash(1,1)
         submit 2 one
         started 1 2 3
         show jobs
         started 1 2
         cancel 2 enough
         started 2
         show jobs",
        expect![[r#"
            replica 1 version=3
              registered replica 1
            raise 3
              version 3 is in use
            register a
              registered a#1
            submit 1 hash(1,1)
              submitted 1
            submit 2 one
              submitted 2
            started 1 2 3
              started 1, 2
            show jobs
              1 running
              2 running
            started 1 2
              unchanged
            cancel 2 enough
              2 cancelled
            started 2
              unchanged
            show jobs
              1 running
              2 cancelled, released
        "#]],
    );
}

#[test]
fn the_same_key_gives_the_same_job_also_after_its_end() {
    check(
        "submit 1 one key=k
         submit 2 one key=k
         submit 3 one key=k; submit 4 one key=l
         cancel 1 enough
         submit 5 one key=k
         show jobs",
        expect![[r#"
            submit 1 one key=k
              submitted 1
            submit 2 one key=k
              duplicate of 1
            submit 3 one key=k; submit 4 one key=l
              duplicate of 1
              submitted 4
            cancel 1 enough
              1 cancelled
            submit 5 one key=k
              duplicate of 1
            show jobs
              1 cancelled, released
              4 queued
        "#]],
    );
}

#[test]
fn a_submit_is_refused_for_a_used_id_or_a_broken_graph() {
    check(
        "submit 1 one
         submit 1 one
         submit 2 hash(0,1)
         show jobs",
        expect![[r#"
            submit 1 one
              submitted 1
            submit 1 one
              REJECTED job id 0000000000000001 is in use
            submit 2 hash(0,1)
              REJECTED the plan of job 0000000000000002 breaks a rule: stage 0 has 0 tasks; between 1 and 10000 are allowed
            show jobs
              1 queued
        "#]],
    );
}

#[test]
fn an_ended_job_takes_no_more_commands() {
    check(
        "register a
         submit 1 hash(1,1)
         complete a 1/0/0 1
         release 1
         cancel 1 tired
         show job 1
         cancel 1 again
         fail-job 1 again
         complete a 1/1/0 2
         fail a 1/1/0 3 user
         complete a 1/0/0 1
         release 1
         cancel 9 unknown
         release 9
         complete a 9/0/0 1",
        expect![[r#"
            register a
              registered a#1
            submit 1 hash(1,1)
              submitted 1
            complete a 1/0/0 1
              completed 1/0/0, stage complete
            release 1
              REJECTED job 0000000000000001 is still running: cancel it or wait for its end
            cancel 1 tired
              1 cancelled
            show job 1
              1 cancelled, released: user error: tired
              stage 0 epoch 0 reruns 0, no plan: a:1.1
              stage 1 epoch 0 reruns 0, no plan: -
            cancel 1 again
              REJECTED job 0000000000000001 has ended already: cancelled
            fail-job 1 again
              REJECTED job 0000000000000001 has ended already: cancelled
            complete a 1/1/0 2
              REJECTED job 0000000000000001 has ended already: cancelled
            fail a 1/1/0 3 user
              REJECTED job 0000000000000001 has ended already: cancelled
            complete a 1/0/0 1
              unchanged
            release 1
              unchanged
            cancel 9 unknown
              REJECTED job 0000000000000009 is not known, or was forgotten after its end
            release 9
              REJECTED job 0000000000000009 is not known, or was forgotten after its end
            complete a 9/0/0 1
              REJECTED job 0000000000000009 is not known, or was forgotten after its end
        "#]],
    );
}

#[test]
fn the_leader_can_fail_a_job() {
    check(
        "submit 1 one
         fail-job 1 unplannable
         show job 1",
        expect![[r#"
            submit 1 one
              submitted 1
            fail-job 1 unplannable
              1 failed
            show job 1
              1 failed, released: internal error: unplannable
              stage 0 epoch 0 reruns 0, no plan: -
        "#]],
    );
}

#[test]
fn results_expire_ten_minutes_after_the_end() {
    check(
        "register a
         submit 1 one; submit 2 one
         complete a 1/0/0 1
         at 2000
         complete a 2/0/0 2
         at 600999
         expire
         at 601000
         expire
         show jobs
         at 900000
         expire
         show jobs",
        expect![[r#"
            register a
              registered a#1
            submit 1 one; submit 2 one
              submitted 1
              submitted 2
            complete a 1/0/0 1
              completed 1/0/0, stage complete, job succeeded
            at 2000
            complete a 2/0/0 2
              completed 2/0/0, stage complete, job succeeded
            at 600999
            expire
              unchanged
            at 601000
            expire
              expired 1
            show jobs
              1 succeeded, released
              2 succeeded
            at 900000
            expire
              expired 2
            show jobs
              1 succeeded, released
              2 succeeded, released
        "#]],
    );
}

#[test]
fn the_oldest_released_jobs_are_forgotten_and_their_keys_are_not() {
    let mut lab = Lab::new();
    for n in 0..MAX_ENDED_JOBS + 2 {
        lab.state.apply(&lab.entry(vec![submit(n as u64)]));
        let cancel = Command::CancelJob { job: polybolos_model::JobId(n as u64), reason: "x".into() };
        lab.state.apply(&lab.entry(vec![cancel]));
    }
    crate::invariants::check(&lab.state).unwrap();
    assert_eq!(lab.state.jobs().count(), MAX_ENDED_JOBS);
    assert_eq!(lab.state.jobs().next().unwrap().id.0, 2);
    assert_eq!(lab.run("submit 5000 one key=key-0"), "  duplicate of 0\n");
    assert_eq!(
        lab.run("cancel 0 again").trim(),
        "REJECTED job 0000000000000000 is not known, or was forgotten after its end"
    );
}

#[test]
fn too_many_active_jobs_are_refused() {
    let mut lab = Lab::new();
    let all = (0..=MAX_ACTIVE_JOBS as u64).map(submit).collect();
    let applied = lab.apply(all);
    assert_eq!(applied.outcomes.iter().filter(|outcome| outcome.is_ok()).count(), MAX_ACTIVE_JOBS);
    assert_eq!(applied.outcomes.last(), Some(&Err(Rejection::TooManyJobs)));
    lab.run("cancel 0 room");
    assert_eq!(
        lab.apply(vec![submit(20_000)]).outcomes,
        [Ok(Change::Submitted { job: polybolos_model::JobId(20_000) })]
    );
}

#[test]
fn a_statement_that_is_too_long_is_refused() {
    let mut lab = Lab::new();
    let mut command = submit(1);
    if let Command::SubmitJob { sql, .. } = &mut command {
        *sql = "x".repeat(MAX_SQL_BYTES + 1);
    }
    assert_eq!(lab.apply(vec![command]).outcomes, [Err(Rejection::SqlTooLong { bytes: MAX_SQL_BYTES + 1 })]);
}

fn submit(id: u64) -> Command {
    Command::SubmitJob {
        job: polybolos_model::JobId(id),
        key: Some(format!("key-{id}").parse().unwrap()),
        session: None,
        sql: String::new(),
        graph: graph("one"),
        options: Default::default(),
        explain_analyze: None,
        ordered: false,
        schema: vec![],
        cancel_when_unwatched_ms: 0,
    }
}
