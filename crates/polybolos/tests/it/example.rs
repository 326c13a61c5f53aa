//! The example programs, compiled and run.

use expect_test::expect;

#[allow(dead_code, reason = "its `main`")]
#[path = "../../examples/custom_functions.rs"]
mod custom_functions;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn custom_functions_and_tables_run_on_the_nodes() {
    expect![[r#"
        SELECT cube(n) AS cube FROM numbers WHERE n < 4 ORDER BY n
        +------+
        | cube |
        +------+
        | 0    |
        | 1    |
        | 8    |
        | 27   |
        +------+
        SELECT n % 3 AS class, geometric_mean(square) AS mean, count(*) AS rows FROM numbers GROUP BY class ORDER BY class
        +-------+---------------+------+
        | class | mean          | rows |
        +-------+---------------+------+
        | 0     | 138202.057768 | 334  |
        | 1     | 134228.091539 | 333  |
        | 2     | 136355.597661 | 333  |
        +-------+---------------+------+
        SELECT n, step_from_last(square) OVER (ORDER BY n) AS step FROM numbers ORDER BY n LIMIT 5
        +---+------+
        | n | step |
        +---+------+
        | 0 |      |
        | 1 | 1    |
        | 2 | 3    |
        | 3 | 5    |
        | 4 | 7    |
        +---+------+
        SELECT count(*) AS pairs FROM numbers a JOIN numbers b ON a.n = b.square
        +-------+
        | pairs |
        +-------+
        | 32    |
        +-------+
    "#]].assert_eq(&custom_functions::run().await.unwrap());
}
