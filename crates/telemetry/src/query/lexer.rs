//! A query as tokens.

use super::{QUERY_BYTES_MAX, QueryError};

/// How a field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Is,
    Less,
    LessOrIs,
    More,
    MoreOrIs,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Open,
    Close,
    And,
    Or,
    Not,
    /// Text to look for.
    Text(String),
    Regex(String),
    Field {
        key: String,
        op: Op,
        value: Value,
    },
}

/// What a field is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) text: String,
    /// In quotes, `*` and `..` mean themselves.
    pub(super) quoted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    /// The number of its first character, from 1 on.
    pub(super) at: usize,
    pub(super) kind: Kind,
}

struct Lexer<'a> {
    text: &'a str,
    /// The next byte.
    next: usize,
}

/// The tokens of a query.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, QueryError> {
    if text.len() > QUERY_BYTES_MAX {
        return Err(QueryError {
            at: 1,
            message: format!("a query has at most {QUERY_BYTES_MAX} bytes"),
        });
    }
    let mut lexer = Lexer { text, next: 0 };
    let mut tokens = Vec::new();
    while let Some(token) = lexer.token()? {
        tokens.push(token);
    }
    Ok(tokens)
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.next..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn error(&self, at: usize, message: &str) -> QueryError {
        QueryError {
            at: self.character(at),
            message: message.to_owned(),
        }
    }

    /// The number of the character that begins at a byte.
    fn character(&self, byte: usize) -> usize {
        self.text[..byte].chars().count() + 1
    }

    fn token(&mut self) -> Result<Option<Token>, QueryError> {
        let blank = self.rest().len() - self.rest().trim_start().len();
        self.next += blank;
        let start = self.next;
        let Some(first) = self.peek() else {
            return Ok(None);
        };
        let kind = match first {
            '(' => self.single(Kind::Open),
            ')' => self.single(Kind::Close),
            '-' if self.rest()[1..].starts_with(|c: char| !c.is_whitespace() && c != ')') => {
                self.single(Kind::Not)
            }
            '"' => Kind::Text(self.quoted('"')?),
            '/' if self.regex_ends() => Kind::Regex(self.quoted('/')?),
            _ => self.word()?,
        };
        let at = self.character(start);
        Ok(Some(Token { at, kind }))
    }

    fn single(&mut self, kind: Kind) -> Kind {
        self.next += 1;
        kind
    }

    /// Whether the slash begins a regular expression: a word such as `/orders/7` begins with one too.
    fn regex_ends(&self) -> bool {
        let mut escaped = false;
        let rest = &self.rest()[1..];
        let end = rest.char_indices().find(|(_, c)| {
            let ends = *c == '/' && !escaped;
            escaped = *c == '\\' && !escaped;
            ends
        });
        end.is_some_and(|(at, _)| {
            at > 0
                && rest[at + 1..]
                    .chars()
                    .next()
                    .is_none_or(|c| c.is_whitespace() || c == ')')
        })
    }

    /// What stands between two marks; a backslash before the mark takes its meaning away.
    fn quoted(&mut self, mark: char) -> Result<String, QueryError> {
        let start = self.next;
        let mut found = String::new();
        let mut escaped = false;
        for (at, c) in self.rest()[1..].char_indices() {
            if escaped {
                // In a regular expression, other escapes are its own.
                if c != mark && (mark == '/' || c != '\\') {
                    found.push('\\');
                }
                found.push(c);
                escaped = false;
            } else if c == '\\' {
                escaped = true;
            } else if c == mark {
                self.next += 1 + at + c.len_utf8();
                return Ok(found);
            } else {
                found.push(c);
            }
        }
        Err(self.error(start, "what begins here has no end"))
    }

    fn word(&mut self) -> Result<Kind, QueryError> {
        let rest = self.rest();
        let key = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || "_.@-".contains(c)))
            .unwrap_or(rest.len());
        let named = rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '@');
        if named && let Some((op, length)) = operator(&rest[key..]) {
            let value = &rest[key + length..];
            let ends = value.starts_with(|c: char| c.is_whitespace() || c == ')');
            // `http://…` and `error:` are words.
            if !value.is_empty() && !ends && !value.starts_with("//") {
                let key = rest[..key].to_owned();
                self.next += key.len() + length;
                let value = self.value()?;
                return Ok(Kind::Field { key, op, value });
            }
        }
        let word = self.bare();
        Ok(match word.as_str() {
            "AND" => Kind::And,
            "OR" => Kind::Or,
            "NOT" => Kind::Not,
            _ => Kind::Text(word),
        })
    }

    fn value(&mut self) -> Result<Value, QueryError> {
        let quoted = self.peek() == Some('"');
        let text = if quoted {
            self.quoted('"')?
        } else {
            self.bare()
        };
        Ok(Value { text, quoted })
    }

    /// Up to a blank or a parenthesis.
    fn bare(&mut self) -> String {
        let rest = self.rest();
        let end = rest
            .find(|c: char| c.is_whitespace() || c == '(' || c == ')')
            .unwrap_or(rest.len());
        let word = rest[..end].to_owned();
        self.next += end;
        word
    }
}

/// The operator that `rest` begins with, and its length.
fn operator(rest: &str) -> Option<(Op, usize)> {
    const ALL: [(&str, Op); 10] = [
        (":>=", Op::MoreOrIs),
        (":<=", Op::LessOrIs),
        (":>", Op::More),
        (":<", Op::Less),
        (":", Op::Is),
        (">=", Op::MoreOrIs),
        ("<=", Op::LessOrIs),
        (">", Op::More),
        ("<", Op::Less),
        ("=", Op::Is),
    ];
    let found = ALL.iter().find(|(text, _)| rest.starts_with(text));
    found.map(|(text, op)| (*op, text.len()))
}
