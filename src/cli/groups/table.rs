//! Tables as kafka-consumer-groups prints them: columns aligned to the left, with one space between.

use super::super::output;

/// A column: its title, and the least width; `None` for a last one, which is not padded.
pub(super) type Column = (&'static str, Option<usize>);

/// Prints a table after an empty line.
pub(super) fn print(columns: &[Column], rows: &[Vec<String>]) {
    output::line("");
    lines(columns, rows).into_iter().for_each(output::line);
}

/// Lays out the header and the rows as lines. A column grows with what is in it, but for the last.
pub(super) fn lines(columns: &[Column], rows: &[Vec<String>]) -> Vec<String> {
    let last = columns.len().saturating_sub(1);
    let width = |(column, (_, least)): (usize, &Column)| {
        let least = least.unwrap_or_default();
        let cells = rows.iter().filter_map(|row| row.get(column));
        match column == last {
            true => least,
            false => cells.fold(least, |width, cell| width.max(cell.chars().count())),
        }
    };
    let widths: Vec<usize> = columns.iter().enumerate().map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join(" ")
    };
    let header = line(&mut columns.iter().map(|(title, _)| *title));
    let rows = rows
        .iter()
        .map(|row| line(&mut row.iter().map(String::as_str)));
    std::iter::once(header).chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
        cells.map(str::to_owned).to_vec()
    }

    #[test]
    fn columns_grow_and_the_last_is_not_padded() {
        let columns = [("A", Some(3)), ("B", Some(2)), ("C", None)];
        let rows = [row(["wide-é", "-", "x"]), row(["a", "b", "long"])];
        assert_eq!(
            lines(&columns, &rows),
            ["A      B  C", "wide-é -  x", "a      b  long"]
        );
    }

    #[test]
    fn a_last_column_with_a_width_is_padded_to_it_and_no_further() {
        let columns = [("A", Some(1)), ("B", Some(3))];
        let rows = [row(["a", "b"]), row(["a", "long"])];
        assert_eq!(lines(&columns, &rows), ["A B  ", "a b  ", "a long"]);
    }
}
