//! The text form of a place among the rows of `top`.
//!
//! A cursor is JSON in hexadecimal digits: `[version, by, rank, rank, customer, service,
//! objective]`. Hexadecimal, so that any name passes through any URL as it is. Who passes a
//! cursor back is not trusted: whatever does not decode to exactly that is refused as an
//! argument, and one that does can only choose where a page begins.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use super::Place;
use crate::model::CUSTOMER_BYTES_MAX;
use crate::query::{AskError, By};

/// The form of this version.
const VERSION: u8 = 1;

/// No honest cursor is longer: a control character takes six bytes of JSON and a byte two
/// digits, three names are of [`CUSTOMER_BYTES_MAX`] or so, and the numbers need little.
const TEXT_SIZE_MAX: usize = 2 * 6 * 4 * CUSTOMER_BYTES_MAX;

/// The place of the last row of a page.
#[derive(Debug, PartialEq)]
pub(super) struct Cursor {
    rank: [u64; 2],
    customer: String,
    service: String,
    objective: String,
}

/// The fields in the order of the text.
#[derive(Serialize, Deserialize)]
struct Fields<'a>(u8, &'a str, u64, u64, String, String, String);

impl Cursor {
    pub(super) fn of((Reverse(rank), customer, service, objective): Place<'_>) -> Cursor {
        let [customer, service, objective] = [customer, service, objective].map(str::to_owned);
        Cursor { rank, customer, service, objective }
    }

    pub(super) fn place(&self) -> Place<'_> {
        (Reverse(self.rank), &self.customer, &self.service, &self.objective)
    }

    pub(super) fn encode(self, by: By) -> String {
        let Cursor { rank: [first, second], customer, service, objective } = self;
        let fields = Fields(VERSION, by.name(), first, second, customer, service, objective);
        hex(&serde_json::to_vec(&fields).expect("numbers and texts are JSON"))
    }

    /// # Errors
    /// [`AskError::Argument`] where the text is no cursor, or one of another order.
    pub(super) fn decode(text: &str, by: By) -> Result<Cursor, AskError> {
        let refuse = |problem: &str| {
            let problem = format!("{problem}; pass `next` of the page before as it is");
            AskError::Argument { field: "cursor", problem }
        };
        let bytes = unhex(text).ok_or_else(|| refuse("this is no cursor"))?;
        let fields: Fields<'_> =
            serde_json::from_slice(&bytes).map_err(|_| refuse("this is no cursor"))?;
        let Fields(version, sorted_by, first, second, customer, service, objective) = fields;
        if version != VERSION {
            return Err(refuse("this cursor is of another version"));
        }
        if sorted_by != by.name() {
            return Err(refuse("this cursor is of a list that is sorted otherwise"));
        }
        Ok(Cursor { rank: [first, second], customer, service, objective })
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// `None` for an odd number of digits, any other character, and overlong texts.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, odd) = text.as_bytes().as_chunks::<2>();
    let half = |digit: u8| char::from(digit).to_digit(16).map(|half| half as u8);
    let whole = |[high, low]: &[u8; 2]| Some(half(*high)? << 4 | half(*low)?);
    let fits = odd.is_empty() && text.len() <= TEXT_SIZE_MAX;
    fits.then(|| pairs.iter().map(whole).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cursor(customer: &str) -> Cursor {
        Cursor::of((Reverse([u64::MAX, 7]), customer, "api", "availability"))
    }

    proptest! {
        #[test]
        fn any_name_comes_back_and_passes_through_a_url(customer in any::<String>()) {
            prop_assume!(customer.len() <= CUSTOMER_BYTES_MAX);
            let text = cursor(&customer).encode(By::Burn);
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_hexdigit()));
            prop_assert_eq!(Cursor::decode(&text, By::Burn).unwrap(), cursor(&customer));
        }

        #[test]
        fn hostile_text_is_refused_as_an_argument(text in any::<String>(), bytes in any::<Vec<u8>>()) {
            for text in [text, hex(&bytes)] {
                let error = Cursor::decode(&text, By::Burn).unwrap_err();
                let refused = matches!(error, AskError::Argument { field: "cursor", .. });
                prop_assert!(refused);
            }
        }
    }

    #[test]
    fn the_longest_name_fits() {
        let name = "\u{1}".repeat(CUSTOMER_BYTES_MAX);
        let text = cursor(&name).encode(By::Burn);
        assert_eq!(Cursor::decode(&text, By::Burn).unwrap(), cursor(&name));
    }

    #[test]
    fn a_cursor_of_another_list_or_version_is_refused() {
        let check = |text: &str, problem: &str| {
            let error = Cursor::decode(text, By::Burn).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        };
        check(&cursor("acme").encode(By::Bad), "sorted otherwise");
        check(&hex(br#"[2,"burn",1,2,"a","b","c"]"#), "another version");
        check(&hex(br#"[1,"burn",1,2,"a","b"]"#), "no cursor");
        check(&hex(br#"[1,"burn",1,2,"a","b","c","d"]"#), "no cursor");
        check(&hex(br#"[1,"burn",-1,2,"a","b","c"]"#), "no cursor");
        check(&"5b".repeat(TEXT_SIZE_MAX), "no cursor");
    }
}
