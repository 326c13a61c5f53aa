//! Servers that can't start say why, and what a restart keeps.
#![allow(clippy::disallowed_methods, reason = "drives real processes on the real machine")]

use std::{net::TcpStream, process::Command};

use crate::support::{Cluster, STOP_DEADLINE, command, free_address, run, scheduler, start};

#[test]
fn a_port_in_use_is_named() {
    let cluster = Cluster::start(1);
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let address = cluster.address.as_str();
    let member = format!("1={address}");
    let args = ["scheduler", "--id", "1", "--listen", address, "--cluster", &member, "--data-dir", dir];
    run(&args).exits(2).says(address).says("in use");
    let args = ["executor", "--schedulers", address, "--listen", address, "--work-dir", dir];
    run(&args).exits(2).says(address).says("in use");
}

#[test]
fn a_data_folder_serves_one_cluster_and_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let address = free_address();
    let mut first = scheduler(&address, folder.path());
    first.wait_for("listening on");
    let dir = folder.path().to_str().unwrap();
    let other = free_address();
    let other_member = format!("1={other}");
    let args = ["scheduler", "--id", "1", "--listen", &other, "--cluster", &other_member, "--data-dir", dir];
    run(&args).exits(2).says(dir).says("in use by another process");
    first.signal("TERM");
    first.wait(STOP_DEADLINE).exits(0);
    run(&args).exits(2).says(dir).says("belongs to another cluster");
    let unnamed =
        ["scheduler", "--id", "2", "--listen", &other, "--cluster", &other_member, "--data-dir", dir];
    run(&unnamed).exits(2).says("replica 2");
}

#[test]
fn tables_outlive_a_restart_of_the_scheduler() {
    let Cluster { scheduler: first, address, folder, executors } = Cluster::start(1);
    let sql = |sql: &str| run(&["sql", "--schedulers", &address, "--format", "csv", "-c", sql]);
    sql("CREATE VIEW v AS SELECT 42 AS a").exits(0);
    first.signal("TERM");
    first.wait(STOP_DEADLINE).exits(0);
    let mut second = scheduler(&address, &folder.path().join("scheduler"));
    second.wait_for("listening on");
    // The executor was not told; it comes back by itself.
    assert_eq!(sql("SELECT a FROM v").exits(0).stdout, "a\n42\n");
    drop((executors, second));
}

#[test]
fn a_killed_scheduler_keeps_what_it_acknowledged() {
    let Cluster { scheduler: first, address, folder, executors } = Cluster::start(1);
    let sql = |sql: &str| run(&["sql", "--schedulers", &address, "--format", "csv", "-c", sql]);
    sql("CREATE VIEW v AS SELECT 43 AS a").exits(0);
    first.signal("KILL");
    drop(first);
    let mut second = scheduler(&address, &folder.path().join("scheduler"));
    second.wait_for("listening on");
    assert_eq!(sql("SELECT a FROM v").exits(0).stdout, "a\n43\n");
    drop(executors);
}

#[test]
fn a_second_executor_of_one_name_waits_and_says_why() {
    let cluster = Cluster::start(1);
    let dir = cluster.folder.path().join("twin");
    let dir = dir.to_str().unwrap();
    let args = [
        "executor",
        "--id",
        "e1",
        "--schedulers",
        &cluster.address,
        "--listen",
        "127.0.0.1:0",
        "--work-dir",
        dir,
    ];
    let mut twin = start(command(&args), true);
    assert!(twin.wait_for("in use by a live process").contains("executor id e1"));
    let status = cluster.run(&["status", "--format", "json"]).exits(0).json();
    assert_eq!(status["executors"].as_array().unwrap().len(), 1, "{status:#}");
    assert_eq!(cluster.sql("SELECT 1 AS a").exits(0).stdout, "a\n1\n");
}

/// A process begins with room for few files, and asks for as many as it may have.
#[test]
fn idle_connections_leave_room_for_queries() {
    let folder = tempfile::tempdir().unwrap();
    let (address, dir) = (free_address(), folder.path().to_str().unwrap());
    let member = format!("1={address}");
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -Sn 100; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_polybolos"), "scheduler"]);
    shell.args(["--id", "1", "--listen", &address, "--cluster", &member, "--data-dir", dir]);
    let mut server = start(shell, false);
    server.wait_for("listening on");
    let idle: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(&address).unwrap()).collect();
    run(&["sql", "--schedulers", &address, "-c", "SHOW TABLES"]).exits(0);
    assert_eq!(idle.len(), 200);
}
