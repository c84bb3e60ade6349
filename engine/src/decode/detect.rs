//! Finds the format of a file from its first lines.
//!
//! Each format reads the first [`LINES_MAX`] lines, and the one that makes events of the most
//! of them is taken; a tie goes to the first of [`CANDIDATES`]. Where no format reads a single
//! line, the format is unknown, and is said to be so: nothing is guessed from looks.

use super::aws::CLOUDFRONT_COLUMNS;
use super::{Decoder, Format, Line, Options};

/// How many lines that are neither blank nor headers are looked at.
const LINES_MAX: usize = 64;

/// How much of a line is shown where no format reads it.
const SHOWN_CHARS_MAX: usize = 80;

/// The formats of lines, in the order of preference.
const CANDIDATES: [Format; 8] = [
    Format::Ndjson,
    Format::Combined,
    Format::Envoy,
    Format::Traefik,
    Format::Caddy,
    Format::NginxJson,
    Format::Alb,
    Format::Cloudfront,
];

/// The first lines are of no format that is known.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnknownFormat {
    /// There are lines, and no format reads any.
    #[error(
        "unknown format: no format reads any of the first lines, such as {line:?}; name it with --format"
    )]
    Foreign {
        /// The beginning of the first line.
        line: String,
    },
    /// A `#Fields:` header tells other columns than the standard ones in their order.
    #[error(
        "the header {header:?} tells columns in another order than CloudFront's standard log, which alone is read"
    )]
    Columns {
        /// The beginning of the header.
        header: String,
    },
    /// There are no lines, or only blank ones and headers.
    #[error("unknown format: there are no lines yet; name it with --format")]
    Empty,
}

/// The format of a source that begins with `sample`; the one that the options name, if they do.
///
/// The sample is plain text (see [`super`] on compression) and may end within a line. 64 KiB
/// are plenty.
///
/// # Errors
/// [`UnknownFormat`] where no format reads any of the first lines.
///
/// ```
/// use ninefold_engine::decode::{Format, Options, detect};
/// let sample = b"1.2.3.4 - - [17/May/2015:10:05:03 +0000] \"GET / HTTP/1.1\" 200 5\n";
/// assert_eq!(detect(sample, &Options::default()), Ok(Format::Combined));
/// assert!(detect(b"May 17 10:05:03 host sshd: accepted\n", &Options::default()).is_err());
/// ```
pub fn detect(sample: &[u8], options: &Options) -> Result<Format, UnknownFormat> {
    if options.format != Format::Auto {
        return Ok(options.format);
    }
    if sample.starts_with(b"PAR1") {
        return Ok(Format::Parquet);
    }
    standard_columns(sample)?;
    let lines = first_lines(sample);
    let Some(first) = lines.first() else { return Err(UnknownFormat::Empty) };
    let mut best = (0, Format::Auto);
    for format in CANDIDATES {
        let mut decoder = Decoder::new(options, format);
        let is_event = |line: &&&[u8]| matches!(decoder.decode(line), Line::Event(_));
        let events = lines.iter().filter(is_event).count();
        if events > best.0 {
            best = (events, format);
        }
    }
    if best.0 == 0 {
        return Err(UnknownFormat::Foreign { line: shown(first) });
    }
    Ok(best.1)
}

/// Refuses a W3C header whose columns are not those of CloudFront in their order, or the first
/// of them.
fn standard_columns(sample: &[u8]) -> Result<(), UnknownFormat> {
    let mut lines = sample.split(|byte| *byte == b'\n');
    let Some(header) = lines.find(|line| line.starts_with(b"#Fields:")) else { return Ok(()) };
    let text = String::from_utf8_lossy(header);
    let names = text.trim_start_matches("#Fields:").split_whitespace();
    if names.zip(CLOUDFRONT_COLUMNS).all(|(name, standard)| name == standard) {
        Ok(())
    } else {
        Err(UnknownFormat::Columns { header: shown(header) })
    }
}

fn shown(line: &[u8]) -> String {
    String::from_utf8_lossy(line).chars().take(SHOWN_CHARS_MAX).collect()
}

/// The lines to look at. The last may be cut off: it counts for nothing then.
fn first_lines(sample: &[u8]) -> Vec<&[u8]> {
    let lines = sample.split(|byte| *byte == b'\n');
    let is_content = |line: &&[u8]| !super::is_skipped(line);
    lines.filter(is_content).take(LINES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_options_name_is_taken() {
        let options = Options { format: Format::Envoy, ..Options::default() };
        assert_eq!(detect(b"anything", &options), Ok(Format::Envoy));
    }

    #[test]
    fn a_source_without_lines_has_no_format() {
        for sample in ["", "\n \r\n", "#Version: 1.0\n"] {
            assert_eq!(detect(sample.as_bytes(), &Options::default()), Err(UnknownFormat::Empty));
        }
    }

    #[test]
    fn columns_in_another_order_are_refused() {
        let header = |names: &[&str]| format!("#Version: 1.0\n#Fields: {}\r\n", names.join(" "));
        let standard = header(&CLOUDFRONT_COLUMNS);
        assert_eq!(detect(standard.as_bytes(), &Options::default()), Err(UnknownFormat::Empty));
        let swapped = header(&["date", "time", "c-ip", "sc-status"]);
        let error = detect(swapped.as_bytes(), &Options::default()).unwrap_err();
        assert!(matches!(error, UnknownFormat::Columns { .. }), "{error}");
    }

    #[test]
    fn a_foreign_first_line_does_not_hide_the_format() {
        let sample =
            b"starting up\n{\"ts\":1764547200123,\"customer\":\"a\",\"status\":200}\n{\"ts\":17";
        assert_eq!(detect(sample, &Options::default()), Ok(Format::Ndjson));
    }
}
