//! What clients asked for, from the question to its end.

use super::{
    chart::{HostIndex, Op, OpEnd},
    work::Work,
};
use crate::trace::{Line, Seen};

#[derive(Debug, Default)]
pub(super) struct Ops(Vec<Op>);

impl Ops {
    pub(super) fn on(&mut self, line: &Line, host: HostIndex, work: &mut Work) {
        let at = line.at_us;
        match &line.seen {
            Seen::Invoked { op, what } => self.0.push(Op {
                host,
                op: *op,
                what: what.clone(),
                from: at,
                accepted: -1,
                to: at,
                end: OpEnd::Open as u8,
                text: String::new(),
                job: -1,
            }),
            Seen::Accepted { op, job, .. } => {
                if let Some(open) = self.open(host, *op) {
                    open.accepted = i64::try_from(at).unwrap_or(i64::MAX);
                    open.job = work.job_of_op(job, at, &open.what);
                }
            }
            Seen::Answered { op, mismatch: Some(mismatch), .. } => {
                self.end(host, *op, at, OpEnd::WrongAnswer, mismatch);
            }
            Seen::Answered { op, rows, mismatch: None, .. } => {
                self.end(
                    host,
                    *op,
                    at,
                    OpEnd::Answered,
                    &format!("{rows} rows, as DataFusion alone gives them"),
                );
            }
            Seen::Done { op } => self.end(host, *op, at, OpEnd::Answered, ""),
            Seen::Failed { op, error, outcome } => {
                let end = match outcome.as_str() {
                    "cancelled" => OpEnd::Cancelled,
                    "unknown" => OpEnd::Unknown,
                    _ => OpEnd::Failed,
                };
                if let Some(open) = self.open(host, *op) {
                    work.op_failed(open.job, at, outcome, error);
                }
                self.end(host, *op, at, end, error);
            }
            Seen::Abandoned { op, .. } => self.end(host, *op, at, OpEnd::Abandoned, ""),
            Seen::Down { .. } | Seen::Exited { .. } | Seen::Refused { .. } => {
                let open = self.0.iter_mut().filter(|op| op.host == host && op.end == OpEnd::Open as u8);
                for op in open {
                    op.to = at;
                    op.end = OpEnd::LostWithClient as u8;
                }
            }
            _ => {}
        }
    }

    fn open(&mut self, host: HostIndex, op: u32) -> Option<&mut Op> {
        self.0
            .iter_mut()
            .rev()
            .find(|open| open.host == host && open.op == op && open.end == OpEnd::Open as u8)
    }

    fn end(&mut self, host: HostIndex, op: u32, at: u64, end: OpEnd, text: &str) {
        if let Some(open) = self.open(host, op) {
            open.to = at;
            open.end = end as u8;
            text.clone_into(&mut open.text);
        }
    }

    /// What is still open goes on until the end.
    pub(super) fn finish(mut self, end: u64) -> Vec<Op> {
        for op in self.0.iter_mut().filter(|op| op.end == OpEnd::Open as u8) {
            op.to = end;
        }
        self.0
    }
}
