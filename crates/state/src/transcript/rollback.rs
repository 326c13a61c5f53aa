//! Indeterminate outputs that are lost: who has read them runs again.

use expect_test::expect;

use super::{Lab, check};

/// In version 3, with executors `a`, `b` and `c`.
const BEGIN: &str = "replica 1 version=3
                     raise 3
                     register a
                     register b
                     register c";

fn check3(script: &str, expect: expect_test::Expect) {
    let mut lab = Lab::new();
    lab.run_all(&BEGIN.lines().map(str::trim).collect::<Vec<_>>());
    assert_eq!(lab.state.version(), 3);
    let mut out = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        out += &lab.tell(line);
    }
    expect.assert_eq(&out);
}

#[test]
fn completed_readers_run_again_with_the_lost_outputs_only() {
    check3(
        "submit 1 hash!(2,3)
         complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0
         complete b 1/1/0 3 epoch=0; complete c 1/1/1 4 epoch=0
         lose a
         show job 1
         show pending
         complete b 1/0/0 6 epoch=0
         show pending
         complete b 1/1/0 7 epoch=1; complete c 1/1/1 8 epoch=1; complete c 1/1/2 9 epoch=1
         show job 1",
        expect![[r#"
            submit 1 hash!(2,3)
              submitted 1
            complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0
              completed 1/0/0
              completed 1/0/1, stage complete
            complete b 1/1/0 3 epoch=0; complete c 1/1/1 4 epoch=0
              completed 1/1/0
              completed 1/1/1
            lose a
              lost a#1; run again 1/0/0 1/1/0 1/1/1; delete b:1.3 c:1.4
            show job 1
              1 running
              stage 0 epoch 0 reruns 1: - (OutputLost a:1.1) b:1.2
              stage 1 epoch 1 reruns 1: - (OutputLost b:1.3) - (OutputLost c:1.4) -
            show pending
              run 1/0/0@0, release nothing
            complete b 1/0/0 6 epoch=0
              completed 1/0/0, stage complete
            show pending
              run 1/1/0@1, 1/1/1@1, 1/1/2@1, release nothing
            complete b 1/1/0 7 epoch=1; complete c 1/1/1 8 epoch=1; complete c 1/1/2 9 epoch=1
              completed 1/1/0
              completed 1/1/1
              completed 1/1/2, stage complete, job succeeded
            show job 1
              1 succeeded
              stage 0 epoch 0 reruns 1: b:1.6 (OutputLost a:1.1) b:1.2
              stage 1 epoch 1 reruns 1: b:1.7 (OutputLost b:1.3) c:1.8 (OutputLost c:1.4) c:1.9
        "#]],
    );
}

#[test]
fn a_running_reader_that_completes_after_the_fetch_failure_of_another_is_refused() {
    check3(
        "submit 1 hash!(2,2)
         complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0
         fail c 1/1/0 3 retryable lost=a/0/0/1; complete b 1/1/1 4 epoch=0
         complete b 1/0/0 5 epoch=0
         complete b 1/1/1 4 epoch=0
         complete c 1/1/1 6
         complete c 1/1/0 7 epoch=1; complete c 1/1/1 8 epoch=1",
        expect![[r#"
            submit 1 hash!(2,2)
              submitted 1
            complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0
              completed 1/0/0
              completed 1/0/1, stage complete
            fail c 1/1/0 3 retryable lost=a/0/0/1; complete b 1/1/1 4 epoch=0
              failed 1/1/0, 0 counted; run again 1/0/0; delete a:1.1
              REJECTED attempt 1.4 of task 0000000000000001/1/1 has read outputs that were lost and may have come out differently since
            complete b 1/0/0 5 epoch=0
              completed 1/0/0, stage complete
            complete b 1/1/1 4 epoch=0
              REJECTED attempt 1.4 of task 0000000000000001/1/1 has read outputs that were lost and may have come out differently since
            complete c 1/1/1 6
              REJECTED attempt 1.6 of task 0000000000000001/1/1 has read outputs that were lost and may have come out differently since
            complete c 1/1/0 7 epoch=1; complete c 1/1/1 8 epoch=1
              completed 1/1/0
              completed 1/1/1, stage complete, job succeeded
        "#]],
    );
}

#[test]
fn a_reader_that_completes_just_before_the_fetch_failure_of_another_is_rolled_back() {
    check3(
        "submit 1 hash!(2,2)
         complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0
         complete b 1/1/1 4 epoch=0; fail c 1/1/0 3 retryable lost=a/0/0/1
         show job 1",
        expect![[r#"
            submit 1 hash!(2,2)
              submitted 1
            complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0
              completed 1/0/0
              completed 1/0/1, stage complete
            complete b 1/1/1 4 epoch=0; fail c 1/1/0 3 retryable lost=a/0/0/1
              completed 1/1/1
              failed 1/1/0, 0 counted; run again 1/0/0 1/1/1; delete a:1.1 b:1.4
            show job 1
              1 running
              stage 0 epoch 0 reruns 1: - (OutputLost a:1.1) b:1.2
              stage 1 epoch 1 reruns 1: - (InputLost c:1.3) - (OutputLost b:1.4)
        "#]],
    );
}

#[test]
fn determinate_stages_that_read_other_rows_are_changed_too_down_to_the_result() {
    check3(
        "submit 1 chain!(2,2,2,2)
         complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0
         complete a 1/1/0 3 epoch=0; complete b 1/1/1 4 epoch=0
         complete b 1/2/0 5 epoch=0; complete c 1/2/1 6 epoch=0
         complete b 1/3/0 7 epoch=0
         lose a
         show job 1
         lose c
         show job 1",
        expect![[r#"
            submit 1 chain!(2,2,2,2)
              submitted 1
            complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0
              completed 1/0/0
              completed 1/0/1, stage complete
            complete a 1/1/0 3 epoch=0; complete b 1/1/1 4 epoch=0
              completed 1/1/0
              completed 1/1/1, stage complete
            complete b 1/2/0 5 epoch=0; complete c 1/2/1 6 epoch=0
              completed 1/2/0
              completed 1/2/1, stage complete
            complete b 1/3/0 7 epoch=0
              completed 1/3/0
            lose a
              lost a#1
            show job 1
              1 running
              stage 0 epoch 0 reruns 0: a:1.1 b:1.2
              stage 1 epoch 0 reruns 0: a:1.3 b:1.4
              stage 2 epoch 0 reruns 0: b:1.5 c:1.6
              stage 3 epoch 0 reruns 0: b:1.7 -
            lose c
              lost c#3; run again 1/0/0 1/1/0 1/1/1 1/2/0 1/2/1 1/3/0; delete b:1.4 b:1.5 b:1.7
            show job 1
              1 running
              stage 0 epoch 0 reruns 1: - (OutputLost a:1.1) b:1.2
              stage 1 epoch 1 reruns 1: - (OutputLost a:1.3) - (OutputLost b:1.4)
              stage 2 epoch 1 reruns 1: - (OutputLost b:1.5) - (OutputLost c:1.6)
              stage 3 epoch 1 reruns 1: - (OutputLost b:1.7) -
        "#]],
    );
}

#[test]
fn a_loss_behind_a_stage_that_is_read_no_more_rolls_nothing_back() {
    check3(
        "submit 1 chain!(2,2,2)
         complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0
         complete b 1/1/0 3 epoch=0; complete b 1/1/1 4 epoch=0
         complete b 1/2/0 5 epoch=0
         lose a
         show job 1
         lose b
         show job 1",
        expect![[r#"
            submit 1 chain!(2,2,2)
              submitted 1
            complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0
              completed 1/0/0
              completed 1/0/1, stage complete
            complete b 1/1/0 3 epoch=0; complete b 1/1/1 4 epoch=0
              completed 1/1/0
              completed 1/1/1, stage complete
            complete b 1/2/0 5 epoch=0
              completed 1/2/0
            lose a
              lost a#1
            show job 1
              1 running
              stage 0 epoch 0 reruns 0: a:1.1 b:1.2
              stage 1 epoch 0 reruns 0: b:1.3 b:1.4
              stage 2 epoch 0 reruns 0: b:1.5 -
            lose b
              lost b#2; run again 1/0/0 1/0/1 1/1/0 1/1/1 1/2/0
            show job 1
              1 running
              stage 0 epoch 0 reruns 1: - (OutputLost a:1.1) - (OutputLost b:1.2)
              stage 1 epoch 1 reruns 1: - (OutputLost b:1.3) - (OutputLost b:1.4)
              stage 2 epoch 1 reruns 1: - (OutputLost b:1.5) -
        "#]],
    );
}

#[test]
fn determinate_stages_and_such_that_nobody_read_cost_no_reader() {
    check3(
        "submit 1 chain(2,2,2)
         complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0
         complete b 1/1/0 3 epoch=0
         submit 2 chain!(2,1,1)
         complete a 2/0/0 5 epoch=0
         lose a
         show job 1
         show job 2
         complete b 1/1/1 4 epoch=0",
        expect![[r#"
            submit 1 chain(2,2,2)
              submitted 1
            complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0
              completed 1/0/0
              completed 1/0/1, stage complete
            complete b 1/1/0 3 epoch=0
              completed 1/1/0
            submit 2 chain!(2,1,1)
              submitted 2
            complete a 2/0/0 5 epoch=0
              completed 2/0/0
            lose a
              lost a#1; run again 1/0/0 2/0/0
            show job 1
              1 running
              stage 0 epoch 0 reruns 1: - (OutputLost a:1.1) b:1.2
              stage 1 epoch 1 reruns 0: b:1.3 -
              stage 2 epoch 0 reruns 0: - -
            show job 2
              2 running
              stage 0 epoch 0 reruns 1: - (OutputLost a:1.5) -
              stage 1 epoch 1 reruns 0: -
              stage 2 epoch 0 reruns 0: -
            complete b 1/1/1 4 epoch=0
              completed 1/1/1, stage complete
        "#]],
    );
}

#[test]
fn an_input_of_a_rolled_back_stage_is_needed_again() {
    check3(
        "submit 1 join!(1,2,2)
         complete a 1/0/0 1 epoch=0
         complete c 1/1/0 2 epoch=0; complete b 1/1/1 3 epoch=0
         complete b 1/2/0 4 epoch=0
         lose a
         show pending
         lose c
         show job 1",
        expect![[r#"
            submit 1 join!(1,2,2)
              submitted 1
            complete a 1/0/0 1 epoch=0
              completed 1/0/0, stage complete
            complete c 1/1/0 2 epoch=0; complete b 1/1/1 3 epoch=0
              completed 1/1/0
              completed 1/1/1, stage complete
            complete b 1/2/0 4 epoch=0
              completed 1/2/0
            lose a
              lost a#1; run again 1/0/0 1/2/0; delete b:1.4
            show pending
              run 1/0/0@0, release nothing
            lose c
              lost c#3; run again 1/1/0
            show job 1
              1 running
              stage 0 epoch 0 reruns 1: - (OutputLost a:1.1)
              stage 1 epoch 0 reruns 1: - (OutputLost c:1.2) b:1.3
              stage 2 epoch 2 reruns 1: - (OutputLost b:1.4) -
        "#]],
    );
}

#[test]
fn each_roll_back_counts_once_for_each_stage_up_to_the_setting() {
    check3(
        "submit 1 hash!(1,2) reruns=1
         complete a 1/0/0 1 epoch=0
         complete b 1/1/0 2 epoch=0
         lose a
         complete c 1/0/0 3 epoch=0
         complete b 1/1/0 4 epoch=1
         lose c
         show job 1",
        expect![[r#"
            submit 1 hash!(1,2) reruns=1
              submitted 1
            complete a 1/0/0 1 epoch=0
              completed 1/0/0, stage complete
            complete b 1/1/0 2 epoch=0
              completed 1/1/0
            lose a
              lost a#1; run again 1/0/0 1/1/0; delete b:1.2
            complete c 1/0/0 3 epoch=0
              completed 1/0/0, stage complete
            complete b 1/1/0 4 epoch=1
              completed 1/1/0
            lose c
              lost c#3; fail job 1
            show job 1
              1 failed, released: retryable error: outputs of stage 0 were lost (power cut) after 1 re-runs of its task 0 [stage 0, partition 0, attempt 1.3, executor c]
              stage 0 epoch 0 reruns 1, no plan: c:1.3 (OutputLost a:1.1)
              stage 1 epoch 1 reruns 1, no plan: b:1.4 (OutputLost b:1.2) -
        "#]],
    );
}

#[test]
fn the_number_of_attempts_is_a_setting() {
    check3(
        "submit 1 one attempts=2
         fail a 1/0/0 1 retryable
         fail b 1/0/0 2 retryable
         submit 2 one attempts=many
         fail a 2/0/0 3 retryable
         fail b 2/0/0 4 retryable
         fail a 2/0/0 5 retryable
         fail b 2/0/0 6 retryable",
        expect![[r#"
            submit 1 one attempts=2
              submitted 1
            fail a 1/0/0 1 retryable
              failed 1/0/0, 1 counted
            fail b 1/0/0 2 retryable
              failed 1/0/0, 2 counted; fail job 1
            submit 2 one attempts=many
              submitted 2
            fail a 2/0/0 3 retryable
              failed 2/0/0, 1 counted
            fail b 2/0/0 4 retryable
              failed 2/0/0, 2 counted
            fail a 2/0/0 5 retryable
              failed 2/0/0, 3 counted
            fail b 2/0/0 6 retryable
              failed 2/0/0, 4 counted; fail job 2
        "#]],
    );
}

#[test]
fn settings_count_from_their_version_on() {
    check(
        "register a
         submit 1 one attempts=1
         fail a 1/0/0 1 retryable
         show job 1",
        expect![[r#"
            register a
              registered a#1
            submit 1 one attempts=1
              submitted 1
            fail a 1/0/0 1 retryable
              failed 1/0/0, 1 counted
            show job 1
              1 running
              stage 0 epoch 0 reruns 0: - (Failed a:1.1)
        "#]],
    );
}

#[test]
fn nothing_of_a_job_stays_after_its_release() {
    let mut lab = Lab::new();
    lab.run_all(&BEGIN.lines().map(str::trim).collect::<Vec<_>>());
    lab.run_all(&["submit 1 hash!(1,2)", "complete a 1/0/0 1 epoch=0", "complete b 1/1/0 2 epoch=0"]);
    lab.run("lose a");
    assert_eq!(lab.state.extension.v3.valid_from.len(), 1);
    lab.run_all(&["cancel 1 enough"]);
    assert!(lab.state.extension.v3.valid_from.is_empty());
}
