//! What all access logs share: who the customer is, the route, and the client's address.

use super::route::{ROUTE_MALFORMED, write_route};
use super::{Options, Read};
use crate::model::{ATTRIBUTES_MAX, CUSTOMER_BYTES_MAX, Event, Latency, SERVICE_DEFAULT};
use crate::short;

/// The options as the readers of access logs need them.
pub(super) struct Access {
    /// Which field is the customer; the client's address where `None`.
    pub(super) customer_field: Option<String>,
    /// Names of the attributes, at most [`ATTRIBUTES_MAX`].
    pub(super) attributes: Vec<String>,
    service: String,
    routes: Vec<String>,
}

/// One request as a line of an access log tells it.
pub(super) struct Request<'a> {
    /// Epoch milliseconds in the years 2000 to 2100.
    pub(super) ts_ms: i64,
    /// The customer; the caller has found it.
    pub(super) customer: &'a str,
    /// Method and target; `None` where the request is no HTTP.
    pub(super) request: Option<(&'a str, &'a str)>,
    /// 0 or 100 to 599.
    pub(super) status: u16,
    /// How long it took.
    pub(super) latency: Latency,
    /// Values of the attributes.
    pub(super) attributes: [&'a str; ATTRIBUTES_MAX],
}

impl Access {
    pub(super) fn new(options: &Options) -> Access {
        let service = options.service.as_deref().filter(|name| !name.is_empty());
        Access {
            customer_field: options.customer_field.clone(),
            attributes: options.attributes.iter().take(ATTRIBUTES_MAX).cloned().collect(),
            service: service.unwrap_or(SERVICE_DEFAULT).to_owned(),
            routes: options.routes.clone(),
        }
    }

    /// The service of every line.
    pub(super) fn service(&self) -> &str {
        &self.service
    }

    /// The patterns of routes.
    pub(super) fn patterns(&self) -> &[String] {
        &self.routes
    }

    /// The customer and the attributes of a line whose fields `field` knows by name.
    ///
    /// `client` is the address, the customer where no field is configured. A name that the
    /// format does not have makes each line a dead letter that says so.
    pub(super) fn customer<'a>(
        &self,
        client: &'a str,
        field: impl Fn(&str) -> Option<&'a str>,
    ) -> Read<&'a str> {
        let Some(name) = &self.customer_field else {
            return customer("the client address", client);
        };
        let found = field(name).ok_or_else(|| format!("this format has no field {name:?}"))?;
        customer(name, found)
    }

    /// The attributes of a line whose fields `field` knows by name.
    pub(super) fn attributes<'a>(
        &self,
        field: impl Fn(&str) -> Option<&'a str>,
    ) -> [&'a str; ATTRIBUTES_MAX] {
        let mut values = [""; ATTRIBUTES_MAX];
        for (value, name) in values.iter_mut().zip(&self.attributes) {
            *value = field(name).filter(|text| *text != "-").unwrap_or("");
        }
        values
    }

    /// The event of a request; its route is written to `route`.
    pub(super) fn event<'a>(&'a self, request: Request<'a>, route: &'a mut String) -> Event<'a> {
        match request.request {
            Some((method, target)) => write_route(method, target, &self.routes, route),
            None => ROUTE_MALFORMED.clone_into(route),
        }
        Event {
            ts_ms: request.ts_ms,
            customer: request.customer,
            service: &self.service,
            route,
            attributes: request.attributes,
            status: request.status,
            latency: request.latency,
            ..Event::default()
        }
    }
}

/// A customer as access logs hold it: `-` stands for none.
///
/// A customer with the replacement character came from invalid UTF-8, most likely: different
/// ones would become the same, so the line is refused.
pub(super) fn customer<'a>(name: &str, text: &'a str) -> Read<&'a str> {
    if is_customer(text) {
        Ok(text)
    } else if matches!(text, "" | "-") {
        Err(format!("no customer: {name} is empty"))
    } else if text.len() > CUSTOMER_BYTES_MAX {
        Err(format!("{name} has more than {CUSTOMER_BYTES_MAX} bytes"))
    } else {
        Err(format!("{name} is not UTF-8"))
    }
}

/// Whether [`customer`] takes it. What says why not comes back through memory, where a reader of
/// each line would wait for it.
#[inline(always)]
pub(super) fn is_customer(text: &str) -> bool {
    !matches!(text, "" | "-")
        && text.len() <= CUSTOMER_BYTES_MAX
        && (short::is_ascii(text.as_bytes()) || !text.contains('\u{FFFD}'))
}

/// A status as access logs write it: three digits, or 0 (some write `000`) for nothing sent.
pub(super) fn status(text: &str) -> Read<u16> {
    match text {
        "-" | "" => Err("no status".to_owned()),
        "0" | "000" => Ok(0),
        _ => {
            let number = text.parse::<u16>().ok().filter(|_| text.len() == 3);
            number
                .filter(|status| (100..=599).contains(status))
                .ok_or_else(|| "the status is outside 100 to 599".to_owned())
        }
    }
}

/// Whether text can stand where a status stands.
pub(super) fn is_status(text: &str) -> bool {
    text == "-"
        || text == "0"
        || (text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A word of a line whose words with spaces stand in quotes.
#[derive(Clone, Copy)]
pub(super) struct Word<'a> {
    pub(super) text: &'a str,
    pub(super) is_quoted: bool,
}

/// Splits a line at spaces. A quoted word ends at the quote before a space or the end, so that
/// a quote that a client sent in the middle of a word does no harm.
pub(super) fn words(line: &str) -> impl Iterator<Item = Word<'_>> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let text = rest?;
        let (word, is_quoted, next) = match text.strip_prefix('"') {
            Some(text) => {
                let end = text.find("\" ").or_else(|| Some(text.strip_suffix('"')?.len()));
                let end = end.unwrap_or(text.len());
                (&text[..end], true, text.get(end + 1..).unwrap_or(""))
            }
            None => {
                let end = text.find(' ').unwrap_or(text.len());
                (&text[..end], false, &text[end..])
            }
        };
        rest = next.strip_prefix(' ');
        Some(Word { text: word, is_quoted })
    })
}

/// The first address of a list, without port and brackets.
///
/// ```text
/// 10.0.0.12:59292                 10.0.0.12
/// [fd00::1]:54321                 fd00::1
/// 192.168.1.100, 10.42.0.1        192.168.1.100
/// ```
pub(super) fn address(text: &str) -> &str {
    let first = text.split(',').next().unwrap_or("").trim();
    if let Some(rest) = first.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match first.split_once(':') {
        Some((address, port)) if !port.contains(':') => address,
        _ => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_first_without_its_port() {
        let check = |text, expected| assert_eq!(address(text), expected, "{text}");
        check("10.0.0.12:59292", "10.0.0.12");
        check("10.0.0.12", "10.0.0.12");
        check("[fd00:1234::1]:54321", "fd00:1234::1");
        check("[fd00:1234::1]", "fd00:1234::1");
        check("fd00:1234::1", "fd00:1234::1");
        check("192.168.1.100,10.0.0.50", "192.168.1.100");
        check("192.168.1.100, 10.0.0.50", "192.168.1.100");
        check("", "");
        check("-", "-");
    }

    #[test]
    fn words_with_spaces_stand_in_quotes() {
        let check = |line, expected: &[&str]| {
            let found: Vec<&str> = words(line).map(|word| word.text).collect();
            assert_eq!(found, expected, "{line}");
        };
        check("a b", &["a", "b"]);
        check(r#"a "b c" "" d"#, &["a", "b c", "", "d"]);
        check(r#""a "b" c""#, &[r#"a "b"#, r#"c""#]);
        check(r#""a "b"c d""#, &[r#"a "b"c d"#]);
        check(r#"a "b c"#, &["a", "b c"]);
        check("a  b", &["a", "", "b"]);
        check("", &[""]);
    }

    #[test]
    fn a_status_is_nought_or_three_digits_in_range() {
        for (text, expected) in [("000", 0), ("0", 0), ("100", 100), ("599", 599)] {
            assert_eq!(status(text), Ok(expected));
        }
        assert_eq!(status("-"), Err("no status".to_owned()));
        for text in ["099", "600", "20", "2000", "+20", "abc"] {
            assert!(status(text).is_err(), "{text}");
        }
    }
}
