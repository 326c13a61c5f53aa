//! What to do with each kind of statement.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::{
    common::{TableReference, config::ConfigField},
    execution::SessionState,
    logical_expr::{
        Analyze, CreateExternalTable, CreateMemoryTable, CreateView, DdlStatement, Explain, LogicalPlan,
        PlanType, Statement as PlanStatement, ToStringifiedPlan, WriteOp,
    },
    sql::{parser::DFParserBuilder, sqlparser::dialect::dialect_from_str},
};
use datafusion_proto::bytes::logical_plan_from_bytes_with_extension_codec;
use polybolos_model::{SessionId, limits::MAX_SQL_BYTES};
use polybolos_planner::{Extensions, check_claims};
use polybolos_state::{Command, RelationKind};

use super::{
    Planned, Statement, Surroundings,
    catalogue::{Catalogue, View, relation_name},
    explain, ipc, local, nesting,
    object_stores::take_job_options,
    plan_cache::{self, Key, Notes, PlanCache},
    query,
    session::{Options, set_option},
    settings::{check_reset, check_version},
    tables, views,
    writes::{self, Warehouse},
};
use crate::error::PlanningError;

const TARGET_PARTITIONS: &str = "datafusion.execution.target_partitions";

type Result<T> = std::result::Result<T, PlanningError>;

/// # Errors
/// [`PlanningError::SqlTooLong`].
pub(crate) fn check_size(statement: &Statement) -> Result<()> {
    match statement {
        Statement::Sql(sql) if sql.len() > MAX_SQL_BYTES => {
            Err(PlanningError::SqlTooLong { bytes: sql.len() })
        }
        // The message limit bounds it already.
        Statement::Sql(_) | Statement::LogicalPlan(_) => Ok(()),
    }
}

/// Plans one statement; owns what that needs, so that it can run on another thread.
pub(crate) struct Planner {
    pub(super) extensions: Extensions,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) plans: Arc<PlanCache>,
    pub(super) around: Surroundings,
    pub(super) session: Option<SessionId>,
    pub(super) warehouse: Option<Warehouse>,
}

/// A statement's plan before it is optimised, and where it came from.
struct Parsed {
    /// The text, if there is one.
    sql: Option<String>,
    /// It is to be told what failures would cost the query.
    faults: bool,
    plan: LogicalPlan,
    state: SessionState,
    /// The session's options and the statement's own over them.
    options: Options,
}

impl Planner {
    pub(crate) async fn plan(self, statement: Statement, own_options: Options) -> Result<Planned> {
        check_version(own_options.keys(), self.around.version)?;
        let mut options = self.around.session_options.clone();
        options.extend(own_options);
        take_job_options(&mut options, &self.catalogue.stores)?;
        let key = Key::of(&statement, &options, &self.extensions);
        if let Some(key) = &key
            && let Some(kept) = self.plans.find(key, &self.around, &self.catalogue.stores).await
        {
            return Ok(job(kept));
        }
        let parsed = match statement {
            Statement::Sql(sql) => self.parse(sql, options).await?,
            Statement::LogicalPlan(bytes) => self.decode(&bytes, options)?,
        };
        self.dispatch(parsed, key).await
    }

    fn state(&self, options: &Options, view: View) -> Result<SessionState> {
        self.catalogue.sessions.state(self.around.slots, options, view.catalogs())
    }

    fn view(&self) -> View {
        View::new(Arc::clone(&self.catalogue), Arc::clone(&self.around.snapshot))
    }

    async fn parse(&self, sql: String, options: Options) -> Result<Parsed> {
        let mut state = self.state(&options, self.view())?;
        let (sql, faults) = match explain::query_of_faults(&sql) {
            Some(query) => (query.to_owned(), true),
            None => (sql, false),
        };
        let statement = one_statement(&sql, &state)?;
        let references = state.resolve_table_references(&statement)?;
        if references.iter().any(local::is_local) {
            state = self.state(&options, View { lenient: true, ..self.view() })?;
        }
        let plan = state.statement_to_plan(statement).await?;
        nesting::check_plan(&plan)?;
        Ok(Parsed { sql: Some(sql), faults, plan, state, options })
    }

    fn decode(&self, bytes: &[u8], options: Options) -> Result<Parsed> {
        let state = self.state(&options, self.view())?;
        nesting::check_encoded(bytes)?;
        check_claims(bytes)?;
        let codec = self.extensions.logical_codec();
        let plan = logical_plan_from_bytes_with_extension_codec(bytes, &state.task_ctx(), codec.as_ref())?;
        nesting::check_plan(&plan)?;
        Ok(Parsed { sql: None, faults: false, plan, state, options })
    }

    async fn dispatch(self, parsed: Parsed, key: Option<Key>) -> Result<Planned> {
        let Parsed { sql, faults, plan, state, options } = parsed;
        if faults {
            let plan = self.explainable(plan)?;
            let (context, supposed) = (self.context(&options), self.around.supposed);
            return explain::faults(plan, &state, context, supposed).await.map(Planned::Inline);
        }
        match plan {
            LogicalPlan::Ddl(statement) => self.ddl(statement, sql, &state, &options).await,
            LogicalPlan::Statement(statement) => self.session_statement(statement, &state),
            LogicalPlan::Explain(statement) => self.explain(statement, &state, &options).await,
            LogicalPlan::Analyze(statement) => self.analyze(statement, sql, &state, &options).await,
            LogicalPlan::DescribeTable(_) => local::answer(&plan, &state).await.map(Planned::Inline),
            LogicalPlan::Dml(statement) if matches!(statement.op, WriteOp::Insert(_)) => {
                self.write(LogicalPlan::Dml(statement), sql, &state, &options).await.map(job)
            }
            LogicalPlan::Dml(statement) => Err(unsupported(write_name(&statement.op))),
            LogicalPlan::Copy(copy) => {
                let copy = writes::configure_copy(copy, &self.catalogue.stores)?;
                self.write(copy, sql, &state, &options).await.map(job)
            }
            query => self.query(query, sql, &state, &options, key).await,
        }
    }

    fn context(&self, options: &Options) -> query::Context<'_> {
        query::Context {
            extensions: &self.extensions,
            stores: &self.catalogue.stores,
            with_texts: false,
            slot_memory_bytes: self.around.slot_memory_bytes,
            width_is_given: options.contains_key(TARGET_PARTITIONS),
            version: self.around.version,
        }
    }

    /// Rows: from here if only this replica's own tables are read, else from the cluster.
    async fn query(
        &self,
        plan: LogicalPlan,
        sql: Option<String>,
        state: &SessionState,
        options: &Options,
        key: Option<Key>,
    ) -> Result<Planned> {
        if local::reads_only_local(&plan)? {
            return local::answer(&plan, state).await.map(Planned::Inline);
        }
        if let Some(key) = key
            && let Some(scans) = plan_cache::scans(&plan, &self.catalogue)?
        {
            let (stores, notes) = (&self.catalogue.stores, Arc::new(Notes::default()));
            // It takes a while to make, and no store is asked for the plan of no table.
            let listening = (scans > 0).then(|| plan_cache::listening(state, stores, &notes)).transpose()?;
            let state = listening.as_ref().unwrap_or(state);
            let planned = query::plan_job(&plan, state, self.context(options)).await?.with_sql(sql);
            self.plans.keep(key, &self.around, &notes, &planned, stores);
            return Ok(job(planned));
        }
        let plan = local::materialize(plan, state).await?;
        query::plan_job(&plan, state, self.context(options)).await.map(|planned| job(planned.with_sql(sql)))
    }

    async fn write(
        &self,
        plan: LogicalPlan,
        sql: Option<String>,
        state: &SessionState,
        options: &Options,
    ) -> Result<query::JobPlan> {
        writes::check_version(self.around.version)?;
        let plan = local::materialize(plan, state).await?;
        Ok(query::plan_job(&plan, state, self.context(options)).await?.with_sql(sql))
    }

    async fn create_table_as(
        &self,
        command: CreateMemoryTable,
        sql: String,
        state: &SessionState,
        options: &Options,
    ) -> Result<Planned> {
        let name = self.own_name(&command.name)?;
        if command.if_not_exists && self.around.snapshot.relation(&name.name).is_some() {
            return Ok(Planned::Inline(ipc::encode_schema(&Schema::empty())?));
        }
        let warehouse = self.warehouse.as_ref();
        let (copy, table) = writes::create_table_as(command, name, warehouse, state, options)?;
        Ok(job(self.write(copy, Some(sql), state, options).await?.with_table(table)))
    }

    async fn explain(&self, statement: Explain, state: &SessionState, options: &Options) -> Result<Planned> {
        let plan = self.explainable(Arc::unwrap_or_clone(statement.plan))?;
        // Without what was taken out of it.
        let stringified_plans = vec![plan.to_stringified(PlanType::InitialLogicalPlan)];
        let statement = Explain { plan: Arc::new(plan), stringified_plans, ..statement };
        explain::explain(statement, state, self.context(options)).await.map(Planned::Inline)
    }

    /// A query, or a statement that writes files, as it would be planned.
    fn explainable(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        match plan {
            LogicalPlan::Copy(copy) => {
                writes::check_version(self.around.version)?;
                writes::configure_copy(copy, &self.catalogue.stores)
            }
            LogicalPlan::Dml(statement) if matches!(statement.op, WriteOp::Insert(_)) => {
                writes::check_version(self.around.version)?;
                Ok(LogicalPlan::Dml(statement))
            }
            query => explain::refuse_non_query(&query).map(|()| query),
        }
    }

    async fn analyze(
        &self,
        statement: Analyze,
        sql: Option<String>,
        state: &SessionState,
        options: &Options,
    ) -> Result<Planned> {
        explain::refuse_non_query(&statement.input)?;
        if local::reads_only_local(&statement.input)? {
            return local::answer(&LogicalPlan::Analyze(statement), state).await.map(Planned::Inline);
        }
        let plan = local::materialize(Arc::unwrap_or_clone(statement.input), state).await?;
        let context = query::Context { with_texts: true, ..self.context(options) };
        let job = query::plan_job(&plan, state, context).await?;
        Ok(Planned::Job(Box::new(job.with_sql(sql).analyzed())))
    }

    async fn ddl(
        &self,
        statement: DdlStatement,
        sql: Option<String>,
        state: &SessionState,
        options: &Options,
    ) -> Result<Planned> {
        let Some(sql) = sql else {
            return Err(unsupported("a catalogue change as a logical plan (send it as SQL)"));
        };
        let command = match statement {
            DdlStatement::CreateExternalTable(command) if self.is_there_already(&command)? => {
                return Ok(Planned::Inline(ipc::encode_schema(&Schema::empty())?));
            }
            DdlStatement::CreateExternalTable(command) => {
                self.create_table(*command, &sql, state, options).await?
            }
            DdlStatement::CreateView(command) => self.create_view(command, sql)?,
            DdlStatement::DropTable(drop) => self.drop(&drop.name, drop.if_exists, RelationKind::Table)?,
            DdlStatement::DropView(drop) => self.drop(&drop.name, drop.if_exists, RelationKind::View)?,
            DdlStatement::CreateMemoryTable(command) => {
                return self.create_table_as(command, sql, state, options).await;
            }
            DdlStatement::CreateCatalogSchema(_) => return Err(unsupported("CREATE SCHEMA")),
            DdlStatement::CreateCatalog(_) => return Err(unsupported("CREATE DATABASE")),
            DdlStatement::CreateIndex(_) => return Err(unsupported("CREATE INDEX")),
            DdlStatement::DropCatalogSchema(_) => return Err(unsupported("DROP SCHEMA")),
            DdlStatement::CreateFunction(_) => return Err(unsupported("CREATE FUNCTION")),
            DdlStatement::DropFunction(_) => return Err(unsupported("DROP FUNCTION")),
        };
        Ok(Planned::Commit(command))
    }

    /// Then there is no need to look at its files.
    fn is_there_already(&self, command: &CreateExternalTable) -> Result<bool> {
        let name = self.own_name(&command.name)?;
        Ok(command.if_not_exists && self.around.snapshot.relation(&name.name).is_some())
    }

    async fn create_table(
        &self,
        command: CreateExternalTable,
        sql: &str,
        state: &SessionState,
        options: &Options,
    ) -> Result<Command> {
        let name = self.own_name(&command.name)?;
        let (or_replace, if_not_exists) = (command.or_replace, command.if_not_exists);
        let table = tables::define(command, sql, state, options, &self.catalogue.stores).await?;
        Ok(Command::CreateTable { name, table, or_replace, if_not_exists })
    }

    fn create_view(&self, command: CreateView, sql: String) -> Result<Command> {
        if command.temporary {
            return Err(unsupported("CREATE TEMPORARY VIEW"));
        }
        let name = self.own_name(&command.name)?;
        views::check(Arc::unwrap_or_clone(command.input))?;
        views::refuse_cycle(&name.name, &sql, &self.around.snapshot, &self.catalogue.sessions)?;
        Ok(Command::CreateView { name, sql, or_replace: command.or_replace, if_not_exists: false })
    }

    fn drop(&self, name: &TableReference, if_exists: bool, kind: RelationKind) -> Result<Command> {
        Ok(Command::DropRelation { name: self.own_name(name)?, if_exists, kind })
    }

    /// A name that the log may hold: in the one schema, and not one of the embedding program's.
    fn own_name(&self, name: &TableReference) -> Result<polybolos_state::RelationName> {
        let name = relation_name(name)?;
        if self.catalogue.is_provided(&name.name) {
            return Err(PlanningError::Provided { name: name.name });
        }
        Ok(name)
    }

    fn session_statement(&self, statement: PlanStatement, state: &SessionState) -> Result<Planned> {
        let session = |statement| self.session.clone().ok_or(PlanningError::NoSession { statement });
        let command = match statement {
            PlanStatement::SetVariable(set) => {
                let (key, value) = (set.variable, set.value);
                set_option(&mut state.config_options().as_ref().clone(), &key, &value)?;
                check_version([&key], self.around.version)?;
                Command::SetSession { session: session("SET")?, key, value }
            }
            PlanStatement::ResetVariable(reset) => {
                let key = reset.variable;
                let reset = match polybolos_model::settings::is_ours(&key) {
                    true => check_reset(&key).map_err(|error| error.to_string()),
                    false => {
                        let reset = state.config_options().as_ref().clone().reset(&key);
                        reset.map_err(|error| error.find_root().message().into_owned())
                    }
                };
                reset.map_err(|reason| PlanningError::Option {
                    option: key.clone(),
                    value: "its default".to_owned(),
                    reason,
                })?;
                Command::ResetSession { session: session("RESET")?, key }
            }
            PlanStatement::TransactionStart(_) => {
                return Err(unsupported("BEGIN (there are no transactions)"));
            }
            PlanStatement::TransactionEnd(_) => {
                return Err(unsupported("COMMIT or ROLLBACK (there are no transactions)"));
            }
            PlanStatement::Prepare(_) => return Err(unsupported("PREPARE")),
            PlanStatement::Execute(_) => return Err(unsupported("EXECUTE")),
            PlanStatement::Deallocate(_) => return Err(unsupported("DEALLOCATE")),
        };
        Ok(Planned::Commit(command))
    }
}

fn job(plan: query::JobPlan) -> Planned {
    Planned::Job(Box::new(plan))
}

fn unsupported(what: &str) -> PlanningError {
    PlanningError::Unsupported { what: what.to_owned() }
}

fn write_name(op: &WriteOp) -> &'static str {
    match op {
        WriteOp::Insert(_) => "INSERT",
        WriteOp::Delete => "DELETE",
        WriteOp::Update => "UPDATE",
        WriteOp::Truncate => "TRUNCATE",
        WriteOp::Ctas => "CREATE TABLE AS",
        WriteOp::MergeInto(_) => "MERGE",
        _ => "writing to a table",
    }
}

fn one_statement(sql: &str, state: &SessionState) -> Result<datafusion::sql::parser::Statement> {
    let options = &state.config_options().sql_parser;
    let Some(dialect) = dialect_from_str(options.dialect) else {
        return Err(unsupported(&format!("the SQL dialect '{}'", options.dialect)));
    };
    nesting::check_sql(sql, dialect.as_ref())?;
    let parser = DFParserBuilder::new(sql).with_dialect(dialect.as_ref());
    let mut parser = parser.with_recursion_limit(options.recursion_limit.get()).build()?;
    let mut statements = parser.parse_statements()?;
    match (statements.pop_front(), statements.len()) {
        (Some(statement), 0) => Ok(statement),
        (Some(_), others) => Err(PlanningError::Several { count: others + 1 }),
        (None, _) => Err(PlanningError::Empty),
    }
}
