//! What a write is to the rest of the cluster: its table, its version, restarts, and how many there may be.

use super::*;

#[test]
fn a_table_is_there_exactly_when_its_files_are() {
    check(
        "replica 1 version=3; raise 3
         register a
         write 1 one table=public.t
         write 2 one table=public.t
         table public.u
         write 3 one table=public.u
         complete a 1/0/0 1 epoch=0; complete a 2/0/0 2 epoch=0
         show relations
         published 1
         show relations
         published 2
         show job 2
         show write 2
         show relations",
        expect![[r#"
            replica 1 version=3; raise 3
              registered replica 1
              version 3 is in use
            register a
              registered a#1
            write 1 one table=public.t
              submitted 1
            write 2 one table=public.t
              submitted 2
            table public.u
              created
            write 3 one table=public.u
              REJECTED table 'public.u' already exists
            complete a 1/0/0 1 epoch=0; complete a 2/0/0 2 epoch=0
              completed 1/0/0, stage complete
              completed 2/0/0, stage complete
            show relations
              table public.u at version 1
            published 1
              1 succeeded
            show relations
              table public.t, table public.u at version 2
            published 2
              2 failed
            show job 2
              2 failed, released: user error: table 'public.t' already exists (it was not so when this statement began)
              stage 0 epoch 0 reruns 0, no plan: a:1.2
            show write 2
              sweeping since 1000, also what is published, 1 rows
            show relations
              table public.t, table public.u at version 2
        "#]],
    );
}

#[test]
fn an_older_version_does_not_write() {
    check(
        "register a
         write 1 one
         swept 1
         show job 1",
        expect![[r#"
            register a
              registered a#1
            write 1 one
              REJECTED the command needs version 3, and its entry has version 1
            swept 1
              REJECTED the command needs version 3, and its entry has version 1
            show job 1
              none
        "#]],
    );
}

#[test]
fn a_restored_cluster_leaves_the_files_of_the_old_one_alone() {
    check(
        "replica 1 version=3; raise 3
         register a
         write 1 one
         write 2 one
         write 3 one
         complete a 2/0/0 1 epoch=0
         cancel 3 enough
         restart 1 by-hand name=beta
         show jobs
         show job 2
         show pending",
        expect![[r#"
            replica 1 version=3; raise 3
              registered replica 1
              version 3 is in use
            register a
              registered a#1
            write 1 one
              submitted 1
            write 2 one
              submitted 2
            write 3 one
              submitted 3
            complete a 2/0/0 1 epoch=0
              completed 2/0/0, stage complete
            cancel 3 enough
              3 cancelled
            restart 1 by-hand name=beta
              restarted
            show jobs
              1 failed, released
              2 failed, released
              3 cancelled, released
            show job 2
              2 failed, released: retryable error: the cluster was restored from a backup while the statement wrote: look at its target before it is run again
              stage 0 epoch 0 reruns 0, no plan: a:1.1
            show pending
              run nothing, release 1, 2, 3
        "#]],
    );
}

#[test]
fn a_forced_recovery_goes_on_writing() {
    check(
        "replica 1 version=3; raise 3
         register a
         write 1 one
         complete a 1/0/0 1 epoch=0
         restart 1 by-hand
         show pending",
        expect![[r#"
            replica 1 version=3; raise 3
              registered replica 1
              version 3 is in use
            register a
              registered a#1
            write 1 one
              submitted 1
            complete a 1/0/0 1 epoch=0
              completed 1/0/0, stage complete
            restart 1 by-hand
              restarted
            show pending
              run nothing, release nothing, publish 1, sweep nothing
        "#]],
    );
}

/// Only its record tells where its files are.
#[test]
fn a_job_is_not_forgotten_before_it_is_swept() {
    let mut lab = Lab::new();
    lab.run_all(&["replica 1 version=3; raise 3", "write 0 one", "cancel 0 x"]);
    for n in 1..=MAX_ENDED_JOBS + 1 {
        lab.run_all(&[&format!("submit {n} one"), &format!("cancel {n} x")]);
    }
    assert_eq!(lab.state.jobs().next().unwrap().id.0, 0);
    assert_eq!(lab.state.jobs().count(), MAX_ENDED_JOBS);
    lab.run_all(&["swept 0", "submit 5000 one", "cancel 5000 x"]);
    assert_ne!(lab.state.jobs().next().unwrap().id.0, 0);
    assert_eq!(lab.state.write(polybolos_model::JobId(0)), None);
}

#[test]
fn writes_that_nobody_sweeps_are_bounded() {
    let mut lab = Lab::new();
    lab.run_all(&["replica 1 version=3; raise 3"]);
    for n in 0..MAX_WRITES {
        assert!(lab.run(&format!("write {n} one")).contains("submitted"));
    }
    assert!(lab.run("write 5000 one").contains("REJECTED 1000 statements write"));
    lab.run_all(&["cancel 7 x"]);
    assert!(lab.run("write 5000 one").contains("REJECTED"));
    lab.run_all(&["swept 7"]);
    assert!(lab.run("write 5000 one").contains("submitted"));
    let job = lab.state.job(polybolos_model::JobId(7)).unwrap();
    assert_eq!((job.status, job.released), (JobStatus::Cancelled, true));
}
