//! How tasks divide their inputs among them, decided once these are complete.

#![allow(clippy::too_many_lines, reason = "a transcript is one text")]

use expect_test::expect;

use super::check;

#[test]
fn a_stage_waits_for_the_decision_and_has_as_many_tasks_as_shares() {
    check(
        "replica 1 version=4; raise 4
         register a
         register b
         submit 1 hash~(2,4)
         complete a 1/0/0 1 epoch=0
         adapt 1/1 0-4 after=2
         complete b 1/0/1 2 epoch=0
         show pending
         complete a 1/1/0 9 epoch=0
         fail a 1/1/0 9 retryable
         adapt 1/1 0-3 3-4 after=9
         show shares 1 1
         show pending
         complete a 1/1/0 9 epoch=0
         complete a 1/1/2 10 epoch=0
         complete a 1/1/0 11 epoch=0; complete b 1/1/1 12 epoch=0
         show results 1
         release 1
         show shares 1 1
         show job 1",
        expect![[r#"
            replica 1 version=4; raise 4
              registered replica 1
              version 4 is in use
            register a
              registered a#1
            register b
              registered b#2
            submit 1 hash~(2,4)
              submitted 1
            complete a 1/0/0 1 epoch=0
              completed 1/0/0
            adapt 1/1 0-4 after=2
              REJECTED the inputs of stage 1 of job 0000000000000001 are not complete
            complete b 1/0/1 2 epoch=0
              completed 1/0/1, stage complete
            show pending
              run nothing, release nothing
            complete a 1/1/0 9 epoch=0
              REJECTED attempt 1.9 of task 0000000000000001/1/0 was launched before it was decided how the task reads its inputs
            fail a 1/1/0 9 retryable
              REJECTED attempt 1.9 of task 0000000000000001/1/0 was launched before it was decided how the task reads its inputs
            adapt 1/1 0-3 3-4 after=9
              adapted 1/1 to 2 tasks, by attempts after 1.9
            show shares 1 1
              4 partitions read by 2 tasks: 3 coalesced
            show pending
              run 1/1/0@0, 1/1/1@0, release nothing
            complete a 1/1/0 9 epoch=0
              REJECTED attempt 1.9 of task 0000000000000001/1/0 was launched before it was decided how the task reads its inputs
            complete a 1/1/2 10 epoch=0
              REJECTED job 0000000000000001 has no stage 1 with partition 2
            complete a 1/1/0 11 epoch=0; complete b 1/1/1 12 epoch=0
              completed 1/1/0
              completed 1/1/1, stage complete, job succeeded
            show results 1
              0: a:1
              1: b:1
            release 1
              released 1
            show shares 1 1
              none
            show job 1
              1 succeeded, released
              stage 0 epoch 0 reruns 0, no plan: a:1.1 b:1.2
              stage 1 epoch 0 reruns 0, no plan: a:1.11 b:1.12
        "#]],
    );
}

#[test]
fn a_decision_is_made_once_and_fits_its_stage() {
    check(
        "register a
         replica 1 version=4
         submit 1 hash~(2,4)
         raise 4
         adapt 1/1 0-4
         submit 1 join~(1,2,3)
         complete a 1/0/0 1 epoch=0; complete a 1/1/0 2 epoch=0; complete a 1/1/1 3 epoch=0
         adapt 1/0 0-1
         adapt 1/2 0-2
         adapt 1/2 0-2 1-3
         adapt 1/2 0-1 1:1/0-1 1:1/1-2 2-3
         adapt 1/2
         adapt 1/2 0-3
         show shares 1 2
         complete a 1/2/0 4 epoch=0
         cancel 1 enough
         adapt 1/2 0-3",
        expect![[r#"
            register a
              registered a#1
            replica 1 version=4
              registered replica 1
            submit 1 hash~(2,4)
              REJECTED the command needs version 4, and its entry has version 1
            raise 4
              version 4 is in use
            adapt 1/1 0-4
              REJECTED job 0000000000000001 is not known, or was forgotten after its end
            submit 1 join~(1,2,3)
              submitted 1
            complete a 1/0/0 1 epoch=0; complete a 1/1/0 2 epoch=0; complete a 1/1/1 3 epoch=0
              completed 1/0/0, stage complete
              completed 1/1/0
              completed 1/1/1, stage complete
            adapt 1/0 0-1
              REJECTED it is decided how stage 0 of job 0000000000000001 reads its inputs
            adapt 1/2 0-2
              REJECTED stage 2 of job 0000000000000001 can't be divided like that: the last share ends at partition 2 of 3
            adapt 1/2 0-2 1-3
              REJECTED stage 2 of job 0000000000000001 can't be divided like that: share 1 does not go on where the one before it ends, or is empty
            adapt 1/2 0-1 1:1/0-1 1:1/1-2 2-3
              REJECTED stage 2 of job 0000000000000001 can't be divided like that: share 1 splits what may not be split
            adapt 1/2
              adapted 1/2 to 3 tasks, by attempts after 1.0
            adapt 1/2 0-3
              REJECTED it is decided how stage 2 of job 0000000000000001 reads its inputs
            show shares 1 2
              none
            complete a 1/2/0 4 epoch=0
              completed 1/2/0
            cancel 1 enough
              1 cancelled
            adapt 1/2 0-3
              REJECTED job 0000000000000001 has ended already: cancelled
        "#]],
    );
}

#[test]
fn a_skewed_partition_is_read_by_several_tasks() {
    check(
        "replica 1 version=4; raise 4
         register a
         submit 1 chain~(3,3,1)
         complete a 1/0/0 1 epoch=0; complete a 1/0/1 2 epoch=0; complete a 1/0/2 3 epoch=0
         adapt 1/1 0:0/0-1 0:0/1-3 1-3 after=3
         show shares 1 1
         complete a 1/1/0 4 epoch=0; complete a 1/1/1 5 epoch=0; complete a 1/1/2 6 epoch=0
         adapt 1/2 after=6
         show job 1",
        expect![[r#"
            replica 1 version=4; raise 4
              registered replica 1
              version 4 is in use
            register a
              registered a#1
            submit 1 chain~(3,3,1)
              submitted 1
            complete a 1/0/0 1 epoch=0; complete a 1/0/1 2 epoch=0; complete a 1/0/2 3 epoch=0
              completed 1/0/0
              completed 1/0/1
              completed 1/0/2, stage complete
            adapt 1/1 0:0/0-1 0:0/1-3 1-3 after=3
              adapted 1/1 to 3 tasks, by attempts after 1.3
            show shares 1 1
              3 partitions read by 3 tasks: 2 coalesced, 1 split for skew
            complete a 1/1/0 4 epoch=0; complete a 1/1/1 5 epoch=0; complete a 1/1/2 6 epoch=0
              completed 1/1/0
              completed 1/1/1
              completed 1/1/2, stage complete
            adapt 1/2 after=6
              adapted 1/2 to 1 tasks, by attempts after 1.6
            show job 1
              1 running
              stage 0 epoch 0 reruns 0: a:1.1 a:1.2 a:1.3
              stage 1 epoch 0 reruns 0: a:1.4 a:1.5 a:1.6
              stage 2 epoch 0 reruns 0: -
        "#]],
    );
}

#[test]
fn shares_stay_when_outputs_are_lost() {
    check(
        "replica 1 version=4; raise 4
         register a
         register b
         submit 1 chain~(2,4,2)
         complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0; adapt 1/1 0-2 2-4 after=2
         complete a 1/1/0 3 epoch=0
         lose b
         show job 1
         show pending
         complete a 1/0/1 4 epoch=0
         adapt 1/1 0-4 after=4
         show pending
         complete a 1/1/1 5 epoch=1; adapt 1/2 0-2 after=5
         complete a 1/2/0 6 epoch=0",
        expect![[r#"
            replica 1 version=4; raise 4
              registered replica 1
              version 4 is in use
            register a
              registered a#1
            register b
              registered b#2
            submit 1 chain~(2,4,2)
              submitted 1
            complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0; adapt 1/1 0-2 2-4 after=2
              completed 1/0/0
              completed 1/0/1, stage complete
              adapted 1/1 to 2 tasks, by attempts after 1.2
            complete a 1/1/0 3 epoch=0
              completed 1/1/0
            lose b
              lost b#2; run again 1/0/1
            show job 1
              1 running
              stage 0 epoch 0 reruns 1: a:1.1 - (OutputLost b:1.2)
              stage 1 epoch 1 reruns 0: a:1.3 -
              stage 2 epoch 0 reruns 0: - -
            show pending
              run 1/0/1@0, release nothing
            complete a 1/0/1 4 epoch=0
              completed 1/0/1, stage complete
            adapt 1/1 0-4 after=4
              REJECTED it is decided how stage 1 of job 0000000000000001 reads its inputs
            show pending
              run 1/1/1@1, release nothing
            complete a 1/1/1 5 epoch=1; adapt 1/2 0-2 after=5
              completed 1/1/1, stage complete
              adapted 1/2 to 1 tasks, by attempts after 1.5
            complete a 1/2/0 6 epoch=0
              completed 1/2/0, stage complete, job succeeded
        "#]],
    );
}

#[test]
fn readers_of_an_indeterminate_stage_are_rolled_back_share_by_share() {
    check(
        "replica 1 version=4; raise 4
         register a
         register b
         submit 1 hash!~(2,4)
         complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0; adapt 1/1 0-3 3-4 after=2
         complete a 1/1/0 3 epoch=0
         lose b
         show job 1
         complete a 1/0/1 4 epoch=0
         show pending
         complete a 1/1/0 5 epoch=0
         complete a 1/1/0 6 epoch=1; complete a 1/1/1 7 epoch=1",
        expect![[r#"
            replica 1 version=4; raise 4
              registered replica 1
              version 4 is in use
            register a
              registered a#1
            register b
              registered b#2
            submit 1 hash!~(2,4)
              submitted 1
            complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0; adapt 1/1 0-3 3-4 after=2
              completed 1/0/0
              completed 1/0/1, stage complete
              adapted 1/1 to 2 tasks, by attempts after 1.2
            complete a 1/1/0 3 epoch=0
              completed 1/1/0
            lose b
              lost b#2; run again 1/0/1 1/1/0; delete a:1.3
            show job 1
              1 running
              stage 0 epoch 0 reruns 1: a:1.1 - (OutputLost b:1.2)
              stage 1 epoch 1 reruns 1: - (OutputLost a:1.3) -
            complete a 1/0/1 4 epoch=0
              completed 1/0/1, stage complete
            show pending
              run 1/1/0@1, 1/1/1@1, release nothing
            complete a 1/1/0 5 epoch=0
              REJECTED attempt 1.5 of task 0000000000000001/1/0 has read outputs that were lost and may have come out differently since
            complete a 1/1/0 6 epoch=1; complete a 1/1/1 7 epoch=1
              completed 1/1/0
              completed 1/1/1, stage complete, job succeeded
        "#]],
    );
}

/// The first leader has launched two tasks by a decision that was never logged, and the second one by another decision.
#[test]
fn what_a_deposed_leader_has_launched_ahead_counts_for_nothing() {
    check(
        "replica 1 version=4; raise 4
         register a
         submit 1 hash~(1,4)
         complete a 1/0/0 1 epoch=0
         term 2
         adapt 1/1 0-3 3-4 after=2.0
         complete a 1/1/0 1.2 epoch=0
         fail a 1/1/1 1.3 resources
         show job 1
         complete a 1/1/0 2.1 epoch=0; complete a 1/1/1 2.2 epoch=0",
        expect![[r#"
            replica 1 version=4; raise 4
              registered replica 1
              version 4 is in use
            register a
              registered a#1
            submit 1 hash~(1,4)
              submitted 1
            complete a 1/0/0 1 epoch=0
              completed 1/0/0, stage complete
            term 2
            adapt 1/1 0-3 3-4 after=2.0
              adapted 1/1 to 2 tasks, by attempts after 2.0
            complete a 1/1/0 1.2 epoch=0
              REJECTED attempt 1.2 of task 0000000000000001/1/0 was launched before it was decided how the task reads its inputs
            fail a 1/1/1 1.3 resources
              REJECTED attempt 1.3 of task 0000000000000001/1/1 was launched before it was decided how the task reads its inputs
            show job 1
              1 running
              stage 0 epoch 0 reruns 0: a:1.1
              stage 1 epoch 0 reruns 0: - -
            complete a 1/1/0 2.1 epoch=0; complete a 1/1/1 2.2 epoch=0
              completed 1/1/0
              completed 1/1/1, stage complete, job succeeded
        "#]],
    );
}
