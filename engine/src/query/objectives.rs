//! The objectives in force, by scope.

use serde_json::{Value, json};

use crate::slo::objective::{Objective, Objectives};

/// `GET /v1/objectives`: each objective with the scope that sets it, outermost first.
pub fn objectives(objectives: &Objectives) -> Value {
    let mut rows = Vec::new();
    let mut push = |scope: Value, set: &[Objective]| {
        rows.extend(set.iter().map(|objective| row(&scope, objective)));
    };
    push(json!({}), &objectives.default);
    for (tier, set) in &objectives.tiers {
        push(json!({ "tier": tier }), set);
    }
    for (customer, set) in &objectives.customers {
        push(json!({ "customer": customer }), set);
    }
    for ((customer, service), set) in &objectives.services {
        push(json!({ "customer": customer, "service": service }), set);
    }
    json!({ "objectives": rows })
}

fn row(scope: &Value, objective: &Objective) -> Value {
    json!({
        "scope": scope,
        "objective": objective.name,
        "sli": objective.sli,
        "target": objective.target.to_f64(),
        "period": objective.period.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_promise_is_told() {
        let body = objectives(&Objectives::default());
        assert_eq!(body["objectives"][0]["target"], 0.998);
        assert_eq!(body["objectives"][0]["period"], "30d");
        assert_eq!(body["objectives"][0]["scope"], json!({}));
    }
}
