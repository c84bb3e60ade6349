//! What people decide: silences, and exclusions of the past. Each is a commit of its own beside
//! whatever is being counted; a running service finds it in the log within a second.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;

use ninefold_api::Silencing;
use ninefold_engine::model::Counts;
use ninefold_engine::notify::matcher::Matcher;
use ninefold_engine::notify::silence::Silence;
use ninefold_engine::pipeline::decision::{self, stored_silences};
use ninefold_engine::query::AskError;
use ninefold_engine::report::text::{Side, aligned, printable};
use ninefold_engine::table::correction::Correction;
use ninefold_engine::table::{Filter, Table};
use ninefold_engine::time::{Minute, rfc3339};

use crate::live::clock_ms;
use crate::states::{lock, open_table};
use crate::{Place, Usage, batch, show};

/// Who is told when the silences have changed.
pub type Told = Box<dyn Fn(&[Silence]) + Send + Sync>;

/// Makes and ends silences in a table, for the API.
pub struct SilenceDesk {
    table: Mutex<Table>,
    told: Told,
}

impl SilenceDesk {
    /// Over the table in `data`; `told` hears of every change.
    ///
    /// # Errors
    /// The table cannot be opened.
    pub fn open(data: &Path, told: Told) -> anyhow::Result<SilenceDesk> {
        Ok(SilenceDesk { table: Mutex::new(open_table(data)?), told })
    }

    fn commit(&self, table: &mut Table, silence: &Silence) -> Result<(), AskError> {
        decision::silence(table, silence).map_err(|error| AskError::Table(error.to_string()))?;
        (self.told)(&stored_silences(table).map_err(failed)?);
        Ok(())
    }
}

impl Silencing for SilenceDesk {
    fn list(&self) -> Result<Vec<Silence>, AskError> {
        let mut table = lock(&self.table);
        table.refresh().map_err(failed)?;
        stored_silences(&table).map_err(failed)
    }

    fn make(&self, silence: Silence) -> Result<Silence, AskError> {
        let silence = Silence { id: decision::new_id(), ..silence };
        let silence = silence.checked().map_err(|error| AskError::Argument {
            field: error.field,
            problem: error.problem.to_owned(),
        })?;
        let mut table = lock(&self.table);
        table.refresh().map_err(failed)?;
        self.commit(&mut table, &silence)?;
        Ok(silence)
    }

    fn end(&self, id: &str) -> Result<Silence, AskError> {
        let mut table = lock(&self.table);
        table.refresh().map_err(failed)?;
        let known = stored_silences(&table).map_err(failed)?;
        let unknown = || AskError::Unknown { what: "silence", name: id.to_owned() };
        let ended = known.iter().find(|one| one.id == id).ok_or_else(unknown)?.ended(clock_ms());
        self.commit(&mut table, &ended)?;
        Ok(ended)
    }
}

fn failed(error: ninefold_engine::table::TableError) -> AskError {
    AskError::Table(error.to_string())
}

/// A desk for the command line.
fn desk(place: &Place) -> anyhow::Result<SilenceDesk> {
    let data = batch::table_dir(place, &batch::load(place)?)?;
    SilenceDesk::open(&data, Box::new(|_| {}))
}

/// `ninefold silence add`.
pub fn silence_add(
    place: &Place,
    matcher: Matcher,
    (author, reason): (Option<String>, String),
    (from, to): (Option<String>, String),
) -> anyhow::Result<ExitCode> {
    let user = || std::env::var("USER").unwrap_or_default();
    let author = author.unwrap_or_else(user);
    let from = from.unwrap_or_else(|| rfc3339(clock_ms()));
    let silence = Silence { id: String::new(), matcher, author, reason, from, to };
    show::json(&desk(place)?.make(silence)?)?;
    Ok(ExitCode::SUCCESS)
}

/// `ninefold silence end`.
pub fn silence_end(place: &Place, id: &str) -> anyhow::Result<ExitCode> {
    show::json(&desk(place)?.end(id)?)?;
    Ok(ExitCode::SUCCESS)
}

/// `ninefold silence list`.
pub fn silence_list(place: &Place, json: bool) -> anyhow::Result<ExitCode> {
    let silences = desk(place)?.list()?;
    if json {
        show::json(&silences)?;
        return Ok(ExitCode::SUCCESS);
    }
    let columns = ["id", "state", "from", "to", "author", "reason"].map(|name| (name, Side::Left));
    let now_ms = clock_ms();
    let row = |one: &Silence| {
        let now = rfc3339(now_ms);
        let state = match one.is_active(now_ms) {
            true => "active",
            false if one.from > now => "ahead",
            false => "over",
        };
        [&*one.id, state, &one.from, &one.to, &one.author, &one.reason].map(printable).to_vec()
    };
    let rows: Vec<Vec<String>> = silences.iter().map(row).collect();
    show::text(&aligned(&columns, &rows))?;
    Ok(ExitCode::SUCCESS)
}

/// `ninefold exclude`.
pub fn exclude(
    place: &Place,
    (from, to): (Minute, Minute),
    (customers, services): (Vec<String>, Vec<String>),
    reason: &str,
    yes: bool,
) -> anyhow::Result<ExitCode> {
    if to < from {
        return Err(Usage("--to is before --from".to_owned()).into());
    }
    let dir = batch::table_dir(place, &batch::load(place)?)?;
    let mut table = open_table(&dir)?;
    let correction = Correction {
        id: decision::new_id(),
        from: from.to_string(),
        to: to.to_string(),
        customers,
        services,
        reason: reason.to_owned(),
        at: rfc3339(clock_ms()),
        undoes: None,
    };
    let Counts { valid, bad, .. } = touched(&table, &correction)?;
    let what = format!("{valid} valid events, {bad} of them bad, of {from} to {to}");
    if !yes {
        let said = format!("{what} would be excluded in {}; say --yes to do it", dir.display());
        return Err(Usage(said).into());
    }
    let version = decision::correct(&mut table, &correction)?;
    let id = &correction.id;
    let told = format!("{what} are excluded as of version {version}, as {id}: {reason}");
    show::text(&format!("{}\n", printable(&told)))?;
    Ok(ExitCode::SUCCESS)
}

/// What the rows of a table hold, as they are read now, of what a correction names.
fn touched(table: &Table, correction: &Correction) -> anyhow::Result<Counts> {
    let exclusion = correction.exclusion().expect("its times were minutes");
    let (from, to) = (exclusion.spans[0].0, exclusion.spans[0].1);
    let mut counts = Counts::default();
    table.for_each_series(&Filter::of_minutes(from..=to), |row| {
        if exclusion.covers(row.minute, row.customer, row.service) {
            counts.add(row.measures.counts());
        }
    })?;
    Ok(counts)
}

/// `ninefold exclude --undo`: a further row, so that the table says who changed what and when.
pub fn undo_exclusion(
    place: &Place,
    id: &str,
    reason: &str,
    yes: bool,
) -> anyhow::Result<ExitCode> {
    let dir = batch::table_dir(place, &batch::load(place)?)?;
    let mut table = open_table(&dir)?;
    let all = table.stored_corrections()?;
    let known = all.iter().find(|one| one.id == id && one.undoes.is_none());
    let unknown = || Usage(format!("unknown exclusion {id:?}: `ninefold exclude --list` has them"));
    let correction = known.ok_or_else(unknown)?;
    if all.iter().any(|one| one.undoes.as_deref() == Some(id)) {
        return Err(Usage(format!("exclusion {id} was undone already")).into());
    }
    let undo = Correction {
        id: decision::new_id(),
        reason: reason.to_owned(),
        at: rfc3339(clock_ms()),
        undoes: Some(id.to_owned()),
        ..correction.clone()
    };
    let Counts { excluded, .. } = touched(&table, correction)?;
    let Correction { from, to, .. } = correction;
    let what = format!("the exclusion {id} of {from} to {to}, which holds {excluded} events,");
    if !yes {
        let said = format!("{what} would be undone in {}; say --yes to do it", dir.display());
        return Err(Usage(said).into());
    }
    let version = decision::correct(&mut table, &undo)?;
    let told = format!("{what} is undone as of version {version}: {reason}");
    show::text(&format!("{}\n", printable(&told)))?;
    Ok(ExitCode::SUCCESS)
}

/// `ninefold exclude --list`.
pub fn exclusions(place: &Place) -> anyhow::Result<ExitCode> {
    let table = open_table(&batch::table_dir(place, &batch::load(place)?)?)?;
    let all = table.stored_corrections()?;
    let columns = ["id", "made", "from", "to", "customers", "services", "state", "reason"];
    let names =
        |names: &[String]| if names.is_empty() { "all".to_owned() } else { names.join(", ") };
    let row = |one: &Correction| {
        let undone = all.iter().any(|other| other.undoes.as_ref() == Some(&one.id));
        let state = match &one.undoes {
            Some(id) => format!("undoes {id}"),
            None if undone => "undone".to_owned(),
            None => "excluded".to_owned(),
        };
        let (customers, services) = (names(&one.customers), names(&one.services));
        let Correction { id, at, from, to, reason, .. } = one.clone();
        vec![id, at, from, to, customers, services, state, reason]
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    show::text(&aligned(&columns.map(|name| (name, Side::Left)), &rows))?;
    Ok(ExitCode::SUCCESS)
}
