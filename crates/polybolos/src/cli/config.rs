//! The `--config` file: its values become the defaults of the flags they name, so that variables and the command
//! line win over them, and clap checks all three alike.
//!
//! ```text
//!   file ──▶ defaults of clap's flags ──▶ variables ──▶ command line ──▶ Cli
//! ```

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use clap::{Arg, ArgAction, CommandFactory, FromArgMatches, error::ContextKind};
use toml::{Table, Value};

use super::{args::Cli, files};

/// Flags that say what to do once rather than how a command behaves.
const NOT_IN_A_FILE: [&str; 3] = ["command", "file", "config"];

/// Why a command line, a variable or a file can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("the configuration file {path} can't be read: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the configuration file {path} is no valid TOML: {source}")]
    Syntax { path: PathBuf, source: Box<toml::de::Error> },
    #[error("{path}: '{key}' stands outside of a table; write it below one of {tables}")]
    OutsideTable { path: PathBuf, key: String, tables: String },
    #[error("{path}: unknown key '{key}'; known here: {known}")]
    UnknownKey { path: PathBuf, key: String, known: String },
    #[error("{path}: key '{key}': {reason}")]
    BadValue { path: PathBuf, key: String, reason: String },
    /// Help, the version, or a wrong command line; clap's own words, and its exit code.
    #[error("{error}")]
    Clap { error: Box<clap::Error>, variable: Option<&'static str> },
}

/// Reads the command line with the variables of the environment and the file that either names.
///
/// # Errors
/// Names the file and key, the variable, or the flag that is wrong.
pub(crate) fn parse(argv: &[OsString]) -> Result<Cli, ConfigError> {
    let mut command = Cli::command();
    if let Some(path) = config_path(argv) {
        let text = files::read_to_string(&path)
            .map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        command = with_file(command, &path, &text)?;
    }
    let mut checked = command.clone();
    let mut wrong = |error: clap::Error| {
        // Without this clap's flags don't know how they are shown.
        checked.build();
        let variable = guilty_variable(&checked, argv, &error);
        ConfigError::Clap { error: Box::new(error), variable }
    };
    let matches = command.try_get_matches_from(argv).map_err(&mut wrong)?;
    Cli::from_arg_matches(&matches)
        .map_err(|error| ConfigError::Clap { error: Box::new(error), variable: None })
}

/// `--config FILE`, `--config=FILE` or the variable. Found before clap runs, because clap needs what it holds.
fn config_path(argv: &[OsString]) -> Option<PathBuf> {
    let mut words = argv.iter().skip(1).take_while(|word| *word != "--");
    while let Some(word) = words.next() {
        if word == "--config" {
            return words.next().map(PathBuf::from);
        }
        if let Some(path) = word.to_str().and_then(|word| word.strip_prefix("--config=")) {
            return Some(PathBuf::from(path));
        }
    }
    std::env::var_os("POLYBOLOS_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Makes the values of the file `text` the defaults of `command`'s flags.
fn with_file(mut command: clap::Command, path: &Path, text: &str) -> Result<clap::Command, ConfigError> {
    let table: Table = text
        .parse()
        .map_err(|source| ConfigError::Syntax { path: path.to_owned(), source: Box::new(source) })?;
    for (key, value) in &table {
        let tables =
            || command.get_subcommands().map(|sub| format!("[{}]", sub.get_name())).collect::<Vec<_>>();
        let Value::Table(inner) = value else {
            let tables = tables().join(", ");
            return Err(ConfigError::OutsideTable { path: path.to_owned(), key: key.clone(), tables });
        };
        let Some(sub) = command.find_subcommand(key).cloned() else {
            let known = tables().join(", ");
            return Err(ConfigError::UnknownKey { path: path.to_owned(), key: format!("[{key}]"), known });
        };
        let sub = with_table(sub, path, key, inner)?;
        command = command.mut_subcommand(key, |_| sub);
    }
    Ok(command)
}

fn with_table(
    mut command: clap::Command,
    path: &Path,
    name: &str,
    table: &Table,
) -> Result<clap::Command, ConfigError> {
    // Values first: the table of an inner command overrules them.
    for (key, value) in table.iter().filter(|(_, value)| !value.is_table()) {
        let full = format!("{name}.{key}");
        let bad = |reason| ConfigError::BadValue { path: path.to_owned(), key: full.clone(), reason };
        let words = words(value).map_err(bad)?;
        let found;
        (command, found) = with_value(command, &key.replace('_', "-"), &words).map_err(bad)?;
        if !found {
            let known = flags(&command).join(", ");
            return Err(ConfigError::UnknownKey { path: path.to_owned(), key: full, known });
        }
    }
    for (key, value) in table {
        let Value::Table(inner) = value else { continue };
        let full = format!("{name}.{key}");
        let Some(sub) = command.find_subcommand(key).cloned() else {
            let known = command.get_subcommands().map(|sub| sub.get_name().to_owned()).chain(flags(&command));
            let known = known.collect::<Vec<_>>().join(", ");
            return Err(ConfigError::UnknownKey { path: path.to_owned(), key: format!("[{full}]"), known });
        };
        let sub = with_table(sub, path, &full, inner)?;
        command = command.mut_subcommand(key, |_| sub);
    }
    Ok(command)
}

/// Gives the flag, here and in the commands below, its new default. False if there is no such flag.
fn with_value(
    mut command: clap::Command,
    flag: &str,
    words: &[String],
) -> Result<(clap::Command, bool), String> {
    let mut found = false;
    let arg = command.get_arguments().find(|arg| arg.get_long() == Some(flag)).cloned();
    if let Some(arg) = arg.filter(|_| !NOT_IN_A_FILE.contains(&flag)) {
        found = true;
        check(&arg, words)?;
        // clap wants defaults that live as long as the process; the file is read once.
        let words: Vec<&'static str> =
            words.iter().map(|word| &*Box::leak(word.clone().into_boxed_str())).collect();
        command = command.mut_arg(arg.get_id(), |arg| arg.required(false).default_values(words));
    }
    let below: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for name in below {
        let Some(sub) = command.find_subcommand(&name).cloned() else { continue };
        let (sub, here) = with_value(sub, flag, words)?;
        found |= here;
        command = command.mut_subcommand(&name, |_| sub);
    }
    Ok((command, found))
}

/// Parses the words as the flag alone, for an error that is about them and nothing else.
fn check(arg: &Arg, words: &[String]) -> Result<(), String> {
    match arg.get_action() {
        ArgAction::SetTrue => match words {
            [word] if word == "true" || word == "false" => return Ok(()),
            _ => return Err("expected true or false".to_owned()),
        },
        ArgAction::Append => {}
        _ if words.len() == 1 => {}
        _ => return Err("expected one value".to_owned()),
    }
    let flag = arg.get_long().unwrap_or_default();
    let argv = words.iter().map(|word| format!("--{flag}={word}"));
    let probe = clap::Command::new("probe").no_binary_name(true).arg(arg.clone().required(false));
    match probe.try_get_matches_from(argv) {
        Ok(_) => Ok(()),
        Err(error) => {
            let text = error.to_string();
            let lines = text.lines().map(str::trim).take_while(|line| !line.is_empty());
            Err(lines.collect::<Vec<_>>().join(" ").trim_start_matches("error: ").to_owned())
        }
    }
}

/// A value of the file as words of a command line.
fn words(value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Integer(number) => Ok(vec![number.to_string()]),
        Value::Float(number) => Ok(vec![number.to_string()]),
        Value::Boolean(yes) => Ok(vec![yes.to_string()]),
        Value::Array(items) => {
            if items.iter().any(|item| item.is_array() || item.is_table()) {
                return Err("expected a list of plain values".to_owned());
            }
            items.iter().map(words).collect::<Result<Vec<_>, _>>().map(|lists| lists.concat())
        }
        Value::Datetime(_) | Value::Table(_) => {
            Err("expected a text, number, boolean, or a list of them".to_owned())
        }
    }
}

/// Flags of the command and of those below it, as keys of the file.
fn flags(command: &clap::Command) -> Vec<String> {
    let mut names: Vec<String> = command
        .get_arguments()
        .filter_map(Arg::get_long)
        .filter(|name| !NOT_IN_A_FILE.contains(name) && *name != "help" && *name != "version")
        .map(|name| name.replace('-', "_"))
        .chain(command.get_subcommands().flat_map(flags))
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The variable that gave the value clap refuses, if the command line did not.
fn guilty_variable(command: &clap::Command, argv: &[OsString], error: &clap::Error) -> Option<&'static str> {
    let shown = error.get(ContextKind::InvalidArg)?.to_string();
    all_args(command)
        .into_iter()
        .filter(|arg| arg.to_string() == shown)
        .filter(|arg| {
            let long = format!("--{}", arg.get_long().unwrap_or_default());
            !argv.iter().any(|word| word.to_string_lossy().starts_with(&long))
        })
        .filter_map(|arg| arg.get_env().and_then(OsStr::to_str))
        .find(|name| std::env::var_os(name).is_some())
        .map(|name| &*Box::leak(name.to_owned().into_boxed_str()))
}

fn all_args(command: &clap::Command) -> Vec<&Arg> {
    command.get_arguments().chain(command.get_subcommands().flat_map(all_args)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Command, Format, SchedulerArgs};

    fn with(text: &str, argv: &str) -> Result<Cli, String> {
        let command = with_file(Cli::command(), Path::new("p.toml"), text).map_err(|e| e.to_string())?;
        let matches = command.try_get_matches_from(argv.split(' ')).map_err(|e| e.to_string())?;
        Cli::from_arg_matches(&matches).map_err(|e| e.to_string())
    }

    fn scheduler(text: &str, argv: &str) -> SchedulerArgs {
        match with(text, argv).unwrap().command {
            Command::Scheduler(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn clap_finds_nothing_wrong_with_the_flags() {
        Cli::command().debug_assert();
    }

    #[test]
    fn each_help_ends_with_an_example_of_its_own() {
        fn check(command: &mut clap::Command, path: &str) {
            let help = command.render_long_help().to_string();
            let example = help.trim_end().rsplit("Example:").next().unwrap().to_owned();
            assert!(help.contains("Example:") && example.contains(path), "{path}: {help}");
            assert!(
                command.get_about().is_some_and(|about| !about.to_string().contains("cluster to talk")),
                "{path}"
            );
            for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
                let path = format!("{path} {}", sub.get_name());
                check(sub, &path);
            }
        }
        check(&mut Cli::command(), "polybolos");
    }

    #[test]
    fn the_file_fills_in_and_the_command_line_wins() {
        let text = "[scheduler]\nid = 2\nlisten = 'h:1'\ncluster = ['1=h:1', '2=h:2']\ndata_dir = '/d'\n";
        let args = scheduler(text, "polybolos scheduler --listen h:9");
        assert_eq!((args.id, args.listen.as_str()), (2, "h:9"));
        assert_eq!(args.cluster, vec![(1, "h:1".to_owned()), (2, "h:2".to_owned())]);
        let args = scheduler(text, "polybolos scheduler --cluster 3=h:3 --id 3");
        assert_eq!((args.id, args.cluster), (3, vec![(3, "h:3".to_owned())]));
        let joined = "[scheduler]\nid = 2\nlisten = 'h:1'\ncluster = '1=h:1,2=h:2'\ndata-dir = '/d'\n";
        assert_eq!(scheduler(joined, "polybolos scheduler").cluster.len(), 2);
    }

    #[test]
    fn a_table_reaches_the_commands_below_it_and_theirs_overrules_it() {
        let text = "[tpch]\nscale = 2\nrepeat = 5\nverify = true\n[tpch.generate]\nscale = 0.5\nout = 'o'\n";
        match with(text, "polybolos tpch generate").unwrap().command {
            Command::Tpch(tpch) => match tpch.command {
                crate::cli::args::TpchCommand::Generate(args) => assert_eq!(args.scale, 0.5),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
        match with(text, "polybolos tpch run --data d").unwrap().command {
            Command::Tpch(tpch) => match tpch.command {
                crate::cli::args::TpchCommand::Run(args) => assert!(args.verify && args.repeat == 5),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_default_is_used_when_nobody_says_otherwise() {
        match with("[sql]\nschedulers = 'h:1'", "polybolos sql").unwrap().command {
            Command::Sql(args) => assert_eq!(args.script.format, Format::Table),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn mistakes_in_the_file_are_named() {
        let cases = [
            ("listen = 'h:1'", "'listen' stands outside of a table"),
            ("[schedular]\nid = 1", "unknown key '[schedular]'"),
            (
                "[scheduler]\nlissten = 'h:1'",
                "unknown key 'scheduler.lissten'; known here: cluster, data_dir",
            ),
            ("[scheduler]\nlisten = 'nowhere'", "key 'scheduler.listen': invalid value 'nowhere'"),
            ("[scheduler]\nid = 'one'", "key 'scheduler.id': invalid value 'one'"),
            ("[scheduler]\nid = [1, 2]", "key 'scheduler.id': expected one value"),
            ("[scheduler]\nid = 1979-05-27", "key 'scheduler.id': expected a text"),
            ("[executor]\nmemory = '2G'", "'G' is ambiguous"),
            ("[sql]\nformat = 'xml'", "key 'sql.format': invalid value 'xml'"),
            ("[sql]\ncommand = 'select 1'", "unknown key 'sql.command'"),
            ("[tpch.run]\nverify = 'maybe'", "key 'tpch.run.verify': expected true or false"),
            ("[tpch.walk]\nx = 1", "unknown key '[tpch.walk]'"),
            ("[scheduler", "no valid TOML"),
        ];
        for (text, expected) in cases {
            let error = with(text, "polybolos scheduler").unwrap_err();
            assert!(error.contains(expected) && error.contains("p.toml"), "{text}: {error}");
        }
    }

    #[test]
    fn the_path_is_found_wherever_it_stands() {
        let argv = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(config_path(&argv("p sql --config a.toml -c x")), Some("a.toml".into()));
        assert_eq!(config_path(&argv("p --config=a.toml sql")), Some("a.toml".into()));
        assert_eq!(config_path(&argv("p sql -- --config a.toml")), None);
    }
}
