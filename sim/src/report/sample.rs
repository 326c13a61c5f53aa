//! A made-up run for tests: plausible, deterministic, of any length.

use crate::{
    fault::{Fault, Target},
    schedule::{Cluster, Phases, Planned, Schedule},
    trace::{End, Header, Line, Seen, TRACE_FORMAT, Trace},
};

pub(super) const HOSTILE: &str = "</script><script>alert('x')</script> \"quoted\" {{CHART}} \u{2028} наука ✓";

struct Sample {
    lines: Vec<Line>,
    at_us: u64,
    random: u64,
    index: u64,
    counter: u64,
    term: u64,
    leader: u64,
}

/// Ten seconds with `jobs` jobs, a fail-over, a lost executor, and a violation at the end if wanted.
pub(super) fn trace(jobs: u64, broken: bool) -> Trace {
    let mut sample =
        Sample { lines: Vec::new(), at_us: 0, random: 7, index: 0, counter: 0, term: 1, leader: 1 };
    sample.begin();
    for job in 0..jobs {
        sample.at_us = 400_000 + 8_000_000 * job / jobs.max(1);
        sample.disturb(job, jobs);
        sample.job(0xa1 + job);
    }
    sample.at_us = 9_200_000;
    sample.say("world", Seen::Phase { phase: "at rest".into() });
    if broken {
        let what = format!("executor-1 runs 3 attempts in 2 slots; {HOSTILE}");
        sample.say("world", Seen::Violation { oracle: "slots-never-exceeded".into(), what });
    }
    let moments = sample.lines.len() as u64;
    sample.say("world", Seen::End(End { elapsed_ms: 9200, moments }));
    sample.lines.sort_by_key(|line| line.at_us);
    Trace { header: header(), lines: sample.lines }
}

fn header() -> Header {
    let fault = Planned::timed(2, 3000, Some(600), Fault::Pause { target: Target::new("leader") });
    let schedule = Schedule {
        seed: u64::MAX,
        scenario: "made-up".into(),
        judge: Vec::new(),
        cluster: Cluster {
            schedulers: 3,
            slots: vec![2, 2, 3],
            memory_mib: 64,
            clients: 2,
            min_latency_us: 500,
            max_latency_us: 5000,
            tcp_capacity: 64,
            clock_offset_ms: 100,
            disk_latency_us: 100,
            batch_cost_us: 10,
            snapshot_every: 1000,
            durable_shuffle: Default::default(),
        },
        phases: Phases { heal_at_ms: 6000, liveness_ms: 60_000 },
        tables: Vec::new(),
        ops: Vec::new(),
        faults: vec![fault],
        failpoints: Vec::new(),
    };
    Header {
        polybolos_trace: TRACE_FORMAT,
        seed: u64::MAX,
        scenario: "made-up".into(),
        build: "0badcafe".into(),
        mutant: None,
        schedule,
    }
}

impl Sample {
    fn next(&mut self, below: u64) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    fn say(&mut self, host: &str, seen: Seen) {
        self.lines.push(Line { at_us: self.at_us, host: host.into(), seen });
    }

    fn begin(&mut self) {
        for host in [
            "scheduler-1",
            "scheduler-2",
            "scheduler-3",
            "executor-1",
            "executor-2",
            "executor-3",
            "client-1",
            "client-2",
        ] {
            self.say(host, Seen::Up { life: 1 });
        }
        self.say("scheduler-2", Seen::Opened { last_term: 0, last_index: 0 });
        self.at_us = 180_000;
        self.say("scheduler-1", Seen::Elected { term: 1, last_term: 0, last_index: 0 });
        self.log("scheduler-1", "INFO", "leads term=1");
    }

    fn log(&mut self, host: &str, level: &str, text: &str) {
        let target = "polybolos_consensus::driver".into();
        self.say(host, Seen::Log { level: level.into(), target, text: text.into() });
    }

    /// Faults, each at its share of the run.
    fn disturb(&mut self, job: u64, jobs: u64) {
        let begins =
            |id, name: &str, target: &str| Seen::FaultBegins { id, name: name.into(), target: target.into() };
        let ends =
            |id, name: &str, target: &str| Seen::FaultEnds { id, name: name.into(), target: target.into() };
        let is = |percent: u64| job == jobs * percent / 100;
        if is(10) {
            self.say("world", begins(1, "slow-link", "executor-3"));
        } else if is(30) {
            self.say("world", begins(2, "power-loss", "scheduler-1"));
            self.say("scheduler-1", Seen::Down { power_loss: true });
            self.at_us += 240_000;
            (self.term, self.leader) = (2, 3);
            self.say("scheduler-3", Seen::Elected { term: 2, last_term: 1, last_index: self.index });
            self.log("executor-1", "WARN", "lost the leader, looks for another");
        } else if is(45) {
            self.say("world", ends(1, "slow-link", "executor-3"));
            self.say("world", begins(3, "crash", "executor-2"));
            let begins = self.at_us;
            self.at_us += 30_000;
            self.say("executor-2", Seen::Down { power_loss: false });
            self.at_us = begins;
            self.say(
                "scheduler-3",
                Seen::Failpoint { point: "log.after_append".into(), hit: 4, then: "Hold { ms: 40 }".into() },
            );
        } else if is(55) {
            self.say("executor-2", Seen::Up { life: 2 });
            self.say("scheduler-1", Seen::Up { life: 2 });
            self.say("scheduler-1", Seen::Installed { index: self.index, term: 2, state_hash: "00".into() });
            self.say("scheduler-1", Seen::Mark { mark: "snapshot.installed".into() });
            self.say("world", begins(4, "store-errors", ""));
            self.say(
                "world",
                Seen::FaultSkipped { id: 5, name: "wipe".into(), reason: "nobody to hit".into() },
            );
            self.log("scheduler-2", "ERROR", HOSTILE);
        } else if is(70) {
            self.say("world", ends(4, "store-errors", ""));
            self.say("client-2", Seen::Exited { reason: "client-gone".into() });
            self.say("world", Seen::Phase { phase: "healed".into() });
        }
    }

    fn job(&mut self, number: u64) {
        let (job, op, client) = (format!("{number:016x}"), u32::try_from(number).unwrap(), number % 2 + 1);
        let client = format!("client-{client}");
        self.say(
            &client,
            Seen::Invoked { op, what: format!("SELECT g, sum(x) FROM t{number} GROUP BY g -- {HOSTILE}") },
        );
        self.send(&client, &format!("scheduler-{}", self.leader), 812);
        self.commit(format!("submit-job {job}"));
        self.say(&client, Seen::Accepted { op, job: job.clone(), key: None });
        for stage in 0..3 {
            let begins = self.at_us;
            for partition in 0..if stage == 2 { 1 } else { 3 } {
                self.at_us = begins;
                self.task(&format!("{job}/{stage}/{partition}"), partition);
            }
        }
        self.at_us += 4000;
        let (rows, mismatch) = (17, (number % 11 == 9).then(|| "row 0 differs".to_owned()));
        self.say(
            &client,
            match number % 7 {
                3 => Seen::Failed { op, error: "cancelled".into(), outcome: "cancelled".into() },
                5 => Seen::Failed { op, error: "no leader within 10 s".into(), outcome: "unknown".into() },
                6 => Seen::Abandoned { op, job: job.clone() },
                _ => Seen::Answered { op, job: job.clone(), rows, mismatch },
            },
        );
        self.say(&client, Seen::Status { op, job, status: "succeeded".into(), is_terminal: true });
    }

    fn task(&mut self, task: &str, partition: u64) {
        self.counter += 1;
        let executor = format!("executor-{}", (self.counter + partition) % 3 + 1);
        let leader = format!("scheduler-{}", self.leader);
        let (task, attempt) = (task.to_owned(), format!("{}.{}", self.term, self.counter));
        let launched = Seen::Launched {
            term: self.term,
            executor: executor.clone(),
            task: task.clone(),
            attempt: attempt.clone(),
        };
        self.say(&leader, launched);
        self.send(&leader, &executor, 2400);
        self.at_us += 2000;
        let (busy, slots) = (1, 2);
        let (e, t, a) = (executor.clone(), task.clone(), attempt.clone());
        self.say(
            &executor,
            Seen::AttemptStarted { executor: e.clone(), task: t.clone(), attempt: a.clone(), busy, slots },
        );
        self.at_us += 10_000 + self.next(90_000);
        let end = ["completed", "completed", "completed", "completed", "stopped", "failed"]
            [usize::try_from(self.next(6)).unwrap()];
        self.say(&executor, Seen::AttemptEnded { executor: e, task: t, attempt: a, end: end.into() });
        self.send(&executor, &leader, 300);
        self.commit(format!("complete-task {task} {attempt} {executor}"));
    }

    fn commit(&mut self, command: String) {
        self.index += 1;
        for replica in 1..=3 {
            let host = format!("scheduler-{replica}");
            if self.term == 2 && replica == 1 && self.at_us < 4_800_000 {
                continue;
            }
            self.send(&format!("scheduler-{}", self.leader), &host, 500);
            let commands = vec![command.clone()];
            self.say(
                &host,
                Seen::Applied {
                    index: self.index,
                    term: self.term,
                    bytes: 90,
                    commands,
                    state_hash: "91".into(),
                },
            );
        }
    }

    fn send(&mut self, from: &str, to: &str, bytes: usize) {
        if from != to {
            self.say(from, Seen::Net { peer: format!("{to}:7701"), net: "sent".into(), bytes });
            self.at_us += 700;
        }
    }
}
