//! The contract of the seam, and what crashes leave.

#![allow(clippy::disallowed_methods, reason = "a test measures paused time")]

use std::{io, path::Path, time::Duration};

use polybolos_env::{Disk, DiskFile};
use rand::{SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use super::{super::Pause, Damage, DiskKnobs, SimDisk};

fn disk(seed: u64) -> SimDisk {
    SimDisk::new(seed, 0, Pause::default())
}

async fn write(disk: &SimDisk, path: &str, parts: &[(&[u8], bool)]) -> io::Result<Box<dyn DiskFile>> {
    let mut file = disk.create(Path::new(path)).await?;
    for (part, durable) in parts {
        file.append(part).await?;
        file.finish(*durable).await?;
    }
    Ok(file)
}

async fn content(disk: &SimDisk, path: &str) -> io::Result<Vec<u8>> {
    let length = disk.length(Path::new(path)).await?;
    Ok(disk.read(Path::new(path), 0, length as usize).await?.to_vec())
}

#[tokio::test]
async fn it_keeps_the_contract_of_the_seam() -> io::Result<()> {
    let disk = disk(1);
    let mut file = write(&disk, "/w/job/a.tmp", &[(b"hello world", true)]).await?;
    disk.rename(Path::new("/w/job/a.tmp"), Path::new("/w/job/a")).await?;
    assert_eq!(&disk.read(Path::new("/w/job/a"), 6, 5).await?[..], b"world");
    assert!(disk.read(Path::new("/w/job/a"), 6, 6).await.is_err());
    file.append(b"!").await?;
    file.finish(true).await?;
    assert_eq!(disk.length(Path::new("/w/job/a")).await?, 12);
    assert!(disk.create(Path::new("/w/job/a")).await.is_err());
    assert_eq!(disk.list(Path::new("/w")).await?, vec![Path::new("/w/job").to_owned()]);
    disk.remove_dir_all(Path::new("/w/job")).await?;
    assert!(disk.list(Path::new("/w")).await?.is_empty());
    let held = disk.lock(Path::new("/w/lock")).await?;
    assert!(disk.lock(Path::new("/w/lock")).await.is_err());
    drop(held);
    let held = disk.lock(Path::new("/w/lock")).await?;
    disk.kill();
    let again = disk.lock(Path::new("/w/lock")).await?;
    // A lock of an earlier process doesn't open that of a later one.
    drop(held);
    assert!(disk.lock(Path::new("/w/lock")).await.is_err());
    drop(again);
    Ok(())
}

#[tokio::test]
async fn a_power_cut_keeps_what_was_synced_and_tears_the_rest() -> io::Result<()> {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let disk = disk(seed);
        let _open = write(&disk, "/d/log", &[(b"kept", true), (b"torn", false)]).await?;
        disk.sync_dir(Path::new("/d")).await?;
        disk.power_loss();
        let left = content(&disk, "/d/log").await?;
        assert!(left.starts_with(b"kept") && left.len() <= 8, "{left:?}");
        seen.insert(left.clone());
        disk.power_loss();
        assert_eq!(content(&disk, "/d/log").await?, left, "what was left is on the disk");
    }
    let ends: [&[u8]; 6] = [b"", b"t", b"to", b"tor", b"torn", &[0; 4]];
    assert_eq!(seen, ends.map(|end| [b"kept", end].concat()).into());
    Ok(())
}

#[tokio::test]
async fn names_that_were_not_synced_may_be_undone_in_order() -> io::Result<()> {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let disk = disk(seed);
        write(&disk, "/d/a", &[(b"old", true)]).await?;
        disk.sync_dir(Path::new("/d")).await?;
        write(&disk, "/d/b", &[(b"new", true)]).await?;
        disk.rename(Path::new("/d/b"), Path::new("/d/a")).await?;
        disk.power_loss();
        let names: Vec<_> = disk.files().iter().map(|path| path.display().to_string()).collect();
        seen.insert((names.join(" "), String::from_utf8_lossy(&content(&disk, "/d/a").await?).into_owned()));
    }
    let expected = [("/d/a", "new"), ("/d/a", "old"), ("/d/a /d/b", "new"), ("/d/a /d/b", "old")]
        .map(|(names, a)| (names.to_owned(), a.to_owned()));
    assert_eq!(seen, expected.into());
    Ok(())
}

#[tokio::test]
async fn a_process_that_dies_loses_only_what_it_kept_to_itself() -> io::Result<()> {
    let disk = disk(3);
    let mut file = write(&disk, "/d/log", &[(b"handed over", false)]).await?;
    file.append(b", not this").await?;
    disk.kill();
    assert!(content(&disk, "/d/log").await?.starts_with(b"handed over"));
    assert!(file.append(b"!").await.is_err(), "an earlier process");
    Ok(())
}

#[tokio::test]
async fn a_failed_sync_is_not_made_good_by_the_next_one() -> io::Result<()> {
    let disk = disk(4);
    let mut file = write(&disk, "/d/log", &[(b"ab", true)]).await?;
    disk.sync_dir(Path::new("/d")).await?;
    file.append(b"cd").await?;
    disk.set_knobs(DiskKnobs { error_rate: 1.0, ..DiskKnobs::default() });
    assert!(file.finish(true).await.is_err());
    assert!(disk.read(Path::new("/d/log"), 0, 1).await.is_err());
    disk.set_knobs(DiskKnobs::default());
    file.append(b"ef").await?;
    file.finish(true).await?;
    assert_eq!(content(&disk, "/d/log").await?, b"abcdef");
    disk.power_loss();
    assert_eq!(content(&disk, "/d/log").await?, b"ab\0\0ef");
    Ok(())
}

#[tokio::test]
async fn a_full_disk_takes_nothing_and_says_so() -> io::Result<()> {
    let disk = disk(5);
    let mut file = write(&disk, "/d/log", &[(b"ab", true)]).await?;
    file.append(b"cd").await?;
    disk.set_knobs(DiskKnobs { full: true, ..DiskKnobs::default() });
    let kinds = [
        file.append(b"ef").await.map_err(|error| error.kind()),
        file.finish(true).await.map_err(|error| error.kind()),
        disk.create(Path::new("/d/x")).await.map(drop).map_err(|error| error.kind()),
    ];
    assert_eq!(kinds, [Err(io::ErrorKind::StorageFull); 3]);
    assert_eq!(disk.free_bytes(Path::new("/d")).await?, 0);
    assert!(content(&disk, "/d/log").await?.starts_with(b"ab"));
    Ok(())
}

#[tokio::test]
async fn bits_flip_only_where_they_may() -> io::Result<()> {
    let disk = disk(6);
    write(&disk, "/d/log", &[(&[0; 100], true), (&[0; 100], false)]).await?;
    write(&disk, "/w/shuffle/x", &[(&[0; 10], false)]).await?;
    let mut random = StdRng::seed_from_u64(1);
    assert!(disk.flip_bits(Path::new("/w"), Damage::Synced, 3, &mut random).is_empty());
    assert_eq!(disk.damageable_bytes(Path::new("/"), Damage::Synced), 100);
    let flipped = disk.flip_bits(Path::new("/"), Damage::Synced, 5, &mut random);
    assert!(flipped.len() == 5 && flipped.iter().all(|(path, at)| path.ends_with("log") && *at < 100));
    let ones: u32 = content(&disk, "/d/log").await?.iter().map(|byte| byte.count_ones()).sum();
    assert!(ones == 5 || ones == 3, "{ones}");
    assert_eq!(disk.flip_bits(Path::new("/w"), Damage::Any, 1, &mut random).len(), 1);
    disk.wipe();
    assert!(disk.files().is_empty());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn operations_take_time_and_a_paused_host_hangs() -> io::Result<()> {
    let pause = Pause::default();
    let disk = SimDisk::new(7, 500, pause.clone());
    let started = Instant::now();
    write(&disk, "/d/log", &[(b"ab", true)]).await?;
    // 0.5 ms each to create and append, 2.5 ms to sync.
    assert_eq!(started.elapsed(), Duration::from_millis(3));
    disk.set_knobs(DiskKnobs { extra_ms: 20, ..DiskKnobs::default() });
    disk.read(Path::new("/d/log"), 0, 2).await?;
    assert!(started.elapsed() >= Duration::from_millis(23));
    pause.set(true);
    let hung = tokio::time::timeout(Duration::from_secs(5), disk.read(Path::new("/d/log"), 0, 2));
    assert!(hung.await.is_err());
    Ok(())
}
