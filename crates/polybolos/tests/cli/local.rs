//! `local`: the embedded cluster, formats, scripts, the prompt without a terminal, flags from everywhere.
#![allow(clippy::disallowed_methods, reason = "looks at files that a real process wrote")]

use std::{io::Read, process::Stdio};

use serde_json::json;

use crate::support::{command, run, run_command, run_with_stdin, start, write};

#[test]
fn each_format_shows_the_same_rows_and_nothing_else() {
    let sql = "SELECT column1 AS id, column2 AS name FROM (VALUES (1, 'a,b'), (2, NULL)) AS t ORDER BY id";
    let csv = run(&["local", "-c", sql, "--format", "csv"]).exits(0);
    assert_eq!(csv.stdout, "id,name\n1,\"a,b\"\n2,\n");
    assert_eq!(csv.stderr, "");
    let json = run(&["local", "-c", sql, "--format", "json"]).exits(0);
    assert_eq!(json.json(), json!([{"id": 1, "name": "a,b"}, {"id": 2, "name": null}]));
    let table = run(&["local", "-c", sql]).exits(0);
    assert!(table.stdout.contains("| 1  | a,b  |") && table.stdout.contains("| 2  | NULL |"), "{table:?}");
}

#[test]
fn files_become_tables() {
    let folder = tempfile::tempdir().unwrap();
    let csv = write(&folder.path().join("trips.csv"), "city,km\nUlm,3\nBonn,4\nUlm,5\n");
    let json = write(&folder.path().join("cities.ndjson"), "{\"name\":\"Ulm\"}\n{\"name\":\"Bonn\"}\n");
    let ended = run(&[
        "local",
        "--table",
        &format!("trips={csv}"),
        "--table",
        &format!("Cities={json}"),
        "--format",
        "csv",
        "-c",
        "SELECT name, sum(km) AS km FROM \"Cities\" JOIN trips ON city = name GROUP BY name ORDER BY name",
    ]);
    assert_eq!(ended.exits(0).stdout, "name,km\nBonn,4\nUlm,8\n");
    run(&["local", "--table", "t=/nowhere/t.csv", "-c", "SELECT 1"])
        .exits(2)
        .says("/nowhere/t.csv: there is no such");
}

#[test]
fn a_script_stops_at_its_first_error_and_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let script =
        "-- first; not a statement\nSELECT ';' AS a;\n\nSELECT\n  nothing FROM nowhere;\nSELECT 3 AS c;\n";
    let path = write(&folder.path().join("s.sql"), script);
    let ended = run(&["local", "--format", "csv", "-f", &path])
        .exits(1)
        .says("statement 2 at line 4")
        .says("nowhere");
    assert_eq!(ended.stdout, "a\n;\n");
    run(&["local", "-f", "/nowhere/s.sql"]).exits(2).says("/nowhere/s.sql");
    run(&["local", "-f", &path, "-c", "SELECT 1"]).exits(2);
    let several = run(&["local", "--format", "csv", "-c", "SELECT 1 AS a; SELECT 2 AS b"]).exits(0);
    assert_eq!(several.stdout, "a\n1\nb\n2\n");
}

#[test]
fn a_pipe_drives_the_prompt() {
    let text = "CREATE VIEW v AS\n  SELECT 7 AS seven;\n\\d\n\\d v\nSELECT *\n  FROM v;\n\\q\nSELECT 'not reached';\n";
    let ended = run_with_stdin(&["local", "--format", "csv"], text).exits(0);
    assert!(ended.stdout.contains("seven\n7\n"), "{ended:?}");
    assert!(ended.stdout.contains("\nseven,Int64,"), "{ended:?}");
    assert!(!ended.stdout.contains("not reached") && !ended.stdout.contains("sql>"), "{ended:?}");
    // Its last statement needs no semicolon, and an error ends it.
    assert_eq!(run_with_stdin(&["local", "--format", "csv"], "SELECT 1 AS a").exits(0).stdout, "a\n1\n");
    let failed = run_with_stdin(&["local"], "SELECT 1;\nSELECT x FROM nowhere;\nSELECT 'later';\n");
    let failed = failed.exits(1).says("statement 2 at line 2");
    assert!(!failed.stdout.contains("later"), "{failed:?}");
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let many = "SELECT a.column1 FROM (VALUES (1),(2),(3),(4),(5),(6),(7),(8),(9),(10)) AS a, \
        (VALUES (1),(2),(3),(4),(5),(6),(7),(8),(9),(10)) AS b, (VALUES (1),(2),(3),(4),(5),(6),(7),(8),(9),(10)) AS c, \
        (VALUES (1),(2),(3),(4),(5),(6),(7),(8),(9),(10)) AS d, (VALUES (1),(2),(3),(4),(5),(6),(7),(8),(9),(10)) AS e";
    let mut command = command(&["local", "--format", "json", "-c", many]);
    command.stdout(Stdio::piped());
    let mut process = start(command, false);
    let mut first = [0; 1];
    process.take_stdout().read_exact(&mut first).unwrap();
    let ended = process.wait(std::time::Duration::from_secs(60)).exits(0);
    assert_eq!((first, ended.stderr.as_str()), ([b'['], ""));
}

#[test]
fn several_schedulers_in_one_process_answer_as_one() {
    let ended = run(&["local", "--schedulers", "3", "--format", "csv", "-c", "SELECT 1 AS a"]).exits(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("a\n1\n", ""));
}

#[test]
fn wrong_usage_is_told_from_a_wrong_query() {
    run(&["local", "-c", "SELEC 1"]).exits(1).says("error:");
    run(&["local", "--formt", "csv"]).exits(2).says("--format");
    run(&["local", "--format", "xml", "-c", "SELECT 1"]).exits(2).says("[possible values: table, csv, json]");
    let replica =
        ["scheduler", "--id", "1", "--listen", "127.0.0.1:0", "--cluster", "1=h:1", "--data-dir", "d"];
    run(&[replica.as_slice(), &["--heartbeat-ms", "300"]].concat())
        .exits(2)
        .says("--heartbeat-ms: 300 is not below --lease-ms 300");
    run(&[replica.as_slice(), &["--hold-version", "99"]].concat()).exits(2).says("--hold-version");
    run(&["sql", "-c", "SELECT 1"]).exits(2).says("--schedulers");
    run(&["sql", "--schedulers", "http://h:1", "-c", "SELECT 1"]).exits(2).says("expected HOST:PORT");
    run(&["jobs", "show", "12", "--schedulers", "h:1"]).exits(2).says("16 hexadecimal digits");
    run(&[]).exits(2);
    assert!(run(&["--help"]).exits(0).stdout.contains("Example:"));
    assert!(run(&["--version"]).exits(0).stdout.starts_with("polybolos "));
}

#[test]
fn the_command_line_wins_over_variables_and_these_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder.path().join("p.toml"), "[local]\nformat = \"json\"\nslots = 1\n");
    let format = |variable: Option<&str>, flags: &[&str]| {
        let base = ["--config", &path, "local", "-c", "SELECT 1 AS one"];
        let mut command = command(&[base.as_slice(), flags].concat());
        command.envs(variable.map(|value| ("POLYBOLOS_FORMAT", value)));
        run_command(command).exits(0).stdout
    };
    assert_eq!(format(None, &[]), "[{\"one\":1}]\n");
    assert_eq!(format(Some("csv"), &[]), "one\n1\n");
    assert_eq!(format(Some("csv"), &["--format", "json"]), "[{\"one\":1}]\n");
}

#[test]
fn mistakes_in_variables_and_files_are_named() {
    let mut command = command(&["local", "-c", "SELECT 1"]);
    command.env("POLYBOLOS_EXECUTORS", "many");
    run_command(command).exits(2).says("many").says("POLYBOLOS_EXECUTORS");
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder.path().join("p.toml"), "[executor]\nmemori = \"1GiB\"\n");
    run(&["--config", &path, "demo"])
        .exits(2)
        .says("p.toml: unknown key 'executor.memori'; known here")
        .says("memory");
    let path = write(&folder.path().join("q.toml"), "[executor]\nmemory = \"1GB of it\"\n");
    run(&["demo", "--config", &path]).exits(2).says("q.toml: key 'executor.memory'").says("512MB or 2GiB");
    run(&["demo", "--config", "/nowhere/p.toml"]).exits(2).says("/nowhere/p.toml");
}

#[test]
fn a_local_cluster_writes_files_and_leaves_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let script = format!(
        "COPY (SELECT n, n % 2 AS k FROM generate_series(1, 100) AS t(n)) TO '{}/' STORED AS CSV PARTITIONED BY (k); \
         CREATE TABLE kept AS SELECT 7 AS seven; SELECT * FROM kept",
        out.display()
    );
    let ended = run(&["local", "--format", "csv", "-c", &script]).exits(0);
    assert!(ended.stdout.contains("count\n100\n") && ended.stdout.contains("seven\n7\n"), "{}", ended.stdout);
    let mut names: Vec<String> = std::fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["k=0", "k=1"]);
}
