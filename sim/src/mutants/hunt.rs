//! Which mutant runs next under which seed, and what came of it: pure, so that whoever runs the processes only carries
//! tasks out and outcomes in.

use std::{collections::BTreeSet, fmt, ops::RangeInclusive};

use super::Mutant;

/// Run `scenario` under `seed` with the mutant planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Task {
    pub mutant: &'static str,
    pub seed: u64,
    pub scenario: &'static str,
}

/// What came of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Kept,
    /// A promise was broken, and the code as it is keeps all of them under the same schedule. `check` is the oracle's
    /// name.
    Broken {
        check: String,
        what: String,
    },
    /// The code as it is breaks one too: that proves nothing.
    FalseAlarm,
}

/// How a mutant was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub seed: u64,
    /// The oracle's name.
    pub check: String,
    pub what: String,
}

struct Prey {
    mutant: Mutant,
    next_seed: u64,
    in_flight: BTreeSet<u64>,
    /// By the lowest seed so far.
    found: Option<Found>,
}

impl Prey {
    /// Whether a run of `seed` could still change anything.
    fn wants(&self, seed: u64) -> bool {
        self.found.as_ref().is_none_or(|found| seed < found.seed)
    }

    fn is_over(&self, last_seed: u64) -> bool {
        self.in_flight.is_empty() && (self.next_seed > last_seed || !self.wants(self.next_seed))
    }
}

/// See the module. The outcome does not depend on how many tasks are under way at once: of each mutant the lowest seed
/// that finds it counts.
pub struct Hunt {
    first_seed: u64,
    last_seed: u64,
    prey: Vec<Prey>,
    /// By scenario and seed.
    false_alarms: BTreeSet<(&'static str, u64)>,
}

impl Hunt {
    pub fn new(mutants: impl IntoIterator<Item = Mutant>, seeds: &RangeInclusive<u64>) -> Self {
        let (first_seed, last_seed) = (*seeds.start(), *seeds.end());
        let prey = |mutant| Prey { mutant, next_seed: first_seed, in_flight: BTreeSet::new(), found: None };
        let prey = mutants.into_iter().map(prey).collect();
        Self { first_seed, last_seed, prey, false_alarms: BTreeSet::new() }
    }

    /// The next run, of the mutant with the fewest under way. `None` when there is nothing to begin now.
    pub fn begin(&mut self) -> Option<Task> {
        let last_seed = self.last_seed;
        let open = |prey: &&mut Prey| prey.next_seed <= last_seed && prey.wants(prey.next_seed);
        let prey =
            self.prey.iter_mut().filter(open).min_by_key(|prey| (prey.in_flight.len(), prey.next_seed))?;
        let seed = prey.next_seed;
        prey.next_seed += 1;
        prey.in_flight.insert(seed);
        Some(Task { mutant: prey.mutant.name, seed, scenario: prey.mutant.scenario })
    }

    /// A run is over.
    pub fn end(&mut self, task: Task, verdict: Verdict) {
        let Some(prey) = self.prey.iter_mut().find(|prey| prey.mutant.name == task.mutant) else { return };
        prey.in_flight.remove(&task.seed);
        match verdict {
            Verdict::Kept => {}
            Verdict::FalseAlarm => {
                self.false_alarms.insert((task.scenario, task.seed));
            }
            Verdict::Broken { check, what } if prey.wants(task.seed) => {
                prey.found = Some(Found { seed: task.seed, check, what });
            }
            // Another run found it under a lower seed.
            Verdict::Broken { .. } => {}
        }
    }

    pub fn is_over(&self) -> bool {
        self.prey.iter().all(|prey| prey.is_over(self.last_seed))
    }

    /// Each mutant, and how it was found.
    pub fn outcomes(&self) -> impl Iterator<Item = (&Mutant, Option<&Found>)> {
        self.prey.iter().map(|prey| (&prey.mutant, prey.found.as_ref()))
    }

    /// How many runs it took to find one.
    fn runs(&self, found: &Found) -> u64 {
        found.seed - self.first_seed + 1
    }

    /// How many were found, of how many, and in how many runs the middle one of all was; `None` if fewer than half were.
    pub fn totals(&self) -> (usize, usize, Option<u64>) {
        let found = self.prey.iter().filter_map(|prey| prey.found.as_ref());
        let mut runs: Vec<u64> = found.map(|found| self.runs(found)).collect();
        runs.sort_unstable();
        let middle = self.prey.len().div_ceil(2).checked_sub(1);
        (runs.len(), self.prey.len(), middle.and_then(|middle| runs.get(middle).copied()))
    }
}

/// The first line of a text, cut to what fits a table.
fn headline(text: &str) -> String {
    const MOST_CHARS: usize = 100;
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(MOST_CHARS) {
        Some((cut, _)) => format!("{}…", line.get(..cut).unwrap_or_default()),
        None => line.to_owned(),
    }
}

impl fmt::Display for Hunt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:26}  {:>5}  {:22}  what was found", "planted bug", "seeds", "by check")?;
        for (mutant, found) in self.outcomes() {
            let name = mutant.name;
            match found {
                Some(found) => {
                    let (runs, check, what) = (self.runs(found), &found.check, headline(&found.what));
                    writeln!(f, "{name:26}  {runs:>5}  {check:22}  {what}")?;
                }
                None => writeln!(f, "{name:26}  {:>5}  {:22}  {}", "-", "never found", mutant.about)?,
            }
        }
        let (found, all, median) = self.totals();
        let median = median.map_or_else(|| "-".to_owned(), |median| median.to_string());
        let most = (self.last_seed + 1).saturating_sub(self.first_seed);
        writeln!(f, "{found} of {all} found, the median in {median} seeds, of {most} at most")?;
        let alarms: Vec<_> = self.false_alarms.iter().map(|(name, seed)| format!("{name} {seed}")).collect();
        if alarms.is_empty() {
            return Ok(());
        }
        writeln!(f, "not counted, since the code as it is breaks a promise too: {}", alarms.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::SWARM, *};

    fn mutants() -> [Mutant; 3] {
        ["easy", "hard", "never"].map(|name| Mutant { name, about: "…", checks: &[], scenario: SWARM })
    }

    /// Found under its seed and those after it. Seed 9 proves nothing.
    fn verdict(task: Task) -> Verdict {
        let finds = match task.mutant {
            "easy" => task.seed >= 2,
            "hard" => task.seed >= 7,
            _ => false,
        };
        match finds {
            true => Verdict::Broken { check: "answers".to_owned(), what: format!("seed {}", task.seed) },
            false if task.seed == 9 => Verdict::FalseAlarm,
            false => Verdict::Kept,
        }
    }

    /// Keeps `jobs` tasks under way and ends the newest first, so that outcomes come in a bad order.
    fn hunt(jobs: usize) -> (Hunt, usize) {
        let mut hunt = Hunt::new(mutants(), &(1..=10));
        let (mut under_way, mut runs) = (Vec::new(), 0);
        while !hunt.is_over() {
            while under_way.len() < jobs
                && let Some(task) = hunt.begin()
            {
                under_way.push(task);
                runs += 1;
            }
            let task = under_way.pop().unwrap();
            hunt.end(task, verdict(task));
        }
        (hunt, runs)
    }

    #[test]
    fn the_lowest_seed_counts_however_many_run_at_once() {
        let (alone, runs) = hunt(1);
        assert_eq!(runs, 2 + 7 + 10);
        let (many, _) = hunt(5);
        for hunt in [alone, many] {
            assert_eq!(hunt.totals(), (2, 3, Some(7)));
            let seeds: Vec<_> = hunt.outcomes().map(|(_, found)| found.map(|found| found.seed)).collect();
            assert_eq!(seeds, [Some(2), Some(7), None]);
        }
    }

    #[test]
    fn the_table_names_what_was_never_found() {
        let (hunt, _) = hunt(2);
        let text = hunt.to_string();
        assert!(text.contains("2 of 3 found, the median in 7 seeds, of 10 at most"), "{text}");
        assert!(
            text.lines().any(|line| line.starts_with("never ") && line.contains("never found")),
            "{text}"
        );
        assert!(headline(&"é".repeat(200)).chars().count() == 101);
    }
}
