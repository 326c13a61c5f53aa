//! Values: shorter times, less data, and the defaults in place of what was drawn.

use super::{
    Shrink,
    items::{is_used, list},
};
use crate::schedule::{Action, Cluster, Schedule};

/// Times below this are not worth a run.
const SHORT_MS: u64 = 100;

pub(super) fn times(shrink: &mut Shrink<'_, '_>) {
    // Nothing begins any more after this.
    shrink.attempt(|schedule| {
        let faults = schedule.faults.iter().map(|planned| planned.at_ms + planned.for_ms.unwrap_or(0));
        let last = faults.chain(schedule.ops.iter().map(|op| op.at_ms)).max().unwrap_or(0);
        schedule.phases.heal_at_ms = schedule.phases.heal_at_ms.min(last + 1);
    });
    halve(shrink, |schedule| Some(&mut schedule.phases.heal_at_ms));
    for index in 0..shrink.best.faults.len() {
        halve(shrink, |schedule| schedule.faults.get_mut(index)?.for_ms.as_mut());
    }
    for index in 0..shrink.best.failpoints.len() {
        while shrink.attempt(|schedule| {
            if let Some(failpoint) = schedule.failpoints.get_mut(index) {
                failpoint.hit = (failpoint.hit / 2).max(1);
            }
        }) {}
    }
    for index in 0..shrink.best.ops.len() {
        let whole = shrink.attempt(|schedule| {
            if let Some(op) = schedule.ops.get_mut(index) {
                op.at_ms = 0;
            }
        });
        if !whole {
            halve(shrink, |schedule| Some(&mut schedule.ops.get_mut(index)?.at_ms));
        }
    }
}

fn halve(shrink: &mut Shrink<'_, '_>, of: impl Fn(&mut Schedule) -> Option<&mut u64>) {
    while of(&mut shrink.best).is_some_and(|value| *value > SHORT_MS) {
        let kept = shrink.attempt(|schedule| {
            if let Some(value) = of(schedule) {
                *value /= 2;
            }
        });
        if !kept {
            return;
        }
    }
}

pub(super) fn data(shrink: &mut Shrink<'_, '_>) {
    for index in 0..shrink.best.ops.len() {
        statement(shrink, index);
    }
    shrink.attempt(|schedule| {
        let Schedule { tables, ops, .. } = schedule;
        tables.retain(|table| is_used(ops, &table.name));
    });
    list(shrink, |schedule| &mut schedule.tables);
    for index in 0..shrink.best.tables.len() {
        table(shrink, index);
    }
}

/// Statements of the least that there is to ask.
fn statement(shrink: &mut Shrink<'_, '_>, index: usize) {
    let tables = shrink.best.tables.iter().map(|table| table.name.clone());
    let simple = tables.map(|name| format!("SELECT count(*) AS n FROM {name}"));
    for simple in std::iter::once("SELECT 1 AS n".to_owned()).chain(simple).collect::<Vec<_>>() {
        let Some(Action::Query { sql, .. }) = shrink.best.ops.get(index).map(|op| &op.action) else { return };
        if sql.len() <= simple.len() {
            return;
        }
        // Repeats of a key stay repeats.
        let old = sql.clone();
        shrink.attempt(|schedule| {
            for op in &mut schedule.ops {
                if let Action::Query { sql, ordered, .. } = &mut op.action
                    && *sql == old
                {
                    (*sql, *ordered) = (simple.clone(), false);
                }
            }
        });
    }
}

fn table(shrink: &mut Shrink<'_, '_>, index: usize) {
    let change = |shrink: &mut Shrink<'_, '_>, change: &dyn Fn(&mut crate::schedule::Table)| {
        shrink.attempt(|schedule| {
            if let Some(table) = schedule.tables.get_mut(index) {
                change(table);
            }
        })
    };
    while change(shrink, &|table| table.rows /= 2) {}
    change(shrink, &|table| table.files = 1);
    change(shrink, &|table| table.columns.iter_mut().for_each(|column| column.nulls_percent = 0));
    let names = |shrink: &Shrink<'_, '_>| -> Vec<String> {
        let table = shrink.best.tables.get(index);
        table
            .map(|table| table.columns.iter().map(|column| column.name.clone()).collect())
            .unwrap_or_default()
    };
    for name in names(shrink) {
        if names(shrink).len() > 1 && !is_used(&shrink.best.ops, &name) {
            change(shrink, &|table| table.columns.retain(|column| column.name != name));
        }
    }
}

/// One value after the other to what scenarios have by default, and options of queries away.
pub(super) fn defaults(shrink: &mut Shrink<'_, '_>) {
    let plain: [fn(&mut Cluster); 10] = [
        |cluster| cluster.slots.iter_mut().for_each(|slots| *slots = 1),
        |cluster| cluster.memory_mib = 256,
        |cluster| cluster.min_latency_us = 100.min(cluster.max_latency_us),
        |cluster| cluster.max_latency_us = 3_000.max(cluster.min_latency_us),
        |cluster| cluster.tcp_capacity = 65_536,
        |cluster| cluster.clock_offset_ms = 0,
        |cluster| cluster.disk_latency_us = 200,
        |cluster| cluster.batch_cost_us = 50,
        |cluster| cluster.snapshot_every = 2_000,
        |cluster| cluster.durable_shuffle = Default::default(),
    ];
    // All at once, and one by one if that is too much.
    if !shrink.attempt(|schedule| plain.iter().for_each(|set| set(&mut schedule.cluster))) {
        for set in plain {
            shrink.attempt(|schedule| set(&mut schedule.cluster));
        }
    }
    for index in 0..shrink.best.ops.len() {
        let change = |shrink: &mut Shrink<'_, '_>, change: &dyn Fn(&mut Action)| {
            shrink.attempt(|schedule| {
                if let Some(op) = schedule.ops.get_mut(index) {
                    change(&mut op.action);
                }
            })
        };
        change(shrink, &|action| {
            if let Action::Query { options, .. } = action {
                options.clear();
            }
        });
        change(shrink, &|action| {
            if let Action::Query { key, .. } = action {
                *key = None;
            }
        });
        change(shrink, &|action| {
            if let Action::Query { abandon_after, cancel_after_ms, .. } = action {
                (*abandon_after, *cancel_after_ms) = (None, None);
            }
        });
        change(shrink, &|action| {
            if let Action::Query { read_after_ms, .. } = action {
                *read_after_ms = None;
            }
        });
    }
}
