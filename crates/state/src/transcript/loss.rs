//! Lost outputs: what runs again, what does not, and when a job can't go on.

use expect_test::expect;

use super::{Lab, check};

#[test]
fn a_lost_executor_costs_the_outputs_that_are_still_needed() {
    check(
        "register a
         register b
         submit 1 hash(3,2)
         complete a 1/0/0 1; complete b 1/0/1 2; complete a 1/0/2 3
         complete b 1/1/0 4
         lose a
         show job 1
         show pending
         complete b 1/0/0 5; complete b 1/0/2 6
         show pending
         complete b 1/1/1 7
         show job 1",
        expect![[r#"
            register a
              registered a#1
            register b
              registered b#2
            submit 1 hash(3,2)
              submitted 1
            complete a 1/0/0 1; complete b 1/0/1 2; complete a 1/0/2 3
              completed 1/0/0
              completed 1/0/1
              completed 1/0/2, stage complete
            complete b 1/1/0 4
              completed 1/1/0
            lose a
              lost a#1; run again 1/0/0 1/0/2
            show job 1
              1 running
              stage 0 epoch 0 reruns 1: - (OutputLost a:1.1) b:1.2 - (OutputLost a:1.3)
              stage 1 epoch 1 reruns 0: b:1.4 -
            show pending
              run 1/0/0@0, 1/0/2@0, release nothing
            complete b 1/0/0 5; complete b 1/0/2 6
              completed 1/0/0
              completed 1/0/2, stage complete
            show pending
              run 1/1/1@1, release nothing
            complete b 1/1/1 7
              completed 1/1/1, stage complete, job succeeded
            show job 1
              1 succeeded
              stage 0 epoch 0 reruns 1, no plan: b:1.5 (OutputLost a:1.1) b:1.2 b:1.6 (OutputLost a:1.3)
              stage 1 epoch 1 reruns 0, no plan: b:1.4 b:1.7
        "#]],
    );
}

#[test]
fn outputs_that_nobody_reads_any_more_are_left_alone() {
    check(
        "register a
         register b
         submit 1 chain(1,1,1)
         complete a 1/0/0 1
         complete b 1/1/0 2
         lose a
         show job 1
         complete b 1/2/0 3",
        expect![[r#"
            register a
              registered a#1
            register b
              registered b#2
            submit 1 chain(1,1,1)
              submitted 1
            complete a 1/0/0 1
              completed 1/0/0, stage complete
            complete b 1/1/0 2
              completed 1/1/0, stage complete
            lose a
              lost a#1
            show job 1
              1 running
              stage 0 epoch 0 reruns 0: a:1.1
              stage 1 epoch 0 reruns 0: b:1.2
              stage 2 epoch 0 reruns 0: -
            complete b 1/2/0 3
              completed 1/2/0, stage complete, job succeeded
        "#]],
    );
}

#[test]
fn a_loss_goes_upstream_as_far_as_needed_also_to_older_losses() {
    check(
        "register a
         register b
         register c
         submit 1 chain(2,2,1)
         complete a 1/0/0 1; complete c 1/0/1 2
         complete b 1/1/0 3; complete c 1/1/1 4
         lose a
         lose b
         show job 1
         show pending",
        expect![[r#"
            register a
              registered a#1
            register b
              registered b#2
            register c
              registered c#3
            submit 1 chain(2,2,1)
              submitted 1
            complete a 1/0/0 1; complete c 1/0/1 2
              completed 1/0/0
              completed 1/0/1, stage complete
            complete b 1/1/0 3; complete c 1/1/1 4
              completed 1/1/0
              completed 1/1/1, stage complete
            lose a
              lost a#1
            lose b
              lost b#2; run again 1/0/0 1/1/0
            show job 1
              1 running
              stage 0 epoch 0 reruns 1: - (OutputLost a:1.1) c:1.2
              stage 1 epoch 1 reruns 1: - (OutputLost b:1.3) c:1.4
              stage 2 epoch 1 reruns 0: -
            show pending
              run 1/0/0@0, release nothing
        "#]],
    );
}

#[test]
fn a_result_that_is_lost_before_the_end_runs_again() {
    check(
        "register a
         register b
         submit 1 hash(1,2)
         complete b 1/0/0 1
         complete a 1/1/0 2
         show results 1
         lose a
         show job 1
         show pending",
        expect![[r#"
            register a
              registered a#1
            register b
              registered b#2
            submit 1 hash(1,2)
              submitted 1
            complete b 1/0/0 1
              completed 1/0/0, stage complete
            complete a 1/1/0 2
              completed 1/1/0
            show results 1
              0: a:1
            lose a
              lost a#1; run again 1/1/0
            show job 1
              1 running
              stage 0 epoch 0 reruns 0: b:1.1
              stage 1 epoch 0 reruns 1: - (OutputLost a:1.2) -
            show pending
              run 1/1/0@0, 1/1/1@0, release nothing
        "#]],
    );
}

#[test]
fn a_result_that_is_lost_after_success_is_marked() {
    check(
        "register a
         register b
         submit 1 hash(1,2)
         complete b 1/0/0 1
         complete a 1/1/0 2; complete b 1/1/1 3
         lose a
         show job 1
         show results 1
         release 1
         lose b
         show job 1",
        expect![[r#"
            register a
              registered a#1
            register b
              registered b#2
            submit 1 hash(1,2)
              submitted 1
            complete b 1/0/0 1
              completed 1/0/0, stage complete
            complete a 1/1/0 2; complete b 1/1/1 3
              completed 1/1/0
              completed 1/1/1, stage complete, job succeeded
            lose a
              lost a#1; results lost of 1
            show job 1
              1 succeeded
              result 0 is lost: it was on executor a, which is lost: power cut
              stage 0 epoch 0 reruns 0, no plan: b:1.1
              stage 1 epoch 0 reruns 0, no plan: a:1.2 b:1.3
            show results 1
              0: gone
              1: b:1
            release 1
              released 1
            lose b
              lost b#2
            show job 1
              1 succeeded, released
              result 0 is lost: it was on executor a, which is lost: power cut
              stage 0 epoch 0 reruns 0, no plan: b:1.1
              stage 1 epoch 0 reruns 0, no plan: a:1.2 b:1.3
        "#]],
    );
}

#[test]
fn a_fetch_failure_gives_up_all_that_the_job_has_there_and_is_not_counted() {
    check(
        "register a
         register b
         submit 1 hash(3,2)
         complete a 1/0/0 1; complete b 1/0/1 2; complete a 1/0/2 3
         fail b 1/1/0 4 retryable lost=a/0/0/1
         fail b 1/1/1 5 retryable lost=a/0/2/3
         fail b 1/1/1 5 retryable lost=a/0/2/3
         complete a 1/0/0 1
         show job 1
         show pending",
        expect![[r#"
            register a
              registered a#1
            register b
              registered b#2
            submit 1 hash(3,2)
              submitted 1
            complete a 1/0/0 1; complete b 1/0/1 2; complete a 1/0/2 3
              completed 1/0/0
              completed 1/0/1
              completed 1/0/2, stage complete
            fail b 1/1/0 4 retryable lost=a/0/0/1
              failed 1/1/0, 0 counted; run again 1/0/0 1/0/2; delete a:1.1 a:1.3
            fail b 1/1/1 5 retryable lost=a/0/2/3
              failed 1/1/1, 0 counted
            fail b 1/1/1 5 retryable lost=a/0/2/3
              unchanged
            complete a 1/0/0 1
              REJECTED attempt 1.1 of task 0000000000000001/0/0 is over: it failed, or its output was given up
            show job 1
              1 running
              stage 0 epoch 0 reruns 1: - (OutputLost a:1.1) b:1.2 - (OutputLost a:1.3)
              stage 1 epoch 1 reruns 0: - (InputLost b:1.4) - (InputLost b:1.5)
            show pending
              run 1/0/0@0, 1/0/2@0, release nothing
        "#]],
    );
}

#[test]
fn a_fetch_failure_of_something_that_the_task_does_not_read_counts() {
    check(
        "register a
         submit 1 hash(1,1)
         complete a 1/0/0 1
         fail a 1/1/0 2 retryable lost=a/1/0/1
         fail a 1/1/0 3 retryable lost=a/0/9/1
         show job 1",
        expect![[r#"
            register a
              registered a#1
            submit 1 hash(1,1)
              submitted 1
            complete a 1/0/0 1
              completed 1/0/0, stage complete
            fail a 1/1/0 2 retryable lost=a/1/0/1
              failed 1/1/0, 1 counted
            fail a 1/1/0 3 retryable lost=a/0/9/1
              failed 1/1/0, 2 counted
            show job 1
              1 running
              stage 0 epoch 0 reruns 0: a:1.1
              stage 1 epoch 0 reruns 0: - (Failed a:1.2, Failed a:1.3)
        "#]],
    );
}

#[test]
fn a_stage_that_loses_its_outputs_too_often_fails_its_job() {
    let mut lab = Lab::new();
    lab.run_all(&["register a", "register b", "submit 1 hash(1,1)"]);
    for attempt in 0..5 {
        let (map, reader) = (2 * attempt, 2 * attempt + 1);
        lab.run(&format!("complete a 1/0/0 {map}"));
        lab.run(&format!("fail b 1/1/0 {reader} retryable lost=a/0/0/{map}"));
    }
    expect![[r#"
        show job 1
          1 failed, released: retryable error: outputs of stage 0 were lost (boom) after 4 re-runs of its task 0 [stage 0, partition 0, attempt 1.8, executor a]
          stage 0 epoch 0 reruns 4, no plan: a:1.8 (OutputLost a:1.0, OutputLost a:1.2, OutputLost a:1.4, OutputLost a:1.6)
          stage 1 epoch 4 reruns 0, no plan: - (InputLost b:1.1, InputLost b:1.3, InputLost b:1.5, InputLost b:1.7, InputLost b:1.9)
    "#]].assert_eq(&lab.tell("show job 1"));
}

#[test]
fn a_reader_that_never_finds_its_inputs_fails_its_job() {
    let mut lab = Lab::new();
    lab.run_all(&["register a", "register b", "submit 1 hash(1,1)", "complete a 1/0/0 1"]);
    for attempt in 100..112 {
        lab.run(&format!("fail b 1/1/0 {attempt} retryable lost=a/0/0/99"));
    }
    assert!(lab.run("show jobs").contains("running"));
    expect![[r#"
        fail b 1/1/0 200 retryable lost=a/0/0/99
          failed 1/1/0, 0 counted; fail job 1
    "#]]
    .assert_eq(&lab.tell("fail b 1/1/0 200 retryable lost=a/0/0/99"));
    assert!(lab.run("show jobs").contains("failed"));
}

#[test]
fn rows_that_a_second_run_might_not_repeat_fail_the_job_once_readers_may_have_them() {
    check(
        "register a
         register b
         submit 1 hash!(2,1)
         complete a 1/0/0 1
         lose a
         show job 1
         register a
         complete a 1/0/0 2; complete b 1/0/1 3
         lose a
         show job 1",
        expect![[r#"
            register a
              registered a#1
            register b
              registered b#2
            submit 1 hash!(2,1)
              submitted 1
            complete a 1/0/0 1
              completed 1/0/0
            lose a
              lost a#1; run again 1/0/0
            show job 1
              1 running
              stage 0 epoch 0 reruns 1: - (OutputLost a:1.1) -
              stage 1 epoch 1 reruns 0: -
            register a
              registered a#3
            complete a 1/0/0 2; complete b 1/0/1 3
              completed 1/0/0
              completed 1/0/1, stage complete
            lose a
              lost a#3; fail job 1
            show job 1
              1 failed, released: retryable error: outputs of stage 0 were lost (power cut), and a second run might not give the same rows: it calls random(); submit the query again [stage 0, partition 0, attempt 1.2, executor a]
              stage 0 epoch 0 reruns 1, no plan: a:1.2 (OutputLost a:1.1) b:1.3
              stage 1 epoch 1 reruns 0, no plan: -
        "#]],
    );
}

#[test]
fn executors_that_are_lost_together_wear_no_stage_out() {
    check(
        "replica 1 version=3; raise 3
         register a; register b; register c; register d; register e; register f
         submit 1 hash(6,1)
         complete a 1/0/0 1; complete b 1/0/1 2; complete c 1/0/2 3
         complete d 1/0/3 4; complete e 1/0/4 5; complete f 1/0/5 6
         lose a; lose b; lose c; lose d; lose e
         show job 1",
        expect![[r#"
            replica 1 version=3; raise 3
              registered replica 1
              version 3 is in use
            register a; register b; register c; register d; register e; register f
              registered a#1
              registered b#2
              registered c#3
              registered d#4
              registered e#5
              registered f#6
            submit 1 hash(6,1)
              submitted 1
            complete a 1/0/0 1; complete b 1/0/1 2; complete c 1/0/2 3
              completed 1/0/0
              completed 1/0/1
              completed 1/0/2
            complete d 1/0/3 4; complete e 1/0/4 5; complete f 1/0/5 6
              completed 1/0/3
              completed 1/0/4
              completed 1/0/5, stage complete
            lose a; lose b; lose c; lose d; lose e
              lost a#1; run again 1/0/0
              lost b#2; run again 1/0/1
              lost c#3; run again 1/0/2
              lost d#4; run again 1/0/3
              lost e#5; run again 1/0/4
            show job 1
              1 running
              stage 0 epoch 0 reruns 5: - (OutputLost a:1.1) - (OutputLost b:1.2) - (OutputLost c:1.3) - (OutputLost d:1.4) - (OutputLost e:1.5) f:1.6
              stage 1 epoch 5 reruns 0: -
        "#]],
    );
}
