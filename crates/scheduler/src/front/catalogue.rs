//! The replicated tables and views as DataFusion's catalogue.
//!
//! A [`Snapshot`] is one version of the replicated catalogue; what is built of it (providers, planned views) is kept
//! until the version changes. Tables list their files at each scan, so new files are seen by the next query.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use datafusion::{
    catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider},
    error::{DataFusionError, Result},
    logical_expr::TableType,
};
use polybolos_state::{Relation, RelationKind, RelationName};

use super::{
    object_stores::ObjectStores,
    session::{Options, Sessions},
    tables, views,
};
use crate::error::PlanningError;

/// DataFusion's own default names.
pub(crate) const CATALOG: &str = "datafusion";
pub(crate) const SCHEMA: &str = "public";

/// Views may read views this deep. A cycle, which two statements at once can make, ends here.
pub(crate) const MAX_VIEW_DEPTH: u32 = 64;

/// What outlives the versions.
pub(crate) struct Catalogue {
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) stores: Arc<ObjectStores>,
    /// Tables of the embedding program, by name. They come before replicated ones.
    provided: BTreeMap<String, Arc<dyn TableProvider>>,
    current: Mutex<Arc<Snapshot>>,
}

impl Catalogue {
    pub(crate) fn new(
        sessions: Arc<Sessions>,
        stores: Arc<ObjectStores>,
        provided: &[(String, Arc<dyn TableProvider>)],
    ) -> Self {
        let provided: BTreeMap<_, _> = provided.iter().cloned().collect();
        let empty = Arc::new(Snapshot::new(0, BTreeMap::new(), BTreeMap::new()));
        Self { sessions, stores, provided, current: Mutex::new(empty) }
    }

    pub(crate) fn is_provided(&self, name: &str) -> bool {
        self.provided.contains_key(name)
    }

    pub(crate) fn provided_names(&self) -> impl Iterator<Item = &String> {
        self.provided.keys()
    }

    /// The snapshot of `catalogue`, with everything that is still valid of the one before.
    pub(crate) fn snapshot(&self, catalogue: &polybolos_state::Catalogue) -> Arc<Snapshot> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.version != catalogue.version {
            *current = Arc::new(Snapshot::after(&current, catalogue));
        }
        Arc::clone(&current)
    }
}

/// One version of the replicated catalogue.
pub(crate) struct Snapshot {
    version: u64,
    relations: BTreeMap<String, Arc<Relation>>,
    built: Mutex<BTreeMap<String, Arc<dyn TableProvider>>>,
}

impl Snapshot {
    fn new(
        version: u64,
        relations: BTreeMap<String, Arc<Relation>>,
        built: BTreeMap<String, Arc<dyn TableProvider>>,
    ) -> Self {
        Self { version, relations, built: Mutex::new(built) }
    }

    fn after(previous: &Self, catalogue: &polybolos_state::Catalogue) -> Self {
        let in_schema = catalogue.relations.iter().filter(|(name, _)| name.schema == SCHEMA);
        let relations = in_schema.map(|(name, relation)| {
            let known = previous.relations.get(&name.name).filter(|known| ***known == *relation);
            (name.name.clone(), known.map_or_else(|| Arc::new(relation.clone()), Arc::clone))
        });
        let relations: BTreeMap<String, Arc<Relation>> = relations.collect();
        // A table depends on nothing but its definition; a view depends on others.
        let unchanged = |name: &String| match (relations.get(name), previous.relations.get(name)) {
            (Some(now), Some(before)) => Arc::ptr_eq(now, before) && now.kind() == RelationKind::Table,
            _ => false,
        };
        let built = previous.built();
        let kept = built.iter().filter(|(name, _)| unchanged(name)).map(|(n, p)| (n.clone(), Arc::clone(p)));
        let kept = kept.collect();
        drop(built);
        Self::new(catalogue.version, relations, kept)
    }

    fn built(&self) -> MutexGuard<'_, BTreeMap<String, Arc<dyn TableProvider>>> {
        self.built.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn relation(&self, name: &str) -> Option<&Arc<Relation>> {
        self.relations.get(name)
    }
}

/// A name that is valid for `CREATE` and `DROP`: in the one schema.
pub(crate) fn relation_name(
    name: &datafusion::common::TableReference,
) -> std::result::Result<RelationName, PlanningError> {
    let in_catalog = name.catalog().is_none_or(|catalog| catalog == CATALOG);
    let in_schema = name.schema().is_none_or(|schema| schema == SCHEMA);
    if in_catalog && in_schema {
        return Ok(RelationName { schema: SCHEMA.to_owned(), name: name.table().to_owned() });
    }
    Err(PlanningError::Schema { name: name.to_string(), expected: format!("{CATALOG}.{SCHEMA}") })
}

/// How a statement sees a snapshot.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) snapshot: Arc<Snapshot>,
    /// How many views stand between the statement and what is looked up.
    pub(crate) depth: u32,
    /// Leave out what can't be built, so that one broken view doesn't break `information_schema` for all.
    pub(crate) lenient: bool,
}

impl View {
    pub(crate) fn new(catalogue: Arc<Catalogue>, snapshot: Arc<Snapshot>) -> Self {
        Self { catalogue, snapshot, depth: 0, lenient: false }
    }

    pub(crate) fn catalogs(self) -> Arc<dyn CatalogProviderList> {
        Arc::new(OneCatalog(Arc::new(self)))
    }

    /// The view as seen from inside a view's definition.
    pub(crate) fn deeper(&self) -> Self {
        Self { depth: self.depth + 1, lenient: false, ..self.clone() }
    }

    async fn build(
        &self,
        name: &str,
        relation: &Relation,
    ) -> std::result::Result<Arc<dyn TableProvider>, PlanningError> {
        let Catalogue { sessions, stores, .. } = &*self.catalogue;
        match relation {
            Relation::Table(definition) => tables::open(name, definition, sessions, stores).await,
            Relation::View { sql } => views::open(name, sql, self).await,
        }
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "catalogue version {}", self.snapshot.version)
    }
}

#[async_trait]
impl SchemaProvider for View {
    fn table_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.catalogue.provided.keys().cloned().collect();
        names
            .extend(self.snapshot.relations.keys().filter(|name| !self.catalogue.is_provided(name)).cloned());
        names.sort_unstable();
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(provided) = self.catalogue.provided.get(name) {
            return Ok(Some(Arc::clone(provided)));
        }
        if let Some(built) = self.snapshot.built().get(name) {
            return Ok(Some(Arc::clone(built)));
        }
        let Some(relation) = self.snapshot.relation(name) else { return Ok(None) };
        match self.build(name, relation).await {
            Ok(provider) => {
                self.snapshot.built().insert(name.to_owned(), Arc::clone(&provider));
                Ok(Some(provider))
            }
            Err(_) if self.lenient => Ok(None),
            Err(error) => Err(DataFusionError::External(Box::new(error))),
        }
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        if let Some(provided) = self.catalogue.provided.get(name) {
            return Ok(Some(provided.table_type()));
        }
        Ok(self.snapshot.relation(name).map(|relation| match relation.kind() {
            RelationKind::Table => TableType::Base,
            RelationKind::View => TableType::View,
        }))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.catalogue.is_provided(name) || self.snapshot.relations.contains_key(name)
    }
}

/// `datafusion`, with its schema `public`.
#[derive(Debug)]
struct OneCatalog(Arc<View>);

impl CatalogProviderList for OneCatalog {
    /// Nothing is registered: the catalogue changes through the log only.
    fn register_catalog(&self, _: String, _: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == CATALOG).then(|| Arc::new(Self(Arc::clone(&self.0))) as Arc<dyn CatalogProvider>)
    }
}

impl CatalogProvider for OneCatalog {
    fn schema_names(&self) -> Vec<String> {
        vec![SCHEMA.to_owned()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        (name == SCHEMA).then(|| Arc::clone(&self.0) as Arc<dyn SchemaProvider>)
    }
}

/// A state in which no relation is known, for definitions that read none.
pub(crate) fn bare_state(
    sessions: &Sessions,
    options: &Options,
) -> std::result::Result<datafusion::execution::SessionState, PlanningError> {
    sessions.state(1, options, Arc::new(NoCatalog))
}

#[derive(Debug)]
struct NoCatalog;

impl CatalogProviderList for NoCatalog {
    fn register_catalog(&self, _: String, _: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn catalog(&self, _: &str) -> Option<Arc<dyn CatalogProvider>> {
        None
    }
}
