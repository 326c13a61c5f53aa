//! A change of the catalogue that was acknowledged is there from then on, and nothing goes that nobody dropped.
//! From: the design, "every replica plans against the same tables".

use std::collections::BTreeMap;

use polybolos_state::{Catalogue as State, Change, Command};

use super::{Check, Commit, Oracle, Reference, Rest};
use crate::{
    moment::{ClientEvent, Moment, What},
    schedule::{Action, Schedule},
};

/// What a statement does to which relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) name: String,
    /// Or dropped.
    pub(super) is_created: bool,
}

/// Of `CREATE [OR REPLACE] VIEW [IF NOT EXISTS] name …`, `DROP VIEW [IF EXISTS] name` and the same for tables.
pub(super) fn relation_of(sql: &str) -> Option<Changed> {
    const NOISE: &[&str] = &["or", "replace", "external", "view", "table", "if", "not", "exists"];
    let mut words =
        sql.split(|c: char| c.is_whitespace() || c == '(' || c == ';').filter(|word| !word.is_empty());
    let is_created = match words.next()?.to_ascii_lowercase().as_str() {
        "create" => true,
        "drop" => false,
        _ => return None,
    };
    let name = words.map(str::to_ascii_lowercase).find(|word| !NOISE.contains(&word.as_str()))?;
    let name = name.rsplit('.').next().unwrap_or_default().trim_matches('"').to_owned();
    Some(Changed { name, is_created })
}

#[derive(Debug)]
pub(super) struct Catalogue {
    /// By op. Only of relations that one op alone changes.
    changes: BTreeMap<u32, Changed>,
    acknowledged: BTreeMap<u32, Changed>,
}

impl Catalogue {
    pub(super) fn new(schedule: &Schedule) -> Self {
        let all: BTreeMap<u32, Changed> = schedule
            .ops
            .iter()
            .filter_map(|op| match &op.action {
                Action::Ddl { sql } => Some((op.id, relation_of(sql)?)),
                Action::Query { .. } | Action::Status => None,
            })
            .collect();
        let is_alone = |name: &str| all.values().filter(|changed| changed.name == name).count() == 1;
        let changes = all.iter().filter(|(_, changed)| is_alone(&changed.name));
        Self {
            changes: changes.map(|(op, changed)| (*op, changed.clone())).collect(),
            acknowledged: BTreeMap::new(),
        }
    }

    fn check(&self, catalogue: &State) -> Check {
        for (op, Changed { name, is_created }) in &self.acknowledged {
            let is_there = catalogue.relations.keys().any(|known| known.name == *name);
            if is_there != *is_created {
                let (done, is) = if *is_created { ("created", "not there") } else { ("dropped", "there") };
                return Err(format!("op {op} was told that '{name}' is {done}, and it is {is}"));
            }
        }
        Ok(())
    }
}

impl Oracle for Catalogue {
    fn name(&self) -> &'static str {
        "catalogue"
    }

    fn on_moment(&mut self, moment: &Moment, reference: &Reference) -> Check {
        let What::Client(ClientEvent::Done { op }) = &moment.what else { return Ok(()) };
        let Some(changed) = self.changes.get(op) else { return Ok(()) };
        self.acknowledged.insert(*op, changed.clone());
        self.check(reference.state().catalogue())
    }

    fn on_commit(&mut self, commit: &Commit<'_>) -> Check {
        let (before, after) = (commit.before.catalogue(), commit.after.catalogue());
        if before.relations.len() == after.relations.len() && before.version == after.version {
            return Ok(());
        }
        let outcomes = commit.entry.commands.iter().zip(&commit.applied.outcomes);
        let dropped: Vec<_> = outcomes
            .filter_map(|outcome| match outcome {
                (Command::DropRelation { name, .. }, Ok(Change::Dropped)) => Some(name),
                _ => None,
            })
            .collect();
        let gone = before
            .relations
            .keys()
            .find(|name| !after.relations.contains_key(name) && !dropped.contains(name));
        match gone {
            Some(name) => Err(format!("'{name}' went at index {}, and nobody dropped it", commit.index)),
            None => self.check(after),
        }
    }

    fn at_rest(&mut self, _rest: &Rest, reference: &Reference) -> Check {
        self.check(reference.state().catalogue())
    }
}

#[cfg(test)]
mod tests {
    use polybolos_state::{Applied, ClusterState, Entry};

    use super::{super::testing::*, *};

    fn oracle() -> Catalogue {
        let created = |name: &str| Changed { name: name.to_owned(), is_created: true };
        let dropped = Changed { name: "old".to_owned(), is_created: false };
        let changes = [(1, created("seen")), (2, created("unseen")), (3, dropped)].into_iter().collect();
        Catalogue { changes, acknowledged: BTreeMap::new() }
    }

    #[test]
    fn names_are_found_in_statements() {
        for (sql, name, is_created) in [
            ("CREATE VIEW v1 AS SELECT 1", "v1", true),
            ("create or replace view public.V2(a) as select 1", "v2", true),
            ("DROP VIEW IF EXISTS \"v3\"", "v3", false),
            ("CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION 'x'", "t", true),
        ] {
            assert_eq!(relation_of(sql), Some(Changed { name: name.to_owned(), is_created }), "{sql}");
        }
        assert_eq!(relation_of("SELECT 1"), None);
    }

    #[test]
    fn a_change_that_is_not_there_is_found() {
        let mut lab = Lab::new(oracle());
        lab.commit(vec![view("seen")]).unwrap();
        lab.client(ClientEvent::Done { op: 1 }).unwrap();
        lab.client(ClientEvent::Done { op: 3 }).unwrap();
        lab.at_rest(&Rest::default()).unwrap();
        assert!(lab.client(ClientEvent::Done { op: 2 }).is_err());
        assert!(lab.at_rest(&Rest::default()).is_err());
    }

    #[test]
    fn a_relation_that_vanishes_is_found() {
        let mut lab = Lab::new(oracle());
        lab.commit(vec![view("seen")]).unwrap();
        let (entry, applied) = (Entry::new(1, lab.term, 0, vec![]), Applied::default());
        let (before, after) = (&lab.state, &ClusterState::default());
        let (host, index, term) = (host(LEADER), 9, lab.term);
        let forged = Commit { at_us: 0, host, index, term, entry: &entry, applied: &applied, before, after };
        assert!(lab.oracle.on_commit(&forged).is_err());
    }
}
