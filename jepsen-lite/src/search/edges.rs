//! Begins and ends in time, from which the search takes operations and to which it puts them back.

use super::problem::{Edge, Problem};

/// The edges of operations that are not in the order, as a ring from which operations are taken and put back.
///
/// Edge `i` has place `i + 1`; place 0 is before the first and behind the last.
#[derive(Debug)]
pub(super) struct Edges {
    pub(super) next: Vec<usize>,
    previous: Vec<usize>,
    /// Of each required operation, the places of its begin and its end.
    pub(super) places: Vec<[usize; 2]>,
}

impl Edges {
    pub(super) fn new<C>(problem: &Problem<C>) -> Self {
        let count = problem.edges.len();
        let mut places = vec![[0; 2]; problem.required.len()];
        for (place, edge) in (1..).zip(&problem.edges) {
            match *edge {
                Edge::Begin(op) => places[op][0] = place,
                Edge::End(op) => places[op][1] = place,
            }
        }
        let next = (1..=count).chain([0]).collect();
        let previous = [count].into_iter().chain(0..count).collect();
        Self { next, previous, places }
    }

    pub(super) fn take(&mut self, op: usize) {
        for place in self.places[op] {
            let (left, right) = (self.previous[place], self.next[place]);
            self.next[left] = right;
            self.previous[right] = left;
        }
    }

    /// In the reverse order of taking.
    pub(super) fn put_back(&mut self, op: usize) {
        let [begin, end] = self.places[op];
        for place in [end, begin] {
            let (left, right) = (self.previous[place], self.next[place]);
            self.next[left] = place;
            self.previous[right] = place;
        }
    }
}
