//! Starts the process of a run and waits for what comes of it.

use std::{
    io::{self, BufRead, BufReader},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use super::{LayoutError, Order, build_id, child, layout, order};
use crate::{
    run::{Broken, Summary},
    schedule::Schedule,
};

/// The same program, even after a new build has replaced the file.
pub(super) const PROGRAM: &str = "/proc/self/exe";
/// Real time after which a run counts as one that never ends.
const WALL_LIMIT: Duration = Duration::from_secs(600);
/// The oracle's name of a run whose process died or never ended.
const ORACLE: &str = "the-process-ends-well";

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub summary: Summary,
    /// Of the trace; none if the process died or was told to stop.
    pub digest: Option<String>,
    /// Real time.
    pub wall: Duration,
}

/// Whether who reads the lines wants more of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    More,
    Enough,
}

/// A run could not be started or read.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("the simulation's process can't be started: {0}")]
    Start(io::Error),
    #[error("the simulation's process did not take its order or was not heard: {0}")]
    Talk(#[from] io::Error),
    /// It has said why on standard error.
    #[error("the simulation's process refused to run")]
    Refused,
}

/// Runs an order in a process of its own.
///
/// # Errors
/// Only if there was no run. A run that breaks a promise, or whose process dies, is an [`Outcome`].
pub fn simulate(order: &Order) -> Result<Outcome, ProcessError> {
    talk(order, None)
}

/// As [`simulate`], and hands over each line of the trace, without its end, until `on_line` has enough.
///
/// # Errors
/// As [`simulate`].
pub fn follow(
    order: &Order,
    on_line: &mut (dyn FnMut(&str) -> Flow + Send),
) -> Result<Outcome, ProcessError> {
    talk(order, Some(on_line))
}

type OnLine<'a> = &'a mut (dyn FnMut(&str) -> Flow + Send);

fn talk(order: &Order, on_line: Option<OnLine<'_>>) -> Result<Outcome, ProcessError> {
    layout::fix_for_children()?;
    #[allow(clippy::disallowed_methods, reason = "a parent measures real time")]
    let begun = Instant::now();
    let mut command = Command::new(PROGRAM);
    command.arg0(child::NAME).env_clear().current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = command.spawn().map_err(ProcessError::Start)?;
    let heard = converse(&mut process, order, on_line);
    if !matches!(heard, Ok(Heard::Last(_))) {
        // It may have ended by itself.
        let _killed = process.kill();
    }
    let status = process.wait()?;
    let wall = begun.elapsed();
    let (summary, digest) = match heard? {
        Heard::Last(last) => {
            let child::Last { polybolos_result, digest } = *last;
            (polybolos_result, Some(digest))
        }
        Heard::Enough => (of(&order.schedule), None),
        Heard::Silence => (broken(&order.schedule, "it still ran after 10 minutes of real time"), None),
        Heard::End if status.code() == Some(1) => return Err(ProcessError::Refused),
        Heard::End => (broken(&order.schedule, &died(status)), None),
    };
    Ok(Outcome { summary, digest, wall })
}

enum Heard {
    Last(Box<child::Last>),
    /// The reader of the lines has seen enough.
    Enough,
    /// It ended without a result.
    End,
    /// It never ended.
    Silence,
}

fn converse(process: &mut Child, order: &Order, on_line: Option<OnLine<'_>>) -> io::Result<Heard> {
    let (Some(stdin), Some(stdout)) = (process.stdin.take(), process.stdout.take()) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    order::send(stdin, order, on_line.is_some(), build_id()).or_else(|error| match error.kind() {
        // A child that refuses to run says so by its end.
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    })?;
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            // Nobody waits any more if it took too long.
            let _told = tell.send(listen(BufReader::new(stdout), on_line));
        });
        match told.recv_timeout(WALL_LIMIT) {
            Ok(heard) => heard,
            Err(_) => {
                // So that the reader comes to the end of the pipe.
                process.kill()?;
                Ok(Heard::Silence)
            }
        }
    })
}

fn listen(mut from: impl BufRead, mut on_line: Option<OnLine<'_>>) -> io::Result<Heard> {
    let mut line = String::new();
    loop {
        line.clear();
        if from.read_line(&mut line)? == 0 {
            return Ok(Heard::End);
        }
        let text = line.trim_end_matches('\n');
        if text.starts_with(child::RESULT) {
            return Ok(Heard::Last(Box::new(serde_json::from_str(text)?)));
        }
        if let Some(on_line) = &mut on_line
            && on_line(text) == Flow::Enough
        {
            return Ok(Heard::Enough);
        }
    }
}

fn of(schedule: &Schedule) -> Summary {
    Summary { seed: schedule.seed, scenario: schedule.scenario.clone(), ..Summary::default() }
}

fn broken(schedule: &Schedule, what: &str) -> Summary {
    let violation = Broken { oracle: ORACLE.to_owned(), what: what.to_owned(), at_ms: 0 };
    Summary { violation: Some(violation), ..of(schedule) }
}

fn died(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("it died of signal {signal}"),
        None => format!("it ended without a result: {status}"),
    }
}
