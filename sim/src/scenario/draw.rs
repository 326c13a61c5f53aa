//! Choices: `[1, 3, 5]` is one of these, `"2..6"` a number of this range, both ends included.

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::{Serialize, de::DeserializeOwned};
use toml::{Table, Value};

use super::ScenarioError;
use crate::schedule::fork;

/// Draws each value of a table from its own fork of `seed`, by the name `item.key`.
pub(super) fn table(seed: u64, item: &str, table: &Table) -> Result<Table, ScenarioError> {
    let mut drawn = Table::new();
    for (key, choice) in table {
        drawn.insert(key.clone(), value(seed, &format!("{item}.{key}"), choice)?);
    }
    Ok(drawn)
}

pub(super) fn value(seed: u64, name: &str, choice: &Value) -> Result<Value, ScenarioError> {
    let wrong = || ScenarioError::Choice { item: name.to_owned(), text: choice.to_string() };
    let mut random = StdRng::seed_from_u64(fork(seed, name));
    match choice {
        Value::Array(choices) if choices.is_empty() => Err(wrong()),
        Value::Array(choices) => {
            let index = random.random_range(0..choices.len());
            value(seed, &format!("{name}[]"), choices.get(index).ok_or_else(wrong)?)
        }
        Value::String(text) => match range(text) {
            Some(Range::Integer(min, max)) if min <= max => {
                Ok(Value::Integer(random.random_range(min..=max)))
            }
            Some(Range::Float(min, max)) if min <= max => {
                // Four digits are enough, and read well in a schedule.
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

/// Reads what was drawn as what it has to be.
pub(super) fn read<T: DeserializeOwned>(item: &str, value: Value) -> Result<T, ScenarioError> {
    value.try_into().map_err(|error| ScenarioError::Item { item: item.to_owned(), error: Box::new(error) })
}

/// As [`read`], of an enum whose variant is a key among others: serde passes over keys that it does not know there.
pub(super) fn read_exactly<T>(item: &str, table: Table) -> Result<T, ScenarioError>
where
    T: DeserializeOwned + Serialize,
{
    let read: T = read(item, Value::Table(table.clone()))?;
    if let Ok(Value::Table(known)) = Value::try_from(&read)
        && let Some(key) = table.keys().find(|key| !known.contains_key(*key))
    {
        return Err(ScenarioError::UnknownKey { item: item.to_owned(), key: key.clone() });
    }
    Ok(read)
}

/// Takes a key out of a table, drawn.
pub(super) fn take<T: DeserializeOwned>(
    seed: u64,
    item: &str,
    table: &mut Table,
    key: &str,
) -> Result<Option<T>, ScenarioError> {
    let Some(choice) = table.remove(key) else { return Ok(None) };
    let name = format!("{item}.{key}");
    read(&name, value(seed, &name, &choice)?).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(choice: &Value) -> Vec<Value> {
        (0..200).map(|seed| value(seed, "x", choice).unwrap()).collect()
    }

    #[test]
    fn a_list_is_one_of_its_values_and_a_range_has_both_its_ends() {
        let drawn = draw(&Value::try_from(["1..2", "leader"]).unwrap());
        for expected in [Value::Integer(1), Value::Integer(2), Value::from("leader")] {
            assert!(drawn.contains(&expected), "{expected}");
        }
        assert!(drawn.iter().all(|value| value.is_str() || [1, 2].contains(&value.as_integer().unwrap())));
        let rates = draw(&Value::from("0.1..0.3"));
        assert!(rates.iter().all(|rate| (0.1..=0.3).contains(&rate.as_float().unwrap())));
        assert!(draw(&Value::from("-5..-1")).contains(&Value::Integer(-5)));
    }

    #[test]
    fn a_range_that_is_upside_down_is_refused() {
        let error = value(1, "cluster.clients", &Value::from("4..1")).unwrap_err();
        assert!(matches!(error, ScenarioError::Choice { .. }), "{error}");
    }

    #[test]
    fn another_key_changes_nothing() {
        let one: Table = toml::from_str("a = '1..1000'").unwrap();
        let two: Table = toml::from_str("b = '1..1000'\na = '1..1000'").unwrap();
        assert_eq!(table(7, "x", &one).unwrap().get("a"), table(7, "x", &two).unwrap().get("a"));
    }
}
