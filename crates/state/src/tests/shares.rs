//! How partitions are divided among tasks, by their sizes.

use polybolos_model::{
    Exchange, PartitionStats, ReadMode, Share, Stage, StageGraph, StageId, StageInput, settings::JobSettings,
};
use proptest::prelude::*;

use crate::policy::{Measured, ShareLimits, shares};

const MIB: u64 = 1 << 20;

/// Spark's defaults, on a fleet of so many slots.
fn defaults(slots: u64) -> ShareLimits {
    ShareLimits { coalesce_bytes: 64 * MIB, skew_bytes: 256 * MIB, skew_factor: 5_000, slots }
}

/// Of each input the sizes by its tasks, and by partitions.
fn divided(inputs: &[(bool, Vec<Vec<u64>>)], limits: ShareLimits) -> Vec<Share> {
    let stats = |bytes: &u64| PartitionStats { rows: *bytes, bytes: *bytes };
    let sizes: Vec<Vec<Vec<PartitionStats>>> = inputs
        .iter()
        .map(|(_, maps)| maps.iter().map(|of| of.iter().map(stats).collect()).collect())
        .collect();
    let measured: Vec<Measured<'_>> = (0..)
        .zip(inputs.iter().zip(&sizes))
        .map(|(id, ((splits, _), maps))| Measured {
            stage: StageId(id),
            splits: *splits,
            maps: maps.iter().map(Vec::as_slice).collect(),
        })
        .collect();
    shares(&measured, u32::try_from(inputs[0].1[0].len()).unwrap(), limits)
}

/// `0-3` for neighbours, `3:0/1-4` for tasks 1 to 3 of input 0.
fn words(shares: &[Share]) -> String {
    let word = |share: &Share| match share.split {
        Some(of) => format!("{}:{}/{}-{}", share.first, of.input, of.first_map, of.end_map),
        None => format!("{}-{}", share.first, share.end),
    };
    shares.iter().map(word).collect::<Vec<_>>().join(" ")
}

fn by_one_task(sizes: &[u64], limits: ShareLimits) -> String {
    words(&divided(&[(true, vec![sizes.to_vec()])], limits))
}

#[test]
fn a_small_query_on_a_large_fleet_ends_in_few_tasks() {
    assert_eq!(by_one_task(&[100; 300], defaults(300)), "0-300");
    assert_eq!(by_one_task(&[0; 300], defaults(300)), "0-300");
    let tasks = divided(&[(false, vec![vec![MIB / 10; 300]])], defaults(300)).len();
    assert_eq!(tasks, 30, "of 1 MiB each");
}

#[test]
fn all_slots_have_work_before_tasks_grow() {
    // 4 GiB over 256 partitions of 16 MiB: within the target, but there are more slots.
    let tasks = |slots| divided(&[(false, vec![vec![16 * MIB; 256]])], defaults(slots)).len();
    assert_eq!((tasks(256), tasks(1_000)), (0, 0), "as planned");
    assert_eq!((tasks(128), tasks(64), tasks(8)), (128, 64, 64));
}

#[test]
fn neighbours_are_read_together_up_to_the_target() {
    let limits = ShareLimits { coalesce_bytes: 10, ..defaults(1) };
    assert_eq!(by_one_task(&[4, 4, 4, 9, 1, 20, 0, 0, 3], limits), "0-2 2-3 3-5 5-8 8-9");
    assert_eq!(by_one_task(&[11, 11, 11], limits), "", "as planned");
    assert_eq!(by_one_task(&[1, 1], ShareLimits { coalesce_bytes: 0, ..limits }), "");
    // The sizes of all inputs count.
    let two = [(false, vec![vec![4, 1, 4]]), (false, vec![vec![5, 9, 5]])];
    assert_eq!(words(&divided(&two, limits)), "");
}

#[test]
fn a_skewed_partition_is_divided_by_map_tasks() {
    let limits = ShareLimits { coalesce_bytes: 10, skew_bytes: 20, ..defaults(1) };
    let maps = |large: [u64; 4]| large.map(|bytes| vec![1, bytes, 1, 1, 1]).to_vec();
    assert_eq!(words(&divided(&[(true, maps([6, 6, 3, 9]))], limits)), "0-1 1:0/0-1 1:0/1-3 1:0/3-4 2-4 4-5");
    // Neither where that is not allowed, nor below the threshold, nor within the factor, nor by one task.
    let coalesced = "0-1 1-2 2-4 4-5";
    assert_eq!(words(&divided(&[(false, maps([6, 6, 3, 9]))], limits)), coalesced);
    assert_eq!(words(&divided(&[(true, maps([6, 6, 3, 5]))], limits)), coalesced);
    let even = vec![vec![12, 60, 12]; 4];
    assert_eq!(words(&divided(&[(true, even)], limits)), "");
    assert_eq!(words(&divided(&[(true, vec![vec![1, 900, 1]])], limits)), "");
    assert_eq!(
        words(&divided(&[(true, maps([6, 6, 3, 9]))], ShareLimits { skew_bytes: 0, ..limits })),
        coalesced
    );
    // Of two that are skewed there the larger one.
    let both = [(true, maps([9, 9, 9, 9])), (true, maps([12, 12, 12, 12]))];
    assert!(words(&divided(&both, limits)).contains("1:1/0-1 1:1/1-2 1:1/2-3 1:1/3-4"));
}

#[test]
fn the_defaults_are_those_of_spark() {
    let none = Default::default();
    let settings = polybolos_model::settings::ALL;
    let bytes = |name: &str| settings.iter().find(|s| s.name.ends_with(name)).unwrap().bytes_in(&none);
    assert_eq!(bytes("coalesce_partition_bytes"), 64 * MIB);
    assert_eq!(bytes("skew_partition_bytes"), 256 * MIB);
    assert!(JobSettings::read(&none).max_task_attempts > 0);
}

/// Two inputs of the same partitions, either of which may be split.
fn inputs() -> impl Strategy<Value = Vec<(bool, Vec<Vec<u64>>)>> {
    let size = prop_oneof![3 => 0..4u64, 3 => 0..40u64, 1 => 100..2_000u64];
    (1..12usize, 1..7usize, 1..7usize).prop_flat_map(move |(partitions, left, right)| {
        let input = |maps| {
            (any::<bool>(), prop::collection::vec(prop::collection::vec(size.clone(), partitions), maps))
        };
        (input(left), input(right)).prop_map(|(left, right)| vec![left, right])
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// By the very check by which the log takes a decision.
    #[test]
    fn each_partition_is_read_once_and_in_order(
        inputs in inputs(),
        coalesce_bytes in 0..60u64,
        skew_bytes in 0..200u64,
        slots in 0..20u64,
    ) {
        let limits = ShareLimits { coalesce_bytes, skew_bytes, skew_factor: 2_000, slots };
        let shares = divided(&inputs, limits);
        let partitions = u32::try_from(inputs[0].1[0].len()).unwrap();
        let graph = graph(&inputs, partitions);
        prop_assert_eq!(graph.validate(), Ok(()));
        if !shares.is_empty() {
            prop_assert_eq!(graph.check_shares(&graph.stages[2], &shares), Ok(()));
        }
        for share in &shares {
            let bytes: u64 = inputs
                .iter()
                .flat_map(|(_, maps)| maps)
                .flat_map(|of| &of[share.first as usize..share.end as usize])
                .sum();
            let is_alone = (share.first..share.end)
                .filter(|at| inputs.iter().flat_map(|(_, maps)| maps).any(|of| of[*at as usize] > 0))
                .count() <= 1;
            prop_assert!(share.split.is_some() || is_alone || bytes <= coalesce_bytes);
        }
    }
}

fn graph(inputs: &[(bool, Vec<Vec<u64>>)], partitions: u32) -> StageGraph {
    let stage = |id: u32, tasks: usize, inputs, exchange, output_partitions| Stage {
        id: StageId(id),
        plan: vec![],
        tasks: u32::try_from(tasks).unwrap(),
        inputs,
        exchange,
        output_partitions,
        display: String::new(),
        indeterminate: None,
    };
    let read = |id: u32, splits| StageInput { stage: StageId(id), read: ReadMode::Adaptive { splits } };
    let reads = vec![read(0, inputs[0].0), read(1, inputs[1].0)];
    let all = vec![StageInput { stage: StageId(2), read: ReadMode::All }];
    StageGraph {
        stages: vec![
            stage(0, inputs[0].1.len(), vec![], Exchange::Hash, partitions),
            stage(1, inputs[1].1.len(), vec![], Exchange::Hash, partitions),
            stage(2, partitions as usize, reads, Exchange::Single, 1),
            stage(3, 1, all, Exchange::Result, 1),
        ],
    }
}
