//! Tables: a header, no frame, numbers to the right with thousands apart.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// Where a column's cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Draws `rows` under `columns`; without trailing blanks, so that it can be compared and pasted.
pub(crate) fn table(columns: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    table.add_rows(rows.iter().cloned());
    for (index, (_, align)) in columns.iter().enumerate() {
        if let (Align::Right, Some(column)) = (align, table.column_mut(index)) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// `1234567` as `1,234,567`.
pub(crate) fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// So many of `one`: `1 entry`, `1,234 entries`.
pub(crate) fn counted(n: u64, one: &str) -> String {
    let (stem, end) = match one.strip_suffix('y') {
        _ if n == 1 => (one, ""),
        Some(stem) => (stem, "ies"),
        None => (one, "s"),
    };
    format!("{} {stem}{end}", number(n))
}

#[cfg(test)]
mod tests {
    use super::{Align, counted, number, table};

    #[test]
    fn one_is_one_and_all_else_are_many() {
        let cases = [
            (1, "request", "1 request"),
            (0, "request", "0 requests"),
            (2, "request", "2 requests"),
            (1, "retry", "1 retry"),
            (1_000, "retry", "1,000 retries"),
            (2, "dead letter", "2 dead letters"),
        ];
        for (n, one, expected) in cases {
            assert_eq!(counted(n, one), expected);
        }
    }

    #[test]
    fn numbers_stand_right_and_words_left() {
        let rows = [vec!["big".to_owned(), "734".to_owned()], vec!["b".to_owned(), "2".to_owned()]];
        let drawn = table(&[("audience", Align::Left), ("in", Align::Right)], &rows);
        assert_eq!(drawn, " audience   in\n big       734\n b           2");
    }

    #[test]
    fn thousands_stand_apart() {
        for (n, expected) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(number(n), expected);
        }
    }
}
