//! Where everything that happens in a run is put down, in order, until the run loop takes it.
//!
//! One process runs one seed, on one thread, so the tape is the process's. Whose moment it is follows from the runtime in
//! which it happens: turmoil gives each host one of its own, a new one for each life.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::runtime::{Handle, Id};

use crate::moment::{Moment, What};

struct Tape {
    now: Duration,
    hosts: Vec<(Id, Arc<str>)>,
    lives: BTreeMap<Arc<str>, u32>,
    moments: Vec<Moment>,
}

static TAPE: Mutex<Tape> =
    Mutex::new(Tape { now: Duration::ZERO, hosts: Vec::new(), lives: BTreeMap::new(), moments: Vec::new() });

/// Whose it is when it is no host's.
pub const WORLD: &str = "world";

fn tape() -> MutexGuard<'static, Tape> {
    TAPE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says that the runtime of the caller is `host`'s, and returns the number of this life, from 1.
pub fn enter(host: &str) -> u32 {
    let host: Arc<str> = host.into();
    let mut tape = tape();
    if let Ok(handle) = Handle::try_current() {
        tape.hosts.retain(|(id, known)| *id != handle.id() && *known != host);
        tape.hosts.push((handle.id(), Arc::clone(&host)));
    }
    let life = tape.lives.entry(host).or_default();
    *life += 1;
    *life
}

/// The host in whose runtime the caller is.
pub fn host() -> Arc<str> {
    let id = Handle::try_current().ok().map(|handle| handle.id());
    let tape = tape();
    let found = tape.hosts.iter().find(|(known, _)| Some(*known) == id);
    found.map_or_else(|| WORLD.into(), |(_, host)| Arc::clone(host))
}

/// Puts down what happens in the caller's host.
pub fn record(what: What) {
    record_of(host(), what);
}

/// Puts down what happens to `host`.
pub fn record_of(host: impl Into<Arc<str>>, what: What) {
    // Within one tick hosts have clocks of their own, which are at most a tick apart.
    let mut tape = tape();
    let at = turmoil::sim_elapsed().unwrap_or(tape.now).max(tape.now);
    let at_us = u64::try_from(at.as_micros()).unwrap_or(u64::MAX);
    tape.moments.push(Moment { at_us, host: host.into(), what });
}

/// Says what time it is between two ticks.
pub(crate) fn set_now(now: Duration) {
    crate::process::set_now(now);
    tape().now = now;
}

/// What was put down since the last call.
pub(crate) fn take() -> Vec<Moment> {
    std::mem::take(&mut tape().moments)
}
