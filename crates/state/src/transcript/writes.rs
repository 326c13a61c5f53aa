//! Statements that write: files are published by one entry or not at all, and what is left behind is swept.

#![allow(clippy::too_many_lines, reason = "a transcript is one text")]

mod cluster;

use expect_test::expect;
use polybolos_model::limits::MAX_ENDED_JOBS;

use super::{Lab, check};
use crate::{JobStatus, limits::MAX_WRITES};

#[test]
fn a_write_is_published_once_all_its_tasks_are_done() {
    check(
        "replica 1 version=3; raise 3
         register a
         register b
         write 1 hash(2,2) key=k
         show write 1
         complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0; complete a 1/1/0 3 epoch=0
         published 1
         complete b 1/1/1 4 epoch=0
         show write 1
         show pending
         show results 1
         at 2000
         published 1
         show job 1
         show write 1
         show pending
         published 1
         swept 1
         swept 1
         show write 1
         show pending
         write 2 one key=k",
        expect![[r#"
            replica 1 version=3; raise 3
              registered replica 1
              version 3 is in use
            register a
              registered a#1
            register b
              registered b#2
            write 1 hash(2,2) key=k
              submitted 1
            show write 1
              staging
            complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0; complete a 1/1/0 3 epoch=0
              completed 1/0/0
              completed 1/0/1, stage complete
              completed 1/1/0
            published 1
              REJECTED job 0000000000000001 still writes: it is staging
            complete b 1/1/1 4 epoch=0
              completed 1/1/1, stage complete
            show write 1
              publishing, 2 rows
            show pending
              run nothing, release nothing, publish 1, sweep nothing
            show results 1
            at 2000
            published 1
              1 succeeded
            show job 1
              1 succeeded, released
              stage 0 epoch 0 reruns 0, no plan: a:1.1 b:1.2
              stage 1 epoch 0 reruns 0, no plan: a:1.3 b:1.4
            show write 1
              sweeping since 2000, 2 rows
            show pending
              run nothing, release 1, publish nothing, sweep 1
            published 1
              REJECTED job 0000000000000001 has ended already: succeeded
            swept 1
              swept 1
            swept 1
              unchanged
            show write 1
              over, 2 rows
            show pending
              run nothing, release 1
            write 2 one key=k
              duplicate of 1
        "#]],
    );
}

#[test]
fn a_failed_or_cancelled_write_is_swept_and_publishes_nothing() {
    check(
        "replica 1 version=3; raise 3
         register a
         write 1 one
         cancel 1 enough
         show write 1
         write 2 one
         fail a 2/0/0 1 user
         show write 2
         published 2
         abandon 2 late
         swept 1; swept 2
         complete a 2/0/0 1 epoch=0
         swept 3
         submit 4 one
         published 4",
        expect![[r#"
            replica 1 version=3; raise 3
              registered replica 1
              version 3 is in use
            register a
              registered a#1
            write 1 one
              submitted 1
            cancel 1 enough
              1 cancelled
            show write 1
              sweeping since 1000
            write 2 one
              submitted 2
            fail a 2/0/0 1 user
              failed 2/0/0, 1 counted; fail job 2
            show write 2
              sweeping since 1000
            published 2
              REJECTED job 0000000000000002 has ended already: failed
            abandon 2 late
              REJECTED job 0000000000000002 has ended already: failed
            swept 1; swept 2
              swept 1
              swept 2
            complete a 2/0/0 1 epoch=0
              REJECTED attempt 1.1 of task 0000000000000002/0/0 is over: it failed, or its output was given up
            swept 3
              REJECTED job 0000000000000003 writes no files, or was forgotten after its end
            submit 4 one
              submitted 4
            published 4
              REJECTED job 0000000000000004 writes no files, or was forgotten after its end
        "#]],
    );
}

#[test]
fn nothing_runs_fails_or_is_cancelled_while_files_are_published() {
    check(
        "replica 1 version=3; raise 3
         register a
         register b
         write 1 hash(2,1)
         complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0
         lose b
         complete a 1/1/0 3 epoch=0
         show pending
         cancel 1 enough
         fail-job 1 because
         fail a 1/0/1 4 user
         complete a 1/0/1 5 epoch=1
         complete a 1/1/0 3 epoch=0
         complete a 1/1/0 6 epoch=0
         died a 1/0/1:7
         lose a
         show job 1
         published 1
         show job 1",
        expect![[r#"
            replica 1 version=3; raise 3
              registered replica 1
              version 3 is in use
            register a
              registered a#1
            register b
              registered b#2
            write 1 hash(2,1)
              submitted 1
            complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0
              completed 1/0/0
              completed 1/0/1, stage complete
            lose b
              lost b#2; run again 1/0/1
            complete a 1/1/0 3 epoch=0
              completed 1/1/0, stage complete
            show pending
              run nothing, release nothing, publish 1, sweep nothing
            cancel 1 enough
              REJECTED all files of job 0000000000000001 are written and are being published: it will end in a moment
            fail-job 1 because
              REJECTED all files of job 0000000000000001 are written and are being published: it will end in a moment
            fail a 1/0/1 4 user
              REJECTED all files of job 0000000000000001 are written and are being published: it will end in a moment
            complete a 1/0/1 5 epoch=1
              REJECTED all files of job 0000000000000001 are written and are being published: it will end in a moment
            complete a 1/1/0 3 epoch=0
              unchanged
            complete a 1/1/0 6 epoch=0
              REJECTED task 0000000000000001/1/0 was completed by attempt 1.3; attempt 1.6 came later
            died a 1/0/1:7
              unchanged
            lose a
              lost a#1
            show job 1
              1 running
              stage 0 epoch 0 reruns 1: a:1.1 - (OutputLost b:1.2)
              stage 1 epoch 1 reruns 0: a:1.3
            published 1
              1 succeeded
            show job 1
              1 succeeded, released
              stage 0 epoch 0 reruns 1, no plan: a:1.1 - (OutputLost b:1.2)
              stage 1 epoch 1 reruns 0, no plan: a:1.3
        "#]],
    );
}

#[test]
fn files_are_not_lost_with_the_executor_that_wrote_them() {
    check(
        "replica 1 version=3; raise 3
         register a
         register b
         write 1 hash(2,2)
         complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0; complete a 1/1/0 3 epoch=0
         lose a
         show job 1
         complete b 1/0/0 4 epoch=0; complete b 1/1/1 5 epoch=1
         show write 1",
        expect![[r#"
            replica 1 version=3; raise 3
              registered replica 1
              version 3 is in use
            register a
              registered a#1
            register b
              registered b#2
            write 1 hash(2,2)
              submitted 1
            complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0; complete a 1/1/0 3 epoch=0
              completed 1/0/0
              completed 1/0/1, stage complete
              completed 1/1/0
            lose a
              lost a#1; run again 1/0/0
            show job 1
              1 running
              stage 0 epoch 0 reruns 1: - (OutputLost a:1.1) b:1.2
              stage 1 epoch 1 reruns 0: a:1.3 -
            complete b 1/0/0 4 epoch=0; complete b 1/1/1 5 epoch=1
              completed 1/0/0, stage complete
              completed 1/1/1, stage complete
            show write 1
              publishing, 2 rows
        "#]],
    );
}

#[test]
fn rows_that_may_come_out_differently_are_written_anew() {
    check(
        "replica 1 version=3; raise 3
         register a
         register b
         write 1 hash!(2,2)
         complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0; complete b 1/1/0 3 epoch=0
         lose a
         show job 1
         complete b 1/1/1 4 epoch=0
         complete b 1/0/0 5 epoch=0; complete b 1/1/0 6 epoch=1; complete b 1/1/1 7 epoch=1
         show write 1",
        expect![[r#"
            replica 1 version=3; raise 3
              registered replica 1
              version 3 is in use
            register a
              registered a#1
            register b
              registered b#2
            write 1 hash!(2,2)
              submitted 1
            complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0; complete b 1/1/0 3 epoch=0
              completed 1/0/0
              completed 1/0/1, stage complete
              completed 1/1/0
            lose a
              lost a#1; run again 1/0/0 1/1/0; delete b:1.3
            show job 1
              1 running
              stage 0 epoch 0 reruns 1: - (OutputLost a:1.1) b:1.2
              stage 1 epoch 1 reruns 1: - (OutputLost b:1.3) -
            complete b 1/1/1 4 epoch=0
              REJECTED attempt 1.4 of task 0000000000000001/1/1 has read outputs that were lost and may have come out differently since
            complete b 1/0/0 5 epoch=0; complete b 1/1/0 6 epoch=1; complete b 1/1/1 7 epoch=1
              completed 1/0/0, stage complete
              completed 1/1/0
              completed 1/1/1, stage complete
            show write 1
              publishing, 2 rows
        "#]],
    );
}

#[test]
fn a_write_that_can_not_be_published_takes_back_what_it_has_published() {
    check(
        "replica 1 version=3; raise 3
         register a
         write 1 one
         abandon 1 early
         swept 1
         complete a 1/0/0 1 epoch=0
         abandon 1 no-space
         show job 1
         show write 1
         show pending
         published 1
         swept 1
         show write 1",
        expect![[r#"
            replica 1 version=3; raise 3
              registered replica 1
              version 3 is in use
            register a
              registered a#1
            write 1 one
              submitted 1
            abandon 1 early
              REJECTED job 0000000000000001 still writes: it is staging
            swept 1
              REJECTED job 0000000000000001 still writes: it is staging
            complete a 1/0/0 1 epoch=0
              completed 1/0/0, stage complete
            abandon 1 no-space
              1 failed
            show job 1
              1 failed, released: retryable error: no-space
              stage 0 epoch 0 reruns 0, no plan: a:1.1
            show write 1
              sweeping since 1000, also what is published, 1 rows
            show pending
              run nothing, release 1, publish nothing, sweep 1
            published 1
              REJECTED job 0000000000000001 has ended already: failed
            swept 1
              swept 1
            show write 1
              over, 1 rows
        "#]],
    );
}
