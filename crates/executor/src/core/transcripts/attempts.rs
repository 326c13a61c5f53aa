//! What becomes of attempts, of their outputs and of their stages, under one leader.

use expect_test::expect;

use super::{super::*, check, command, stage};

#[test]
fn slots_are_never_exceeded_and_reports_are_kept_until_committed() {
    check(
        2,
        "1 register c 7
         1 prepare 1/0 e0
         1 launch 1/0 e0 0=1.1 1=1.2 2=1.3
         1 launch 1/0 e0 2=1.3
         end 1.2 ok
         send
         send
         end 1.1 failed
         end 1.3 ok
         send
         1 committed 1 3 99
         1 register c 7
         send
         1 launch 1/0 e0 0=1.1
         1 committed 2
         running",
        expect![[r#"
            > 1 register c 7
            > 1 prepare 1/0 e0
              keep 1/0
            > 1 launch 1/0 e0 0=1.1 1=1.2 2=1.3
              start 1/0/0 1.1
              start 1/0/1 1.2
            > 1 launch 1/0 e0 2=1.3
            > end 1.2 ok
              start 1/0/2 1.3
            > send
              #1 1/0/1 1.2 e0: completed
            > send
            > end 1.1 failed
              delete 1.1
            > end 1.3 ok
            > send
              #2 1/0/0 1.1 e0: user error: boom
              #3 1/0/2 1.3 e0: completed
            > 1 committed 1 3 99
            > 1 register c 7
            > send
              #2 1/0/0 1.1 e0: user error: boom
            > 1 launch 1/0 e0 0=1.1
            > 1 committed 2
            > running
        "#]],
    );
}

#[test]
fn a_cancelled_attempt_holds_its_slot_until_it_has_stopped_and_reports_nothing() {
    check(
        1,
        "1 register c 7
         1 prepare 1/0 e0
         1 launch 1/0 e0 0=1.1 1=1.2 2=1.3
         1 cancel 1.1 1.2
         running
         1 cancel 1.1
         end 1.1 ok
         end 1.3 ok
         send
         running",
        expect![[r#"
            > 1 register c 7
            > 1 prepare 1/0 e0
              keep 1/0
            > 1 launch 1/0 e0 0=1.1 1=1.2 2=1.3
              start 1/0/0 1.1
            > 1 cancel 1.1 1.2
              stop 1.1
            > running
              1/0/2 1.3 e0
            > 1 cancel 1.1
            > end 1.1 ok
              delete 1.1
              start 1/0/2 1.3
            > end 1.3 ok
            > send
              #1 1/0/2 1.3 e0: completed
            > running
              1/0/2 1.3 e0
        "#]],
    );
}

#[test]
fn a_cancel_that_comes_too_late_leaves_the_output_to_its_report() {
    check(
        1,
        "1 register c 7
         1 prepare 1/0 e0
         1 launch 1/0 e0 0=1.1 1=1.2
         end 1.1 ok
         1 cancel 1.1
         send
         1 committed 1
         1 cancel 1.1
         1 delete 1.1
         end 1.2 ok
         1 delete 1.2
         send
         1 launch 1/0 e0 2=1.3
         1 delete 1.3
         end 1.3 ok
         send",
        expect![[r#"
            > 1 register c 7
            > 1 prepare 1/0 e0
              keep 1/0
            > 1 launch 1/0 e0 0=1.1 1=1.2
              start 1/0/0 1.1
            > end 1.1 ok
              start 1/0/1 1.2
            > 1 cancel 1.1
            > send
              #1 1/0/0 1.1 e0: completed
            > 1 committed 1
            > 1 cancel 1.1
            > 1 delete 1.1
              delete 1.1
            > end 1.2 ok
            > 1 delete 1.2
              delete 1.2
            > send
            > 1 launch 1/0 e0 2=1.3
              start 1/0/2 1.3
            > 1 delete 1.3
              stop 1.3
            > end 1.3 ok
              delete 1.3
            > send
        "#]],
    );
}

#[test]
fn a_released_job_leaves_nothing_behind() {
    check(
        1,
        "1 register c 7
         1 prepare 1/0 e0
         1 prepare 1/1 e0
         1 prepare 2/0 e0
         1 launch 1/0 e0 0=1.1 1=1.2
         1 launch 2/0 e0 0=1.3
         end 1.1 ok
         1 release 1
         end 1.2 stopped
         send
         end 1.3 ok
         send
         1 launch 1/0 e0 0=1.4",
        expect![[r#"
            > 1 register c 7
            > 1 prepare 1/0 e0
              keep 1/0
            > 1 prepare 1/1 e0
              keep 1/1
            > 1 prepare 2/0 e0
              keep 2/0
            > 1 launch 1/0 e0 0=1.1 1=1.2
              start 1/0/0 1.1
            > 1 launch 2/0 e0 0=1.3
            > end 1.1 ok
              start 1/0/1 1.2
            > 1 release 1
              stop 1.2
              forget 1/0
              forget 1/1
              delete job 1
            > end 1.2 stopped
              delete 1.2
              start 2/0/0 1.3
            > send
            > end 1.3 ok
            > send
              #2 2/0/0 1.3 e0: completed
            > 1 launch 1/0 e0 0=1.4
        "#]],
    );
}

#[test]
fn a_launch_needs_its_stage_in_its_epoch() {
    check(
        1,
        "1 register c 7
         1 launch 1/0 e0 0=1.1 1=1.2
         1 register c 7
         1 prepare 1/0 e1
         1 prepare 1/0 e0
         1 launch 1/0 e2 0=1.3
         1 launch 1/0 e1 0=1.4
         send",
        expect![[r#"
            > 1 register c 7
            > 1 launch 1/0 e0 0=1.1 1=1.2
            > 1 register c 7
            > 1 prepare 1/0 e1
              keep 1/0
            > 1 prepare 1/0 e0
            > 1 launch 1/0 e2 0=1.3
            > 1 launch 1/0 e1 0=1.4
              start 1/0/0 1.4
            > send
              #1 1/0/0 1.1 e0: retryable error: stage 0 of job 0000000000000001 is not prepared in epoch 0
              #2 1/0/1 1.2 e0: retryable error: stage 0 of job 0000000000000001 is not prepared in epoch 0
              #3 1/0/0 1.3 e2: retryable error: stage 0 of job 0000000000000001 is not prepared in epoch 2
        "#]],
    );
}

#[test]
fn stages_beyond_the_bound_are_forgotten_least_recently_used_first() {
    let most = stages::MAX_STAGE_BYTES;
    check(
        1,
        &format!(
            "1 register c 7
             1 prepare 1/0 e0 100
             1 launch 1/0 e0 0=1.1
             1 prepare 2/0 e0 100
             1 prepare 3/0 e0 100
             1 prepare 2/0 e1 100
             1 prepare 4/0 e0 {}
             1 launch 3/0 e0 0=1.2",
            most - 200
        ),
        expect![[r#"
            > 1 register c 7
            > 1 prepare 1/0 e0 100
              keep 1/0
            > 1 launch 1/0 e0 0=1.1
              start 1/0/0 1.1
            > 1 prepare 2/0 e0 100
              keep 2/0
            > 1 prepare 3/0 e0 100
              keep 3/0
            > 1 prepare 2/0 e1 100
              keep 2/0
            > 1 prepare 4/0 e0 536870712
              keep 4/0
              forget 3/0
            > 1 launch 3/0 e0 0=1.2
              reattach: a launched stage was forgotten for want of room
        "#]],
    );
}

#[test]
fn a_flood_is_refused_beyond_slots_and_backlog() {
    let mut core = Core::new(2);
    let launch = |core: &mut Core, from: u64, count: u64| {
        let tasks =
            (from..from + count).map(|i| (i as u32, AttemptId { term: Term(1), counter: i })).collect();
        core.on(Event::Command {
            term: Term(1),
            command: Command::Launch { stage: stage("1/0"), epoch: 0, tasks },
        })
    };
    core.on(Event::Command { term: Term(1), command: command(&["register", "c", "7"]) });
    core.on(Event::Command { term: Term(1), command: command(&["prepare", "1/0", "e0"]) });
    assert_eq!(launch(&mut core, 0, 2 + MAX_BACKLOG as u64).len(), 2);
    assert_eq!(core.ledger().len(), 0);
    assert_eq!(launch(&mut core, 1_000, 1), []);
    let refused = core.ledger().next_unsent().unwrap();
    assert!(
        matches!(&refused.outcome, Outcome::Failed(error) if error.class == ErrorClass::Resources),
        "{refused:?}"
    );
    assert_eq!(core.busy_slots(), 2);
}
