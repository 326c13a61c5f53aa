//! Executors that are asked to leave: what they hold goes elsewhere, and nothing is lost with them.

#![allow(clippy::too_many_lines, reason = "a transcript is one text")]

use expect_test::expect;

use super::{Lab, check};

#[test]
fn a_drained_executor_hands_over_what_is_needed_and_leaves() {
    check(
        "replica 1 version=3; raise 3
         register a
         register b
         submit 1 chain(2,2,1)
         complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0
         complete a 1/1/0 3 epoch=0
         at 2000
         drain a 60000
         show executors
         show drain a
         moved b 1/0/0 1 a
         show inputs 1 1
         show inputs 1 0
         show moves 1
         complete b 1/1/1 4 epoch=0
         show drain a
         moved b 1/1/0 3 a
         show drain a
         at 3000
         left a
         show executors
         show drain a
         show job 1
         complete b 1/2/0 5 epoch=0
         show results 1
         register a process=2
         show executors
         show drain a",
        expect![[r#"
            replica 1 version=3; raise 3
              registered replica 1
              version 3 is in use
            register a
              registered a#1
            register b
              registered b#2
            submit 1 chain(2,2,1)
              submitted 1
            complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0
              completed 1/0/0
              completed 1/0/1, stage complete
            complete a 1/1/0 3 epoch=0
              completed 1/1/0
            at 2000
            drain a 60000
              draining a
            show executors
              a#1 a:1 draining, heard 1000
              b#2 b:1 live, heard 1000
            show drain a
              since 2000 until 62000, 0 moved, left false, only there: 1/0/0, 1/1/0
            moved b 1/0/0 1 a
              moved 1/0/0
            show inputs 1 1
              not complete
            show inputs 1 0
              0: b:1 1.1
              1: b:1 1.2
            show moves 1
              1 times: 1/0/0 1.1 on b
            complete b 1/1/1 4 epoch=0
              completed 1/1/1, stage complete
            show drain a
              since 2000 until 62000, 1 moved, left false, only there: 1/1/0
            moved b 1/1/0 3 a
              moved 1/1/0
            show drain a
              since 2000 until 62000, 2 moved, left false, only there: nothing
            at 3000
            left a
              left a#1
            show executors
              a#1 a:1 lost, heard 1000, at 3000 for: it was drained
              b#2 b:1 live, heard 1000
            show drain a
              since 2000 until 62000, 2 moved, left true, only there: nothing
            show job 1
              1 running
              stage 0 epoch 0 reruns 0: b:1.1 b:1.2
              stage 1 epoch 0 reruns 0: b:1.3 b:1.4
              stage 2 epoch 0 reruns 0: -
            complete b 1/2/0 5 epoch=0
              completed 1/2/0, stage complete, job succeeded
            show results 1
              0: b:1
            register a process=2
              registered a#3
            show executors
              a#3 a:1 live, heard 3000
              b#2 b:1 live, heard 1000
            show drain a
              none
        "#]],
    );
}

#[test]
fn outputs_move_once_and_only_from_where_they_are() {
    check(
        "replica 1 version=3; raise 3
         register a
         register b
         register c
         submit 1 hash(2,1)
         moved b 1/0/0 1 a
         complete a 1/0/0 1 epoch=0
         drain a 60000
         moved b 1/0/0 9 a
         moved b#9 1/0/0 1 a
         moved b 1/0/7 1 a
         moved b 9/0/0 1 a
         moved b 1/0/0 1 c
         moved b 1/0/0 1 a
         moved b 1/0/0 1 a
         moved c 1/0/0 1 a
         complete a 1/0/0 1 epoch=0
         complete a 1/0/1 2 epoch=0
         fail c 1/1/0 3 retryable lost=a/0/0/1
         show job 1
         lose b
         show moves 1
         moved c 1/0/0 1 b
         complete c 1/0/0 4 epoch=0
         moved c 1/0/1 2 a
         show moves 1
         complete c 1/1/0 5 epoch=1
         release 1
         show moves 1",
        expect![[r#"
            replica 1 version=3; raise 3
              registered replica 1
              version 3 is in use
            register a
              registered a#1
            register b
              registered b#2
            register c
              registered c#3
            submit 1 hash(2,1)
              submitted 1
            moved b 1/0/0 1 a
              REJECTED attempt 1.1 of task 0000000000000001/0/0 is over: it failed, or its output was given up
            complete a 1/0/0 1 epoch=0
              completed 1/0/0
            drain a 60000
              draining a
            moved b 1/0/0 9 a
              REJECTED attempt 1.9 of task 0000000000000001/0/0 is over: it failed, or its output was given up
            moved b#9 1/0/0 1 a
              REJECTED executor b reports as incarnation 9, which is not the present one: it must register anew
            moved b 1/0/7 1 a
              REJECTED job 0000000000000001 has no stage 0 with partition 7
            moved b 9/0/0 1 a
              REJECTED job 0000000000000009 is not known, or was forgotten after its end
            moved b 1/0/0 1 c
              REJECTED attempt 1.1 of task 0000000000000001/0/0 is over: it failed, or its output was given up
            moved b 1/0/0 1 a
              moved 1/0/0
            moved b 1/0/0 1 a
              unchanged
            moved c 1/0/0 1 a
              REJECTED attempt 1.1 of task 0000000000000001/0/0 is over: it failed, or its output was given up
            complete a 1/0/0 1 epoch=0
              unchanged
            complete a 1/0/1 2 epoch=0
              completed 1/0/1, stage complete
            fail c 1/1/0 3 retryable lost=a/0/0/1
              failed 1/1/0, 0 counted
            show job 1
              1 running
              stage 0 epoch 0 reruns 0: b:1.1 a:1.2
              stage 1 epoch 0 reruns 0: - (InputLost c:1.3)
            lose b
              lost b#2; run again 1/0/0
            show moves 1
              1 times: nothing
            moved c 1/0/0 1 b
              REJECTED attempt 1.1 of task 0000000000000001/0/0 is over: it failed, or its output was given up
            complete c 1/0/0 4 epoch=0
              completed 1/0/0, stage complete
            moved c 1/0/1 2 a
              moved 1/0/1
            show moves 1
              2 times: 1/0/1 1.2 on c
            complete c 1/1/0 5 epoch=1
              completed 1/1/0, stage complete, job succeeded
            release 1
              released 1
            show moves 1
              0 times: nothing
        "#]],
    );
}

#[test]
fn what_is_not_handed_over_in_time_runs_again() {
    check(
        "replica 1 version=3; raise 3
         register a
         register b
         left a
         submit 1 hash(2,2)
         complete a 1/0/0 1 epoch=0 ms=5; complete b 1/0/1 2 epoch=0
         complete a 1/1/0 3 epoch=0
         submit 2 one
         complete a 2/0/0 4 epoch=0
         drain a 1000
         show drain a
         left a
         show job 1
         show job 2
         show story 1
         show deaths 1/1/0",
        expect![[r#"
            replica 1 version=3; raise 3
              registered replica 1
              version 3 is in use
            register a
              registered a#1
            register b
              registered b#2
            left a
              REJECTED executor a was not asked to leave
            submit 1 hash(2,2)
              submitted 1
            complete a 1/0/0 1 epoch=0 ms=5; complete b 1/0/1 2 epoch=0
              completed 1/0/0
              completed 1/0/1, stage complete
            complete a 1/1/0 3 epoch=0
              completed 1/1/0
            submit 2 one
              submitted 2
            complete a 2/0/0 4 epoch=0
              completed 2/0/0, stage complete, job succeeded
            drain a 1000
              draining a
            show drain a
              since 1000 until 2000, 0 moved, left false, only there: 1/0/0, 1/1/0, 2/0/0
            left a
              left a#1; run again 1/0/0 1/1/0; results lost of 2
            show job 1
              1 running
              stage 0 epoch 0 reruns 1: - (OutputLost a:1.1) b:1.2
              stage 1 epoch 1 reruns 1: - (OutputLost a:1.3) -
            show job 2
              2 succeeded
              result 0 is lost: it was on executor a, which is lost: it was drained
              stage 0 epoch 0 reruns 0: a:1.4
            show story 1
              1000 executor a (incarnation 1) was asked to leave within 1.000 s
              1000 executor a (incarnation 1) has left and had handed over 0 outputs of all queries: it was drained
              1000 task 0 of stage 0 runs again (0.005 s and 0 bytes of work): executor a has left: it was drained
              1000 task 0 of stage 1 runs again (0.000 s and 0 bytes of work): executor a has left: it was drained
            show deaths 1/1/0
              nothing
        "#]],
    );
}

#[test]
fn durable_outputs_and_those_that_nobody_reads_need_no_other_place() {
    check(
        "replica 1 version=3; raise 3
         register a store=s3://b
         register b store=s3://b
         submit 1 chain(1,1,2)
         complete a 1/0/0 1 epoch=0
         complete a 1/1/0 2 epoch=0 durable=yes
         drain a 1000
         show drain a
         left a
         show inputs 1 1
         complete b 1/2/0 3 epoch=0; complete b 1/2/1 4 epoch=0
         drain b 1000
         show drain b
         release 1
         show drain b
         left b",
        expect![[r#"
            replica 1 version=3; raise 3
              registered replica 1
              version 3 is in use
            register a store=s3://b
              registered a#1
            register b store=s3://b
              registered b#2
            submit 1 chain(1,1,2)
              submitted 1
            complete a 1/0/0 1 epoch=0
              completed 1/0/0, stage complete
            complete a 1/1/0 2 epoch=0 durable=yes
              completed 1/1/0, stage complete
            drain a 1000
              draining a
            show drain a
              since 1000 until 2000, 0 moved, left false, only there: nothing
            left a
              left a#1
            show inputs 1 1
              0: durable store 1.2
            complete b 1/2/0 3 epoch=0; complete b 1/2/1 4 epoch=0
              completed 1/2/0
              completed 1/2/1, stage complete, job succeeded
            drain b 1000
              draining b
            show drain b
              since 1000 until 2000, 0 moved, left false, only there: 1/2/0, 1/2/1
            release 1
              released 1
            show drain b
              since 1000 until 2000, 0 moved, left false, only there: nothing
            left b
              left b#2
        "#]],
    );
}

#[test]
fn a_drain_is_of_one_life() {
    check(
        "replica 1 version=3; raise 3
         register a
         register b
         drain a#7 1000
         drain z 1000
         drain a 1000
         at 1500
         drain a 1000
         register a
         show executors
         show drain a
         suspect a
         lose a
         show drain a
         register a
         show executors
         drain a 500
         register a process=2
         show drain a
         drain a 500
         restart 1 restored name=other
         show drain a",
        expect![[r#"
            replica 1 version=3; raise 3
              registered replica 1
              version 3 is in use
            register a
              registered a#1
            register b
              registered b#2
            drain a#7 1000
              REJECTED executor a reports as incarnation 7, which is not the present one: it must register anew
            drain z 1000
              REJECTED executor z is not known: it must register
            drain a 1000
              draining a
            at 1500
            drain a 1000
              draining a
            register a
              registered a#1
            show executors
              a#1 a:1 draining, heard 1500
              b#2 b:1 live, heard 1000
            show drain a
              since 1000 until 2500, 0 moved, left false, only there: nothing
            suspect a
              suspected a
            lose a
              lost a#1
            show drain a
              none
            register a
              registered a#3
            show executors
              a#3 a:1 live, heard 1500
              b#2 b:1 live, heard 1000
            drain a 500
              draining a
            register a process=2
              registered a#4 in place of a#3
            show drain a
              none
            drain a 500
              draining a
            restart 1 restored name=other
              restarted
            show drain a
              none
        "#]],
    );
}

#[test]
fn nobody_drains_before_version_3() {
    let mut lab = Lab::new();
    lab.run_all(&["register a", "register b", "submit 1 hash(1,1)", "complete a 1/0/0 1"]);
    for line in ["drain a 1000", "moved b 1/0/0 1 a", "left a"] {
        let told = lab.run(line);
        assert!(told.contains("needs version 3"), "{line}: {told}");
    }
}
