//! Jobs whose time is over.

use expect_test::{Expect, expect};
use polybolos_model::{ErrorClass, JobId, Term};

use crate::{
    Command,
    policy::{self, Event, Patience, overruns},
    transcript::Lab,
};

/// Runs the lines from 1000 ms on; `tick MS` is what the leader decides then, which is applied.
fn check(script: &str, expect: Expect) {
    let mut lab = Lab::new();
    lab.run_all(&["replica 1 version=3", "raise 3", "register a"]);
    let mut out = String::new();
    for line in script.lines().map(str::trim) {
        out += &match line.strip_prefix("tick ") {
            Some(at) => tick(&mut lab, line, at.parse().unwrap()),
            None => lab.tell(line),
        };
    }
    expect.assert_eq(&out);
}

fn tick(lab: &mut Lab, line: &str, at_ms: u64) -> String {
    lab.now_ms = at_ms;
    let mut out = format!("{line}\n");
    for command in overruns(&lab.state, at_ms) {
        let Command::FailJob { job, error } = &command else { panic!("{command:?}") };
        assert_eq!(error.error.class, ErrorClass::Resources);
        out += &format!("  {}: {error}\n", job.0);
        assert!(lab.apply(vec![command]).outcomes[0].is_ok());
    }
    out
}

#[test]
fn a_job_that_takes_longer_than_it_may_is_stopped_and_told_so() {
    check(
        "submit 1 hash(2,1) max_run_ms=5000
         submit 2 one max_run_ms=0
         submit 3 one
         at 2000
         submit 4 one max_run_ms=4500
         complete a 1/0/0 1 epoch=0
         tick 5999
         tick 6250
         tick 9000
         show job 1",
        expect![[r#"
            submit 1 hash(2,1) max_run_ms=5000
              submitted 1
            submit 2 one max_run_ms=0
              submitted 2
            submit 3 one
              submitted 3
            at 2000
            submit 4 one max_run_ms=4500
              submitted 4
            complete a 1/0/0 1 epoch=0
              completed 1/0/0
            tick 5999
            tick 6250
              1: out of resources: query 0000000000000001 has not ended within 5000 ms of its submit (polybolos.max_run_ms), and was stopped after 5250 ms with 1 of 3 tasks done: raise the limit or take it off (`SET polybolos.max_run_ms = 0`), let it come before others (`SET polybolos.priority = high`), or ask for less
            tick 9000
              4: out of resources: query 0000000000000004 has not ended within 4500 ms of its submit (polybolos.max_run_ms), and was stopped after 7000 ms with 0 of 1 tasks done: raise the limit or take it off (`SET polybolos.max_run_ms = 0`), let it come before others (`SET polybolos.priority = high`), or ask for less
            show job 1
              1 failed, released: out of resources: query 0000000000000001 has not ended within 5000 ms of its submit (polybolos.max_run_ms), and was stopped after 5250 ms with 1 of 3 tasks done: raise the limit or take it off (`SET polybolos.max_run_ms = 0`), let it come before others (`SET polybolos.priority = high`), or ask for less
              stage 0 epoch 0 reruns 0, no plan: a:1.1 -
              stage 1 epoch 0 reruns 0, no plan: -
        "#]],
    );
}

#[test]
fn who_has_ended_or_publishes_or_is_made_again_has_all_time() {
    check(
        "submit 1 one max_run_ms=100
         complete a 1/0/0 1 epoch=0
         submit 2 one max_run_ms=100
         cancel 2 enough
         write 3 one max_run_ms=100
         complete a 3/0/0 2 epoch=0
         write 4 one max_run_ms=100
         register b
         lose a
         reopen 1
         tick 2000
         published 3
         complete b 1/0/0 3 epoch=0",
        expect![[r#"
            submit 1 one max_run_ms=100
              submitted 1
            complete a 1/0/0 1 epoch=0
              completed 1/0/0, stage complete, job succeeded
            submit 2 one max_run_ms=100
              submitted 2
            cancel 2 enough
              2 cancelled
            write 3 one max_run_ms=100
              submitted 3
            complete a 3/0/0 2 epoch=0
              completed 3/0/0, stage complete
            write 4 one max_run_ms=100
              submitted 4
            register b
              registered b#2
            lose a
              lost a#1; results lost of 1
            reopen 1
              reopened 1; run again 1/0/0
            tick 2000
              4: out of resources: query 0000000000000004 has not ended within 100 ms of its submit (polybolos.max_run_ms), and was stopped after 1000 ms with 0 of 1 tasks done: raise the limit or take it off (`SET polybolos.max_run_ms = 0`), let it come before others (`SET polybolos.priority = high`), or ask for less
            published 3
              3 succeeded
            complete b 1/0/0 3 epoch=0
              completed 1/0/0, stage complete, job succeeded
        "#]],
    );
}

#[test]
fn limits_are_no_matter_of_silence_and_wait_for_the_version_that_knows_settings() {
    let mut lab = Lab::new();
    lab.run_all(&["register a", "submit 1 one max_run_ms=1"]);
    assert_eq!(overruns(&lab.state, 9_000), []);
    lab.run_all(&["replica 1 version=3", "raise 3"]);
    let found = overruns(&lab.state, 9_000);
    assert!(matches!(found.as_slice(), [Command::FailJob { job: JobId(1), .. }]), "{found:?}");
    assert_eq!(overruns(&lab.state, 1_000), [], "its time is over after 1 ms");
    assert_eq!(overruns(&lab.state, 0), [], "a clock that went back");
    // The leader asks for itself what is over: a tick of `decide` is for whoever is silent.
    let entry = policy::decide(&lab.state, &[Event::Tick], Patience::default(), Term(1), 1_500);
    assert_eq!(entry, None);
}

#[test]
fn many_are_stopped_a_thousand_at_a_time() {
    let mut lab = Lab::new();
    lab.run_all(&["replica 1 version=3", "raise 3"]);
    let submits = (1..=1_500).map(|job| lab.parse(&format!("submit {job} one max_run_ms=10"))).collect();
    lab.state.apply(&lab.entry(submits));
    lab.now_ms = 1_010;
    for left in [500, 0] {
        let commands = overruns(&lab.state, lab.now_ms);
        lab.state.apply(&lab.entry(commands));
        assert_eq!(lab.state.active_job_count(), left);
    }
}
