//! Times of queries, as a table that grows or as JSON.

use std::time::Duration;

use serde_json::{Value, json};

/// Runs of one query on one side, in milliseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Times {
    runs_ms: Vec<f64>,
}

impl Times {
    pub(crate) fn add(&mut self, elapsed: Duration) {
        self.runs_ms.push(elapsed.as_secs_f64() * 1_000.0);
    }

    pub(crate) fn append(&mut self, mut others: Self) {
        self.runs_ms.append(&mut others.runs_ms);
    }

    pub(crate) fn best_ms(&self) -> f64 {
        self.runs_ms.iter().copied().reduce(f64::min).unwrap_or(0.0)
    }

    /// The middle one, or the mean of the two in the middle.
    pub(crate) fn median_ms(&self) -> f64 {
        self.quantile_ms(0.5)
    }

    /// Linear between the nearest runs; `share` in `0.0..=1.0`.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        let mut sorted = self.runs_ms.clone();
        sorted.sort_by(f64::total_cmp);
        let at = share * sorted.len().saturating_sub(1) as f64;
        let below = sorted.get(at.floor() as usize).copied().unwrap_or(0.0);
        let above = sorted.get(at.ceil() as usize).copied().unwrap_or(below);
        below + (above - below) * at.fract()
    }

    fn json(&self) -> Value {
        json!({"best": self.best_ms(), "median": self.median_ms(), "runs": self.runs_ms})
    }
}

/// One query.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    pub(crate) query: u32,
    pub(crate) rows: usize,
    pub(crate) cluster: Times,
    /// With `--verify`.
    pub(crate) datafusion: Option<Times>,
    /// What differs, with `--verify`.
    pub(crate) difference: Option<String>,
}

impl Row {
    /// Median of the cluster over median of DataFusion.
    fn ratio(&self) -> Option<f64> {
        let datafusion = self.datafusion.as_ref()?.median_ms();
        (datafusion > 0.0).then(|| self.cluster.median_ms() / datafusion)
    }

    pub(crate) fn line(&self) -> String {
        let mut line = format!(
            "{:>5} {:>8} {:>13.1} {:>13.1}",
            self.query,
            self.rows,
            self.cluster.best_ms(),
            self.cluster.median_ms()
        );
        if let Some(datafusion) = &self.datafusion {
            let ratio = self.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
            let check = if self.difference.is_some() { "DIFFERS" } else { "equal" };
            line.push_str(&format!(
                " {:>13.1} {:>13.1} {ratio:>6} {check:>8}",
                datafusion.best_ms(),
                datafusion.median_ms()
            ));
        }
        line.push('\n');
        line
    }

    fn json(&self) -> Value {
        json!({
            "query": self.query, "rows": self.rows, "cluster_ms": self.cluster.json(),
            "datafusion_ms": self.datafusion.as_ref().map(Times::json), "ratio": self.ratio(),
            "equal": self.datafusion.as_ref().map(|_| self.difference.is_none()), "difference": self.difference,
        })
    }
}

/// What the lines of [`Row::line`] stand below.
pub(crate) fn header(verify: bool) -> String {
    let mut line = format!("{:>5} {:>8} {:>13} {:>13}", "query", "rows", "cluster best", "cluster ms");
    if verify {
        line.push_str(&format!(
            " {:>13} {:>13} {:>6} {:>8}",
            "in-proc best", "in-proc ms", "ratio", "result"
        ));
    }
    line.push('\n');
    line
}

/// Sums of the medians, and the geometric mean of the ratios.
pub(crate) fn summary(rows: &[Row]) -> String {
    let cluster: f64 = rows.iter().map(|row| row.cluster.median_ms()).sum();
    let mut text = format!("cluster {cluster:.0} ms for {} queries", rows.len());
    if let Some(mean) = geometric_mean(rows) {
        let datafusion: f64 =
            rows.iter().filter_map(|row| row.datafusion.as_ref()).map(Times::median_ms).sum();
        text.push_str(&format!(
            ", in-process DataFusion {datafusion:.0} ms; geometric mean of the ratios {mean:.3}"
        ));
    }
    text.push('\n');
    text
}

fn geometric_mean(rows: &[Row]) -> Option<f64> {
    let logs: Vec<f64> = rows.iter().filter_map(Row::ratio).map(f64::ln).collect();
    (!logs.is_empty()).then(|| (logs.iter().sum::<f64>() / logs.len() as f64).exp())
}

pub(crate) fn json(rows: &[Row], slots: u32) -> Value {
    json!({
        "slots": slots,
        "queries": rows.iter().map(Row::json).collect::<Value>(),
        "cluster_ms": rows.iter().map(|row| row.cluster.median_ms()).sum::<f64>(),
        "geometric_mean_ratio": geometric_mean(rows),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(runs: &[u64]) -> Times {
        let mut times = Times::default();
        runs.iter().for_each(|ms| times.add(Duration::from_millis(*ms)));
        times
    }

    #[test]
    fn medians_and_means() {
        assert_eq!((times(&[5, 1, 9]).median_ms(), times(&[4, 2]).median_ms()), (5.0, 3.0));
        assert_eq!((times(&[5, 1, 9]).best_ms(), times(&[]).median_ms()), (1.0, 0.0));
        let hundred: Vec<u64> = (0..=100).collect();
        assert_eq!(times(&hundred).quantile_ms(0.99), 99.0);
        let row = |cluster, datafusion| Row {
            cluster: times(&[cluster]),
            datafusion: Some(times(&[datafusion])),
            ..Row::default()
        };
        let mean = geometric_mean(&[row(20, 10), row(10, 20), row(80, 10)]).unwrap();
        assert!((mean - 2.0).abs() < 1e-9, "{mean}");
        assert_eq!(geometric_mean(&[Row::default()]), None);
        assert!(summary(&[row(20, 10)]).contains("2.000"));
        assert!(row(20, 10).line().contains("2.00    equal"));
    }
}
