//! Tokens to an expression.
//!
//! Written by hand, by precedence climbing: a message can then name what was expected in the words
//! of the language, and the depth is counted in one place.

use std::ops::Range;

use super::ast::{
    Binding, Comparison, DatePart, Expr, ExprKind, Name, Operator, Quantifier, Relation, Step,
};
use super::compile_call::is_function;
use super::error::PqlError;
use super::lexer::{Token, TokenKind, tokens};

/// Deepest nesting of parentheses, calls, filters and negations. An expression that people write
/// stays below ten; the 2 MiB stack of a worker thread holds this many even without optimisation.
pub(super) const DEPTH_MAX: usize = 64;

/// Most bytes of one expression; spans and work stay small.
pub(super) const TEXT_MAX: usize = 64 * 1024;

/// Most steps of a chain: one bit each, and as many for the flags of their gates.
pub(super) const STEPS_MAX: usize = 32;

/// Words that cannot start an operand, because an operator would be read as a path otherwise.
const OPERATOR_WORDS: [&str; 14] = [
    "and",
    "or",
    "not",
    "in",
    "notIn",
    "like",
    "intersects",
    "subsetOf",
    "supersetOf",
    "includes",
    "occurs",
    "where",
    "from",
    "between",
];

/// Words of other languages after an operand, and what is written here instead.
const FOREIGN_WORDS: [(&str, &str); 6] = [
    ("is", "write `.isNull()` or `.isNotNull()` after the path"),
    ("between", "for times write `occurs between … and …`; for numbers `x >= 1 and x <= 2`"),
    ("before", "write `occurs before …`"),
    ("after", "write `occurs after …`"),
    ("then", "write `if(condition, value, other value)`"),
    ("where", "conditions on elements stand in brackets, such as `xEvent[…]`"),
];

/// Words that mean an instant, and only after `occurs`.
const TIME_WORDS: [&str; 4] = ["now", "today", "yesterday", "tomorrow"];

/// Reads a whole expression.
pub fn parse(text: &str) -> Result<Expr, PqlError> {
    if text.len() > TEXT_MAX {
        let message = format!("the expression is longer than {TEXT_MAX} bytes");
        return Err(PqlError::new(TEXT_MAX..TEXT_MAX, message));
    }
    let mut parser = Parser { text, tokens: tokens(text)?, at: 0, depth: 0 };
    let expr = parser.expression()?;
    match &parser.peek().kind {
        TokenKind::End => Ok(expr),
        _ => Err(parser.left_over()),
    }
}

/// Whether a word would be read as something else than a name at the start of an operand.
pub(super) fn is_reserved(word: &str) -> bool {
    let among = |words: &[&str]| words.iter().any(|w| w.eq_ignore_ascii_case(word));
    among(&OPERATOR_WORDS)
        || among(&TIME_WORDS)
        || among(&["true", "false", "null", "exists", "forall", "date", "if", "inSegment", "chain"])
        || among(&["currentYear", "currentMonth", "currentDayOfMonth", "this", "last", "next"])
        || among(&["on", "before", "after"])
}

pub(super) struct Parser<'t> {
    pub(super) text: &'t str,
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    /// Runs `read` one level deeper; every recursion passes here.
    pub(super) fn nested<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, PqlError>,
    ) -> Result<T, PqlError> {
        if self.depth == DEPTH_MAX {
            let message = format!("nested deeper than {DEPTH_MAX} levels");
            return Err(PqlError::new(self.peek().span.clone(), message));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    pub(super) fn expression(&mut self) -> Result<Expr, PqlError> {
        self.nested(|parser| {
            let conjunction =
                |parser: &mut Self| parser.operands("and", Self::unary, ExprKind::And);
            parser.operands("or", conjunction, ExprKind::Or)
        })
    }

    /// One or more operands joined by `word`.
    fn operands(
        &mut self,
        word: &str,
        operand: impl Fn(&mut Self) -> Result<Expr, PqlError>,
        join: impl Fn(Vec<Expr>) -> ExprKind,
    ) -> Result<Expr, PqlError> {
        let first = operand(self)?;
        if !self.at_word(word) {
            return Ok(first);
        }
        let start = first.span.start;
        let mut all = vec![first];
        while self.take_word(word) {
            all.push(operand(self)?);
        }
        Ok(Expr { span: start..self.end_of_last(), kind: join(all) })
    }

    fn unary(&mut self) -> Result<Expr, PqlError> {
        let start = self.peek().span.start;
        if self.take_word("not") || self.take_sign("!") {
            let operand = self.nested(Self::unary)?;
            return Ok(Expr {
                span: start..operand.span.end,
                kind: ExprKind::Not(Box::new(operand)),
            });
        }
        self.relation()
    }

    fn relation(&mut self) -> Result<Expr, PqlError> {
        let left = self.sum()?;
        let start = left.span.start;
        let kind = if let Some(comparison) = self.take_comparison() {
            ExprKind::Compare(comparison, Box::new(left), Box::new(self.sum()?))
        } else if let Some(relation) = self.take_relation() {
            ExprKind::Relate(relation, Box::new(left), Box::new(self.sum()?))
        } else if self.take_word("occurs") {
            ExprKind::Occurs(Box::new(left), Box::new(self.when()?))
        } else {
            return Ok(left);
        };
        Ok(Expr { span: start..self.end_of_last(), kind })
    }

    pub(super) fn take_comparison(&mut self) -> Option<Comparison> {
        let TokenKind::Sign(sign) = self.peek().kind else { return None };
        let comparison = match sign {
            "=" => Comparison::Equal,
            "!=" => Comparison::NotEqual,
            "<" => Comparison::Less,
            "<=" => Comparison::AtMost,
            ">" => Comparison::Greater,
            ">=" => Comparison::AtLeast,
            _ => return None,
        };
        self.at += 1;
        Some(comparison)
    }

    fn take_relation(&mut self) -> Option<Relation> {
        let (_, relation) = *Relation::ALL.iter().find(|(word, _)| self.at_word(word))?;
        self.at += 1;
        Some(relation)
    }

    fn sum(&mut self) -> Result<Expr, PqlError> {
        let operators = [("+", Operator::Add), ("-", Operator::Subtract)];
        self.arithmetic(&operators, Self::product)
    }

    fn product(&mut self) -> Result<Expr, PqlError> {
        let operators =
            [("*", Operator::Multiply), ("/", Operator::Divide), ("%", Operator::Remainder)];
        self.arithmetic(&operators, Self::postfix)
    }

    fn arithmetic(
        &mut self,
        operators: &[(&str, Operator)],
        operand: fn(&mut Self) -> Result<Expr, PqlError>,
    ) -> Result<Expr, PqlError> {
        let first = operand(self)?;
        let mut rest = Vec::new();
        while let Some((_, operator)) = operators.iter().find(|(sign, _)| self.at_sign(sign)) {
            self.at += 1;
            rest.push((*operator, operand(self)?));
        }
        if rest.is_empty() {
            return Ok(first);
        }
        let span = first.span.start..self.end_of_last();
        Ok(Expr { span, kind: ExprKind::Arithmetic(Box::new(first), rest) })
    }

    /// An operand with its members, calls and filters. Calls and filters wrap what stands before
    /// them, so a long row of them counts as depth.
    pub(super) fn postfix(&mut self) -> Result<Expr, PqlError> {
        let mut expr = self.primary()?;
        let mut wrapped = 0;
        loop {
            let start = expr.span.start;
            let kind = if self.take_sign(".") {
                let name = self.name("a name after `.`")?;
                if self.at_sign("(") {
                    wrapped += 1;
                    let arguments = self.arguments()?;
                    ExprKind::Call(Box::new(expr), name, arguments)
                } else if let ExprKind::Member(_, names) = &mut expr.kind {
                    names.push(name);
                    expr.span.end = self.end_of_last();
                    continue;
                } else {
                    ExprKind::Member(Box::new(expr), vec![name])
                }
            } else if self.take_sign("[") {
                wrapped += 1;
                let condition = self.expression()?;
                self.expect_sign("]")?;
                ExprKind::Filter(Box::new(expr), Box::new(condition))
            } else {
                return Ok(expr);
            };
            if self.depth + wrapped > DEPTH_MAX {
                let message = format!("nested deeper than {DEPTH_MAX} levels");
                return Err(PqlError::new(start..self.end_of_last(), message));
            }
            expr = Expr { span: start..self.end_of_last(), kind };
        }
    }

    fn arguments(&mut self) -> Result<Vec<Expr>, PqlError> {
        self.expect_sign("(")?;
        let mut arguments = Vec::new();
        if self.take_sign(")") {
            return Ok(arguments);
        }
        loop {
            arguments.push(self.expression()?);
            if !self.take_sign(",") {
                break;
            }
        }
        self.expect_sign(")")?;
        Ok(arguments)
    }

    fn primary(&mut self) -> Result<Expr, PqlError> {
        let Token { kind, span } = self.peek().clone();
        let kind = match kind {
            TokenKind::Text(text) => self.took(ExprKind::Text(text)),
            TokenKind::Number(value) => self.took(ExprKind::Number(value)),
            TokenKind::Sign("-") => self.negative()?,
            TokenKind::Sign("(") => return self.parenthesised(),
            TokenKind::Sign("[") => self.list()?,
            TokenKind::Word { text, quoted: true } => self.took(ExprKind::Name(text)),
            TokenKind::Word { text, quoted: false } => self.word(&text)?,
            _ => return Err(self.unexpected("an operand")),
        };
        Ok(Expr { span: span.start..self.end_of_last(), kind })
    }

    fn took(&mut self, kind: ExprKind) -> ExprKind {
        self.at += 1;
        kind
    }

    fn negative(&mut self) -> Result<ExprKind, PqlError> {
        self.at += 1;
        match self.peek().kind {
            TokenKind::Number(value) => Ok(self.took(ExprKind::Number(-value))),
            _ => Err(self.unexpected("a number after `-`").help("to negate a value write `0 - x`")),
        }
    }

    fn parenthesised(&mut self) -> Result<Expr, PqlError> {
        let start = self.peek().span.start;
        self.at += 1;
        let mut inner = self.expression()?;
        self.expect_sign(")")?;
        inner.span = start..self.end_of_last();
        // A path goes on behind its parentheses; `(a).b` is `a.b`.
        Ok(inner)
    }

    fn list(&mut self) -> Result<ExprKind, PqlError> {
        self.at += 1;
        if self.take_sign("]") {
            return Ok(ExprKind::List(Vec::new()));
        }
        let mut items = vec![self.expression()?];
        while self.take_sign(",") {
            items.push(self.expression()?);
        }
        self.expect_sign("]")?;
        Ok(ExprKind::List(items))
    }

    /// An operand that starts with a word: a keyword's construct, or a path.
    fn word(&mut self, text: &str) -> Result<ExprKind, PqlError> {
        let is = |word: &str| word.eq_ignore_ascii_case(text);
        if is("true") || is("false") {
            return Ok(self.took(ExprKind::Bool(is("true"))));
        }
        if OPERATOR_WORDS.iter().any(|word| is(word)) {
            let help = format!("a path with that name stands in backticks: `` `{text}` ``");
            return Err(self.unexpected("an operand").help(help));
        }
        if self.sign_follows("(") {
            return self.construct(text);
        }
        if (is("exists") || is("forall")) && self.word_follows() {
            let quantifier = if is("exists") { Quantifier::Exists } else { Quantifier::Forall };
            return self.quantified(quantifier);
        }
        if is("null") && !self.sign_follows(".") {
            let help = "write `.isNull()` or `.isNotNull()` after a path; a path with that name \
                        stands in backticks";
            let span = self.peek().span.clone();
            return Err(PqlError::new(span, "`null` is no value to compare with").help(help));
        }
        if TIME_WORDS.iter().any(|word| is(word)) && !self.sign_follows(".") {
            let message = format!("`{text}` has a meaning only after `occurs` or in `WHEN(…)`");
            let help = "write for example `timestamp occurs today`; a path with that name stands \
                        in backticks";
            return Err(PqlError::new(self.peek().span.clone(), message).help(help));
        }
        Ok(self.took(ExprKind::Name(text.to_owned())))
    }

    fn construct(&mut self, text: &str) -> Result<ExprKind, PqlError> {
        let is = |word: &str| word.eq_ignore_ascii_case(text);
        let span = self.peek().span.clone();
        self.at += 1;
        let current = [
            ("currentYear", DatePart::Year),
            ("currentMonth", DatePart::Month),
            ("currentDayOfMonth", DatePart::DayOfMonth),
        ];
        if let Some((_, part)) = current.into_iter().find(|(word, _)| is(word)) {
            self.expect_sign("(")?;
            self.expect_sign(")")?;
            return Ok(ExprKind::Current(part));
        }
        match text.to_ascii_lowercase().as_str() {
            "date" => Ok(ExprKind::Date(self.date_arguments()?)),
            "if" => self.choice(span),
            "insegment" => self.in_segment(),
            "chain" => self.chain(),
            "exists" | "forall" => {
                let message = format!("`{text}` needs a variable");
                let help = format!("write `{text} E from xEvent where …`, or `list.exists(…)`");
                Err(PqlError::new(span, message).help(help))
            }
            _ => {
                let help = "functions are called on a value, such as `path.isNull()`; on their own \
                            stand `if`, `date`, `inSegment`, `chain`, `currentYear`, \
                            `currentMonth` and `currentDayOfMonth`";
                Err(PqlError::new(span, format!("unknown function `{text}`")).help(help))
            }
        }
    }

    fn choice(&mut self, span: Range<usize>) -> Result<ExprKind, PqlError> {
        let arguments = self.arguments()?;
        let found = arguments.len();
        if let Ok(three) = <[Expr; 3]>::try_from(arguments) {
            return Ok(ExprKind::If(Box::new(three)));
        }
        let message = format!("`if` takes a condition and two values, not {found}");
        Err(PqlError::new(span.start..self.end_of_last(), message))
    }

    fn in_segment(&mut self) -> Result<ExprKind, PqlError> {
        self.expect_sign("(")?;
        let Token { kind, span } = self.peek().clone();
        let TokenKind::Text(text) = kind else {
            return Err(self.unexpected("an audience's id in quotes"));
        };
        self.at += 1;
        self.expect_sign(")")?;
        Ok(ExprKind::InSegment(Name { text, span }))
    }

    fn quantified(&mut self, quantifier: Quantifier) -> Result<ExprKind, PqlError> {
        self.at += 1;
        let mut bindings = vec![self.binding()?];
        // Only `, name from` goes on; any other comma belongs to what is around.
        while self.at_sign(",") && self.binding_follows() {
            self.at += 1;
            bindings.push(self.nested(Self::binding)?);
            if self.depth + bindings.len() > DEPTH_MAX {
                return Err(self.unexpected("fewer variables"));
            }
        }
        Ok(ExprKind::Quantified(quantifier, bindings))
    }

    fn binding(&mut self) -> Result<Binding, PqlError> {
        let variable = self.name("a variable")?;
        self.expect_word("from")?;
        let source_at = self.at;
        let source = self.postfix()?;
        if let TokenKind::Word { text, quoted: false } = &self.tokens[source_at].kind
            && text.starts_with("xEvent:")
        {
            let message = format!("`{text}` is one name, since a letter follows its `:`");
            let span = self.tokens[source_at].span.clone();
            return Err(PqlError::new(span, message).help("put a space after the `:`"));
        }
        let has_condition = self.take_word("where") || self.take_sign(":");
        let condition = if has_condition { Some(self.expression()?) } else { None };
        Ok(Binding { variable, source, condition })
    }

    fn binding_follows(&self) -> bool {
        let is_name = matches!(self.kind_at(1), TokenKind::Word { .. });
        let is_from = matches!(self.kind_at(2), TokenKind::Word { text, quoted: false }
            if text.eq_ignore_ascii_case("from"));
        is_name && is_from
    }

    fn chain(&mut self) -> Result<ExprKind, PqlError> {
        self.expect_sign("(")?;
        self.expect_exactly("xEvent")?;
        self.expect_sign(",")?;
        self.expect_exactly("timestamp")?;
        self.expect_sign(",")?;
        self.expect_sign("[")?;
        let mut steps = vec![self.step()?];
        while self.take_sign(",") {
            if steps.len() == STEPS_MAX {
                let span = self.peek().span.clone();
                return Err(PqlError::new(span, format!("a chain has at most {STEPS_MAX} steps")));
            }
            steps.push(self.step()?);
        }
        self.expect_sign("]")?;
        self.expect_sign(")")?;
        Ok(ExprKind::Chain(steps))
    }

    fn step(&mut self) -> Result<Step, PqlError> {
        self.split_label();
        let label = self.name("a step such as `A: WHAT(…)`")?;
        self.expect_sign(":")?;
        self.expect_word("WHAT")?;
        self.expect_sign("(")?;
        let what = if self.at_sign(")") { None } else { Some(self.expression()?) };
        self.expect_sign(")")?;
        let mut when = None;
        if self.take_word("WHEN") {
            self.expect_sign("(")?;
            when = Some(self.when()?);
            self.expect_sign(")")?;
        }
        let mut count = 1;
        if self.take_word("COUNT") {
            self.expect_sign("(")?;
            let span = self.peek().span.clone();
            count = self.whole_number("a number of events")?;
            self.expect_sign(")")?;
            if count < 1 {
                return Err(PqlError::new(span, "`COUNT` is at least 1"));
            }
        }
        Ok(Step { label, what, when, count })
    }

    /// A label ends at its first `:`, though the lexer takes `A:WHAT` for one name.
    fn split_label(&mut self) {
        let Token { kind, span } = self.peek().clone();
        let TokenKind::Word { text, quoted: false } = kind else { return };
        let Some((label, rest)) = text.split_once(':') else { return };
        let word = |text: &str| TokenKind::Word { text: text.to_owned(), quoted: false };
        let colon = span.start + label.len();
        let parts = [
            Token { kind: word(label), span: span.start..colon },
            Token { kind: TokenKind::Sign(":"), span: colon..colon + 1 },
            Token { kind: word(rest), span: colon + 1..span.end },
        ];
        self.tokens.splice(self.at..=self.at, parts);
    }
}

/// Single tokens.
impl Parser<'_> {
    pub(super) fn peek(&self) -> &Token {
        &self.tokens[self.at]
    }

    fn kind_at(&self, ahead: usize) -> &TokenKind {
        self.tokens.get(self.at + ahead).map_or(&TokenKind::End, |token| &token.kind)
    }

    fn sign_follows(&self, sign: &str) -> bool {
        matches!(self.kind_at(1), TokenKind::Sign(found) if *found == sign)
    }

    fn word_follows(&self) -> bool {
        matches!(self.kind_at(1), TokenKind::Word { .. })
    }

    pub(super) fn end_of_last(&self) -> usize {
        self.at.checked_sub(1).map_or(0, |last| self.tokens[last].span.end)
    }

    pub(super) fn at_sign(&self, sign: &str) -> bool {
        matches!(self.peek().kind, TokenKind::Sign(found) if found == sign)
    }

    pub(super) fn at_word(&self, word: &str) -> bool {
        matches!(&self.peek().kind, TokenKind::Word { text, quoted: false }
            if text.eq_ignore_ascii_case(word))
    }

    pub(super) fn take_sign(&mut self, sign: &str) -> bool {
        let found = self.at_sign(sign);
        self.at += usize::from(found);
        found
    }

    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let found = self.at_word(word);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect_sign(&mut self, sign: &str) -> Result<(), PqlError> {
        if self.take_sign(sign) { Ok(()) } else { Err(self.unexpected(&format!("`{sign}`"))) }
    }

    pub(super) fn expect_word(&mut self, word: &str) -> Result<(), PqlError> {
        if self.take_word(word) { Ok(()) } else { Err(self.unexpected(&format!("`{word}`"))) }
    }

    /// Names of the data model keep their case.
    fn expect_exactly(&mut self, word: &str) -> Result<(), PqlError> {
        let found = matches!(&self.peek().kind, TokenKind::Word { text, .. } if text == word);
        self.at += usize::from(found);
        if found { Ok(()) } else { Err(self.unexpected(&format!("`{word}`"))) }
    }

    fn name(&mut self, what: &str) -> Result<Name, PqlError> {
        let Token { kind, span } = self.peek().clone();
        let TokenKind::Word { text, .. } = kind else { return Err(self.unexpected(what)) };
        self.at += 1;
        Ok(Name { text, span })
    }

    /// A number without fraction or exponent.
    pub(super) fn whole_number(&mut self, what: &str) -> Result<i64, PqlError> {
        let span = self.peek().span.clone();
        match self.text[span].parse() {
            Ok(number) => {
                self.at += 1;
                Ok(number)
            }
            Err(_) => Err(self.unexpected(&format!("{what} (whole, without sign)"))),
        }
    }

    /// What follows a whole expression and should not.
    fn left_over(&self) -> PqlError {
        let error = self.unexpected("an operator or the end");
        let TokenKind::Word { text, .. } = &self.peek().kind else { return error };
        if let Some((_, help)) = FOREIGN_WORDS.iter().find(|(word, _)| self.at_word(word)) {
            return error.help(*help);
        }
        if is_function(text) {
            return error.help(format!("a function is called on a value: `….{text}(…)`"));
        }
        error
    }

    pub(super) fn unexpected(&self, expected: &str) -> PqlError {
        let token = self.peek();
        let found = match token.kind {
            TokenKind::End => "the end".to_owned(),
            _ => format!("`{}`", &self.text[token.span.clone()]),
        };
        PqlError::new(token.span.clone(), format!("expected {expected}, found {found}"))
    }
}
