//! Statements at replicas that do not lead, and a leader that dies while they hand theirs on.

use std::time::Duration;

use arrow::{array::AsArray, datatypes::Int64Type};
use futures::future::join_all;
use polybolos::{
    Client,
    client::{Answer, SubmitOptions},
};
use polybolos_env::grpc;
use polybolos_proto::v1::{
    PlanAt, SubmitRequest, SubmitResponse, query_service_client::QueryServiceClient,
    submit_request::Statement,
};
use tokio::time::sleep;

use crate::{
    alone,
    fleet::Fleet,
    probe,
    upgrade::{NEWEST, version_in_use},
};

/// Queries under way at once, and how often, while leaders die.
const QUERIES: i64 = 12;
const ROUNDS: i64 = 4;

/// What the replica itself answers, whoever leads.
async fn submit_at(address: &str, statement: &str) -> SubmitResponse {
    let channel = grpc::connect(&probe::env().net, address).await.unwrap();
    let request = SubmitRequest {
        statement: Some(Statement::Sql(statement.to_owned())),
        plan_at: PlanAt::Any.into(),
        ..SubmitRequest::default()
    };
    QueryServiceClient::new(channel).submit(request).await.unwrap().into_inner()
}

async fn number(client: &Client, sql: &str, options: SubmitOptions) -> i64 {
    let result = client.query_with(sql, options).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    result.batches.iter().map(|batch| batch.column(0).as_primitive::<Int64Type>().value(0)).sum()
}

async fn each_serves() {
    let fleet = Fleet::start(3, 1).await;
    // Before its replicas are known to the state they hand nothing on, and name the leader.
    version_in_use(&fleet, NEWEST).await;
    let leader = fleet.leader().await;
    let addresses: Vec<String> = fleet.schedulers.iter().map(|node| node.address.clone()).collect();
    for (at, address) in addresses.iter().enumerate() {
        // Made at one replica, and read at each at once.
        submit_at(address, &format!("CREATE VIEW v{at} AS SELECT {at} + 40 AS a")).await;
        for other in &addresses {
            let answer = submit_at(other, &format!("SELECT a FROM v{at}")).await;
            let through = if *other == addresses[leader] { "" } else { addresses[leader].as_str() };
            assert_eq!(answer.leader, through, "{answer:?}");
            let client = Client::connect(vec![other.clone()], probe::env()).unwrap();
            let sql = format!("SELECT a FROM v{at}");
            assert_eq!(number(&client, &sql, SubmitOptions::default()).await, at as i64 + 40);
        }
    }
    fleet.agree().await;
}

async fn leaders_die() {
    let mut fleet = Fleet::start(3, 2).await;
    let client = fleet.client();
    for round in 0..ROUNDS {
        let asked = (0..QUERIES).map(|query| {
            let (client, n) = (client.clone(), round * QUERIES + query);
            tokio::spawn(async move {
                sleep(Duration::from_millis(20 * query.unsigned_abs())).await;
                let key = format!("q{n}").parse().unwrap();
                let options = SubmitOptions { key: Some(key), any_replica: true, ..SubmitOptions::default() };
                assert_eq!(number(&client, &format!("SELECT {n} AS n"), options).await, n);
            })
        });
        let asked: Vec<_> = asked.collect();
        sleep(Duration::from_millis(80)).await;
        let at = fleet.leader().await;
        fleet.schedulers[at].kill();
        join_all(asked).await.into_iter().for_each(|answered| answered.unwrap());
        fleet.schedulers[at].start().await;
        fleet.leader().await;
    }
    // Repeated submits have made no second job.
    let jobs = client.jobs().await.unwrap();
    let mut statements: Vec<&str> = jobs.iter().map(|job| job.sql.as_str()).collect();
    let all = statements.len();
    statements.sort_unstable();
    statements.dedup();
    assert_eq!((all, statements.len()), (statements.len(), (QUERIES * ROUNDS) as usize));
    let key = Some("q0".parse().unwrap());
    let again = SubmitOptions { key, any_replica: true, ..SubmitOptions::default() };
    assert!(matches!(client.submit("SELECT 0 AS n", again).await.unwrap(), Answer::Job(_)));
    assert_eq!(client.jobs().await.unwrap().len(), all);
    fleet.agree().await;
}

#[test]
fn every_replica_serves_and_sees_what_another_one_was_told() {
    alone(Duration::from_secs(120), each_serves());
}

#[test]
fn submits_that_followers_hand_on_survive_their_leader() {
    alone(Duration::from_secs(180), leaders_die());
}
