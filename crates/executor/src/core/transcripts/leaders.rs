//! Deposed leaders, stalled logs, reconnects, new lives and other clusters.

use expect_test::expect;

use super::{super::*, check, command};

#[test]
fn a_deposed_leader_is_refused() {
    check(
        1,
        "2 register c 7
         2 prepare 1/0 e0
         1 launch 1/0 e0 0=1.1
         1 release 1
         1 register c 8
         2 launch 1/0 e0 0=2.1
         3 cancel 2.1
         2 launch 1/0 e0 0=2.2",
        expect![[r#"
            > 2 register c 7
            > 2 prepare 1/0 e0
              keep 1/0
            > 1 launch 1/0 e0 0=1.1
              refused: term 1 is lower than 2
            > 1 release 1
              refused: term 1 is lower than 2
            > 1 register c 8
              refused: term 1 is lower than 2
            > 2 launch 1/0 e0 0=2.1
              start 1/0/0 2.1
            > 3 cancel 2.1
              stop 2.1
            > 2 launch 1/0 e0 0=2.2
              refused: term 2 is lower than 3
        "#]],
    );
}

#[test]
fn what_another_executor_was_to_send_is_not_waited_for_once_it_is_lost() {
    check(
        1,
        "2 register c 7
         1 lost h:1
         2 lost h:1",
        expect![[r#"
            > 2 register c 7
            > 1 lost h:1
              refused: term 1 is lower than 2
            > 2 lost h:1
              stop reading from h:1
        "#]],
    );
}

#[test]
fn a_reconnect_in_the_same_life_offers_what_runs_and_repeats_what_is_not_acknowledged() {
    check(
        1,
        "1 register c 7
         1 prepare 1/0 e0
         1 launch 1/0 e0 0=1.1 1=1.2 2=1.3
         end 1.1 ok
         send
         running
         2 register c 7
         2 cancel 1.1
         send
         2 prepare 1/0 e0
         2 committed 1
         running
         end 1.2 ok
         send",
        expect![[r#"
            > 1 register c 7
            > 1 prepare 1/0 e0
              keep 1/0
            > 1 launch 1/0 e0 0=1.1 1=1.2 2=1.3
              start 1/0/0 1.1
            > end 1.1 ok
              start 1/0/1 1.2
            > send
              #1 1/0/0 1.1 e0: completed
            > running
              1/0/0 1.1 e0
              1/0/1 1.2 e0
              1/0/2 1.3 e0
            > 2 register c 7
            > 2 cancel 1.1
            > send
              #1 1/0/0 1.1 e0: completed
            > 2 prepare 1/0 e0
              keep 1/0
            > 2 committed 1
            > running
              1/0/1 1.2 e0
              1/0/2 1.3 e0
            > end 1.2 ok
              start 1/0/2 1.3
            > send
              #2 1/0/1 1.2 e0: completed
        "#]],
    );
}

#[test]
fn a_new_life_keeps_its_attempts_and_reports_and_drops_the_outputs_of_the_last() {
    check(
        1,
        "1 register c 7
         1 prepare 1/0 e0
         1 launch 1/0 e0 0=1.1 1=1.2 2=1.3
         end 1.1 ok
         send
         1 committed 1
         end 1.2 ok
         send
         2 register c 8
         running
         send
         end 1.3 ok
         send
         2 committed 2 3
         2 register c 8
         send",
        expect![[r#"
            > 1 register c 7
            > 1 prepare 1/0 e0
              keep 1/0
            > 1 launch 1/0 e0 0=1.1 1=1.2 2=1.3
              start 1/0/0 1.1
            > end 1.1 ok
              start 1/0/1 1.2
            > send
              #1 1/0/0 1.1 e0: completed
            > 1 committed 1
            > end 1.2 ok
              start 1/0/2 1.3
            > send
              #2 1/0/1 1.2 e0: completed
            > 2 register c 8
              forget 1.1
            > running
              1/0/1 1.2 e0
              1/0/2 1.3 e0
            > send
              #2 1/0/1 1.2 e0: completed
            > end 1.3 ok
            > send
              #3 1/0/2 1.3 e0: completed
            > 2 committed 2 3
            > 2 register c 8
            > send
        "#]],
    );
}

#[test]
fn another_cluster_begins_empty_and_with_terms_of_its_own() {
    check(
        1,
        "7 register c 3
         7 prepare 1/0 e0
         7 launch 1/0 e0 0=7.1 1=7.2
         end 7.1 ok
         1 register other 1
         running
         end 7.2 ok
         send
         1 prepare 3/0 e0",
        expect![[r#"
            > 7 register c 3
            > 7 prepare 1/0 e0
              keep 1/0
            > 7 launch 1/0 e0 0=7.1 1=7.2
              start 1/0/0 7.1
            > end 7.1 ok
              start 1/0/1 7.2
            > 1 register other 1
              stop 7.2
              forget 1/0
              delete job 1
            > running
            > end 7.2 ok
              delete 7.2
            > send
            > 1 prepare 3/0 e0
              keep 3/0
        "#]],
    );
}

#[test]
fn nothing_starts_while_the_log_is_stalled() {
    let mut core = Core::new(1);
    core.on(Event::Command { term: Term(1), command: command(&["register", "c", "7"]) });
    core.on(Event::Command { term: Term(1), command: command(&["prepare", "1/0", "e0"]) });
    for counter in 0..MAX_UNACKNOWLEDGED as u64 {
        let id = AttemptId { term: Term(1), counter };
        let task = format!("0={id}");
        let effects =
            core.on(Event::Command { term: Term(1), command: command(&["launch", "1/0", "e0", &task]) });
        assert!(matches!(effects[..], [Effect::Start { .. }]), "{counter}: {effects:?}");
        core.on(Event::Ended { attempt: id, ended: Ended::Stopped });
    }
    let next = command(&["launch", "1/0", "e0", "0=2.1"]);
    assert_eq!(core.on(Event::Command { term: Term(1), command: next }), []);
    let effects = core.on(Event::Command { term: Term(1), command: command(&["committed", "1"]) });
    assert!(matches!(effects[..], [Effect::Start { .. }]), "{effects:?}");
}
