//! The leader falls silent, stops or is another one: the executor finds the next, and loses nothing on the way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use arrow::datatypes::DataType;
use datafusion::{
    error::Result,
    logical_expr::{ColumnarValue, Volatility, create_udf},
};
use polybolos_env::Env;
use polybolos_planner::Extensions;
use polybolos_proto::v1::{CancelTasks, scheduler_message::Message};
use tokio::time::timeout;

use crate::{
    fake::{DEADLINE, FakeScheduler, Session},
    rig::{Query, Rig, TERM, attempt, completed},
};

/// Longer than an executor bears silence from a scheduler that asks for beats as often as the fake one.
const BEYOND_PATIENCE: Duration = Duration::from_millis(2_500);

/// The first of the schedulers that an executor of theirs attaches to.
async fn first<'a>(one: &'a FakeScheduler, two: &'a FakeScheduler) -> (Session, &'a FakeScheduler) {
    tokio::select! {
        biased;
        session = one.next() => (session, two),
        session = two.next() => (session, one),
    }
}

async fn pair() -> (FakeScheduler, Rig) {
    let env = Env::production(2).unwrap();
    let (one, two) = (FakeScheduler::start(&env).await, FakeScheduler::start(&env).await);
    let address = two.address.clone();
    (two, Rig::start_at(env, one, &[&address], Extensions::default()).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_answers_no_heartbeats_is_left_for_another() {
    let (other, rig) = pair().await;
    let (session, next) = first(&rig.scheduler, &other).await;
    session.register(TERM, 1).await;
    next.is_left_alone_for(BEYOND_PATIENCE).await;
    session.fall_silent();
    let mut session = timeout(BEYOND_PATIENCE, next.registered(TERM + 1, 1)).await.expect("not kept waiting");
    session.heartbeat().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_message_is_a_sign_of_life() {
    let (other, rig) = pair().await;
    let (session, next) = first(&rig.scheduler, &other).await;
    session.register(TERM, 1).await;
    session.fall_silent();
    let talk = async {
        loop {
            session.send(TERM, Message::Cancel(CancelTasks { attempts: vec![] })).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        biased;
        () = next.is_left_alone_for(BEYOND_PATIENCE) => {}
        () = talk => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_leader_is_not_asked_again_because_others_still_name_it() {
    let env = Env::production(2).unwrap();
    let silent = FakeScheduler::start(&env).await;
    let address = silent.address.clone();
    let (one, two) = (FakeScheduler::start(&env).await, FakeScheduler::start(&env).await);
    let others = [one.address.clone(), two.address.clone()];
    let rig = Rig::start_at(env, silent, &[&others[0], &others[1]], Extensions::default()).await;
    // Wherever it begins, it comes to the leader.
    let session = loop {
        tokio::select! {
            biased;
            session = rig.scheduler.next() => break session,
            session = one.next() => session.refuse(&address, true).await,
            session = two.next() => session.refuse(&address, true).await,
        }
    };
    session.register(TERM, 1).await;
    session.fall_silent();
    let (session, next) = first(&one, &two).await;
    session.refuse(&address, true).await;
    let follow = async { next.next().await };
    tokio::select! {
        biased;
        _ = follow => {}
        _ = rig.scheduler.next() => panic!("it went back to the silent one first"),
    }
    drop(session);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_replica_does_not_hold_it_for_long() {
    let env = Env::production(2).unwrap();
    // The kernel accepts connections for it, and nobody ever looks at them.
    let (one, two) =
        (env.net.listen("127.0.0.1:0").await.unwrap(), env.net.listen("127.0.0.1:0").await.unwrap());
    let paused = [one.local_addr().unwrap().to_string(), two.local_addr().unwrap().to_string()];
    let scheduler = FakeScheduler::start(&env).await;
    let rig = Rig::start_at(env, scheduler, &[&paused[0], &paused[1]], Extensions::default()).await;
    let limit = Duration::from_millis(2_800);
    timeout(limit, rig.scheduler.registered(TERM, 1)).await.expect("within what the cluster bears");
}

/// A function that holds its task until the gate is open.
fn gated(gate: &Arc<AtomicBool>) -> Extensions {
    let gate = Arc::clone(gate);
    let body = move |args: &[ColumnarValue]| -> Result<ColumnarValue> {
        while !gate.load(Relaxed) {
            std::thread::yield_now();
        }
        Ok(args[0].clone())
    };
    let udf =
        create_udf("gated", vec![DataType::Int64], DataType::Int64, Volatility::Volatile, Arc::new(body));
    Extensions { scalar_udfs: vec![Arc::new(udf)], ..Extensions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_goes_on_without_any_scheduler_and_is_reported_to_the_next_one() {
    let env = Env::production(2).unwrap();
    let gone = FakeScheduler::start(&env).await;
    let (first, second) = (gone.address.clone(), FakeScheduler::start(&env).await);
    let next = second.address.clone();
    drop(second);
    let gate = Arc::new(AtomicBool::new(false));
    let extensions = gated(&gate);
    let rig = Rig::start_at(env, gone, &[&next], extensions.clone()).await;
    let Rig { env, scheduler, executor, work_dir } = rig;
    let mut session = scheduler.registered(TERM, 1).await;
    // One report that nobody acknowledges, and one task that runs on.
    Query::new(1, "SELECT 1 AS one", &Extensions::default()).await.send_first(&session, attempt(1)).await;
    let unacknowledged = session.report().await;
    let slow = Query::new(2, "SELECT gated(x) AS y FROM generate_series(1, 3) t(x)", &extensions).await;
    slow.send_first(&session, attempt(2)).await;
    let mut status = executor.watch();
    timeout(DEADLINE, status.wait_for(|status| status.busy_slots == 1)).await.unwrap().unwrap();

    drop((session, scheduler));
    timeout(DEADLINE, status.wait_for(|status| status.incarnation.is_none())).await.unwrap().unwrap();
    // A first new leader finds it running, and is not to launch either again …
    let scheduler = FakeScheduler::start_on(&env, &next).await;
    let mut session = scheduler.registered(TERM + 1, 1).await;
    let running: Vec<_> = session.register.running.iter().map(|task| task.attempt).collect();
    assert_eq!(running, [Some(attempt(1)), Some(attempt(2))]);
    assert_eq!(session.report().await, unacknowledged);
    // … and is gone as well when it completes.
    drop((session, scheduler));
    timeout(DEADLINE, status.wait_for(|status| status.incarnation.is_none())).await.unwrap().unwrap();
    gate.store(true, Relaxed);
    timeout(DEADLINE, status.wait_for(|status| status.busy_slots == 0)).await.unwrap().unwrap();
    let scheduler = FakeScheduler::start_on(&env, &first).await;
    let mut session = scheduler.registered(TERM + 2, 1).await;
    assert_eq!(session.register.running.len(), 2);
    let mut reports = session.reports().await;
    while reports.len() < 2 {
        reports.extend(session.reports().await);
    }
    assert_eq!(reports[0], unacknowledged);
    assert_eq!((reports[1].attempt, completed(&reports[1]).outputs[0].rows), (Some(attempt(2)), 3));
    executor.shutdown().await;
    drop(work_dir);
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_tell_how_many_commands_were_refused() {
    let rig = Rig::start().await;
    let mut session = rig.scheduler.registered(TERM, 1).await;
    assert_eq!(session.heartbeat().await.refused_commands, 0);
    session.send(TERM - 1, Message::Cancel(CancelTasks { attempts: vec![] })).await;
    rig.wait(|status| status.refused_commands == 1).await;
    while session.heartbeat().await.refused_commands == 0 {}
}
