//! Results that are larger than their job allows.

use expect_test::{Expect, expect};
use polybolos_model::{ErrorClass, JobId};
use proptest::prelude::*;

use crate::{
    ClusterState, Command, JobStatus,
    policy::{self, Event, Patience},
    transcript::Lab,
};

/// Each line is what the leader is asked for at once.
fn check(script: &str, expect: Expect) {
    let mut lab = Lab::new();
    lab.run_all(&["replica 1 version=3", "raise 3", "register a", "register b"]);
    let mut out = String::new();
    for line in script.lines().map(str::trim) {
        out += &match line.starts_with("show ") {
            true => lab.tell(line),
            false => format!("{line}\n{}", lab.decide(line)),
        };
    }
    expect.assert_eq(&out);
}

#[test]
fn a_job_fails_in_place_of_the_completion_that_makes_its_result_too_large() {
    check(
        "submit 1 hash(1,4) max_bytes=100
         complete a 1/0/0 1 epoch=0 bytes=5000
         complete a 1/1/0 2 epoch=0 bytes=60; complete b 1/1/1 3 epoch=0 bytes=40
         complete a 1/1/2 4 epoch=0 bytes=1; complete b 1/1/3 5 epoch=0 bytes=1
         show job 1",
        expect![[r#"
            submit 1 hash(1,4) max_bytes=100
              submitted 1
            complete a 1/0/0 1 epoch=0 bytes=5000
              completed 1/0/0, stage complete
            complete a 1/1/0 2 epoch=0 bytes=60; complete b 1/1/1 3 epoch=0 bytes=40
              completed 1/1/0
              completed 1/1/1
            complete a 1/1/2 4 epoch=0 bytes=1; complete b 1/1/3 5 epoch=0 bytes=1
              1 failed
              REJECTED job 0000000000000001 has ended already: failed
            show job 1
              1 failed, released: user error: the result of query 0000000000000001 has more than 100 bytes (polybolos.max_result_bytes): 101 bytes with 3 of its 4 partitions done: ask for fewer rows (LIMIT), write them to files (COPY … TO), or raise the limit or take it off (`SET polybolos.max_result_bytes = 0`)
              stage 0 epoch 0 reruns 0, no plan: a:1.1
              stage 1 epoch 0 reruns 0, no plan: a:1.2 b:1.3 - -
        "#]],
    );
}

#[test]
fn a_result_that_would_be_whole_by_it_is_no_success() {
    check(
        "submit 1 one max_bytes=7
         complete a 1/0/0 1 epoch=0 bytes=8
         submit 2 one max_bytes=8
         complete a 2/0/0 2 epoch=0 bytes=8
         submit 3 one max_bytes=7; complete a 3/0/0 3 epoch=0 bytes=8
         submit 4 one max_bytes=0; complete a 4/0/0 4 epoch=0 bytes=8
         show jobs",
        expect![[r#"
            submit 1 one max_bytes=7
              submitted 1
            complete a 1/0/0 1 epoch=0 bytes=8
              1 failed
            submit 2 one max_bytes=8
              submitted 2
            complete a 2/0/0 2 epoch=0 bytes=8
              completed 2/0/0, stage complete, job succeeded
            submit 3 one max_bytes=7; complete a 3/0/0 3 epoch=0 bytes=8
              submitted 3
              3 failed
            submit 4 one max_bytes=0; complete a 4/0/0 4 epoch=0 bytes=8
              submitted 4
              completed 4/0/0, stage complete, job succeeded
            show jobs
              1 failed, released
              2 succeeded
              3 failed, released
              4 succeeded
        "#]],
    );
}

#[test]
fn what_is_refused_or_taken_back_does_not_count() {
    check(
        "submit 1 hash(1,2) max_bytes=10
         complete a 1/0/0 1 epoch=0
         complete a 1/1/0 2 epoch=0 bytes=8
         complete a 1/1/0 2 epoch=0 bytes=8
         complete b 1/1/0 3 epoch=0 bytes=8
         complete b#9 1/1/1 4 epoch=0 bytes=8
         complete b 1/1/1 5 epoch=0 bytes=8 outputs=2
         lose a; complete b 1/1/1 6 epoch=0 bytes=8
         complete b 1/0/0 7 epoch=0
         complete b 1/1/0 8 epoch=1 bytes=8",
        expect![[r#"
            submit 1 hash(1,2) max_bytes=10
              submitted 1
            complete a 1/0/0 1 epoch=0
              completed 1/0/0, stage complete
            complete a 1/1/0 2 epoch=0 bytes=8
              completed 1/1/0
            complete a 1/1/0 2 epoch=0 bytes=8
              unchanged
            complete b 1/1/0 3 epoch=0 bytes=8
              REJECTED task 0000000000000001/1/0 was completed by attempt 1.2; attempt 1.3 came later
            complete b#9 1/1/1 4 epoch=0 bytes=8
              REJECTED executor b reports as incarnation 9, which is not the present one: it must register anew
            complete b 1/1/1 5 epoch=0 bytes=8 outputs=2
              REJECTED attempt 1.5 of task 0000000000000001/1/1 reports 2 output partitions instead of 1
            lose a; complete b 1/1/1 6 epoch=0 bytes=8
              lost a#1; run again 1/0/0 1/1/0
              completed 1/1/1
            complete b 1/0/0 7 epoch=0
              completed 1/0/0, stage complete
            complete b 1/1/0 8 epoch=1 bytes=8
              1 failed
        "#]],
    );
}

#[test]
fn what_goes_to_files_has_no_limit_and_neither_has_a_result_that_is_made_again() {
    check(
        "write 1 one max_bytes=1
         complete a 1/0/0 1 epoch=0 bytes=8
         submit 2 one max_bytes=8
         complete a 2/0/0 2 epoch=0 bytes=8
         lose a
         reopen 2
         complete b 2/0/0 3 epoch=0 bytes=9
         cancel 2 x; submit 3 hash(1,1) max_bytes=1; cancel 3 x; complete b 3/1/0 4 epoch=0 bytes=9",
        expect![[r#"
            write 1 one max_bytes=1
              submitted 1
            complete a 1/0/0 1 epoch=0 bytes=8
              completed 1/0/0, stage complete
            submit 2 one max_bytes=8
              submitted 2
            complete a 2/0/0 2 epoch=0 bytes=8
              completed 2/0/0, stage complete, job succeeded
            lose a
              lost a#1; results lost of 2
            reopen 2
              reopened 2; run again 2/0/0
            complete b 2/0/0 3 epoch=0 bytes=9
              completed 2/0/0, stage complete, job succeeded
            cancel 2 x; submit 3 hash(1,1) max_bytes=1; cancel 3 x; complete b 3/1/0 4 epoch=0 bytes=9
              REJECTED job 0000000000000002 has ended already: succeeded
              submitted 3
              3 cancelled
              REJECTED job 0000000000000003 has ended already: cancelled
        "#]],
    );
}

#[test]
fn the_user_is_to_blame_and_limits_wait_for_the_version_that_knows_settings() {
    let decide = |lab: &Lab, line: &str| {
        let requests = [Event::Request(lab.parse(line))];
        let entry = policy::decide(&lab.state, &requests, Patience::default(), lab.term, lab.now_ms);
        entry.unwrap().commands.remove(0)
    };
    let mut lab = Lab::new();
    lab.run_all(&["register a", "submit 1 one max_bytes=1"]);
    let completes = "complete a 1/0/0 1";
    assert_eq!(decide(&lab, completes), lab.parse(completes));
    lab.run_all(&["replica 1 version=3", "raise 3"]);
    match decide(&lab, completes) {
        Command::FailJob { job: JobId(1), error } => {
            assert_eq!((error.error.class, error.stage), (ErrorClass::User, None));
        }
        other => panic!("{other:?}"),
    }
}

/// Of what is completed, in the log.
fn result_bytes(state: &ClusterState, job: u64) -> u64 {
    let results = state.job(JobId(job)).unwrap().results();
    results.flat_map(|(_, done)| &done.outputs).map(|output| output.bytes).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// However completions come together, repeated ones among them.
    #[test]
    fn a_job_succeeds_if_its_whole_result_is_within_the_limit_and_else_fails_once_it_is_not(
        bytes in proptest::collection::vec(0..40u64, 1..7),
        order in proptest::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..30),
        limit_bytes in 1..160u64,
    ) {
        let mut lab = Lab::new();
        lab.run_all(&["replica 1 version=3", "raise 3", "register a", "register b"]);
        lab.decide(&format!("submit 1 hash(1,{}) max_bytes={limit_bytes}", bytes.len()));
        lab.decide("complete a 1/0/0 99 epoch=0");
        let mut batch: Vec<String> = Vec::new();
        let all = (0..bytes.len()).map(|partition| (partition, true));
        let drawn = order.iter().map(|(at, ends)| (at.index(bytes.len()), *ends));
        for (counter, (partition, ends)) in drawn.chain(all).enumerate() {
            let who = ["a", "b"][counter % 2];
            batch.push(format!("complete {who} 1/1/{partition} {counter} epoch=0 bytes={}", bytes[partition]));
            if ends {
                lab.decide(&std::mem::take(&mut batch).join(";"));
                prop_assert!(result_bytes(&lab.state, 1) <= limit_bytes);
            }
        }
        let fits = bytes.iter().sum::<u64>() <= limit_bytes;
        let status = lab.state.job(JobId(1)).unwrap().status;
        prop_assert_eq!(status, if fits { JobStatus::Succeeded } else { JobStatus::Failed });
    }
}
