//! Many runs at once, each in its own process.

use std::{
    num::NonZero,
    sync::{Mutex, PoisonError, mpsc},
    thread,
};

use super::Flow;

/// Works through `items` in their order, `jobs` at a time, and hands over what `work` makes of each as it comes. After
/// [`Flow::Enough`] nothing new begins, and what is under way is still handed over.
pub fn many<I, T>(
    items: impl IntoIterator<Item = I, IntoIter: Send>,
    jobs: Option<NonZero<usize>>,
    work: impl Fn(I) -> T + Sync,
    mut done: impl FnMut(T) -> Flow,
) where
    I: Send,
    T: Send,
{
    let jobs = jobs.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZero::get);
    let items = Mutex::new(Some(items.into_iter()));
    let (tell, told) = mpsc::sync_channel(0);
    thread::scope(|scope| {
        for _ in 0..jobs {
            let (tell, items, work) = (tell.clone(), &items, &work);
            scope.spawn(move || {
                let next = || lock(items).as_mut().and_then(Iterator::next);
                while let Some(item) = next() {
                    if tell.send(work(item)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(tell);
        for outcome in &told {
            if done(outcome) == Flow::Enough {
                *lock(&items) = None;
            }
        }
    });
}

fn lock<T>(items: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    items.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_worked_through_unless_it_is_enough() {
        let mut seen = Vec::new();
        many(
            1..=100,
            NonZero::new(3),
            |n| n * 2,
            |n| {
                seen.push(n);
                Flow::More
            },
        );
        seen.sort_unstable();
        assert_eq!(seen, (1..=100).map(|n| n * 2).collect::<Vec<_>>());

        let mut count = 0;
        many(
            1..,
            NonZero::new(3),
            |n: u64| n,
            |_| {
                count += 1;
                if count < 10 { Flow::More } else { Flow::Enough }
            },
        );
        assert!((10..20).contains(&count), "{count}");
    }
}
