//! How deep a statement may be. What plans it follows the depth with the stack of its thread, and a stack that is at its
//! end takes the whole process down.
//!
//! The parser counts what it calls itself for, up to `datafusion.sql_parser.recursion_limit`. It does not count what it
//! reads in a loop and yet makes a deep tree of (`a + a + a …`, `UNION … UNION …`), types within types, and `EXPLAIN EXPLAIN
//! …`; nor does it see that one table reads another. So the text is looked at before it is parsed, and the plan before it
//! is optimised.

use bytes::Buf;
use datafusion::{
    logical_expr::LogicalPlan,
    sql::sqlparser::{
        dialect::Dialect,
        keywords::Keyword,
        tokenizer::{Token, Tokenizer},
    },
};

use prost::encoding::decode_varint;

use crate::error::PlanningError;

/// Deepest tree that the text of a statement may become. A chain of 2,000 `OR`s is one of 2,000.
pub(super) const MAX_DEPTH: usize = 3_000;
/// Most queries in one statement: each may read the one before it.
pub(super) const MAX_QUERIES: usize = 1_000;
/// Deepest plan of a statement, with its views.
pub(super) const MAX_PLAN_DEPTH: usize = 2_000;
/// Most messages, texts and bytes in an encoded plan.
pub(super) const MAX_PLAN_PARTS: usize = 500_000;
/// prost decodes no deeper.
const DECODED_DEPTH: usize = 100;
/// The parser's own limit can be set up to here.
pub(super) const MAX_RECURSION_LIMIT: usize = 200;

/// Planning an `EXPLAIN` of an `EXPLAIN` takes as much of the stack as so many operators do: 6.5 KiB.
const EXPLAIN_DEPTH: usize = 8;

/// Operators by how tightly they bind: a looser one begins a new operand for the tighter ones.
const CLASSES: usize = 8;
const SET: usize = 0;
const JOIN: usize = 1;
const OR: usize = 2;
const AND: usize = 3;
const COMPARE: usize = 4;
const ADD: usize = 5;
const MULTIPLY: usize = 6;
const BEHIND: usize = 7;

/// One pair of brackets, or what is outside of all.
#[derive(Default)]
struct Level {
    /// Operators of each class in the present chain, and in the longest one.
    chain: [usize; CLASSES],
    longest: [usize; CLASSES],
    /// Words that stand before what they are about, each of which may hold all the rest.
    before: usize,
    /// Of the deepest brackets within, and of the deepest part between two commas.
    inner: usize,
    part: usize,
    /// It is of a type: `ARRAY<…>`.
    is_type: bool,
}

impl Level {
    fn operator(&mut self, class: usize) {
        self.chain[class] += 1;
        self.longest[class] = self.longest[class].max(self.chain[class]);
        self.chain[class + 1..].fill(0);
    }

    fn depth(&self) -> usize {
        self.part.max(self.longest.iter().sum::<usize>() + self.before + self.inner)
    }

    fn comma(&mut self) {
        *self = Self { part: self.depth(), is_type: self.is_type, ..Self::default() };
    }
}

/// Of a word that stands between operands.
fn class_of(keyword: Keyword) -> Option<usize> {
    Some(match keyword {
        Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::MINUS => SET,
        Keyword::JOIN => JOIN,
        Keyword::OR | Keyword::XOR => OR,
        Keyword::AND => AND,
        Keyword::IS
        | Keyword::IN
        | Keyword::LIKE
        | Keyword::ILIKE
        | Keyword::SIMILAR
        | Keyword::RLIKE
        | Keyword::REGEXP
        | Keyword::MATCH
        | Keyword::MEMBER
        | Keyword::OVERLAPS
        | Keyword::OPERATOR
        | Keyword::BETWEEN
        | Keyword::NOTNULL => COMPARE,
        Keyword::DIV => MULTIPLY,
        Keyword::AT | Keyword::COLLATE => BEHIND,
        _ => return None,
    })
}

/// The depth of the tree that `sql` becomes at most, and how many queries are in it; 0 and 0 if it has no tokens, as the
/// parser will say.
fn measure(sql: &str, dialect: &dyn Dialect) -> (usize, usize) {
    let tokens = Tokenizer::new(dialect, sql).tokenize().unwrap_or_default();
    let (mut levels, mut queries) = (vec![Level::default()], 0);
    let mut may_be_type = false;
    let close = |levels: &mut Vec<Level>| {
        if let Some(level) = levels.pop() {
            let depth = level.depth() + 1;
            match levels.last_mut() {
                Some(outer) => outer.inner = outer.inner.max(depth),
                // A bracket too many, of which the parser will tell.
                None => levels.push(Level { inner: depth, ..Level::default() }),
            }
        }
    };
    for token in tokens {
        if let Token::Whitespace(_) = token {
            continue;
        }
        let was_type = std::mem::replace(&mut may_be_type, false);
        // There is always one.
        let Some(level) = levels.last_mut() else { break };
        match token {
            Token::LBracket => {
                level.operator(BEHIND);
                levels.push(Level::default());
            }
            Token::LParen | Token::LBrace => levels.push(Level::default()),
            Token::Lt if was_type => levels.push(Level { is_type: true, ..Level::default() }),
            Token::RParen | Token::RBracket | Token::RBrace => close(&mut levels),
            Token::Gt if level.is_type => close(&mut levels),
            Token::ShiftRight if level.is_type => {
                close(&mut levels);
                close(&mut levels);
            }
            Token::Comma | Token::SemiColon => level.comma(),
            Token::Word(word) => match word.keyword {
                Keyword::ARRAY | Keyword::STRUCT | Keyword::MAP => may_be_type = true,
                Keyword::EXPLAIN => level.before += EXPLAIN_DEPTH,
                Keyword::NOT | Keyword::CASE | Keyword::INTERVAL => level.before += 1,
                Keyword::FROM => queries += 1,
                other => {
                    if let Some(class) = class_of(other) {
                        level.operator(class);
                    }
                }
            },
            Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::Placeholder(_) => {}
            Token::Period | Token::Colon | Token::DoubleColon => level.operator(BEHIND),
            Token::Mul | Token::Div | Token::DuckIntDiv | Token::Mod | Token::StringConcat => {
                level.operator(MULTIPLY)
            }
            Token::Eq
            | Token::DoubleEq
            | Token::Neq
            | Token::Lt
            | Token::Gt
            | Token::LtEq
            | Token::GtEq
            | Token::Spaceship => level.operator(COMPARE),
            // The others bind somewhere between comparisons and products.
            _ => level.operator(ADD),
        }
    }
    while levels.len() > 1 {
        close(&mut levels);
    }
    (levels.first().map_or(0, Level::depth), queries)
}

/// # Errors
/// [`PlanningError::TooDeep`].
pub(super) fn check_sql(sql: &str, dialect: &dyn Dialect) -> Result<(), PlanningError> {
    let (depth, queries) = measure(sql, dialect);
    if depth > MAX_DEPTH {
        return Err(PlanningError::TooDeep { what: "levels of operators and brackets", most: MAX_DEPTH });
    }
    if queries > MAX_QUERIES {
        return Err(PlanningError::TooDeep { what: "queries within the statement", most: MAX_QUERIES });
    }
    Ok(())
}

/// Counts the fields of an encoded plan that are messages, texts or bytes, down to `depth`; `None` when there are more than
/// `left`. What looks like a message is taken for one, since this crate does not know DataFusion's format.
fn count_parts(message: &[u8], depth: usize, left: usize) -> Option<usize> {
    let (mut rest, mut left) = (message, left);
    while rest.has_remaining() {
        let Ok(tag) = decode_varint(&mut rest) else { break };
        let skipped = match tag & 7 {
            0 => decode_varint(&mut rest).is_ok().then_some(0),
            1 => Some(8),
            5 => Some(4),
            2 => decode_varint(&mut rest).ok().and_then(|length| usize::try_from(length).ok()),
            3 | 4 => Some(0),
            _ => None,
        };
        // Decoding ends where it is malformed, too.
        let Some((inner, after)) = skipped.and_then(|length| rest.split_at_checked(length)) else { break };
        rest = after;
        if tag & 7 == 2 {
            left = left.checked_sub(1)?;
            if depth > 0 {
                left = count_parts(inner, depth - 1, left)?;
            }
        }
    }
    Some(left)
}

/// Looks at an encoded plan before it is decoded: two bytes can be an operator, which takes hundreds in memory.
///
/// # Errors
/// [`PlanningError::TooDeep`].
pub(super) fn check_encoded(plan: &[u8]) -> Result<(), PlanningError> {
    match count_parts(plan, DECODED_DEPTH, MAX_PLAN_PARTS) {
        Some(_) => Ok(()),
        None => Err(PlanningError::TooDeep { what: "parts of an encoded plan", most: MAX_PLAN_PARTS }),
    }
}

/// # Errors
/// [`PlanningError::TooDeep`].
pub(super) fn check_plan(plan: &LogicalPlan) -> Result<(), PlanningError> {
    let mut waiting = vec![(plan, 1_usize)];
    while let Some((plan, depth)) = waiting.pop() {
        if depth > MAX_PLAN_DEPTH {
            return Err(PlanningError::TooDeep {
                what: "steps of the plan upon each other",
                most: MAX_PLAN_DEPTH,
            });
        }
        waiting.extend(plan.inputs().into_iter().map(|input| (input, depth + 1)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::GenericDialect;

    use super::*;

    fn depth(sql: &str) -> usize {
        measure(sql, &GenericDialect {}).0
    }

    #[test]
    fn chains_are_as_deep_as_they_are_long() {
        assert_eq!(depth("SELECT 1"), 0);
        assert_eq!(depth(&format!("SELECT a{}", " + a".repeat(500))), 500);
        // Each `=` is an operand's own.
        assert_eq!(depth(&format!("SELECT 1 WHERE a = 0{}", " OR a = 1".repeat(500))), 501);
        assert_eq!(depth(&format!("SELECT 1{}", " UNION ALL SELECT 1 + 1".repeat(500))), 501);
        assert_eq!(depth(&format!("SELECT a{}", "[1]".repeat(500))), 501);
        assert_eq!(depth(&format!("{}SELECT 1", "EXPLAIN ".repeat(500))), 500 * EXPLAIN_DEPTH);
        assert_eq!(depth(&format!("SELECT CAST(a AS {}INT{})", "ARRAY<".repeat(500), ">".repeat(500))), 501);
        assert_eq!(depth(&format!("SELECT {}1{}", "(".repeat(500), ")".repeat(500))), 500);
        // A chain over something deep is deeper than both.
        assert_eq!(depth(&format!("SELECT ({}){}", "- ".repeat(500), " OR a".repeat(500))), 1_001);
        assert_eq!(depth(&format!("SELECT a{}{}", " + a".repeat(500), " OR a".repeat(500))), 1_000);
    }

    #[test]
    fn lists_are_not_deep() {
        assert_eq!(depth(&format!("SELECT a IN (1{})", ", -1".repeat(5_000))), 3);
        assert_eq!(depth(&format!("SELECT a + 1{}", ", a + 1".repeat(5_000))), 1);
        assert_eq!(depth(&format!("SELECT '{}'", "(+".repeat(5_000))), 0);
        assert_eq!(depth("SELECT a < b, c > d"), 1);
        assert!(depth("SELECT ))))))((((") < 20);
    }

    #[test]
    fn an_encoded_plan_of_too_many_parts_is_refused() {
        // UnionNode { inputs: [{}, {}, …] } in a LogicalPlanNode.
        let plan = |inputs: usize| {
            let mut plan = vec![0x9a, 0x01];
            prost::encoding::encode_varint(inputs as u64 * 2, &mut plan);
            plan.extend([0x0a, 0x00].repeat(inputs));
            plan
        };
        assert!(check_encoded(&plan(MAX_PLAN_PARTS - 1)).is_ok());
        assert!(check_encoded(&plan(MAX_PLAN_PARTS)).is_err());
        // Rows that travel with a plan are one part, and whatever they look like.
        let rows: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        assert!(check_encoded(&[&[0x0a, 0xc0, 0x8d, 0xb7, 0x01], &rows[..]].concat()).is_ok());
    }

    #[test]
    fn queries_are_counted() {
        let sql = format!("SELECT 1 FROM t{}", " UNION ALL SELECT 1 FROM t".repeat(9));
        assert_eq!(measure(&sql, &GenericDialect {}).1, 10);
    }
}
