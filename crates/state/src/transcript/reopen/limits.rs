//! When lost results are not made again, and until when they are.

use super::*;

#[test]
fn limits_hold_and_what_is_given_up_stays_so() {
    check3(
        "submit 1 one reruns=1
         complete a 1/0/0 1 epoch=0
         lose a
         reopen 1
         complete b 1/0/0 2 epoch=0
         lose b
         reopen 1
         show job 1
         reopen 1
         show story 1
         submit 2 one
         complete c 2/0/0 3 epoch=0
         lose c
         register c
         reopen 2
         fail c 2/0/0 4 user
         complete c 2/0/0 5 epoch=0
         reopen 2
         show job 2
         submit 3 one
         complete c 3/0/0 6 epoch=0
         lose c
         register c
         reopen 3
         fail-job 3 nobody-runs-it
         cancel 3 enough
         show job 3
         show pending",
        expect![[r#"
            submit 1 one reruns=1
              submitted 1
            complete a 1/0/0 1 epoch=0
              completed 1/0/0, stage complete, job succeeded
            lose a
              lost a#1; results lost of 1
            reopen 1
              reopened 1; run again 1/0/0
            complete b 1/0/0 2 epoch=0
              completed 1/0/0, stage complete, job succeeded
            lose b
              lost b#2; results lost of 1
            reopen 1
              reopened 1; results lost of 1
            show job 1
              1 succeeded
              result 0 is lost: outputs of stage 0 were lost (it was on executor b, which is lost: power cut) after 1 re-runs of its task 0
              stage 0 epoch 0 reruns 1: b:1.2 (OutputLost a:1.1)
            reopen 1
              REJECTED the result of job 0000000000000001 can't be made again: that was tried in vain, or what it was made from is not kept
            show story 1
              1000 results that nobody had read are lost: executor a is lost: power cut
              1000 task 0 of stage 0 runs again (0.000 s and 0 bytes of work): its client asked for results that were lost
              1000 results that nobody had read are lost: executor b is lost: power cut
              1000 results that nobody had read are lost: its client asked for results that were lost
            submit 2 one
              submitted 2
            complete c 2/0/0 3 epoch=0
              completed 2/0/0, stage complete, job succeeded
            lose c
              lost c#3; results lost of 2
            register c
              registered c#4
            reopen 2
              reopened 2; run again 2/0/0
            fail c 2/0/0 4 user
              failed 2/0/0, 1 counted; results lost of 2
            complete c 2/0/0 5 epoch=0
              REJECTED job 0000000000000002 has ended already: succeeded
            reopen 2
              REJECTED the result of job 0000000000000002 can't be made again: that was tried in vain, or what it was made from is not kept
            show job 2
              2 succeeded
              result 0 is lost: boom
              stage 0 epoch 0 reruns 1: - (OutputLost c:1.3, Failed c:1.4)
            submit 3 one
              submitted 3
            complete c 3/0/0 6 epoch=0
              completed 3/0/0, stage complete, job succeeded
            lose c
              lost c#4; results lost of 3
            register c
              registered c#5
            reopen 3
              reopened 3; run again 3/0/0
            fail-job 3 nobody-runs-it
              reopened 3; results lost of 3
            cancel 3 enough
              REJECTED job 0000000000000003 has ended already: succeeded
            show job 3
              3 succeeded
              result 0 is lost: nobody-runs-it
              stage 0 epoch 0 reruns 1: - (OutputLost c:1.6)
            show pending
              run nothing, release nothing
        "#]],
    );
}

#[test]
fn what_is_made_again_has_its_full_time_and_ends_with_its_release() {
    check3(
        "submit 1 one
         complete a 1/0/0 1 epoch=0
         at 500000
         lose a ; reopen 1
         at 700000
         expire
         complete b 1/0/0 2 epoch=0
         at 1299999
         expire
         at 1300000
         expire
         submit 2 one
         complete b 2/0/0 3 epoch=0
         lose b ; reopen 2
         release 2
         show pending
         complete c 2/0/0 4 epoch=0
         show jobs",
        expect![[r#"
            submit 1 one
              submitted 1
            complete a 1/0/0 1 epoch=0
              completed 1/0/0, stage complete, job succeeded
            at 500000
            lose a ; reopen 1
              lost a#1; results lost of 1
              reopened 1; run again 1/0/0
            at 700000
            expire
              unchanged
            complete b 1/0/0 2 epoch=0
              completed 1/0/0, stage complete, job succeeded
            at 1299999
            expire
              unchanged
            at 1300000
            expire
              expired 1
            submit 2 one
              submitted 2
            complete b 2/0/0 3 epoch=0
              completed 2/0/0, stage complete, job succeeded
            lose b ; reopen 2
              lost b#2; results lost of 2
              reopened 2; run again 2/0/0
            release 2
              released 2
            show pending
              run nothing, release 1, 2
            complete c 2/0/0 4 epoch=0
              REJECTED job 0000000000000002 has ended already: succeeded
            show jobs
              1 succeeded, released
              2 succeeded, released
        "#]],
    );
}

#[test]
fn without_its_plan_nothing_is_made_again() {
    check(
        "register a
         register b
         submit 1 one
         complete a 1/0/0 1
         replica 1 version=3
         raise 3
         lose a
         reopen 1
         reopen 9
         submit 2 one
         reopen 2
         cancel 2 enough
         reopen 2",
        expect![[r#"
            register a
              registered a#1
            register b
              registered b#2
            submit 1 one
              submitted 1
            complete a 1/0/0 1
              completed 1/0/0, stage complete, job succeeded
            replica 1 version=3
              registered replica 1
            raise 3
              version 3 is in use
            lose a
              lost a#1; results lost of 1
            reopen 1
              REJECTED the result of job 0000000000000001 can't be made again: that was tried in vain, or what it was made from is not kept
            reopen 9
              REJECTED job 0000000000000009 is not known, or was forgotten after its end
            submit 2 one
              submitted 2
            reopen 2
              unchanged
            cancel 2 enough
              2 cancelled
            reopen 2
              REJECTED the result of job 0000000000000002 can't be made again: that was tried in vain, or what it was made from is not kept
        "#]],
    );
}

#[test]
fn an_older_version_knows_nothing_of_it() {
    check(
        "register a
         submit 1 one
         complete a 1/0/0 1
         lose a
         reopen 1
         show job 1",
        expect![[r#"
            register a
              registered a#1
            submit 1 one
              submitted 1
            complete a 1/0/0 1
              completed 1/0/0, stage complete, job succeeded
            lose a
              lost a#1; results lost of 1
            reopen 1
              REJECTED the command needs version 3, and its entry has version 1
            show job 1
              1 succeeded
              result 0 is lost: it was on executor a, which is lost: power cut
              stage 0 epoch 0 reruns 0, no plan: a:1.1
        "#]],
    );
}
