//! Faults on hosts that do next to nothing.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use polybolos_env::Disk;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use turmoil::net::{TcpListener, TcpStream};

use super::*;
use crate::{
    fault::{Fault, Target, Way},
    schedule::{Cluster, Phases},
};

struct World {
    sim: Sim<'static>,
    injector: Injector,
    hosts: BTreeMap<String, Host>,
    lives: BTreeMap<String, Arc<AtomicU32>>,
    /// Bytes that client-1 has got back from scheduler-1, and connections that were refused it.
    echoes: Arc<AtomicU32>,
    refused: Arc<AtomicU32>,
    leader: Option<&'static str>,
}

fn schedule(seed: u64, faults: Vec<(u64, Option<u64>, Fault)>) -> Schedule {
    let planned =
        (1..).zip(faults).map(|(id, (at_ms, for_ms, fault))| Planned::timed(id, at_ms, for_ms, fault));
    Schedule {
        seed,
        scenario: String::new(),
        judge: Vec::new(),
        cluster: Cluster {
            schedulers: 3,
            slots: vec![1, 1],
            memory_mib: 64,
            clients: 1,
            min_latency_us: 1_000,
            max_latency_us: 2_000,
            tcp_capacity: 1_024,
            clock_offset_ms: 0,
            disk_latency_us: 0,
            batch_cost_us: 0,
            snapshot_every: 1_000,
            durable_shuffle: Default::default(),
        },
        phases: Phases { heal_at_ms: 1_000, liveness_ms: 1_000 },
        tables: Vec::new(),
        ops: Vec::new(),
        faults: planned.collect(),
        failpoints: Vec::new(),
    }
}

async fn echo() -> turmoil::Result {
    let listener = TcpListener::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), 7)).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            while let Ok(byte) = stream.read_u8().await {
                let _ = stream.write_u8(byte).await;
            }
        });
    }
}

async fn call(echoes: Arc<AtomicU32>, refused: Arc<AtomicU32>) -> turmoil::Result {
    loop {
        let called = tokio::time::timeout(Duration::from_millis(100), async {
            let mut stream = TcpStream::connect("scheduler-1:7").await?;
            stream.write_u8(1).await?;
            stream.read_u8().await
        });
        match called.await {
            Ok(Ok(_)) => echoes.fetch_add(1, Ordering::Relaxed),
            Ok(Err(_)) => refused.fetch_add(1, Ordering::Relaxed),
            Err(_) => 0,
        };
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl World {
    fn new(schedule: &Schedule) -> Self {
        let mut sim = turmoil::Builder::new()
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(2))
            .build();
        let names = ["scheduler-1", "scheduler-2", "scheduler-3", "scheduler-4", "executor-1", "executor-2"];
        let names = names.map(str::to_owned).into_iter().chain(["client-1".to_owned()]);
        let hosts: BTreeMap<_, _> = names.map(|name| (name.clone(), Host::new(&name, schedule))).collect();
        let mut lives = BTreeMap::new();
        let (echoes, refused) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
        for (name, host) in &hosts {
            host.set_started(name != "scheduler-4");
            let count = Arc::<AtomicU32>::default();
            lives.insert(name.clone(), Arc::clone(&count));
            let (echoes, refused, name) = (Arc::clone(&echoes), Arc::clone(&refused), name.clone());
            sim.host(name.clone(), move || {
                count.fetch_add(1, Ordering::Relaxed);
                let (echoes, refused, calls) =
                    (Arc::clone(&echoes), Arc::clone(&refused), name.starts_with("client"));
                async move { if calls { call(echoes, refused).await } else { echo().await } }
            });
        }
        let store = TableStore::new(schedule);
        let injector = Injector::new(schedule, hosts.clone(), store, Operator::default(), Knobs::default());
        Self { sim, injector, hosts, lives, echoes, refused, leader: Some("scheduler-1") }
    }

    fn run_until(&mut self, until_ms: u128) {
        while self.sim.elapsed().as_millis() < until_ms {
            self.sim.step().unwrap();
            let now_ms = self.sim.elapsed().as_millis() as u64;
            self.injector.step(&mut self.sim, now_ms, self.leader);
        }
    }

    fn lives(&self, name: &str) -> u32 {
        self.lives[name].load(Ordering::Relaxed)
    }

    /// Echoes and refusals since the last call.
    fn calls(&self) -> (u32, u32) {
        (self.echoes.swap(0, Ordering::Relaxed), self.refused.swap(0, Ordering::Relaxed))
    }

    /// Something synced on each scheduler.
    fn write_logs(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for (_, host) in self.hosts.iter().filter(|(name, _)| name.starts_with("scheduler")) {
                let mut file = host.disk().create(Path::new("/data/log")).await.unwrap();
                file.append(b"log").await.unwrap();
                file.finish(true).await.unwrap();
                host.disk().sync_dir(Path::new("/data")).await.unwrap();
            }
        });
    }
}

fn on(name: &str) -> Target {
    Target::new(name)
}

fn crash(name: &str, power_loss: bool) -> Fault {
    Fault::Crash { target: on(name), power_loss, wipe: false }
}

#[test]
fn a_host_that_is_down_is_not_crashed_again_and_comes_back_with_the_fault_that_took_it_down() {
    let faults = vec![
        (20, Some(100), crash("leader", true)),
        (50, Some(10), crash("scheduler-1", false)),
        (60, Some(30), crash("scheduler-2", false)),
    ];
    let mut world = World::new(&schedule(1, faults));
    world.run_until(80);
    assert!(!world.injector.is_up("scheduler-1") && !world.injector.is_up("scheduler-2"));
    world.run_until(110);
    assert!(!world.injector.is_up("scheduler-1") && world.injector.is_up("scheduler-2"));
    world.run_until(200);
    assert!(world.injector.is_up("scheduler-1"));
    assert_eq!([1, 2, 3].map(|id| world.lives(&format!("scheduler-{id}"))), [2, 2, 1]);
}

#[test]
fn a_cut_refuses_and_a_black_hole_keeps_silent_and_both_end() {
    let way = Way::In;
    let faults = vec![
        (100, Some(100), Fault::Isolate { target: on("scheduler-1"), way }),
        (150, Some(100), Fault::Isolate { target: on("client-1"), way: Way::Both }),
        (400, Some(200), Fault::BlackHole { target: on("scheduler-1") }),
    ];
    let mut world = World::new(&schedule(1, faults));
    world.run_until(100);
    let (echoes, refused) = world.calls();
    assert!(echoes > 3 && refused == 0, "{echoes} {refused}");
    world.run_until(200);
    let (_, refused) = world.calls();
    assert!(refused > 3, "{refused}");
    world.run_until(249);
    assert_eq!(world.calls().0, 0, "the second fault still cuts the link");
    world.run_until(399);
    assert!(world.calls().0 > 3);
    world.run_until(405);
    world.calls();
    world.run_until(599);
    assert_eq!(world.calls(), (0, 0));
    world.run_until(700);
    let (echoes, refused) = world.calls();
    assert!(echoes > 3 && refused == 0, "{echoes} {refused}");
}

#[test]
fn after_a_power_cut_peers_hear_nothing_and_after_a_crash_they_are_refused() {
    for (power_loss, is_refused) in [(true, false), (false, true)] {
        let mut world = World::new(&schedule(1, vec![(100, Some(300), crash("scheduler-1", power_loss))]));
        world.run_until(100);
        world.calls();
        world.run_until(390);
        let (echoes, refused) = world.calls();
        assert!(echoes == 0 && (refused > 3) == is_refused, "{power_loss}: {echoes} {refused}");
        // A connection that was waiting when the machine came back is refused or runs into its deadline.
        world.run_until(900);
        assert!(world.calls().0 > 3);
    }
}

#[test]
fn a_lossy_link_works_again_afterwards_though_it_was_cut_meanwhile() {
    let faults = vec![
        (50, Some(200), Fault::LossyLink { target: on("scheduler-1"), rate: 0.5 }),
        (100, Some(50), Fault::Isolate { target: on("scheduler-1"), way: Way::Out }),
    ];
    let mut world = World::new(&schedule(1, faults));
    world.run_until(105);
    world.calls();
    world.run_until(149);
    assert_eq!(world.calls().0, 0);
    world.run_until(700);
    world.calls();
    world.run_until(800);
    let (echoes, refused) = world.calls();
    assert!(echoes > 3 && refused == 0, "{echoes} {refused}");
}

#[test]
fn a_majority_of_undamaged_replicas_is_kept() {
    let corrupt = |name: &str| Fault::CorruptDisk { target: on(name), bits: 3 };
    let faults = vec![
        (10, Some(10), corrupt("scheduler-2")),
        (15, Some(10), corrupt("scheduler-3")),
        (40, None, Fault::RemoveReplica { target: on("scheduler-1") }),
        (50, None, Fault::AddReplica),
        (51, None, Fault::AddReplica),
    ];
    let mut world = World::new(&schedule(1, faults));
    world.write_logs();
    world.run_until(100);
    assert_eq!(world.injector.lost, ["scheduler-2".to_owned()].into());
    let added = AdminCall::Add { id: 4, address: "scheduler-4:7701".to_owned() };
    assert_eq!((world.injector.operator.next(), world.injector.operator.next()), (Some(added), None));
    assert!(world.hosts["scheduler-4"].is_started());
    assert_eq!(world.lives("scheduler-2"), 2, "it starts, and its software refuses to");
}

#[test]
fn no_replica_is_lost_before_the_cluster_has_formed() {
    let corrupt = Fault::CorruptDisk { target: on("scheduler-2"), bits: 3 };
    let faults = vec![(10, Some(10), corrupt.clone()), (60, Some(10), corrupt)];
    let mut world = World::new(&schedule(1, faults));
    world.leader = None;
    world.write_logs();
    world.run_until(50);
    assert_eq!(world.lives("scheduler-2"), 1);
    world.leader = Some("scheduler-1");
    world.run_until(100);
    assert_eq!(world.injector.lost, ["scheduler-2".to_owned()].into());
}

#[test]
fn knobs_follow_the_faults_that_overlap() {
    let faults = vec![
        (10, Some(50), Fault::DuplicateDelivery { rate: 0.25 }),
        (20, Some(10), Fault::DuplicateDelivery { rate: 0.75 }),
        (10, Some(20), Fault::Pause { target: on("executor-1") }),
    ];
    let mut world = World::new(&schedule(1, faults));
    let mut seen = Vec::new();
    for until_ms in [15, 25, 40, 70] {
        world.run_until(until_ms);
        let paused = world.hosts["executor-1"].pause().is_set();
        seen.push((world.injector.knobs.duplicate_rate(), paused));
    }
    assert_eq!(seen, [(0.25, true), (0.75, true), (0.25, false), (0.0, false)]);
}

#[test]
fn replicas_restart_in_turn() {
    let target = on("scheduler");
    let faults = vec![(10, None, Fault::RollingRestart { target, down_ms: 30, gap_ms: 10 })];
    let mut world = World::new(&schedule(1, faults));
    let mut down = Vec::new();
    for until_ms in [20, 60, 100, 145] {
        world.run_until(until_ms);
        down.push(world.injector.down.keys().cloned().collect::<Vec<_>>().join(" "));
    }
    assert_eq!(down, ["scheduler-1", "scheduler-2", "scheduler-3", ""]);
    world.run_until(200);
    assert!(world.injector.active.is_empty());
}

#[test]
fn the_healing_leaves_a_majority_and_an_executor_and_brings_back_what_it_does_not_leave() {
    let mut left = std::collections::BTreeSet::new();
    for seed in 0..30 {
        let faults =
            vec![(10, None, Fault::PowerCycle), (20, None, Fault::ClientGone { target: on("client-1") })];
        let mut world = World::new(&schedule(seed, faults));
        world.run_until(50);
        let World { sim, injector, .. } = &mut world;
        let healthy = injector.heal(sim);
        let count = |role: &str| healthy.iter().filter(|name| name.starts_with(role)).count();
        assert!(count("scheduler") >= 2 && count("executor") >= 1 && count("client") == 0, "{healthy:?}");
        assert!(healthy.iter().all(|name| injector.is_up(name)));
        left.insert(injector.left.iter().cloned().collect::<Vec<_>>().join(" "));
        world.run_until(60);
        for name in healthy {
            assert_eq!(world.lives(&name), 2);
        }
    }
    assert!(left.contains("") && left.len() > 5, "{left:?}");
}

#[test]
fn shuffle_files_are_damaged_as_soon_as_there_are_any() {
    let faults = vec![(10, Some(100), Fault::CorruptShuffle { target: on("executor-1"), bits: 1 })];
    let mut world = World::new(&schedule(1, faults));
    world.run_until(30);
    assert!(world.injector.active.contains_key(&1));
    let disk = world.hosts["executor-1"].disk().clone();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        disk.create(Path::new("/work/x")).await.unwrap().append(&[0; 9]).await.unwrap();
    });
    world.run_until(40);
    let bytes = runtime.block_on(disk.read(Path::new("/work/x"), 0, 9)).unwrap();
    assert_eq!(bytes.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    assert!(world.injector.active.is_empty());
}
