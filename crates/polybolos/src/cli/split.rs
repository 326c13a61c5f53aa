//! Cuts a script into statements at `;`, but not inside quotes, comments or dollar quotes.

/// One statement of a script, without its `;`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) text: String,
    /// Where its first word stands, counted from 1.
    pub(crate) line: usize,
}

/// A script cut at its top-level semicolons.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Split {
    /// Statements that a `;` ended. Empty ones and mere comments are left out.
    pub(crate) complete: Vec<Statement>,
    /// What follows the last `;`, unless it is blank or mere comments.
    pub(crate) rest: Option<Statement>,
    /// The text ends inside a quote or a block comment.
    pub(crate) open: bool,
}

impl Split {
    /// All statements; the last one needs no `;`.
    pub(crate) fn all(self) -> Vec<Statement> {
        self.complete.into_iter().chain(self.rest).collect()
    }
}

/// Understands `'…'` (with `''`), `E'…'` (with `\'`), `"…"`, `` `…` ``, `-- …`, nested `/* … */`, `$tag$…$tag$`.
pub(crate) fn split(script: &str) -> Split {
    let mut scanner = Scanner { script, at: 0, line: 1 };
    let mut split = Split::default();
    // Start of the statement's first word in bytes, and its line.
    let mut start: Option<(usize, usize)> = None;
    while let Some(token) = scanner.next() {
        split.open |= !token.closed;
        match token.kind {
            Kind::Blank => {}
            Kind::Semicolon => {
                if let Some((from, line)) = start.take() {
                    split.complete.push(statement(script, from, token.at, line));
                }
            }
            Kind::Word => {
                start.get_or_insert((token.at, token.line));
            }
        }
    }
    split.rest = start.map(|(from, line)| statement(script, from, script.len(), line));
    split
}

fn statement(script: &str, from: usize, to: usize, line: usize) -> Statement {
    Statement { text: script.get(from..to).unwrap_or_default().trim_end().to_owned(), line }
}

enum Kind {
    /// White space or a comment.
    Blank,
    Semicolon,
    Word,
}

struct Token {
    kind: Kind,
    at: usize,
    line: usize,
    /// False if the text ends before the quote or comment does.
    closed: bool,
}

struct Scanner<'a> {
    script: &'a str,
    at: usize,
    line: usize,
}

impl Scanner<'_> {
    fn next(&mut self) -> Option<Token> {
        let (at, line) = (self.at, self.line);
        let rest = self.rest();
        let first = rest.chars().next()?;
        let (kind, length, closed) = match first {
            ';' => (Kind::Semicolon, 1, true),
            '-' if rest.starts_with("--") => (Kind::Blank, rest.find('\n').unwrap_or(rest.len()), true),
            '/' if rest.starts_with("/*") => of(Kind::Blank, rest, block_comment(rest)),
            '\'' => of(Kind::Word, rest, quoted(rest, 0, '\'', false)),
            '"' | '`' => of(Kind::Word, rest, quoted(rest, 0, first, false)),
            'e' | 'E' if rest[1..].starts_with('\'') => of(Kind::Word, rest, quoted(rest, 1, '\'', true)),
            '$' if dollar_tag(rest).is_some() => of(Kind::Word, rest, dollar_quoted(rest)),
            c if c.is_whitespace() => (Kind::Blank, c.len_utf8(), true),
            // A whole word at once: the `e` or `$` inside it opens nothing.
            c if is_word(c) => {
                (Kind::Word, rest.find(|c| !is_word(c) && c != '$').unwrap_or(rest.len()), true)
            }
            c => (Kind::Word, c.len_utf8(), true),
        };
        self.line += rest.get(..length).unwrap_or_default().matches('\n').count();
        self.at += length;
        Some(Token { kind, at, line, closed })
    }

    fn rest(&self) -> &str {
        self.script.get(self.at..).unwrap_or_default()
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// An end that is missing means that the token takes everything.
fn of(kind: Kind, rest: &str, end: Option<usize>) -> (Kind, usize, bool) {
    (kind, end.unwrap_or(rest.len()), end.is_some())
}

/// Bytes up to and with the closing `quote`; the opening one is at byte `open`.
fn quoted(rest: &str, open: usize, quote: char, backslash: bool) -> Option<usize> {
    let mut chars = rest.char_indices().skip(open + 1).peekable();
    while let Some((at, c)) = chars.next() {
        if backslash && c == '\\' {
            chars.next();
        } else if c == quote {
            if chars.peek().is_some_and(|(_, next)| *next == quote) {
                chars.next();
            } else {
                return Some(at + c.len_utf8());
            }
        }
    }
    None
}

fn block_comment(rest: &str) -> Option<usize> {
    let bytes = rest.as_bytes();
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(pair) = bytes.get(at..at + 2) {
        match pair {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// `$$` or `$tag$` at the start of `rest`.
fn dollar_tag(rest: &str) -> Option<&str> {
    let end = rest.get(1..)?.find('$')? + 1;
    let tag = rest.get(1..end)?;
    let named = tag.chars().all(is_word) && !tag.starts_with(|c: char| c.is_ascii_digit());
    if named { rest.get(..=end) } else { None }
}

fn dollar_quoted(rest: &str) -> Option<usize> {
    let tag = dollar_tag(rest)?;
    let body = rest.get(tag.len()..)?;
    Some(tag.len() + body.find(tag)? + tag.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(script: &str, expected: &[(&str, usize)]) {
        let found = split(script).all();
        let found: Vec<_> = found.iter().map(|s| (s.text.as_str(), s.line)).collect();
        assert_eq!(found, expected, "{script}");
    }

    #[test]
    fn cuts_at_semicolons_and_counts_lines() {
        check("select 1; select 2", &[("select 1", 1), ("select 2", 1)]);
        check("\n\nselect\n 1 ;\n\n;;select 2;\n", &[("select\n 1", 3), ("select 2", 6)]);
        check("  ;\n; ", &[]);
        check("", &[]);
    }

    #[test]
    fn quotes_hide_semicolons() {
        check("select 'a;b'; x", &[("select 'a;b'", 1), ("x", 1)]);
        check("select 'it''s; ok'; x", &[("select 'it''s; ok'", 1), ("x", 1)]);
        check(r"select 'a\'; x", &[(r"select 'a\'", 1), ("x", 1)]);
        check(r"select E'a\';b'; x", &[(r"select E'a\';b'", 1), ("x", 1)]);
        check(r"select name'a\'; x", &[(r"select name'a\'", 1), ("x", 1)]);
        check("select \"a;\"\"b\"; `c;d`; x", &[("select \"a;\"\"b\"", 1), ("`c;d`", 1), ("x", 1)]);
    }

    #[test]
    fn comments_hide_semicolons_and_are_no_statements() {
        check("-- one; two\nselect 1; -- end;", &[("select 1", 2)]);
        check("/* a; /* b; */ c; */ select 1; x", &[("select 1", 1), ("x", 1)]);
        check("select 1 -- why; 'not\n + 1; x", &[("select 1 -- why; 'not\n + 1", 1), ("x", 2)]);
        check("select 4 - -2 / 2; x", &[("select 4 - -2 / 2", 1), ("x", 1)]);
    }

    #[test]
    fn dollar_quotes_hide_semicolons() {
        check("select $$a;'b$$; x", &[("select $$a;'b$$", 1), ("x", 1)]);
        check("select $t$a;$$;$t$; x", &[("select $t$a;$$;$t$", 1), ("x", 1)]);
        check("select $1; select a$b; x$y$;", &[("select $1", 1), ("select a$b", 1), ("x$y$", 1)]);
        check("select $1 + $2; x", &[("select $1 + $2", 1), ("x", 1)]);
    }

    #[test]
    fn an_open_quote_or_comment_is_told_and_kept() {
        for text in ["select 'a; b", "select 1 /* x; ", "select $q$ a; $ q$", "select \"a;"] {
            let found = split(text);
            assert!(found.open && found.complete.is_empty(), "{text}");
            assert_eq!(found.rest.unwrap().text, text.trim_end());
        }
        assert!(!split("select 'a'").open);
        assert_eq!(split("select 'é;😀'; x").all().len(), 2);
    }
}
