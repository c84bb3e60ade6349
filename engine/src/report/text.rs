//! Names and numbers as text for people: terminals, spreadsheets, Markdown.
//!
//! A customer's name is any text at all: `../../etc/passwd`, `=1+1`, `<script>`, a newline,
//! terminal escapes. Each medium has its own danger, so each has its own function here, and no
//! renderer writes a name in another way.

use std::fmt::Write as _;

/// Cells of a terminal table are cut to this many characters.
pub const CELL_CHARS_MAX: usize = 48;

/// `text` with everything that a terminal would act upon or not show written as an escape:
/// control characters (so one text stays one line), directional and zero-width characters, and
/// the backslash itself, so that an escape is never mistaken for a name.
///
/// ```
/// use ninefold_engine::report::text::printable;
/// assert_eq!(printable("a\nb"), r"a\nb");
/// assert_eq!(printable("\u{1b}[2J"), r"\u{1b}[2J");
/// assert_eq!(printable(r"a\nb"), r"a\\nb");
/// assert_eq!(printable("Zoë & Søn \"1\""), "Zoë & Søn \"1\"");
/// ```
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\\' => shown.push_str("\\\\"),
            char if char.is_control() => shown.extend(char.escape_default()),
            char if is_invisible(char) => shown.extend(char.escape_unicode()),
            char => shown.push(char),
        }
    }
    shown
}

/// Characters that are no control characters and yet show nothing, break lines or turn the
/// direction of what follows (Unicode, section 23.2 and the format characters of its tables).
fn is_invisible(char: char) -> bool {
    matches!(char,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

/// `text` for a CSV field of free text: one that a spreadsheet would take for a formula, since
/// it starts with `=`, `+`, `-`, `@`, a tab or a carriage return, gets a leading `'`. Quoting
/// is the CSV writer's part.
///
/// ```
/// use ninefold_engine::report::text::csv_text;
/// assert_eq!(csv_text("=1+1"), "'=1+1");
/// assert_eq!(csv_text("1=1"), "1=1");
/// ```
pub fn csv_text(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    format!("{}{text}", if formula { "'" } else { "" })
}

/// `text` for a cell of a Markdown table: [`printable`], and nothing in it is markup.
///
/// ```
/// use ninefold_engine::report::text::markdown_text;
/// assert_eq!(markdown_text("a|b `c`"), r"a\|b \`c\`");
/// assert_eq!(markdown_text("<script>"), "&lt;script&gt;");
/// ```
pub fn markdown_text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in printable(text).chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '!' | '#' => {
                escaped.push('\\');
                escaped.push(char);
            }
            char => escaped.push(char),
        }
    }
    escaped
}

/// A ratio of counts as a percentage with four digits, never rounded up: 99.79999% must not
/// read as a kept 99.8%. `-` where nothing was valid.
///
/// ```
/// use ninefold_engine::report::text::percent_good;
/// assert_eq!(percent_good(482, 2), "99.5850%");
/// assert_eq!(percent_good(100_000_000, 1), "99.9999%");
/// assert_eq!(percent_good(0, 0), "-");
/// ```
pub fn percent_good(valid: u64, bad: u64) -> String {
    if valid == 0 {
        return "-".to_owned();
    }
    let parts = u128::from(valid.saturating_sub(bad)) * 1_000_000 / u128::from(valid);
    format!("{}.{:04}%", parts / 10_000, parts % 10_000)
}

/// A ratio as a percentage with `digits` digits; `-` where there is none.
pub fn percent(ratio: Option<f64>, digits: usize) -> String {
    ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{:.digits$}%", ratio * 100.0))
}

/// A target as it was promised: `99.8%`, without zeros at the end.
///
/// ```
/// assert_eq!(ninefold_engine::report::text::percent_exact(0.998), "99.8%");
/// assert_eq!(ninefold_engine::report::text::percent_exact(0.5), "50%");
/// ```
pub fn percent_exact(ratio: f64) -> String {
    let text = format!("{:.7}", ratio * 100.0);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// On which side of its column a cell stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Aligned columns under a heading, two spaces apart, no spaces at the ends of lines. Cells
/// are made [`printable`] and cut to [`CELL_CHARS_MAX`]; a character counts as one column.
///
/// ```
/// use ninefold_engine::report::text::{Side, aligned};
/// let rows = vec![vec!["a".to_owned(), "10".to_owned()], vec!["bcd".to_owned(), "9".to_owned()]];
/// let text = aligned(&[("who", Side::Left), ("bad", Side::Right)], &rows);
/// assert_eq!(text, "who  bad\na     10\nbcd    9\n");
/// ```
pub fn aligned(columns: &[(&str, Side)], rows: &[Vec<String>]) -> String {
    let heading = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
    let shown = |row: &Vec<String>| row.iter().map(|cell| cut(&printable(cell))).collect();
    let mut lines: Vec<Vec<String>> = vec![heading];
    lines.extend(rows.iter().map(shown));
    let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let start = text.len();
        for ((cell, (_, side)), width) in line.iter().zip(columns).zip(&widths) {
            match side {
                Side::Left => write!(text, "{cell:<width$}  "),
                Side::Right => write!(text, "{cell:>width$}  "),
            }
            .expect("text is written to memory");
        }
        text.truncate(start + text[start..].trim_end_matches(' ').len());
        text.push('\n');
    }
    text
}

/// A Markdown table of the same; nothing in its cells is markup.
///
/// ```
/// use ninefold_engine::report::text::{Side, markdown_table};
/// let rows = vec![vec!["a|b".to_owned(), "10".to_owned()]];
/// let text = markdown_table(&[("who", Side::Left), ("bad", Side::Right)], &rows);
/// assert_eq!(text, "| who | bad |\n| :-- | --: |\n| a\\|b | 10 |\n");
/// ```
pub fn markdown_table(columns: &[(&str, Side)], rows: &[Vec<String>]) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let rule = |side: &Side| match side {
        Side::Left => ":--".to_owned(),
        Side::Right => "--:".to_owned(),
    };
    let mut text = line(columns.iter().map(|(name, _)| (*name).to_owned()).collect());
    text.push_str(&line(columns.iter().map(|(_, side)| rule(side)).collect()));
    for row in rows {
        text.push_str(&line(row.iter().map(|cell| markdown_text(cell)).collect()));
    }
    text
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(CELL_CHARS_MAX) {
        None => text.to_owned(),
        Some(_) => text.chars().take(CELL_CHARS_MAX - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_acts_upon_is_left() {
        let hostile: String = (0..=0x10_ffff_u32).filter_map(char::from_u32).collect();
        let shown = printable(&hostile);
        assert!(!shown.chars().any(char::is_control));
        assert!(!shown.contains(['\u{202e}', '\u{2066}', '\u{200b}', '\u{2028}', '\u{feff}']));
    }

    #[test]
    fn different_names_never_look_the_same() {
        let names = ["a\nb", "a\\nb", "a\\\nb", "a\u{200b}b", "a\\u{200b}b", "ab"];
        let mut shown: Vec<String> = names.iter().map(|name| printable(name)).collect();
        shown.sort();
        shown.dedup();
        assert_eq!(shown.len(), names.len());
    }

    #[test]
    fn a_percentage_never_reads_better_than_it_is() {
        let check = |valid, bad, expect: &str| assert_eq!(percent_good(valid, bad), expect);
        check(1_000, 2, "99.8000%");
        check(1_000_001, 2_001, "99.7999%");
        check(3, 1, "66.6666%");
        check(5, 5, "0.0000%");
        check(5, 0, "100.0000%");
        check(u64::MAX, 1, "99.9999%");
    }
}
