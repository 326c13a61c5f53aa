//! The cluster is named, its replicas come and go for good, and versions rise.

use expect_test::expect;
use polybolos_model::ReplicaId;

use super::{Lab, check};
use crate::{
    ClusterState, Command, ENTRY_VERSION, Entry,
    limits::{MAX_CLUSTER_ID_BYTES, MAX_LOST_EXECUTORS, MAX_REPLICAS, MAX_RETIRED_REPLICAS},
};

#[test]
fn a_cluster_is_named_once() {
    let mut lab = Lab { state: ClusterState::default(), ..Lab::new() };
    assert_eq!((lab.state.cluster_id(), lab.state.version()), ("", 1));
    let long = "x".repeat(MAX_CLUSTER_ID_BYTES + 1);
    let mut out = String::new();
    for line in ["found alpha", "found alpha", "found beta", "show cluster"] {
        out += &lab.tell(line);
    }
    for cluster_id in [String::new(), long] {
        let applied = lab.apply(vec![Command::FoundCluster { cluster_id }]);
        out += &format!("{}\n", applied.outcomes[0].clone().unwrap_err());
    }
    expect![[r#"
        found alpha
          founded
        found alpha
          unchanged
        found beta
          REJECTED the cluster has a name already: alpha
        show cluster
          'alpha' at version 1: nothing
        a cluster's name has 0 bytes; between 1 and 128 are allowed
        a cluster's name has 129 bytes; between 1 and 128 are allowed
    "#]]
    .assert_eq(&out);
}

#[test]
fn a_replica_keeps_its_folder_and_tells_what_it_can_apply() {
    check(
        "replica 1 folder=11 version=1
         replica 2 folder=22 version=2
         replica 1 folder=11 version=1
         replica 1 folder=11 version=2
         replica 1 folder=99 version=2
         replica 1 folder=11 version=0
         show cluster",
        expect![[r#"
            replica 1 folder=11 version=1
              registered replica 1
            replica 2 folder=22 version=2
              registered replica 2
            replica 1 folder=11 version=1
              unchanged
            replica 1 folder=11 version=2
              registered replica 1
            replica 1 folder=99 version=2
              REJECTED replica 1 is bound to another data folder: start it with that folder or, if that is lost, remove it and add a replica with a new id
            replica 1 folder=11 version=0
              REJECTED replica 1 knows entries up to version 0, and version 1 is in use: upgrade it
            show cluster
              'test' at version 1: 1 in folder 11 up to version 2, 2 in folder 22 up to version 2
        "#]],
    );
}

#[test]
fn a_retired_id_never_comes_back() {
    check(
        "replica 1
         replica 2
         retire 2
         retire 2
         replica 2
         replica 2 folder=99
         retire 3
         replica 3
         replica 4
         show cluster",
        expect![[r#"
            replica 1
              registered replica 1
            replica 2
              registered replica 2
            retire 2
              retired replica 2
            retire 2
              unchanged
            replica 2
              REJECTED replica 2 was removed, and its id is never used again: choose another one
            replica 2 folder=99
              REJECTED replica 2 was removed, and its id is never used again: choose another one
            retire 3
              retired replica 3
            replica 3
              REJECTED replica 3 was removed, and its id is never used again: choose another one
            replica 4
              registered replica 4
            show cluster
              'test' at version 1: 1 in folder 7 up to version 2, 4 in folder 7 up to version 2
        "#]],
    );
}

#[test]
fn retired_ids_that_are_forgotten_one_by_one_stay_retired() {
    let mut lab = Lab::new();
    lab.run("replica 2");
    let last = 10 + u64::try_from(MAX_RETIRED_REPLICAS).unwrap();
    for id in 10..=last {
        lab.run(&format!("retire {id}"));
    }
    let is_retired = |lab: &Lab, id| lab.state.is_retired(ReplicaId(id));
    assert!((10..=last).all(|id| is_retired(&lab, id)));
    assert!(is_retired(&lab, 1), "nobody can tell whether it was used");
    assert!(!is_retired(&lab, 2) && !is_retired(&lab, last + 1));
    assert_eq!(lab.run("replica 2 version=3"), "  registered replica 2\n");
    assert_eq!(lab.run("retire 2"), "  retired replica 2\n");
    assert!(is_retired(&lab, 2));
}

#[test]
fn no_more_replicas_register_than_are_allowed() {
    let mut lab = Lab::new();
    for id in 0..MAX_REPLICAS {
        assert_eq!(lab.run(&format!("replica {id}")), format!("  registered replica {id}\n"));
    }
    expect![[r#"
        replica 64
          REJECTED 64 replicas are registered; no more are allowed: remove some
    "#]]
    .assert_eq(&lab.tell(&format!("replica {MAX_REPLICAS}")));
    lab.run("retire 0");
    assert_eq!(lab.run(&format!("replica {MAX_REPLICAS}")), format!("  registered replica {MAX_REPLICAS}\n"));
}

#[test]
fn the_version_rises_when_every_replica_knows_it_and_not_before() {
    check(
        "raise 2
         replica 1 version=1
         replica 2 version=2
         raise 2
         raise 1
         replica 1 version=2
         raise 3
         raise 2; refused a=1
         raise 2
         raise 1
         replica 1 version=1
         replica 3 version=1
         show cluster",
        expect![[r#"
            raise 2
              REJECTED version 2 can't come into use: no replica has said which versions it knows
            replica 1 version=1
              registered replica 1
            replica 2 version=2
              registered replica 2
            raise 2
              REJECTED version 2 can't come into use: replica 1 knows up to version 1
            raise 1
              unchanged
            replica 1 version=2
              registered replica 1
            raise 3
              REJECTED version 3 can't come into use: replica 1 knows up to version 2
            raise 2; refused a=1
              version 2 is in use
              REJECTED the command needs version 2, and its entry has version 1
            raise 2
              unchanged
            raise 1
              unchanged
            replica 1 version=1
              REJECTED replica 1 knows entries up to version 1, and version 2 is in use: upgrade it
            replica 3 version=1
              REJECTED replica 3 knows entries up to version 1, and version 2 is in use: upgrade it
            show cluster
              'test' at version 2: 1 in folder 7 up to version 2, 2 in folder 7 up to version 2
        "#]],
    );
}

/// Replicas of different programs must not differ over an entry that the older one does not know: it follows, and
/// then stops.
#[test]
fn a_version_beyond_this_program_comes_into_use_and_nothing_after_it() {
    let mut lab = Lab::new();
    let newer = ENTRY_VERSION + 1;
    lab.run_all(&[&format!("replica 1 version={newer}"), &format!("raise {newer}")]);
    assert_eq!(lab.state.version(), newer);
    let outcome = lab.state.apply(&lab.entry(vec![Command::ExpireJobs])).outcomes.remove(0);
    expect!["the entry has version 5, and this replica knows up to 4: upgrade it"]
        .assert_eq(&outcome.unwrap_err().to_string());
    expect!["a snapshot needs version 5, and this program knows versions up to 4: upgrade it"]
        .assert_eq(&ClusterState::decode(&lab.state.encode().unwrap()).unwrap_err().to_string());
}

#[test]
fn refused_commands_are_counted_from_version_2_on() {
    check(
        "register a
         register b
         replica 1
         refused a=3
         raise 2
         refused a=3 b=0 z=5
         refused a=3
         refused a=4 b=1
         refused b=0
         show refused a
         show refused b
         lose a
         show refused a
         register a
         show refused a",
        expect![[r#"
            register a
              registered a#1
            register b
              registered b#2
            replica 1
              registered replica 1
            refused a=3
              REJECTED the command needs version 2, and its entry has version 1
            raise 2
              version 2 is in use
            refused a=3 b=0 z=5
              counted for 1
            refused a=3
              unchanged
            refused a=4 b=1
              counted for 2
            refused b=0
              counted for 1
            show refused a
              4
            show refused b
              0
            lose a
              lost a#1
            show refused a
              4
            register a
              registered a#3
            show refused a
              0
        "#]],
    );
}

#[test]
fn the_count_of_an_executor_is_forgotten_with_it() {
    let mut lab = Lab::new();
    lab.run_all(&["replica 1", "raise 2"]);
    for n in 0..=MAX_LOST_EXECUTORS {
        lab.run_all(&[&format!("register x{n}"), &format!("refused x{n}=5"), &format!("at {}", 2_000 + n)]);
        lab.run(&format!("lose x{n}"));
    }
    assert_eq!(lab.run("show refused x0") + &lab.run("show refused x1"), "  0\n  5\n");
}

#[test]
fn a_command_needs_its_version_even_in_the_entry_that_raises_it() {
    let mut lab = Lab::new();
    lab.run_all(&["register a", "replica 1"]);
    let commands = vec![lab.parse("raise 2"), lab.parse("refused a=1")];
    let applied = lab.state.apply(&Entry::new(1, lab.term, lab.now_ms, commands));
    assert!(applied.outcomes[0].is_ok() && applied.outcomes[1].is_err(), "{applied:?}");
    assert_eq!(lab.run("refused a=1"), "  counted for 1\n");
}
