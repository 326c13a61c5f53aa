//! Which tasks went down with an executor, by what the state makes of the commands that say so.

use expect_test::{Expect, expect};
use polybolos_model::Term;

use super::dispatch::{id, with};
use crate::{Command, Dispatcher, transcript::Lab};

/// `a` runs the first task of a job, `b` the second; both are suspected if it is said so.
fn lab(suspects: &[&str]) -> (Lab, Dispatcher) {
    let lines = ["replica 1 version=3", "raise 3", "register a slots=1", "register b slots=1"];
    let lines = [&lines[..], &["submit 1 hash(2,1)"]].concat();
    let (mut lab, mut d) = with(&lines, &["a", "b"]);
    assert_eq!(d.plan(&lab.state, 0).len(), 2);
    suspects.iter().for_each(|name| drop(lab.run(&format!("suspect {name}"))));
    (lab, d)
}

fn check(lab: &Lab, d: &Dispatcher, lines: &[&str], expect: Expect) {
    let commands: Vec<Command> = lines.iter().map(|line| lab.parse(line)).collect();
    let word = |command: Command| {
        let Command::TasksDied { executor, incarnation, tasks } = command else { panic!("{command:?}") };
        let tasks: Vec<String> = tasks.iter().map(|(task, attempt)| format!("{task}@{attempt}")).collect();
        format!("{executor}#{incarnation}: {}\n", tasks.join(" "))
    };
    let words: String = d.deaths(&lab.state, &commands).into_iter().map(word).collect();
    expect.assert_eq(&words);
}

#[test]
fn who_is_lost_or_replaced_has_died() {
    let (lab, d) = lab(&[]);
    check(&lab, &d, &["lose a"], expect![["a#1: 0000000000000001/0/0@1.1\n"]]);
    check(&lab, &d, &["lose a#9"], expect![[""]]);
    check(&lab, &d, &["register a process=2"], expect![["a#1: 0000000000000001/0/0@1.1\n"]]);
    check(&lab, &d, &["register a"], expect![[""]]);
    assert_eq!(Dispatcher::new(Term(2)).deaths(&lab.state, &[lab.parse("lose a")]), []);
}

#[test]
fn a_registration_that_is_refused_is_nobodys_death() {
    let (lab_, d) = lab(&[]);
    check(&lab_, &d, &["register a process=2 slots=0"], expect![[""]]);
    check(&lab_, &d, &["register a process=2 address=elsewhere:1"], expect![[""]]);
    check(&lab_, &d, &["register c process=2 address=b:1"], expect![[""]]);
    // It may take the place of `a`, but not that of `b` at its address.
    let (lab_, d) = lab(&["a"]);
    check(&lab_, &d, &["register a process=2 address=b:1"], expect![[""]]);
    let (lab_, d) = lab(&["a", "b"]);
    check(
        &lab_,
        &d,
        &["register a process=2 address=b:1"],
        expect![[r#"
            a#1: 0000000000000001/0/0@1.1
            b#2: 0000000000000001/0/1@1.2
        "#]],
    );
}

#[test]
fn what_an_entry_says_before_counts() {
    let (lab_, d) = lab(&["a"]);
    // The first one clears the suspicion, so the second is refused.
    let twice = ["register a process=2 address=elsewhere:1", "register a process=3 address=other:1"];
    check(&lab_, &d, &twice, expect![["a#1: 0000000000000001/0/0@1.1\n"]]);
    check(&lab_, &d, &["register a", "register a process=3 address=other:1"], expect![[""]]);
    // One that is asked to leave does not die of it.
    let (mut lab_, mut d) = lab(&[]);
    lab_.run("drain a 60000");
    check(&lab_, &d, &["lose a"], expect![[""]]);
    d.executor_gone(&id("b"));
    check(&lab_, &d, &["lose b"], expect![[""]]);
}
