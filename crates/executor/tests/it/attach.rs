//! Starting, registering, fencing, reconnecting.

use std::time::Duration;

use polybolos_env::Env;
use polybolos_executor::{Executor, ExecutorConfig, ExecutorFailure, StartError};
use polybolos_model::Incarnation;
use polybolos_planner::Extensions;
use polybolos_proto::v1::{CancelTasks, scheduler_message::Message};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::{
    fake::{DEADLINE, FakeScheduler},
    rig::{Query, Rig, TERM, attempt, completed, config},
};

#[tokio::test(flavor = "multi_thread")]
async fn it_registers_with_what_it_offers_and_beats() {
    let rig = Rig::start().await;
    let mut session = rig.scheduler.next().await;
    assert_eq!(session.register.executor_id, "executor-1");
    assert_eq!(session.register.address, rig.executor.address());
    assert_eq!((session.register.slots, session.register.running.len()), (2, 0));
    session.register(TERM, 9).await;
    assert_eq!(session.heartbeat().await.incarnation, 9);
    assert_eq!(session.heartbeat().await.running_tasks, 0);
    rig.wait(|status| status.incarnation == Some(Incarnation(9))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_cannot_be_used_is_named() {
    let env = Env::production(1).unwrap();
    let work_dir = TempDir::new().unwrap();
    let start = |config: ExecutorConfig| Executor::start(config, env.clone(), Extensions::default());
    let base = config(&["127.0.0.1:1"], &work_dir);

    let taken = env.net.listen("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = start(ExecutorConfig { listen: address.clone(), ..base.clone() }).await.unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&address) && text.contains("another port"), "{text}");

    let error = start(ExecutorConfig { listen: "0.0.0.0:0".to_owned(), ..base.clone() }).await.unwrap_err();
    assert!(matches!(error, StartError::Advertise { .. }), "{error:?}");
    let error = start(ExecutorConfig { slots: 0, ..base.clone() }).await.unwrap_err();
    assert!(matches!(error, StartError::Config(_)), "{error:?}");

    let file = work_dir.path().join("a-file");
    env.disk.create(&file).await.unwrap().finish(false).await.unwrap();
    let error = start(ExecutorConfig { work_dir: file.clone(), ..base.clone() }).await.unwrap_err();
    assert!(error.to_string().contains("a-file"), "{error}");

    let advertised = ExecutorConfig {
        listen: "0.0.0.0:0".to_owned(),
        advertise: Some("localhost:0".to_owned()),
        ..base.clone()
    };
    let handle = start(advertised).await.unwrap();
    let port = handle.address().strip_prefix("localhost:").unwrap().parse::<u16>().unwrap();
    assert_ne!(port, 0);
    handle.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_process_left_behind_is_deleted_once_registered() {
    let env = Env::production(1).unwrap();
    let scheduler = FakeScheduler::start(&env).await;
    let work_dir = TempDir::new().unwrap();
    let left = work_dir.path().join("executor-1/00000000000000ff/spill");
    env.disk.create_dir_all(&left).await.unwrap();
    let config = config(&[&scheduler.address], &work_dir);
    let executor = Executor::start(config, env.clone(), Extensions::default()).await.unwrap();
    let session = scheduler.next().await;
    assert!(env.disk.list(&left).await.is_ok(), "its owner may still live");
    session.register(TERM, 1).await;
    timeout(DEADLINE, async { while env.disk.list(&left).await.is_ok() {} }).await.unwrap();
    executor.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_leads_to_the_leader() {
    let env = Env::production(1).unwrap();
    let (follower, leader) = (FakeScheduler::start(&env).await, FakeScheduler::start(&env).await);
    let work_dir = TempDir::new().unwrap();
    let config = config(&[&follower.address], &work_dir);
    let executor = Executor::start(config, env, Extensions::default()).await.unwrap();
    follower.next().await.refuse(&leader.address, true).await;
    let mut session = leader.registered(TERM, 1).await;
    session.heartbeat().await;
    executor.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_final_refusal_is_reported_and_a_passing_one_is_not() {
    let rig = Rig::start().await;
    rig.scheduler.next().await.refuse("", true).await;
    let again = rig.scheduler.next().await;
    assert_eq!(rig.executor.status().failure, None);
    again.refuse("", false).await;
    let failure = timeout(DEADLINE, rig.executor.failed()).await.unwrap();
    assert!(matches!(failure, ExecutorFailure::Refused { .. }), "{failure:?}");
    assert!(failure.to_string().contains("the test says so"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_a_scheduler_that_comes_later() {
    let env = Env::production(1).unwrap();
    let gone = FakeScheduler::start(&env).await;
    let address = gone.address.clone();
    drop(gone);
    let work_dir = TempDir::new().unwrap();
    let config = config(&["127.0.0.1:1", &address], &work_dir);
    let executor = Executor::start(config, env.clone(), Extensions::default()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    let scheduler = FakeScheduler::start_on(&env, &address).await;
    scheduler.registered(TERM, 1).await.heartbeat().await;
    executor.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_a_lower_term_are_refused() {
    let rig = Rig::start().await;
    let mut session = rig.scheduler.registered(TERM, 1).await;
    let query = Query::new(1, "SELECT 1", &Extensions::default()).await;
    session.send(TERM, Message::Prepare(query.prepare(0, vec![]))).await;
    session.send(TERM - 1, Message::Launch(query.launch(0, &[(0, attempt(1))]))).await;
    rig.wait(|status| status.refused_commands == 1).await;
    session.send(TERM, Message::Launch(query.launch(0, &[(0, attempt(2))]))).await;
    assert_eq!(session.report().await.attempt, Some(attempt(2)));

    drop(session);
    // A deposed leader's welcome is refused too, and the executor looks on.
    rig.scheduler.registered(TERM - 1, 1).await;
    rig.wait(|status| status.refused_commands == 2).await;
    let mut session = rig.scheduler.registered(TERM + 1, 1).await;
    assert_eq!(session.report().await.attempt, Some(attempt(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_sent_on_every_stream_until_it_is_acknowledged() {
    let rig = Rig::start().await;
    let mut session = rig.scheduler.registered(TERM, 1).await;
    let process_id = session.register.process_id;
    Query::new(1, "SELECT 1", &Extensions::default()).await.send_first(&session, attempt(1)).await;
    let first = session.report().await;
    completed(&first);

    drop(session);
    let mut session = rig.scheduler.registered(TERM + 1, 1).await;
    assert_eq!(session.register.process_id, process_id);
    let offered: Vec<_> = session.register.running.iter().map(|running| running.attempt).collect();
    assert_eq!(offered, [first.attempt], "it has ended, and must not be launched again");
    assert_eq!(session.report().await, first);
    session.commit(TERM + 1, vec![first.sequence]).await;
    // The commit is processed before the next command.
    session.send(TERM + 1, Message::Cancel(CancelTasks { attempts: vec![] })).await;
    session.heartbeat().await;
    tokio::time::sleep(Duration::from_millis(100)).await;

    drop(session);
    let mut session = rig.scheduler.registered(TERM + 1, 1).await;
    assert_eq!(session.register.running, []);
    for _ in 0..3 {
        // A report would make this panic.
        session.heartbeat().await;
    }
    assert_eq!(rig.fetch(&first, 0).await.unwrap()[0].num_rows(), 1, "the output outlives the streams");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_life_keeps_what_runs_and_drops_the_outputs_of_the_last() {
    let rig = Rig::start().await;
    let mut session = rig.scheduler.registered(TERM, 1).await;
    Query::new(1, "SELECT 1", &Extensions::default()).await.send_first(&session, attempt(1)).await;
    let report = session.report().await;
    session.commit(TERM, vec![report.sequence]).await;
    let endless = "SELECT max(x) AS n FROM generate_series(1, 1000000000000) a(x)";
    Query::new(2, endless, &Extensions::default()).await.send_first(&session, attempt(2)).await;
    rig.wait(|status| status.busy_slots == 1).await;
    assert!(rig.fetch(&report, 0).await.is_ok());

    drop(session);
    let mut session = rig.scheduler.registered(TERM, 2).await;
    let offered: Vec<_> = session.register.running.iter().map(|running| running.attempt).collect();
    assert_eq!(offered, [Some(attempt(2))]);
    let beat = session.heartbeat().await;
    assert_eq!((beat.incarnation, beat.running_tasks), (2, 1));
    assert!(rig.fetch(&report, 0).await.is_err(), "the output is gone");
}
