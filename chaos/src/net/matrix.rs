//! Which messages pass, from the faults that are active. Pure.

use std::collections::BTreeMap;

use crate::fault::Way;

/// This process with its clients.
pub const CLIENTS: usize = 0;

/// What happens to messages from one host to another.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rule {
    /// Nothing arrives.
    pub drop: bool,
    /// Share of packets that are lost.
    pub loss: f64,
    /// How likely the connection breaks at each read of a proxy.
    pub cut: f64,
    pub latency_ms: u64,
    pub kbit: Option<u64>,
}

impl Rule {
    fn and(&mut self, other: Self) {
        self.drop |= other.drop;
        self.loss = 1.0 - (1.0 - self.loss) * (1.0 - other.loss);
        self.cut = 1.0 - (1.0 - self.cut) * (1.0 - other.cut);
        self.latency_ms += other.latency_ms;
        self.kbit = [self.kbit, other.kbit].into_iter().flatten().min();
    }
}

/// Rules by sender and receiver; a pair that is missing is well.
pub type Matrix = BTreeMap<(usize, usize), Rule>;

/// A fault of the network with its hosts looked up.
#[derive(Debug, Clone, PartialEq)]
pub enum LinkFault {
    /// Everything from and to a host, by `way`.
    Isolate { host: usize, way: Way },
    /// Nothing passes between hosts of different sides. A host in none of them, or in both, reaches all.
    Split { left: Vec<usize>, right: Vec<usize> },
    /// The same rule for all messages from and to a host.
    All { host: usize, rule: Rule },
}

/// All rules of these faults among `hosts`, [`CLIENTS`] included.
pub fn matrix<'a>(hosts: &[usize], active: impl IntoIterator<Item = &'a LinkFault>) -> Matrix {
    let mut matrix = Matrix::new();
    let dropped = Rule { drop: true, ..Rule::default() };
    for fault in active {
        match fault {
            LinkFault::Isolate { host, way } => {
                for other in hosts.iter().filter(|other| *other != host) {
                    if *way != Way::Out {
                        matrix.entry((*other, *host)).or_default().and(dropped);
                    }
                    if *way != Way::In {
                        matrix.entry((*host, *other)).or_default().and(dropped);
                    }
                }
            }
            LinkFault::Split { left, right } => {
                for one in left.iter().filter(|one| !right.contains(one)) {
                    for other in right.iter().filter(|other| !left.contains(other)) {
                        matrix.entry((*one, *other)).or_default().and(dropped);
                        matrix.entry((*other, *one)).or_default().and(dropped);
                    }
                }
            }
            LinkFault::All { host, rule } => {
                for other in hosts.iter().filter(|other| *other != host) {
                    matrix.entry((*other, *host)).or_default().and(*rule);
                    matrix.entry((*host, *other)).or_default().and(*rule);
                }
            }
        }
    }
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(matrix: &Matrix) -> Vec<(usize, usize)> {
        matrix.iter().filter(|(_, rule)| rule.drop).map(|(pair, _)| *pair).collect()
    }

    #[test]
    fn one_way_is_one_way() {
        let hosts = [0, 1, 2];
        let isolate = |way| cut(&matrix(&hosts, &[LinkFault::Isolate { host: 1, way }]));
        assert_eq!(isolate(Way::In), [(0, 1), (2, 1)]);
        assert_eq!(isolate(Way::Out), [(1, 0), (1, 2)]);
        assert_eq!(isolate(Way::Both), [(0, 1), (1, 0), (1, 2), (2, 1)]);
    }

    #[test]
    fn who_is_on_both_sides_reaches_all() {
        let bridge = LinkFault::Split { left: vec![1, 2], right: vec![2, 3] };
        assert_eq!(cut(&matrix(&[0, 1, 2, 3], &[bridge])), [(1, 3), (3, 1)]);
    }

    #[test]
    fn faults_add_up() {
        let slow = |latency_ms, kbit| LinkFault::All {
            host: 1,
            rule: Rule { latency_ms, kbit, loss: 0.5, ..Rule::default() },
        };
        let both = matrix(&[1, 2], &[slow(10, Some(500)), slow(5, None)]);
        let expected = Rule { latency_ms: 15, kbit: Some(500), loss: 0.75, ..Rule::default() };
        assert_eq!(both.get(&(2, 1)), Some(&expected));
        assert!(matrix(&[1, 2], &[]).is_empty());
    }
}
