//! Launches by what is not committed yet.

use expect_test::{Expect, expect};
use polybolos_model::{AttemptId, JobId, StageId, Term};
use proptest::prelude::*;

use super::dispatch::{attempt, with};
use crate::{Command, Dispatcher, Launch, is_foreseeable, submitted, transcript::Lab};

/// A leader, and what is under way to its log.
struct Leader {
    lab: Lab,
    dispatcher: Dispatcher,
    under_way: Vec<Command>,
    out: String,
}

impl Leader {
    /// Two executors of one slot.
    fn new(lines: &[&str]) -> Self {
        Self::of_version(3, lines)
    }

    fn of_version(version: u16, lines: &[&str]) -> Self {
        let (known, raised) = (format!("replica 1 version={version}"), format!("raise {version}"));
        let fleet = [&known, &raised, "register a slots=1", "register b slots=1"];
        let (mut lab, dispatcher) = with(&fleet, &["a", "b"]);
        lab.run_all(lines);
        Self { lab, dispatcher, under_way: Vec::new(), out: String::new() }
    }

    /// On their way into the log; what completes is reported.
    fn hear(&mut self, lines: &[&str]) -> &mut Self {
        for line in lines {
            let command = self.lab.parse(line);
            if let Command::CompleteTaskIn { attempt, .. } = &command {
                self.dispatcher.reported(*attempt);
            }
            self.under_way.push(command);
        }
        self
    }

    fn commit(&mut self) -> &mut Self {
        self.lab.apply(std::mem::take(&mut self.under_way));
        self.out += "committed\n";
        let done = self.lab.state.jobs().flat_map(|job| &job.runs).flat_map(|run| run.completed());
        let done: Vec<AttemptId> = done.map(|(_, done)| done.attempt).collect();
        for attempt in done {
            self.dispatcher.ended(attempt);
        }
        let launches = self.dispatcher.plan(&self.lab.state, 0);
        self.tell("plan", &launches)
    }

    fn look(&mut self) -> &mut Self {
        let launches = match self.lab.state.ahead(self.under_way.iter(), self.lab.term) {
            Some(mut ahead) => {
                let decisions = ahead.adapt(self.dispatcher.last_attempt());
                for decision in &decisions {
                    let Command::AdaptStage { stage, shares, after, .. } = decision else { panic!() };
                    self.out += &format!("decided: stage {stage} in {} shares after {after}\n", shares.len());
                }
                self.under_way.extend(decisions);
                self.dispatcher.plan_ahead(&ahead, 0)
            }
            None => Vec::new(),
        };
        self.tell("ahead", &launches)
    }

    fn tell(&mut self, what: &str, launches: &[Launch]) -> &mut Self {
        let word = |launch: &Launch| {
            let (task, executor) = (launch.task, &launch.executor);
            format!(" {}:{}/{}/{} on {executor}", launch.attempt, task.job.0, task.stage, task.partition)
        };
        let words: String = launches.iter().map(word).collect();
        self.out += &format!("{what}:{words}\n");
        self
    }

    #[track_caller]
    fn check(&mut self, expect: Expect) {
        expect.assert_eq(&std::mem::take(&mut self.out));
    }
}

const BOTH: [&str; 2] = ["complete a 1/0/0 1 epoch=0", "complete b 1/0/1 2 epoch=0"];

#[test]
fn readers_start_while_their_inputs_are_on_the_way_into_the_log_and_only_once() {
    let mut leader = Leader::new(&["submit 1 hash(2,1)"]);
    leader.commit().hear(&BOTH[..1]).look().hear(&BOTH[1..]).look().look().commit();
    leader.check(expect![[r#"
        committed
        plan: 1.1:1/0/0 on a 1.2:1/0/1 on b
        ahead:
        ahead: 1.3:1/1/0 on a
        ahead:
        committed
        plan:
    "#]]);
}

#[test]
fn a_slot_is_free_once_its_task_has_told_that_it_is_done() {
    let mut leader = Leader::new(&["submit 1 hash(4,1)"]);
    leader.commit().hear(&BOTH[..1]).look();
    let a = super::dispatch::id("a");
    assert_eq!((leader.dispatcher.busy_slots(&a), leader.dispatcher.running_on(&a)), (1, 2));
    leader.commit();
    leader.check(expect![[r#"
        committed
        plan: 1.1:1/0/0 on a 1.2:1/0/1 on b
        ahead: 1.3:1/0/2 on a
        committed
        plan:
    "#]]);
}

#[test]
fn whole_chains_run_ahead() {
    let mut leader = Leader::new(&["submit 1 chain(1,1,1)"]);
    leader.commit().hear(&["complete a 1/0/0 1 epoch=0"]).look();
    leader.hear(&["complete a 1/1/0 2 epoch=0"]).look();
    leader.hear(&["complete a 1/2/0 3 epoch=0"]).look().commit();
    leader.check(expect![[r#"
        committed
        plan: 1.1:1/0/0 on a
        ahead: 1.2:1/1/0 on a
        ahead: 1.3:1/2/0 on a
        ahead:
        committed
        plan:
    "#]]);
}

#[test]
fn a_decision_is_foreseen_with_what_it_is_made_on_and_logged_behind_it() {
    let mut leader = Leader::of_version(4, &["submit 1 chain~(2,4,2)"]);
    leader.commit().hear(&BOTH).look().look();
    leader.hear(&["complete a 1/1/0 3 epoch=0"]).look().commit();
    assert_eq!(leader.lab.state.shares(JobId(1), StageId(1)).unwrap().len(), 1);
    leader.hear(&["complete a 1/2/0 4 epoch=0"]).look().commit();
    assert!(leader.lab.state.job(JobId(1)).unwrap().status.is_ended());
    leader.check(expect![[r#"
        committed
        plan: 1.1:1/0/0 on a 1.2:1/0/1 on b
        decided: stage 1 in 1 shares after 1.2
        ahead: 1.3:1/1/0 on a
        ahead:
        decided: stage 2 in 1 shares after 1.3
        ahead: 1.4:1/2/0 on a
        committed
        plan:
        ahead:
        committed
        plan:
    "#]]);
}

/// The entry is not committed, and the next decision, over another fleet, divides otherwise.
#[test]
fn attempts_of_a_decision_that_was_not_logged_are_called_off() {
    let mut leader = Leader::of_version(4, &["submit 1 hash~(2,4) coalesce=8"]);
    leader.commit().hear(&BOTH).look();
    leader.under_way.clear();
    assert!(leader.dispatcher.cancel_targets(&leader.lab.state).is_empty(), "it may still be logged");
    leader.hear(&BOTH).hear(&["adapt 1/1 0-4 after=4"]);
    leader.lab.apply(std::mem::take(&mut leader.under_way));
    leader.dispatcher.ended(attempt(1, 1));
    leader.dispatcher.ended(attempt(1, 2));
    assert!(leader.dispatcher.has_up_to(JobId(1), StageId(1), attempt(1, 4)));
    assert_eq!(leader.dispatcher.cancel_targets(&leader.lab.state).len(), 2);
    leader.commit().check(expect![[r#"
        committed
        plan: 1.1:1/0/0 on a 1.2:1/0/1 on b
        decided: stage 1 in 0 shares after 1.2
        ahead: 1.3:1/1/0 on a 1.4:1/1/1 on b
        committed
        plan: 1.5:1/1/0 on a
    "#]]);
}

#[test]
fn first_tasks_start_while_their_submit_is_on_the_way() {
    let mut leader = Leader::new(&[]);
    leader.hear(&["submit 1 hash(1,1)"]).look().hear(&["complete a 1/0/0 1 epoch=0"]).look().commit();
    leader.check(expect![[r#"
        ahead: 1.1:1/0/0 on a
        ahead: 1.2:1/1/0 on a
        committed
        plan:
    "#]]);
}

#[test]
fn what_runs_for_a_submit_on_its_way_is_left_alone_until_it_is_known_not_to_come() {
    let mut leader = Leader::new(&[]);
    leader.hear(&["submit 1 hash(1,1)"]).look();
    assert_eq!(leader.dispatcher.cancel_targets(&leader.lab.state), []);
    leader.dispatcher.came(polybolos_model::JobId(1));
    assert_eq!(leader.dispatcher.cancel_targets(&leader.lab.state).len(), 1);
}

#[test]
fn a_submit_that_submits_nothing_starts_nothing() {
    let mut leader = Leader::new(&["submit 1 one key=k", "cancel 1 asked"]);
    leader.hear(&["submit 2 one key=k"]).look();
    leader.check(expect![[r#"
        ahead:
    "#]]);
}

#[test]
fn nothing_starts_by_what_may_come_out_otherwise() {
    let cases: [(&[&str], &[&str]); 6] = [
        // Its first output may be lost unnoticed, and the second has other rows.
        (&["submit 1 hash!(2,1)"], &[]),
        // The slots are the other job's as well.
        (&["submit 1 hash(2,1)", "submit 2 one"], &[]),
        (&["submit 1 hash(2,1)"], &["submit 2 one"]),
        (&["submit 1 hash(2,1)"], &["lose b"]),
        (&["submit 1 hash(2,1)"], &["cancel 1 asked"]),
        (&["submit 1 hash(2,1)"], &["drain a 1000"]),
    ];
    for (lines, beside) in cases {
        let mut leader = Leader::new(lines);
        leader.dispatcher.plan(&leader.lab.state, 0);
        leader.hear(&BOTH).hear(beside).look();
        assert_eq!(leader.out, "ahead:\n", "{lines:?} {beside:?}");
    }
}

#[test]
fn who_begins_anew_knows_of_no_reports() {
    let mut leader = Leader::new(&["submit 1 hash(2,1)"]);
    leader.commit().hear(&BOTH);
    leader.dispatcher.restart();
    leader.dispatcher.reported(attempt(1, 1));
    assert_eq!(leader.dispatcher.running_on(&super::dispatch::id("a")), 0);
    assert!(is_foreseeable(&leader.under_way) && submitted(&leader.under_way).next().is_none());
}

proptest! {
    /// What is looked ahead to is what the log then makes of it, wherever it is cut.
    #[test]
    fn it_comes_as_it_was_foreseen(
        shape in prop::sample::select(vec!["hash(3,2)", "chain(2,2,1)", "join(2,1,2)", "diamond(1,2,2,1)"]),
        cut in 0_usize..8,
        order in Just((0_u32..3).flat_map(|stage| (0..3).map(move |p| (stage, p))).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut leader = Leader::new(&[&format!("submit 1 {shape}")]);
        let job = |lab: &Lab| lab.state.jobs().next().unwrap().clone();
        let graph = job(&leader.lab).graph;
        let exists = |(stage, partition): &(u32, u32)| {
            graph.stages.get(*stage as usize).is_some_and(|stage| *partition < stage.tasks)
        };
        let commands: Vec<Command> = order.into_iter().filter(exists).zip(1..).map(|((stage, partition), counter)| {
            leader.lab.parse(&format!("complete a 1/{stage}/{partition} {counter} epoch=0"))
        }).collect();
        let (early, late) = commands.split_at(cut.min(commands.len()));
        leader.lab.apply(early.to_vec());
        if let Some(ahead) = leader.lab.state.ahead(late.iter(), Term(1)) {
            leader.lab.apply(late.to_vec());
            prop_assert_eq!(ahead.state().jobs().next().unwrap(), &job(&leader.lab));
        } else {
            prop_assert!(late.is_empty() || job(&leader.lab).status.is_ended());
        }
    }
}
