//! Bodies of requests to records: inflated under limits, split into events.
//!
//! Pure, and bounded before it is fast: nothing is allocated by what a body claims. A body that
//! cannot be read as a whole is refused as a whole; an event in it that cannot be read is a
//! record like any other, and becomes a dead letter with its reason when it is counted.

use std::io::{self, Read};

use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::wal::Records;

/// Most events of one body.
pub const RECORDS_MAX: usize = 1_000_000;

/// Deepest nesting of a JSON body: an event has one level or two.
const DEPTH_MAX: usize = 64;

/// A body may grow by this factor, past [`RATIO_FREE_BYTES`]: logs shrink by 10 to 50.
const RATIO_MAX: u64 = 200;

/// The ratio of a short body says nothing.
const RATIO_FREE_BYTES: u64 = 1 << 20;

/// The largest window of zstd, as for any content coding (RFC 9659): 8 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// How a body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Not at all.
    Identity,
    /// One or more gzip members.
    Gzip,
    /// One or more zstd frames.
    Zstd,
}

/// What a body holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// One event a line.
    Lines,
    /// A JSON array of events.
    Array,
}

/// Why a body is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// It is longer than it may be, once inflated.
    #[error("the body is more than {0} bytes when inflated")]
    Long(u64),
    /// It grows more than any log does.
    #[error("the body grows by more than {RATIO_MAX} times when inflated")]
    Ratio,
    /// It holds too many events.
    #[error("the body holds more than {RECORDS_MAX} events")]
    Many,
    /// It is not what its headers say.
    #[error("{0}")]
    Broken(String),
    /// There is no memory for it now.
    #[error("other bodies take all the memory that there is for them")]
    Room,
}

/// The plain text of a body of at most `bytes_max`. `room` is asked for each piece of memory
/// before it is used, and says whether it is there.
///
/// # Errors
/// It is longer, or no such text.
pub fn inflate(
    body: Vec<u8>,
    coding: Coding,
    bytes_max: u64,
    room: &mut dyn FnMut(u64) -> bool,
) -> Result<Vec<u8>, BodyFault> {
    let broken =
        |error: io::Error| BodyFault::Broken(format!("the body cannot be inflated: {error}"));
    let mut reader: Box<dyn Read + '_> = match coding {
        Coding::Identity if body.len() as u64 > bytes_max => {
            return Err(BodyFault::Long(bytes_max));
        }
        Coding::Identity => return Ok(body),
        Coding::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(&*body)),
        Coding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(&*body).map_err(broken)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(broken)?;
            Box::new(decoder)
        }
    };
    let ratio_bytes = RATIO_FREE_BYTES.max(body.len() as u64 * RATIO_MAX);
    let (mut text, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let count = reader.read(&mut piece).map_err(broken)?;
        if count == 0 {
            return Ok(text);
        }
        let size = (text.len() + count) as u64;
        if size > bytes_max {
            return Err(BodyFault::Long(bytes_max));
        }
        if size > ratio_bytes {
            return Err(BodyFault::Ratio);
        }
        if !room(count as u64) {
            return Err(BodyFault::Room);
        }
        text.extend_from_slice(&piece[..count]);
    }
}

/// The events of a text.
///
/// ```
/// use ninefold_engine::source::body::{Media, records};
/// assert_eq!(records(b"{\"ts\":1}\n\nbroken\n", Media::Lines).unwrap().count(), 2);
/// assert_eq!(records(b"[{\"ts\":1}, \"broken\"]", Media::Array).unwrap().count(), 2);
/// assert!(records(b"{\"ts\":1}", Media::Array).is_err());
/// ```
///
/// # Errors
/// There are too many; an array that is none.
pub fn records(text: &[u8], media: Media) -> Result<Records, BodyFault> {
    match media {
        Media::Lines => {
            // Bounds the blank ones as well.
            if memchr::memchr_iter(b'\n', text).nth(RECORDS_MAX).is_some() {
                return Err(BodyFault::Many);
            }
            Ok(Records::of_lines(text))
        }
        Media::Array => elements(text),
    }
}

fn elements(text: &[u8]) -> Result<Records, BodyFault> {
    if depth(text) > DEPTH_MAX {
        let what = format!("the body is nested deeper than {DEPTH_MAX} levels");
        return Err(BodyFault::Broken(what));
    }
    let mut elements = Elements::default();
    let mut json = serde_json::Deserializer::from_slice(text);
    let read = json.deserialize_seq(&mut elements).and_then(|()| json.end());
    match read {
        _ if elements.too_many => Err(BodyFault::Many),
        Ok(()) => Ok(elements.records),
        Err(error) => {
            Err(BodyFault::Broken(format!("the body is no JSON array of events: {error}")))
        }
    }
}

/// Takes the elements of an array as they are written.
#[derive(Default)]
struct Elements {
    records: Records,
    too_many: bool,
}

impl<'de> Visitor<'de> for &mut Elements {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an array of events")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut elements: S) -> Result<(), S::Error> {
        while let Some(element) = elements.next_element::<&RawValue>()? {
            self.too_many = self.records.count() == RECORDS_MAX;
            if self.too_many {
                return Err(S::Error::custom("too many events"));
            }
            self.records.push(element.get().as_bytes());
        }
        Ok(())
    }
}

/// How deep the brackets of a JSON text go, those in strings aside.
fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut is_string, mut is_escaped) = (false, false);
    for byte in text {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_string => is_escaped = true,
            b'"' => is_string = !is_string,
            b'[' | b'{' if !is_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !is_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn inflated(body: Vec<u8>, coding: Coding, bytes_max: u64) -> Result<Vec<u8>, BodyFault> {
        inflate(body, coding, bytes_max, &mut |_| true)
    }

    #[test]
    fn bodies_are_inflated_up_to_the_limit() {
        let text = b"0123456789".repeat(1_000);
        for (body, coding) in [
            (text.clone(), Coding::Identity),
            (gzip(&text), Coding::Gzip),
            ([gzip(&text[..10]), gzip(&text[10..])].concat(), Coding::Gzip),
            (zstd::encode_all(&*text, 3).unwrap(), Coding::Zstd),
        ] {
            assert_eq!(inflated(body.clone(), coding, 10_000).as_ref(), Ok(&text), "{coding:?}");
            assert_eq!(inflated(body, coding, 9_999), Err(BodyFault::Long(9_999)), "{coding:?}");
        }
    }

    #[test]
    fn a_bomb_is_refused_before_it_takes_memory() {
        let zeros = vec![0; 64 << 20];
        let bomb = zstd::encode_all(&*zeros, 3).unwrap();
        let mut taken = 0;
        let mut room = |bytes| {
            taken += bytes;
            true
        };
        let refused = inflate(bomb, Coding::Zstd, 32 << 20, &mut room);
        assert_eq!(refused, Err(BodyFault::Ratio));
        assert!(taken <= 2 << 20, "{taken}");
        let refused = inflated(gzip(&zeros), Coding::Gzip, 32 << 20);
        assert!(refused.is_err());
    }

    #[test]
    fn what_is_no_coding_and_what_is_cut_off_are_refused() {
        let text = b"0123456789".repeat(1_000);
        let packed = gzip(&text);
        for (body, coding) in [
            (text.clone(), Coding::Gzip),
            (text.clone(), Coding::Zstd),
            (packed[..packed.len() - 9].to_vec(), Coding::Gzip),
            ([&packed[..], b"garbage"].concat(), Coding::Gzip),
        ] {
            let refused = inflated(body, coding, 1 << 20);
            assert!(matches!(refused, Err(BodyFault::Broken(_))), "{refused:?}");
        }
        let no_room = inflate(packed, Coding::Gzip, 1 << 20, &mut |_| false);
        assert_eq!(no_room, Err(BodyFault::Room));
    }

    #[test]
    fn arrays_are_split_as_they_are_written() {
        let text = br#" [ {"a":"],[\"","b":[1,{}]} , 7,"x",
            {"c":
             1} ] "#;
        assert_eq!(records(text, Media::Array).unwrap().count(), 4);
        assert_eq!(records(b"[]", Media::Array).unwrap().count(), 0);
        for broken in ["", "[", "[1", "[1,]", "[1]x", "{}", "null", "[\"\u{1}\"]", "[1 2]"] {
            let refused = records(broken.as_bytes(), Media::Array);
            assert!(matches!(refused, Err(BodyFault::Broken(_))), "{broken}: {refused:?}");
        }
    }

    #[test]
    fn nesting_and_numbers_of_events_are_bounded() {
        let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        let refused = records(deep.as_bytes(), Media::Array);
        assert!(matches!(refused, Err(BodyFault::Broken(what)) if what.contains("deeper than 64")));
        let text = format!("[{}\"{}\"{}]", "[".repeat(63), "[".repeat(100), "]".repeat(63));
        assert_eq!(records(text.as_bytes(), Media::Array).unwrap().count(), 1);
        let many = format!("[{}1]", "1,".repeat(RECORDS_MAX));
        assert_eq!(records(many.as_bytes(), Media::Array), Err(BodyFault::Many));
        let lines = "1\n".repeat(RECORDS_MAX + 1);
        assert_eq!(records(lines.as_bytes(), Media::Lines), Err(BodyFault::Many));
    }
}
