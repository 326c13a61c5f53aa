//! The example programs, compiled and run.

use expect_test::expect;

#[allow(dead_code, reason = "its `main`")]
#[path = "../../examples/custom_functions.rs"]
mod custom_functions;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn custom_functions_and_tables_run_on_the_nodes() {
    expect![[""]].assert_eq(&custom_functions::run().await.unwrap());
}
