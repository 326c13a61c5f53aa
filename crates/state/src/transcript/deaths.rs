//! Tasks that ran when executors died: kept apart after two, given up after three.

use expect_test::expect;

use super::check;

#[test]
fn a_poison_task_runs_alone_after_two_deaths_and_fails_its_job_after_three() {
    check(
        "replica 1 version=3
         raise 3
         register a
         register b
         register c
         submit 1 hash(2,1)
         submit 2 one
         died a 1/0/0:1 1/0/1:2 2/0/0:3; lose a
         show alone
         died b 1/0/0:4 2/0/0:5; lose b
         show alone
         complete c 2/0/0 6
         show alone
         died c 1/0/0:7; lose c
         show job 1
         show alone
         show deaths 1/0/0",
        expect![[r#"
            replica 1 version=3
              registered replica 1
            raise 3
              version 3 is in use
            register a
              registered a#1
            register b
              registered b#2
            register c
              registered c#3
            submit 1 hash(2,1)
              submitted 1
            submit 2 one
              submitted 2
            died a 1/0/0:1 1/0/1:2 2/0/0:3; lose a
              deaths counted for 3
              lost a#1
            show alone
              nothing
            died b 1/0/0:4 2/0/0:5; lose b
              deaths counted for 2
              lost b#2
            show alone
              1/0/0, 2/0/0
            complete c 2/0/0 6
              completed 2/0/0, stage complete, job succeeded
            show alone
              1/0/0
            died c 1/0/0:7; lose c
              deaths counted for 1; fail job 1
              lost c#3; results lost of 2
            show job 1
              1 failed, released: internal error: gave up after 3 executors died while they ran task 0000000000000001/0/0 (a, b, c), so that it takes down no more: their logs or the system's say why (out of memory, a crash); give executors more memory, or raise polybolos.max_task_deaths if they were stopped for another reason [stage 0, partition 0, attempt 1.7, executor c]
              stage 0 epoch 0 reruns 0, no plan: - -
              stage 1 epoch 0 reruns 0, no plan: -
            show alone
              nothing
            show deaths 1/0/0
              nothing
        "#]],
    );
}

#[test]
fn a_death_counts_once_and_only_for_what_still_ran() {
    check(
        "replica 1 version=3
         raise 3
         register a
         register b
         submit 1 hash(3,1)
         complete a 1/0/0 1
         fail a 1/0/1 2 retryable
         died a 1/0/0:1 1/0/1:2 1/0/2:3 1/7/0:4 9/0/0:5
         died a 1/0/2:3; lose a
         died a#1 1/0/2:8
         show deaths 1/0/2
         show deaths 1/0/1",
        expect![[r#"
            replica 1 version=3
              registered replica 1
            raise 3
              version 3 is in use
            register a
              registered a#1
            register b
              registered b#2
            submit 1 hash(3,1)
              submitted 1
            complete a 1/0/0 1
              completed 1/0/0
            fail a 1/0/1 2 retryable
              failed 1/0/1, 1 counted
            died a 1/0/0:1 1/0/1:2 1/0/2:3 1/7/0:4 9/0/0:5
              deaths counted for 1
            died a 1/0/2:3; lose a
              unchanged
              lost a#1; run again 1/0/0
            died a#1 1/0/2:8
              unchanged
            show deaths 1/0/2
              a#1
            show deaths 1/0/1
              nothing
        "#]],
    );
}

#[test]
fn an_executor_that_comes_back_had_not_died() {
    check(
        "replica 1 version=3
         raise 3
         register a process=7
         submit 1 one
         died a 1/0/0:1; lose a
         show deaths 1/0/0
         register a process=7
         show deaths 1/0/0
         died a 1/0/0:2; lose a
         register a process=8
         show deaths 1/0/0",
        expect![[r#"
            replica 1 version=3
              registered replica 1
            raise 3
              version 3 is in use
            register a process=7
              registered a#1
            submit 1 one
              submitted 1
            died a 1/0/0:1; lose a
              deaths counted for 1
              lost a#1
            show deaths 1/0/0
              a#1
            register a process=7
              registered a#2
            show deaths 1/0/0
              nothing
            died a 1/0/0:2; lose a
              deaths counted for 1
              lost a#2
            register a process=8
              registered a#3
            show deaths 1/0/0
              a#2
        "#]],
    );
}

#[test]
fn a_job_may_say_how_many_deaths_it_bears_and_a_starved_task_is_named_so() {
    check(
        "replica 1 version=3
         raise 3
         register a
         register b
         submit 1 one deaths=1
         submit 2 one deaths=2
         died a 1/0/0:1; lose a
         fail b 2/0/0 2 resources
         show alone
         register a process=2
         died a 2/0/0:3; lose a
         died b 2/0/0:4; lose b
         show job 1
         show job 2",
        expect![[r#"
            replica 1 version=3
              registered replica 1
            raise 3
              version 3 is in use
            register a
              registered a#1
            register b
              registered b#2
            submit 1 one deaths=1
              submitted 1
            submit 2 one deaths=2
              submitted 2
            died a 1/0/0:1; lose a
              deaths counted for 1; fail job 1
              lost a#1
            fail b 2/0/0 2 resources
              failed 2/0/0, 1 counted
            show alone
              2/0/0
            register a process=2
              registered a#3
            died a 2/0/0:3; lose a
              deaths counted for 1
              lost a#3
            died b 2/0/0:4; lose b
              deaths counted for 1; fail job 2
              lost b#2
            show job 1
              1 failed, released: internal error: gave up after 1 executors died while they ran task 0000000000000001/0/0 (a), so that it takes down no more: their logs or the system's say why (out of memory, a crash); give executors more memory, or raise polybolos.max_task_deaths if they were stopped for another reason [stage 0, partition 0, attempt 1.1, executor a]
              stage 0 epoch 0 reruns 0, no plan: -
            show job 2
              2 failed, released: out of resources: gave up after 2 executors died while they ran task 0000000000000002/0/0 (a, b), so that it takes down no more: their logs or the system's say why (out of memory, a crash); give executors more memory, or raise polybolos.max_task_deaths if they were stopped for another reason [stage 0, partition 0, attempt 1.4, executor b]
              stage 0 epoch 0 reruns 0, no plan: - (Failed b:1.2)
        "#]],
    );
}

#[test]
fn before_version_3_nothing_is_counted() {
    check(
        "register a
         submit 1 one
         fail a 1/0/0 1 resources
         show alone
         died a 1/0/0:2; lose a
         show deaths 1/0/0",
        expect![[r#"
            register a
              registered a#1
            submit 1 one
              submitted 1
            fail a 1/0/0 1 resources
              failed 1/0/0, 1 counted
            show alone
              nothing
            died a 1/0/0:2; lose a
              REJECTED the command needs version 3, and its entry has version 1
              lost a#1
            show deaths 1/0/0
              nothing
        "#]],
    );
}
