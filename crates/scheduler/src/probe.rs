//! Asks whether the process of an executor without a stream is still there.
//!
//! ```text
//!   stream broke, or no stream yet ─▶ connect to its Flight address ─┬─ refused ───────────▶ gone: lost at once
//!                                                                    └─ answered, silent ──▶ time decides
//! ```
//!
//! Only a refused connect counts: that is the word of the machine that nothing listens there. A live executor always
//! listens, so none is lost by a probe, however slow it or the network is.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
    sync::Arc,
    time::Duration,
};

use polybolos_env::Net;
use polybolos_model::{ExecutorId, Incarnation, Term};
use polybolos_state::policy::{Event, nothing_listens};
use tokio::{
    io::AsyncReadExt,
    sync::mpsc,
    time::{sleep, timeout},
};

use crate::input::Input;

/// How long an answer may take. Within one data centre it comes in a millisecond.
const DEADLINE: Duration = Duration::from_millis(150);
/// Before a connection that broke at once is tried again: a process that ends closes its sockets one by one.
const AGAIN: Duration = Duration::from_millis(5);
/// Probes that are under way at once; the rest waits for the next tick.
const MAX_PROBES: usize = 64;

/// One life of an executor.
type Life = (ExecutorId, Incarnation);

/// What a probe has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing listens where it served, as the reason says.
    Gone(String),
    /// It listens, or nobody can tell.
    Unclear,
}

/// The probes of one leader: at most one of each life at a time.
#[derive(Default)]
pub(crate) struct Probes {
    under_way: BTreeSet<Life>,
    gone: BTreeMap<Life, String>,
}

impl Probes {
    /// Looks for the executor at `address`, and hands the verdict to the run loop.
    pub(crate) fn start(
        &mut self,
        net: &Arc<dyn Net>,
        inputs: &mpsc::Sender<Input>,
        term: Term,
        life: Life,
        address: String,
    ) {
        if self.under_way.len() >= MAX_PROBES || !self.under_way.insert(life.clone()) {
            return;
        }
        let (net, inputs) = (Arc::clone(net), inputs.clone());
        tokio::spawn(async move {
            let verdict = look(&*net, &address).await;
            let (executor, incarnation) = life;
            // Nobody takes it when the replica stops.
            let _ = inputs.send(Input::Probed { term, executor, incarnation, verdict }).await;
        });
    }

    pub(crate) fn ended(&mut self, life: Life, verdict: Verdict) {
        self.under_way.remove(&life);
        if let Verdict::Gone(reason) = verdict {
            polybolos_model::sometimes!("a probe found that an executor is gone");
            self.gone.insert(life, reason);
        }
    }

    /// Verdicts since the last call, but for executors that have a stream again.
    pub(crate) fn take_gone(&mut self, has_stream: impl Fn(&ExecutorId) -> bool) -> Vec<Event> {
        let gone =
            std::mem::take(&mut self.gone).into_iter().filter(|((executor, _), _)| !has_stream(executor));
        gone.map(|((executor, incarnation), reason)| Event::ProbeFailed { executor, incarnation, reason })
            .collect()
    }
}

async fn look(net: &dyn Net, address: &str) -> Verdict {
    let refused = async {
        loop {
            match net.connect(address).await {
                // A server greets first. A connection that ends instead was accepted by nobody.
                Ok(mut io) => match io.read_u8().await {
                    Ok(_) => return None,
                    Err(_) => sleep(AGAIN).await,
                },
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Some(error),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => sleep(AGAIN).await,
                Err(_) => return None,
            }
        }
    };
    match timeout(DEADLINE, refused).await {
        Ok(Some(error)) => Verdict::Gone(nothing_listens(address, &error)),
        Ok(None) | Err(_) => Verdict::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use polybolos_env::Env;
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn only_an_address_where_nothing_listens_is_gone() {
        let env = Env::production(1).unwrap();
        let mut listener = env.net.listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        // Paused: the kernel accepts, the process says nothing.
        assert_eq!(look(&*env.net, &address).await, Verdict::Unclear);
        let greets = tokio::spawn(async move {
            loop {
                let Ok(mut io) = listener.accept().await else { return };
                let _ = io.write_u8(1).await;
            }
        });
        assert_eq!(look(&*env.net, &address).await, Verdict::Unclear);
        greets.abort();
        let _ = greets.await;
        let Verdict::Gone(reason) = look(&*env.net, &address).await else { panic!("nothing listens there") };
        assert!(reason.contains(&address), "{reason}");
        assert_eq!(look(&*env.net, "no.such.host.invalid:1").await, Verdict::Unclear);
    }

    #[tokio::test]
    async fn one_probe_of_a_life_at_a_time_and_none_of_who_is_back() {
        let env = Env::production(1).unwrap();
        let address = env.net.listen("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
        let (inputs, mut taken) = mpsc::channel(8);
        let mut probes = Probes::default();
        let life = |number| (ExecutorId::new("e").unwrap(), Incarnation(number));
        for number in [1, 1, 2] {
            probes.start(&env.net, &inputs, Term(1), life(number), address.clone());
        }
        for _ in 0..2 {
            let Some(Input::Probed { executor, incarnation, verdict, .. }) = taken.recv().await else {
                panic!()
            };
            probes.ended((executor, incarnation), verdict);
        }
        assert!(taken.try_recv().is_err() && probes.under_way.is_empty());
        let events = probes.take_gone(|_| false);
        assert!(
            matches!(events.as_slice(), [Event::ProbeFailed { .. }, Event::ProbeFailed { .. }]),
            "{events:?}"
        );
        probes.ended(life(1), Verdict::Gone("x".to_owned()));
        assert_eq!(probes.take_gone(|_| true), []);
        assert_eq!(probes.take_gone(|_| false), [], "a verdict is of its moment");
    }
}
