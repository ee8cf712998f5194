//! Tokens as an expression. `NOT` binds more than `AND`, that more than `OR`; two expressions side by side
//! are joined by `AND`.

use super::QueryError;
use super::lexer::{self, Kind, Op, Token, Value};

/// Parentheses and `NOT`s within each other.
const DEPTH_MAX: usize = 32;

/// Words, fields and regular expressions in a query.
const TESTS_MAX: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expr {
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    Text(String),
    Regex { at: usize, pattern: String },
    Field(Field),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) at: usize,
    pub(super) key: String,
    pub(super) op: Op,
    pub(super) value: Value,
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    /// The number of the character behind the last one.
    end: usize,
    tests: usize,
}

/// The expression of a query; an empty one is all: `And` of nothing.
pub(super) fn parse(text: &str) -> Result<Expr, QueryError> {
    let mut parser = Parser {
        tokens: lexer::tokens(text)?.into_iter().peekable(),
        end: text.chars().count() + 1,
        tests: 0,
    };
    if parser.tokens.peek().is_none() {
        return Ok(Expr::And(Vec::new()));
    }
    let expr = parser.any(0)?;
    match parser.tokens.next() {
        None => Ok(expr),
        Some(token) => Err(error(token.at, "this parenthesis closes nothing")),
    }
}

fn error(at: usize, message: &str) -> QueryError {
    QueryError {
        at,
        message: message.to_owned(),
    }
}

fn one_or(mut all: Vec<Expr>, join: fn(Vec<Expr>) -> Expr) -> Expr {
    match all.pop() {
        Some(only) if all.is_empty() => only,
        Some(last) => {
            all.push(last);
            join(all)
        }
        None => join(all),
    }
}

impl Parser {
    fn peek(&mut self) -> Option<&Kind> {
        self.tokens.peek().map(|token| &token.kind)
    }

    fn any(&mut self, depth: usize) -> Result<Expr, QueryError> {
        let mut all = vec![self.every(depth)?];
        while self.peek() == Some(&Kind::Or) {
            self.tokens.next();
            all.push(self.every(depth)?);
        }
        Ok(one_or(all, Expr::Or))
    }

    fn every(&mut self, depth: usize) -> Result<Expr, QueryError> {
        let mut all = vec![self.one(depth)?];
        loop {
            match self.peek() {
                None | Some(Kind::Or | Kind::Close) => return Ok(one_or(all, Expr::And)),
                Some(Kind::And) => {
                    self.tokens.next();
                }
                Some(_) => {}
            }
            all.push(self.one(depth)?);
        }
    }

    fn one(&mut self, depth: usize) -> Result<Expr, QueryError> {
        let Some(Token { at, kind }) = self.tokens.next() else {
            return Err(error(self.end, "something is missing at the end"));
        };
        if depth >= DEPTH_MAX {
            return Err(error(at, "this is nested too deeply"));
        }
        match kind {
            Kind::Not => Ok(Expr::Not(Box::new(self.one(depth + 1)?))),
            Kind::Open => {
                let inner = self.any(depth + 1)?;
                match self.tokens.next() {
                    Some(_) => Ok(inner),
                    None => Err(error(at, "this parenthesis is not closed")),
                }
            }
            Kind::Close => Err(error(at, "something is missing before this parenthesis")),
            Kind::And | Kind::Or => Err(error(at, "something is missing before this word")),
            Kind::Text(text) => self.test(at, Expr::Text(text)),
            Kind::Regex(pattern) => self.test(at, Expr::Regex { at, pattern }),
            Kind::Field { key, op, value } => {
                let field = Field { at, key, op, value };
                self.test(at, Expr::Field(field))
            }
        }
    }

    fn test(&mut self, at: usize, test: Expr) -> Result<Expr, QueryError> {
        self.tests += 1;
        if self.tests > TESTS_MAX {
            return Err(error(at, "there are more than 100 conditions"));
        }
        Ok(test)
    }
}
