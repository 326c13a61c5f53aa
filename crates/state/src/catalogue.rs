//! Tables, views and the options of sessions. What a table is inside is known to the scheduler only.

use std::{collections::BTreeMap, fmt};

use polybolos_model::SessionId;
use serde::{Deserialize, Serialize};

/// A table or view, within the one catalogue of the cluster. Both parts as DataFusion normalised them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RelationName {
    pub schema: String,
    pub name: String,
}

impl fmt::Display for RelationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RelationKind {
    Table,
    View,
}

impl fmt::Display for RelationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Table => "table",
            Self::View => "view",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDef {
    /// The statement that made it, for people.
    pub ddl: String,
    /// What the scheduler needs to open it again; opaque here.
    pub provider: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Relation {
    Table(TableDef),
    View {
        /// The view's query.
        sql: String,
    },
}

impl Relation {
    pub fn kind(&self) -> RelationKind {
        match self {
            Self::Table(_) => RelationKind::Table,
            Self::View { .. } => RelationKind::View,
        }
    }
}

/// Every table and view, and the options of each session that set any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalogue {
    /// Raised by each change of `relations`, so that what was derived from them can be kept until then.
    pub version: u64,
    pub relations: BTreeMap<RelationName, Relation>,
    pub sessions: BTreeMap<SessionId, BTreeMap<String, String>>,
}

impl Catalogue {
    pub fn relation(&self, name: &RelationName) -> Option<&Relation> {
        self.relations.get(name)
    }

    /// Options that the session set, by full name; none for a session that set none.
    pub fn session_options(&self, session: &SessionId) -> Option<&BTreeMap<String, String>> {
        self.sessions.get(session)
    }
}
