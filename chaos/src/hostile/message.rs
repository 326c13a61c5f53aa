//! Messages by the description of the wire: random ones that are well-formed, ones that are not, and huge ones.

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

use super::wire::{Field, Kind, Wire};

/// Messages within messages.
const MAX_DEPTH: u32 = 6;
/// Of a repeated field of a random message.
const MAX_REPEATS: u32 = 4;
const MAX_BYTES: usize = 300;
/// No id that a small cluster gives to anything. 0 often means "any", so that it would be no hostile number.
const STRANGE: std::ops::RangeInclusive<u64> = 1_000_000..=u64::MAX;

/// A field of the wire type 2: its tag, length and content.
pub(crate) fn put(out: &mut Vec<u8>, number: u32, content: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

pub(crate) fn put_number(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value);
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Well-formed, with values that mean nothing to a cluster.
pub(crate) fn random(wire: &Wire, message: &str, random_: &mut StdRng) -> Vec<u8> {
    let mut out = Vec::new();
    fill(wire, message, random_, 0, &mut out);
    out
}

fn fill(wire: &Wire, message: &str, random: &mut StdRng, depth: u32, out: &mut Vec<u8>) {
    for field in wire.fields(message) {
        let times = match field.is_repeated {
            true => random.random_range(0..=MAX_REPEATS),
            false => u32::from(random.random_bool(0.8)),
        };
        for _ in 0..times {
            value(wire, field.number, &field.kind, random, depth, out);
        }
    }
}

fn value(wire: &Wire, number: u32, kind: &Kind, random: &mut StdRng, depth: u32, out: &mut Vec<u8>) {
    match kind {
        Kind::Number => put_number(out, number, strange(random)),
        Kind::Truth => put_number(out, number, random.random_range(0..=1)),
        Kind::Text => put(out, number, text(random).as_bytes()),
        Kind::Bytes => put(out, number, &bytes(random, MAX_BYTES)),
        Kind::Message(name) if !wire.messages.contains_key(name) => {
            // An enum: known ones, and one of a newer version.
            put_number(out, number, random.random_range(0..12));
        }
        Kind::Message(_) if depth >= MAX_DEPTH => {}
        Kind::Message(name) => {
            let mut inner = Vec::new();
            fill(wire, name, random, depth + 1, &mut inner);
            put(out, number, &inner);
        }
        Kind::Map(key, of) => {
            let mut inner = Vec::new();
            value(wire, 1, key, random, depth + 1, &mut inner);
            value(wire, 2, of, random, depth + 1, &mut inner);
            put(out, number, &inner);
        }
    }
}

fn strange(random: &mut StdRng) -> u64 {
    let all = [u64::from(u32::MAX), u64::MAX, u64::MAX - 1, 1 << 63, random.random_range(STRANGE)];
    all.choose(random).copied().unwrap_or(u64::MAX)
}

/// Never an address that could be connected to: there are no digits in it, but for those of ids.
fn text(random: &mut StdRng) -> String {
    let letters = "abcXYZ._-:'\";%\\/ \n\u{0}\u{7f}äß→🦀$(){}<>*";
    let all: Vec<char> = letters.chars().collect();
    let length = *[0, 1, 7, 16, 40, 128, 129, 2_000].choose(random).unwrap_or(&7);
    let mut text: String = (0..length).filter_map(|_| all.choose(random)).collect();
    if random.random_bool(0.3) {
        // A well-formed id of nothing that is there.
        text = format!("{:016x}", random.random_range(STRANGE));
    }
    text
}

pub(crate) fn bytes(random: &mut StdRng, most: usize) -> Vec<u8> {
    let length = random.random_range(0..=most);
    (0..length).map(|_| random.random()).collect()
}

/// What no decoder takes: a beginning that may be right, and a field that is longer than the rest.
pub(crate) fn malformed(wire: &Wire, message: &str, random_: &mut StdRng) -> Vec<u8> {
    let mut out = if random_.random_bool(0.5) { random(wire, message, random_) } else { Vec::new() };
    // A field of each wire type, cut short; the types 6 and 7 don't exist.
    let ends: [&[u8]; 6] = [
        &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x00],
        &[0x0f, 0x01],
        &[0x0e, 0x01],
        &[0x09, 0x01, 0x02],
        &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        &[0x00, 0x00],
    ];
    out.extend_from_slice(ends.choose(random_).copied().unwrap_or_default());
    out
}

/// Ways to repeated fields that hold messages, texts or bytes, each as field numbers from the outermost message.
pub(crate) fn repeated(wire: &Wire, message: &str) -> Vec<Vec<u32>> {
    let mut found = Vec::new();
    ways(wire, message, &mut Vec::new(), &mut found);
    found
}

fn ways(wire: &Wire, message: &str, way: &mut Vec<u32>, found: &mut Vec<Vec<u32>>) {
    if way.len() as u32 >= MAX_DEPTH {
        return;
    }
    for Field { number, kind, is_repeated } in wire.fields(message) {
        way.push(*number);
        if *is_repeated && !matches!(kind, Kind::Number | Kind::Truth) {
            found.push(way.clone());
        }
        if let Kind::Message(name) = kind {
            ways(wire, name, way, found);
        }
        way.pop();
    }
}

/// A message of about `bytes` bytes, all of which are empty elements of the field at the end of `way`: two bytes each on
/// the wire, and whatever they are in memory.
pub(crate) fn huge(way: &[u32], bytes: usize) -> Vec<u8> {
    let Some((last, outer)) = way.split_last() else { return Vec::new() };
    let mut element = Vec::new();
    put(&mut element, *last, &[]);
    let mut out = element.repeat(bytes / element.len());
    for number in outer.iter().rev() {
        let mut wrapped = Vec::with_capacity(out.len() + 12);
        put(&mut wrapped, *number, &out);
        out = wrapped;
    }
    out
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn numbers_and_fields_look_as_the_format_says() {
        let mut out = Vec::new();
        put_number(&mut out, 1, 150);
        put(&mut out, 2, b"testing");
        assert_eq!(out, [&[0x08, 0x96, 0x01, 0x12, 0x07][..], b"testing"].concat());
    }

    #[test]
    fn huge_messages_are_as_long_as_is_asked() {
        let wire = Wire::read().unwrap();
        let all = repeated(&wire, "ExecutorMessage");
        assert!(all.contains(&vec![3, 2]) && all.contains(&vec![1, 7]), "{all:?}");
        assert!(repeated(&wire, "AppendRequest").contains(&vec![4]));
        let message = huge(&[3, 2], 1_000);
        assert_eq!(message[..5], [0x1a, 0xe8, 0x07, 0x12, 0x00]);
        assert_eq!(message.len(), 1_003);
    }

    #[test]
    fn the_same_seed_gives_the_same_message() {
        let wire = Wire::read().unwrap();
        for method in &wire.methods {
            let of = |seed| random(&wire, &method.input, &mut StdRng::seed_from_u64(seed));
            assert_eq!(of(3), of(3));
            let bad = malformed(&wire, &method.input, &mut StdRng::seed_from_u64(3));
            assert!(!bad.is_empty());
        }
    }
}
