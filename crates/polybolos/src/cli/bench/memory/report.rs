//! Times of the sort, and memory of the processes.

use serde_json::{Value, json};

use super::super::{
    super::{error::CliError, text},
    cluster::Peak,
    report::{Cell, Ratio},
};

const SIDES: [&str; 2] = ["cluster", "DataFusion in one process"];

/// What came of the sort.
pub(super) struct Sort {
    pub(super) rows: u64,
    pub(super) table_bytes: u64,
    /// Of [`SIDES`].
    pub(super) cells: [Cell; 2],
    pub(super) peaks: Vec<Peak>,
}

impl Sort {
    fn ratio(&self) -> Option<Ratio> {
        let [cluster, datafusion] = &self.cells;
        Ratio::of(cluster, datafusion)
    }

    pub(super) fn text(&self) -> String {
        let side = |(name, cell): (&&str, &Cell)| {
            let moved = |bytes: u64| if cell.moved.is_some() { text::bytes(bytes) } else { String::new() };
            let (spilled, shuffled) =
                cell.moved.map_or((0, 0), |moved| (moved.spilled_bytes, moved.shuffled_bytes));
            vec![
                (*name).to_owned(),
                cell.median_ms().map_or_else(|| "-".to_owned(), text::milliseconds),
                moved(spilled),
                moved(shuffled),
                cell.trouble.clone().unwrap_or_else(|| "every row there, and in order".to_owned()),
            ]
        };
        let sides: Vec<Vec<String>> = SIDES.iter().zip(&self.cells).map(side).collect();
        let headers = ["side", "median", "spilled", "between tasks", "rows"];
        let ratio = self.ratio().map(|ratio| format!("cluster / DataFusion: {ratio}\n")).unwrap_or_default();
        format!(
            "{} rows sorted, {} of Parquet files\n{}{ratio}\n{}",
            text::count(self.rows),
            text::bytes(self.table_bytes),
            text::columns(&headers, &sides),
            peaks_table(&self.peaks)
        )
    }

    pub(super) fn json(&self) -> Value {
        let side = |(name, cell): (&&str, &Cell)| {
            json!({"side": name, "runs_ms": cell.runs_ms, "median_ms": cell.median_ms(), "trouble": cell.trouble,
                   "spilled_bytes": cell.moved.map(|moved| moved.spilled_bytes),
                   "shuffled_bytes": cell.moved.map(|moved| moved.shuffled_bytes)})
        };
        json!({"rows": self.rows, "table_bytes": self.table_bytes,
               "sides": SIDES.iter().zip(&self.cells).map(side).collect::<Value>(),
               "ratio": self.ratio().map(Ratio::json), "processes": peaks_json(&self.peaks)})
    }

    /// # Errors
    /// The cluster has not given the rows, or not in order. What DataFusion did is only told.
    pub(super) fn verdict(&self) -> Result<(), CliError> {
        let [cluster, _] = &self.cells;
        cluster.trouble.as_ref().map_or(Ok(()), |trouble| {
            Err(CliError::WrongAnswer {
                sql: "the sort".to_owned(),
                expected: "every row in order".to_owned(),
                got: trouble.clone(),
            })
        })
    }
}

fn of_budget(peak: &Peak) -> Option<f64> {
    peak.budget_bytes.map(|budget| peak.bytes as f64 / budget as f64)
}

/// The most memory that each process had at once, beside what it was told to keep to.
pub(super) fn peaks_table(peaks: &[Peak]) -> String {
    let row = |peak: &Peak| {
        vec![
            peak.process.clone(),
            text::bytes(peak.bytes),
            peak.budget_bytes.map(text::bytes).unwrap_or_default(),
            of_budget(peak).map(|share| format!("{share:.2}")).unwrap_or_default(),
        ]
    };
    let rows: Vec<Vec<String>> = peaks.iter().map(row).collect();
    text::columns(&["process", "peak memory", "budget", "peak / budget"], &rows)
}

pub(super) fn peaks_json(peaks: &[Peak]) -> Value {
    let process = |peak: &Peak| {
        json!({"process": peak.process, "peak_bytes": peak.bytes, "budget_bytes": peak.budget_bytes,
               "of_budget": of_budget(peak)})
    };
    peaks.iter().map(process).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::super::cluster::Moved, *};

    #[test]
    fn a_failure_of_datafusion_is_told_and_one_of_the_cluster_is_an_error() {
        let moved = Some(Moved { shuffled_bytes: 3_000_000, spilled_bytes: 2_000_000 });
        let cell = |ms| Cell { runs_ms: vec![ms], moved, trouble: None };
        let peak = |process: &str, budget_bytes| Peak {
            process: process.to_owned(),
            bytes: 1_500_000_000,
            budget_bytes,
        };
        let mut sort = Sort {
            rows: 1_000,
            table_bytes: 56_000,
            cells: [cell(3_000.0), Cell { moved: None, ..cell(2_000.0) }],
            peaks: vec![peak("executor-1", Some(1_000_000_000)), peak("this client", None)],
        };
        let text = sort.text();
        for part in ["1.50 (1.50..1.50)", "3.00 s", "2.0 MB", "executor-1", "1.0 GB", "in order"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        sort.cells[1].trouble = Some("FAILED: memory".to_owned());
        assert!(sort.text().contains("FAILED: memory") && sort.verdict().is_ok());
        sort.cells[0].trouble = Some("DIFFERS: other rows".to_owned());
        assert!(sort.verdict().unwrap_err().to_string().contains("other rows"));
        assert_eq!(sort.json()["processes"][0]["of_budget"], 1.5);
    }
}
