//! `[[pool]]`: customers who are judged together although they are of no tier, or of several.

use std::collections::BTreeSet;

use super::reader::Section;
use crate::slo::objective::Objectives;
use crate::slo::pool::{Group, POOLS_MAX, Pools};

/// Reads `[[pool]]`: these, and the tiers of `objectives`, are the pools.
pub(super) fn pools(root: &Section<'_>, objectives: &Objectives) -> Pools {
    let sections = root.sections("pool");
    let mut groups: Vec<Group> = Vec::new();
    let mut names: BTreeSet<&str> = objectives.tiers.keys().map(String::as_str).collect();
    let room = POOLS_MAX.saturating_sub(names.len());
    for section in &sections {
        let takes = "names of customers, where * is any text";
        let customers = section.names("customers", takes).unwrap_or_default();
        if customers.is_empty() {
            section.missing("customers", takes);
        }
        match section.name("name", "a name") {
            None if section.has("name") => {}
            None => section.missing("name", "a name"),
            Some(name) if !names.insert(name) => {
                let what = format!("{name:?} is taken by another pool or a tier");
                section.problem("name", what, "names are unique");
            }
            Some(_) if groups.len() == room => {
                let takes = format!("takes {POOLS_MAX} pools and tiers at most");
                section.problem("name", "is one more than there may be", takes);
            }
            Some(name) => {
                let customers = customers.into_iter().map(str::to_owned).collect();
                groups.push(Group { name: name.to_owned(), customers });
            }
        }
        section.finish();
    }
    if objectives.tiers.len() > POOLS_MAX {
        let what = format!("has {} tables", objectives.tiers.len());
        root.problem("tier", what, format!("takes {POOLS_MAX} tiers and pools at most"));
        return Pools::default();
    }
    Pools::new(&groups, objectives)
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::slo::pool::POOLS_MAX;

    #[test]
    fn a_pool_takes_its_customers_out_of_their_tier() {
        let text = "[tier.gold]\ncustomers = [\"acme\", \"eu-a\"]\n\
                    [[pool]]\nname = \"europe\"\ncustomers = [\"eu-*\"]";
        let pools = Config::parse(text, "f").unwrap().pools;
        let name = |customer: &str| pools.name(pools.of(customer)).to_owned();
        assert_eq!([name("acme"), name("eu-a"), name("other")], ["gold", "europe", ""]);
    }

    #[test]
    fn what_is_no_pool_is_refused() {
        let many: String = (0..=POOLS_MAX)
            .map(|n| format!("[[pool]]\nname = \"p{n}\"\ncustomers = [\"{n}\"]\n"))
            .collect();
        for (text, expect) in [
            ("[[pool]]\nname = \"p\"", "customers"),
            ("[[pool]]\ncustomers = [\"a\"]", "name"),
            ("[[pool]]\nname = \"\"\ncustomers = [\"a\"]", "is empty"),
            (
                "[tier.p]\n[[pool]]\nname = \"p\"\ncustomers = [\"a\"]",
                "taken by another pool or a tier",
            ),
            (&many, "one more than there may be"),
        ] {
            let problems = Config::parse(text, "f").unwrap_err().to_string();
            assert!(problems.contains(expect), "{expect}: {problems}");
        }
    }
}
