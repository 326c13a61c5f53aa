//! Executors come, beat, drain, are suspected and lost.

use expect_test::expect;

use super::{Lab, check};
use crate::limits::{MAX_EXECUTORS, MAX_LOST_EXECUTORS};

#[test]
fn the_same_process_keeps_its_incarnation() {
    check(
        "register a
         at 1500
         register a
         register a process=2
         lose a
         register a process=2
         show executors",
        expect![[r#"
            register a
              registered a#1
            at 1500
            register a
              registered a#1
            register a process=2
              registered a#2 in place of a#1
            lose a
              lost a#2
            register a process=2
              registered a#3
            show executors
              a#3 a:1 live, heard 1500
        "#]],
    );
}

#[test]
fn a_restart_at_the_same_address_takes_its_predecessors_place() {
    check(
        "register a
         register b
         submit 1 hash(2,1)
         complete a 1/0/0 1; complete b 1/0/1 2
         register a process=2
         show job 1",
        expect![[r#"
            register a
              registered a#1
            register b
              registered b#2
            submit 1 hash(2,1)
              submitted 1
            complete a 1/0/0 1; complete b 1/0/1 2
              completed 1/0/0
              completed 1/0/1, stage complete
            register a process=2
              registered a#3 in place of a#1; run again 1/0/0
            show job 1
              1 running
              stage 0 epoch 0 reruns 1: - (OutputLost a:1.1) b:1.2
              stage 1 epoch 1 reruns 0: -
        "#]],
    );
}

#[test]
fn an_id_or_address_of_a_live_process_is_refused_until_its_stream_breaks() {
    check(
        "register a
         register a process=2 address=elsewhere:1
         register b address=a:1
         show executors
         suspect a
         register b address=a:1
         suspect b
         register b process=2 address=elsewhere:1
         show executors",
        expect![[r#"
            register a
              registered a#1
            register a process=2 address=elsewhere:1
              REJECTED executor id a is in use by a live process at a:1; give each executor an id of its own
            register b address=a:1
              REJECTED address a:1 is in use by live executor a; give each executor an address of its own
            show executors
              a#1 a:1 live, heard 1000
            suspect a
              suspected a
            register b address=a:1
              registered b#2 in place of a#1
            suspect b
              suspected b
            register b process=2 address=elsewhere:1
              registered b#3 in place of b#2
            show executors
              a#1 a:1 lost, heard 1000, at 1000 for: another process took its place at a:1
              b#3 elsewhere:1 live, heard 1000
        "#]],
    );
}

#[test]
fn a_registration_must_make_sense() {
    check(
        "register a slots=0
         register a address=",
        expect![[r#"
            register a slots=0
              REJECTED executor a offers no slots; it needs at least one
            register a address=
              REJECTED executor a has an address of 0 bytes; between 1 and 256 are allowed
        "#]],
    );
}

#[test]
fn a_draining_executor_stays_and_is_lost_like_any_other() {
    check(
        "register a
         drain a
         drain a
         submit 1 one
         register a
         complete a 1/0/0 1
         lose a
         drain a
         drain nobody
         show executors",
        expect![[r#"
            register a
              registered a#1
            drain a
              draining a
            drain a
              unchanged
            submit 1 one
              submitted 1
            register a
              registered a#1
            complete a 1/0/0 1
              completed 1/0/0, stage complete, job succeeded
            lose a
              lost a#1; results lost of 1
            drain a
              REJECTED executor a is not known: it must register
            drain nobody
              REJECTED executor nobody is not known: it must register
            show executors
              a#1 a:1 lost, heard 1000, at 1000 for: power cut
        "#]],
    );
}

#[test]
fn beats_tell_time_and_clear_suspicion() {
    check(
        "register a
         register b
         at 2000
         suspect a
         suspect a
         suspect a#9
         show executors
         at 3000
         beat a b b#7 c
         lose b
         beat b
         lose b
         show executors",
        expect![[r#"
            register a
              registered a#1
            register b
              registered b#2
            at 2000
            suspect a
              suspected a
            suspect a
              unchanged
            suspect a#9
              REJECTED executor a reports as incarnation 9, which is not the present one: it must register anew
            show executors
              a#1 a:1 live, heard 1000, suspect since 2000
              b#2 b:1 live, heard 1000
            at 3000
            beat a b b#7 c
              2 beats, stale: b, c
            lose b
              lost b#2
            beat b
              0 beats, stale: b
            lose b
              REJECTED executor b reports as incarnation 2, which is not the present one: it must register anew
            show executors
              a#1 a:1 live, heard 3000
              b#2 b:1 lost, heard 3000, at 3000 for: power cut
        "#]],
    );
}

#[test]
fn executors_and_lost_records_are_bounded() {
    let mut lab = Lab::new();
    for n in 0..MAX_EXECUTORS {
        let line = format!("register e{n}");
        let command = super::parse::command(&lab, &line);
        lab.state.apply(&lab.entry(vec![command]));
    }
    assert_eq!(lab.run("register late").trim(), "REJECTED 1000 executors are present; no more are allowed");
    for n in 0..MAX_LOST_EXECUTORS + 5 {
        lab.now_ms += 1;
        lab.run(&format!("lose e{n}"));
    }
    assert_eq!(lab.state.executors().count(), MAX_EXECUTORS - 5);
    assert_eq!(lab.run("lose e0").trim(), "REJECTED executor e0 is not known: it must register");
    assert_eq!(lab.run("register late").trim(), "registered late#1001");
}
