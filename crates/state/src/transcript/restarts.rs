//! Restores and forced recoveries: what the cluster forgets, and what is written down.

use expect_test::expect;
use polybolos_model::ReplicaId;

use super::{Lab, check};
use crate::{
    Command,
    limits::{MAX_HISTORY, MAX_NOTE_BYTES},
};

#[test]
fn a_restore_makes_another_cluster_without_the_old_ones_replicas_and_executors() {
    check(
        "replica 1 folder=11
         replica 2 folder=22
         retire 3
         register a
         register b
         submit 1 hash(2,1)
         complete a 1/0/0 1; complete b 1/0/1 2
         submit 2 one
         complete a 2/0/0 3
         at 2000
         restart 3 restored-from-a-backup name=beta
         show cluster
         show executors
         show pending
         show job 2
         replica 3 folder=33
         replica 1 folder=99
         register a",
        expect![[r#"
            replica 1 folder=11
              registered replica 1
            replica 2 folder=22
              registered replica 2
            retire 3
              retired replica 3
            register a
              registered a#1
            register b
              registered b#2
            submit 1 hash(2,1)
              submitted 1
            complete a 1/0/0 1; complete b 1/0/1 2
              completed 1/0/0
              completed 1/0/1, stage complete
            submit 2 one
              submitted 2
            complete a 2/0/0 3
              completed 2/0/0, stage complete, job succeeded
            at 2000
            restart 3 restored-from-a-backup name=beta
              restarted; run again 1/0/0 1/0/1; results lost of 2
            show cluster
              'beta' at version 1: nothing
              at 2000: restored-from-a-backup
            show executors
              a#1 a:1 lost, heard 1000, at 2000 for: the cluster was restored from a backup
              b#2 b:1 lost, heard 1000, at 2000 for: the cluster was restored from a backup
            show pending
              run 1/0/0@0, 1/0/1@0, release nothing
            show job 2
              2 succeeded
              result 0 is lost: it was on executor a, which is lost: the cluster was restored from a backup
              stage 0 epoch 0 reruns 0, no plan: a:1.3
            replica 3 folder=33
              registered replica 3
            replica 1 folder=99
              registered replica 1
            register a
              registered a#3
        "#]],
    );
}

#[test]
fn a_forced_recovery_keeps_the_cluster_and_retires_the_other_replicas() {
    check(
        "replica 1 folder=11
         replica 2 folder=22
         replica 3 folder=33
         register a
         at 2000
         restart 2 lost-1-and-3
         restart 2 the-same-name-is-no-new-one name=test
         show cluster
         show executors
         replica 1 folder=11
         replica 2 folder=22
         replica 4 folder=44",
        expect![[r#"
            replica 1 folder=11
              registered replica 1
            replica 2 folder=22
              registered replica 2
            replica 3 folder=33
              registered replica 3
            register a
              registered a#1
            at 2000
            restart 2 lost-1-and-3
              restarted
            restart 2 the-same-name-is-no-new-one name=test
              restarted
            show cluster
              'test' at version 1: 2 in folder 22 up to version 2
              at 2000: lost-1-and-3
              at 2000: the-same-name-is-no-new-one
            show executors
              a#1 a:1 live, heard 1000
            replica 1 folder=11
              REJECTED replica 1 was removed, and its id is never used again: choose another one
            replica 2 folder=22
              unchanged
            replica 4 folder=44
              registered replica 4
        "#]],
    );
}

#[test]
fn history_and_its_notes_are_bounded() {
    let mut lab = Lab::new();
    for at in 0..=MAX_HISTORY {
        lab.run_all(&[&format!("at {}", 5_000 + at), &format!("restart 1 note-{at}")]);
    }
    let notes: Vec<&str> = lab.state.history().map(|(_, note)| note.as_str()).collect();
    assert_eq!((notes.len(), notes[0]), (MAX_HISTORY, "note-1"));
    // A character of three bytes stands across the limit.
    let note = format!("{}€uro", "x".repeat(MAX_NOTE_BYTES - 1));
    lab.apply(vec![Command::RestartCluster { cluster_id: None, replica: ReplicaId(1), note }]);
    let (at_ms, last) = lab.state.history().last().unwrap();
    assert_eq!((*at_ms, last.len()), (5_000 + u64::try_from(MAX_HISTORY).unwrap(), MAX_NOTE_BYTES - 1));
    let bad = Command::RestartCluster {
        cluster_id: Some(String::new()),
        replica: ReplicaId(1),
        note: String::new(),
    };
    expect!["a cluster's name has 0 bytes; between 1 and 128 are allowed"]
        .assert_eq(&lab.apply(vec![bad]).outcomes[0].clone().unwrap_err().to_string());
}
