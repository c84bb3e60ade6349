//! OpenSLO documents as a configuration: what `ninefold import openslo` prints.
//!
//! An OpenSLO document says what is promised and how a metrics system counts it; Ninefold counts
//! requests by itself. So targets, periods, services and latency thresholds are taken, queries
//! are not, and everything that is not taken is named. What would change its meaning (time
//! slices, for one) is left out rather than bent.
//!
//! Taken: kind `SLO` of `openslo/v1` and `openslo/v1alpha`, with its indicator inside or as a
//! document of kind `SLI`. Source: the OpenSLO specification, v1.

use serde_json::Value;

use super::Config;
use super::template::quoted;
use crate::slo::decimal::Decimal;
use crate::slo::period::{Period, ROLLING_DAYS_MAX};
use crate::slo::sli::FURTHER_SLIS_MAX;

/// A configuration made of OpenSLO documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The configuration, as TOML.
    pub toml: String,
    /// What of the documents is not in it, one sentence each, in their order.
    pub unsupported: Vec<String>,
}

/// Why nothing was imported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// The text is no YAML.
    #[error("no YAML: {0}")]
    Yaml(String),
    /// No objective of the documents can be used.
    #[error("nothing can be imported: {}", if .0.is_empty() { "there is no document of kind SLO".to_owned() } else { .0.join("\n") })]
    Nothing(Vec<String>),
    /// What it came to is no configuration.
    #[error("the documents come to no configuration: {0}")]
    Config(String),
}

/// Makes a configuration of all documents in `yaml`.
///
/// ```
/// let yaml = "
/// apiVersion: openslo/v1
/// kind: SLO
/// metadata: { name: checkout }
/// spec:
///   service: shop
///   indicator: { spec: { ratioMetric: { good: {}, total: {} } } }
///   timeWindow: [{ duration: 4w, isRolling: true }]
///   budgetingMethod: Occurrences
///   objectives: [{ target: 0.999 }]
/// ";
/// let imported = ninefold_engine::config::import_openslo(yaml).unwrap();
/// assert!(imported.toml.contains("period = \"28d\"\ntarget = 0.999\n"));
/// ```
///
/// # Errors
/// The text is no YAML, or nothing in it can be used.
pub fn import_openslo(yaml: &str) -> Result<Imported, ImportError> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(yaml).map_err(|error| ImportError::Yaml(error.to_string()))?;
    let mut import = Import { documents: &documents, ..Import::default() };
    for (index, document) in documents.iter().enumerate() {
        import.document(index, document);
    }
    if import.objectives.is_empty() {
        return Err(ImportError::Nothing(import.unsupported));
    }
    let toml = import.toml();
    match Config::parse(&toml, "the import") {
        Ok(_) => Ok(Imported { toml, unsupported: import.unsupported }),
        Err(problems) => Err(ImportError::Config(problems.to_string())),
    }
}

/// What sorts the events of an SLO.
#[derive(Clone, PartialEq)]
struct Sli {
    service: String,
    /// `None` = by status.
    threshold_ms: Option<String>,
}

struct Promise {
    name: String,
    about: String,
    sli: String,
    target: Decimal,
    period: Period,
}

#[derive(Default)]
struct Import<'a> {
    documents: &'a [Value],
    slis: Vec<(String, Sli)>,
    objectives: Vec<Promise>,
    unsupported: Vec<String>,
}

/// Why a part cannot be used.
type Refusal = String;

impl Import<'_> {
    fn document(&mut self, index: usize, document: &Value) {
        let kind = text(document, "/kind").unwrap_or_default();
        let name = text(document, "/metadata/name").unwrap_or_default();
        let who = match name {
            "" => format!("document {}", index + 1),
            name => format!("{kind} {name:?}"),
        };
        let version = text(document, "/apiVersion").unwrap_or_default();
        let note = match kind {
            _ if !["openslo/v1", "openslo/v1alpha"].contains(&version) => {
                format!("apiVersion {version:?} is unknown; takes openslo/v1 or openslo/v1alpha")
            }
            "SLO" if name.is_empty() => "metadata.name is missing".to_owned(),
            "SLO" => return self.slo(&who, name, document),
            // They have a meaning where an SLO names them alone.
            "Service" | "SLI" => return,
            kind => format!("kind {kind:?} is not imported"),
        };
        self.note(&who, note);
    }

    fn note(&mut self, who: &str, what: impl AsRef<str>) {
        self.unsupported.push(format!("{who}: {}", what.as_ref()));
    }

    fn slo(&mut self, who: &str, name: &str, document: &Value) {
        let before = self.objectives.len();
        if let Err(refusal) = self.try_slo(who, name, document) {
            self.note(who, refusal);
        } else if self.objectives.len() == before {
            self.note(who, "none of its objectives is imported");
        }
    }

    fn try_slo(&mut self, who: &str, name: &str, document: &Value) -> Result<(), Refusal> {
        let spec = &document["spec"];
        let service = text(spec, "/service").ok_or("spec.service is missing: not imported")?;
        let method = text(spec, "/budgetingMethod").unwrap_or("Occurrences");
        if method != "Occurrences" {
            return Err(format!(
                "spec.budgetingMethod {method}: objectives count requests, not slices of time \
                 (reports have the uptime by slices beside them): not imported"
            ));
        }
        let period = self.period(who, spec)?;
        let objectives = spec["objectives"].as_array().ok_or("spec.objectives is missing")?;
        self.ignored(who, "metadata", &document["metadata"], &["name", "displayName"]);
        let known = [
            "description",
            "service",
            "indicator",
            "indicatorRef",
            "timeWindow",
            "timeWindows",
            "budgetingMethod",
            "objectives",
        ];
        self.ignored(who, "spec", spec, &known);
        let title = text(document, "/metadata/displayName").or(text(spec, "/description"));
        for (index, objective) in objectives.iter().enumerate() {
            let place = format!("spec.objectives[{index}]");
            let (name, of_many) = match objectives.len() {
                1 => (name.to_owned(), None),
                _ => (format!("{name}-{}", index + 1), text(objective, "/displayName")),
            };
            let told: Vec<&str> = title.into_iter().chain(of_many).collect();
            let one = One { name, about: told.join(": "), service, period: &period };
            if let Err(refusal) = self.objective(who, &place, spec, objective, one) {
                self.note(who, format!("{place}{refusal}: not imported"));
            }
        }
        Ok(())
    }

    fn objective(
        &mut self,
        who: &str,
        place: &str,
        spec: &Value,
        objective: &Value,
        one: One<'_>,
    ) -> Result<(), Refusal> {
        let target = target(objective)?;
        let indicator = self.indicator(spec, objective)?;
        let is_ratio = ["ratioMetric", "ratioMetrics"]
            .iter()
            .any(|key| !indicator[*key].is_null() || !objective[*key].is_null());
        let threshold_ms = match is_ratio {
            true => None,
            false if indicator["thresholdMetric"].is_null() => {
                return Err(": neither ratioMetric nor thresholdMetric".to_owned());
            }
            false => Some(threshold_ms(objective)?),
        };
        if self.objectives.iter().any(|other| other.name == one.name) {
            return Err(format!(": the name {:?} is taken", one.name));
        }
        let sli = Sli { service: one.service.to_owned(), threshold_ms };
        let sli = self.sli(&one.name, &sli)?;
        self.note(
            who,
            match is_ratio {
                true => format!(
                    "{place}: queries are not imported; bad are the requests of the service with \
                 status 500 to 599, see `bad` of the SLI {sli:?}"
                ),
                false => format!(
                    "{place}: queries are not imported; good are the requests of the service that \
                 took at most the value, taken as milliseconds, see the SLI {sli:?}"
                ),
            },
        );
        let known = ["displayName", "target", "targetPercent", "op", "value"];
        let inside = ["ratioMetric", "ratioMetrics", "indicator", "indicatorRef"];
        self.ignored(who, place, objective, &[&known[..], &inside].concat());
        let One { name, about, period, .. } = one;
        self.objectives.push(Promise { name, about, sli, target, period: period.clone() });
        Ok(())
    }

    /// The indicator of an objective: its own, the SLO's, or the document that either names.
    fn indicator(&self, spec: &Value, objective: &Value) -> Result<Value, Refusal> {
        for holder in [objective, spec] {
            if let Some(name) = text(holder, "/indicatorRef") {
                let named = |document: &&Value| {
                    text(document, "/kind") == Some("SLI")
                        && text(document, "/metadata/name") == Some(name)
                };
                let found = self.documents.iter().find(named);
                let found = found.ok_or_else(|| format!(": no document is SLI {name:?}"))?;
                return Ok(found["spec"].clone());
            }
            let inside = &holder["indicator"];
            if !inside.is_null() {
                let spec = inside.get("spec").unwrap_or(inside);
                return Ok(spec.clone());
            }
        }
        Ok(Value::Null)
    }

    /// The name of the SLI that sorts so, made where there is none yet.
    fn sli(&mut self, objective: &str, sli: &Sli) -> Result<String, Refusal> {
        if let Some((name, _)) = self.slis.iter().find(|(_, other)| other == sli) {
            return Ok(name.clone());
        }
        if self.slis.len() == FURTHER_SLIS_MAX {
            return Err(format!(": takes more than {FURTHER_SLIS_MAX} SLIs"));
        }
        // The slash keeps it from the names of the two SLIs that are always there.
        let name = format!("{}/{objective}", sli.service);
        self.slis.push((name.clone(), sli.clone()));
        Ok(name)
    }

    fn period(&mut self, who: &str, spec: &Value) -> Result<Period, Refusal> {
        let windows = [&spec["timeWindow"], &spec["timeWindows"]];
        let window = windows.iter().find_map(|windows| windows.as_array()?.first());
        let window = window.ok_or("spec.timeWindow is missing: not imported")?;
        let (count, unit) = match text(window, "/duration") {
            Some(duration) => shorthand(duration),
            None => Some((window["count"].as_u64().unwrap_or(0), long_unit(window))),
        }
        .ok_or("spec.timeWindow: its duration cannot be read: not imported")?;
        let calendar = &window["calendar"];
        let zone = text(calendar, "/timeZone").unwrap_or("UTC");
        let is_calendar = window["isRolling"] == Value::Bool(false) || !calendar.is_null();
        let name = match (is_calendar, count, unit) {
            (true, 1, 'M') => "month".to_owned(),
            (true, 1, 'Q') | (true, 3, 'M') => "quarter".to_owned(),
            (false, days, 'd') => format!("{days}d"),
            (false, weeks, 'w') => format!("{}d", weeks.saturating_mul(7)),
            (false, hours, 'h') if hours % 24 == 0 => format!("{}d", hours / 24),
            _ => {
                return Err(format!(
                    "spec.timeWindow {count}{unit}: takes rolling days or weeks, up to \
                     {ROLLING_DAYS_MAX}d, or a calendar 1M or 1Q: not imported"
                ));
            }
        };
        let period = Period::parse(&name, zone);
        let period = period.map_err(|error| format!("spec.timeWindow: {error}: not imported"))?;
        let start = text(calendar, "/startTime").unwrap_or_default();
        let is_first = start.get(8..).is_none_or(|rest| {
            rest.starts_with("01") && rest[2..].chars().all(|c| !c.is_ascii_digit() || c == '0')
        });
        if is_calendar && !is_first {
            self.note(
                who,
                format!(
                    "spec.timeWindow.calendar.startTime {start:?}: periods begin with the {name}"
                ),
            );
        }
        Ok(period)
    }

    /// Names the keys of `object` that are not `known` and hold something.
    fn ignored(&mut self, who: &str, place: &str, object: &Value, known: &[&str]) {
        for (key, value) in object.as_object().into_iter().flatten() {
            if !known.contains(&&**key) && !value.is_null() {
                let why = match &**key {
                    "alertPolicies" => "alerts are those of the tiers: not imported",
                    _ => "not imported",
                };
                self.note(who, format!("{place}.{key}: {why}"));
            }
        }
    }

    fn toml(&self) -> String {
        let mut toml = "# Made from OpenSLO documents by `ninefold import openslo`.\n".to_owned();
        for (name, sli) in &self.slis {
            let (name, service) = (quoted(name), quoted(&sli.service));
            toml += &format!("\n[[sli]]\nname = {name}\nservices = [{service}]\n");
            toml += &match &sli.threshold_ms {
                Some(ms) => format!("kind = \"latency\"\nthreshold_ms = {ms}\n"),
                None => "bad = [\"500-599\"]\n".to_owned(),
            };
        }
        for Promise { name, about, sli, target, period } in &self.objectives {
            toml += &match about.replace(char::is_control, " ") {
                about if about.trim().is_empty() => "\n".to_owned(),
                about => format!("\n# {}\n", about.trim()),
            };
            toml += &format!("[[objective]]\nname = {}\nsli = {}\n", quoted(name), quoted(sli));
            toml += &format!("period = \"{period}\"\ntarget = {target}\n");
            if let Period::Month(zone) | Period::Quarter(zone) = period {
                toml += &format!("zone = {}\n", quoted(zone));
            }
        }
        toml
    }
}

/// What an objective takes from its SLO.
struct One<'a> {
    name: String,
    about: String,
    service: &'a str,
    period: &'a Period,
}

/// A text that is not empty.
fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
}

fn target(objective: &Value) -> Result<Decimal, Refusal> {
    let decimal = |key: &str| Decimal::parse(&objective[key].as_number()?.to_string()).ok();
    let percent = || decimal("targetPercent").map(|p| Decimal { scale: p.scale + 2, ..p });
    let found = decimal("target").or_else(percent).ok_or(".target is missing")?;
    // Written out and read again, so that a percentage has no digits too many.
    let target = Decimal::parse(&found.to_string()).ok().filter(|target| target.is_target());
    target.ok_or_else(|| format!(".target {found}: takes more than 0 and less than 1"))
}

fn threshold_ms(objective: &Value) -> Result<String, Refusal> {
    match text(objective, "/op") {
        Some("lt" | "lte") => {}
        op => return Err(format!(".op {:?}: takes lt or lte", op.unwrap_or_default())),
    }
    let value = objective["value"].as_number().ok_or(".value is missing")?.to_string();
    let takes = |_| format!(".value {value}: takes milliseconds");
    Ok(Decimal::parse(&value).map_err(takes)?.to_string())
}

/// `28d` as a count and its unit; in OpenSLO `m` is a minute, `M` a month.
fn shorthand(duration: &str) -> Option<(u64, char)> {
    let unit = duration.chars().next_back()?;
    let count = duration.strip_suffix(unit)?.parse().ok()?;
    "smhdwMQY".contains(unit).then_some((count, unit))
}

/// The unit of a window of `v1alpha`, as the shorthand has it.
fn long_unit(window: &Value) -> char {
    match text(window, "/unit").unwrap_or_default() {
        "Month" => 'M',
        // Minute would be taken for a month otherwise.
        "Minute" => 'm',
        "Quarter" => 'Q',
        "Year" => 'Y',
        other => other.chars().next().unwrap_or('?').to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One SLO with a part of it given by the test.
    fn slo(version: &str, name: &str, spec: &str) -> String {
        format!(
            "apiVersion: openslo/{version}\nkind: SLO\nmetadata: {{ name: {name} }}\n\
             spec: {{ service: shop, budgetingMethod: Occurrences, {spec} }}\n---\n"
        )
    }

    const RATIO: &str = "indicator: { spec: { ratioMetric: { good: {}, total: {} } } }";

    fn config(yaml: &str) -> (Config, Vec<String>) {
        let imported = import_openslo(yaml).unwrap();
        (Config::parse(&imported.toml, "import.toml").unwrap(), imported.unsupported)
    }

    #[test]
    fn targets_periods_and_thresholds_are_taken() {
        let yaml = [
            slo("v1", "a", &format!("{RATIO}, timeWindow: [{{ duration: 4w, isRolling: true }}], objectives: [{{ target: 0.999 }}]")),
            slo("v1", "b", &format!("{RATIO}, timeWindow: [{{ duration: 1Q, isRolling: false, calendar: {{ startTime: '2026-01-01 00:00:00', timeZone: Europe/Berlin }} }}], objectives: [{{ targetPercent: 99.95 }}]")),
            slo("v1", "c", "indicatorRef: fast, timeWindow: [{ duration: 30d, isRolling: true }], objectives: [{ op: lte, value: 250, target: 0.9 }, { op: lt, value: 1000.5, target: 0.99 }]"),
            slo("v1alpha", "d", "timeWindows: [{ count: 1, unit: Month, isRolling: false }], objectives: [{ target: 0.9, ratioMetrics: { good: {}, total: {} } }]"),
            "apiVersion: openslo/v1\nkind: SLI\nmetadata: { name: fast }\nspec: { thresholdMetric: {} }\n".to_owned(),
        ];
        let (config, _) = config(&yaml.concat());
        let told: Vec<String> = config
            .objectives
            .default
            .iter()
            .map(|o| format!("{} {} {} {}", o.name, o.sli, o.target, o.period))
            .collect();
        assert_eq!(
            told,
            [
                "a shop/a 0.999 28d",
                "b shop/a 0.9995 quarter",
                "c-1 shop/c-1 0.9 30d",
                "c-2 shop/c-2 0.99 30d",
                "d shop/a 0.9 month",
            ]
        );
        assert_eq!(config.objectives.default[1].period, Period::Quarter("Europe/Berlin".into()));
        assert_eq!(config.slis.further.len(), 3);
        assert!(config.slis.further.iter().all(|sli| sli.services == ["shop"]));
    }

    #[test]
    fn what_is_not_taken_is_named_and_the_rest_is_taken() {
        let window = "timeWindow: [{ duration: 30d, isRolling: true }]";
        let good = slo(
            "v1",
            "good",
            &format!(
                "{RATIO}, {window}, alertPolicies: [p], objectives: [{{ target: 0.9, timeSliceWindow: 1m }}]"
            ),
        );
        let refused = |spec: &str, why: &str| {
            let (_, unsupported) = config(&format!("{good}{}", slo("v1", "bad", spec)));
            let found =
                unsupported.iter().any(|one| one.starts_with("SLO \"bad\": ") && one.contains(why));
            assert!(found, "{why:?} is not in {unsupported:#?}");
        };
        refused(
            &format!("{RATIO}, {window}, objectives: [{{ target: 99.9 }}]"),
            "more than 0 and less than 1",
        );
        refused(
            &format!(
                "{RATIO}, timeWindow: [{{ duration: 1M, isRolling: true }}], objectives: [{{ target: 0.9 }}]"
            ),
            "spec.timeWindow 1M",
        );
        refused(
            &format!(
                "{RATIO}, timeWindow: [{{ duration: 1m, isRolling: false }}], objectives: [{{ target: 0.9 }}]"
            ),
            "spec.timeWindow 1m",
        );
        refused(
            &format!("indicatorRef: x, {window}, objectives: [{{ target: 0.9 }}]"),
            "no document is SLI \"x\"",
        );
        refused(
            &format!(
                "indicator: {{ spec: {{ thresholdMetric: {{}} }} }}, {window}, objectives: [{{ op: gt, value: 1, target: 0.9 }}]"
            ),
            "takes lt or lte",
        );
        refused(&format!("{RATIO}, {window}, objectives: []"), "none of its objectives");
        let (_, unsupported) = config(&format!(
            "{good}{good}apiVersion: v1\nkind: Pod\n---\napiVersion: openslo/v1\nkind: AlertPolicy\nmetadata: {{ name: p }}\n"
        ));
        for (at, what) in [
            "spec.alertPolicies: alerts are those of the tiers",
            "queries are not imported",
            "spec.objectives[0].timeSliceWindow: not imported",
        ]
        .into_iter()
        .enumerate()
        {
            assert!(unsupported[at].contains(what), "{what:?} is not in {unsupported:#?}");
        }
        assert!(unsupported.iter().any(|one| one.contains("the name \"good\" is taken")));
        assert_eq!(
            unsupported.last().unwrap(),
            "AlertPolicy \"p\": kind \"AlertPolicy\" is not imported"
        );
        assert!(unsupported.iter().any(|one| one.starts_with("document 3: apiVersion \"v1\"")));
    }

    #[test]
    fn nothing_usable_is_an_error() {
        assert!(matches!(import_openslo("a: [").unwrap_err(), ImportError::Yaml(_)));
        for nothing in ["", "kind: Pod\n", "- 1\n", "text"] {
            let error = import_openslo(nothing).unwrap_err();
            assert!(matches!(error, ImportError::Nothing(_)), "{nothing:?}: {error}");
        }
    }

    #[test]
    fn names_are_taken_as_they_are() {
        let name = "\"a\\\"b\\n[run]\"";
        let spec = format!(
            "{RATIO}, timeWindow: [{{ duration: 7d, isRolling: true }}], objectives: [{{ target: 0.9 }}]"
        );
        let (config, _) = config(&slo("v1", name, &spec));
        assert_eq!(config.objectives.default[0].name, "a\"b\n[run]");
    }
}
