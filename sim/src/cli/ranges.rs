//! Ranges of seeds and simulated times, as people write them.

use std::str::FromStr;

/// A range with both of its ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seeds {
    pub(super) first: u64,
    pub(super) last: u64,
}

impl Seeds {
    pub(super) fn iter(self) -> impl Iterator<Item = u64> + Send + Clone {
        self.first..=self.last
    }
}

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let seeds = text.split_once("..").and_then(|(first, last)| {
            Some(Self { first: first.parse().ok()?, last: last.trim_start_matches('=').parse().ok()? })
        });
        match seeds {
            Some(seeds) if seeds.first <= seeds.last => Ok(seeds),
            _ => Err(format!("'{text}' is no range of seeds; expected A..B with A <= B, for example 1..100")),
        }
    }
}

/// Simulated time since the cluster started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SimTime {
    pub(super) us: u64,
}

impl FromStr for SimTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, unit_us) = match text.strip_suffix("ms") {
            Some(number) => (number, 1e3),
            None => (text.strip_suffix('s').unwrap_or(text), 1e6),
        };
        match number.parse::<f64>() {
            Ok(number) if number >= 0.0 && number.is_finite() => Ok(Self { us: (number * unit_us) as u64 }),
            _ => Err(format!("'{text}' is no simulated time; expected for example 2.5s or 1500ms")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_seeds_are_checked() {
        assert_eq!("3..5".parse(), Ok(Seeds { first: 3, last: 5 }));
        assert_eq!("3..=5".parse(), Ok(Seeds { first: 3, last: 5 }));
        assert!("5..3".parse::<Seeds>().is_err());
        assert!("x".parse::<Seeds>().is_err());
    }

    #[test]
    fn times_have_units() {
        assert_eq!("1500ms".parse(), Ok(SimTime { us: 1_500_000 }));
        assert_eq!("2.5s".parse(), Ok(SimTime { us: 2_500_000 }));
        assert_eq!("2".parse(), Ok(SimTime { us: 2_000_000 }));
        assert!("-1s".parse::<SimTime>().is_err());
        assert!("soon".parse::<SimTime>().is_err());
    }
}
