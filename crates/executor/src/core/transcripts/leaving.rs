//! What an executor takes over from others that leave, and its own leaving.

use expect_test::expect;
use polybolos_model::ExecutorId;

use super::{super::*, check};

#[test]
fn an_output_that_is_taken_over_is_told_until_committed_and_then_kept() {
    check(
        1,
        "1 register c 7
         1 pull 1/0/3 1.9 e2 4
         1 pull 1/0/3 1.9 e2 4
         pulled 1.9 ok
         send
         1 pull 1/0/3 1.9 e2 4
         running
         2 register c 7
         send
         2 committed 1
         2 delete 1.9
         2 register c 8",
        expect![[r#"
            > 1 register c 7
            > 1 pull 1/0/3 1.9 e2 4
              pull 1.9
            > 1 pull 1/0/3 1.9 e2 4
            > pulled 1.9 ok
            > send
              #1 1/0/3 1.9 e0: moved from e2#4
            > 1 pull 1/0/3 1.9 e2 4
            > running
            > 2 register c 7
            > send
              #1 1/0/3 1.9 e0: moved from e2#4
            > 2 committed 1
            > 2 delete 1.9
              delete 1.9
            > 2 register c 8
        "#]],
    );
}

#[test]
fn what_is_held_for_another_goes_with_this_life() {
    check(
        1,
        "1 register c 7
         1 pull 1/0/3 1.9 e2 4
         pulled 1.9 ok
         send
         1 committed 1
         1 pull 1/0/4 1.8 e2 4
         1 register c 8
         pulled 1.8 ok
         send",
        expect![[r#"
            > 1 register c 7
            > 1 pull 1/0/3 1.9 e2 4
              pull 1.9
            > pulled 1.9 ok
            > send
              #1 1/0/3 1.9 e0: moved from e2#4
            > 1 committed 1
            > 1 pull 1/0/4 1.8 e2 4
              pull 1.8
            > 1 register c 8
              forget 1.9
            > pulled 1.8 ok
            > send
              #2 1/0/4 1.8 e0: moved from e2#4
        "#]],
    );
}

#[test]
fn an_output_that_does_not_arrive_is_told_and_may_be_asked_for_again() {
    check(
        1,
        "1 register c 7
         1 pull 1/0/3 1.9 e2 4
         pulled 1.9 failed
         send
         1 pull 1/0/3 1.9 e2 4
         pulled 1.9 ok
         send",
        expect![[r#"
            > 1 register c 7
            > 1 pull 1/0/3 1.9 e2 4
              pull 1.9
            > pulled 1.9 failed
              tell that 1.9 was not pulled
            > send
            > 1 pull 1/0/3 1.9 e2 4
              pull 1.9
            > pulled 1.9 ok
            > send
              #1 1/0/3 1.9 e0: moved from e2#4
        "#]],
    );
}

#[test]
fn nobody_wants_it_any_more() {
    check(
        1,
        "1 register c 7
         1 pull 1/0/3 1.9 e2 4
         1 release 1
         pulled 1.9 ok
         1 pull 2/0/3 1.8 e2 4
         1 delete 1.8
         pulled 1.8 failed
         1 pull 3/0/3 1.7 e2 4
         pulled 1.7 ok
         1 release 3
         send
         1 pull 4/0/3 1.6 e2 4
         1 register d 7
         pulled 1.6 ok
         send",
        expect![[r#"
            > 1 register c 7
            > 1 pull 1/0/3 1.9 e2 4
              pull 1.9
            > 1 release 1
              delete job 1
            > pulled 1.9 ok
              forget 1.9
            > 1 pull 2/0/3 1.8 e2 4
              pull 1.8
            > 1 delete 1.8
              delete 1.8
            > pulled 1.8 failed
            > 1 pull 3/0/3 1.7 e2 4
              pull 1.7
            > pulled 1.7 ok
            > 1 release 3
              delete job 3
            > send
            > 1 pull 4/0/3 1.6 e2 4
              pull 1.6
            > 1 register d 7
              delete job 2
              delete job 4
            > pulled 1.6 ok
              forget 1.6
            > send
        "#]],
    );
}

#[test]
fn only_the_present_leader_lets_go() {
    check(
        1,
        "2 register c 7
         2 drain 5000
         2 moved 1 1.9 e3:7
         1 leave
         1 pull 1/0/3 1.9 e2 4
         2 leave",
        expect![[r#"
            > 2 register c 7
            > 2 drain 5000
              drain within 5000 ms
            > 2 moved 1 1.9 e3:7
              note moved 1.9 to e3:7
            > 1 leave
              refused: term 1 is lower than 2
            > 1 pull 1/0/3 1.9 e2 4
              refused: term 1 is lower than 2
            > 2 leave
              leave
        "#]],
    );
}

#[test]
fn no_more_outputs_than_the_bound_are_on_their_way() {
    let mut core = Core::new(1);
    let pull = |core: &mut Core, counter: u64| {
        let command = Command::Pull {
            task: TaskId { job: JobId(1), stage: StageId(0), partition: counter as u32 },
            attempt: AttemptId { term: Term(1), counter },
            from: ExecutorId::new("e2").unwrap(),
            incarnation: Incarnation(4),
        };
        core.on(Event::Command { term: Term(1), command })
    };
    for counter in 0..leaving::MAX_PULLS as u64 {
        assert!(matches!(pull(&mut core, counter)[..], [Effect::Pull(_)]));
    }
    assert!(matches!(pull(&mut core, 1_000)[..], [Effect::TellPullFailed(_)]));
}
