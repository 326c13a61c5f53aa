//! Programs for the kernel's packet classifier, in classic BPF as `tc … bpf bytecode` takes it: which packets are dropped.
//!
//! Opcodes are those of `linux/filter.h`, verdicts those of `linux/pkt_cls.h` (`TC_ACT_SHOT`, `TC_ACT_UNSPEC`). They work
//! where neither netem nor a packet filter's command is installed.

use std::net::Ipv4Addr;

/// Of a frame: its type, and the addresses in its IPv4 header.
const ETHER_TYPE: u32 = 12;
const SOURCE: u32 = 26;
const DESTINATION: u32 = 30;
const IPV4: u32 = 0x0800;
/// Loading from here gives a random number (`SKF_AD_OFF + SKF_AD_RANDOM`).
const RANDOM: u32 = 0xffff_f038;

const LOAD_HALF: u16 = 0x28;
const LOAD_WORD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const RETURN: u16 = 0x06;
const DROP: u32 = 2;
const PASS: u32 = u32::MAX;

/// Which address of a packet tells who the peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// For arriving packets.
    From,
    /// For leaving packets.
    To,
}

/// Drops this share of the packets from or to each of these peers; all of them if it is 1. `None` if nothing is dropped.
pub(super) fn program(side: Side, peers: &[(Ipv4Addr, f64)]) -> Option<String> {
    let peers: Vec<_> = peers.iter().filter(|(_, share)| *share > 0.0).collect();
    if peers.is_empty() {
        return None;
    }
    let address = if side == Side::From { SOURCE } else { DESTINATION };
    let mut code: Vec<(u16, u8, u8, u32)> =
        vec![(LOAD_HALF, 0, 0, ETHER_TYPE), (JUMP_EQUAL, 1, 0, IPV4), (RETURN, 0, 0, PASS)];
    code.push((LOAD_WORD, 0, 0, address));
    for (peer, share) in peers {
        let peer = u32::from(*peer);
        if *share >= 1.0 {
            code.push((JUMP_EQUAL, 0, 1, peer));
        } else {
            // Saturates, and is within 0 and 1.
            let threshold = (share * f64::from(u32::MAX)) as u32;
            code.push((JUMP_EQUAL, 0, 4, peer));
            code.push((LOAD_WORD, 0, 0, RANDOM));
            code.push((JUMP_GREATER, 0, 1, threshold));
            code.push((RETURN, 0, 0, PASS));
        }
        code.push((RETURN, 0, 0, DROP));
    }
    code.push((RETURN, 0, 0, PASS));
    let lines = code.iter().map(|(op, yes, no, k)| format!("{op} {yes} {no} {k}"));
    Some(format!("{},{}", code.len(), lines.collect::<Vec<_>>().join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program on a packet, as the kernel would.
    fn verdict(program: &str, peer: Ipv4Addr, random: u32) -> u32 {
        let code: Vec<Vec<u32>> = program
            .split(',')
            .skip(1)
            .map(|line| line.split(' ').map(|word| word.parse().unwrap()).collect())
            .collect();
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let [op, yes, no, k] = code[at][..] else { panic!("{program}") };
            at += 1;
            let jump = |taken: bool| if taken { yes as usize } else { no as usize };
            match u16::try_from(op).unwrap() {
                LOAD_HALF => accumulator = IPV4,
                LOAD_WORD => accumulator = if k == RANDOM { random } else { u32::from(peer) },
                JUMP_EQUAL => at += jump(accumulator == k),
                JUMP_GREATER => at += jump(accumulator > k),
                RETURN => return k,
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn the_right_packets_are_dropped() {
        let [a, b, c] = [1, 2, 3].map(|last| Ipv4Addr::new(10, 1, 2, last));
        let program = program(Side::From, &[(a, 1.0), (b, 0.25)]).unwrap();
        assert_eq!(verdict(&program, a, u32::MAX), DROP);
        assert_eq!(verdict(&program, b, u32::MAX / 4 - 9), DROP);
        assert_eq!(verdict(&program, b, u32::MAX / 4 + 9), PASS);
        assert_eq!(verdict(&program, c, 0), PASS);
        assert_eq!(super::program(Side::To, &[(a, 0.0)]), None);
    }
}
