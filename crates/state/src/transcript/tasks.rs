//! Completions and failures of tasks.

use expect_test::expect;

use super::check;

#[test]
fn the_first_completion_wins_and_its_repetition_is_harmless() {
    check(
        "register a
         register b
         submit 1 hash(2,1)
         complete a 1/0/0 1
         complete b 1/0/0 2
         complete a 1/0/0 1
         fail b 1/0/0 3 user
         show job 1",
        expect![[r#"
            register a
              registered a#1
            register b
              registered b#2
            submit 1 hash(2,1)
              submitted 1
            complete a 1/0/0 1
              completed 1/0/0
            complete b 1/0/0 2
              REJECTED task 0000000000000001/0/0 was completed by attempt 1.1; attempt 1.2 came later
            complete a 1/0/0 1
              unchanged
            fail b 1/0/0 3 user
              REJECTED task 0000000000000001/0/0 was completed by attempt 1.1; attempt 1.3 came later
            show job 1
              1 running
              stage 0 epoch 0 reruns 0: a:1.1 -
              stage 1 epoch 0 reruns 0: -
        "#]],
    );
}

#[test]
fn a_completion_must_fit_its_stage() {
    check(
        "register a
         submit 1 hash(2,3)
         complete a 1/0/0 1 outputs=2
         complete a 1/0/2 1
         complete a 1/5/0 1
         show job 1",
        expect![[r#"
            register a
              registered a#1
            submit 1 hash(2,3)
              submitted 1
            complete a 1/0/0 1 outputs=2
              REJECTED attempt 1.1 of task 0000000000000001/0/0 reports 2 output partitions instead of 3
            complete a 1/0/2 1
              REJECTED job 0000000000000001 has no stage 0 with partition 2
            complete a 1/5/0 1
              REJECTED job 0000000000000001 has no stage 5 with partition 0
            show job 1
              1 queued
              stage 0 epoch 0 reruns 0: - -
              stage 1 epoch 0 reruns 0: - - -
        "#]],
    );
}

#[test]
fn reports_of_another_life_are_refused() {
    check(
        "register a
         submit 1 hash(2,1)
         register a process=2
         complete a#1 1/0/0 1
         fail a#1 1/0/0 1 user
         complete nobody 1/0/0 1
         lose a
         complete a#2 1/0/0 1
         show job 1",
        expect![[r#"
            register a
              registered a#1
            submit 1 hash(2,1)
              submitted 1
            register a process=2
              registered a#2 in place of a#1
            complete a#1 1/0/0 1
              REJECTED executor a reports as incarnation 1, which is not the present one: it must register anew
            fail a#1 1/0/0 1 user
              REJECTED executor a reports as incarnation 1, which is not the present one: it must register anew
            complete nobody 1/0/0 1
              REJECTED executor nobody is not known: it must register
            lose a
              lost a#2
            complete a#2 1/0/0 1
              REJECTED executor a reports as incarnation 2, which is not the present one: it must register anew
            show job 1
              1 queued
              stage 0 epoch 0 reruns 0: - -
              stage 1 epoch 0 reruns 0: -
        "#]],
    );
}

#[test]
fn a_user_error_fails_the_job_at_once_and_says_where() {
    check(
        "register a
         submit 1 hash(2,1)
         fail a 1/0/1 7 user
         show job 1
         fail a 1/0/0 8 user
         submit 2 one
         fail a 2/0/0 9 internal
         show job 2",
        expect![[r#"
            register a
              registered a#1
            submit 1 hash(2,1)
              submitted 1
            fail a 1/0/1 7 user
              failed 1/0/1, 1 counted; fail job 1
            show job 1
              1 failed, released: user error: boom [stage 0, partition 1, attempt 1.7, executor a]
              stage 0 epoch 0 reruns 0, no plan: - - (Failed a:1.7)
              stage 1 epoch 0 reruns 0, no plan: -
            fail a 1/0/0 8 user
              REJECTED job 0000000000000001 has ended already: failed
            submit 2 one
              submitted 2
            fail a 2/0/0 9 internal
              failed 2/0/0, 1 counted; fail job 2
            show job 2
              2 failed, released: internal error: boom [stage 0, partition 0, attempt 1.9, executor a]
              stage 0 epoch 0 reruns 0, no plan: - (Failed a:1.9)
        "#]],
    );
}

#[test]
fn retryable_errors_count_up_to_the_limit() {
    check(
        "register a
         register b
         submit 1 hash(2,1)
         fail a 1/0/0 1 retryable
         fail a 1/0/0 1 retryable
         fail b 1/0/0 2 resources
         complete a 1/0/0 1
         fail a 1/0/1 3 retryable
         fail a 1/0/0 4 retryable
         show job 1
         fail b 1/0/0 5 retryable
         show job 1",
        expect![[r#"
            register a
              registered a#1
            register b
              registered b#2
            submit 1 hash(2,1)
              submitted 1
            fail a 1/0/0 1 retryable
              failed 1/0/0, 1 counted
            fail a 1/0/0 1 retryable
              unchanged
            fail b 1/0/0 2 resources
              failed 1/0/0, 2 counted
            complete a 1/0/0 1
              REJECTED attempt 1.1 of task 0000000000000001/0/0 is over: it failed, or its output was given up
            fail a 1/0/1 3 retryable
              failed 1/0/1, 1 counted
            fail a 1/0/0 4 retryable
              failed 1/0/0, 3 counted
            show job 1
              1 running
              stage 0 epoch 0 reruns 0: - (Failed a:1.1, Failed b:1.2, Failed a:1.4) - (Failed a:1.3)
              stage 1 epoch 0 reruns 0: -
            fail b 1/0/0 5 retryable
              failed 1/0/0, 4 counted; fail job 1
            show job 1
              1 failed, released: retryable error: gave up after 4 failed attempts; the last: boom [stage 0, partition 0, attempt 1.5, executor b]
              stage 0 epoch 0 reruns 0, no plan: - (Failed a:1.1, Failed b:1.2, Failed a:1.4, Failed b:1.5) - (Failed a:1.3)
              stage 1 epoch 0 reruns 0, no plan: -
        "#]],
    );
}
