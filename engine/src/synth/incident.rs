//! One incident of synthetic data: whom it hits, when, and how badly.
//!
//! Its text form is what `ninefold generate --incident` takes, `key=value` joined by commas:
//! `release=r42,cohort=canary,service=checkout,from=12:00,minutes=20,rate=0.2,latency=2.5`.

use std::fmt;
use std::str::FromStr;

use crate::time::{parse_rfc3339, rfc3339};

/// When an incident begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// This long after the start of the data, in milliseconds.
    AfterMs(i64),
    /// At this epoch time in milliseconds.
    AtMs(i64),
}

/// One incident: while it lasts, the requests that match every value named fail more often
/// and are slower.
///
/// ```
/// use ninefold_engine::synth::Incident;
/// let incident: Incident = "cohort=canary,from=90,minutes=20,rate=0.2".parse().unwrap();
/// assert_eq!(incident.cohort.as_deref(), Some("canary"));
/// assert_eq!(incident.to_string(), "cohort=canary,from=90,minutes=20,rate=0.2");
/// assert_eq!(
///     "cohort=canary,rate=2".parse::<Incident>().unwrap_err().to_string(),
///     "incident: rate=2: give a ratio from 0 to 1"
/// );
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// The release that is rolled out for the incident and rolled back after it.
    pub release: Option<String>,
    /// Only requests of this cohort.
    pub cohort: Option<String>,
    /// Only requests served in this region.
    pub region: Option<String>,
    /// Only requests to this route.
    pub route: Option<String>,
    /// Only requests served by this service.
    pub service: Option<String>,
    /// Only requests of this customer.
    pub customer: Option<String>,
    /// Its beginning, by event time.
    pub from: Begin,
    /// Its length in minutes.
    pub minutes: f64,
    /// The share of the requests hit that fail on its account.
    pub rate: f64,
    /// Factor on the latency of the requests hit; 1 unless set.
    pub latency: f64,
    /// The share of the matching requests that `release` serves; 1 unless set.
    pub share: f64,
    /// The share of all other requests that `release` serves, without harm; 0 unless set. With
    /// `share` below 1 neither the release nor the cohort is to blame alone: only the pair is.
    pub elsewhere: f64,
}

impl Default for Incident {
    /// Everyone, for 20 minutes from the start of the data, at a rate of 0.05.
    fn default() -> Incident {
        Incident {
            release: None,
            cohort: None,
            region: None,
            route: None,
            service: None,
            customer: None,
            from: Begin::AfterMs(0),
            minutes: 20.0,
            rate: 0.05,
            latency: 1.0,
            share: 1.0,
            elsewhere: 0.0,
        }
    }
}

/// Why a text is no incident.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IncidentError {
    /// A part without `=`.
    #[error("incident: {part:?} is no key=value pair; write such as rate=0.2")]
    NoPair {
        /// The part as written.
        part: String,
    },
    /// A key that no incident has.
    #[error(
        "incident: unknown key {key:?}; it takes release, cohort, region, route, service, \
         customer, from, minutes, rate, latency, share, elsewhere"
    )]
    UnknownKey {
        /// The key as written.
        key: String,
    },
    /// A key that was given before.
    #[error("incident: {key} is given twice; give it once")]
    Twice {
        /// The key.
        key: String,
    },
    /// A value that its key does not take.
    #[error("incident: {key}={value}: give {takes}")]
    Value {
        /// The key.
        key: &'static str,
        /// The value as written.
        value: String,
        /// What the key takes.
        takes: &'static str,
    },
    /// `share` or `elsewhere` without a release to deploy.
    #[error("incident: {key} says where a release runs; give release as well")]
    NoRelease {
        /// The key.
        key: &'static str,
    },
}

impl FromStr for Incident {
    type Err = IncidentError;

    fn from_str(text: &str) -> Result<Incident, IncidentError> {
        let mut incident = Incident::default();
        let mut seen: Vec<&str> = Vec::new();
        for part in text.split(',') {
            let no_pair = || IncidentError::NoPair { part: part.into() };
            let (key, value) = part.split_once('=').ok_or_else(no_pair)?;
            let (key, value) = (key.trim(), value.trim());
            if seen.contains(&key) {
                return Err(IncidentError::Twice { key: key.into() });
            }
            seen.push(key);
            incident.set(key, value)?;
        }
        for key in ["share", "elsewhere"] {
            if incident.release.is_none() && seen.contains(&key) {
                return Err(IncidentError::NoRelease { key });
            }
        }
        Ok(incident)
    }
}

impl Incident {
    /// Takes one pair of the text form.
    fn set(&mut self, key: &str, value: &str) -> Result<(), IncidentError> {
        const RATIO: &str = "a ratio from 0 to 1";
        match key {
            "release" => self.release = Some(name("release", value)?),
            "cohort" => self.cohort = Some(name("cohort", value)?),
            "region" => self.region = Some(name("region", value)?),
            "route" => self.route = Some(name("route", value)?),
            "service" => self.service = Some(name("service", value)?),
            "customer" => self.customer = Some(name("customer", value)?),
            "from" => self.from = from(value)?,
            "minutes" => {
                let takes = "a length in minutes above 0, at most 10,000,000";
                self.minutes = number("minutes", value, takes, |x| x > 0.0 && x <= 1e7)?;
            }
            "rate" => self.rate = number("rate", value, RATIO, is_ratio)?,
            "latency" => {
                let takes = "a factor from 0.01 to 1000";
                self.latency = number("latency", value, takes, |x| (0.01..=1e3).contains(&x))?;
            }
            "share" => self.share = number("share", value, RATIO, is_ratio)?,
            "elsewhere" => self.elsewhere = number("elsewhere", value, RATIO, is_ratio)?,
            _ => return Err(IncidentError::UnknownKey { key: key.into() }),
        }
        Ok(())
    }

    /// Its first millisecond and the one after its last, for data that starts at `start_ms`.
    pub fn span_ms(&self, start_ms: i64) -> (i64, i64) {
        let first = match self.from {
            Begin::AfterMs(after_ms) => start_ms + after_ms,
            Begin::AtMs(at_ms) => at_ms,
        };
        (first, first + (self.minutes * 60_000.0) as i64)
    }
}

fn is_ratio(x: f64) -> bool {
    (0.0..=1.0).contains(&x)
}

fn name(key: &'static str, value: &str) -> Result<String, IncidentError> {
    if value.is_empty() {
        return Err(IncidentError::Value { key, value: value.into(), takes: "a name" });
    }
    Ok(value.into())
}

fn number(
    key: &'static str,
    value: &str,
    takes: &'static str,
    is_taken: impl Fn(f64) -> bool,
) -> Result<f64, IncidentError> {
    let refused = || IncidentError::Value { key, value: value.into(), takes };
    value.parse().ok().filter(|x| is_taken(*x)).ok_or_else(refused)
}

/// `90` (minutes after the start), `12:30` (hours and minutes after it), or RFC 3339.
fn from(value: &str) -> Result<Begin, IncidentError> {
    const MINUTES_MAX: f64 = 1e7;
    let takes = "minutes after the start (90), hours:minutes after it (12:30), or an RFC 3339 time";
    let refused = || IncidentError::Value { key: "from", value: value.into(), takes };
    if let Ok(minutes) = value.parse::<f64>() {
        let is_taken = (0.0..=MINUTES_MAX).contains(&minutes);
        let begin = Begin::AfterMs((minutes * 60_000.0) as i64);
        return is_taken.then_some(begin).ok_or_else(refused);
    }
    if let Some(at_ms) = parse_rfc3339(value.as_bytes()) {
        return Ok(Begin::AtMs(at_ms));
    }
    let (hours, minutes) = value.split_once(':').ok_or_else(refused)?;
    let hours: u16 = hours.parse().map_err(|_| refused())?;
    let minutes: u16 = minutes.parse().map_err(|_| refused())?;
    if minutes > 59 {
        return Err(refused());
    }
    Ok(Begin::AfterMs((i64::from(hours) * 60 + i64::from(minutes)) * 60_000))
}

impl fmt::Display for Begin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Begin::AfterMs(after_ms) => write!(f, "{}", *after_ms as f64 / 60_000.0),
            Begin::AtMs(at_ms) => f.write_str(&rfc3339(*at_ms)),
        }
    }
}

impl fmt::Display for Incident {
    /// Writes the text form, which parses into the same incident.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            ("release", &self.release),
            ("cohort", &self.cohort),
            ("region", &self.region),
            ("route", &self.route),
            ("service", &self.service),
            ("customer", &self.customer),
        ];
        for (key, value) in names {
            if let Some(value) = value {
                write!(f, "{key}={value},")?;
            }
        }
        write!(f, "from={},minutes={},rate={}", self.from, self.minutes, self.rate)?;
        if self.latency != 1.0 {
            write!(f, ",latency={}", self.latency)?;
        }
        if self.release.is_some() && (self.share, self.elsewhere) != (1.0, 0.0) {
            write!(f, ",share={},elsewhere={}", self.share, self.elsewhere)?;
        }
        Ok(())
    }
}

impl serde::Serialize for Incident {
    /// As its text form, so that a truth file can be pasted into a command line.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_names_whom_it_hits_and_how() {
        let text = "release=r42,cohort=canary,service=checkout,from=12:00,minutes=20,rate=0.2,\
                    latency=2.5";
        let expected = Incident {
            release: Some("r42".into()),
            cohort: Some("canary".into()),
            service: Some("checkout".into()),
            from: Begin::AfterMs(12 * 3_600_000),
            minutes: 20.0,
            rate: 0.2,
            latency: 2.5,
            ..Incident::default()
        };
        assert_eq!(text.parse(), Ok(expected));
    }

    #[test]
    fn what_is_written_reads_back() {
        for text in [
            "from=0,minutes=20,rate=0.05",
            "release=r42,cohort=canary,from=90.5,minutes=5,rate=1,share=0.5,elsewhere=0.5",
            "region=eu-west-1,from=2025-12-01T12:00:00Z,minutes=20,rate=0.2,latency=3",
            "route=GET /v1/orders/{id},customer=cust_0000001,from=1,minutes=1,rate=0",
        ] {
            let incident: Incident = text.parse().expect(text);
            assert_eq!(incident.to_string(), text);
        }
    }

    #[test]
    fn a_wrong_text_is_told_its_key_and_what_that_takes() {
        for (text, expected) in [
            ("", "incident: \"\" is no key=value pair; write such as rate=0.2"),
            ("rate", "incident: \"rate\" is no key=value pair; write such as rate=0.2"),
            ("rate=20%", "incident: rate=20%: give a ratio from 0 to 1"),
            ("rate=NaN", "incident: rate=NaN: give a ratio from 0 to 1"),
            (
                "minutes=0",
                "incident: minutes=0: give a length in minutes above 0, at most 10,000,000",
            ),
            ("latency=-1", "incident: latency=-1: give a factor from 0.01 to 1000"),
            ("cohort=", "incident: cohort=: give a name"),
            ("rate=0.1,rate=0.2", "incident: rate is given twice; give it once"),
            ("share=0.5", "incident: share says where a release runs; give release as well"),
            (
                "from=noon",
                "incident: from=noon: give minutes after the start (90), hours:minutes after it \
                 (12:30), or an RFC 3339 time",
            ),
        ] {
            assert_eq!(text.parse::<Incident>().unwrap_err().to_string(), expected);
        }
        let unknown = "releese=r42".parse::<Incident>().unwrap_err();
        assert_eq!(unknown, IncidentError::UnknownKey { key: "releese".into() });
    }
}
