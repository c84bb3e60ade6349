//! Pools on pages: those that burn, and by which name they go.

use ninefold_engine::query::body::PoolRow;

use crate::pages::format;

/// A pool that burns in one tier.
pub(crate) struct PoolView {
    pub(crate) key: String,
    /// `page`, `ticket` or `insufficient`.
    pub(crate) class: String,
    pub(crate) tier: String,
    pub(crate) service: String,
    pub(crate) objective: String,
    pub(crate) name: String,
    pub(crate) condition: String,
}

impl PoolView {
    fn new(row: &PoolRow) -> PoolView {
        let is_firing = row.state == "firing";
        PoolView {
            key: format!(
                "{}/{}/{}/{}",
                format::escaped(&row.pool),
                row.service,
                row.objective,
                row.tier
            ),
            class: if is_firing { row.severity.clone() } else { "insufficient".to_owned() },
            tier: row.tier.clone(),
            service: format::visible(&row.service),
            objective: format::visible(&row.objective),
            name: name(&row.pool),
            condition: format!(
                "{} of {} failed over {}, {}",
                format::grouped(row.long.bad),
                format::grouped(row.long.valid),
                row.long.window,
                format::times(row.long.burn_rate),
            ),
        }
    }
}

/// Those of `rows` that burn.
pub(crate) fn burning(rows: &[PoolRow]) -> Vec<PoolView> {
    let burns = |row: &&PoolRow| matches!(row.state.as_str(), "firing" | "insufficient");
    rows.iter().filter(burns).map(PoolView::new).collect()
}

/// What people call a pool.
pub(crate) fn name(pool: &str) -> String {
    match pool {
        "" => "customers in no pool".to_owned(),
        pool => format!("pool {}", format::visible(pool)),
    }
}
