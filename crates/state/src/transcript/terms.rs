//! Terms and versions fence whole entries.

use expect_test::expect;

use super::{Lab, check};
use crate::{Command, ENTRY_VERSION, Entry, FIRST_VERSION, Rejection};

#[test]
fn an_entry_of_an_older_term_changes_nothing() {
    check(
        "register a
         show term
         term 3
         at 2000
         submit 1 one
         show term
         at 1500
         submit 2 one
         show term
         term 2
         at 9000
         submit 3 one; cancel 1 no
         show term
         show jobs",
        expect![[r#"
            register a
              registered a#1
            show term
              1 since 1000 at 1000
            term 3
            at 2000
            submit 1 one
              submitted 1
            show term
              3 since 2000 at 2000
            at 1500
            submit 2 one
              submitted 2
            show term
              3 since 2000 at 2000
            term 2
            at 9000
            submit 3 one; cancel 1 no
              REJECTED the entry was decided in term 2, and term 3 has begun
              REJECTED the entry was decided in term 2, and term 3 has begun
            show term
              3 since 2000 at 2000
            show jobs
              1 queued
              2 queued
        "#]],
    );
}

#[test]
fn an_entry_of_a_newer_version_changes_nothing() {
    let mut lab = Lab::new();
    let hash = lab.state.hash();
    let entry = Entry::new(ENTRY_VERSION + 1, lab.term, 5, vec![Command::ExpireJobs]);
    let applied = lab.state.apply(&entry);
    assert_eq!(applied.outcomes, [Err(Rejection::UnknownVersion { version: ENTRY_VERSION + 1 })]);
    assert_eq!(lab.state.hash(), hash);
}

#[test]
fn an_entry_of_a_version_that_is_not_in_use_changes_nothing() {
    let mut lab = Lab::new();
    let hash = lab.state.hash();
    let applied = lab.state.apply(&Entry::new(2, lab.term, 5, vec![Command::ExpireJobs]));
    assert_eq!(applied.outcomes, [Err(Rejection::VersionNotInUse { entry: 2, in_use: 1 })]);
    assert_eq!(lab.state.hash(), hash);
}

#[test]
fn an_entry_that_was_decided_before_the_version_was_raised_still_counts() {
    let mut lab = Lab::new();
    lab.run_all(&["replica 1", "raise 2"]);
    let command = lab.parse("submit 1 one");
    let applied = lab.state.apply(&Entry::new(FIRST_VERSION, lab.term, 5, vec![command]));
    assert!(applied.outcomes[0].is_ok());
}
