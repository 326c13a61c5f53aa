//! The story of a job: what is told of losses, failures, refusals and leaders.

use expect_test::expect;
use polybolos_model::JobId;

use super::{Lab, check};
use crate::{
    StoryEvent,
    limits::{MAX_STORIES, MAX_STORY_ELECTIONS, MAX_STORY_LINES},
};

#[test]
fn losses_failures_refusals_and_leaders_are_told() {
    check(
        "replica 1 version=3; raise 3
         register a
         register b
         submit 1 hash(2,2)
         submit 2 one
         complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0
         at 1500
         fail b 1/1/0 3 resources
         at 2000
         died a 1/1/1:4; lose a
         term 2
         at 3000
         complete b 1/0/0 5 epoch=0
         complete b 1/0/0 6 epoch=0
         show story 1
         show story 2",
        expect![[r#"
            replica 1 version=3; raise 3
              registered replica 1
              version 3 is in use
            register a
              registered a#1
            register b
              registered b#2
            submit 1 hash(2,2)
              submitted 1
            submit 2 one
              submitted 2
            complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0
              completed 1/0/0
              completed 1/0/1, stage complete
            at 1500
            fail b 1/1/0 3 resources
              failed 1/1/0, 1 counted
            at 2000
            died a 1/1/1:4; lose a
              deaths counted for 1
              lost a#1; run again 1/0/0
            term 2
            at 3000
            complete b 1/0/0 5 epoch=0
              completed 1/0/0, stage complete
            complete b 1/0/0 6 epoch=0
              REJECTED task 0000000000000001/0/0 was completed by attempt 2.5; attempt 2.6 came later
            show story 1
              1500 task 1/0 failed, attempt 1.3 on b: out of resources: boom
              2000 executor a (incarnation 1) died while it ran 1/1
              2000 executor a (incarnation 1) is lost, 1000 ms after its last heartbeat: power cut
              2000 task 0 of stage 0 runs again (0.000 s and 0 bytes of work): executor a is lost: power cut
              3000 a scheduler began to lead, in term 2, 1000 ms after the last entry before
              3000 a report on task 0/0, attempt 2.6 on b, was refused: task 0000000000000001/0/0 was completed by attempt 2.5; attempt 2.6 came later
            show story 2
              2000 executor a (incarnation 1) is lost, 1000 ms after its last heartbeat: power cut
              3000 a scheduler began to lead, in term 2, 1000 ms after the last entry before
        "#]],
    );
}

#[test]
fn who_was_asked_to_leave_and_left_is_told_once() {
    check(
        "replica 1 version=3; raise 3
         register a
         register b
         submit 1 chain(2,1)
         complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0
         at 2000
         drain a 60000
         drain a 500
         moved b 1/0/0 1 a
         at 2500
         left a
         drain b 1000
         at 3500
         left b
         show story 1",
        expect![[r#"
            replica 1 version=3; raise 3
              registered replica 1
              version 3 is in use
            register a
              registered a#1
            register b
              registered b#2
            submit 1 chain(2,1)
              submitted 1
            complete a 1/0/0 1 epoch=0; complete b 1/0/1 2 epoch=0
              completed 1/0/0
              completed 1/0/1, stage complete
            at 2000
            drain a 60000
              draining a
            drain a 500
              draining a
            moved b 1/0/0 1 a
              moved 1/0/0
            at 2500
            left a
              left a#1
            drain b 1000
              draining b
            at 3500
            left b
              left b#2; run again 1/0/0 1/0/1
            show story 1
              2000 executor a (incarnation 1) was asked to leave within 60.000 s
              2500 executor a (incarnation 1) has left and had handed over 1 output of all queries: it was drained
              2500 executor b (incarnation 2) was asked to leave within 1.000 s
              3500 executor b (incarnation 2) has left and had handed over 0 outputs of all queries: it was drained
              3500 tasks 0 and 1 of stage 0 run again (0.000 s and 0 bytes of work): executor b has left: it was drained
        "#]],
    );
}

#[test]
fn nothing_is_told_before_version_3() {
    let mut lab = Lab::new();
    lab.run_all(&[
        "replica 1 version=2",
        "raise 2",
        "register a",
        "submit 1 one",
        "fail a 1/0/0 1 retryable",
    ]);
    assert_eq!(lab.state.story(JobId(1)), (&[][..], 0));
}

#[test]
fn stories_are_bounded() {
    let mut lab = Lab::new();
    lab.run_all(&["replica 1 version=3", "raise 3", "register a", "submit 1 one"]);
    for counter in 0..MAX_STORY_LINES + 3 {
        lab.run(&format!("complete a#9 1/0/0 {} epoch=0", counter + 1));
    }
    let (lines, left_out) = lab.state.story(JobId(1));
    assert_eq!((lines.len(), left_out), (MAX_STORY_LINES, 3));
    assert_eq!(lab.state.toll(JobId(1)).refused_reports, MAX_STORY_LINES as u64 + 3);
    for job in 2..MAX_STORIES + 2 {
        lab.run(&format!("submit {job} one"));
        lab.run(&format!("fail a {job}/0/0 {} retryable", 10_000 + job));
    }
    assert_eq!(lab.state.story(JobId(1)), (&[][..], 0));
    assert_eq!(lab.state.story(JobId(2)).0.len(), 1);
}

#[test]
fn sums_count_what_has_no_line() {
    let mut lab = Lab::new();
    lab.run_all(&["replica 1 version=3", "raise 3", "register a", "register b", "submit 1 hash(2,2)"]);
    for counter in 0..MAX_STORY_LINES {
        lab.run(&format!("complete a#9 1/0/0 {} epoch=0", counter + 1));
    }
    lab.run_all(&[
        "complete a 1/0/0 1000 epoch=0",
        "fail b 1/0/1 1001 retryable",
        "lose a",
        "term 2",
        "beat b",
    ]);
    let (lines, left_out) = lab.state.story(JobId(1));
    assert_eq!((lines.len(), left_out), (MAX_STORY_LINES, 4));
    let toll = lab.state.toll(JobId(1));
    assert_eq!((toll.refused_reports, toll.failed_attempts), (MAX_STORY_LINES as u64, 1));
    assert_eq!((toll.executors_lost, toll.elections, toll.lost_tasks), (1, 1, 1));
}

#[test]
fn elections_leave_room_for_what_they_did() {
    let mut lab = Lab::new();
    lab.run_all(&["replica 1 version=3", "raise 3", "register a", "submit 1 one"]);
    let elections = MAX_STORY_LINES + 7;
    for term in 2..elections + 2 {
        lab.run_all(&[&format!("term {term}"), "beat a"]);
    }
    lab.run("lose a");
    let (lines, left_out) = lab.state.story(JobId(1));
    assert_eq!((lines.len(), left_out), (MAX_STORY_ELECTIONS + 1, 0));
    assert_eq!(lab.state.toll(JobId(1)).elections, elections as u64);
    expect!["a scheduler began to lead, in term 21, 0 ms after the last entry before; and 187 times more later, the last time in term 208"]
        .assert_eq(&lines[MAX_STORY_ELECTIONS - 1].event.to_string());
    assert!(matches!(lines[MAX_STORY_ELECTIONS].event, StoryEvent::ExecutorLost { .. }));
}
