//! The lines of `bench scheduler`, and how the cost of a task grows along each of them.

use serde_json::{Value, json};

use super::{
    super::super::text::{self, milliseconds},
    Cost, Load,
};

/// What differs between lines that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Varied {
    Executors,
    Tasks,
    Stages,
}

impl Varied {
    const ALL: [Self; 3] = [Self::Executors, Self::Tasks, Self::Stages];

    fn name(self) -> &'static str {
        match self {
            Self::Executors => "executors",
            Self::Tasks => "tasks a stage",
            Self::Stages => "stages a job",
        }
    }

    fn of(self, load: Load) -> u32 {
        match self {
            Self::Executors => load.executors,
            Self::Tasks => load.tasks,
            Self::Stages => load.stages,
        }
    }
}

struct Line {
    varied: Varied,
    load: Load,
    tasks: u64,
    per_second: f64,
    cpu_us: f64,
    p50_ms: f64,
    p99_ms: f64,
}

#[derive(Default)]
pub(super) struct Report {
    lines: Vec<Line>,
}

impl Report {
    pub(super) fn add(&mut self, varied: Varied, load: Load, cost: &Cost) {
        let [p50_ms, p99_ms] = [0.5, 0.99].map(|share| cost.commits.quantile_ms(share));
        let (tasks, per_second, cpu_us) = (cost.tasks, cost.per_second(), cost.cpu_us());
        self.lines.push(Line { varied, load, tasks, per_second, cpu_us, p50_ms, p99_ms });
    }

    fn of(&self, varied: Varied) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| line.varied == varied)
    }

    /// The cost of a task where there is most of `varied`, over that where there is least.
    fn growth(&self, varied: Varied) -> Option<f64> {
        let by = |line: &&Line| varied.of(line.load);
        let (least, most) = (self.of(varied).min_by_key(by)?, self.of(varied).max_by_key(by)?);
        (by(&least) < by(&most)).then(|| most.cpu_us / least.cpu_us.max(f64::MIN_POSITIVE))
    }

    pub(super) fn text(&self) -> String {
        let headers =
            ["executors", "stages", "tasks each", "jobs", "tasks", "tasks/s", "cpu µs/task", "p50", "p99"];
        let row = |line: &Line| {
            let Load { executors, stages, tasks, .. } = line.load;
            vec![
                executors.to_string(),
                stages.to_string(),
                tasks.to_string(),
                line.load.jobs().to_string(),
                line.tasks.to_string(),
                format!("{:.0}", line.per_second),
                format!("{:.1}", line.cpu_us),
                milliseconds(line.p50_ms),
                milliseconds(line.p99_ms),
            ]
        };
        let rows: Vec<Vec<String>> = self.lines.iter().map(row).collect();
        let mut text = text::columns(&headers, &rows);
        for varied in Varied::ALL {
            if let Some(growth) = self.growth(varied) {
                let name = varied.name();
                text.push_str(&format!(
                    "cost of a task with most {name} over that with fewest: {growth:.2}\n"
                ));
            }
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let line = |line: &Line| {
            let Load { executors, slots, stages, tasks, .. } = line.load;
            json!({"varied": line.varied.name(), "executors": executors, "slots": slots, "stages": stages,
                   "tasks_per_stage": tasks, "jobs": line.load.jobs(), "tasks": line.tasks,
                   "tasks_per_second": line.per_second, "cpu_us_per_task": line.cpu_us,
                   "commit_p50_ms": line.p50_ms, "commit_p99_ms": line.p99_ms})
        };
        let lines: Vec<Value> = self.lines.iter().map(line).collect();
        let [executors, tasks, stages] = Varied::ALL.map(|varied| self.growth(varied));
        json!({"lines": lines, "growth": {"executors": executors, "tasks": tasks, "stages": stages}})
    }
}

pub(super) fn progress(load: Load, cost: &Cost) -> String {
    let Load { executors, stages, tasks, .. } = load;
    format!(
        "{executors} executors, {} jobs of {stages} stages of {tasks} tasks: {:.0} tasks/s, {:.1} µs of CPU each",
        load.jobs(),
        cost.per_second(),
        cost.cpu_us()
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn growth_is_of_the_extremes_and_of_the_same_question() {
        let mut report = Report::default();
        let load = |executors, tasks| Load { executors, slots: 8, stages: 1, tasks, total: 1_000 };
        let cost = |us| Cost {
            tasks: 1_000,
            elapsed: Duration::from_millis(100),
            cpu: Duration::from_millis(us),
            ..Cost::default()
        };
        report.add(Varied::Executors, load(100, 50), &cost(30));
        report.add(Varied::Executors, load(1, 50), &cost(20));
        report.add(Varied::Executors, load(10, 50), &cost(90));
        report.add(Varied::Tasks, load(100, 7), &cost(1));
        assert_eq!(report.growth(Varied::Executors), Some(1.5));
        assert_eq!(report.growth(Varied::Tasks), None);
        let text = report.text();
        assert!(text.contains("fewest: 1.50") && text.contains("10000"), "{text}");
    }
}
