//! Means of all runs of a bench.

use serde_json::{Value, json};

use super::{
    super::super::text::milliseconds,
    report::{AIM, Kill, Row},
};

fn geometric_mean(values: &[f64]) -> Option<f64> {
    let logs: f64 = values.iter().map(|value| value.ln()).sum();
    (!values.is_empty()).then(|| (logs / values.len() as f64).exp())
}

/// The means of all runs, and of those with a kill at `percent`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Summary {
    runs: usize,
    percent: Option<u32>,
    ratio: Option<f64>,
    lost_share: f64,
    detection_ms: Vec<f64>,
    within_aim: usize,
    redone: u64,
}

impl Summary {
    fn of(rows: &[Row], percent: Option<u32>) -> Self {
        let runs = rows.iter().flat_map(|row| row.kills.iter().map(|kill| (row.without_ms, kill)));
        let runs: Vec<(f64, &Kill)> = runs
            .filter(|(_, kill)| kill.ms().is_some() && percent.is_none_or(|percent| percent == kill.percent))
            .collect();
        let ratios: Vec<f64> = runs.iter().filter_map(|(without, kill)| kill.ratio(*without)).collect();
        let mut detection_ms: Vec<f64> = runs.iter().filter_map(|(_, kill)| kill.detection_ms).collect();
        detection_ms.sort_by(f64::total_cmp);
        let (lost, useful) = runs.iter().fold((0.0, 0.0), |(lost, useful), (_, kill)| {
            (lost + kill.work.lost_ms, useful + kill.work.useful_ms)
        });
        let within_aim = |(without, kill): &&(f64, &Kill)| kill.within_aim(*without) == Some(true);
        Self {
            runs: runs.len(),
            percent,
            ratio: geometric_mean(&ratios),
            lost_share: if useful > 0.0 { lost / useful } else { 0.0 },
            within_aim: runs.iter().filter(within_aim).count(),
            redone: runs.iter().map(|(_, kill)| kill.redone).sum(),
            detection_ms,
        }
    }

    /// The middle one, and the longest.
    fn detection(&self) -> (f64, f64) {
        let at = |index: usize| self.detection_ms.get(index).copied().unwrap_or(0.0);
        (at(self.detection_ms.len() / 2), at(self.detection_ms.len().saturating_sub(1)))
    }

    pub(super) fn line(&self) -> String {
        let at =
            self.percent.map_or_else(|| "all kills".to_owned(), |percent| format!("kill at {percent} %"));
        let all = format!(
            "{at}: {} runs, geometric mean of the ratios {:.3}, {:.1} % of the work ran again, among it {} tasks that \
             had been completed",
            self.runs,
            self.ratio.unwrap_or(1.0),
            self.lost_share * 100.0,
            self.redone
        );
        if self.detection_ms.is_empty() {
            return all + "\n";
        }
        let (middle, longest) = self.detection();
        format!(
            "{all}; noticed after {} (p50) to {} (max); {} runs took no longer than {AIM} times what was lost\n",
            milliseconds(middle),
            milliseconds(longest),
            self.within_aim
        )
    }

    pub(super) fn json(&self) -> Value {
        let (middle, longest) = self.detection();
        json!({
            "kill_at_percent": self.percent, "runs": self.runs, "geometric_mean_ratio": self.ratio,
            "lost_share": self.lost_share, "detection_p50_ms": middle, "detection_max_ms": longest,
            "within_aim": self.within_aim, "tasks_completed_again": self.redone,
        })
    }
}

pub(super) fn summaries(rows: &[Row]) -> Vec<Summary> {
    let mut percents: Vec<u32> =
        rows.iter().flat_map(|row| row.kills.iter().map(|kill| kill.percent)).collect();
    percents.sort_unstable();
    percents.dedup();
    percents.into_iter().map(Some).chain([None]).map(|percent| Summary::of(rows, percent)).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::report::tests::row, *};

    #[test]
    fn means_and_the_aim() {
        let rows = [row(&[(10, 150.0, 20.0, 30.0), (50, 200.0, 60.0, 20.0), (90, 400.0, 60.0, 10.0)])];
        let all = Summary::of(&rows, None);
        // 50 of 60 allowed, 100 of 96, 300 of 84.
        assert_eq!((all.runs, all.within_aim, all.detection()), (3, 1, (20.0, 30.0)));
        assert!(
            (all.ratio.unwrap() - 12.0_f64.cbrt()).abs() < 1e-9 && (all.lost_share - 0.2333).abs() < 1e-3
        );
        assert_eq!(Summary::of(&rows, Some(50)).ratio.map(f64::round), Some(2.0));
        let text = Summary::of(&rows, Some(90)).line();
        assert!(text.contains("kill at 90 %: 1 runs, geometric mean of the ratios 4.000"), "{text}");
        let found: Vec<_> = summaries(&rows).iter().map(|one| one.percent).collect();
        assert_eq!(found, [Some(10), Some(50), Some(90), None]);
    }
}
