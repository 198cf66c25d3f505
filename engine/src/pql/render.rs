//! Shows an error where it is: the line of the expression, a caret, and the help.

use std::fmt::Write;

use super::error::PqlError;

/// Draws `error` under the line of `text` that it is about, as plain text without a final line end:
///
/// ```text
/// expected an operand, found `=`
///   |
/// 1 | person.name = = 3
///   |               ^
///   = help: …
/// ```
pub fn render(text: &str, error: &PqlError) -> String {
    let start = floor(text, error.span.start);
    let end = floor(text, error.span.end).max(start);
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    let number = text[..start].matches('\n').count() + 1;
    let margin = " ".repeat(number.to_string().len());
    // Tabs stay tabs under tabs, so that the caret stands right at any width of them.
    let before: String =
        text[line_start..start].chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let carets = text[start..end.min(line_end)].chars().count().max(1);
    let mut shown = error.message.clone();
    let line = text[line_start..line_end].trim_end_matches('\r');
    let written =
        write!(shown, "\n{margin} |\n{number} | {line}\n{margin} | {before}{}", "^".repeat(carets));
    let helped = match &error.help {
        Some(help) => write!(shown, "\n{margin} = help: {help}"),
        None => Ok(()),
    };
    written.and(helped).expect("a string takes everything");
    shown
}

/// The last boundary of a character at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_place() {
        // (text, place, what is drawn under the message)
        let cases = [
            ("a = = 3", 4..5, "  |\n1 | a = = 3\n  |     ^"),
            ("a", 1..1, "  |\n1 | a\n  |  ^"),
            ("a and\n\tbcd\nor", 7..10, "  |\n2 | \tbcd\n  | \t^^^"),
            ("é = ö", 6..8, "  |\n1 | é = ö\n  |     ^"),
            ("", 0..0, "  |\n1 | \n  | ^"),
            ("ab\ncd", 1..5, "  |\n1 | ab\n  |  ^"),
        ];
        for (text, span, expected) in cases {
            let error = PqlError::new(span, "wrong");
            assert_eq!(render(text, &error), format!("wrong\n{expected}"), "{text}");
            let helped = render(text, &error.help("do so"));
            assert_eq!(helped, format!("wrong\n{expected}\n  = help: do so"), "{text}");
        }
    }
}
