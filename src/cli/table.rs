//! Aligned text tables.

use super::out::{self, TextStyle, clean};

/// A cell and its style.
type StyledCell = (String, Option<TextStyle>);

/// A table under construction. Columns of numbers (with a unit or without) are right-aligned.
#[derive(Debug)]
pub struct TextTable {
    head: Vec<String>,
    rows: Vec<Vec<StyledCell>>,
}

/// Width and alignment of a column.
struct ColumnLayout {
    width: usize,
    is_right_aligned: bool,
}

impl TextTable {
    pub fn new(head: &[&str]) -> TextTable {
        TextTable { head: head.iter().map(|name| (*name).to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row without styles.
    pub fn row<I: IntoIterator<Item = String>>(&mut self, cells: I) {
        self.styled_row(cells.into_iter().map(|cell| (cell, None)));
    }

    /// Adds a row. Control characters in cells are replaced.
    pub fn styled_row<I: IntoIterator<Item = StyledCell>>(&mut self, cells: I) {
        let one_line = |text: String| clean(&text).replace(['\n', '\t'], " ");
        self.rows.push(cells.into_iter().map(|(cell, style)| (one_line(cell), style)).collect());
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text, with colour or without.
    pub fn render(&self, with_colors: bool) -> String {
        let layouts: Vec<ColumnLayout> = (0..self.head.len()).map(|column| self.layout(column)).collect();
        let head: Vec<StyledCell> = self.head.iter().map(|name| (name.clone(), Some(TextStyle::Dim))).collect();
        let mut text = String::new();
        for cells in std::iter::once(&head).chain(&self.rows) {
            text.push_str(render_row(cells, &layouts, with_colors).trim_end());
            text.push('\n');
        }
        text
    }

    fn layout(&self, column: usize) -> ColumnLayout {
        let cells = || self.rows.iter().map(|row| row.get(column).map_or("", |cell| cell.0.as_str()));
        let width = cells().map(width).max().unwrap_or(0).max(width(&self.head[column]));
        let mut has_numbers = false;
        let is_numeric = cells().filter(|text| *text != "-").all(|text| {
            has_numbers = true;
            let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
            number.parse::<f64>().is_ok() && !unit.contains(' ')
        });
        ColumnLayout { width, is_right_aligned: is_numeric && has_numbers }
    }

    /// Prints the table on stdout, or `when_empty` if it has no rows.
    pub fn print(&self, when_empty: &str) {
        if self.is_empty() { out::line(when_empty) } else { out::stdout(self.render(out::stdout_has_colors())) }
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn render_row(cells: &[StyledCell], layouts: &[ColumnLayout], with_colors: bool) -> String {
    let mut row = String::new();
    for (column, layout) in layouts.iter().enumerate() {
        let (content, style) = cells.get(column).map_or(("", None), |(content, style)| (content.as_str(), *style));
        let padding = " ".repeat(layout.width - width(content));
        let content = match style {
            Some(style) if with_colors && !content.is_empty() => style.apply(content),
            _ => content.to_owned(),
        };
        if column > 0 {
            row.push_str("  ");
        }
        row.push_str(&if layout.is_right_aligned { padding + &content } else { content + &padding });
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_right_aligned_and_text_left_aligned() {
        let mut table = TextTable::new(&["name", "ready"]);
        table.row(["python".into(), "2".into()]);
        table.row(["c".into(), "10".into()]);
        assert_eq!(table.render(false), "name    ready\npython      2\nc          10\n");
        let mut ids = TextTable::new(&["sandbox", "age"]);
        ids.row(["8fce".into(), "2.10 s".into()]);
        assert_eq!(ids.render(false), "sandbox     age\n8fce     2.10 s\n");
    }

    #[test]
    fn a_cell_cannot_send_escape_sequences() {
        let mut table = TextTable::new(&["message"]);
        table.row(["a\x1b[2Jb\nc".into()]);
        assert!(!table.render(false).contains('\x1b'));
        assert_eq!(table.render(false).lines().count(), 2);
    }
}
