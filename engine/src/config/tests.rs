//! Bad configurations and what is said of them, each a literal.

use proptest::prelude::*;

use super::*;
use crate::notify::outbox::Each;
use crate::slo::alert::SPECS;
use crate::slo::objective::{Period, SliKind};

/// Compares all messages of a bad configuration, line by line, without the file's name.
#[track_caller]
fn check(text: &str, expect: &[&str]) {
    let problems = Config::parse(text, "f").expect_err("this configuration is bad");
    let found: Vec<String> =
        problems.to_string().lines().map(|line| line.replacen("f:", "", 1)).collect();
    assert_eq!(found, expect, "{text}");
}

#[track_caller]
fn good(text: &str) -> Config {
    Config::parse(text, "f").unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

#[test]
fn several_problems_are_told_at_once_with_their_lines() {
    check(
        "[alerts]\n\
         min_bod = 3\n\
         min_valid = \"ten\"\n\
         \n\
         [[objective]]\n\
         name = \"api\"\n\
         target = 99.8\n\
         sli = \"availabilty\"\n\
         [report]\n\
         zone = \"Europe/Berlyn\"\n\
         [colour]\n",
        &[
            "2: alerts.min_bod is no key; did you mean min_bad?",
            "3: alerts.min_valid is a string; takes a whole number, 1 to 1000000",
            "7: objective \"api\": target 99.8 is a percentage; write 0.998",
            "8: objective \"api\": sli \"availabilty\" is unknown; did you mean availability?",
            "10: report.zone \"Europe/Berlyn\" is not in the time zone database of this machine; \
             takes an IANA zone such as \"UTC\" or \"Europe/Berlin\"",
            "11: colour is no key; takes table, report, sli, objective, tier, customer, \
             pool, maintenance, alerts, decode, dimensions, dedupe, memory, api, notify, route, silence, \
             metrics, remote_write, source, wal or run",
        ],
    );
}

#[test]
fn targets_outside_zero_to_one_are_refused() {
    let takes = "takes more than 0 and less than 1, such as 0.998";
    for (target, what) in [
        ("0", format!("0 is out of range; {takes}")),
        ("1", format!("1 leaves no budget; {takes}")),
        ("1.0", format!("1 leaves no budget; {takes}")),
        ("100", format!("100 is out of range; {takes}")),
        ("-0.5", format!("-0.5 is out of range; {takes}")),
        ("nan", format!("nan is out of range; {takes}")),
        ("99.95", "99.95 is a percentage; write 0.9995".to_owned()),
        ("99", "99 is a percentage; write 0.99".to_owned()),
        ("99.123456789", format!("99.123456789 is out of range; {takes}")),
        ("0.9999999999", format!("0.9999999999 has more than 9 digits after the point; {takes}")),
        ("true", format!("is a true or false; {takes}")),
    ] {
        let text = format!("[[objective]]\nname = \"a\"\ntarget = {target}");
        check(&text, &[&format!("3: objective \"a\": target {what}")]);
    }
}

#[test]
fn alert_tiers_that_could_not_work_are_refused() {
    let tiers = |tiers: &str| format!("[[objective]]\nname = \"a\"\ntarget = 0.9\ntiers = {tiers}");
    check(
        &tiers("{ page_1h = { factor = 14.4 } }"),
        &["4: objective \"a\": tiers.page_1h.factor 14.4 cannot be reached at target 0.9; \
           takes at most 1 / (1 - target)"],
    );
    check(
        &tiers("{ page_1h = { factor = 0.5 } }"),
        &["4: objective \"a\": tiers.page_1h.factor 0.5 would fire while the budget still lasts; \
           takes 1 or more, such as 14.4"],
    );
    check(
        &tiers("{ page_2h = { enabled = false } }"),
        &["4: objective \"a\": tiers.page_2h is no key; did you mean page_1h?"],
    );
    assert_eq!(good(&tiers("{ page_1h = { factor = 10 } }")).objectives.default[0].tiers.len(), 1);
}

#[test]
fn inherited_alert_tiers_have_to_fit_the_new_target() {
    let text = "[[objective]]\nname = \"a\"\ntiers = { page_1h = { factor = 20 } }\n\
                [[tier.loose.objective]]\nname = \"a\"\ntarget = 0.9\n";
    check(
        text,
        &["4: tier \"loose\" objective \"a\": tiers from further out do not fit: tier page_1h: \
           factor 20 needs an error ratio above 1 at target 0.9; takes tiers of its own"],
    );
    good(&text.replace("0.9\n", "0.95\n"));
}

#[test]
fn slis_are_checked_by_kind() {
    check(
        "[[sli]]\nname = \"availability\"\nservices = [\"a\"]\nkind = \"latency\"\n\
         [[sli]]\nkind = \"latency\"\nbad = [\"5xx\"]\n\
         [[sli]]\nname = \"x\"\nthreshold_ms = 0\n\
         [[sli]]\nname = \"x\"\nkind = \"latncy\"\nrouts = []\n",
        &[
            "1: sli \"availability\": threshold_ms is missing; takes 0.001 to 3600000",
            "3: sli \"availability\": services limits availability, which judges every event; \
             takes an SLI of another name",
            "4: sli \"availability\": kind of availability is latency; takes another name",
            "5: sli #2: name is missing; takes a unique name",
            "5: sli #2: threshold_ms is missing; takes 0.001 to 3600000",
            "7: sli #2: bad \"5xx\" is no status; takes statuses such as \"404\" or \"500-599\", \
             100 to 599",
            "7: sli #2: bad has no meaning here; belongs to kind = \"availability\"",
            "10: sli \"x\": threshold_ms 0 is out of range; takes 0.001 to 3600000, at most three \
             digits after the point",
            "10: sli \"x\": threshold_ms has no meaning here; belongs to kind = \"latency\"",
            "12: sli \"x\": name \"x\" is taken; names are unique",
            "13: sli \"x\": kind \"latncy\" is unknown; did you mean latency?",
            "14: sli \"x\": routs is no key; did you mean routes?",
        ],
    );
}

#[test]
fn the_slis_that_are_always_counted_cover_everything() {
    let config = good(
        "[[sli]]\nname = \"inbox\"\nkind = \"latency\"\nthreshold_ms = 0.25\nservices = [\"inbox\"]\n\
         [[sli]]\nname = \"fast\"\nkind = \"latency\"\nthreshold_ms = 300\n",
    );
    assert_eq!(config.slis.latency.name, "fast");
    assert_eq!(config.slis.latency.kind, SliKind::Latency { threshold_us: 300_000 });
    assert_eq!(config.slis.further[0].kind, SliKind::Latency { threshold_us: 250 });
    let limited =
        "[[sli]]\nname = \"latency\"\nkind = \"latency\"\nthreshold_ms = 1\nroutes = [\"*\"]";
    check(
        limited,
        &["1: sli gives the name of the default latency SLI to another one; takes another name"],
    );
}

#[test]
fn too_many_slis_are_refused() {
    let mut text = String::new();
    for index in 0..9 {
        text += &format!("[[sli]]\nname = \"s{index}\"\n");
    }
    check(
        &text,
        &[
            "18: sli \"s8\": name is one SLI too many; takes 8 beside the two that are always counted",
        ],
    );
}

#[test]
fn objectives_inherit_by_name_from_the_scope_around_them() {
    let config = good(
        "[[objective]]\nname = \"availability\"\ntarget = 0.99\nperiod = \"month\"\nzone = \"Asia/Tokyo\"\n\
         [tier.gold]\ncustomers = [\"globex\"]\n\
         [[tier.gold.objective]]\nname = \"availability\"\ntarget = 0.999\n\
         [customer.\"a.b\"]\ntier = \"gold\"\n\
         [[customer.\"a.b\".objective]]\nname = \"availability\"\nservice = \"inbox\"\nperiod = \"7d\"\n\
         [[customer.\"a.b\".objective]]\nname = \"latency\"\n",
    );
    let objectives = &config.objectives;
    let tokyo = Period::Month("Asia/Tokyo".to_owned());
    let nines = |units| Decimal { units, scale: 3 };
    assert_eq!(objectives.default[0].period, tokyo);
    let gold = &objectives.tiers["gold"][0];
    assert_eq!((gold.target, &gold.period), (nines(999), &tokyo));
    let inbox = &objectives.services[&("a.b".to_owned(), "inbox".to_owned())][0];
    assert_eq!((inbox.target, &inbox.period), (nines(999), &Period::RollingDays(7)));
    let latency = &objectives.customers["a.b"][0];
    assert_eq!((&*latency.sli, latency.target), ("latency", nines(998)));
    assert_eq!(objectives.tier_of["a.b"], "gold");
    assert_eq!(objectives.tier_of["globex"], "gold");
}

#[test]
fn tiers_and_customers_have_to_agree() {
    check(
        "[tier.gold]\ncustomers = [\"acme\"]\n\
         [tier.silver]\ncustomers = [\"acme\", \"\"]\n\
         [customer.acme]\ntier = \"silver\"\n\
         [customer.globex]\ntier = \"glod\"\n\
         [[customer.globex.objective]]\nname = \"a\"\n\
         [[customer.globex.objective]]\nname = \"a\"\n\
         [customer]\ninitech = 3\n",
        &[
            "4: tier \"silver\": customers holds something else than names; takes a list of \
             customer names",
            "6: customer \"acme\": tier \"silver\" contradicts tier \"gold\", which lists this \
             customer; takes one tier",
            "8: customer \"globex\": tier \"glod\" is unknown; did you mean gold?",
            "12: customer \"globex\" objective \"a\": name \"a\" is taken in this scope; names are \
             unique per scope",
            "14: customer \"initech\" is a whole number; takes a table",
        ],
    );
}

#[test]
fn sizes_durations_and_numbers_have_units_and_ranges() {
    check(
        "[dedupe]\nwindow_bytes = \"64MB\"\n\
         [run]\ncommit_interval = \"1h\"\nepoch_events_max = 10.5\nthreads = 0\n\
         [alerts]\nkeep_firing_for = 10\nconfidence = 1.5\n\
         [dimensions]\nattributes = [\"a\", \"b\", \"c\", \"d\", \"e\", \"a\", \"region\"]\nvalues_max = -1\n",
        &[
            "2: dedupe.window_bytes \"64MB\" cannot be read; takes a size such as \"64MiB\", \
             0B to 64GiB",
            "4: run.commit_interval \"1h\" is out of range; takes 100ms to 10m",
            "5: run.epoch_events_max is a decimal number; takes a whole number, 1000 to 100000000",
            "6: run.threads 0 is out of range; takes 1 to 1024",
            "8: alerts.keep_firing_for is a whole number; takes a duration such as \"10s\", \
             0s to 1d",
            "9: alerts.confidence 1.5 is out of range; takes 0.5 or more and less than 1, such as \
             0.999",
            "11: dimensions.attributes \"a\" stands twice; names are unique",
            "11: dimensions.attributes \"region\" is a field of every event; takes further fields",
            "11: dimensions.attributes holds 5 names; takes at most 4",
            "12: dimensions.values_max -1 is out of range; takes 1 to 100000",
        ],
    );
}

#[test]
fn an_alert_is_kept_firing_for_whole_minutes() {
    check(
        "[alerts]\nkeep_firing_for = \"90s\"",
        &["2: alerts.keep_firing_for \"90s\" is no whole number of minutes; takes minutes, such \
           as \"5m\""],
    );
    assert_eq!(good("[alerts]\nkeep_firing_for = \"120s\"").alerts.keep_firing_for_minutes, 2);
}

#[test]
fn sources_name_their_files_and_formats() {
    check(
        "[[source.file]]\nfollow = \"yes\"\n\
         [[source.file]]\npaths = []\nformat = \"caddi\"\n\
         [[source.file]]\npaths = [1]\n\
         [source]\nkafka = 1\nstdin = true\n",
        &[
            "1: source.file #1: paths is missing; takes a list of paths or globs",
            "2: source.file #1: follow is a string; takes true or false",
            "4: source.file #2: paths is empty; takes a list of paths or globs",
            "5: source.file #2: format \"caddi\" is unknown; did you mean caddy?",
            "7: source.file #3: paths holds something else than names; takes a list of paths or \
             globs",
            "9: source.kafka is a whole number; takes a table",
            "10: source.stdin is a true or false; takes a table",
        ],
    );
    let config =
        good("[source.stdin]\n[[source.file]]\npaths = [\"*.log\"]\nformat = \"combined\"");
    assert_eq!(config.sources.stdin, Some(StdinSource::default()));
    assert!(config.sources.files[0].follow);
}

#[test]
fn an_open_address_is_refused_with_the_reason() {
    check(
        "[api]\nlisten = \"0.0.0.0:8089\"",
        &["2: api.listen 0.0.0.0:8089 is open to others, who would need no token; listen on a \
           loopback address, with a proxy before it, or configure [[api.token]]"],
    );
    check(
        "[api]\nlisten = \"localhost\"",
        &["2: api.listen \"localhost\" is no address; takes an address and port such as \
           \"127.0.0.1:8089\""],
    );
    assert_eq!(good("[api]\nlisten = \"[::1]:80\"").listen.port(), 80);
    let token = |role: &str, more: &str| {
        let hash = "ab".repeat(32);
        format!("[[api.token]]\nname = \"t\"\nrole = \"{role}\"\nsha256 = \"{hash}\"\n{more}")
    };
    let open = "[api]\nlisten = \"0.0.0.0:80\"\n";
    check(
        &format!("{open}{}", token("read", "")),
        &["2: api.listen 0.0.0.0:80 is open to others, and tokens would be sent there in the \
           clear; give [api] tls_certificate and tls_key, or set insecure behind a proxy that \
           speaks TLS"],
    );
    let tls = "tls_certificate = \"a.crt\"\ntls_key = \"a.key\"\n";
    let config = good(&format!("{open}{tls}{}", token("read", "")));
    let files = TlsFiles { certificate: "a.crt".into(), key: "a.key".into() };
    assert_eq!((config.listen.port(), config.access.tls), (80, Some(files)));
    check(
        &format!("{open}{tls}"),
        &["2: api.listen 0.0.0.0:80 is open to others, who would need no token; listen on a \
           loopback address, with a proxy before it, or configure [[api.token]]"],
    );
    check(
        "[api]\ntls_key = \"a.key\"\nheader_timeout = \"1ms\"\nconnections_max = 1\n",
        &[
            "1: api.tls_certificate is missing; takes a path where tls_key is given",
            "3: api.header_timeout \"1ms\" is out of range; takes 100ms to 5m",
            "4: api.connections_max 1 is out of range; takes 16 to 100000",
        ],
    );
    let limits = "requests_per_second = 5\nbytes_per_second = \"1MiB\"";
    let limited = &good(&token("ingest", limits)).access.tokens[0];
    let limits = (limited.requests_per_second, limited.bytes_per_second);
    assert_eq!(limits, (Some(5), Some(1 << 20)));
    let config = good(&format!("{open}insecure = true\n{}", token("customer:a:b", "")));
    assert_eq!(config.access.tokens[0].role, Role::Customer("a:b".to_owned()));
    assert_eq!(config.access.tokens[0].sha256, [0xab; 32]);
    let config = good(&token("ingest", "expires = \"1970-01-01T00:00:01Z\""));
    assert_eq!(config.access.tokens[0].expires_ms, Some(1_000));
    check(
        &token("root", "expires = \"soon\""),
        &[
            "3: api.token \"t\": role \"root\" is no role; takes admin, read, ingest or customer:ID",
            "5: api.token \"t\": expires \"soon\" is no time; takes an RFC 3339 time such as \
             2027-01-01T00:00:00Z",
        ],
    );
    check(
        &(token("read", "") + &token("admin", "")),
        &["6: api.token \"t\": name \"t\" stands twice; names are unique"],
    );
    check(
        "[wal]\nuncommitted_bytes_max = \"32MiB\"",
        &[
            "2: wal.uncommitted_bytes_max is less than twice what one body may hold; takes more, or \
           a smaller decoded_bytes_max under [source.http]",
        ],
    );
}

#[test]
fn credits_rise_as_availability_falls() {
    let step = |below: &str, percent: &str| {
        format!("[[report.credits]]\nbelow = {below}\npercent = {percent}\n")
    };
    check(
        &(step("0.99", "10") + &step("0.999", "10")),
        &[
            "5: report.credits #2: below is not under the step before it; takes falling ratios",
            "6: report.credits #2: percent is not over the step before it; takes rising credits",
        ],
    );
    check(
        &step("99.9", "101"),
        &[
            "2: report.credits #1: below 99.9 is out of range; takes more than 0 and less than 1, \
             such as 0.999",
            "3: report.credits #1: percent 101 is out of range; takes more than 0, at most 100",
        ],
    );
    assert_eq!(good(&(step("0.999", "10") + &step("0.99", "25.5"))).credits.len(), 2);
}

#[test]
fn broken_toml_is_told_with_its_lines_and_without_follow_ups() {
    let problems = Config::parse("[alerts\nmin_bad = 0\n[run]\nthreads = = 1\n", "f").unwrap_err();
    let lines: Vec<usize> = problems.list().iter().map(|problem| problem.line).collect();
    assert!(lines.contains(&1) && lines.contains(&4), "{problems}");
    let text = "[run]\nthreads = 1\nthreads = 2\n";
    check(text, &["3: threads stands twice; takes one value"]);
    let problems = Config::parse("[[sli]]\nname \"x\"\n", "f").unwrap_err();
    assert!(!problems.to_string().contains("missing"), "{problems}");
}

#[test]
fn an_empty_text_and_the_template_are_the_default() {
    assert_eq!(good(""), Config::default());
    assert_eq!(good(&template(None)), Config::default());
}

/// The template with every setting switched on.
fn uncommented() -> String {
    let bare = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => rest.to_owned(),
        _ => line.to_owned(),
    };
    template(None).lines().map(bare).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_setting_of_the_template_is_taken_and_shows_its_default() {
    let (on, default) = (good(&uncommented()), Config::default());
    assert_eq!(on.alerts, default.alerts);
    assert_eq!(on.slis.availability, default.slis.availability);
    assert_eq!(on.slis.latency, default.slis.latency);
    assert_eq!(on.objectives.default[0].target, default.objectives.default[0].target);
    assert_eq!((on.listen, on.report_zone), (default.listen, default.report_zone));
    assert_eq!(on.commit_interval_ms, default.commit_interval_ms);
    assert_eq!(on.epoch_events_max, default.epoch_events_max);
    assert_eq!(on.dimension_values_max, default.dimension_values_max);
    assert_eq!(on.dedupe_window_bytes, default.dedupe_window_bytes);
    assert_eq!(on.reserve_bytes, default.reserve_bytes);
    assert_eq!(on.dedupe_window_records, default.dedupe_window_records);
    assert_eq!((on.wal, on.sources.http), (default.wal, Some(HttpSource::default())));
    assert!(!on.access.insecure);
    assert_eq!(on.header_timeout_ms, default.header_timeout_ms);
    assert_eq!(on.connections_max, default.connections_max);
}

/// Every `(table, key)` that the reader knows, from a text that holds each table once.
fn all_keys() -> Vec<(String, &'static str)> {
    let text = uncommented();
    let (document, errors) = toml::de::DeTable::parse_recoverable(&text);
    let reader = Reader::new(&text, &errors);
    read(&reader.root(document.get_ref()));
    reader.asked().into_iter().collect()
}

#[test]
fn the_template_shows_every_key() {
    let text = uncommented();
    for (table, key) in all_keys().into_iter().filter(|(table, _)| !table.is_empty()) {
        let shown = text.lines().any(|line| {
            let named = line.contains(&format!("{key} = "));
            named || (line.starts_with('[') && line.contains(&format!(".{key}]")))
        });
        let is_tier = SPECS.iter().any(|spec| spec.name == key);
        assert!(shown || is_tier, "{key} of {table} is not in the template");
    }
}

#[test]
fn the_documentation_names_every_key() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let text = std::fs::read_to_string(page).unwrap();
    let tables = [
        "file",
        "stdin",
        "http",
        "kafka",
        "token",
        "fields",
        "credits",
        "objective",
        "tiers",
        "notify",
        "route",
        "silence",
        "maintenance",
    ];
    for (table, key) in all_keys() {
        if table.is_empty() || tables.contains(&key) {
            continue;
        }
        let heading = heading(&table);
        let section = text.split("\n## ").find(|section| section.starts_with(&heading));
        let section = section.unwrap_or_else(|| panic!("{page} has no section {heading}"));
        assert!(section.contains(&format!("\n| `{key}` |")), "{heading} of {page} lacks {key}");
    }
}

/// The heading of a table of the schema in the documentation.
fn heading(table: &str) -> String {
    match table {
        _ if table.contains(".tiers") => "`[[objective]]` alert tiers".to_owned(),
        _ if table.ends_with("objective[]") => "`[[objective]]`".to_owned(),
        "notify[].secret" => "`[[notify]]`".to_owned(),
        "tier.*" => "`[tier.NAME]`".to_owned(),
        "customer.*" => "`[customer.\"NAME\"]`".to_owned(),
        _ => match table.strip_suffix("[]") {
            Some(name) => format!("`[[{name}]]`"),
            None => format!("`[{table}]`"),
        },
    }
}

#[test]
fn a_message_template_is_tried_on_what_its_receiver_is_told_of() {
    let text = |each: &str| {
        let head = "[[notify]]\nname = \"a\"\nkind = \"command\"\ncommand = [\"x\"]\n";
        let template = r#"template = '{"release": {{ verdict.value }}}'"#;
        format!("{head}each = \"{each}\"\n{template}\n")
    };
    assert_eq!(good(&text("verdict")).receivers[0].each, Each::Verdict);
    let problems = Config::parse(&text("alert"), "f").expect_err("an alert is no verdict");
    assert!(problems.to_string().contains("template cannot be used"), "{problems}");
    let route =
        "[[route]]\nreceivers = []\ntiers = [\"verdict\", \"incident\"]\n[[route]]\nreceivers = []";
    assert_eq!(good(route).routes.list[0].matcher.tiers, ["verdict", "incident"]);
}

#[test]
fn a_sample_fills_in_the_template_whatever_it_is_called() {
    let sample = Sample {
        path: "C:\\logs\\a \"b\"\n.log".to_owned(),
        format: "combined".to_owned(),
        customer_field: Some("user".to_owned()),
        services: vec!["shop".to_owned(), "evil\n[run]".to_owned()],
    };
    let text = template(Some(sample.clone()));
    let config = good(&text);
    assert_eq!(config.sources.files[0].paths[0], sample.path);
    assert_eq!(config.sources.files[0].format, Some(Format::Combined));
    assert_eq!(config.decode.customer_field.as_deref(), Some("user"));
    let native = Sample { format: "ndjson".to_owned(), ..sample };
    assert_eq!(good(&template(Some(native))).decode.fields.customer, "user");
}

#[test]
fn the_report_names_factors_thresholds_and_what_is_left_out() {
    let config = good(
        "[[objective]]\nname = \"week\"\nperiod = \"7d\"\ntarget = 0.95\n\
         tiers = { page_6h = { enabled = false }, ticket_1d = { factor = 2.5, min_bad = 9 } }",
    );
    assert_eq!(
        check_report(&config),
        [
            "objective \"week\" of everyone: 0.95 of availability over 7d",
            "  rollout_5m  left out: burn rate 50 is above 1 / (1 - target), out of reach",
            "  page_1h     1h and 5m   burn rate 3.36   error ratio 0.168",
            "  page_6h     switched off",
            "  ticket_1d   1d and 2h   burn rate 2.5    error ratio 0.125   min_bad 9",
            "  ticket_3d   left out: burn rate 0.233333 would fire while the budget still lasts",
        ],
    );
    let thresholds: Vec<String> = check_report(&Config::default())[1..]
        .iter()
        .map(|line| line.rsplit_once(' ').unwrap().1.to_owned())
        .collect();
    assert_eq!(thresholds, ["0.1", "0.0288", "0.012", "0.006", "0.002"]);
}

/// Each problem of a large file is found with its line, and not by reading it again each time.
#[test]
fn a_configuration_of_many_customers_is_read_once() {
    let mut text = "[tier.gold]\n".to_owned();
    for number in 0..50_000 {
        text += &format!("[customer.\"c{number}\"]\ntier = \"gold\"\n");
    }
    assert_eq!(good(&text).objectives.tier_of.len(), 50_000);
    check(
        &(text + "teir = 1\n"),
        &["100002: customer \"c49999\": teir is no key; did you mean tier?"],
    );
}

/// A file with an `.expected` beside it is bad in just that way, any other is good. With
/// `UPDATE_GOLDEN=1` in the environment the expectations are written anew, to be reviewed.
#[test]
fn files_of_bad_configurations_are_refused_and_good_ones_taken() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/config");
    let (mut good_files, mut bad_files) = (0, 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let expected = path.with_extension("expected");
        if path == expected {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        if !expected.exists() {
            good(&text);
            good_files += 1;
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        let found = format!("{}\n", Config::parse(&text, name).unwrap_err());
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&expected, &found).unwrap();
        }
        assert_eq!(found, std::fs::read_to_string(&expected).unwrap(), "{name}");
        bad_files += 1;
    }
    assert!(good_files >= 2 && bad_files >= 2, "{good_files} good and {bad_files} bad");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_text_panics(text in "\\PC*") {
        let _ = Config::parse(&text, "f");
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Config::parse(&String::from_utf8_lossy(&bytes), "f");
    }

    /// Texts near to TOML reach further than random ones: pieces of the full template, mixed.
    #[test]
    fn no_shuffled_configuration_panics(
        picks in proptest::collection::vec((0..200_usize, 0..60_usize), 0..40),
    ) {
        let text = uncommented();
        let lines: Vec<&str> = text.lines().collect();
        let mut mixed = String::new();
        for (line, cut) in picks {
            let line = lines[line % lines.len()];
            let end = (0..=cut.min(line.len())).rev().find(|at| line.is_char_boundary(*at));
            mixed.push_str(if cut % 3 == 0 { &line[..end.unwrap_or(0)] } else { line });
            mixed.push('\n');
        }
        let _ = Config::parse(&mixed, "f");
    }
}

#[test]
fn kafka_names_its_topics_and_keeps_secrets_and_guarantees_out() {
    let kafka = |more: &str| format!("[source.kafka]\nbrokers = [\"a:1\"]\n{more}");
    check(
        &kafka(
            "topics = []\nstart = \"yesterday\"\nholes = \"ignore\"\ngroup = \"\"\n\
             options = { \"auto.offset.reset\" = \"latest\", \"sasl.password\" = \"x\", a = [] }",
        ),
        &[
            "3: source.kafka.topics is empty; takes a list of names of topics",
            "4: source.kafka.start \"yesterday\" is no time; takes \"earliest\", \"latest\" or a \
             time such as \"2026-11-01T00:00:00Z\"",
            "5: source.kafka.holes \"ignore\" is unknown; takes verify, refuse or accept",
            "6: source.kafka.group is empty; takes a name",
            "7: source.kafka.options \"a\" is a list; takes a table of texts, numbers, true or \
             false, { env = … } or { file = … }",
            "7: source.kafka.options \"auto.offset.reset\" is set by Ninefold; takes settings on \
             which exactness does not rest",
            "7: source.kafka.options \"sasl.password\" is a secret in plain sight; takes { env = \
             \"NAME\" } or { file = \"path\" } for a secret",
        ],
    );
    check(&kafka(""), &["1: source.kafka.topics is missing; takes a list of names of topics"]);
    check(
        &kafka("topics = [\"t\"]\ndead_letters_topic = \"t\"\nalerts_topic = \"\"\n"),
        &[
            "4: source.kafka.dead_letters_topic \"t\" is counted as well; takes a topic that is \
             not among topics",
            "5: source.kafka.alerts_topic is empty; takes the name of a topic",
        ],
    );
    let text = kafka(
        "topics = [\"t\"]\nstart = \"2026-11-01T00:00:00Z\"\nflood = \"count\"\n\
         alerts_topic = \"alerts\"\n\
         [source.kafka.options]\n\"session.timeout.ms\" = 6000\n\
         \"sasl.password\" = { env = \"PASSWORD\" }\n",
    );
    let kafka = good(&text).sources.kafka.unwrap();
    assert_eq!(kafka.start, KafkaStart::At(1_793_491_200_000));
    assert!(!kafka.pause_on_flood);
    assert_eq!(kafka.alerts_topic.as_deref(), Some("alerts"));
    assert_eq!(kafka.dead_letters_topic, None);
    assert_eq!(kafka.options["session.timeout.ms"], KafkaOption::Value("6000".to_owned()));
    assert_eq!(
        kafka.options["sasl.password"],
        KafkaOption::Secret(SecretFrom::Env("PASSWORD".to_owned()))
    );
}
