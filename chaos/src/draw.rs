//! Choices, as the simulator draws them: `[1, 3, 5]` is one of these, `"2..6"` a number of this range, both ends included.
//!
//! A test of the simulator holds the two to the same faults for the same scenario and seed.

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::os::fork;

/// Draws each value of a table from its own fork of `seed`, by the name `item.key`.
pub(crate) fn table(seed: u64, item: &str, table: &Table) -> Result<Table, String> {
    let drawn = table.iter().map(|(key, choice)| {
        let value = value(seed, &format!("{item}.{key}"), choice)?;
        Ok((key.clone(), value))
    });
    drawn.collect()
}

pub(crate) fn value(seed: u64, name: &str, choice: &Value) -> Result<Value, String> {
    let wrong = || format!("{name}: {choice} is no choice");
    let mut random = StdRng::seed_from_u64(fork(seed, name));
    match choice {
        Value::Array(choices) if choices.is_empty() => Ok(choice.clone()),
        Value::Array(choices) => {
            let index = random.random_range(0..choices.len());
            value(seed, &format!("{name}[]"), choices.get(index).ok_or_else(wrong)?)
        }
        Value::String(text) => match range(text) {
            Some(Range::Integer(min, max)) if min <= max => {
                Ok(Value::Integer(random.random_range(min..=max)))
            }
            Some(Range::Float(min, max)) if min <= max => {
                let drawn = random.random_range(min..=max);
                Ok(Value::Float((drawn * 10_000.0).round() / 10_000.0))
            }
            Some(_) => Err(wrong()),
            None => Ok(choice.clone()),
        },
        Value::Table(inner) => Ok(Value::Table(table(seed, name, inner)?)),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => Ok(choice.clone()),
    }
}

enum Range {
    Integer(i64, i64),
    Float(f64, f64),
}

fn range(text: &str) -> Option<Range> {
    let (min, max) = text.split_once("..")?;
    let integers = min.parse().ok().zip(max.parse().ok());
    let floats = || min.parse().ok().zip(max.parse().ok());
    integers.map(|(min, max)| Range::Integer(min, max)).or_else(|| floats().map(|(a, b)| Range::Float(a, b)))
}

/// Takes a key out of a table, drawn.
pub(crate) fn take<T: DeserializeOwned>(
    seed: u64,
    item: &str,
    table: &mut Table,
    key: &str,
) -> Result<Option<T>, String> {
    let Some(choice) = table.remove(key) else { return Ok(None) };
    let name = format!("{item}.{key}");
    value(seed, &name, &choice)?.try_into().map(Some).map_err(|error| format!("{name}: {error}"))
}
