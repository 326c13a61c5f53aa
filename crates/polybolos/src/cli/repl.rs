//! The prompt: statements over several lines, commands that start with a backslash, history and completion.
//!
//! Without a terminal, standard input is a script: no prompts, and the first error ends it.

use std::{
    io::{BufRead, IsTerminal},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use rustyline::{CompletionType, Config, Editor, error::ReadlineError, history::DefaultHistory};
use tokio::runtime::Runtime;

use super::{
    complete::SqlHelper,
    error::CliError,
    files, output,
    session::{Done, Session},
    split::split,
    text,
};

const HELP: &str = "\
statements end with ';' and may span lines
\\d          list tables and views
\\d NAME     show the columns of NAME
\\timing     turn times on and off
\\?          this help
\\q          quit (as Ctrl-D)
Ctrl-C      cancel the running query, or clear what was typed
";
const MAX_HISTORY: usize = 10_000;

/// Serves the prompt, or the script on standard input, until its end.
pub(crate) fn run(runtime: &Runtime, session: &Session) -> Result<(), CliError> {
    if std::io::stdin().is_terminal() { prompt(runtime, session) } else { pipe(runtime, session) }
}

/// What a line did.
enum Next {
    Continue,
    Quit,
}

struct Repl<'a> {
    runtime: &'a Runtime,
    session: &'a Session,
    /// Lines of a statement that is not complete.
    buffer: String,
    timing: bool,
    /// Statements run so far.
    count: usize,
    names: Arc<Mutex<Vec<String>>>,
}

fn prompt(runtime: &Runtime, session: &Session) -> Result<(), CliError> {
    let config = Config::builder()
        .max_history_size(MAX_HISTORY)?
        .history_ignore_space(true)
        .completion_type(CompletionType::List)
        .build();
    let mut editor: Editor<SqlHelper, DefaultHistory> = Editor::with_config(config)?;
    let names = Arc::new(Mutex::new(Vec::new()));
    editor.set_helper(Some(SqlHelper::new(Arc::clone(&names))));
    let history = history_file();
    if let Some(path) = &history {
        // The first session has no history yet.
        let loaded = editor.load_history(path);
        tracing::debug!(?loaded, ?path, "history");
    }
    let mut repl = Repl { runtime, session, buffer: String::new(), timing: true, count: 0, names };
    repl.refresh_names();
    eprintln!("Polybolos {} · \\? for help, \\q to quit", env!("CARGO_PKG_VERSION"));
    loop {
        let prompt = if repl.buffer.is_empty() { "sql> " } else { "  -> " };
        match editor.readline(prompt) {
            Ok(line) => {
                let whole = format!("{}{line}", repl.buffer);
                let next = repl.line(&line);
                if repl.buffer.is_empty() && !whole.trim().is_empty() {
                    editor.add_history_entry(whole.trim_end())?;
                }
                match next {
                    Ok(Next::Continue) => {}
                    Ok(Next::Quit) => break,
                    Err(error) if error.is_quiet() => return Err(error),
                    Err(error) => eprintln!("error: {error}"),
                }
            }
            Err(ReadlineError::Interrupted) => repl.buffer.clear(),
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(path) = &history {
        let saved = editor.save_history(path);
        tracing::debug!(?saved, ?path, "history");
    }
    Ok(())
}

fn pipe(runtime: &Runtime, session: &Session) -> Result<(), CliError> {
    let names = Arc::new(Mutex::new(Vec::new()));
    let mut repl = Repl { runtime, session, buffer: String::new(), timing: false, count: 0, names };
    for (at, line) in std::io::stdin().lock().lines().enumerate() {
        let line = line.map_err(|source| CliError::Script { path: PathBuf::from("-"), source })?;
        match repl.line(&line) {
            Ok(Next::Continue) => {}
            Ok(Next::Quit) => return Ok(()),
            Err(source) => {
                let (number, source) = (repl.count, Box::new(source));
                return Err(CliError::Statement { number, line: at + 1, source });
            }
        }
    }
    let rest = std::mem::take(&mut repl.buffer);
    runtime.block_on(session.run_script(&rest))
}

impl Repl<'_> {
    /// Takes one line: runs the statements that it completes.
    fn line(&mut self, line: &str) -> Result<Next, CliError> {
        if self.buffer.trim().is_empty() && line.trim_start().starts_with('\\') {
            self.buffer.clear();
            return self.command(line.trim());
        }
        self.buffer.push_str(line);
        self.buffer.push('\n');
        let found = split(&self.buffer);
        self.buffer = found.rest.map(|rest| rest.text + "\n").unwrap_or_default();
        for statement in found.complete {
            self.count += 1;
            match self.runtime.block_on(self.session.run(&statement.text)) {
                Ok(done) => self.after(&statement.text, done),
                Err(error) => {
                    // What follows a failed statement was typed in the belief that it works.
                    self.buffer.clear();
                    return Err(error);
                }
            }
        }
        Ok(Next::Continue)
    }

    fn after(&self, sql: &str, done: Done) {
        let first = sql.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        let changes_names = ["CREATE", "DROP"].contains(&first.as_str());
        if changes_names {
            self.refresh_names();
        }
        if self.timing {
            let rows = done.printed.rows;
            let time = text::milliseconds(done.elapsed.as_secs_f64() * 1_000.0);
            eprintln!("{rows} row{} in {time}", if rows == 1 { "" } else { "s" });
        }
    }

    fn command(&mut self, line: &str) -> Result<Next, CliError> {
        let (name, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let argument = argument.trim().trim_end_matches(';').trim();
        match (name.trim_end_matches(';'), argument) {
            ("\\q" | "\\quit", _) => return Ok(Next::Quit),
            ("\\?" | "\\h" | "\\help", _) => eprint!("{HELP}"),
            ("\\timing", _) => {
                self.timing = !self.timing;
                eprintln!("timing is {}", if self.timing { "on" } else { "off" });
            }
            ("\\d", "") => {
                let names = self.runtime.block_on(self.session.client.relations())?;
                let rows: Vec<Vec<String>> = names.into_iter().map(|name| vec![name]).collect();
                output::print(&text::columns(&["name"], &rows))?;
            }
            ("\\d", name) => {
                self.runtime.block_on(self.session.run(&format!("DESCRIBE {name}")))?;
            }
            (other, _) => eprintln!("unknown command {other}; \\? lists them"),
        }
        Ok(Next::Continue)
    }

    /// For completion only: without an answer the old names stay.
    fn refresh_names(&self) {
        if let Ok(found) = self.runtime.block_on(self.session.client.relations()) {
            *self.names.lock().unwrap_or_else(PoisonError::into_inner) = found;
        }
    }
}

/// `$XDG_STATE_HOME/polybolos/history`, else below `~/.local/state`; `None` without a home.
fn history_file() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")))?;
    let folder = state.join("polybolos");
    files::create_dir_all(&folder).ok()?;
    Some(folder.join("history"))
}
