//! Schedules for tests of this room.

use crate::schedule::{Cluster, Column, ColumnKind, Phases, Schedule, Table};

pub(super) fn column(name: &str, kind: ColumnKind, nulls_percent: u8) -> Column {
    Column { name: name.to_owned(), kind, nulls_percent, cast: None }
}

pub(super) fn table(name: &str, rows: u64, files: u32) -> Table {
    let columns = vec![
        column("id", ColumnKind::Serial, 0),
        column("k", ColumnKind::Uniform { distinct: 20 }, 10),
        column("amount", ColumnKind::Amount, 5),
        column("name", ColumnKind::Text { distinct: 30, max_bytes: 20 }, 10),
        column("day", ColumnKind::Date, 0),
    ];
    Table { name: name.to_owned(), rows, files, columns }
}

pub(super) fn schedule_of(tables: Vec<Table>) -> Schedule {
    Schedule {
        seed: 7,
        scenario: String::new(),
        judge: Vec::new(),
        cluster: Cluster {
            schedulers: 1,
            slots: vec![1],
            memory_mib: 64,
            clients: 1,
            min_latency_us: 100,
            max_latency_us: 1_000,
            tcp_capacity: 65_536,
            clock_offset_ms: 0,
            disk_latency_us: 0,
            batch_cost_us: 0,
            snapshot_every: 1_000,
            durable_shuffle: Default::default(),
        },
        phases: Phases { heal_at_ms: 1_000, liveness_ms: 10_000 },
        tables,
        ops: Vec::new(),
        faults: Vec::new(),
        failpoints: Vec::new(),
    }
}
