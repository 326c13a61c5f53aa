//! Times with and without a kill, as a table that grows or as JSON.

use serde_json::{Value, json};

use super::{
    super::super::{error::CliError, text::milliseconds},
    summary::{Summary, summaries},
    work::Work,
};

/// The extra time that a kill may cost, for each unit of what was lost: the work, and the time until it was noticed.
pub(super) const AIM: f64 = 1.2;

/// How a query ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    Answered {
        ms: f64,
        difference: Option<String>,
    },
    Failed(String),
    /// Each time the query was over before its executor was killed.
    Missed,
}

/// One run with a kill.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kill {
    /// Of the time without one.
    pub(super) percent: u32,
    pub(super) outcome: Outcome,
    /// From the kill to the committed loss.
    pub(super) detection_ms: Option<f64>,
    pub(super) work: Work,
    /// Done tasks that ran again, by the cluster's log.
    pub(super) redone: u64,
}

/// One query.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) query: u32,
    pub(super) without_ms: f64,
    /// What differs without a kill.
    pub(super) difference: Option<String>,
    pub(super) kills: Vec<Kill>,
}

impl Kill {
    pub(super) fn ms(&self) -> Option<f64> {
        match self.outcome {
            Outcome::Answered { ms, .. } => Some(ms),
            Outcome::Failed(_) | Outcome::Missed => None,
        }
    }

    pub(super) fn ratio(&self, without_ms: f64) -> Option<f64> {
        self.ms().filter(|_| without_ms > 0.0).map(|ms| ms / without_ms)
    }

    /// Whether the extra time is within the aim.
    pub(super) fn within_aim(&self, without_ms: f64) -> Option<bool> {
        let allowed_ms = AIM * (self.work.lost_ms + self.detection_ms?);
        Some(self.ms()? - without_ms <= allowed_ms)
    }

    fn result(&self) -> String {
        match &self.outcome {
            Outcome::Answered { difference: None, .. } => "equal".to_owned(),
            Outcome::Answered { difference: Some(difference), .. } => format!("DIFFERS: {difference}"),
            Outcome::Failed(error) => format!("FAILED: {error}"),
            Outcome::Missed => "over before the kill".to_owned(),
        }
    }

    fn json(&self, without_ms: f64) -> Value {
        json!({
            "kill_at_percent": self.percent, "ms": self.ms(), "ratio": self.ratio(without_ms),
            "detection_ms": self.detection_ms, "lost_task_ms": self.work.lost_ms,
            "stalled_task_ms": self.work.stalled_ms, "useful_task_ms": self.work.useful_ms, "lost_share": self.work.share(), "tasks": self.work.tasks,
            "tasks_again": self.work.again, "tasks_completed_again": self.redone, "within_aim": self.within_aim(without_ms), "result": self.result(),
        })
    }
}

pub(super) fn header() -> String {
    format!(
        "{:>5} {:>11} {:>7} {:>11} {:>6} {:>10} {:>10}  {}\n",
        "query", "without", "kill at", "with", "ratio", "ran again", "noticed", "result"
    )
}

impl Row {
    pub(super) fn lines(&self) -> String {
        let line = |kill: &Kill| {
            let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            format!(
                "{:>5} {:>11} {:>5} % {:>11} {:>6} {:>8.1} % {:>10}  {}\n",
                self.query,
                milliseconds(self.without_ms),
                kill.percent,
                or_dash(kill.ms().map(milliseconds)),
                or_dash(kill.ratio(self.without_ms).map(|ratio| format!("{ratio:.2}"))),
                kill.work.share() * 100.0,
                or_dash(kill.detection_ms.map(milliseconds)),
                kill.result()
            )
        };
        let unhurt = self
            .difference
            .iter()
            .map(|found| format!("{:>5} DIFFERS without a kill: {found}\n", self.query));
        unhurt.chain(self.kills.iter().map(line)).collect()
    }

    fn has_failed(&self) -> bool {
        self.kills.iter().any(|kill| matches!(kill.outcome, Outcome::Failed(_)))
    }

    fn differs(&self) -> bool {
        let differs = |kill: &Kill| matches!(&kill.outcome, Outcome::Answered { difference: Some(_), .. });
        self.difference.is_some() || self.kills.iter().any(differs)
    }
}

pub(super) fn summary(rows: &[Row]) -> String {
    summaries(rows).iter().map(Summary::line).collect()
}

pub(super) fn json(rows: &[Row]) -> Value {
    let row = |row: &Row| {
        json!({
            "query": row.query, "without_ms": row.without_ms, "difference": row.difference,
            "kills": row.kills.iter().map(|kill| kill.json(row.without_ms)).collect::<Value>(),
        })
    };
    json!({
        "queries": rows.iter().map(row).collect::<Value>(),
        "summary": summaries(rows).iter().map(Summary::json).collect::<Value>(),
    })
}

/// # Errors
/// An answer was wrong, or there was none.
pub(super) fn verdict(rows: &[Row]) -> Result<(), CliError> {
    let of = |is: fn(&Row) -> bool| -> Vec<String> {
        rows.iter().filter(|row| is(row)).map(|row| row.query.to_string()).collect()
    };
    let (wrong, failed) = (of(Row::differs), of(Row::has_failed));
    if !wrong.is_empty() {
        return Err(CliError::Mismatch { count: wrong.len(), queries: wrong.join(", ") });
    }
    if !failed.is_empty() {
        return Err(CliError::NotRecovered { count: failed.len(), queries: failed.join(", ") });
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn row(kills: &[(u32, f64, f64, f64)]) -> Row {
        let kill = |&(percent, ms, lost_ms, detection): &(u32, f64, f64, f64)| Kill {
            percent,
            outcome: Outcome::Answered { ms, difference: None },
            detection_ms: Some(detection),
            work: Work { useful_ms: 200.0, lost_ms, stalled_ms: 0.0, tasks: 4, again: 1 },
            redone: 1,
        };
        Row { query: 9, without_ms: 100.0, difference: None, kills: kills.iter().map(kill).collect() }
    }

    #[test]
    fn a_wrong_answer_and_none_are_told() {
        let mut rows = [row(&[(10, 150.0, 20.0, 30.0)])];
        assert_eq!(json(&rows)["queries"][0]["kills"][0]["ratio"], 1.5);
        assert!(verdict(&rows).is_ok());
        rows[0].kills[0].outcome = Outcome::Missed;
        assert!(rows[0].lines().contains("over before the kill") && verdict(&rows).is_ok());
        rows[0].kills[0].outcome = Outcome::Failed("it is gone".to_owned());
        assert!(rows[0].lines().contains("FAILED: it is gone"), "{}", rows[0].lines());
        assert!(verdict(&rows).unwrap_err().to_string().contains("queries 9"));
        let difference = Some("a row".to_owned());
        rows[0].kills[0].outcome = Outcome::Answered { ms: 1.0, difference };
        assert!(matches!(verdict(&rows), Err(CliError::Mismatch { .. })));
    }
}
