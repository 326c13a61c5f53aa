//! Results that are lost after success, and made again for whoever wants to read them.

#![allow(clippy::too_many_lines, reason = "a transcript is one text")]

mod limits;

use expect_test::{Expect, expect};

use super::{Lab, check};

/// In version 3, with executors `a`, `b` and `c`.
const BEGIN: &str = "replica 1 version=3
                     raise 3
                     register a
                     register b
                     register c";

fn check3(script: &str, expect: Expect) {
    let mut lab = Lab::new();
    lab.run_all(&BEGIN.lines().map(str::trim).collect::<Vec<_>>());
    let mut out = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        out += &lab.tell(line);
    }
    expect.assert_eq(&out);
}

#[test]
fn a_lost_partition_is_made_again_when_somebody_asks_for_it() {
    check3(
        "submit 1 hash(2,2)
         complete b 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0
         complete a 1/1/0 3 epoch=0; complete b 1/1/1 4 epoch=0
         reopen 1
         lose a
         show job 1
         show pending
         reopen 1
         reopen 1
         show job 1
         show pending
         complete c 1/1/0 5 epoch=0
         show job 1
         show results 1
         show story 1
         reopen 1
         release 1
         show job 1
         reopen 1",
        expect![[r#"
            submit 1 hash(2,2)
              submitted 1
            complete b 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0
              completed 1/0/0
              completed 1/0/1, stage complete
            complete a 1/1/0 3 epoch=0; complete b 1/1/1 4 epoch=0
              completed 1/1/0
              completed 1/1/1, stage complete, job succeeded
            reopen 1
              unchanged
            lose a
              lost a#1; results lost of 1
            show job 1
              1 succeeded
              result 0 is lost: it was on executor a, which is lost: power cut
              stage 0 epoch 0 reruns 0: b:1.1 b:1.2
              stage 1 epoch 0 reruns 0: a:1.3 b:1.4
            show pending
              run nothing, release nothing
            reopen 1
              reopened 1; run again 1/1/0
            reopen 1
              unchanged
            show job 1
              1 succeeded
              stage 0 epoch 0 reruns 0: b:1.1 b:1.2
              stage 1 epoch 0 reruns 1: - (OutputLost a:1.3) b:1.4
            show pending
              run 1/1/0@0, release nothing
            complete c 1/1/0 5 epoch=0
              completed 1/1/0, stage complete, job succeeded
            show job 1
              1 succeeded
              stage 0 epoch 0 reruns 0: b:1.1 b:1.2
              stage 1 epoch 0 reruns 1: c:1.5 (OutputLost a:1.3) b:1.4
            show results 1
              0: c:1
              1: b:1
            show story 1
              1000 results that nobody had read are lost: executor a is lost: power cut
              1000 task 0 of stage 1 runs again (0.000 s and 0 bytes of work): its client asked for results that were lost
            reopen 1
              unchanged
            release 1
              released 1
            show job 1
              1 succeeded, released
              stage 0 epoch 0 reruns 0, no plan: b:1.1 b:1.2
              stage 1 epoch 0 reruns 1, no plan: c:1.5 (OutputLost a:1.3) b:1.4
            reopen 1
              REJECTED the result of job 0000000000000001 can't be made again: that was tried in vain, or what it was made from is not kept
        "#]],
    );
}

#[test]
fn what_it_needs_upstream_runs_again_too_and_nothing_else() {
    check3(
        "submit 1 chain(2,2,2)
         complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0
         complete a 1/1/0 3 epoch=0; complete b 1/1/1 4 epoch=0
         complete b 1/2/0 5 epoch=0; complete a 1/2/1 6 epoch=0
         lose a
         reopen 1
         show pending
         complete c 1/0/0 7 epoch=0
         complete c 1/1/0 8 epoch=1
         complete c 1/2/1 9 epoch=1
         show job 1",
        expect![[r#"
            submit 1 chain(2,2,2)
              submitted 1
            complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0
              completed 1/0/0
              completed 1/0/1, stage complete
            complete a 1/1/0 3 epoch=0; complete b 1/1/1 4 epoch=0
              completed 1/1/0
              completed 1/1/1, stage complete
            complete b 1/2/0 5 epoch=0; complete a 1/2/1 6 epoch=0
              completed 1/2/0
              completed 1/2/1, stage complete, job succeeded
            lose a
              lost a#1; results lost of 1
            reopen 1
              reopened 1; run again 1/0/0 1/1/0 1/2/1
            show pending
              run 1/0/0@0, release nothing
            complete c 1/0/0 7 epoch=0
              completed 1/0/0, stage complete
            complete c 1/1/0 8 epoch=1
              completed 1/1/0, stage complete
            complete c 1/2/1 9 epoch=1
              completed 1/2/1, stage complete, job succeeded
            show job 1
              1 succeeded
              stage 0 epoch 0 reruns 1: c:1.7 (OutputLost a:1.1) b:1.2
              stage 1 epoch 1 reruns 1: c:1.8 (OutputLost a:1.3) b:1.4
              stage 2 epoch 1 reruns 1: b:1.5 c:1.9 (OutputLost a:1.6)
        "#]],
    );
}

/// The whole result changes then, and its generation rises.
#[test]
fn readers_of_rows_that_a_second_run_might_not_repeat_are_rolled_back() {
    let mut lab = Lab::new();
    lab.run_all(&BEGIN.lines().map(str::trim).collect::<Vec<_>>());
    lab.run_all(&[
        "submit 1 hash!(2,2)",
        "complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0",
        "complete a 1/1/0 3 epoch=0; complete b 1/1/1 4 epoch=0",
        "lose a",
    ]);
    let generation = |lab: &Lab| lab.state.result_generation(lab.state.jobs().next().unwrap());
    assert_eq!(generation(&lab), 0);
    expect![[r#"
        reopen 1
          reopened 1; run again 1/0/0 1/1/0 1/1/1; delete b:1.4
    "#]]
    .assert_eq(&lab.tell("reopen 1"));
    assert_eq!(generation(&lab), 1);
}

/// Its inputs are all there, so that nobody else has read anything that changes.
#[test]
fn a_partition_that_may_come_out_differently_is_made_again_alone() {
    check3(
        "submit 1 hash!(2,2)
         complete b 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0
         complete a 1/1/0 3 epoch=0; complete b 1/1/1 4 epoch=0
         lose a
         reopen 1
         show pending",
        expect![[r#"
            submit 1 hash!(2,2)
              submitted 1
            complete b 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0
              completed 1/0/0
              completed 1/0/1, stage complete
            complete a 1/1/0 3 epoch=0; complete b 1/1/1 4 epoch=0
              completed 1/1/0
              completed 1/1/1, stage complete, job succeeded
            lose a
              lost a#1; results lost of 1
            reopen 1
              reopened 1; run again 1/1/0
            show pending
              run 1/1/0@0, release nothing
        "#]],
    );
}

#[test]
fn partitions_that_a_living_executor_can_not_give_are_made_again_elsewhere_or_there() {
    check3(
        "submit 1 hash(1,2)
         complete b 1/0/0 1 epoch=0
         complete a 1/1/0 2 epoch=0
         reopen 1 0:9
         reopen 1 0:2
         complete a 1/1/1 3 epoch=0; complete c 1/1/0 4 epoch=0
         reopen 1 0:2
         reopen 1 0:4 1:7
         reopen 1 1:3
         complete b 1/1/0 5 epoch=0; complete b 1/1/1 6 epoch=0
         show job 1",
        expect![[r#"
            submit 1 hash(1,2)
              submitted 1
            complete b 1/0/0 1 epoch=0
              completed 1/0/0, stage complete
            complete a 1/1/0 2 epoch=0
              completed 1/1/0
            reopen 1 0:9
              unchanged
            reopen 1 0:2
              reopened 1; run again 1/1/0; delete a:1.2
            complete a 1/1/1 3 epoch=0; complete c 1/1/0 4 epoch=0
              completed 1/1/1
              completed 1/1/0, stage complete, job succeeded
            reopen 1 0:2
              unchanged
            reopen 1 0:4 1:7
              reopened 1; run again 1/1/0; delete c:1.4
            reopen 1 1:3
              reopened 1; run again 1/1/1; delete a:1.3
            complete b 1/1/0 5 epoch=0; complete b 1/1/1 6 epoch=0
              completed 1/1/0
              completed 1/1/1, stage complete, job succeeded
            show job 1
              1 succeeded
              stage 0 epoch 0 reruns 0: b:1.1
              stage 1 epoch 0 reruns 3: b:1.5 (OutputLost a:1.2, OutputLost c:1.4) b:1.6 (OutputLost a:1.3)
        "#]],
    );
}

#[test]
fn a_durable_copy_that_can_not_be_read_either_does_not_count() {
    check3(
        "submit 1 one
         complete a 1/0/0 1 epoch=0 durable=yes
         lose a
         reopen 1
         reopen 1 0:1
         complete b 1/0/0 2 epoch=0
         show job 1",
        expect![[r#"
            submit 1 one
              submitted 1
            complete a 1/0/0 1 epoch=0 durable=yes
              completed 1/0/0, stage complete, job succeeded
            lose a
              lost a#1
            reopen 1
              unchanged
            reopen 1 0:1
              reopened 1; run again 1/0/0
            complete b 1/0/0 2 epoch=0
              completed 1/0/0, stage complete, job succeeded
            show job 1
              1 succeeded
              stage 0 epoch 0 reruns 1: b:1.2 (OutputLost a:1.1)
        "#]],
    );
}

#[test]
fn losses_while_it_is_made_again_are_repaired_without_being_asked() {
    check3(
        "submit 1 hash(1,2)
         complete b 1/0/0 1 epoch=0
         complete a 1/1/0 2 epoch=0; complete b 1/1/1 3 epoch=0
         lose a
         reopen 1
         lose b
         show pending
         complete c 1/0/0 4 epoch=0
         complete c 1/1/0 5 epoch=1; complete c 1/1/1 6 epoch=1
         lose c
         show job 1",
        expect![[r#"
            submit 1 hash(1,2)
              submitted 1
            complete b 1/0/0 1 epoch=0
              completed 1/0/0, stage complete
            complete a 1/1/0 2 epoch=0; complete b 1/1/1 3 epoch=0
              completed 1/1/0
              completed 1/1/1, stage complete, job succeeded
            lose a
              lost a#1; results lost of 1
            reopen 1
              reopened 1; run again 1/1/0
            lose b
              lost b#2; run again 1/0/0 1/1/1
            show pending
              run 1/0/0@0, release nothing
            complete c 1/0/0 4 epoch=0
              completed 1/0/0, stage complete
            complete c 1/1/0 5 epoch=1; complete c 1/1/1 6 epoch=1
              completed 1/1/0
              completed 1/1/1, stage complete, job succeeded
            lose c
              lost c#3; results lost of 1
            show job 1
              1 succeeded
              result 0 is lost: it was on executor c, which is lost: power cut
              result 1 is lost: it was on executor c, which is lost: power cut
              stage 0 epoch 0 reruns 1: c:1.4 (OutputLost b:1.1)
              stage 1 epoch 1 reruns 2: c:1.5 (OutputLost a:1.2) c:1.6 (OutputLost b:1.3)
        "#]],
    );
}
