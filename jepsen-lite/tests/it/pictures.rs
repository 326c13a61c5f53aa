//! How violations are shown.

use crate::common::judge;
use expect_test::{Expect, expect};
use jepsen_lite::{Model, Operation};

fn shows(model: Model, operations: &str, expected: &Expect) {
    expected.assert_eq(&judge(model, operations).text());
}

#[test]
fn a_stale_read() {
    shows(
        Model::Register,
        "0 1000..2000 write x 1
         1 1500..4000 read x → 1
         0 3000..5000 write x 2
         3 2500..? write x 9
         1 6000..7500 read x → 2
         2 8000..9000 read x → 1",
        &expect![[r#"
            invalid: 6 operations of 4 processes on 1 key, 1 without a known end, 0 failed
              linearizable      invalid  6 operations judged, 1 violation
              monotonic-reads   valid    3 operations judged
              read-your-writes  valid    3 operations judged

            linearizable · key x
              read → 1 by process 2 can't be explained by any order of these operations

              line  process    from    took  operation
                 8        1    0 ns  1.5 µs  read → 2   ├──┤
                10        2  2.0 µs  1.0 µs  read → 1         ├──┤  ✗

              Whatever came before: these contradict each other from any state.
              The order that comes furthest:
                 1  read → 2 by process 1
              Then the value is 2, and next had to come read → 1 by process 2.
        "#]],
    );
}

#[test]
fn a_value_from_nowhere() {
    shows(
        Model::Register,
        "0 0..5000000 write x 1\n1 1000000..2000000 read x → 3",
        &expect![[r#"
            invalid: 2 operations of 2 processes on 1 key, 0 without a known end, 0 failed
              linearizable      invalid  2 operations judged, 1 violation
              monotonic-reads   valid    1 operation judged
              read-your-writes  valid    1 operation judged

            linearizable · key x
              read → 3 by process 1 can't be: no order of these operations explains it

              line  process  from    took  operation
                 2        1  0 ns  1.0 ms  read → 3   ├──┤  ✗

              None of them can come first: the value is null.
        "#]],
    );
}

#[test]
fn two_jobs_of_one_key() {
    shows(
        Model::Job,
        r#"3 0..? submit k {"expect":"9f3a"}
           0 20000000..31000000 submit k {"expect":"9f3a"} → {"job":"00a1"}
           1 25000000..36000000 submit k {"expect":"9f3a"} → {"job":"00a2"}
           1 40000000..41000000 status k → {"status":"running","job":"00a2"}"#,
        &expect![[r#"
            invalid: 4 operations of 3 processes on 1 key, 1 without a known end, 0 failed
              linearizable             invalid  4 operations judged, 1 violation
              exactly-once-completion  valid    nothing to judge
              idempotent-submit        invalid  3 operations judged, 2 violations
              durable-acknowledgement  valid    3 operations judged
              monotonic-status         valid    1 operation judged
              read-your-writes         valid    1 operation judged
              answers                  valid    nothing to judge

            linearizable · key k
              submit expect 9f3a → job 00a2 by process 1 can't be explained by any order of these operations

              line  process    from     took  operation
                 2        0    0 ns  11.0 ms  submit expect 9f3a → job 00a1  ├─────┤
                 3        1  5.0 ms  11.0 ms  submit expect 9f3a → job 00a2     ├─────┤  ✗

              The order that comes furthest:
                 1  submit expect 9f3a → job 00a1 by process 0
              Then job 00a1 is queued, and next had to come submit expect 9f3a → job 00a2 by process 1.

            idempotent-submit · key k
              key k has two jobs, 00a1 and 00a2

              line  process    from     took  operation
                 2        0    0 ns  11.0 ms  submit expect 9f3a → job 00a1  ├─────┤
                 3        1  5.0 ms  11.0 ms  submit expect 9f3a → job 00a2     ├─────┤

            idempotent-submit · key k
              key k has two jobs, 00a1 and 00a2

              line  process     from     took  operation
                 2        0     0 ns  11.0 ms  submit expect 9f3a → job 00a1      ├──┤
                 6        1  20.0 ms   1.0 ms  status → job 00a2, status running        ├──┤
        "#]],
    );
}

#[test]
fn a_job_that_is_lost() {
    shows(
        Model::Job,
        r#"0 0..9000 submit k → {"job":"00a1"}
           1 20000..31000 status k → {"status":"unknown"}
           2 20000..31000 submit other → {"job":"00a3"}"#,
        &expect![[r#"
            invalid: 3 operations of 3 processes on 2 keys, 0 without a known end, 0 failed
              linearizable             invalid  3 operations judged, 1 violation
              exactly-once-completion  valid    nothing to judge
              idempotent-submit        valid    2 operations judged
              durable-acknowledgement  invalid  3 operations judged, 1 violation
              monotonic-status         valid    nothing to judge
              read-your-writes         valid    1 operation judged
              answers                  valid    nothing to judge

            linearizable · key k
              status → unknown by process 1 can't be explained by any order of these operations

              line  process     from     took  operation
                 1        0     0 ns   9.0 µs  submit → job 00a1  ├──┤
                 3        1  20.0 µs  11.0 µs  status → unknown         ├──┤  ✗

              The order that comes furthest:
                 1  submit → job 00a1 by process 0
              Then job 00a1 is queued, and next had to come status → unknown by process 1.

            durable-acknowledgement · key k
              key k was acknowledged and is unknown later

              line  process     from     took  operation
                 1        0     0 ns   9.0 µs  submit → job 00a1  ├──┤
                 3        1  20.0 µs  11.0 µs  status → unknown         ├──┤
        "#]],
    );
}

#[test]
fn rows_that_are_there_twice() {
    shows(
        Model::Rows,
        r#"0 0..9 insert t {"statement":"a","rows":100}
           1 5..? insert t {"statement":"b","rows":100}
           0 20..30 scan t → {"a":[200,100],"b":[100,100]}"#,
        &expect![[r#"
            invalid: 3 operations of 2 processes on 1 key, 1 without a known end, 0 failed
              rows-once  invalid  3 operations judged, 1 violation

            rows-once · key t
              100 rows of statement a are there twice

              line  process   from   took  operation
                 1        0   0 ns   9 ns  insert rows 100, statement a     ├──┤
                 4        0  20 ns  10 ns  scan → a [200,100], b [100,100]        ├──┤
        "#]],
    );
}

#[test]
fn everything_as_it_should_be() {
    shows(
        Model::Register,
        "0 0..9 write x 1\n1 5..? write x 2",
        &expect![[r#"
            valid: 2 operations of 2 processes on 1 key, 1 without a known end, 0 failed
              linearizable      valid    2 operations judged
              monotonic-reads   valid    nothing to judge
              read-your-writes  valid    nothing to judge
        "#]],
    );
}

#[test]
fn a_page_needs_nothing_else_and_trusts_nothing() {
    let page = judge(
        Model::Register,
        r#"0 0..9 write x "<script>alert('1')</script>"
           2 20..29 write x 2
           1 30..39 read x → "<script>alert('1')</script>"
           3 0..9 read y → "\u0007&\"</title>""#,
    )
    .html();
    for (there, what) in [
        ("<svg ", true),
        ("&lt;script&gt;", true),
        ("<script", false),
        ("http", false),
        ("url(", false),
        ("@import", false),
        (" src=", false),
        ("</title></text>", false),
        ("\u{7}", false),
    ] {
        assert_eq!(page.contains(there), what, "{there}");
    }
    for tag in ["svg", "section", "table", "details", "div", "g", "title", "ol", "p", "span", "style", "body"]
    {
        let opened = page.matches(&format!("<{tag} ")).count() + page.matches(&format!("<{tag}>")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

/// Not every history can be made short; then what can't be explained is shown, and what came just before.
#[test]
fn of_a_long_window_the_end_is_shown() {
    let mut report = judge(Model::Register, "0 0..5 write x 1\n1 10..20 read x → 1\n2 30..40 read x → 2");
    let violation = &mut report.checks[0].violations[0];
    let last = violation.window.last().expect("an operation").clone();
    violation.window = (1..=300)
        .map(|line| Operation {
            line,
            start_ns: line as u64 * 100,
            end_ns: Some(line as u64 * 100 + 50),
            ..last.clone()
        })
        .collect();
    (violation.linearized, violation.stuck) = ((0..299).collect(), vec![299]);
    let text = report.text();
    for shown in [
        "  260 more before\n",
        "\n   261        2    0 ns  50 ns  read → 2",
        "… 259 more\n   260  read → 2",
        "  ✗\n",
    ] {
        assert!(text.contains(shown), "{shown:?} in {text}");
    }
    let page = report.html();
    assert!(
        page.contains("<p>240 more before</p>")
            && page.contains("op stuck")
            && page.contains("<ol start=\"260\">")
    );
}
