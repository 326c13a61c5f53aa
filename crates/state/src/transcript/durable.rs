//! Outputs in the durable store: what their executor's loss costs then, and where they are read.

#![allow(clippy::too_many_lines, reason = "a transcript is one text")]

use expect_test::expect;

use super::{Lab, check};

const VERSION_3: &str = "replica 1 version=3; raise 3";

#[test]
fn durable_outputs_are_not_lost_with_their_executor() {
    check(
        "replica 1 version=3; raise 3
         register a store=s3://b
         register b store=s3://b
         submit 1 hash(3,2)
         complete a 1/0/0 1 epoch=0 durable=yes; complete b 1/0/1 2 epoch=0 durable=yes; complete a 1/0/2 3 epoch=0
         durable a 1/0/2 3
         durable a 1/0/2 3
         show inputs 1 0
         lose a
         show inputs 1 0
         show job 1
         show pending
         complete b 1/1/0 4 epoch=0; complete b 1/1/1 5 epoch=0
         show job 1",
        expect![[r#"
            replica 1 version=3; raise 3
              registered replica 1
              version 3 is in use
            register a store=s3://b
              registered a#1
            register b store=s3://b
              registered b#2
            submit 1 hash(3,2)
              submitted 1
            complete a 1/0/0 1 epoch=0 durable=yes; complete b 1/0/1 2 epoch=0 durable=yes; complete a 1/0/2 3 epoch=0
              completed 1/0/0
              completed 1/0/1
              completed 1/0/2, stage complete
            durable a 1/0/2 3
              durable 1/0/2
            durable a 1/0/2 3
              unchanged
            show inputs 1 0
              0: a:1 1.1
              1: b:1 1.2
              2: a:1 1.3
            lose a
              lost a#1
            show inputs 1 0
              0: durable store 1.1
              1: b:1 1.2
              2: durable store 1.3
            show job 1
              1 running
              stage 0 epoch 0 reruns 0: a:1.1 b:1.2 a:1.3
              stage 1 epoch 0 reruns 0: - -
            show pending
              run 1/1/0@0, 1/1/1@0, release nothing
            complete b 1/1/0 4 epoch=0; complete b 1/1/1 5 epoch=0
              completed 1/1/0
              completed 1/1/1, stage complete, job succeeded
            show job 1
              1 succeeded
              stage 0 epoch 0 reruns 0: a:1.1 b:1.2 a:1.3
              stage 1 epoch 0 reruns 0: b:1.4 b:1.5
        "#]],
    );
}

#[test]
fn what_was_not_durable_in_time_runs_again() {
    check(
        "replica 1 version=3; raise 3
         register a store=s3://b
         register b store=s3://b
         submit 1 hash(2,1)
         complete a 1/0/0 1 epoch=0 durable=yes; complete a 1/0/1 2 epoch=0
         lose a
         durable a 1/0/1 2
         show inputs 1 0
         complete b 1/0/1 3 epoch=0
         durable b 1/0/1 2
         durable b 1/0/1 3
         lose b
         show inputs 1 0",
        expect![[r#"
            replica 1 version=3; raise 3
              registered replica 1
              version 3 is in use
            register a store=s3://b
              registered a#1
            register b store=s3://b
              registered b#2
            submit 1 hash(2,1)
              submitted 1
            complete a 1/0/0 1 epoch=0 durable=yes; complete a 1/0/1 2 epoch=0
              completed 1/0/0
              completed 1/0/1, stage complete
            lose a
              lost a#1; run again 1/0/1
            durable a 1/0/1 2
              REJECTED executor a reports as incarnation 1, which is not the present one: it must register anew
            show inputs 1 0
              not complete
            complete b 1/0/1 3 epoch=0
              completed 1/0/1, stage complete
            durable b 1/0/1 2
              REJECTED attempt 1.2 of task 0000000000000001/0/1 is over: it failed, or its output was given up
            durable b 1/0/1 3
              durable 1/0/1
            lose b
              lost b#2
            show inputs 1 0
              0: durable store 1.1
              1: durable store 1.3
        "#]],
    );
}

#[test]
fn an_executor_that_comes_back_tells_what_became_durable_meanwhile() {
    check(
        "replica 1 version=3; raise 3
         register a store=s3://b
         register b store=s3://b
         submit 1 chain(1,1,1)
         complete a 1/0/0 1 epoch=0
         complete b 1/1/0 2 epoch=0
         lose a
         register a store=s3://b process=2
         durable a 1/0/0 1
         lose b
         show pending",
        expect![[r#"
            replica 1 version=3; raise 3
              registered replica 1
              version 3 is in use
            register a store=s3://b
              registered a#1
            register b store=s3://b
              registered b#2
            submit 1 chain(1,1,1)
              submitted 1
            complete a 1/0/0 1 epoch=0
              completed 1/0/0, stage complete
            complete b 1/1/0 2 epoch=0
              completed 1/1/0, stage complete
            lose a
              lost a#1
            register a store=s3://b process=2
              registered a#3
            durable a 1/0/0 1
              durable 1/0/0
            lose b
              lost b#2; run again 1/1/0
            show pending
              run 1/1/0@0, release nothing
        "#]],
    );
}

#[test]
fn an_output_that_cannot_be_read_anywhere_runs_again() {
    check(
        "replica 1 version=3; raise 3
         register a store=s3://b
         register b store=s3://b
         submit 1 hash(2,1)
         complete a 1/0/0 1 epoch=0 durable=yes; complete a 1/0/1 2 epoch=0 durable=yes
         lose a
         fail b 1/1/0 3 retryable lost=a/0/0/1
         show pending
         complete b 1/0/0 4 epoch=0
         show inputs 1 0",
        expect![[r#"
            replica 1 version=3; raise 3
              registered replica 1
              version 3 is in use
            register a store=s3://b
              registered a#1
            register b store=s3://b
              registered b#2
            submit 1 hash(2,1)
              submitted 1
            complete a 1/0/0 1 epoch=0 durable=yes; complete a 1/0/1 2 epoch=0 durable=yes
              completed 1/0/0
              completed 1/0/1, stage complete
            lose a
              lost a#1
            fail b 1/1/0 3 retryable lost=a/0/0/1
              failed 1/1/0, 0 counted; run again 1/0/0
            show pending
              run 1/0/0@0, release nothing
            complete b 1/0/0 4 epoch=0
              completed 1/0/0, stage complete
            show inputs 1 0
              0: b:1 1.4
              1: durable store 1.2
        "#]],
    );
}

#[test]
fn rows_that_a_second_run_might_not_repeat_are_safe_when_they_are_durable() {
    check(
        "replica 1 version=3; raise 3
         register a store=s3://b
         register b store=s3://b
         submit 1 hash!(2,2)
         complete a 1/0/0 1 epoch=0 durable=yes; complete b 1/0/1 2 epoch=0 durable=yes
         complete b 1/1/0 3 epoch=0
         lose a
         show job 1",
        expect![[r#"
            replica 1 version=3; raise 3
              registered replica 1
              version 3 is in use
            register a store=s3://b
              registered a#1
            register b store=s3://b
              registered b#2
            submit 1 hash!(2,2)
              submitted 1
            complete a 1/0/0 1 epoch=0 durable=yes; complete b 1/0/1 2 epoch=0 durable=yes
              completed 1/0/0
              completed 1/0/1, stage complete
            complete b 1/1/0 3 epoch=0
              completed 1/1/0
            lose a
              lost a#1
            show job 1
              1 running
              stage 0 epoch 0 reruns 0: a:1.1 b:1.2
              stage 1 epoch 0 reruns 0: b:1.3 -
        "#]],
    );
}

#[test]
fn a_durable_result_is_served_by_another_executor() {
    check(
        "replica 1 version=3; raise 3
         register a store=s3://b
         register b
         register c store=s3://b
         register d store=s3://b
         submit 1 hash(1,2)
         complete a 1/0/0 1 epoch=0
         complete a 1/1/0 2 epoch=0 durable=yes
         show results 1
         complete a 1/1/1 3 epoch=0 durable=yes
         lose a
         show results 1
         suspect c
         show results 1
         lose c
         lose d
         show results 1
         show job 1
         register c store=s3://b
         show results 1
         release 1
         durable c 1/1/0 2
         show results 1",
        expect![[r#"
            replica 1 version=3; raise 3
              registered replica 1
              version 3 is in use
            register a store=s3://b
              registered a#1
            register b
              registered b#2
            register c store=s3://b
              registered c#3
            register d store=s3://b
              registered d#4
            submit 1 hash(1,2)
              submitted 1
            complete a 1/0/0 1 epoch=0
              completed 1/0/0, stage complete
            complete a 1/1/0 2 epoch=0 durable=yes
              completed 1/1/0
            show results 1
              0: a:1 durable
            complete a 1/1/1 3 epoch=0 durable=yes
              completed 1/1/1, stage complete, job succeeded
            lose a
              lost a#1
            show results 1
              0: c:1 durable
              1: d:1 durable
            suspect c
              suspected c
            show results 1
              0: d:1 durable
              1: d:1 durable
            lose c
              lost c#3
            lose d
              lost d#4
            show results 1
              0: gone durable
              1: gone durable
            show job 1
              1 succeeded
              stage 0 epoch 0 reruns 0: a:1.1
              stage 1 epoch 0 reruns 0: a:1.2 a:1.3
            register c store=s3://b
              registered c#5
            show results 1
              0: c:1 durable
              1: c:1 durable
            release 1
              released 1
            durable c 1/1/0 2
              unchanged
            show results 1
              0: gone
              1: gone
        "#]],
    );
}

#[test]
fn durable_outputs_of_another_cluster_do_not_count() {
    check(
        "replica 1 version=3; raise 3
         register a store=s3://b
         submit 1 hash(1,1)
         complete a 1/0/0 1 epoch=0 durable=yes
         restart 1 restored name=other
         show pending",
        expect![[r#"
            replica 1 version=3; raise 3
              registered replica 1
              version 3 is in use
            register a store=s3://b
              registered a#1
            submit 1 hash(1,1)
              submitted 1
            complete a 1/0/0 1 epoch=0 durable=yes
              completed 1/0/0, stage complete
            restart 1 restored name=other
              restarted; run again 1/0/0
            show pending
              run 1/0/0@0, release nothing
        "#]],
    );
}

#[test]
fn nothing_is_durable_before_its_version() {
    let mut lab = Lab::new();
    lab.run_all(&["register a store=s3://b", "submit 1 hash(1,1)", "complete a 1/0/0 1"]);
    let told = lab.run("durable a 1/0/0 1");
    assert!(told.contains("REJECTED"), "{told}");
    lab.run(VERSION_3);
    assert!(lab.run("durable a 1/0/0 1").contains("durable 1/0/0"));
}
