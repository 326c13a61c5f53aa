//! Tables, views and session options.

use polybolos_model::{
    SessionId,
    limits::{MAX_PLAN_BYTES, MAX_RELATIONS, MAX_SESSIONS},
};

use super::Outcome;
use crate::{
    Catalogue, Change, Rejection, Relation, RelationKind, RelationName,
    limits::{MAX_OPTION_BYTES, MAX_RELATION_NAME_BYTES, MAX_SESSION_OPTIONS},
};

/// What happens when the name is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Creation {
    Refuse,
    Replace,
    Keep,
}

impl Creation {
    /// `IF NOT EXISTS` wins over `OR REPLACE`, as nothing is lost by it.
    fn of(or_replace: bool, if_not_exists: bool) -> Self {
        match (if_not_exists, or_replace) {
            (true, _) => Self::Keep,
            (false, true) => Self::Replace,
            (false, false) => Self::Refuse,
        }
    }
}

impl Catalogue {
    pub(crate) fn create(
        &mut self,
        name: &RelationName,
        relation: Relation,
        or_replace: bool,
        if_not_exists: bool,
    ) -> Outcome {
        let (kind, how) = (relation.kind(), Creation::of(or_replace, if_not_exists));
        check_size(name, &relation)?;
        let change = match (self.relations.get(name), how) {
            (Some(_), Creation::Keep) => return Ok(Change::Unchanged),
            (Some(old), Creation::Replace) if old.kind() == kind => Change::Replaced,
            (Some(old), Creation::Replace) => {
                return Err(Rejection::WrongKind { name: name.clone(), asked: kind, actual: old.kind() });
            }
            (Some(old), Creation::Refuse) => {
                return Err(Rejection::RelationExists { name: name.clone(), kind: old.kind() });
            }
            (None, _) if self.relations.len() >= MAX_RELATIONS => return Err(Rejection::TooManyRelations),
            (None, _) => Change::Created,
        };
        self.relations.insert(name.clone(), relation);
        self.version += 1;
        Ok(change)
    }

    pub(crate) fn drop(&mut self, name: &RelationName, if_exists: bool, kind: RelationKind) -> Outcome {
        match self.relations.get(name).map(Relation::kind) {
            None if if_exists => Ok(Change::Unchanged),
            None => Err(Rejection::RelationNotFound { name: name.clone(), kind }),
            Some(actual) if actual != kind => {
                Err(Rejection::WrongKind { name: name.clone(), asked: kind, actual })
            }
            Some(_) => {
                self.relations.remove(name);
                self.version += 1;
                Ok(Change::Dropped)
            }
        }
    }

    pub(crate) fn set(&mut self, session: &SessionId, key: &str, value: &str) -> Outcome {
        let bytes = key.len() + value.len();
        if bytes > MAX_OPTION_BYTES {
            return Err(Rejection::OptionTooLarge { bytes });
        }
        match self.sessions.get(session) {
            None if self.sessions.len() >= MAX_SESSIONS => return Err(Rejection::TooManySessions),
            Some(options) if options.len() >= MAX_SESSION_OPTIONS && !options.contains_key(key) => {
                return Err(Rejection::TooManyOptions { session: session.clone() });
            }
            None | Some(_) => {}
        }
        self.sessions.entry(session.clone()).or_default().insert(key.to_owned(), value.to_owned());
        Ok(Change::SessionSet)
    }

    /// A session without options is no session, so that an idle client costs nothing.
    pub(crate) fn reset(&mut self, session: &SessionId, key: &str) -> Change {
        let Some(options) = self.sessions.get_mut(session) else { return Change::Unchanged };
        if options.remove(key).is_none() {
            return Change::Unchanged;
        }
        if options.is_empty() {
            self.sessions.remove(session);
        }
        Change::SessionSet
    }

    pub(crate) fn close(&mut self, session: &SessionId) -> Change {
        match self.sessions.remove(session) {
            Some(_) => Change::SessionClosed,
            None => Change::Unchanged,
        }
    }
}

fn check_size(name: &RelationName, relation: &Relation) -> Result<(), Rejection> {
    let kind = relation.kind();
    for part in [&name.schema, &name.name] {
        if part.is_empty() || part.len() > MAX_RELATION_NAME_BYTES {
            return Err(Rejection::RelationName { kind, bytes: part.len() });
        }
    }
    let bytes = match relation {
        Relation::Table(table) => table.ddl.len() + table.provider.len(),
        Relation::View { sql } => sql.len(),
    };
    if bytes > MAX_PLAN_BYTES {
        return Err(Rejection::DefinitionTooLarge { name: name.clone(), kind, bytes });
    }
    Ok(())
}
