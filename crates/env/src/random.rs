//! Randomness.

/// A source of random numbers.
pub trait Random: Send + Sync {
    /// Uniform over all of `u64`.
    fn next_u64(&self) -> u64;

    /// Uniform over `0..bound`; 0 if `bound` is 0. The bias is below `bound / 2^64`.
    fn below(&self, bound: u64) -> u64 {
        let product = u128::from(self.next_u64()) * u128::from(bound);
        (product >> 64) as u64
    }
}

pub(crate) struct SystemRandom;

impl Random for SystemRandom {
    #[allow(clippy::disallowed_methods, reason = "the production side of the seam")]
    fn next_u64(&self) -> u64 {
        rand::random()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u64);

    impl Random for Fixed {
        fn next_u64(&self) -> u64 {
            self.0
        }
    }

    #[test]
    fn below_stays_in_range() {
        assert_eq!(Fixed(u64::MAX).below(10), 9);
        assert_eq!(Fixed(0).below(10), 0);
        assert_eq!(Fixed(u64::MAX).below(0), 0);
    }
}
