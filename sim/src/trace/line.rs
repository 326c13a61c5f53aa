//! What a line of a trace says, for whoever writes or reads one.
//!
//! The first line is a [`Header`], the last one says [`Seen::End`], after [`Seen::Violation`] if a promise was broken;
//! each other one is a moment. Two lines of each kind, shortened:
//!
//! ```json
//! {"polybolos_trace":1,"seed":7,"scenario":"swarm","build":"a3…","schedule":{"seed":7,"cluster":{…},"op":[…],…}}
//! {"at_us":0,"host":"scheduler-1","kind":"up","life":1}
//! {"at_us":812000,"host":"scheduler-1","kind":"up","life":2}
//! {"at_us":512000,"host":"scheduler-1","kind":"down","power_loss":true}
//! {"at_us":612000,"host":"executor-2","kind":"down","power_loss":false}
//! {"at_us":512000,"host":"scheduler-1","kind":"exited","reason":"the log can't be written: disk full"}
//! {"at_us":612000,"host":"scheduler-2","kind":"refused","reason":"record 3 of the log is damaged"}
//! {"at_us":500000,"host":"world","kind":"fault-begins","id":3,"name":"isolate","target":"scheduler-1"}
//! {"at_us":500000,"host":"world","kind":"fault-begins","id":4,"name":"store-errors","target":""}
//! {"at_us":900000,"host":"world","kind":"fault-ends","id":3,"name":"isolate","target":"scheduler-1"}
//! {"at_us":910000,"host":"world","kind":"fault-ends","id":4,"name":"store-errors","target":""}
//! {"at_us":500000,"host":"world","kind":"fault-skipped","id":5,"name":"crash","reason":"nobody leads"}
//! {"at_us":510000,"host":"world","kind":"fault-skipped","id":6,"name":"wipe","reason":"a quorum has to be left"}
//! {"at_us":700,"host":"scheduler-1","kind":"failpoint","point":"log.after_append","hit":4,"then":"Hold { ms: 40 }"}
//! {"at_us":800,"host":"executor-1","kind":"failpoint","point":"executor.report_twice","hit":1,"then":"taken"}
//! {"at_us":700,"host":"scheduler-1","kind":"mark","mark":"snapshot.installed"}
//! {"at_us":800,"host":"executor-1","kind":"mark","mark":"executor.reports_again"}
//! {"at_us":90000,"host":"scheduler-1","kind":"elected","term":1,"last_term":0,"last_index":0}
//! {"at_us":990000,"host":"scheduler-3","kind":"elected","term":2,"last_term":1,"last_index":40}
//! {"at_us":10,"host":"scheduler-1","kind":"opened","last_term":0,"last_index":0}
//! {"at_us":20,"host":"scheduler-1","kind":"opened","last_term":1,"last_index":31}
//! {"at_us":90,"host":"scheduler-1","kind":"applied","index":1,"term":1,"bytes":0,"commands":[],"state_hash":"00…"}
//! {"at_us":95,"host":"scheduler-1","kind":"applied","index":2,"term":1,"bytes":812,
//!  "commands":["submit-job 00000000000000a1","complete-task 00000000000000a1/0/1 1.4 executor-2"],"state_hash":"91…"}
//! {"at_us":99,"host":"scheduler-2","kind":"installed","index":40,"term":2,"state_hash":"91…"}
//! {"at_us":99,"host":"scheduler-3","kind":"installed","index":80,"term":2,"state_hash":"92…"}
//! {"at_us":99,"host":"scheduler-1","kind":"launched","term":1,"executor":"executor-1","task":"00000000000000a1/0/1",
//!  "attempt":"1.4"}
//! {"at_us":99,"host":"scheduler-3","kind":"launched","term":2,"executor":"executor-2","task":"00000000000000a1/1/0",
//!  "attempt":"2.1"}
//! {"at_us":99,"host":"executor-1","kind":"obeyed","executor":"executor-1","term":1}
//! {"at_us":99,"host":"executor-2","kind":"obeyed","executor":"executor-2","term":2}
//! {"at_us":99,"host":"executor-1","kind":"registered","executor":"executor-1","term":1,"incarnation":1}
//! {"at_us":99,"host":"executor-2","kind":"registered","executor":"executor-2","term":2,"incarnation":5}
//! {"at_us":99,"host":"executor-1","kind":"attempt-started","executor":"executor-1","task":"00000000000000a1/0/1",
//!  "attempt":"1.4","busy":1,"slots":2}
//! {"at_us":99,"host":"executor-2","kind":"attempt-started","executor":"executor-2","task":"00000000000000a1/1/0",
//!  "attempt":"2.1","busy":2,"slots":2}
//! {"at_us":99,"host":"executor-1","kind":"attempt-ended","executor":"executor-1","task":"00000000000000a1/0/1",
//!  "attempt":"1.4","end":"completed"}
//! {"at_us":99,"host":"executor-2","kind":"attempt-ended","executor":"executor-2","task":"00000000000000a1/1/0",
//!  "attempt":"2.1","end":"stopped"}
//! {"at_us":99,"host":"client-1","kind":"invoked","op":1,"what":"SELECT count(*) FROM t"}
//! {"at_us":99,"host":"client-2","kind":"invoked","op":2,"what":"status"}
//! {"at_us":99,"host":"client-1","kind":"accepted","op":1,"job":"00000000000000a1","key":null}
//! {"at_us":99,"host":"client-1","kind":"accepted","op":3,"job":"00000000000000a2","key":"k-3"}
//! {"at_us":99,"host":"client-2","kind":"status","op":2,"job":"00000000000000a1","status":"running","is_terminal":false}
//! {"at_us":99,"host":"client-2","kind":"status","op":4,"job":"00000000000000a1","status":"finished","is_terminal":true}
//! {"at_us":99,"host":"client-1","kind":"answered","op":1,"job":"00000000000000a1","rows":17,"mismatch":null}
//! {"at_us":99,"host":"client-1","kind":"answered","op":3,"job":"00000000000000a2","rows":1,"mismatch":"row 0: …"}
//! {"at_us":99,"host":"client-2","kind":"done","op":2}
//! {"at_us":99,"host":"client-2","kind":"done","op":4}
//! {"at_us":99,"host":"client-1","kind":"failed","op":5,"error":"cancelled","outcome":"cancelled"}
//! {"at_us":99,"host":"client-1","kind":"failed","op":6,"error":"no leader within 10 s","outcome":"unknown"}
//! {"at_us":99,"host":"client-1","kind":"abandoned","op":7,"job":"00000000000000a3"}
//! {"at_us":99,"host":"client-2","kind":"abandoned","op":8,"job":"00000000000000a4"}
//! {"at_us":99,"host":"world","kind":"phase","phase":"healed"}
//! {"at_us":99,"host":"world","kind":"phase","phase":"at rest"}
//! {"at_us":99,"host":"scheduler-1","kind":"log","level":"INFO","target":"polybolos_consensus::driver","text":"leads term=1"}
//! {"at_us":99,"host":"executor-1","kind":"log","level":"WARN","target":"polybolos_executor::link","text":"no leader"}
//! {"at_us":99,"host":"client-1","kind":"net","peer":"scheduler-1:7701","net":"connected","bytes":0}
//! {"at_us":99,"host":"client-1","kind":"net","peer":"scheduler-1:7701","net":"sent","bytes":812}
//! {"at_us":99,"host":"world","kind":"violation","oracle":"slots","what":"executor-1 runs 3 attempts in 2 slots"}
//! {"at_us":99,"host":"world","kind":"violation","oracle":"liveness","what":"… these are pending: …"}
//! {"at_us":99,"host":"world","kind":"end","elapsed_ms":4100,"moments":2210}
//! {"at_us":99,"host":"world","kind":"end","elapsed_ms":60000,"moments":90210}
//! ```

use serde::{Deserialize, Serialize};

use super::seen;
use crate::{moment::Moment, run::Summary, schedule::Schedule, tape};

pub const TRACE_FORMAT: u32 = 1;

/// The first line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`TRACE_FORMAT`].
    pub polybolos_trace: u32,
    pub seed: u64,
    pub scenario: String,
    /// Of the program that wrote it.
    pub build: String,
    /// The planted bug that was switched on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutant: Option<String>,
    /// All that the run did.
    pub schedule: Schedule,
}

/// Any other line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Simulated time since the cluster started.
    pub at_us: u64,
    /// `scheduler-1`, `executor-2`, `client-1`, or `world` for what is nobody's.
    pub host: String,
    #[serde(flatten)]
    pub seen: Seen,
}

/// See [`crate::moment::What`] and [`polybolos_model::simulation::Fact`]. Jobs, tasks and attempts are texts as the CLI prints them: `00000000000000a1`,
/// `JOB/STAGE/PARTITION`, `TERM.COUNTER`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Seen {
    Up {
        life: u32,
    },
    Down {
        power_loss: bool,
    },
    Exited {
        reason: String,
    },
    Refused {
        reason: String,
    },
    FaultBegins {
        id: u32,
        name: String,
        target: String,
    },
    FaultEnds {
        id: u32,
        name: String,
        target: String,
    },
    FaultSkipped {
        id: u32,
        name: String,
        reason: String,
    },
    Failpoint {
        point: String,
        hit: u64,
        then: String,
    },
    Mark {
        mark: String,
    },
    Elected {
        term: u64,
        last_term: u64,
        last_index: u64,
    },
    Opened {
        last_term: u64,
        last_index: u64,
    },
    /// `bytes` is the encoded entry's length; `state_hash` 16 hexadecimal digits.
    Applied {
        index: u64,
        term: u64,
        bytes: usize,
        commands: Vec<String>,
        state_hash: String,
    },
    Installed {
        index: u64,
        term: u64,
        state_hash: String,
    },
    Launched {
        term: u64,
        executor: String,
        task: String,
        attempt: String,
    },
    Obeyed {
        executor: String,
        term: u64,
    },
    Registered {
        executor: String,
        term: u64,
        incarnation: u64,
    },
    AttemptStarted {
        executor: String,
        task: String,
        attempt: String,
        busy: usize,
        slots: usize,
    },
    /// `end` is `completed`, `failed` or `stopped`.
    AttemptEnded {
        executor: String,
        task: String,
        attempt: String,
        end: String,
    },
    Invoked {
        op: u32,
        what: String,
    },
    Accepted {
        op: u32,
        job: String,
        key: Option<String>,
    },
    Status {
        op: u32,
        job: String,
        status: String,
        is_terminal: bool,
    },
    Answered {
        op: u32,
        job: String,
        rows: usize,
        mismatch: Option<String>,
    },
    Done {
        op: u32,
    },
    /// `outcome` is `cancelled`, `failed` or `unknown`.
    Failed {
        op: u32,
        error: String,
        outcome: String,
    },
    Abandoned {
        op: u32,
        job: String,
    },
    Phase {
        phase: String,
    },
    Log {
        level: String,
        target: String,
        text: String,
    },
    /// `net` is `connected`, `refused`, `sent` or `closed`.
    Net {
        peer: String,
        net: String,
        bytes: usize,
    },
    /// A promise was broken.
    Violation {
        oracle: String,
        what: String,
    },
    End(End),
}

/// The last line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub elapsed_ms: u64,
    pub moments: u64,
}

impl Line {
    /// The line of a moment.
    pub fn of(moment: &Moment) -> Self {
        Self { at_us: moment.at_us, host: moment.host.to_string(), seen: seen::of(&moment.what) }
    }

    /// The lines after the last moment.
    pub fn last(summary: &Summary, at_us: u64) -> Vec<Self> {
        let broken = summary.violation.iter();
        let broken = broken.map(|it| Seen::Violation { oracle: it.oracle.clone(), what: it.what.clone() });
        let end = Seen::End(End { elapsed_ms: summary.elapsed_ms, moments: summary.moments });
        broken.chain([end]).map(|seen| Self { at_us, host: tape::WORLD.to_owned(), seen }).collect()
    }
}
