//! Tables as kafka-transactions prints them: columns aligned to the left, with a tab after each.

use super::super::output;

/// Prints a table.
pub(super) fn print(headers: &[&str], rows: &[Vec<String>]) {
    lines(headers, rows).into_iter().for_each(output::line);
}

fn lines(headers: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let width = |(column, header): (usize, &&str)| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.fold(header.chars().count(), |width, cell| {
            width.max(cell.chars().count())
        })
    };
    let widths: Vec<usize> = headers.iter().enumerate().map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        cells
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:<width$}\t"))
            .collect::<String>()
    };
    let header = line(&mut headers.iter().copied());
    let rows = rows
        .iter()
        .map(|row| line(&mut row.iter().map(String::as_str)));
    std::iter::once(header).chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_column_is_as_wide_as_its_widest_cell_and_ends_with_a_tab() {
        let rows = [vec!["wide-é".to_owned(), "-".to_owned()]];
        assert_eq!(
            lines(&["A", "Bee"], &rows),
            ["A     \tBee\t", "wide-é\t-  \t"]
        );
        assert_eq!(lines(&["A", "Bee"], &[]), ["A\tBee\t"]);
    }
}
